import assert from "node:assert/strict";
import { Chance } from "../../core/chance.ts";
import { MemoryStore } from "../../core/memory_store.ts";
import type { Selection, Subscription } from "../../core/store.ts";
import { listen, type Listener, type ListenOptions } from "../mod.ts";
import { commandOf, field, type Frame, joinBytes, show, TestClient, textOf } from "../test_client.ts";

const KEY = "5fd81ca5-59bf-4a9e-9149-fce4ee65c033"; // Of partition 7.

class WatchedStore extends MemoryStore {
  readonly subscriptions: Subscription[] = [];

  override async subscribe(selection: Selection): Promise<Subscription> {
    const subscription = await super.subscribe(selection);
    this.subscriptions.push(subscription);
    return subscription;
  }

  get open(): number {
    return this.subscriptions.filter((subscription) => !subscription.closed).length;
  }
}

interface House {
  store: WatchedStore;
  listener: Listener;
  connect: () => Promise<TestClient>;
  append: (streamId: string, ...names: string[]) => Promise<unknown>;
}

async function withHouse(act: (house: House) => Promise<void>, options: Partial<ListenOptions> = {}): Promise<void> {
  const store = new WatchedStore();
  const listener = listen(store, { hostname: "127.0.0.1", port: 0, version: "0", peerId: "peer", ...options });
  const clients: TestClient[] = [];
  const connect = async () => {
    const client = await TestClient.connect(listener.port);
    clients.push(client);
    return client;
  };
  const append = (streamId: string, ...names: string[]) =>
    store.append({ partitionKey: KEY, events: names.map((name) => ({ streamId, name })) });
  try {
    await act({ store, listener, connect, append });
    assert.equal(store.open, 0, "a subscription was left open");
  } finally {
    for (const client of clients) client[Symbol.dispose]();
    await listener.close();
  }
}

/** A reply in short: names of the events, and `…` where there are more. */
function brief(frame: Frame): string {
  if (frame.kind !== "*" && frame.kind !== "%" || frame.items.length !== 4) return show(frame);
  const names = field(frame, "events").items.map((event) => textOf(field(event, "event_name")));
  if (["#t", ":1"].includes(show(field(frame, "has_more")))) names.push("…");
  return names.join(" ");
}

async function ask(client: TestClient, ...words: string[]): Promise<string> {
  await client.send(...words);
  return brief(await client.frame());
}

async function blockedClients(watcher: TestClient): Promise<number> {
  await watcher.send("INFO", "clients");
  return Number(/^blocked_clients:([0-9]+)\r$/m.exec(textOf(await watcher.frame()))![1]);
}

async function untilBlocked(watcher: TestClient, count: number): Promise<void> {
  while (await blockedClients(watcher) !== count) await watcher.ask("PING");
}

Deno.test("EREAD reads partitions and streams on from where the client is, like a scan", async () => {
  await withHouse(async ({ connect, append }) => {
    await append("a", "a0", "a1");
    await append("b", "b0");
    await append("a", "a2");
    for (const protocol of ["2", "3"]) {
      const client = await connect();
      await client.send("HELLO", protocol);
      await client.frame();
      assert.equal(await ask(client, "EREAD", "PARTITIONS", "7", "0"), "a0 a1 b0 a2");
      assert.equal(await ask(client, "EREAD", "PARTITIONS", KEY, "2"), "b0 a2");
      assert.equal(await ask(client, "EREAD", "COUNT", "2", "PARTITIONS", "7", "1", "3", "0"), "a1 b0 …");
      assert.equal(await ask(client, "EREAD", "COUNT", "3", "PARTITIONS", "7", "1"), "a1 b0 a2");
      assert.equal(await ask(client, "EREAD", "STREAMS", "a", "PARTITION_KEY", KEY, "1"), "a1 a2");
      const both = ["STREAMS", "a", "PARTITION_KEY", KEY, "0", "b", "PARTITION_KEY", KEY, "0"];
      assert.deepEqual((await ask(client, "EREAD", ...both)).split(" ").sort(), ["a0", "a1", "a2", "b0"]);
      assert.equal(await ask(client, "EREAD", "STREAMS", "a", "0"), "", "another key is another stream");
      assert.equal(await ask(client, "EREAD", "PARTITIONS", "7", "4"), "");
      assert.equal(await ask(client, "EREAD", "PARTITIONS", "7", "1000"), "");
      assert.equal(await ask(client, "EREAD", "COUNT", "0", "PARTITIONS", "7", "0"), "…");
      assert.equal(await ask(client, "EREAD", "COUNT", "0", "PARTITIONS", "7", "4"), "");
      assert.equal(await ask(client, "EREAD", "BLOCK", "0", "COUNT", "1", "PARTITIONS", "7", "3"), "a2");
    }
  });
});

Deno.test("a chain of EREADs, each from where the last one ended, sees everything once", async () => {
  await withHouse(async ({ store, connect }) => {
    const chance = new Chance(11);
    for (let i = 0; i < 300; i++) await store.append({ events: [{ streamId: `s${chance.below(40)}`, name: `E${i}` }] });
    const client = await connect();
    const next = new Map(Array.from({ length: 32 }, (_, partition) => [partition, 0]));
    const seen = new Set<string>();
    for (;;) {
      const starts = [...next].flatMap(([partition, sequence]) => [String(partition), String(sequence)]);
      await client.send("EREAD", "COUNT", String(1 + chance.below(50)), "PARTITIONS", ...starts);
      const frame = await client.frame();
      for (const event of field(frame, "events").items) {
        const partition = Number(textOf(field(event, "partition_id")));
        assert.equal(Number(textOf(field(event, "partition_sequence"))), next.get(partition));
        next.set(partition, next.get(partition)! + 1);
        seen.add(textOf(field(event, "event_name")));
      }
      if (show(field(frame, "has_more")) === ":0") break;
    }
    assert.equal(seen.size, 300);
  });
});

Deno.test("a waiting EREAD is woken by an append, and by nothing else", async () => {
  await withHouse(async ({ store, connect, append }) => {
    const client = await connect();
    const watcher = await connect();
    const wakes = async (name: string, ...words: string[]) => {
      await client.send("EREAD", "BLOCK", "0", ...words);
      await untilBlocked(watcher, 1);
      await append("elsewhere", "other stream");
      await store.append({ events: [{ streamId: "a", name: "other key" }] });
      assert.equal(await blockedClients(watcher), 1);
      await append("a", name);
      assert.equal(brief(await client.frame()), name);
      await untilBlocked(watcher, 0);
    };
    await wakes("first", "STREAMS", "a", "PARTITION_KEY", KEY, "0");
    await wakes("second", "STREAMS", "b", "0", "a", "PARTITION_KEY", KEY, "1");
    await wakes("third", "PARTITIONS", "9", "0", "7", "5");
  });
});

Deno.test("BLOCK that runs out is null on either protocol, and what waited behind it is answered", async () => {
  await withHouse(async ({ connect }) => {
    const client = await connect();
    await client.raw(joinBytes([
      commandOf("EREAD", "BLOCK", "20", "PARTITIONS", "7", "0"),
      commandOf("HELLO", "3"),
      commandOf("EAPPEND", "a", "E", "PARTITION_KEY", KEY),
      commandOf("EREAD", "BLOCK", "20", "STREAMS", "nothing", "0"),
      commandOf("EREAD", "BLOCK", "20", "PARTITIONS", "7", "0"),
    ]));
    assert.equal(await client.reply(), "$-1");
    assert.equal((await client.frame()).kind, "%");
    assert.match(await client.reply(), /stream_version: :0/);
    assert.equal(await client.reply(), "_");
    assert.equal(brief(await client.frame()), "E");
  });
});

Deno.test("pushes of subscriptions go on while an EREAD waits on the same link", async () => {
  await withHouse(async ({ connect, append }) => {
    const client = await connect();
    const watcher = await connect();
    await client.send("EPSUB", "7");
    await client.reply();
    await client.reply();
    await client.send("EREAD", "BLOCK", "0", "PARTITIONS", "8", "0");
    await untilBlocked(watcher, 1);
    await append("a", "pushed");
    const frame = await client.frame();
    assert.equal(textOf(field(frame.items[3]!, "event_name")), "pushed");
    assert.equal(await blockedClients(watcher), 1);
    await client.send("PING");
    client.close();
    await untilBlocked(watcher, 0);
    while (!(await watcher.ask("INFO", "clients")).includes("subscriptions:0\r")) await watcher.ask("PING");
  }, { initialProtocol: 3 });
});

Deno.test("a client that goes ends its wait, however much it has sent behind it", async () => {
  await withHouse(async ({ store, connect }) => {
    const watcher = await connect();
    const wait = commandOf("EREAD", "BLOCK", "0", "PARTITIONS", "7", "0");
    const behind = {
      nothing: new Uint8Array(0),
      "as many as may be pending": joinBytes(Array(1025).fill(commandOf("PING"))),
      "more than is read ahead in one go": joinBytes(Array(5000).fill(commandOf("ESVER", "s"))),
      "half a command": commandOf("EAPPEND", "s", "x".repeat(1000)).subarray(0, 500),
      "another wait": joinBytes([wait, wait]),
      QUIT: commandOf("QUIT"),
    };
    for (const [what, bytes] of Object.entries(behind)) {
      for (const how of ["close", "end"]) {
        const client = await connect();
        await client.raw(wait);
        await untilBlocked(watcher, 1);
        await client.raw(bytes);
        await watcher.ask("PING");
        if (how === "close") client.close();
        else {
          await client.endSending();
          assert.equal(await client.reply(), "$-1", what);
          await client.untilClosed();
          client.close();
        }
        await untilBlocked(watcher, 0);
        while (store.open > 0) await watcher.ask("PING");
        while (!(await watcher.ask("INFO", "clients")).includes("connected_clients:1\r")) await watcher.ask("PING");
      }
    }
  });
});

Deno.test("a wait ends when more stands behind it than is read ahead", async () => {
  await withHouse(async ({ connect }) => {
    const client = await connect();
    const watcher = await connect();
    await client.send("EREAD", "BLOCK", "0", "PARTITIONS", "7", "0");
    await untilBlocked(watcher, 1);
    const count = 40_000;
    const sending = client.raw(
      joinBytes(Array.from({ length: count }, (_, i) => commandOf("ECHO", `message ${i} ${"x".repeat(30)}`))),
    );
    assert.equal(await client.reply(), "$-1");
    for (let i = 0; i < count; i++) assert.match(await client.reply(), new RegExp(`^\\$"message ${i} `));
    await sending;
  });
});

Deno.test("close() ends waits at once, and answers what stands behind them", async () => {
  await withHouse(async ({ listener, connect }) => {
    const client = await connect();
    const full = await connect();
    const watcher = await connect();
    const wait = commandOf("EREAD", "BLOCK", "0", "PARTITIONS", "7", "0");
    await client.raw(joinBytes([wait, commandOf("PING"), wait, commandOf("ESVER", "s")]));
    await full.raw(joinBytes([wait, ...Array(3000).fill(commandOf("PING"))]));
    await untilBlocked(watcher, 2);
    const closed = listener.close();
    for (const expected of ["$-1", "+PONG", "$-1", "$-1"]) assert.equal(await client.reply(), expected);
    assert.equal(await client.untilClosed(), 0);
    client.close();
    assert.equal(await full.reply(), "$-1");
    // What was read is answered, and then the link closes.
    for (let i = 0; i < 1023; i++) assert.equal(await full.reply(), "+PONG");
    await full.untilClosed();
    full.close();
    await closed;
  }, { drainMs: 60_000 });
});

Deno.test("thousands of waiting EREADs cost nothing while nothing happens, and all are woken", async () => {
  await withHouse(async ({ store, connect, append }) => {
    const watcher = await connect();
    const clients: TestClient[] = [];
    const count = 2000;
    for (let i = 0; i < count; i++) {
      const client = await connect();
      await client.send("EREAD", "BLOCK", "60000", "PARTITIONS", "7", "0");
      clients.push(client);
    }
    await untilBlocked(watcher, count);
    const before = store.subscriptions.length;
    for (let i = 0; i < 100; i++) assert.equal(await watcher.ask("PING"), "+PONG");
    assert.equal(store.subscriptions.length, before);
    await append("a", "E");
    for (const client of clients) assert.equal(brief(await client.frame()), "E");
    assert.equal(await blockedClients(watcher), 0);
    for (const client of clients) client.close();
  });
});

Deno.test("a large COUNT is answered in pieces of some MiB, each saying that there is more", async () => {
  await withHouse(async ({ store, connect }) => {
    const payload = new Uint8Array(2000);
    for (let i = 0; i < 10; i++) {
      await store.append({ events: Array.from({ length: 200 }, () => ({ streamId: "s", name: "E", payload })) });
    }
    const client = await connect();
    let next = 0;
    let replies = 0;
    for (let more = true; more; replies++) {
      await client.send("EREAD", "COUNT", "1000000", "STREAMS", "s", String(next));
      const frame = await client.frame();
      const events = field(frame, "events").items;
      more = show(field(frame, "has_more")) === ":1";
      assert.ok(events.length > 0 || !more);
      for (const event of events) assert.equal(textOf(field(event, "stream_version")), String(next++));
    }
    assert.equal(next, 2000);
    assert.ok(replies >= 3, `${replies} replies`);
  });
});

Deno.test("EREAD takes a thousand keys and no more, each once", async () => {
  await withHouse(async ({ connect }) => {
    const client = await connect();
    const streams = (count: number) => Array.from({ length: count }, (_, i) => [`s${i}`, "0"]).flat();
    assert.equal(await ask(client, "EREAD", "STREAMS", ...streams(1024)), "");
    assert.match(await client.ask("EREAD", "STREAMS", ...streams(1025)), /^-INVALIDARG .*1024/);
  });
});
