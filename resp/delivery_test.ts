/**
 * Subscriptions as a client sees them: what is pushed, when, and when not.
 *
 * @module
 */
import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { systemEnvironment } from "../core/environment.ts";
import { Damaged, NoReplica, TooFewReplicas, TryAgain } from "../core/errors.ts";
import { MemoryStore } from "../core/memory_store.ts";
import { type ReadOptions, Scan, type Selection, type Subscription } from "../core/store.ts";
import { Deliveries, type PushLink, type Replies } from "./deliveries.ts";
import { Encoder } from "./encoder.ts";
import { listen, type Listener, type ListenOptions } from "./mod.ts";
import { commandOf, field, type Frame, joinBytes, show, TestClient, textOf } from "./test_client.ts";
import { Turns } from "./turns.ts";

/** A store that knows its subscriptions, and whose reads of them a test can hold back or let fail. */
class WatchedStore extends MemoryStore {
  readonly subscriptions: Subscription[] = [];
  /** Called before each read of a subscription. */
  beforeRead: () => Promise<void> | void = () => {};

  override async subscribe(selection: Selection): Promise<Subscription> {
    const subscription = await super.subscribe(selection);
    const read = subscription.read.bind(subscription);
    subscription.read = async (limit) => {
      await this.beforeRead();
      return read(limit);
    };
    this.subscriptions.push(subscription);
    return subscription;
  }

  get open(): number {
    return this.subscriptions.filter((subscription) => !subscription.closed).length;
  }
}

interface House<S extends MemoryStore> {
  store: S;
  listener: Listener;
  connect: () => Promise<TestClient>;
  /** Appends an event to stream `s`, or another. */
  append: (name: string, streamId?: string) => Promise<unknown>;
}

async function withHouse<S extends MemoryStore>(
  store: S,
  act: (house: House<S>) => Promise<void>,
  options: Partial<ListenOptions> = {},
): Promise<void> {
  const listener = listen(store, {
    hostname: "127.0.0.1",
    port: 0,
    version: "0",
    peerId: "peer",
    initialProtocol: 3,
    ...options,
  });
  const clients: TestClient[] = [];
  const connect = async () => {
    const client = await TestClient.connect(listener.port);
    clients.push(client);
    return client;
  };
  try {
    await act({
      store,
      listener,
      connect,
      append: (name, streamId = "s") => store.append({ events: [{ streamId, name }] }),
    });
  } finally {
    for (const client of clients) client[Symbol.dispose]();
    await listener.close();
  }
}

/** Subscribes; the id. */
async function subscribe(client: TestClient, ...words: string[]): Promise<string> {
  const reply = await client.ask(...words);
  const id = /^\+([0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})$/.exec(reply)?.[1];
  assert.ok(id !== undefined, reply);
  assert.match(await client.reply(), new RegExp(`^>\\[\\+subscribe, \\+${id}, :[0-9]+\\]$`));
  return id;
}

/** A push in short: `0 Created`, cursor and name of the event. */
function brief(frame: Frame): string {
  assert.equal(frame.kind, ">", show(frame));
  assert.equal(frame.items.length, 4, show(frame));
  assert.equal(show(frame.items[0]!), "+message");
  return `${textOf(frame.items[2]!)} ${textOf(field(frame.items[3]!, "event_name"))}`;
}

async function messages(client: TestClient, count: number): Promise<string[]> {
  const seen: string[] = [];
  for (let i = 0; i < count; i++) seen.push(brief(await client.frame()));
  return seen;
}

/** Nothing is pushed now: what is due would come before the last of some answers. */
async function assertSilent(client: TestClient): Promise<void> {
  for (let i = 0; i < 5; i++) assert.equal(await client.ask("PING"), "+PONG");
}

/** What INFO says of one thing. */
async function infoOf(client: TestClient, name: string, ...sections: string[]): Promise<string | undefined> {
  await client.send("INFO", ...sections);
  return new RegExp(`^${name}:(.*)\r$`, "m").exec(textOf(await client.frame()))?.[1];
}

Deno.test("the id and its confirmation leave in one write, then history, then what is appended", async () => {
  await withHouse(new MemoryStore(), async ({ connect, append, listener }) => {
    await append("a");
    await append("b");
    const socket = await Deno.connect({ hostname: "127.0.0.1", port: listener.port });
    await socket.write(commandOf("EPSUB", "*", "FROM", "0"));
    const first = new Uint8Array(64 * 1024);
    const text = new TextDecoder().decode(first.subarray(0, (await socket.read(first))!));
    assert.match(text, /^\+([0-9a-f-]{36})\r\n>3\r\n\+subscribe\r\n\+\1\r\n:1\r\n/);
    socket.close();

    const client = await connect();
    const id = await subscribe(client, "ESUB", "s", "FROM", "0");
    const frame = await client.frame();
    assert.equal(show(frame.items[1]!), `+${id}`);
    assert.equal(frame.items[3]!.kind, "%");
    assert.equal(brief(frame), "0 a");
    assert.deepEqual(await messages(client, 1), ["1 b"]);
    await append("c");
    await append("elsewhere", "t");
    await append("d");
    assert.deepEqual(await messages(client, 2), ["2 c", "3 d"]);
  });
});

Deno.test("the events of a transaction come one after another, and only those of the stream", async () => {
  await withHouse(new MemoryStore(), async ({ store, connect }) => {
    const client = await connect();
    const partitionKey = "5fd81ca5-59bf-4a9e-9149-fce4ee65c033";
    await subscribe(client, "ESUB", "txs", "PARTITION_KEY", partitionKey);
    const streams = ["txs", "other", "txs"];
    await store.append({ partitionKey, events: streams.map((streamId, i) => ({ streamId, name: `E${i}` })) });
    assert.deepEqual(await messages(client, 2), ["0 E0", "1 E2"]);
    await assertSilent(client);
  });
});

Deno.test("no more is on the way than the window allows; acknowledging moves it, back never", async () => {
  await withHouse(new MemoryStore(), async ({ connect, append }) => {
    for (let i = 0; i < 30; i++) await append(`E${i}`);
    const client = await connect();
    const id = await subscribe(client, "ESUB", "s", "FROM", "1", "WINDOW", "2");
    assert.deepEqual(await messages(client, 2), ["0 E1", "1 E2"]);
    await assertSilent(client);
    const acknowledge = async (cursor: number | string) =>
      assert.equal(await client.ask("EACK", id, String(cursor)), "+OK");
    await acknowledge(0);
    assert.deepEqual(await messages(client, 1), ["2 E3"]);
    await acknowledge(0);
    await assertSilent(client);
    await acknowledge("9007199254740991"); // Of what was sent, all: 0 to 2.
    assert.deepEqual(await messages(client, 2), ["3 E4", "4 E5"]);
    await assertSilent(client);
    await acknowledge(1); // It is at 2 already.
    await assertSilent(client);
    await acknowledge(4);
    assert.deepEqual(await messages(client, 2), ["5 E6", "6 E7"]);
    assert.match(await client.ask("EACK", "550e8400-e29b-41d4-a716-446655440000", "0"), /^-NOTFOUND /);
  });
});

Deno.test("a closed window opens on events that came while it was closed, and those alone", async () => {
  await withHouse(new MemoryStore(), async ({ connect, append }) => {
    const client = await connect();
    const id = await subscribe(client, "ESUB", "s", "WINDOW", "1");
    await append("a");
    assert.deepEqual(await messages(client, 1), ["0 a"]);
    assert.equal(await client.ask("EACK", id, "0"), "+OK");
    await append("b");
    assert.deepEqual(await messages(client, 1), ["1 b"]);
    await append("c");
    await assertSilent(client);
    assert.equal(await client.ask("EACK", id, "1"), "+OK");
    assert.deepEqual(await messages(client, 1), ["2 c"]);
    assert.equal(await client.ask("EACK", id, "2"), "+OK");
    await assertSilent(client);
  });
});

/** A store whose scans of streams stop before their second page until they are let go. */
class GatedScans extends WatchedStore {
  readonly gate = Promise.withResolvers<void>();
  readonly inside = Promise.withResolvers<void>();

  override readStream(streamId: string, options?: ReadOptions): Scan {
    const scan = super.readStream(streamId, options);
    const { gate, inside } = this;
    return new Scan(async function* () {
      let pages = 0;
      for await (const page of scan.pages()) {
        if (pages++ === 1) {
          inside.resolve();
          await gate.promise;
        }
        yield page;
      }
    });
  }
}

Deno.test("nothing is pushed inside a reply that is long in coming", async () => {
  await withHouse(new GatedScans(), async ({ store, connect, append }) => {
    await store.append({ events: Array.from({ length: 300 }, () => ({ streamId: "s", name: "E" })) });
    const client = await connect();
    await subscribe(client, "ESUB", "s");
    const other = await connect();
    await subscribe(other, "ESUB", "s");
    await client.send("ESCAN", "s", "-", "299", "COUNT", "300");
    await store.inside.promise; // A page of the reply is written.
    await append("new");
    assert.deepEqual(await messages(other, 1), ["0 new"]);
    await assertSilent(other);
    store.gate.resolve();
    const reply = await client.frame();
    assert.equal(reply.kind, "%");
    assert.equal(field(reply, "events").items.length, 300);
    assert.deepEqual(await messages(client, 1), ["0 new"]);
  });
});

Deno.test("events that were read when a reply began wait for its end", async () => {
  await withHouse(new GatedScans(), async ({ store, connect }) => {
    await store.append({ events: Array.from({ length: 300 }, (_, i) => ({ streamId: "s", name: `E${i}` })) });
    const gate = Promise.withResolvers<void>();
    const reading = Promise.withResolvers<void>();
    store.beforeRead = () => {
      reading.resolve();
      return gate.promise;
    };
    const client = await connect();
    await subscribe(client, "ESUB", "s", "FROM", "298");
    await reading.promise;
    await client.send("ESCAN", "s", "-", "+", "COUNT", "300");
    await store.inside.promise;
    gate.resolve();
    const other = await connect();
    await assertSilent(other);
    store.gate.resolve();
    assert.equal(field(await client.frame(), "events").items.length, 300);
    assert.deepEqual(await messages(client, 2), ["0 E298", "1 E299"]);
  });
});

Deno.test("a reply that breaks off closes the link although pushes were written before it", async () => {
  class BreakingScans extends GatedScans {
    override readStream(streamId: string, options?: ReadOptions): Scan {
      const scan = super.readStream(streamId, options);
      return new Scan(async function* () {
        for await (const page of scan.pages()) yield page.length === 256 ? page : page.slice(1);
      });
    }
  }
  await withHouse(new BreakingScans(), async ({ store, connect, append }) => {
    await store.append({ events: Array.from({ length: 300 }, () => ({ streamId: "s", name: "E" })) });
    const client = await connect();
    await subscribe(client, "ESUB", "s");
    await append("new");
    assert.deepEqual(await messages(client, 1), ["0 new"]);
    store.gate.resolve();
    await client.send("ESCAN", "s", "-", "+", "COUNT", "300");
    await assert.rejects(client.frame(), /The server has closed/);
  });
});

Deno.test("a read that fails after a push, before its own reply, is an error and not a broken link", async () => {
  class SlowVersion extends MemoryStore {
    readonly gate = Promise.withResolvers<void>();
    readonly inside = Promise.withResolvers<void>();
    override async streamVersion(): Promise<number | null> {
      this.inside.resolve();
      await this.gate.promise;
      throw new Damaged("file", 0, "as planned");
    }
  }
  await withHouse(new SlowVersion(), async ({ store, connect, append }) => {
    const client = await connect();
    await subscribe(client, "ESUB", "s");
    await client.send("ESVER", "s");
    await store.inside.promise;
    await append("a");
    assert.deepEqual(await messages(client, 1), ["0 a"]);
    store.gate.resolve();
    assert.match(await client.reply(), /^-READERR /);
    assert.equal(await client.ask("PING"), "+PONG");
  });
});

Deno.test("a subscription that a cluster cannot go on with ends with the code that says so", async () => {
  const store = new WatchedStore();
  await withHouse(store, async ({ connect, append }) => {
    const client = await connect();
    const ends: [Error, string][] = [
      [new NoReplica("no replica of bucket 2"), "CLUSTERDOWN no replica of bucket 2"],
      [new TryAgain("the leader is changing"), "TRYAGAIN the leader is changing"],
      [new TooFewReplicas("1 of 3"), "INSUFFICIENTREPLICAS 1 of 3"],
    ];
    for (const [error, text] of ends) {
      store.beforeRead = () => Promise.reject(error);
      const id = await subscribe(client, "ESUB", "s");
      await append("E");
      assert.equal(await client.reply(), `>[+error, +${id}, $"${text}"]`);
      assert.match(await client.ask("EACK", id, "0"), /^-NOTFOUND /);
    }
    assert.equal(store.open, 0);
  });
});

Deno.test("a link that is never quiet is pushed to as well", async () => {
  const store = new MemoryStore();
  const reply = new Encoder(3);
  let sending = 0;
  const waiters: (() => void)[] = [];
  const link: PushLink = {
    async until(reached) {
      while (!reached()) await new Promise<void>((resolve) => waiters.push(resolve));
    },
    changed() {},
    abort(why) {
      throw why;
    },
    gone: false,
    get unsentBytes() {
      return sending + reply.length;
    },
  };
  const replies: Replies = { reply, replying: false, replyErrorOf: () => assert.fail("nothing fails here") };
  const environment = systemEnvironment();
  const deliveries = new Deliveries(link, replies, { environment, turns: new Turns(environment), log: () => {} });
  reply.simple("PONG");
  deliveries.add(await store.subscribe({ partitions: "all" }), "epsub", 1000);
  await store.append({ events: [{ streamId: "s", name: "E" }] });
  for (let turn = 0; turn < 100 && deliveries.pushedBytes === 0; turn++) {
    // What was written has left, and the next reply is there already.
    sending = reply.take().length;
    reply.simple("PONG");
    for (const wake of waiters.splice(0)) wake();
    await new Promise((resolve) => setImmediate(resolve));
  }
  deliveries.end();
  assert.ok(deliveries.pushedBytes > 0, "nothing was pushed in a hundred turns");
});

Deno.test("a hundred subscriptions share a link, and commands are served between their pushes", async () => {
  await withHouse(new MemoryStore(), async ({ connect, append }) => {
    const client = await connect();
    const ids: string[] = [];
    for (let i = 0; i < 100; i++) {
      ids.push(await subscribe(client, "ESUB", "s", "FROM", "0", "WINDOW", "5000"));
    }
    const pings = 50;
    for (let i = 0; i < 20; i++) await append(`E${i}`);
    for (let i = 0; i < pings; i++) await client.send("PING");
    const seen = new Map<string, string[]>(ids.map((id) => [id, []]));
    let pongs = 0;
    for (let i = 0; i < 100 * 20 + pings; i++) {
      const frame = await client.frame();
      if (show(frame) === "+PONG") pongs++;
      else seen.get(textOf(frame.items[1]!))!.push(brief(frame));
    }
    assert.equal(pongs, pings);
    const expected = Array.from({ length: 20 }, (_, i) => `${i} E${i}`);
    for (const id of ids) assert.deepEqual(seen.get(id), expected);
    const watcher = await connect();
    assert.match(await watcher.ask("CLIENT", "LIST", "ID", "1"), / sub=100 /);
    assert.equal(await infoOf(watcher, "subscriptions"), "100");
  });
});

Deno.test("a subscriber that reads nothing holds little memory, slows nobody, and gets everything in the end", async () => {
  await withHouse(new MemoryStore(), async ({ store, connect, append }) => {
    const payload = new Uint8Array(10_000);
    const history = 2000;
    await store.append({ events: Array.from({ length: history }, () => ({ streamId: "s", name: "E", payload })) });
    const slow = await connect();
    await subscribe(slow, "ESUB", "s", "FROM", "0", "WINDOW", "1000000");
    const quick = await connect();
    await subscribe(quick, "ESUB", "s");
    const watcher = await connect();
    const held = async () => Number(/omem=([0-9]+)/.exec(await watcher.ask("CLIENT", "LIST", "ID", "1"))![1]);
    let unsent: number;
    while ((unsent = await held()) === 0 || unsent !== await held()) await watcher.ask("PING"); // Until the socket is full.
    for (let i = 0; i < 50; i++) {
      await append(`live ${i}`);
      assert.deepEqual(await messages(quick, 1), [`${i} live ${i}`]);
    }
    assert.ok(await held() < 256 * 11_000, `${await held()} bytes are held for a client that does not read`);
    for (let i = 0; i < history + 50; i++) {
      const frame = await slow.frame();
      assert.equal(textOf(field(frame.items[3]!, "stream_version")), String(i));
    }
  });
});

Deno.test("after EUNSUB nothing of the subscription is pushed, and its id is unknown", async () => {
  await withHouse(new WatchedStore(), async ({ store, connect, append }) => {
    const client = await connect();
    const first = await subscribe(client, "ESUB", "s");
    const second = await subscribe(client, "ESUB", "s");
    // An event is under way to both when the first one ends.
    const gate = Promise.withResolvers<void>();
    store.beforeRead = () => gate.promise;
    await append("a");
    assert.equal(await client.ask("EUNSUB", first), "+OK");
    gate.resolve();
    const frame = await client.frame();
    assert.equal(show(frame.items[1]!), `+${second}`);
    await assertSilent(client);
    assert.equal(store.open, 1);
    assert.match(await client.ask("EUNSUB", first), /^-NOTFOUND /);
    assert.match(await client.ask("EACK", first, "0"), /^-NOTFOUND /);
  });
});

Deno.test("a subscription that the store cannot go on with says why, and is gone", async () => {
  await withHouse(new WatchedStore(), async ({ store, connect, append }) => {
    const client = await connect();
    const id = await subscribe(client, "ESUB", "s");
    store.beforeRead = () => {
      throw new Damaged("segment", 7, "as planned");
    };
    await append("a");
    assert.equal(
      await client.reply(),
      `>[+error, +${id}, $"READERR segment is damaged at offset 7: as planned"]`,
    );
    assert.match(await client.ask("EACK", id, "0"), /^-NOTFOUND /);
    assert.equal(store.open, 0);

    store.beforeRead = () => {};
    const other = await subscribe(client, "ESUB", "s");
    await store.close();
    assert.equal(await client.reply(), `>[+error, +${other}, $"ACTORSTOPPED The store is closed"]`);
    assert.equal(await client.ask("PING"), "+PONG");
  });
});

Deno.test("RESET ends every subscription; HELLO 2 is refused while there is one", async () => {
  await withHouse(new WatchedStore(), async ({ store, connect, append }) => {
    const client = await connect();
    await subscribe(client, "ESUB", "s");
    await subscribe(client, "EPSUB", "*");
    assert.match(await client.ask("HELLO", "2"), /^-ERR .*EUNSUB.*RESET/);
    await client.send("HELLO", "3");
    assert.equal((await client.frame()).kind, "%");
    assert.equal(await client.ask("RESET"), "+RESET");
    assert.equal(store.open, 0);
    await append("a");
    await assertSilent(client);
    await client.send("HELLO", "2");
    assert.equal((await client.frame()).kind, "*");
    for (const words of [["ESUB", "s"], ["EPSUB", "*"]]) {
      assert.match(await client.ask(...words), /^-NOPROTO .*HELLO 3.*EREAD/);
    }
    assert.equal(store.subscriptions.length, 2);
  });
});

Deno.test("QUIT and a client that goes end its subscriptions", async () => {
  await withHouse(new WatchedStore(), async ({ store, connect }) => {
    const watcher = await connect();
    for (const leave of ["quit", "close", "end"]) {
      const client = await connect();
      await subscribe(client, "ESUB", "s");
      await subscribe(client, "EPSUB", "0-3,9");
      assert.equal(store.open, 2);
      if (leave === "quit") assert.equal(await client.ask("QUIT"), "+OK");
      else if (leave === "end") await client.endSending();
      else client.close();
      while (store.open > 0) await watcher.ask("PING");
      if (leave !== "close") {
        assert.equal(await client.untilClosed(), 0);
        client.close();
      }
      while (await infoOf(watcher, "connected_clients") !== "1") await watcher.ask("PING");
    }
  });
});

Deno.test("close() tells subscribers, stalled ones too, and does not wait for its time to run out", async () => {
  await withHouse(new WatchedStore(), async ({ store, listener, connect, append }) => {
    await append("a");
    await append("b");
    const client = await connect();
    const stalled = await subscribe(client, "ESUB", "s", "FROM", "0", "WINDOW", "1");
    assert.deepEqual(await messages(client, 1), ["0 a"]);
    const idle = await subscribe(client, "EPSUB", "*");
    const closed = listener.close();
    for (const id of [stalled, idle]) {
      assert.match(await client.reply(), new RegExp(`^>\\[\\+error, \\+${id}, \\$"ACTORSTOPPED `));
    }
    assert.equal(await client.untilClosed(), 0);
    await closed;
    assert.equal(store.open, 0);
  }, { drainMs: 60_000 });
});

Deno.test("INFO SUBSCRIPTIONS shows where each subscription is, and how far behind", async () => {
  let now = 1_000_000;
  const environment = {
    now: () => now,
    monotonic: () => now,
    random: (bytes: Uint8Array) => void crypto.getRandomValues(bytes),
    pause: () => new Promise<void>((resolve) => setTimeout(resolve, 0)),
    fatal: (reason: Error): never => {
      throw reason;
    },
  };
  await withHouse(new MemoryStore(), async ({ connect, append }) => {
    const streamId = "a,b=c\r\n%";
    await append("a", streamId);
    await append("b", streamId);
    await append("c", streamId);
    const client = await connect();
    await client.ask("CLIENT", "SETNAME", "x,y=z");
    const id = await subscribe(client, "ESUB", streamId, "FROM", "0", "WINDOW", "2");
    assert.deepEqual(await messages(client, 2), ["0 a", "1 b"]);
    await client.ask("EACK", id, "0");
    assert.deepEqual(await messages(client, 1), ["2 c"]);
    const other = await connect();
    const live = await subscribe(other, "EPSUB", "*");
    await append("d", streamId);
    assert.deepEqual(await messages(other, 1), ["0 d"]);
    now += 7500;
    const first = await infoOf(other, "subscription0", "subscriptions");
    assert.match(
      first!,
      new RegExp(
        `^id=${id},client=1,addr=127\\.0\\.0\\.1:[0-9]+,name=x%2Cy%3Dz,cmd=esub,position=a%2Cb%3Dc%0D%0A%25:2,` +
          `cursor=2,acked=0,unacknowledged=2,window=2,lag=1,lag_seconds=7$`,
      ),
    );
    assert.match(
      (await infoOf(other, "subscription1", "everything"))!,
      new RegExp(
        `^id=${live},client=2,.*,cmd=epsub,position=[0-9]+:3,cursor=0,acked=-1,unacknowledged=1,.*lag_seconds=0$`,
      ),
    );
    assert.equal(await infoOf(other, "subscription0"), undefined);
    assert.equal(await infoOf(other, "subscription0", "all"), undefined);
  }, { environment });
});

Deno.test("a thousand pipelined commands of every kind between pushes keep their order", async () => {
  await withHouse(new MemoryStore(), async ({ connect }) => {
    const client = await connect();
    await subscribe(client, "EPSUB", "*", "WINDOW", "100000");
    const commands: Uint8Array[] = [];
    for (let i = 0; i < 300; i++) {
      commands.push(commandOf("EAPPEND", "s", `E${i}`), commandOf("ESCAN", "s", String(i), "+"), commandOf("PING"));
    }
    await client.raw(joinBytes(commands));
    let replies = 0;
    const pushed: string[] = [];
    while (replies < 900 || pushed.length < 300) {
      const frame = await client.frame();
      if (frame.kind === ">") {
        pushed.push(brief(frame));
        continue;
      }
      const i = Math.floor(replies / 3);
      if (replies % 3 === 0) assert.equal(textOf(field(frame, "stream_version")), String(i));
      else if (replies % 3 === 1) assert.equal(field(frame, "events").items.length, 1);
      else assert.equal(show(frame), "+PONG");
      replies++;
    }
    assert.deepEqual(pushed, Array.from({ length: 300 }, (_, i) => `${i} E${i}`));
  });
});
