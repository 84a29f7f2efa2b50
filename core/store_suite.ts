/**
 * The suite that every EventStore must pass: what the port promises, one promise a test.
 *
 *     storeSuite("memory store", () => Promise.resolve({ store: new MemoryStore() }));
 *
 * It knows the port and nothing of who stands behind it. Each test has a store of its own, empty, with 32 partitions.
 *
 * @module
 */
import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { Chance } from "./chance.ts";
import {
  DuplicateEventId,
  InvalidArgument,
  LimitExceeded,
  NoSuchPartition,
  StoreClosed,
  TryAgain,
  WrongExpectedVersion,
} from "./errors.ts";
import { type EventRecord, type NewEvent, TIMESTAMP_MS_MAX, TRANSACTION_BYTES_MAX } from "./event.ts";
import { partitionHash } from "./placement.ts";
import type { EventStore, Freshness, ReadOptions, Scan, Selection, Start, Subscription } from "./store.ts";
import { formatUuid, newEventId, parseUuid } from "./uuid.ts";
import type { ExpectedVersion } from "./version.ts";

/** A store to be tested. */
export interface StoreUnderTest {
  store: EventStore;
  /** Opens again what `store` left behind; it is closed already. Left out by a store that leaves nothing behind. */
  reopen?: () => Promise<EventStore>;
  /** The clock of the store. The system's when left out. */
  now?: () => number;
  /** Tidies up. Called last, when all stores are closed. */
  end?: () => void | Promise<void>;
}

/** Two partition keys of different partitions. */
const KEY = "550e8400-e29b-41d4-a716-446655440000";
const OTHER_KEY = "11111111-1111-4111-8111-111111111111";

export function storeSuite(name: string, open: () => Promise<StoreUnderTest>): void {
  function test(promise: string, check: (store: EventStore, opened: StoreUnderTest) => Promise<void>): void {
    Deno.test(`${name}: ${promise}`, async () => {
      const opened = await open();
      try {
        await check(opened.store, opened);
      } finally {
        await opened.store.close();
        await opened.end?.();
      }
    });
  }

  // Append.

  test("append() answers with the numbers that readers will see", async (store) => {
    const first = await store.append({ events: [{ streamId: "user-1", name: "Created", timestamp: 1000 }] });
    assert.equal(first.partitionKey, "e7a265f9-46bb-55fc-945c-3571e2aaa17e");
    assert.equal(first.partition, 16);
    assert.equal(first.firstSequence, 0);
    assert.equal(first.lastSequence, 0);
    const { eventId } = first.events[0]!;
    assert.deepEqual(first.events, [{ eventId, streamId: "user-1", version: 0, sequence: 0, timestamp: 1000 }]);
    const second = await store.append({ events: [{ streamId: "user-1", name: "Renamed" }] });
    assert.equal(second.events[0]!.version, 1);
    assert.equal(second.events[0]!.sequence, 1);
  });

  test("an event is read as it was written", async (store) => {
    const { events: [appended] } = await store.append({
      events: [{ streamId: "user-1", name: "Created", timestamp: 5, payload: '{"a":1}', metadata: "é" }],
    });
    const { eventId } = appended!;
    const record = await store.event(eventId);
    assert.deepEqual(plain(record!), {
      eventId,
      partitionKey: "e7a265f9-46bb-55fc-945c-3571e2aaa17e",
      partition: 16,
      transactionId: record!.transactionId,
      sequence: 0,
      streamId: "user-1",
      version: 0,
      name: "Created",
      timestamp: 5,
      metadata: bytesOf("é"),
      payload: bytesOf('{"a":1}'),
    });
    assert.deepEqual(await read(store.readStream("user-1")), [plain(record!)]);
    assert.deepEqual(await read(store.readPartition(16)), [plain(record!)]);
  });

  test("what was left out is empty, and the time is now", async (store, { now = Date.now }) => {
    const before = now();
    const { events } = await store.append({ events: [{ streamId: "s", name: "" }] });
    const record = (await store.event(events[0]!.eventId))!;
    assert.equal(record.name, "");
    assert.equal(record.payload.length, 0);
    assert.equal(record.metadata.length, 0);
    assert.ok(record.timestamp >= before && record.timestamp <= now(), `${before} ${record.timestamp} ${now()}`);
    assert.equal(record.timestamp, events[0]!.timestamp);
  });

  test("timestamps are kept as given, in any order", async (store) => {
    for (const timestamp of [7, 0, TIMESTAMP_MS_MAX, 3]) {
      await store.append({ events: [{ streamId: "s", name: "e", timestamp }] });
    }
    assert.deepEqual((await read(store.readStream("s"))).map((event) => event.timestamp), [7, 0, TIMESTAMP_MS_MAX, 3]);
  });

  test("every byte comes back as it was, also in names", async (store) => {
    const payload = Uint8Array.from({ length: 512 }, (_, i) => i);
    const streamId = "\ufeff€ \r\n=FROM";
    const name = "\ufeffÜ\0\n";
    const first = await store.append({ events: [{ streamId, name, payload, metadata: payload.toReversed() }] });
    const repeated = [{ eventId: first.events[0]!.eventId, streamId, name, payload, metadata: payload.toReversed() }];
    assert.deepEqual(await store.append({ events: repeated }), first);
    const [record] = await read(store.readStream(streamId));
    assert.equal(record!.streamId, streamId);
    assert.equal(record!.name, name);
    assert.deepEqual(record!.payload, payload);
    assert.deepEqual(record!.metadata, payload.toReversed());
  });

  test("a payload of 1 MiB comes back as it was", async (store) => {
    const payload = new Chance(1).bytes(1024 * 1024);
    const { events } = await store.append({ events: [{ streamId: "s", name: "e", payload }] });
    assert.ok(equal((await store.event(events[0]!.eventId))!.payload, payload));
    assert.ok(equal((await read(store.readStream("s")))[0]!.payload, payload));
  });

  test("the writer may use its buffer again when append() has resolved", async (store) => {
    const payload = bytesOf("before");
    const { events } = await store.append({ events: [{ streamId: "s", name: "e", payload }] });
    payload.fill(0);
    assert.deepEqual((await store.event(events[0]!.eventId))!.payload, bytesOf("before"));
  });

  test("made ids carry the hash of the partition key and differ", async (store) => {
    const ids = new Set<string>();
    for (let i = 0; i < 50; i++) {
      const { events } = await store.append({ partitionKey: KEY, events: [event("a"), event("b")] });
      for (const { eventId } of events) {
        ids.add(eventId);
        assert.equal(partitionHash(parseUuid(eventId)!), 40025);
      }
    }
    assert.equal(ids.size, 100);
  });

  test("a given event id is kept, whatever its version", async (store) => {
    const nil = "00000000-0000-0000-0000-000000000000";
    const { events } = await store.append({ partitionKey: nil, events: [{ ...event("s"), eventId: nil }] });
    assert.equal(events[0]!.eventId, nil);
    assert.equal((await store.event(nil))!.streamId, "s");
  });

  test("UUIDs are taken in every form and answered in one", async (store) => {
    const id = eventId(KEY, 1);
    const { partitionKey, partition } = await store.append({
      partitionKey: " urn:uuid:550E8400-E29B-41D4-A716-446655440000 ",
      events: [{ ...event("s"), eventId: `{${id.toUpperCase()}}` }],
    });
    assert.equal(partitionKey, KEY);
    assert.equal(partition, 25);
    assert.equal((await store.event(id.replaceAll("-", "")))!.eventId, id);
    assert.equal(await store.streamVersion("s", { partitionKey: "550e8400e29b41d4a716446655440000" }), 0);
  });

  test("UUIDs are taken as 16 bytes", async (store) => {
    const id = eventId(KEY, 1);
    const bytes = parseUuid(id)!;
    const append = () =>
      store.append({ partitionKey: parseUuid(KEY)!, events: [{ ...event("s"), eventId: parseUuid(id)! }] });
    const first = await append();
    assert.deepEqual([first.partitionKey, first.events[0]!.eventId], [KEY, id]);
    assert.equal((await store.event(bytes))!.eventId, id);
    assert.deepEqual(await append(), first);
  });

  test("a transaction id tells whether its transaction has more than one event", async (store) => {
    const alone = await store.append({ partitionKey: KEY, events: [event("s")] });
    const both = await store.append({ partitionKey: KEY, events: [event("s"), event("t")] });
    const [first, second, third] = await read(store.readPartition(25));
    assert.equal(parseUuid(first!.transactionId)![8]! >> 7, 1);
    assert.equal(parseUuid(second!.transactionId)![8]! >> 7, 0);
    assert.equal(second!.transactionId, third!.transactionId);
    assert.notEqual(first!.transactionId, second!.transactionId);
    assert.equal(alone.lastSequence + 1, both.firstSequence);
  });

  test("partitions follow from keys alone", async (store) => {
    assert.equal(store.partitionCount, 32);
    const partitions: [string, number][] = [
      ["user-1", 16],
      ["scan-a", 9],
      ["my-stream", 6],
      ["test-stream", 17],
      ["€é", 0],
    ];
    for (const [streamId, partition] of partitions) {
      const result = await store.append({ events: [event(streamId)] });
      assert.equal(result.partition, partition);
      assert.equal(store.partitionOfKey(result.partitionKey), partition);
    }
    assert.equal(store.partitionOfKey("ffffffff-ffff-ffff-ffff-ffffffffffff"), 31);
    assert.throws(() => store.partitionOfKey("nonsense"), InvalidArgument);
  });

  test("one name under two partition keys is two streams", async (store) => {
    // The third key has another key's partition, so they share all but their key.
    const sameBucket = formatUuid(parseUuid(KEY)!.with(0, 0));
    for (const [key, count] of [[KEY, 1], [OTHER_KEY, 2], [sameBucket, 3]] as const) {
      for (let i = 0; i < count; i++) await store.append({ partitionKey: key, events: [event("s")] });
    }
    await store.append({ events: [event("s")] });
    assert.equal(await store.streamVersion("s", { partitionKey: KEY }), 0);
    assert.equal(await store.streamVersion("s", { partitionKey: OTHER_KEY }), 1);
    assert.equal(await store.streamVersion("s", { partitionKey: sameBucket }), 2);
    assert.equal(await store.streamVersion("s"), 0);
    const events = await read(store.readStream("s", { partitionKey: sameBucket }));
    assert.deepEqual(events.map((event) => event.version), [0, 1, 2]);
    assert.ok(events.every((event) => event.partitionKey === sameBucket));
    assert.equal(await store.partitionSequence(25), 3);
  });

  test("a stream's default key may be given too", async (store) => {
    const { partitionKey } = await store.append({ events: [event("s")] });
    assert.equal((await store.append({ partitionKey, events: [event("s")] })).events[0]!.version, 1);
    assert.equal((await read(store.readStream("s", { partitionKey }))).length, 2);
  });

  // Expected versions.

  const truthTable: [expected: ExpectedVersion, onNothing: boolean, onOne: boolean, onThree: boolean][] = [
    ["any", true, true, true],
    ["exists", false, true, true],
    ["empty", true, false, false],
    [0, false, true, false],
    [1, false, false, false],
    [2, false, false, true],
    [3, false, false, false],
  ];
  for (const [expected, ...outcomes] of truthTable) {
    test(`expected version ${expected} agrees with the truth table`, async (store) => {
      for (const [i, count] of [0, 1, 3].entries()) {
        const streamId = `stream-${count}`;
        for (let j = 0; j < count; j++) await store.append({ events: [event(streamId)] });
        const appended = store.append({ events: [{ ...event(streamId), expectedVersion: expected }] });
        if (outcomes[i]) {
          assert.equal((await appended).events[0]!.version, count);
        } else {
          const error = await rejected(appended, WrongExpectedVersion);
          assert.equal(error.streamId, streamId);
          assert.equal(error.expected, expected);
          assert.equal(error.current, count === 0 ? null : count - 1);
        }
      }
    });
  }

  test("a refused append leaves no trace", async (store) => {
    await store.append({ partitionKey: KEY, events: [event("s")] });
    const id = eventId(KEY, 1);
    const events = [{ ...event("t"), eventId: id }, { ...event("s"), expectedVersion: 7 }];
    const error = await rejected(store.append({ partitionKey: KEY, events }), WrongExpectedVersion);
    assert.equal(error.streamId, "s");
    assert.equal(error.partitionKey, KEY);
    assert.equal(error.expected, 7);
    assert.equal(error.current, 0);
    assert.equal(await store.event(id), null);
    assert.equal(await store.streamVersion("t", { partitionKey: KEY }), null);
    assert.equal(await store.partitionSequence(25), 0);
    assert.deepEqual(await read(store.readStream("t", { partitionKey: KEY })), []);
    // Nor does it use up a number, nor the id.
    const next = await store.append({ partitionKey: KEY, events: [{ ...event("t"), eventId: id }] });
    assert.equal(next.firstSequence, 1);
    assert.equal(next.events[0]!.version, 0);
  });

  test("a transaction appends to several streams of one partition key, in its order", async (store) => {
    const result = await store.append({
      partitionKey: KEY,
      events: [event("a", "A1"), event("b", "B1"), event("a", "A2")],
    });
    assert.equal(result.firstSequence, 0);
    assert.equal(result.lastSequence, 2);
    const numbers = result.events.map(({ streamId, version, sequence }) => [streamId, version, sequence]);
    assert.deepEqual(numbers, [["a", 0, 0], ["b", 0, 1], ["a", 1, 2]]);
    assert.deepEqual((await read(store.readPartition(25))).map(({ name }) => name), ["A1", "B1", "A2"]);
    const ofA = await read(store.readStream("a", { partitionKey: KEY }));
    assert.deepEqual(ofA.map(({ name }) => name), ["A1", "A2"]);
  });

  test("expected versions in a transaction count its earlier events", async (store) => {
    const expecting = (...versions: ExpectedVersion[]) =>
      versions.map((expectedVersion) => ({ ...event("s"), expectedVersion }));
    await store.append({ partitionKey: KEY, events: expecting("empty", 0, "exists", 2, "any") });
    assert.equal(await store.streamVersion("s", { partitionKey: KEY }), 4);
    for (
      const [versions, current] of [
        [[4, 4], 5],
        [["any", "empty"], 5],
        [[4, 5, 7], 6],
      ] as [ExpectedVersion[], number][]
    ) {
      const refused = store.append({ partitionKey: KEY, events: expecting(...versions) });
      assert.equal((await rejected(refused, WrongExpectedVersion)).current, current);
    }
    assert.equal(await store.streamVersion("s", { partitionKey: KEY }), 4);
  });

  // What is refused.

  const invalid: [what: string, partitionKey: string | undefined, events: NewEvent[]][] = [
    ["no events", KEY, []],
    ["an empty stream id", undefined, [event("")]],
    ["a stream id of 65 bytes", undefined, [event("é".repeat(32) + "x")]],
    ["a NUL in a stream id", undefined, [event("a\0b")]],
    ["a bad stream id in the middle", KEY, [event("a"), event(""), event("b")]],
    ["a partition key that is no UUID", "nonsense", [event("s")]],
    ["an event id that is no UUID", KEY, [{ ...event("s"), eventId: "nonsense" }]],
    ["an event id of 15 bytes", KEY, [{ ...event("s"), eventId: new Uint8Array(15) }]],
    ["an event id of another partition key", KEY, [{ ...event("s"), eventId: eventId(OTHER_KEY, 1) }]],
    ["two streams without a partition key", undefined, [event("a"), event("b")]],
    ["a negative timestamp", undefined, [{ ...event("s"), timestamp: -1 }]],
    ["a timestamp that is no whole number", undefined, [{ ...event("s"), timestamp: 0.5 }]],
    ["an expected version below 0", undefined, [{ ...event("s"), expectedVersion: -1 }]],
    ["an expected version that cannot be counted", undefined, [{ ...event("s"), expectedVersion: 2 ** 53 }]],
  ];
  for (const [what, partitionKey, events] of invalid) {
    test(`append() refuses ${what}`, async (store) => {
      await rejected(store.append({ partitionKey, events }), InvalidArgument);
      assert.equal(store.status().events, 0);
    });
  }

  test("names and times are taken up to their limits, and refused beyond", async (store) => {
    await store.append({ events: [event("é".repeat(32), "é".repeat(127) + "x")] });
    await rejected(store.append({ events: [event("s", "é".repeat(128))] }), LimitExceeded);
    const timestamp = TIMESTAMP_MS_MAX + 1;
    await rejected(store.append({ events: [{ ...event("s"), timestamp }] }), LimitExceeded);
    assert.equal(await store.streamVersion("s"), null);
  });

  test("a transaction beyond 64 MiB is refused and leaves no trace", async (store) => {
    const payload = new Uint8Array(TRANSACTION_BYTES_MAX / 2 + 1);
    const events = [{ ...event("s"), payload }, { ...event("s"), payload }];
    const { what, found, max } = await rejected(store.append({ events }), LimitExceeded);
    assert.ok(what !== "" && found > max, `${what} ${found} ${max}`);
    assert.equal(await store.streamVersion("s"), null);
    assert.equal((await store.append({ events: [event("s")] })).events[0]!.version, 0);
  });

  // Retries.

  test("an append with a stored event id answers as the first time, whatever it expects, and stores nothing", async (store) => {
    const given = { ...event("s"), eventId: eventId(KEY, 1), payload: "p", metadata: "m", timestamp: 10 };
    const first = await store.append({ partitionKey: KEY, events: [{ ...given, expectedVersion: "empty" }] });
    await store.append({ partitionKey: KEY, events: [event("s"), event("s")] });
    for (const expectedVersion of ["any", "empty", "exists", 0, 77] as const) {
      for (const timestamp of [10, 11, undefined]) {
        const events = [{ ...given, expectedVersion, timestamp }];
        assert.deepEqual(await store.append({ partitionKey: KEY, events }), first);
      }
    }
    assert.equal(await store.streamVersion("s", { partitionKey: KEY }), 2);
    assert.equal(await store.partitionSequence(25), 2);
  });

  test("a stored event id with other content is refused", async (store) => {
    const given = { ...event("s", "Name"), eventId: eventId(KEY, 1), payload: "p", metadata: "m" };
    await store.append({ partitionKey: KEY, events: [given] });
    const sameHash = formatUuid(parseUuid(KEY)!.with(0, 0));
    const others: [string, NewEvent][] = [
      [KEY, { ...given, streamId: "t" }],
      [KEY, { ...given, name: "Other" }],
      [KEY, { ...given, payload: "q" }],
      [KEY, { ...given, payload: "" }],
      [KEY, { ...given, metadata: "mm" }],
      [sameHash, given],
    ];
    for (const [partitionKey, other] of others) {
      const error = await rejected(store.append({ partitionKey, events: [other] }), DuplicateEventId);
      assert.equal(error.eventId, given.eventId);
    }
    assert.equal(store.status().events, 1);
  });

  test("one event id twice in a transaction is refused", async (store) => {
    const given = { ...event("s"), eventId: eventId(KEY, 1) };
    await rejected(store.append({ partitionKey: KEY, events: [given, given] }), DuplicateEventId);
    assert.equal(await store.event(given.eventId), null);
  });

  test("a transaction is repeated by any of its ids, if it is the same event by event", async (store) => {
    const a = { ...event("a", "A"), eventId: eventId(KEY, 1), payload: "1", expectedVersion: "empty" as const };
    const b = { ...event("b", "B"), payload: "2" };
    const c = { ...event("a", "C"), eventId: eventId(KEY, 3), payload: "3", expectedVersion: 0 };
    const first = await store.append({ partitionKey: KEY, events: [a, b, c] });
    await store.append({ partitionKey: KEY, events: [event("a"), event("b")] });
    const bWithId = { ...b, eventId: first.events[1]!.eventId };
    const { eventId: _a, ...aWithoutId } = a;
    const { eventId: _c, ...cWithoutId } = c;
    for (
      const events of [[a, b, c], [a, bWithId, c], [a, b, cWithoutId], [aWithoutId, bWithId, cWithoutId], [
        { ...a, timestamp: 1, expectedVersion: 99 },
        b,
        c,
      ]]
    ) {
      assert.deepEqual(await store.append({ partitionKey: KEY, events }), first);
    }
    for (
      const events of [
        [b, a, c],
        [a, b, c, event("a")],
        [a, b],
        [a, { ...b, payload: "x" }, c],
        [a, { ...b, eventId: eventId(KEY, 2) }, c],
        [a, { ...bWithId, eventId: c.eventId }, bWithId],
        [event("new"), c],
      ]
    ) {
      await rejected(store.append({ partitionKey: KEY, events }), DuplicateEventId);
    }
    assert.equal(store.status().events, 5);
    assert.equal(await store.streamVersion("new", { partitionKey: KEY }), null);
  });

  test("ids of two earlier transactions do not make one", async (store) => {
    const a = { ...event("s", "A"), eventId: eventId(KEY, 1) };
    const b = { ...event("s", "B"), eventId: eventId(KEY, 2) };
    await store.append({ partitionKey: KEY, events: [a] });
    await store.append({ partitionKey: KEY, events: [b] });
    await rejected(store.append({ partitionKey: KEY, events: [a, b] }), DuplicateEventId);
    assert.equal(await store.partitionSequence(25), 1);
  });

  test("one event of a transaction may be repeated alone", async (store) => {
    const b = { ...event("b", "B"), eventId: eventId(KEY, 2) };
    const first = await store.append({ partitionKey: KEY, events: [event("a"), b] });
    const again = await store.append({ partitionKey: KEY, events: [b] });
    assert.deepEqual(again, { ...first, firstSequence: 1, events: [first.events[1]] });
  });

  test("appends of one event id at the same time store one event and get one answer", async (store) => {
    const given = { ...event("s"), eventId: eventId(KEY, 1), expectedVersion: "empty" as const };
    const results = await Promise.all(
      Array.from({ length: 50 }, () => store.append({ partitionKey: KEY, events: [given] })),
    );
    for (const result of results) assert.deepEqual(result, results[0]);
    assert.equal(await store.partitionSequence(25), 0);
  });

  // Reads.

  test("what is not there is null or nothing, not an error", async (store) => {
    assert.equal(await store.event(eventId(KEY, 1)), null);
    assert.equal(await store.streamVersion("s"), null);
    assert.equal(await store.partitionSequence(25), null);
    assert.deepEqual(await read(store.readStream("s")), []);
    assert.deepEqual(await read(store.readPartition(25)), []);
    assert.deepEqual(await read(store.readPartition(25, { direction: "backward", from: 3 })), []);
  });

  test("what cannot be there is refused at the call", async (store) => {
    for (const partition of [-1, 32, 0.5, NaN]) {
      assert.throws(() => store.readPartition(partition), NoSuchPartition);
      await rejected(store.partitionSequence(partition), NoSuchPartition);
    }
    await rejected(store.event("nonsense"), InvalidArgument);
    for (const streamId of ["", "x".repeat(65), "a\0"]) {
      assert.throws(() => store.readStream(streamId), InvalidArgument);
      await rejected(store.streamVersion(streamId), InvalidArgument);
    }
    assert.throws(() => store.readStream("s", { partitionKey: "nonsense" }), InvalidArgument);
    await rejected(store.streamVersion("s", { partitionKey: "nonsense" }), InvalidArgument);
  });

  const ranges: [options: ReadOptions, expected: number[]][] = [
    [{}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]],
    [{ from: 7 }, [7, 8, 9]],
    [{ end: 3 }, [0, 1, 2]],
    [{ from: 3, end: 6 }, [3, 4, 5]],
    [{ from: 3, end: 3 }, []],
    [{ from: 6, end: 3 }, []],
    [{ from: 9, end: 10 }, [9]],
    [{ from: 10 }, []],
    [{ from: 8, end: 100 }, [8, 9]],
    [{ from: 50, end: 100 }, []],
    [{ end: 0 }, []],
    [{ end: Number.MAX_SAFE_INTEGER, from: 9 }, [9]],
    [{ from: Number.MAX_SAFE_INTEGER }, []],
    [{ limit: 0 }, []],
    [{ limit: 2 }, [0, 1]],
    [{ from: 4, limit: 3 }, [4, 5, 6]],
    [{ from: 4, end: 6, limit: 3 }, [4, 5]],
    [{ limit: 100 }, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]],
    [{ direction: "forward", from: 8 }, [8, 9]],
    [{ direction: "backward" }, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]],
    [{ direction: "backward", limit: 3 }, [9, 8, 7]],
    [{ direction: "backward", end: 6, limit: 2 }, [5, 4]],
    [{ direction: "backward", from: 3, end: 6 }, [5, 4, 3]],
    [{ direction: "backward", from: 8, end: 100 }, [9, 8]],
    [{ direction: "backward", from: 10 }, []],
    [{ direction: "backward", from: 6, end: 3 }, []],
    [{ direction: "backward", limit: 0 }, []],
  ];
  test("ranges of a stream are half open, both ways, within any bounds", async (store) => {
    // The events of another stream lie between those of this one, so that versions are not sequences.
    for (let i = 0; i < 10; i++) await store.append({ partitionKey: KEY, events: [event("other"), event("s")] });
    for (const [options, expected] of ranges) {
      const events = await read(store.readStream("s", { ...options, partitionKey: KEY }));
      assert.deepEqual(events.map(({ version }) => version), expected, JSON.stringify(options));
      assert.ok(events.every(({ streamId }) => streamId === "s"));
    }
  });

  test("ranges of a partition are half open, both ways, within any bounds", async (store) => {
    for (let i = 0; i < 10; i++) await store.append({ partitionKey: KEY, events: [event(`s-${i % 3}`)] });
    await store.append({ partitionKey: OTHER_KEY, events: [event("s")] });
    for (const [options, expected] of ranges) {
      const events = await read(store.readPartition(25, options));
      assert.deepEqual(events.map(({ sequence }) => sequence), expected, JSON.stringify(options));
      assert.ok(events.every(({ partition }) => partition === 25));
    }
  });

  test("a long stream is read in pages of at most 256, whole and in order, both ways", async (store) => {
    for (let i = 0; i < 7; i++) {
      const events = Array.from({ length: 100 }, (_, j) => event(j % 10 === 3 ? "rare" : "s", `${100 * i + j}`));
      await store.append({ partitionKey: KEY, events });
    }
    const ascending = Array.from({ length: 700 }, (_, i) => i);
    for (const direction of ["forward", "backward"] as const) {
      const sequences: number[] = [];
      for await (const page of store.readPartition(25, { direction }).pages()) {
        assert.ok(page.length > 0 && page.length <= 256, `a page of ${page.length}`);
        sequences.push(...page.map(({ sequence }) => sequence));
        assert.ok(page.every(({ sequence, name }) => name === `${sequence}`));
      }
      assert.deepEqual(sequences, direction === "forward" ? ascending : ascending.toReversed());
      const rare = await read(store.readStream("rare", { partitionKey: KEY, direction }));
      const versions = ascending.slice(0, 70);
      assert.deepEqual(rare.map(({ version }) => version), direction === "forward" ? versions : versions.toReversed());
      assert.ok(rare.every(({ sequence, version }) => sequence === version * 10 + 3));
    }
    const limited = await read(store.readStream("s", { partitionKey: KEY, from: 100, limit: 300 }));
    assert.deepEqual(limited.map(({ version }) => version), ascending.slice(100, 400));
  });

  test("a scan may be left early", async (store) => {
    await store.append({ events: Array.from({ length: 300 }, () => event("s")) });
    let seen = 0;
    for await (const { version } of store.readStream("s")) {
      assert.equal(version, seen);
      if (++seen === 5) break;
    }
    assert.equal(seen, 5);
    assert.equal((await read(store.readStream("s", { limit: 1 }))).length, 1);
  });

  test("a scan that is read while events are appended has no gaps", async (store) => {
    await store.append({ events: Array.from({ length: 600 }, () => event("s")) });
    for (const direction of ["forward", "backward"] as const) {
      const last = (await store.streamVersion("s"))!;
      const versions: number[] = [];
      for await (const page of store.readStream("s", { direction }).pages()) {
        versions.push(...page.map(({ version }) => version));
        if (versions.length < 1000) await store.append({ events: [event("s")] });
      }
      const lowestFirst = direction === "forward" ? versions : versions.toReversed();
      assert.ok(lowestFirst.length > last, `only ${lowestFirst.length} of ${last + 1}`);
      assert.deepEqual(lowestFirst, Array.from(lowestFirst, (_, i) => i));
    }
  });

  // Many at a time.

  /** Every read that there is of one partition, that of `KEY`. */
  const freshReads: Record<string, (store: EventStore, freshness: Freshness) => Promise<unknown>> = {
    "event()": async (store, freshness) => await store.event(eventId(KEY, 1), freshness),
    "event() of what is not there": async (store, freshness) => await store.event(eventId(KEY, 9), freshness),
    "readStream()": async (store, freshness) =>
      await read(store.readStream("s", { partitionKey: KEY, limit: 1, ...freshness })),
    "readPartition()": async (store, freshness) => await read(store.readPartition(25, { limit: 1, ...freshness })),
    "streamVersion()": async (store, freshness) => await store.streamVersion("s", { partitionKey: KEY, ...freshness }),
    "partitionSequence()": async (store, freshness) => await store.partitionSequence(25, freshness),
    "subscribe() to a partition": async (store, freshness) => {
      using subscription = await store.subscribe({ partitions: [25], from: 0 }, freshness);
      return (await take(subscription, 1)).map(plain);
    },
    "subscribe() to streams": async (store, freshness) => {
      const streams = [KEY, samePartition(KEY)].map((partitionKey) => ({ streamId: "s", partitionKey, from: 0 }));
      using subscription = await store.subscribe({ streams }, freshness);
      return (await take(subscription, 1)).map(plain);
    },
  };
  for (const [what, read] of Object.entries(freshReads)) {
    test(`${what} that needs a sequence is refused until that is readable`, async (store) => {
      await store.append({ events: [event("user-1"), event("user-1"), event("user-1"), event("user-1")] }); // Of another partition.
      await rejected(read(store, { atLeast: 0 }), TryAgain);
      await store.append({ partitionKey: KEY, events: [{ ...event("s"), eventId: eventId(KEY, 1) }, event("t")] });
      for (
        const freshness of [{ atLeast: 0 }, { atLeast: 1 }, { fromLeader: true }, { atLeast: 1, fromLeader: true }]
      ) {
        assert.deepEqual(await read(store, freshness), await read(store, {}));
      }
      for (
        const freshness of [{ atLeast: 2 }, { atLeast: 2, fromLeader: true }, { atLeast: Number.MAX_SAFE_INTEGER }]
      ) {
        assert.match(
          (await rejected(read(store, freshness), TryAgain)).message,
          /\b25\b.*\b(2|9007199254740991)\b.*\b1\b/,
        );
      }
      await store.append({ partitionKey: KEY, events: [event("t")] });
      assert.deepEqual(await read(store, { atLeast: 2 }), await read(store, {}));
      for (const atLeast of [-1, 0.5, NaN, 2 ** 53]) await rejected(read(store, { atLeast }), InvalidArgument);
    });
  }

  test("a scan that needs a sequence is refused when it is iterated, and not before", async (store) => {
    const scans = [
      store.readPartition(25, { atLeast: 1 }),
      store.readStream("s", { partitionKey: KEY, atLeast: 0, direction: "backward" }),
    ];
    await store.append({ partitionKey: KEY, events: [event("s")] });
    await rejected(read(scans[0]!), TryAgain);
    assert.equal((await read(scans[1]!)).length, 1);
  });

  test("subscribe() takes a sequence for one partition, and none for several", async (store) => {
    await store.append({ partitionKey: KEY, events: [event("s"), event("s")] });
    await store.append({ partitionKey: OTHER_KEY, events: [event("s"), event("s")] });
    const several: Selection[] = [
      { partitions: "all" },
      { partitions: [25, store.partitionOfKey(OTHER_KEY)], from: 0 },
      { partitions: [] },
      { partitions: [32] },
      { streams: [KEY, OTHER_KEY].map((partitionKey) => ({ streamId: "s", partitionKey, from: 0 })) },
    ];
    for (const selection of several) {
      await rejected(store.subscribe(selection, { atLeast: 0 }), InvalidArgument);
      using _ = await store.subscribe(selection, { fromLeader: true });
    }
    using subscription = await store.subscribe({ partitions: [25, 25, 32] }, { atLeast: 1 });
    await store.append({ partitionKey: KEY, events: [event("s", "Latest")] });
    assert.deepEqual((await take(subscription, 1)).map(({ name }) => name), ["Latest"]);
    await rejected(store.subscribe({ streams: [{ streamId: "" }] }, { atLeast: 0 }), InvalidArgument);
  });

  test("of many writers that expect the same version exactly one wins", async (store) => {
    for (let version = 0; version < 10; version++) {
      const expectedVersion = version === 0 ? "empty" : version - 1;
      const outcomes = await Promise.allSettled(
        Array.from({ length: 10 }, (_, i) => store.append({ events: [{ ...event("s", `${i}`), expectedVersion }] })),
      );
      assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
      for (const outcome of outcomes) {
        if (outcome.status === "fulfilled") continue;
        assert.ok(outcome.reason instanceof WrongExpectedVersion, String(outcome.reason));
        assert.equal(outcome.reason.current, version);
      }
    }
    assert.equal(await store.streamVersion("s"), 9);
    assert.equal((await read(store.readStream("s"))).length, 10);
  });

  test("an append that was answered is readable at once, also among many", async (store) => {
    await Promise.all(Array.from({ length: 100 }, async (_, i) => {
      const streamId = `s-${i % 7}`;
      const { events: [appended], partition } = await store.append({ partitionKey: KEY, events: [event(streamId)] });
      const { eventId, version, sequence } = appended!;
      assert.equal((await store.event(eventId))!.sequence, sequence);
      assert.ok((await store.streamVersion(streamId, { partitionKey: KEY }))! >= version);
      assert.ok((await store.partitionSequence(partition))! >= sequence);
      const [ofStream] = await read(store.readStream(streamId, { partitionKey: KEY, from: version, limit: 1 }));
      assert.equal(ofStream!.eventId, eventId);
      const [ofPartition] = await read(store.readPartition(partition, { from: sequence, end: sequence + 1 }));
      assert.equal(ofPartition!.eventId, eventId);
    }));
  });

  test("numbers have no gaps and no doubles, whoever appends at the same time", async (store) => {
    await Promise.allSettled(Array.from({ length: 200 }, (_, i) =>
      store.append({
        partitionKey: i % 2 === 0 ? KEY : OTHER_KEY,
        events: Array.from({ length: 1 + i % 3 }, (_, j) => ({
          ...event(`s-${(i + j) % 5}`),
          expectedVersion: i % 7 === 0 ? "empty" as const : "any" as const,
        })),
      })));
    for (const partitionKey of [KEY, OTHER_KEY]) {
      const partition = store.partitionOfKey(partitionKey);
      const events = await read(store.readPartition(partition));
      assert.ok(events.length > 100);
      const versions = new Map<string, number>();
      events.forEach((event, i) => {
        assert.equal(event.sequence, i);
        assert.equal(event.version, versions.get(event.streamId) ?? 0);
        versions.set(event.streamId, event.version + 1);
      });
      for (const [streamId, count] of versions) {
        assert.equal(await store.streamVersion(streamId, { partitionKey }), count - 1);
        const ofStream = await read(store.readStream(streamId, { partitionKey }));
        assert.deepEqual(ofStream, events.filter((event) => event.streamId === streamId));
      }
      assert.equal(await store.partitionSequence(partition), events.length - 1);
    }
  });

  // Subscriptions.

  test("a subscription gives what is stored, then what is appended, as a scan would", async (store) => {
    await store.append({ partitionKey: KEY, events: [event("a"), { ...event("b"), payload: "1", metadata: "m" }] });
    await store.append({ partitionKey: KEY, events: [{ ...event("a"), payload: new Uint8Array(300) }] });
    const ofPartition = await store.subscribe({ partitions: [25], from: 0 });
    const ofStream = await store.subscribe({ streams: [{ streamId: "a", partitionKey: KEY, from: 0 }] });
    const found = await take(ofPartition, 3);
    assert.deepEqual(found, await read(store.readPartition(25)));
    const streamFound = await take(ofStream, 2);
    for (let i = 0; i < 5; i++) {
      await store.append({ partitionKey: KEY, events: [event("b"), event("a", `live ${i}`)] });
      found.push(...await take(ofPartition, 2));
      streamFound.push(...await take(ofStream, 1));
    }
    assert.deepEqual(found, await read(store.readPartition(25)));
    assert.deepEqual(streamFound, await read(store.readStream("a", { partitionKey: KEY })));
  });

  test("latest is all that is appended after subscribe() has resolved, however late it is read", async (store) => {
    await store.append({ partitionKey: KEY, events: [event("s", "before"), event("t", "before")] });
    const subscriptions = await Promise.all([
      store.subscribe({ partitions: [25], from: "latest" }),
      store.subscribe({ partitions: [25] }),
      store.subscribe({ partitions: "all" }),
      store.subscribe({ partitions: [25, 7], from: 0, starts: new Map([[25, "latest"]]) }),
      store.subscribe({ streams: [{ streamId: "s", partitionKey: KEY, from: "latest" }] }),
      store.subscribe({ streams: [{ streamId: "s", partitionKey: KEY }] }),
      store.subscribe({ streams: [{ streamId: "s", partitionKey: KEY }, { streamId: "new", partitionKey: KEY }] }),
    ]);
    for (let i = 0; i < 10; i++) await store.append({ partitionKey: KEY, events: [event("s", `${i}`)] });
    for (const subscription of subscriptions) {
      assert.deepEqual((await take(subscription, 10)).map(({ name }) => name), [..."0123456789"]);
    }
  });

  test("latest of what has no events yet begins with the first", async (store) => {
    const ofPartition = await store.subscribe({ partitions: [25] });
    const ofStream = await store.subscribe({ streams: [{ streamId: "s", partitionKey: KEY }] });
    await store.append({ partitionKey: KEY, events: [event("s"), event("s")] });
    assert.deepEqual((await take(ofPartition, 2)).map(({ sequence }) => sequence), [0, 1]);
    assert.deepEqual((await take(ofStream, 2)).map(({ version }) => version), [0, 1]);
  });

  test("a start that lies ahead waits for its number", async (store) => {
    const append = () => store.append({ partitionKey: KEY, events: [event("s"), event("other")] });
    await append();
    const ofPartition = await store.subscribe({ partitions: [25], from: 7 });
    const ofStream = await store.subscribe({ streams: [{ streamId: "s", partitionKey: KEY, from: 3 }] });
    const ofNext = await store.subscribe({ streams: [{ streamId: "s", partitionKey: KEY, from: 1 }] });
    const [partitionReady, streamReady] = [ofPartition.ready(), ofStream.ready()];
    await append();
    await append();
    assert.ok(await isOpen(partitionReady, store) && await isOpen(streamReady, store), "it woke before its start");
    assert.equal(await ofPartition.lag(), 0);
    await append();
    await append();
    assert.ok(await partitionReady && await streamReady);
    assert.deepEqual((await take(ofPartition, 3)).map(({ sequence }) => sequence), [7, 8, 9]);
    assert.deepEqual((await take(ofStream, 2)).map(({ version }) => version), [3, 4]);
    assert.deepEqual((await take(ofNext, 4)).map(({ version }) => version), [1, 2, 3, 4]);
  });

  test("each partition begins at its own start, or at that of all", async (store) => {
    const partitions = [25, store.partitionOfKey(OTHER_KEY), 16, 9];
    const appendOne = async (name: string) => {
      for (const partitionKey of [KEY, OTHER_KEY]) await store.append({ partitionKey, events: [event("s", name)] });
      for (const streamId of ["user-1", "scan-a"]) await store.append({ events: [event(streamId, name)] });
    };
    for (let i = 0; i < 4; i++) await appendOne(`${i}`);
    const starts = new Map<number, Start>([[25, 3], [16, "latest"], [9, 5]]);
    for (const selected of ["all", partitions] as const) {
      const subscription = await store.subscribe({ partitions: selected, from: 1, starts });
      const begun = byPartition(await take(subscription, 4));
      assert.deepEqual(partitions.map((partition) => begun.get(partition) ?? []), [[3], [1, 2, 3], [], []]);
      subscription.close();
    }
    const subscription = await store.subscribe({ partitions, starts });
    await appendOne("4");
    await appendOne("5");
    const found = byPartition(await take(subscription, 8));
    assert.deepEqual(partitions.map((partition) => found.get(partition)), [[3, 4, 5], [4, 5], [4, 5], [5]]);
  });

  test("a subscription of all has every event of every partition, each partition in its order", async (store) => {
    const subscription = await store.subscribe({ partitions: "all", from: 0 });
    const found: EventRecord[] = [];
    for (let i = 0; i < 200; i++) {
      await store.append({ events: [event(`s-${i % 61}`), event(`s-${i % 61}`)] });
      if (i % 40 === 39) found.push(...await take(subscription, 50));
    }
    found.push(...await take(subscription, 400 - found.length));
    await equalsPartitions(store, found, Array.from({ length: 32 }, (_, partition) => partition));
  });

  test("a list of partitions has their events and no others", async (store) => {
    const partitions = [3, 16, 25];
    const subscription = await store.subscribe({ partitions, from: 0 });
    for (let i = 0; i < 200; i++) await store.append({ events: [event(`s-${i}`)] });
    for (const streamId of ["user-1", "user-1"]) await store.append({ events: [event(streamId)] });
    await store.append({ partitionKey: KEY, events: [event("last")] });
    const last = await Promise.all(partitions.map((partition) => store.partitionSequence(partition)));
    const count = last.reduce<number>((sum, sequence) => sum + (sequence ?? -1) + 1, 0);
    assert.ok(count > 3 && count < 150, `${count} events`);
    await equalsPartitions(store, await take(subscription, count), partitions);
    assert.equal(await subscription.lag(), 0);
  });

  test("a partition that the store has not is accepted, and silent", async (store) => {
    const among = await store.subscribe({ partitions: [99_999, 25, 32, 65_535], from: 0 });
    const alone = await store.subscribe({ partitions: [32], from: 0, starts: new Map([[32, 5]]) });
    const none = await store.subscribe({ partitions: [], from: 0 });
    const waits = [alone.ready(), none.ready()];
    await store.append({ partitionKey: KEY, events: [event("s"), event("s")] });
    assert.deepEqual((await take(among, 2)).map(({ sequence }) => sequence), [0, 1]);
    for (const [i, silent] of [alone, none].entries()) {
      assert.ok(await isOpen(waits[i]!, store));
      assert.deepEqual(await silent.read(), []);
      assert.equal(await silent.lag(), 0);
      silent.close();
      assert.equal(await waits[i], false);
    }
  });

  test("a subscription of a stream has its events from a version on, and no others", async (store) => {
    for (let i = 0; i < 10; i++) await store.append({ partitionKey: KEY, events: [event("other"), event("s")] });
    await store.append({ events: [event("s", "of another key")] });
    for (const from of [0, 4, 9, 10]) {
      const subscription = await store.subscribe({ streams: [{ streamId: "s", partitionKey: KEY, from }] });
      await store.append({ partitionKey: KEY, events: [event("other"), event("s")] });
      const end = (await store.streamVersion("s", { partitionKey: KEY }))! + 1;
      const found = await take(subscription, end - from);
      assert.deepEqual(found, await read(store.readStream("s", { partitionKey: KEY, from })));
    }
  });

  test("streams of one partition are merged by sequence, each from its own start", async (store) => {
    const sameKey = samePartition(KEY);
    const subscription = await store.subscribe({
      streams: [
        { streamId: "a", partitionKey: KEY, from: 0 },
        { streamId: "b", partitionKey: KEY, from: 5 },
        { streamId: "a", partitionKey: sameKey, from: 2 },
      ],
    });
    const wanted = ({ partitionKey, streamId, version }: EventRecord) =>
      partitionKey === sameKey
        ? streamId === "a" && version >= 2
        : streamId === "a" || streamId === "b" && version >= 5;
    const append = async () => {
      for (let i = 0; i < 10; i++) {
        await store.append({ partitionKey: KEY, events: [event("b"), event("c"), event("a")] });
        await store.append({ partitionKey: sameKey, events: [event("a"), event("b")] });
      }
    };
    await append();
    const expected = async () => (await read(store.readPartition(25))).filter(wanted);
    const found = await take(subscription, (await expected()).length, 7);
    assert.deepEqual(found, await expected());
    await append();
    found.push(...await take(subscription, (await expected()).length - found.length, 7));
    assert.deepEqual(found, await expected());
    assert.equal(await subscription.lag(), 0);
  });

  test("streams of several partitions may be followed together", async (store) => {
    const streams = ["user-1", "scan-a", "my-stream", "test-stream"].map((streamId) => ({ streamId, from: 0 }));
    const subscription = await store.subscribe({ streams: [...streams, { streamId: "never", from: 0 }] });
    for (let i = 0; i < 10; i++) {
      for (const { streamId } of streams) await store.append({ events: [event(streamId), event(streamId)] });
      await store.append({ events: [event("foreign")] });
    }
    const found = await take(subscription, 80, 9);
    for (const { streamId } of streams) {
      assert.deepEqual(found.filter((event) => event.streamId === streamId), await read(store.readStream(streamId)));
    }
  });

  test("one name under two partition keys is two streams, also to subscribers", async (store) => {
    const keys = [KEY, samePartition(KEY), OTHER_KEY, undefined];
    const subscriptions = await Promise.all(
      keys.map((partitionKey) => store.subscribe({ streams: [{ streamId: "s", partitionKey, from: 0 }] })),
    );
    for (let i = 0; i < 3; i++) {
      for (const partitionKey of keys) await store.append({ partitionKey, events: [event("s", partitionKey)] });
    }
    for (const [i, partitionKey] of keys.entries()) {
      assert.deepEqual(await take(subscriptions[i]!, 3), await read(store.readStream("s", { partitionKey })));
      assert.equal(await subscriptions[i]!.lag(), 0);
    }
  });

  test("what is named twice counts once, a stream with its first start", async (store) => {
    const { partitionKey: defaultKey, partition } = await store.append({ events: [event("d"), event("d")] });
    await store.append({ partitionKey: KEY, events: [event("s"), event("s"), event("s")] });
    const ofPartitions = await store.subscribe({ partitions: [25, 25, partition, 25], from: 0 });
    const ofStreams = await store.subscribe({
      streams: [
        { streamId: "s", partitionKey: KEY, from: 2 },
        { streamId: "s", partitionKey: `{${KEY.toUpperCase()}}`, from: 0 },
        { streamId: "d", from: 1 },
        { streamId: "d", partitionKey: defaultKey, from: "latest" },
      ],
    });
    assert.equal(await ofPartitions.lag(), 5);
    assert.deepEqual([...byPartition(await take(ofPartitions, 5)).values()].toSorted(), [[0, 1], [0, 1, 2]]);
    const found = await take(ofStreams, 2);
    assert.deepEqual(found.map(({ streamId, version }) => `${streamId} ${version}`).toSorted(), ["d 1", "s 2"]);
    for (const subscription of [ofPartitions, ofStreams]) assert.equal(await subscription.lag(), 0);
  });

  test("the events of a transaction come one after another, wherever a read ends", async (store) => {
    const streams = ["a", "b"];
    const subscribed = {
      all: await store.subscribe({ partitions: "all", from: 0 }),
      streams: await store.subscribe({
        streams: [KEY, OTHER_KEY].flatMap((partitionKey) =>
          streams.map((streamId) => ({ streamId, partitionKey, from: 0 }))
        ),
      }),
    };
    await Promise.all(Array.from({ length: 60 }, (_, i) =>
      store.append({
        partitionKey: i % 2 === 0 ? KEY : OTHER_KEY,
        events: Array.from({ length: 1 + i % 9 }, (_, j) => event(["a", "b", "c"][(i + j) % 3]!, `${i}.${j}`)),
      })));
    const stored =
      (await Promise.all([KEY, OTHER_KEY].map((key) => read(store.readPartition(store.partitionOfKey(key))))))
        .flat();
    const expected = { all: stored, streams: stored.filter(({ streamId }) => streams.includes(streamId)) };
    for (const kind of ["all", "streams"] as const) {
      const found = await take(subscribed[kind], expected[kind].length, 4);
      for (const [id, events] of Map.groupBy(expected[kind], ({ transactionId }) => transactionId)) {
        const at = found.findIndex(({ transactionId }) => transactionId === id);
        const names = found.slice(at, at + events.length).map(({ name }) => name);
        assert.deepEqual(names, events.map(({ name }) => name), kind);
      }
    }
  });

  test("a subscription may begin, and a read may end, in the middle of a transaction", async (store) => {
    const events = Array.from({ length: 300 }, (_, i) => event(i % 3 === 0 ? "a" : "b", `${i}`));
    await store.append({ partitionKey: KEY, events });
    const ofPartition = await store.subscribe({ partitions: [25], from: 2 });
    const ofStream = await store.subscribe({ streams: [{ streamId: "a", partitionKey: KEY, from: 30 }] });
    await store.append({ partitionKey: KEY, events: [event("a", "300")] });
    for (const limit of [1, 1, 2, 100, 256]) {
      assert.ok(await ofPartition.ready());
      assert.ok((await ofPartition.read(limit)).length <= limit);
    }
    ofPartition.close();
    const names = (await take(await store.subscribe({ partitions: [25], from: 2 }), 299, 7)).map(({ name }) => name);
    assert.deepEqual(names, Array.from({ length: 299 }, (_, i) => `${i + 2}`));
    const ofA = (await take(ofStream, 71, 7)).map(({ name }) => name);
    assert.deepEqual(ofA, Array.from({ length: 71 }, (_, i) => `${3 * (i + 30)}`));
  });

  test("read() gives at most its limit, at most 256 events, and some 256 KiB", async (store) => {
    const subscription = await store.subscribe({ partitions: "all", from: 0 });
    assert.deepEqual(await subscription.read(), []);
    for (let i = 0; i < 4; i++) {
      const events = Array.from({ length: 150 }, () => event("s"));
      for (const partitionKey of [KEY, OTHER_KEY]) await store.append({ partitionKey, events });
    }
    let left = 1200;
    for (const limit of [0, 1, 2, 31, 1000]) {
      assert.ok(await subscription.ready());
      const page = await subscription.read(limit);
      assert.ok(page.length <= Math.min(limit, 256), `${page.length} of ${limit}`);
      left -= page.length;
    }
    while (left > 0) {
      assert.ok(await subscription.ready());
      const page = await subscription.read();
      assert.ok(page.length <= 256, `${page.length}`);
      left -= page.length;
    }
    assert.deepEqual(await subscription.read(), []);
    const payload = new Uint8Array(50_000);
    for (let i = 0; i < 20; i++) await store.append({ partitionKey: KEY, events: [{ ...event("large"), payload }] });
    for (let left = 20; left > 0;) {
      assert.ok(await subscription.ready());
      const page = await subscription.read();
      assert.ok(page.length <= 7, `${page.length} events of 50 kB in one page`);
      left -= page.length;
    }
  });

  test("a partition with much to tell does not keep others waiting", async (store) => {
    const busy = Array.from({ length: 500 }, () => event("busy"));
    for (let i = 0; i < 6; i++) await store.append({ partitionKey: KEY, events: busy });
    const others = ["user-1", "scan-a", "my-stream", "test-stream"];
    for (const streamId of others) await store.append({ events: [event(streamId)] });
    const isBusy = ({ streamId }: EventRecord) => streamId === "busy";
    const selections: Selection[] = [
      { partitions: [25, 16, 9, 6, 17], from: 0 },
      {
        streams: [
          { streamId: "busy", partitionKey: KEY, from: 0 },
          ...others.map((streamId) => ({ streamId, from: 0 })),
        ],
      },
    ];
    for (const selection of selections) {
      for (const limit of [undefined, 10]) {
        const subscription = await store.subscribe(selection);
        const found: EventRecord[] = [];
        while (found.filter((event) => !isBusy(event)).length < others.length) {
          assert.ok(await subscription.ready());
          found.push(...await subscription.read(limit));
          // The busy one may end a transaction that it has begun.
          assert.ok(found.filter(isBusy).length <= 1500, `${found.length} events, and others still wait`);
        }
        subscription.close();
      }
    }
  });

  test("ready() waits for an append, and for none that came before it", async (store) => {
    const selections: Selection[] = [
      { partitions: "all", from: 0 },
      { partitions: [25], from: 0 },
      { partitions: [25] },
      { streams: [{ streamId: "s", partitionKey: KEY }] },
      { streams: [{ streamId: "s", partitionKey: KEY, from: 0 }, { streamId: "t", from: 0 }] },
    ];
    const subscriptions = await Promise.all(selections.map((selection) => store.subscribe(selection)));
    for (let round = 0; round < 3; round++) {
      const waits = subscriptions.map((subscription) => subscription.ready());
      for (const wait of waits) assert.ok(await isOpen(wait, store), "there is nothing to read");
      await store.append({ partitionKey: KEY, events: [event("s", `woke ${round}`)] });
      assert.ok((await Promise.all(waits)).every((isReady) => isReady));
      for (const subscription of subscriptions) {
        assert.ok(await subscription.ready(), "it is ready until it was read");
        assert.deepEqual((await take(subscription, 1)).map(({ name }) => name), [`woke ${round}`]);
        assert.deepEqual(await subscription.read(), []);
      }
      // Between a read that finds nothing and the wait that follows it.
      await store.append({ partitionKey: KEY, events: [event("s", "between")] });
      for (const subscription of subscriptions) {
        assert.ok(await subscription.ready());
        assert.deepEqual((await take(subscription, 1)).map(({ name }) => name), ["between"]);
      }
    }
  });

  test("ready() is not ended by what the subscription does not follow", async (store) => {
    const subscriptions = await Promise.all([
      store.subscribe({ partitions: [25, 16], from: 0 }),
      store.subscribe({ streams: [{ streamId: "s", partitionKey: KEY, from: 0 }] }),
    ]);
    const waits = subscriptions.map((subscription) => subscription.ready());
    for (let i = 0; i < 10; i++) await store.append({ partitionKey: OTHER_KEY, events: [event("s"), event("t")] });
    for (const wait of waits) assert.ok(await isOpen(wait, store));
    for (let i = 0; i < 10; i++) await store.append({ partitionKey: KEY, events: [event("t")] });
    await store.append({ partitionKey: samePartition(KEY), events: [event("s")] });
    assert.ok(await waits[0]);
    assert.ok(await isOpen(waits[1]!, store));
    assert.deepEqual(await subscriptions[1]!.read(), []);
    await store.append({ partitionKey: KEY, events: [event("s", "mine")] });
    assert.ok(await waits[1]);
    assert.deepEqual((await take(subscriptions[1]!, 1)).map(({ name }) => name), ["mine"]);
  });

  test("refused and repeated appends are not seen", async (store) => {
    const subscription = await store.subscribe({ partitions: "all" });
    const given = { ...event("s", "once"), eventId: eventId(KEY, 1) };
    for (let i = 0; i < 3; i++) {
      await store.append({ partitionKey: KEY, events: [given] });
      const refused = [event("t"), { ...event("s"), expectedVersion: 7 }];
      await rejected(store.append({ partitionKey: KEY, events: refused }), WrongExpectedVersion);
    }
    await store.append({ partitionKey: KEY, events: [event("s", "last")] });
    assert.deepEqual((await take(subscription, 2)).map(({ name }) => name), ["once", "last"]);
  });

  test("lag() counts what there is to read", async (store) => {
    for (let i = 0; i < 5; i++) await store.append({ partitionKey: KEY, events: [event("a"), event("b"), event("a")] });
    await store.append({ events: [event("user-1")] });
    const selections: [selection: Selection, lag: number, grows: number][] = [
      [{ partitions: "all", from: 0 }, 16, 3],
      [{ partitions: [25, 7], from: 4 }, 11, 3],
      [{ partitions: "all", starts: new Map([[25, 14]]) }, 1, 3],
      [{ partitions: [25] }, 0, 3],
      [{ partitions: [25], from: 17 }, 0, 1],
      [{ streams: [{ streamId: "a", partitionKey: KEY, from: 0 }] }, 10, 2],
      [{ streams: [{ streamId: "a", partitionKey: KEY, from: 9 }, { streamId: "user-1", from: 0 }] }, 2, 2],
      [{ streams: [{ streamId: "a", partitionKey: KEY, from: 11 }, { streamId: "none", from: 0 }] }, 0, 1],
    ];
    const subscriptions: Subscription[] = [];
    for (const [selection, lag] of selections) {
      const subscription = await store.subscribe(selection);
      assert.equal(await subscription.lag(), lag, shown(selection));
      subscriptions.push(subscription);
    }
    await store.append({ partitionKey: KEY, events: [event("a"), event("b"), event("a")] });
    for (const [i, subscription] of subscriptions.entries()) {
      const [selection, lag, grows] = selections[i]!;
      assert.equal(await subscription.lag(), lag + grows, shown(selection));
      await take(subscription, 1);
      assert.equal(await subscription.lag(), lag + grows - 1, shown(selection));
      await take(subscription, lag + grows - 1);
      assert.equal(await subscription.lag(), 0, shown(selection));
    }
  });

  test("close() ends a subscription and its waits, and closing it again changes nothing", async (store) => {
    const subscriptions = await Promise.all([
      store.subscribe({ partitions: "all", from: 0 }),
      store.subscribe({ partitions: [25] }),
      store.subscribe({ streams: [{ streamId: "s", from: 0 }] }),
    ]);
    for (const subscription of subscriptions) {
      const wait = subscription.ready();
      assert.ok(await isOpen(wait, store));
      assert.equal(subscription.closed, false);
      subscription.close();
      assert.equal(await wait, false);
      assert.equal(subscription.closed, true);
      subscription.close();
      subscription[Symbol.dispose]();
    }
    await store.append({ events: [event("s")] });
    for (const subscription of subscriptions) {
      assert.equal(await subscription.ready(), false);
      assert.deepEqual(await subscription.read(), []);
      for await (const found of subscription) assert.fail(`a closed subscription gave ${found.name}`);
    }
    {
      using subscription = await store.subscribe({ partitions: "all", from: 0 });
      assert.equal((await take(subscription, 1))[0]!.streamId, "s");
      subscriptions.push(subscription);
    }
    assert.equal(subscriptions.at(-1)!.closed, true);
  });

  test("a subscription is iterated by events or by pages, and is closed when the loop is left", async (store) => {
    const append = () => store.append({ events: Array.from({ length: 300 }, () => event("s")) });
    await append();
    const byEvents = await store.subscribe({ streams: [{ streamId: "s", from: 0 }] });
    let next = 0;
    for await (const { version } of byEvents) {
      assert.equal(version, next++);
      if (next === 300) await append();
      if (next === 600) break;
    }
    assert.equal(byEvents.closed, true);
    const byPages = await store.subscribe({ partitions: "all", from: 0 });
    next = 0;
    for await (const page of byPages.pages()) {
      assert.ok(page.length > 0 && page.length <= 256, `a page of ${page.length}`);
      for (const { version } of page) assert.equal(version, next++);
      // Closed from outside, the loop ends by itself.
      if (next === 600) byPages.close();
    }
    assert.equal(next, 600);
    assert.equal(byPages.closed, true);
  });

  test("when the store closes, who waits is told, and so is who comes later", async (store) => {
    const subscriptions = await Promise.all([
      store.subscribe({ partitions: "all", from: 0 }),
      store.subscribe({ partitions: [25] }),
      store.subscribe({ streams: [{ streamId: "s", from: 0 }] }),
    ]);
    const waits = subscriptions.map((subscription) => rejected(subscription.ready(), StoreClosed));
    const looping = await store.subscribe({ partitions: "all" });
    const loop = rejected(
      (async () => {
        for await (const found of looping) assert.fail(`nobody appended ${found.name}`);
      })(),
      StoreClosed,
    );
    await store.close();
    await Promise.all([...waits, loop]);
    for (const subscription of subscriptions) {
      await rejected(subscription.ready(), StoreClosed);
      await rejected(subscription.read(), StoreClosed);
      await rejected(subscription.lag(), StoreClosed);
      subscription.close();
      assert.equal(await subscription.ready(), false);
    }
    await rejected(store.subscribe({ partitions: "all" }), StoreClosed);
  });

  test("subscribe() refuses what can never be", async (store) => {
    for (const from of [-1, 0.5, NaN, Infinity, 2 ** 53] as number[]) {
      await rejected(store.subscribe({ partitions: "all", from }), InvalidArgument);
      await rejected(store.subscribe({ partitions: [25], from }), InvalidArgument);
      await rejected(store.subscribe({ partitions: [25], starts: new Map([[25, from]]) }), InvalidArgument);
      await rejected(store.subscribe({ streams: [{ streamId: "s", from }] }), InvalidArgument);
    }
    for (const streamId of ["", "x".repeat(65), "a\0"]) {
      await rejected(store.subscribe({ streams: [{ streamId: "s" }, { streamId }] }), InvalidArgument);
    }
    const badKey = { streamId: "s", partitionKey: "nonsense" };
    await rejected(store.subscribe({ streams: [badKey] }), InvalidArgument);
    const last = await store.subscribe({ partitions: [25], from: Number.MAX_SAFE_INTEGER });
    assert.equal(await last.lag(), 0);
  });

  test("many subscriptions at once, early and late, each see all that is theirs", async (store) => {
    const keys = [KEY, samePartition(KEY), OTHER_KEY];
    const streamIds = ["a", "b", "c"];
    const partitions = [25, store.partitionOfKey(OTHER_KEY)];
    const appends = async (writer: number) => {
      for (let i = 0; i < 40; i++) {
        const events = Array.from({ length: 1 + (writer + i) % 4 }, (_, j) => event(streamIds[(i * j) % 3]!));
        await store.append({ partitionKey: keys[(writer + i) % 3], events });
      }
    };
    const streams = keys.flatMap((partitionKey) => streamIds.map((streamId) => ({ partitionKey, streamId, from: 0 })));
    const followers: { wants: (event: EventRecord) => boolean; subscription: Subscription }[] = [];
    const follow = async () => {
      followers.push({ wants: () => true, subscription: await store.subscribe({ partitions: "all", from: 0 }) });
      for (const partition of partitions) {
        const wants = (event: EventRecord) => event.partition === partition;
        followers.push({ wants, subscription: await store.subscribe({ partitions: [partition], from: 0 }) });
      }
      for (const stream of streams) {
        const wants = ({ partitionKey, streamId }: EventRecord) =>
          partitionKey === stream.partitionKey && streamId === stream.streamId;
        followers.push({ wants, subscription: await store.subscribe({ streams: [stream] }) });
      }
    };
    await follow();
    const early = Promise.all([0, 1, 2].map(appends));
    await Promise.all([early, follow()]);
    const late = Promise.all([3, 4].map(appends));
    await follow();
    const founds = followers.map(async ({ subscription, wants }, i) => {
      const found: EventRecord[] = [];
      await late;
      const stored = (await Promise.all(partitions.map((partition) => read(store.readPartition(partition))))).flat();
      const expected = stored.filter(wants);
      found.push(...await take(subscription, expected.length, 1 + i % 50));
      const inOrder = partitions.flatMap((partition) => found.filter((event) => event.partition === partition));
      same(inOrder, expected);
    });
    await Promise.all(founds);
  });

  test("a subscription crosses segments that fill up while it reads, and while it does not", async (store) => {
    // Beyond the largest segment of any store under test, several times.
    const payload = new Chance(1).bytes(90_000);
    const live = await store.subscribe({ partitions: "all", from: 0 });
    const stalled = await store.subscribe({ streams: [{ streamId: "s", partitionKey: KEY }] });
    const found: EventRecord[] = [];
    for (let i = 0; i < 90; i++) {
      const partitionKey = i % 3 === 0 ? OTHER_KEY : KEY;
      await store.append({ partitionKey, events: [{ ...event("s", `${i}`), payload }] });
      if (i % 2 === 1) found.push(...await take(live, 2));
    }
    const late = await store.subscribe({ partitions: [25, store.partitionOfKey(OTHER_KEY)], from: 0 });
    const ofKey = (events: EventRecord[]) => events.filter(({ partitionKey }) => partitionKey === KEY);
    const ofOther = (events: EventRecord[]) => events.filter(({ partitionKey }) => partitionKey === OTHER_KEY);
    const lateFound = await take(late, 90);
    for (const events of [found, lateFound]) {
      same(ofKey(events), await read(store.readPartition(25)));
      same(ofOther(events), await read(store.readPartition(store.partitionOfKey(OTHER_KEY))));
    }
    same(await take(stalled, 60), ofKey(found));
  });

  test("a thousand subscriptions to which nothing happens cost nothing that shows", async (store) => {
    const subscriptions = await Promise.all(
      Array.from({ length: 1000 }, (_, i) => store.subscribe({ streams: [{ streamId: `s-${i}`, partitionKey: KEY }] })),
    );
    let woken = 0;
    const waits = subscriptions.map((subscription) => subscription.ready().finally(() => woken++));
    for (let i = 0; i < 100; i++) await store.append({ partitionKey: KEY, events: [event("busy")] });
    for (const i of [0, 499, 999]) await store.append({ partitionKey: KEY, events: [event(`s-${i}`)] });
    for (const i of [0, 499, 999]) {
      assert.ok(await waits[i]);
      assert.deepEqual((await take(subscriptions[i]!, 1)).map(({ streamId }) => streamId), [`s-${i}`]);
    }
    assert.equal(woken, 3);
    for (const subscription of subscriptions) subscription.close();
    const ends = await Promise.all(waits);
    assert.equal(ends.filter((isReady) => !isReady).length, 997);
  });

  test("a subscriber goes on from its last number when the store is opened again", async (store, { reopen }) => {
    const append = async (to: EventStore) => {
      for (let i = 0; i < 10; i++) await to.append({ partitionKey: KEY, events: [event("a"), event("b")] });
    };
    await append(store);
    const found = await take(await store.subscribe({ partitions: [25], from: 0 }), 7);
    await store.close();
    if (reopen === undefined) return assert.equal(found.length, 7);
    const again = await reopen();
    try {
      const resumed = await again.subscribe({ partitions: [25], from: found.at(-1)!.sequence + 1 });
      const live = await again.subscribe({ streams: [{ streamId: "b", partitionKey: KEY }] });
      await append(again);
      found.push(...await take(resumed, 33));
      assert.deepEqual(found, await read(again.readPartition(25)));
      assert.deepEqual((await take(live, 10)).map(({ version }) => version), [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
    } finally {
      await again.close();
    }
  });

  // Status, close, reopen.

  test("status() counts what was stored, not what was refused or repeated", async (store) => {
    const given = { ...event("s"), eventId: eventId(KEY, 1) };
    await store.append({ partitionKey: KEY, events: [given] });
    await store.append({ partitionKey: KEY, events: [given] });
    await store.append({ partitionKey: KEY, events: [event("a"), event("b")] });
    await rejected(
      store.append({ partitionKey: KEY, events: [{ ...event("s"), expectedVersion: 9 }] }),
      WrongExpectedVersion,
    );
    const status = store.status();
    assert.equal(status.events, 3);
    assert.equal(status.appendedTransactions, 2);
    assert.equal(status.partitionCount, 32);
    assert.deepEqual(status.damage, []);
  });

  test("a closed store refuses everything, and closing it again changes nothing", async (store) => {
    await store.append({ events: [event("s")] });
    const scan = store.readStream("s");
    await store.close();
    await rejected(store.append({ events: [event("s")] }), StoreClosed);
    await rejected(store.event(eventId(KEY, 1)), StoreClosed);
    await rejected(store.streamVersion("s"), StoreClosed);
    await rejected(store.partitionSequence(0), StoreClosed);
    assert.throws(() => store.readStream("s"), StoreClosed);
    assert.throws(() => store.readPartition(0), StoreClosed);
    await rejected(read(scan), StoreClosed);
    await store.close();
  });

  test("close() waits for the appends in flight", async (store) => {
    const appends = Array.from({ length: 20 }, () => store.append({ events: [event("s")] }));
    await store.close();
    const versions = (await Promise.all(appends)).map(({ events }) => events[0]!.version);
    assert.deepEqual(versions, Array.from({ length: 20 }, (_, i) => i));
  });

  test(
    "a store that is opened again has everything that was acknowledged, and goes on from there",
    async (store, { reopen }) => {
      const given = { ...event("a", "Given"), eventId: eventId(KEY, 1), expectedVersion: "empty" as const };
      const first = await store.append({ partitionKey: KEY, events: [given] });
      await store.append({ partitionKey: KEY, events: [event("b"), event("a"), event("b")] });
      await store.append({ events: [{ ...event("user-1"), payload: new Chance(1).bytes(10_000) }] });
      const ofPartitions = await Promise.all([25, 16].map((partition) => read(store.readPartition(partition))));
      await store.close();
      if (reopen === undefined) return assert.equal(ofPartitions.flat().length, 5);
      const again = await reopen();
      try {
        assert.deepEqual(
          await Promise.all([25, 16].map((partition) => read(again.readPartition(partition)))),
          ofPartitions,
        );
        for (const record of ofPartitions.flat()) {
          assert.deepEqual(plain((await again.event(record.eventId))!), record);
        }
        assert.equal(again.status().events, 5);
        assert.equal(await again.streamVersion("a", { partitionKey: KEY }), 1);
        assert.deepEqual((await read(again.readStream("user-1"))).length, 1);
        assert.deepEqual(await again.append({ partitionKey: KEY, events: [given] }), first);
        const stale = [{ ...event("a"), expectedVersion: 0 }];
        assert.equal(
          (await rejected(again.append({ partitionKey: KEY, events: stale }), WrongExpectedVersion)).current,
          1,
        );
        const next = await again.append({ partitionKey: KEY, events: [{ ...event("a"), expectedVersion: 1 }] });
        assert.equal(next.firstSequence, 4);
      } finally {
        await again.close();
      }
    },
  );
}

/** The events of a scan, as plain objects. */
export async function read(scan: Scan): Promise<EventRecord[]> {
  const events: EventRecord[] = [];
  for await (const event of scan) events.push(plain(event));
  return events;
}

/** A record whose bytes are its own, so that two of them can be compared whoever made them. */
export function plain(record: EventRecord): EventRecord {
  const { eventId, partitionKey, partition, transactionId, sequence, streamId, version, name, timestamp } = record;
  const metadata = Uint8Array.from(record.metadata);
  const payload = Uint8Array.from(record.payload);
  return {
    eventId,
    partitionKey,
    partition,
    transactionId,
    sequence,
    streamId,
    version,
    name,
    timestamp,
    metadata,
    payload,
  };
}

/** The next `count` events of a subscription, in reads of at most `limit`. */
async function take(subscription: Subscription, count: number, limit = 256): Promise<EventRecord[]> {
  const events: EventRecord[] = [];
  while (events.length < count) {
    assert.ok(await subscription.ready(), `closed after ${events.length} of ${count} events`);
    const wanted = Math.min(limit, count - events.length);
    const page = await subscription.read(wanted);
    assert.ok(page.length <= wanted, `${page.length} events, ${wanted} were wanted`);
    events.push(...page.map(plain));
  }
  return events;
}

/** Whether `promise` is still open when the store had time to end it. */
async function isOpen(promise: Promise<unknown>, store: EventStore): Promise<boolean> {
  let settled = false;
  const settle = () => void (settled = true);
  promise.then(settle, settle);
  await store.streamVersion("asked only to be answered");
  await new Promise((resolve) => void setImmediate(resolve));
  return !settled;
}

/** Sequences by partition, as they came. */
function byPartition(events: EventRecord[]): Map<number, number[]> {
  const sequences = new Map<number, number[]>();
  for (const { partition, sequence } of events) {
    sequences.set(partition, [...sequences.get(partition) ?? [], sequence]);
  }
  return sequences;
}

/** The events are those of these partitions, each partition's in its order. */
async function equalsPartitions(store: EventStore, events: EventRecord[], partitions: number[]): Promise<void> {
  for (const partition of partitions) {
    const found = events.filter((event) => event.partition === partition);
    assert.deepEqual(found, await read(store.readPartition(partition)), `partition ${partition}`);
  }
  assert.ok(events.every(({ partition }) => partitions.includes(partition)));
}

/** The same events in the same order. A deep comparison of large payloads takes seconds. */
function same(found: EventRecord[], expected: EventRecord[]): void {
  const placesOf = (events: EventRecord[]) =>
    events.map(({ eventId, partition, sequence, version }) => ({ eventId, partition, sequence, version }));
  assert.deepEqual(placesOf(found), placesOf(expected));
  found.forEach(({ payload }, i) => assert.ok(equal(payload, expected[i]!.payload), `the payload of event ${i}`));
}

/** Another key of the same partition. */
function samePartition(key: string): string {
  return formatUuid(parseUuid(key)!.with(0, 0));
}

function shown(selection: Selection): string {
  return JSON.stringify(selection, (_, value) => value instanceof Map ? [...value] : value);
}

/** The error of this class with which `promise` rejects. */
async function rejected<E extends Error>(
  promise: Promise<unknown>,
  Class: abstract new (...args: never[]) => E,
): Promise<E> {
  const outcome = await promise.then(() => null, (error: unknown) => error);
  if (outcome instanceof Class) return outcome;
  throw new assert.AssertionError({
    message: `expected ${Class.name}, found ${outcome === null ? "no error" : outcome}`,
    actual: outcome,
  });
}

function event(streamId: string, name = "Happened"): NewEvent {
  return { streamId, name };
}

/** The `n`-th of some event ids that fit a partition key. */
function eventId(partitionKey: string, n: number): string {
  const chance = new Chance(n);
  return formatUuid(newEventId(partitionHash(parseUuid(partitionKey)!), n, (bytes) => chance.fill(bytes)));
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Whether two arrays hold the same bytes. A deep comparison of a megabyte takes seconds. */
function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
