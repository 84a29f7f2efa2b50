import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.stream.IntStream;

/**
 * What the programs in Java share: the checks by their names, the same as in checks.mjs and asked for in the same way.
 *
 * A client fills in a few methods. Bulk strings come as byte[], maps as a Map or, of RESP2, as a flat list.
 */
abstract class Checks {
    private static final String KEY = "5fd81ca5-59bf-4a9e-9149-fce4ee65c033";
    private static final int PIPELINE = 1000;
    private static final Duration RECONNECT_MAX = Duration.ofSeconds(10);

    /** The reason of a check that the client cannot pass. */
    static final class Skipped extends RuntimeException {
        Skipped(String reason) {
            super(reason);
        }
    }

    interface Check {
        /** What it returns is a note. */
        String run() throws Exception;
    }

    final String name;

    Checks(String name) {
        this.name = name;
    }

    abstract void connect() throws Exception;

    abstract Object call(Object... words) throws Exception;

    /** On a connection that may wait so long. */
    abstract Object callBlocking(Object... words) throws Exception;

    abstract List<Object> pipeline(List<Object[]> commands) throws Exception;

    /** The client's MULTI … EXEC. */
    abstract void multi(List<Object[]> commands) throws Exception;

    /** Takes pushes, or throws Skipped. Asked on a link that speaks RESP3 only. */
    abstract void push() throws Exception;

    abstract void close() throws Exception;

    /** The longest BLOCK that the client waits for with its default settings. */
    abstract int blockMsMax();

    final void answer() throws Exception {
        Map<String, Check> checks = checks();
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String check; (check = in.readLine()) != null;) {
            String verdict = "ok";
            String text;
            try {
                text = Objects.requireNonNull(checks.get(check), "there is no such check").run();
            } catch (Skipped reason) {
                verdict = "skipped";
                text = reason.getMessage();
            } catch (Exception | AssertionError error) {
                verdict = "failed";
                StringWriter trace = new StringWriter();
                error.printStackTrace(new PrintWriter(trace));
                text = trace.toString();
            }
            out.println(check + "\t" + verdict + "\t" + text.replace('\n', '\u2028'));
        }
        close();
    }

    private Map<String, Check> checks() {
        Map<String, Check> checks = new HashMap<>();
        checks.put("connect", () -> {
            connect();
            equal(text(call("PING")), "PONG");
            equal(text(call("ECHO", "héllo")), "héllo");
            return "";
        });
        checks.put("append", () -> {
            Map<String, Object> answer = entries(call("EAPPEND", name, "Created", "{\"a\": 1}", "EXPECTED_VERSION", "empty"));
            equal(answer.get("stream_version"), 0L);
            equal(call("ESVER", name), 0L);
            equal(call("ESVER", name + "-nothing"), null);
            return "";
        });
        checks.put("WRONGVER", () -> {
            String message = refused(() -> call("EAPPEND", name, "Created", "EXPECTED_VERSION", "empty"));
            check(message.startsWith("WRONGVER ") && message.contains("current version 0"), message);
            return "";
        });
        checks.put("scan", () -> {
            call("EAPPEND", name, "Changed", "EXPECTED_VERSION", "0", "METADATA", "m");
            Map<String, Object> reply = entries(call("ESCAN", name, "-", "+"));
            check(!truth(reply.get("has_more")), "has_more");
            List<Map<String, Object>> events = events(reply);
            equal(events.size(), 2);
            equal(text(events.get(0).get("event_name")), "Created");
            equal(text(events.get(0).get("payload")), "{\"a\": 1}");
            equal(events.get(1).get("stream_version"), 1L);
            equal(text(events.get(1).get("metadata")), "m");
            Map<String, Object> newest = entries(call("ESCAN", name, "+", "-", "COUNT", "1"));
            check(truth(newest.get("has_more")), "no has_more");
            equal(text(events(newest).get(0).get("event_name")), "Changed");
            return "";
        });
        checks.put("EMAPPEND", () -> {
            String a = name + "-a";
            String b = name + "-b";
            Map<String, Object> answer = entries(
                call("EMAPPEND", KEY, a, "A1", "PAYLOAD", "1", b, "B1", a, "A2", "EXPECTED_VERSION", "0"));
            equal((Long) answer.get("last_partition_sequence") - (Long) answer.get("first_partition_sequence"), 2L);
            equal(text(events(answer).get(1).get("stream_id")), b);
            equal(events(answer).get(2).get("stream_version"), 1L);
            equal(call("ESVER", a, "PARTITION_KEY", KEY), 1L);
            return "";
        });
        checks.put("1 MiB binary", () -> {
            byte[] payload = new byte[1024 * 1024];
            new Random().nextBytes(payload);
            Object id = entries(call("EAPPEND", name + "-binary", "Blob", "PAYLOAD", payload)).get("event_id");
            Map<String, Object> event = entries(call("EGET", text(id)));
            check(Arrays.equals((byte[]) event.get("payload"), payload), "the payload does not come back as it was");
            return "";
        });
        checks.put("pipeline of 1,000", () -> {
            String stream = name + "-pipeline";
            List<Object> answers = pipeline(IntStream.range(0, PIPELINE)
                .mapToObj(i -> new Object[] {"EAPPEND", stream, "E" + i, "PAYLOAD", "" + i}).toList());
            for (int i = 0; i < PIPELINE; i++) equal(entries(answers.get(i)).get("stream_version"), (long) i);
            equal(call("ESVER", stream), PIPELINE - 1L);
            return "";
        });
        checks.put("MULTI refused", () -> {
            Object[] append = {"EAPPEND", name + "-multi", "E"};
            refused(() -> {
                multi(List.of(append, append));
                return null;
            });
            equal(call("ESVER", name + "-multi"), null);
            equal(text(call("PING")), "PONG");
            return "";
        });
        checks.put("EREAD woken", () -> {
            List<Map<String, Object>> events = events(entries(
                callBlocking("EREAD", "BLOCK", "" + blockMsMax(), "STREAMS", name + "-woken", "0")));
            equal(events.size(), 1);
            equal(text(events.get(0).get("event_name")), "Woken");
            return "";
        });
        checks.put("EREAD null", () -> {
            equal(callBlocking("EREAD", "BLOCK", "50", "STREAMS", name + "-woken", "1"), null);
            return "";
        });
        checks.put("push", () -> {
            if (text(call("CLIENT", "INFO")).contains(" resp=2 ")) {
                String message = refused(() -> call("ESUB", name, "FROM", "0"));
                check(message.startsWith("NOPROTO "), message);
                throw new Skipped("RESP2 has no pushes: ESUB answers NOPROTO");
            }
            push();
            return "";
        });
        checks.put("after a stop", () -> again(2));
        checks.put("after kill -9", () -> again(3));
        return checks;
    }

    /** The client finds its way back by itself: it reads the events that were there, and appends one. */
    private String again(int count) throws Exception {
        Instant deadline = Instant.now().plus(RECONNECT_MAX);
        Object reply;
        for (int failures = 0;; failures++) {
            try {
                reply = call("ESCAN", name, "-", "+");
                equal(events(entries(reply)).size(), count);
                call("EAPPEND", name, "Again", "EXPECTED_VERSION", "" + (count - 1));
                return failures == 0 ? "" : "after " + failures + " commands that failed";
            } catch (RuntimeException error) {
                if (Instant.now().isAfter(deadline)) throw error;
            }
        }
    }

    interface Call {
        Object run() throws Exception;
    }

    /** The message of the error that the client gives. */
    static String refused(Call call) throws Exception {
        try {
            call.run();
        } catch (RuntimeException error) {
            return error.getMessage();
        }
        throw new AssertionError("it was accepted");
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static void equal(Object found, Object wanted) {
        check(Objects.equals(found, wanted), "wanted " + wanted + ", found " + found);
    }

    static boolean truth(Object value) {
        return Boolean.TRUE.equals(value) || Objects.equals(value, 1L);
    }

    static String text(Object value) {
        return value instanceof byte[] bytes ? new String(bytes, StandardCharsets.UTF_8) : (String) value;
    }

    static Map<String, Object> entries(Object reply) {
        Map<String, Object> entries = new HashMap<>();
        if (reply instanceof Map<?, ?> map) {
            map.forEach((key, value) -> entries.put(text(key), value));
        } else {
            List<?> flat = (List<?>) reply;
            for (int i = 0; i < flat.size(); i += 2) entries.put(text(flat.get(i)), flat.get(i + 1));
        }
        return entries;
    }

    static List<Map<String, Object>> events(Map<String, Object> reply) {
        return ((List<?>) reply.get("events")).stream().map(Checks::entries).toList();
    }
}
