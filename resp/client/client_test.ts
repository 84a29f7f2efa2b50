import assert from "node:assert/strict";
import { Chance } from "../../core/chance.ts";
import { systemEnvironment } from "../../core/environment.ts";
import {
  Damaged,
  DiskFull,
  DuplicateEventId,
  InvalidArgument,
  LimitExceeded,
  NoReplica,
  NoSuchPartition,
  OutcomeUnknown,
  StoreClosed,
  TooFewReplicas,
  TryAgain,
  WrongExpectedVersion,
} from "../../core/errors.ts";
import type { AppendResult, EventRecord, NewEvent, Transaction } from "../../core/event.ts";
import { MemoryStore } from "../../core/memory_store.ts";
import type { Freshness, Selection, Subscription } from "../../core/store.ts";
import { plain, read } from "../../core/store_suite.ts";
import { listen, type Listener } from "../mod.ts";
import { type Client, connect, ConnectionLost, ServerError } from "./mod.ts";
import { CuttingProxy, ScriptedServer } from "./test_server.ts";

const KEY = "550e8400-e29b-41d4-a716-446655440000";
const OTHER_KEY = "11111111-1111-4111-8111-111111111111";
const EVENT_ID = "00000000-0000-0000-0000-000000000000";

function serve(store: MemoryStore, port = 0): Listener {
  return listen(store, { hostname: "127.0.0.1", port, version: "0", peerId: "test", drainMs: 100 });
}

async function withClient(
  store: MemoryStore,
  act: (client: Client, listener: Listener) => Promise<void>,
): Promise<void> {
  const listener = serve(store);
  try {
    await using client = await connect(listener);
    await act(client, listener);
  } finally {
    await listener.close();
  }
}

function event(streamId: string, name = "Happened"): NewEvent {
  return { streamId, name };
}

/** Reads until there were so many. */
async function take(subscription: Subscription, count: number): Promise<EventRecord[]> {
  const events: EventRecord[] = [];
  while (events.length < count) {
    assert.ok(await subscription.ready(), `closed after ${events.length} of ${count}`);
    events.push(...(await subscription.read(count - events.length)).map(plain));
  }
  return events;
}

async function failureOf(promise: Promise<unknown>): Promise<Error> {
  return await promise.then(() => assert.fail("it was no failure"), (error) => error);
}

// Connecting.

Deno.test("connect() takes addresses in all their forms, and refuses what is none", async () => {
  await withClient(new MemoryStore(), async (_, { port }) => {
    for (
      const target of [`esker://127.0.0.1:${port}`, new URL(`redis://127.0.0.1:${port}/`), {
        hostname: "127.0.0.1",
        port,
      }]
    ) {
      await using client = await connect(target);
      assert.equal(client.partitionCount, 32);
    }
  });
  for (const target of ["http://x:1", "x:1", "nonsense", "esker://", "esker://x:1/0", "esker://user:secret@x:1"]) {
    await assert.rejects(connect(target), InvalidArgument, target);
  }
  await assert.rejects(connect("esker://127.0.0.1:1", { window: 0 }), InvalidArgument);
  await assert.rejects(connect("esker://127.0.0.1:1", { reconnectMs: NaN }), InvalidArgument);
});

Deno.test("connect() to where nobody listens fails at once", async () => {
  const listener = serve(new MemoryStore());
  await listener.close();
  const error = await failureOf(connect(listener));
  assert.ok(error instanceof ConnectionLost && !error.outcomeUnknown && error.cause instanceof Error);
});

Deno.test("connect() to what is no event store fails, and says so", async () => {
  await using server = new ScriptedServer(() => null, "+OK\r\n");
  assert.match((await failureOf(connect(server.address))).message, /no event store/);
  await using old = new ScriptedServer(() => null, "-NOPROTO unsupported protocol version\r\n");
  const error = await failureOf(connect(old.address));
  assert.ok(error.cause instanceof ServerError && error.cause.code === "NOPROTO");
});

Deno.test("the client's name is seen in CLIENT LIST", async () => {
  await using server = new ScriptedServer(() => "+PONG\r\n");
  await using _ = await connect(server.address, { clientName: "projection" });
  assert.deepEqual(server.commands, [["HELLO", "3", "SETNAME", "projection"]]);
});

// Errors.

Deno.test("errors of the store arrive as they were thrown, with their facts", async () => {
  const errors = [
    new InvalidArgument("no good"),
    new LimitExceeded("The event name", 300, 255),
    new WrongExpectedVersion('a" of stream\r\n', KEY, 3, null),
    new WrongExpectedVersion("s", KEY, "exists", 7),
    new DuplicateEventId(EVENT_ID, "with other content"),
    new NoSuchPartition(40, 32),
    new DiskFull("There is no room"),
    new Damaged("/data/1.segment", 4096, "the checksum is wrong"),
    new StoreClosed(),
    new TooFewReplicas("1 of 3 replicas"),
    new NoReplica("no replica of bucket 2"),
    new TryAgain("the leader is changing"),
  ];
  class FailingStore extends MemoryStore {
    override append(): Promise<AppendResult> {
      return Promise.reject(errors[i]);
    }
    override event(): Promise<EventRecord | null> {
      return Promise.reject(errors[i]);
    }
  }
  let i = 0;
  await withClient(new FailingStore(), async (client) => {
    for (; i < errors.length; i++) {
      for (const call of [client.append({ events: [event("s")] }), client.event(EVENT_ID)]) {
        const found = await failureOf(call);
        assert.equal(found.constructor, errors[i]!.constructor);
        assert.deepEqual({ ...found, message: found.message }, { ...errors[i], message: errors[i]!.message });
      }
    }
  });
});

Deno.test("an error without a class has its code", async () => {
  const codes = {
    EAPPEND: "-MAILBOXFULL come back later\r\n",
    ESVER: "-TIMEOUT\r\n",
    EPSEQ: "-WRONGVER in other words\r\n",
  };
  await using server = new ScriptedServer(([command]) => codes[command as keyof typeof codes] ?? "+PONG\r\n");
  await using client = await connect(server.address);
  const found = [];
  for (
    const call of [client.append({ events: [event("s")] }), client.streamVersion("s"), client.partitionSequence(1)]
  ) {
    const error = await failureOf(call);
    assert.ok(error instanceof ServerError);
    found.push([error.code, error.message]);
  }
  assert.deepEqual(found, [["MAILBOXFULL", "come back later"], ["TIMEOUT", "TIMEOUT"], ["WRONGVER", "in other words"]]);
});

Deno.test("an append whose outcome is unknown says how to repeat it, with the id that it got here", async () => {
  class ForgetfulStore extends MemoryStore {
    override async append(transaction: Transaction): Promise<AppendResult> {
      await super.append(transaction);
      throw new OutcomeUnknown("The leader was lost");
    }
  }
  const store = new ForgetfulStore();
  await withClient(store, async (client) => {
    for (const events of [[event("s")], [event("s"), event("t")]]) {
      const error = await failureOf(client.append({ partitionKey: KEY, events }));
      assert.ok(error instanceof OutcomeUnknown && error.message === "The leader was lost");
      const before = store.status().events;
      await failureOf(client.append(error.transaction!));
      assert.equal(store.status().events, before, "it was stored, so to repeat it stores nothing");
    }
  });
});

Deno.test("an append that was sent over a lost link, and is refused when it is sent again, may be stored all the same", async () => {
  const refusals: [reply: string, of: abstract new (...args: never[]) => Error][] = [
    ["TRYAGAIN the leader is changing", OutcomeUnknown],
    ["CLUSTERDOWN no replica of bucket 2", OutcomeUnknown],
    ["INSUFFICIENTREPLICAS 1 of 3", OutcomeUnknown],
    ["ACTORSTOPPED The store is closed", OutcomeUnknown],
    ["DISKFULL there is no room", OutcomeUnknown],
    ["NEWCODE of a newer server", OutcomeUnknown],
    // These would be so whenever it came; had it been stored, the answer would be that of the first time.
    [`WRONGVER stream "s" of partition key ${KEY}: expected version 3, current version 4`, WrongExpectedVersion],
    ["INVALIDARG no good", InvalidArgument],
  ];
  for (const [reply, Class] of refusals) {
    let sent = 0;
    await using server = new ScriptedServer(([command]) => {
      if (command === "EAPPEND") sent++;
      return sent === 1 ? null : command === "PING" ? "+PONG\r\n" : `-${reply}\r\n`;
    });
    await using client = await connect(server.address);
    const call = failureOf(client.append({ partitionKey: KEY, events: [event("s")] }));
    const read = failureOf(client.streamVersion("s"));
    await server.until(([command]) => command === "EAPPEND");
    server.cut();
    const error = await call;
    assert.equal(error.constructor, Class, reply);
    assert.notEqual((await read).constructor, OutcomeUnknown, "a read stores nothing");
    if (!(error instanceof OutcomeUnknown)) continue;
    assert.match(error.message, /may be stored/);
    assert.ok(error.cause instanceof Error && error.transaction!.events[0]!.eventId !== undefined);
    // One that was sent once was refused, and that is that.
    assert.notEqual((await failureOf(client.append({ events: [event("s")] }))).constructor, OutcomeUnknown);
  }
});

// Reads.

Deno.test("reads send how new they must be", async () => {
  await using server = new ScriptedServer(([command]) => command === "EGET" ? "_\r\n" : ":7\r\n");
  await using client = await connect(server.address);
  await client.streamVersion("s", { atLeast: 5 });
  await client.partitionSequence(3, { fromLeader: true });
  await client.event(EVENT_ID, { atLeast: 0, fromLeader: true });
  assert.deepEqual(server.commands.slice(1), [
    ["ESVER", "s", "AT_LEAST", "5"],
    ["EPSEQ", "3", "LEADER"],
    ["EGET", EVENT_ID, "AT_LEAST", "0", "LEADER"],
  ]);
});

Deno.test("a scan says with each page how new it must be", async () => {
  const asked: (Freshness | undefined)[] = [];
  class AskedStore extends MemoryStore {
    override partitionSequence(partition: number, freshness?: Freshness): Promise<number | null> {
      asked.push(freshness);
      return super.partitionSequence(partition, freshness);
    }
  }
  const store = new AskedStore();
  await store.append({ partitionKey: KEY, events: Array.from({ length: 100 }, () => event("s")) });
  await withClient(store, async (client) => {
    const freshness = { atLeast: 99, fromLeader: true };
    assert.equal((await read(client.readPartition(25, freshness))).length, 100);
    assert.deepEqual(asked, [freshness, freshness]);
  });
});

Deno.test("a subscription asks for the newest of what it begins behind", async () => {
  await using server = new ScriptedServer(([command]) => {
    return { EPSEQ: ":7\r\n", ESVER: ":3\r\n", EPSUB: `+${ID}\r\n`, ESUB: `+${ID}\r\n` }[command!] ?? "+OK\r\n";
  });
  await using client = await connect(server.address);
  using _ = await client.subscribe({ partitions: [1] }, { atLeast: 5, fromLeader: true });
  using __ = await client.subscribe({ streams: [{ streamId: "s", partitionKey: KEY }] }, { fromLeader: true });
  using ___ = await client.subscribe({ partitions: [2], from: 0 }, { fromLeader: true });
  assert.deepEqual(server.commands.slice(1), [
    ["EPSEQ", "1", "AT_LEAST", "5", "LEADER"],
    ["EPSEQ", "1", "AT_LEAST", "5", "LEADER"],
    ["EPSUB", "1", "FROM", "MAP", "1=8", "WINDOW", "1000"],
    ["ESVER", "s", "PARTITION_KEY", KEY, "LEADER"],
    ["ESUB", "s", "PARTITION_KEY", KEY, "FROM", "4", "WINDOW", "1000"],
    ["EPSUB", "2", "FROM", "MAP", "2=0", "WINDOW", "1000"],
  ]);
  await assert.rejects(client.subscribe({ partitions: [1, 2] }, { atLeast: 5 }), InvalidArgument);
});

// Appends.

Deno.test("a transaction that the wire would take for another one is refused", async () => {
  await withClient(new MemoryStore(), async (client) => {
    for (const streamId of ["PAYLOAD", "Event_Id"]) {
      const append = (events: NewEvent[]) => client.append({ partitionKey: KEY, events });
      await assert.rejects(append([event("s"), event(streamId)]), InvalidArgument);
      assert.equal((await append([event(streamId), event("s")])).events.length, 2);
    }
  });
});

Deno.test("an append that gave no id gets one, and one that gave some gets no more", async () => {
  await using server = new ScriptedServer(([command]) => command === "PING" ? "+PONG\r\n" : "-ERR no\r\n");
  await using client = await connect(server.address);
  const idsOf = (words: string[]) => words.flatMap((word, i) => word === "EVENT_ID" ? [words[i + 1]] : []);
  await failureOf(client.append({ events: [event("s")] }));
  await failureOf(client.append({ partitionKey: KEY, events: [event("s"), event("t")] }));
  await failureOf(
    client.append({ partitionKey: EVENT_ID, events: [event("s"), { ...event("t"), eventId: EVENT_ID }] }),
  );
  const ids = server.commands.filter(([command]) => command!.endsWith("APPEND")).map(idsOf);
  assert.deepEqual(ids.map(({ length }) => length), [1, 1, 1]);
  assert.equal(ids[2]![0], EVENT_ID);
});

// Links that are lost.

Deno.test("a server that restarts is waited for: calls and subscriptions go on", async () => {
  const store = new MemoryStore();
  let listener = serve(store);
  const { port } = listener;
  await using client = await connect({ hostname: "127.0.0.1", port });
  const subscription = await client.subscribe({ partitions: "all" });
  for (let round = 0; round < 3; round++) {
    await client.append({ events: [event("s", `before ${round}`)] });
    await listener.close();
    const append = client.append({ events: [event("s", `while ${round}`)] });
    const version = client.streamVersion("s");
    await store.append({ events: [event("s", `without ${round}`)] });
    listener = serve(store, port);
    assert.equal((await append).events[0]!.version, 3 * round + 2);
    assert.equal(await version, 3 * round + 2);
    const names = (await take(subscription, 3)).map(({ name }) => name);
    assert.deepEqual(names, [`before ${round}`, `without ${round}`, `while ${round}`]);
  }
  await client.close();
  await listener.close();
});

for (const seed of [1, 2, 3, 4]) {
  Deno.test(`links are cut anywhere: every append is stored once, and every subscriber sees all, once, in order (seed ${seed})`, async () => {
    const chance = new Chance(seed);
    const store = new MemoryStore();
    const listener = serve(store);
    await using proxy = new CuttingProxy(() => listener, chance, 60_000);
    const streams = ["a", "b", "a=c"];
    const count = 200;
    {
      // What is read and written is not asked to come through in one piece: the first link may be cut in HELLO.
      await using client = await untilConnected(proxy, chance);
      const selections: Selection[] = [
        { partitions: "all", from: 0 },
        { partitions: [25], from: 0 },
        { streams: streams.map((streamId) => ({ streamId, partitionKey: KEY, from: 0 })) },
        { streams: [KEY, OTHER_KEY].map((partitionKey) => ({ streamId: "a", partitionKey })) },
      ];
      const subscriptions = await Promise.all(selections.map((selection) => client.subscribe(selection)));
      const appended: Promise<AppendResult>[] = [];
      const appending = (async () => {
        for (let i = 0; i < count; i++) {
          const partitionKey = chance.pick([KEY, OTHER_KEY]);
          const events = Array.from({ length: chance.between(1, 3) }, () => event(chance.pick(streams), `${i}`));
          appended.push(client.append({ partitionKey, events }));
          if (chance.oneIn(3)) await appended.at(-1);
        }
        await Promise.all(appended);
      })();
      await appending;
      const results = await Promise.all(appended);
      const stored = (await Promise.all([KEY, OTHER_KEY].map((key) =>
        read(store.readPartition(store.partitionOfKey(key)))
      ))).flat();
      assert.equal(stored.length, results.reduce((sum, { events }) => sum + events.length, 0));
      for (const [i, { events }] of results.entries()) {
        for (const { eventId } of events) assert.equal((await store.event(eventId))!.name, `${i}`);
      }
      const wanted = [
        stored,
        stored.filter(({ partitionKey }) => partitionKey === KEY),
        stored.filter(({ partitionKey }) => partitionKey === KEY),
        stored.filter(({ streamId }) => streamId === "a"),
      ];
      for (const [i, subscription] of subscriptions.entries()) {
        const found = await take(subscription, wanted[i]!.length);
        for (const partitionKey of [KEY, OTHER_KEY]) {
          const of = (events: EventRecord[]) => events.filter((event) => event.partitionKey === partitionKey);
          assert.deepEqual(of(found), of(wanted[i]!), `subscription ${i}`);
        }
        assert.equal(await subscription.lag(), 0);
      }
      assert.ok(proxy.cuts > 5, `only ${proxy.cuts} links were cut`);
    }
    await listener.close();
  });
}

async function untilConnected(proxy: CuttingProxy, chance: Chance): Promise<Client> {
  for (;;) {
    try {
      return await connect(proxy.address, { window: chance.pick([1, 2, 7, 100]), reconnectMs: Infinity });
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
    }
  }
}

Deno.test("when the time runs out, an append that was sent says that its outcome is unknown, and how to repeat it", async () => {
  const server = new ScriptedServer(() => null);
  const client = await connect(server.address, { reconnectMs: 50 });
  const transaction: Transaction = { partitionKey: KEY, events: [event("s"), event("t")] };
  const calls = [client.append(transaction), client.streamVersion("s")].map(failureOf);
  await server.until(([command]) => command === "ESVER");
  await server[Symbol.asyncDispose]();
  const [append, version] = await Promise.all(calls);
  assert.ok(append instanceof ConnectionLost && append.outcomeUnknown);
  assert.ok(version instanceof ConnectionLost && !version.outcomeUnknown && version.transaction === null);
  // It was stored, as it happens: to repeat it with its id changes nothing.
  const store = new MemoryStore();
  const first = await store.append(append.transaction!);
  assert.deepEqual(await store.append(append.transaction!), first);
  // What was never sent was never stored.
  const later = await failureOf(client.append(transaction));
  assert.ok(later instanceof ConnectionLost && !later.outcomeUnknown);
  await client.close();
});

Deno.test("an outage long ago does not shorten the patience with the next one", async () => {
  let nowMs = 0;
  const environment = { ...systemEnvironment(), monotonic: () => nowMs };
  const store = new MemoryStore();
  let listener = serve(store);
  const { port } = listener;
  await using proxy = new CuttingProxy(() => listener);
  await using client = await connect(proxy.address, { reconnectMs: 10_000, environment });
  const subscription = await client.subscribe({ partitions: "all" });
  for (let outage = 0; outage < 2; outage++) {
    await listener.close(); // Which tells the subscription that the server closes.
    const append = client.append({ events: [event("s")] });
    const accepted = proxy.accepted;
    for (let ours = 0; proxy.accepted < accepted + ours + 2; ours++) { // Two attempts of the client have failed.
      await assert.rejects(connect(proxy.address), ConnectionLost);
    }
    listener = serve(store, port);
    assert.equal((await append).events[0]!.version, outage);
    assert.equal((await take(subscription, 1))[0]!.version, outage);
    nowMs += 3_600_000;
  }
  await client.close();
  await listener.close();
});

Deno.test("a client that gave up tries again at the next call", async () => {
  const store = new MemoryStore();
  let listener = serve(store);
  const { port } = listener;
  await using client = await connect(listener, { reconnectMs: 0 });
  const subscription = await client.subscribe({ partitions: "all" });
  await listener.close();
  await assert.rejects(subscription.ready(), ConnectionLost);
  await assert.rejects(subscription.read(), ConnectionLost);
  listener = serve(store, port);
  assert.equal(await client.streamVersion("s"), null);
  await client.close();
  await listener.close();
});

Deno.test("a link that speaks nonsense is given up for another one", async () => {
  let broken = 3;
  await using server = new ScriptedServer(([command]) =>
    command === "PING" ? "+PONG\r\n" : broken-- > 0 ? "?what\r\n" : ":5\r\n"
  );
  await using client = await connect(server.address);
  assert.equal(await client.streamVersion("s"), 5);
  assert.equal(server.accepted, 4);
});

Deno.test("another store at the same address is not taken for the one that was there", async () => {
  let listener = serve(new MemoryStore());
  const { port } = listener;
  await using client = await connect(listener, { reconnectMs: 0 });
  await listener.close();
  listener = serve(new MemoryStore({ partitionCount: 8 }), port);
  assert.match((await failureOf(client.streamVersion("s"))).message, /another store: it has 8 partitions/);
  await listener.close();
});

// Closing.

Deno.test("close() waits for calls in flight, and refuses later ones", async () => {
  await withClient(new MemoryStore(), async (client) => {
    const subscription = await client.subscribe({ partitions: "all" });
    const calls = [client.append({ events: [event("s")] }), client.streamVersion("s")] as const;
    const waiting = failureOf(subscription.ready());
    await client.close();
    assert.equal((await calls[0]).events[0]!.version, 0);
    assert.equal(await calls[1], 0);
    assert.ok(await waiting instanceof StoreClosed);
    await assert.rejects(client.append({ events: [event("s")] }), StoreClosed);
    await assert.rejects(client.subscribe({ partitions: "all" }), StoreClosed);
    assert.throws(() => client.readPartition(0), StoreClosed);
  });
});

Deno.test("close() does not wait for a server that is not there", async () => {
  const listener = serve(new MemoryStore());
  const client = await connect(listener, { reconnectMs: Infinity });
  await listener.close();
  const call = failureOf(client.streamVersion("s"));
  await client.close();
  assert.ok(await call instanceof ConnectionLost);
});

// Subscriptions.

Deno.test("streams that the wire can hardly tell apart are followed all the same", async () => {
  await withClient(new MemoryStore(), async (client) => {
    const ids = ["a=1", "a", "PARTITION_KEY", "from", "MAP", "DEFAULT"];
    const streams = ids.flatMap((streamId, i) => [
      { streamId, partitionKey: KEY, from: i % 3 },
      { streamId, partitionKey: OTHER_KEY, from: 1 },
    ]).filter(({ streamId, partitionKey }) => streamId !== "from" || partitionKey === KEY);
    for (const partitionKey of [KEY, OTHER_KEY]) {
      for (let i = 0; i < 3; i++) await client.append({ partitionKey, events: ids.map((streamId) => event(streamId)) });
    }
    const wanted = new Map(streams.map(({ streamId, partitionKey, from }) => [partitionKey + streamId, from]));
    const stored = (await Promise.all([KEY, OTHER_KEY].map((key) =>
      read(client.readPartition(client.partitionOfKey(key)))
    ))).flat()
      .filter(({ streamId, partitionKey, version }) => version >= (wanted.get(partitionKey + streamId) ?? Infinity));
    const subscription = await client.subscribe({ streams });
    assert.equal(await subscription.lag(), stored.length);
    const found = await take(subscription, stored.length);
    for (const key of [KEY, OTHER_KEY]) {
      const of = (events: EventRecord[]) => events.filter(({ partitionKey }) => partitionKey === key);
      assert.deepEqual(of(found), of(stored));
    }
    assert.equal(await subscription.lag(), 0);
    await assert.rejects(
      client.subscribe({ streams: [{ streamId: "FROM" }, { streamId: "window" }] }),
      InvalidArgument,
    );
  });
});

Deno.test("a subscription that the server ends gives what has arrived, and then its error", async () => {
  await using server = new ScriptedServer(([command]) => answers[command!] ?? "+OK\r\n");
  await using client = await connect(server.address);
  const subscription = await client.subscribe({ partitions: [1], from: 0 });
  await server.send(message(0) + ">2\r\n+news\r\n+of another kind\r\n" + message(1));
  await server.send(`>3\r\n+error\r\n+${ID}\r\n$${DAMAGED.length}\r\n${DAMAGED}\r\n`);
  assert.equal((await take(subscription, 2)).at(-1)!.sequence, 1);
  const error = await failureOf(subscription.ready());
  assert.ok(error instanceof Damaged && error.offset === 7);
  await assert.rejects(subscription.read(), Damaged);
  await assert.rejects(subscription.lag(), Damaged);
  assert.equal(subscription.closed, false);
});

Deno.test("events are acknowledged by half windows as they are taken, and what comes after close() is not looked at", async () => {
  await using server = new ScriptedServer(([command]) => answers[command!] ?? "+OK\r\n");
  await using client = await connect(server.address, { window: 4 });
  const subscription = await client.subscribe({ partitions: [1], from: 0 });
  assert.deepEqual(server.commands.at(-1), ["EPSUB", "1", "FROM", "MAP", "1=0", "WINDOW", "4"]);
  await server.send([0, 1, 2, 3].map(message).join(""));
  const acks = () => server.commands.filter(([command]) => command === "EACK").map((words) => words[2]);
  await take(subscription, 1);
  assert.equal(await client.partitionSequence(1), 5); // All that was told before has arrived there.
  assert.deepEqual(acks(), []);
  await take(subscription, 3);
  assert.equal(await client.partitionSequence(1), 5);
  assert.deepEqual(acks(), ["1", "3"]);
  subscription.close();
  assert.deepEqual(await server.until(([command]) => command === "EUNSUB"), ["EUNSUB", ID]);
  await server.send(message(4) + message(4));
  assert.equal(await client.partitionSequence(1), 5);
  assert.deepEqual(await subscription.read(), []);
});

Deno.test("what was not selected and comes all the same does not fill the window", async () => {
  await withClient(new MemoryStore(), async (_, listener) => {
    await using client = await connect(listener, { window: 3 });
    await client.append({ partitionKey: KEY, events: Array.from({ length: 50 }, () => event("a")) });
    // MAP has one start for both, the lower one.
    const streams = [{ streamId: "a", partitionKey: KEY, from: 50 }, {
      streamId: "a",
      partitionKey: OTHER_KEY,
      from: 0,
    }];
    const subscription = await client.subscribe({ streams });
    await client.append({ partitionKey: OTHER_KEY, events: [event("a")] });
    await client.append({ partitionKey: KEY, events: [event("a")] });
    const found = await take(subscription, 2);
    assert.deepEqual(new Set(found.map(({ version }) => version)), new Set([0, 50]));
  });
});

Deno.test("a reader that is slow holds a window of events, and the server reads no further", async () => {
  class CountingStore extends MemoryStore {
    given = 0;
    override async subscribe(selection: Selection): Promise<Subscription> {
      const subscription = await super.subscribe(selection);
      const read = subscription.read.bind(subscription);
      subscription.read = async (limit) => {
        const page = await read(limit);
        this.given += page.length;
        return page;
      };
      return subscription;
    }
  }
  const store = new CountingStore();
  await store.append({ partitionKey: KEY, events: Array.from({ length: 500 }, () => event("s")) });
  await withClient(store, async (_, listener) => {
    await using client = await connect(listener, { window: 20 });
    const subscription = await client.subscribe({ partitions: [25], from: 0 });
    let taken = 0;
    while (taken < 500) {
      assert.ok(await subscription.ready());
      for (let i = 0; i < 5; i++) await client.streamVersion("s"); // Time for the server to send more, if it would.
      assert.ok(store.given <= taken + 20, `${store.given} events were read for a reader that took ${taken}`);
      taken += (await subscription.read(7)).length;
    }
    assert.equal(await subscription.lag(), 0);
  });
});

Deno.test("a server that does not read for a while gets all in order when it does", async () => {
  let begin = () => {};
  const begun = new Promise<void>((resolve) => begin = resolve);
  let version = 0;
  await using server = new ScriptedServer(([command]) =>
    command === "PING" ? "+PONG\r\n" : `%6\r\n+event_id\r\n+${ID}\r\n` +
      `+partition_key\r\n+${ID}\r\n+partition_id\r\n:1\r\n+partition_sequence\r\n:0\r\n+stream_version\r\n:${version++}\r\n+timestamp\r\n:0\r\n`
  );
  server.pause = begun;
  await using client = await connect(server.address);
  const payload = new Uint8Array(256 * 1024);
  const appends = Array.from({ length: 100 }, () => client.append({ events: [{ streamId: "s", name: "e", payload }] }));
  begin();
  const versions = (await Promise.all(appends)).map(({ events }) => events[0]!.version);
  assert.deepEqual(versions, Array.from({ length: 100 }, (_, i) => i));
});

const ID = "22222222-2222-4222-8222-222222222222";
const DAMAGED = "READERR /data/1.segment is damaged at offset 7: torn";
const answers: Record<string, string> = {
  EPSUB: `+${ID}\r\n>3\r\n+subscribe\r\n+${ID}\r\n:1\r\n`,
  EPSEQ: ":5\r\n",
  PING: "+PONG\r\n",
};

/** A push of the event of this cursor and sequence. */
function message(cursor: number): string {
  return `>4\r\n+message\r\n+${ID}\r\n:${cursor}\r\n%11\r\n+event_id\r\n+${ID}\r\n+partition_key\r\n+${ID}\r\n` +
    `+partition_id\r\n:1\r\n+transaction_id\r\n+${ID}\r\n+partition_sequence\r\n:${cursor}\r\n+stream_version\r\n:0\r\n` +
    `+timestamp\r\n:0\r\n+stream_id\r\n$1\r\ns\r\n+event_name\r\n$1\r\ne\r\n+metadata\r\n$0\r\n\r\n+payload\r\n$0\r\n\r\n`;
}
