import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import redis.clients.jedis.AbstractTransaction;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.Pipeline;
import redis.clients.jedis.RedisClient;
import redis.clients.jedis.Response;
import redis.clients.jedis.commands.ProtocolCommand;
import redis.clients.jedis.util.KeyValue;

/** Jedis, with its default settings or with RESP3: {@code JedisProgram default|3 NAME PORT}. */
final class JedisProgram extends Checks {
    private final boolean resp3;
    private final int port;
    private RedisClient client;

    private JedisProgram(boolean resp3, String name, int port) {
        super(name);
        this.resp3 = resp3;
        this.port = port;
    }

    public static void main(String[] args) throws Exception {
        new JedisProgram(args[0].equals("3"), args[1], Integer.parseInt(args[2])).answer();
    }

    @Override
    void connect() {
        DefaultJedisClientConfig.Builder config = DefaultJedisClientConfig.builder();
        if (resp3) config.resp3();
        client = RedisClient.builder().hostAndPort("127.0.0.1", port).clientConfig(config.build()).build();
    }

    @Override
    Object call(Object... words) {
        return plain(client.sendCommand(command(words), arguments(words)));
    }

    @Override
    Object callBlocking(Object... words) {
        return call(words);
    }

    @Override
    List<Object> pipeline(List<Object[]> commands) {
        try (Pipeline pipeline = client.pipelined()) {
            List<Response<Object>> answers = new ArrayList<>();
            for (Object[] words : commands) answers.add(pipeline.sendCommand(command(words), arguments(words)));
            pipeline.sync();
            return answers.stream().map(answer -> plain(answer.get())).toList();
        }
    }

    @Override
    void multi(List<Object[]> commands) {
        try (AbstractTransaction transaction = client.multi()) {
            for (Object[] words : commands) transaction.sendCommand(command(words), arguments(words));
            transaction.exec();
        }
    }

    @Override
    void push() {
        throw new Skipped("Jedis 7 takes pushes for replies");
    }

    @Override
    void close() {
        client.close();
    }

    /** A reply has two seconds. */
    @Override
    int blockMsMax() {
        return 1500;
    }

    private static ProtocolCommand command(Object[] words) {
        return () -> bytes(words[0]);
    }

    private static byte[][] arguments(Object[] words) {
        byte[][] arguments = new byte[words.length - 1][];
        for (int i = 0; i < arguments.length; i++) arguments[i] = bytes(words[i + 1]);
        return arguments;
    }

    private static byte[] bytes(Object word) {
        return word instanceof byte[] bytes ? bytes : ((String) word).getBytes(StandardCharsets.UTF_8);
    }

    /** Jedis gives a RESP3 map as a list of pairs. */
    private static Object plain(Object reply) {
        if (!(reply instanceof List<?> list)) return reply;
        if (list.isEmpty() || !(list.get(0) instanceof KeyValue)) return list.stream().map(JedisProgram::plain).toList();
        Map<String, Object> map = new HashMap<>();
        for (Object item : list) {
            KeyValue<?, ?> pair = (KeyValue<?, ?>) item;
            map.put(text(pair.getKey()), plain(pair.getValue()));
        }
        return map;
    }
}
