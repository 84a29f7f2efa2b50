"""redis-py with its default settings: `python redis_py.py FOLDER NAME PORT`; the package is in FOLDER.

The same checks as in checks.mjs, asked for in the same way.
"""

import os
import sys
import time
import traceback

folder, name, port = sys.argv[1:4]
sys.path.insert(0, folder)
import redis  # noqa: E402

KEY = "5fd81ca5-59bf-4a9e-9149-fce4ee65c033"
PIPELINE = 1000
RECONNECT_SECONDS_MAX = 10
PUSH_SECONDS_MAX = 10

client = redis.Redis(port=int(port))


def entries(reply):
    """A RESP map, as a dict (RESP3) or a flat list (RESP2), with text keys."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2])
    return {key.decode() if isinstance(key, bytes) else key: value for key, value in pairs}


def connect():
    assert client.ping() is True
    assert client.echo("héllo") == "héllo".encode()


def append():
    answer = entries(client.execute_command("EAPPEND", name, "Created", '{"a": 1}', "EXPECTED_VERSION", "empty"))
    assert answer["stream_version"] == 0, answer
    assert client.execute_command("ESVER", name) == 0
    assert client.execute_command("ESVER", name + "-nothing") is None


def wrong_version():
    try:
        client.execute_command("EAPPEND", name, "Created", "EXPECTED_VERSION", "empty")
    except redis.ResponseError as error:
        assert str(error).startswith("WRONGVER ") and "current version 0" in str(error), error
        return
    raise AssertionError("it was accepted")


def scan():
    client.execute_command("EAPPEND", name, "Changed", "EXPECTED_VERSION", 0, "METADATA", "m")
    reply = entries(client.execute_command("ESCAN", name, "-", "+"))
    assert reply["has_more"] in (False, 0), reply
    events = [entries(event) for event in reply["events"]]
    found = [(event["stream_version"], event["event_name"], event["payload"]) for event in events]
    assert found == [(0, b"Created", b'{"a": 1}'), (1, b"Changed", b"")], found
    newest = entries(client.execute_command("ESCAN", name, "+", "-", "COUNT", 1))
    assert newest["has_more"] in (True, 1), newest
    assert entries(newest["events"][0])["event_name"] == b"Changed", newest


def emappend():
    a, b = name + "-a", name + "-b"
    words = [a, "A1", "PAYLOAD", "1", b, "B1", a, "A2", "EXPECTED_VERSION", "0"]
    answer = entries(client.execute_command("EMAPPEND", KEY, *words))
    assert answer["last_partition_sequence"] - answer["first_partition_sequence"] == 2, answer
    events = [entries(event) for event in answer["events"]]
    found = [(event["stream_id"], event["stream_version"]) for event in events]
    assert found == [(a.encode(), 0), (b.encode(), 0), (a.encode(), 1)], found


def binary():
    payload, metadata = os.urandom(1024 * 1024), bytes(range(256))
    words = [name + "-binary", "Blob", "PAYLOAD", payload, "METADATA", metadata]
    answer = entries(client.execute_command("EAPPEND", *words))
    event = entries(client.execute_command("EGET", answer["event_id"]))
    assert event["payload"] == payload, "the payload comes back as it was"
    assert event["metadata"] == metadata, "the metadata comes back as it was"


def pipeline():
    with client.pipeline(transaction=False) as pipe:
        for i in range(PIPELINE):
            pipe.execute_command("EAPPEND", name + "-pipeline", "E%d" % i, "PAYLOAD", str(i))
        answers = pipe.execute()
    found = [entries(answer)["stream_version"] for answer in answers]
    assert found == list(range(PIPELINE)), found


def multi():
    try:
        with client.pipeline() as pipe:
            pipe.execute_command("EAPPEND", name + "-multi", "E")
            pipe.execute_command("EAPPEND", name + "-multi", "E")
            pipe.execute()
    except redis.RedisError as error:
        assert "transaction=False" in str(error), error
    else:
        raise AssertionError("it was accepted")
    assert client.execute_command("ESVER", name + "-multi") is None, "nothing was stored"
    assert client.ping() is True


def eread_woken():
    """The client gives a reply 5 seconds unless told: BLOCK has to be shorter."""
    reply = entries(client.execute_command("EREAD", "BLOCK", 4000, "STREAMS", name + "-woken", 0))
    assert [entries(event)["event_name"] for event in reply["events"]] == [b"Woken"], reply


def eread_null():
    assert client.execute_command("EREAD", "BLOCK", 50, "STREAMS", name + "-woken", 1) is None


def push():
    """What a PubSub of the client reads is a list if it was pushed; a reply comes as it always does."""
    stream = name + "-live"
    client.execute_command("EAPPEND", stream, "First")
    client.execute_command("EAPPEND", stream, "Second")
    with client.pubsub() as link:

        def read():
            return link.parse_response(block=False, timeout=PUSH_SECONDS_MAX)

        def expect_message(cursor, event):
            kind, found, at, record = read()
            assert (kind, found, at, record[b"event_name"]) == (b"message", subscription, cursor, event), record

        link.execute_command("ESUB", stream, "FROM", 0, "WINDOW", 2)
        subscription = read()
        assert read() == [b"subscribe", subscription, 1]
        expect_message(0, b"First")
        expect_message(1, b"Second")
        client.execute_command("EAPPEND", stream, "Live")
        link.execute_command("PING")
        assert read() == b"PONG", "the window holds it back"
        link.execute_command("EACK", subscription, 1)
        assert read() == b"OK"
        expect_message(2, b"Live")
        link.execute_command("EUNSUB", subscription)
        assert read() == b"OK"
        client.execute_command("EAPPEND", stream, "Late")
        link.execute_command("PING")
        assert read() == b"PONG", "nothing comes any more"


def again(count):
    """The client finds its way back by itself: it reads the `count` events that were there, and appends one."""
    deadline = time.monotonic() + RECONNECT_SECONDS_MAX
    failures = 0
    while True:
        try:
            reply = entries(client.execute_command("ESCAN", name, "-", "+"))
            break
        except redis.ConnectionError:
            failures += 1
            if time.monotonic() > deadline:
                raise
    assert len(reply["events"]) == count, reply
    client.execute_command("EAPPEND", name, "Again", "EXPECTED_VERSION", count - 1)
    return "after %d commands that failed" % failures if failures else ""


CHECKS = {
    "connect": connect,
    "append": append,
    "WRONGVER": wrong_version,
    "scan": scan,
    "EMAPPEND": emappend,
    "1 MiB binary": binary,
    "pipeline of 1,000": pipeline,
    "MULTI refused": multi,
    "EREAD woken": eread_woken,
    "EREAD null": eread_null,
    "push": push,
    "after a stop": lambda: again(2),
    "after kill -9": lambda: again(3),
}


def answer(check):
    if check not in CHECKS:
        return "failed", "there is no such check"
    try:
        return "ok", CHECKS[check]() or ""
    except Exception:
        return "failed", traceback.format_exc()


for line in sys.stdin:
    check = line.rstrip("\n")
    verdict, text = answer(check)
    print(check, verdict, text.replace("\n", "\u2028"), sep="\t", flush=True)
