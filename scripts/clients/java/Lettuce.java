import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisCommandExecutionException;
import io.lettuce.core.RedisFuture;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.api.push.PushMessage;
import io.lettuce.core.codec.ByteArrayCodec;
import io.lettuce.core.output.CommandOutput;
import io.lettuce.core.output.IntegerOutput;
import io.lettuce.core.output.ObjectOutput;
import io.lettuce.core.output.StatusOutput;
import io.lettuce.core.output.ValueOutput;
import io.lettuce.core.protocol.CommandArgs;
import io.lettuce.core.protocol.ProtocolKeyword;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Lettuce, with its default settings, which are RESP3: {@code Lettuce default NAME PORT}. */
final class Lettuce extends Checks {
    private static final int PUSH_SECONDS_MAX = 10;

    private final RedisClient client;
    private StatefulRedisConnection<byte[], byte[]> connection;
    /** For what would keep others waiting, and for pushes. */
    private StatefulRedisConnection<byte[], byte[]> second;

    private Lettuce(String name, int port) {
        super(name);
        client = RedisClient.create("redis://127.0.0.1:" + port);
    }

    public static void main(String[] args) throws Exception {
        new Lettuce(args[1], Integer.parseInt(args[2])).answer();
    }

    @Override
    void connect() {
        connection = client.connect(ByteArrayCodec.INSTANCE);
        second = client.connect(ByteArrayCodec.INSTANCE);
    }

    @Override
    Object call(Object... words) {
        return connection.sync().dispatch(command(words), output(words), arguments(words));
    }

    @Override
    Object callBlocking(Object... words) {
        return second.sync().dispatch(command(words), output(words), arguments(words));
    }

    @Override
    List<Object> pipeline(List<Object[]> commands) throws Exception {
        List<RedisFuture<Object>> futures = new ArrayList<>();
        for (Object[] words : commands) {
            futures.add(connection.async().dispatch(command(words), output(words), arguments(words)));
        }
        List<Object> answers = new ArrayList<>();
        for (RedisFuture<Object> future : futures) answers.add(future.get());
        return answers;
    }

    @Override
    void multi(List<Object[]> commands) {
        try {
            connection.sync().multi();
            for (Object[] words : commands) call(words);
            connection.sync().exec();
        } catch (RedisCommandExecutionException refused) {
            // It leaves the link as the refusal left it.
            connection.sync().discard();
            throw refused;
        }
    }

    @Override
    void push() throws Exception {
        String stream = name + "-live";
        LinkedBlockingQueue<PushMessage> pushes = new LinkedBlockingQueue<>();
        second.addListener(pushes::add);
        call("EAPPEND", stream, "First");
        call("EAPPEND", stream, "Second");
        String id = text(callBlocking("ESUB", stream, "FROM", "0", "WINDOW", "2"));
        PushMessage confirmed = pushes.poll(PUSH_SECONDS_MAX, TimeUnit.SECONDS);
        equal(confirmed.getType(), "subscribe");
        message(pushes, id, 0, "First");
        message(pushes, id, 1, "Second");
        call("EAPPEND", stream, "Live");
        callBlocking("PING");
        check(pushes.isEmpty(), "the window holds it back");
        equal(text(callBlocking("EACK", id, "1")), "OK");
        message(pushes, id, 2, "Live");
        equal(text(callBlocking("EUNSUB", id)), "OK");
        call("EAPPEND", stream, "Late");
        callBlocking("PING");
        check(pushes.isEmpty(), "nothing comes any more");
    }

    private static void message(LinkedBlockingQueue<PushMessage> pushes, String id, long cursor, String event)
        throws Exception {
        PushMessage push = pushes.poll(PUSH_SECONDS_MAX, TimeUnit.SECONDS);
        check(push != null, "no push for " + event);
        equal(push.getType(), "message");
        List<Object> content = push.getContent(Lettuce::bytes);
        equal(text(content.get(1)), id);
        equal(content.get(2), cursor);
        equal(text(entries(content.get(3)).get("event_name")), event);
    }

    private static byte[] bytes(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    @Override
    void close() {
        client.shutdown();
    }

    @Override
    int blockMsMax() {
        return 10_000;
    }

    private static ProtocolKeyword command(Object[] words) {
        byte[] bytes = ((String) words[0]).getBytes(StandardCharsets.UTF_8);
        return new ProtocolKeyword() {
            @Override
            public byte[] getBytes() {
                return bytes;
            }

            @Override
            public String toString() {
                return (String) words[0];
            }
        };
    }

    /** Lettuce wants to be told what a reply will be. */
    @SuppressWarnings("unchecked")
    private static CommandOutput<byte[], byte[], Object> output(Object[] words) {
        CommandOutput<byte[], byte[], ?> output = switch ((String) words[0]) {
            case "PING", "ESUB", "EACK", "EUNSUB" -> new StatusOutput<>(ByteArrayCodec.INSTANCE);
            case "ECHO", "CLIENT" -> new ValueOutput<>(ByteArrayCodec.INSTANCE);
            case "ESVER" -> new IntegerOutput<>(ByteArrayCodec.INSTANCE);
            default -> new MapOutput();
        };
        return (CommandOutput<byte[], byte[], Object>) output;
    }

    /** A map with anything in it, or null, which an ObjectOutput can hold everywhere but in the place of the whole. */
    private static final class MapOutput extends ObjectOutput<byte[], byte[]> {
        private boolean begun;

        MapOutput() {
            super(ByteArrayCodec.INSTANCE);
        }

        @Override
        public void multiMap(int count) {
            begun = true;
            super.multiMap(count);
        }

        @Override
        public void set(ByteBuffer bytes) {
            if (begun) super.set(bytes);
        }

        @Override
        public Object get() {
            return begun ? super.get() : null;
        }
    }

    private static CommandArgs<byte[], byte[]> arguments(Object[] words) {
        CommandArgs<byte[], byte[]> arguments = new CommandArgs<>(ByteArrayCodec.INSTANCE);
        for (int i = 1; i < words.length; i++) {
            if (words[i] instanceof byte[] bytes) arguments.add(bytes);
            else arguments.add((String) words[i]);
        }
        return arguments;
    }
}
