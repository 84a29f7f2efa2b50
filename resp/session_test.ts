import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { NoReplica, OutcomeUnknown, TooFewReplicas, TryAgain } from "../core/errors.ts";
import { appendedOf, type AppendReceiver, type AppendResult, type Transaction } from "../core/event.ts";
import { MemoryStore } from "../core/memory_store.ts";
import { Scan } from "../core/store.ts";
import { listen } from "./mod.ts";
import { commandOf, joinBytes, TestClient } from "./test_client.ts";

/** A store whose appends wait to be let go, so that a test sees which are under way together. */
class GatedStore extends MemoryStore {
  readonly waiting: (() => void)[] = [];
  started = 0;
  #watchers: (() => void)[] = [];

  override append(transaction: Transaction): Promise<AppendResult> {
    this.started++;
    const gate = new Promise<void>((resolve) => this.waiting.push(resolve));
    for (const wake of this.#watchers.splice(0)) wake();
    return gate.then(() => super.append(transaction));
  }

  async untilStarted(count: number): Promise<void> {
    while (this.started < count) await new Promise<void>((resolve) => this.#watchers.push(resolve));
  }

  letGo(count = this.waiting.length): void {
    for (const go of this.waiting.splice(0, count)) go();
  }
}

async function withStore<S extends MemoryStore>(store: S, act: (client: TestClient, store: S) => Promise<void>) {
  const listener = listen(store, { hostname: "127.0.0.1", port: 0, version: "0", peerId: "peer" });
  const client = await TestClient.connect(listener.port);
  try {
    await act(client, store);
  } finally {
    client.close();
    await listener.close();
  }
}

function append(name: string): Uint8Array {
  return commandOf("EAPPEND", "s", name);
}

Deno.test("appends that follow one another are under way together, and answered in order", async () => {
  await withStore(new GatedStore(), async (client, store) => {
    await client.raw(joinBytes([append("a"), append("b"), commandOf("PING"), append("c")]));
    await store.untilStarted(3);
    store.letGo();
    for (const version of [0, 1]) assert.match(await client.reply(), new RegExp(`\\+stream_version, :${version},`));
    assert.equal(await client.reply(), "+PONG");
    assert.match(await client.reply(), /\+stream_version, :2,/);
  });
});

Deno.test("a later append that is decided first is answered in its place", async () => {
  await withStore(new GatedStore(), async (client, store) => {
    await client.raw(joinBytes([append("a"), append("b")]));
    await store.untilStarted(2);
    store.waiting.pop()!();
    store.letGo();
    assert.match(await client.reply(), /\+stream_version, :1,/);
    assert.match(await client.reply(), /\+stream_version, :0,/);
  });
});

Deno.test("a read sees the appends before it and none behind it", async () => {
  await withStore(new GatedStore(), async (client, store) => {
    await client.raw(
      joinBytes([append("a"), append("b"), commandOf("ESVER", "s"), append("c"), commandOf("ESVER", "s")]),
    );
    await store.untilStarted(2);
    store.letGo();
    await client.reply();
    await client.reply();
    assert.equal(await client.reply(), ":1");
    await store.untilStarted(3);
    store.letGo();
    await client.reply();
    assert.equal(await client.reply(), ":2");
  });
});

Deno.test("an append directly followed by a read is always seen, over many commands", async () => {
  await withStore(new MemoryStore(), async (client) => {
    const commands = Array.from({ length: 2000 }, (_, i) => i % 2 === 0 ? append("x") : commandOf("ESVER", "s"));
    await client.raw(joinBytes(commands));
    for (let i = 0; i < 2000; i++) {
      const reply = await client.reply();
      if (i % 2 === 1) assert.equal(reply, `:${(i - 1) / 2}`);
    }
  });
});

Deno.test("a refused append takes its place among the answers, and leaves no trace", async () => {
  await withStore(new MemoryStore(), async (client) => {
    await client.raw(joinBytes([
      append("a"),
      commandOf("EAPPEND", "s", "b", "EXPECTED_VERSION", "7"),
      commandOf("EAPPEND", "s"),
      commandOf("NONSENSE"),
      append("c"),
      commandOf("ESVER", "s"),
    ]));
    assert.match(await client.reply(), /:0/);
    assert.match(await client.reply(), /^-WRONGVER .*"s".*expected version 7, current version 0$/);
    assert.match(await client.reply(), /^-INVALIDARG The event name is missing/);
    assert.match(await client.reply(), /^-ERR unknown command 'NONSENSE', with args beginning with: $/);
    assert.match(await client.reply(), /\+stream_version, :1,/);
    assert.equal(await client.reply(), ":1");
  });
});

Deno.test("a protocol change holds for the replies behind it, not for those before", async () => {
  await withStore(new MemoryStore(), async (client) => {
    await client.raw(joinBytes([
      commandOf("ESVER", "none"),
      commandOf("HELLO", "3"),
      commandOf("ESVER", "none"),
      commandOf("HELLO", "2"),
      commandOf("ESVER", "none"),
    ]));
    assert.equal(await client.reply(), "$-1");
    assert.match(await client.reply(), /^%\{/);
    assert.equal(await client.reply(), "_");
    assert.match(await client.reply(), /^\*\[/);
    assert.equal(await client.reply(), "$-1");
  });
});

Deno.test("payloads stay what they were although the read buffer is used again", async () => {
  await withStore(new GatedStore(), async (client, store) => {
    const payloads = Array.from({ length: 200 }, (_, i) => `payload ${i} `.repeat(1 + i * 3));
    for (const payload of payloads) await client.send("EAPPEND", "s", "E", payload, "METADATA", payload + "m");
    await store.untilStarted(200);
    store.letGo();
    for (const _ of payloads) await client.reply();
    const stored = await Array.fromAsync(store.readStream("s"));
    const decoder = new TextDecoder();
    assert.deepEqual(stored.map((event) => decoder.decode(event.payload)), payloads);
    assert.deepEqual(stored.map((event) => decoder.decode(event.metadata)), payloads.map((payload) => payload + "m"));
  });
});

Deno.test("an unforeseen failure of an append is unknown to the client, and logged", async () => {
  class FailingStore extends MemoryStore {
    override append(): Promise<AppendResult> {
      return Promise.reject(new Error("secret /path"));
    }
  }
  const logged: string[] = [];
  const log = (_level: string, message: string) => void logged.push(message);
  const listener = listen(new FailingStore(), { hostname: "127.0.0.1", port: 0, version: "0", peerId: "peer", log });
  using client = await TestClient.connect(listener.port);
  const reply = await client.ask("EAPPEND", "s", "E");
  assert.match(reply, /^-UNKNOWN /);
  assert.doesNotMatch(reply, /secret/);
  assert.deepEqual(logged, ["Could not carry out EAPPEND"]);
  await listener.close();
});

Deno.test("an append of which nobody can say whether it is stored is unknown, and those beside it are answered as ever", async () => {
  const errors: Record<string, Error> = {
    unknown: new OutcomeUnknown("the leader was lost"),
    few: new TooFewReplicas("1 of 3"),
    none: new NoReplica("nobody"),
    soon: new TryAgain("the leader is changing"),
  };
  class ClusterStore extends MemoryStore {
    override append(transaction: Transaction): Promise<AppendResult> {
      const error = errors[transaction.events[0]!.name];
      return error === undefined ? super.append(transaction) : Promise.reject(error);
    }
  }
  class ToldStore extends ClusterStore {
    appendFor(transaction: Transaction, receiver: AppendReceiver): void {
      this.append(transaction).then(appendedOf).then(
        (appended) => receiver.stored(appended),
        (error) => receiver.refused(error),
      );
    }
  }
  for (const store of [new ClusterStore(), new ToldStore()]) {
    await withStore(store, async (client) => {
      const key = "5fd81ca5-59bf-4a9e-9149-fce4ee65c033";
      const names = ["E", "unknown", "few", "E", "none", "soon", "unknown", "E"];
      const expected = [/\+stream_version, :0/, /^-UNKNOWN the leader was lost$/, /^-INSUFFICIENTREPLICAS 1 of 3$/]
        .concat([/\+stream_version, :1/, /^-CLUSTERDOWN nobody$/, /^-TRYAGAIN the leader/, /^-UNKNOWN /])
        .concat([/\+stream_version, :2/]);
      for (const words of [["EAPPEND", "s"], ["EMAPPEND", key, "s"]]) {
        await client.raw(joinBytes(names.map((name) => commandOf(...words, name))));
        for (const reply of expected) assert.match(await client.reply(), reply);
      }
      await client.raw(joinBytes([append("unknown"), commandOf("ESVER", "s"), append("unknown"), append("E")]));
      for (const reply of [/^-UNKNOWN /, /^:2$/, /^-UNKNOWN /, /\+stream_version, :3/]) {
        assert.match(await client.reply(), reply);
      }
      assert.match(await client.ask("EACK", key, "0"), /^-NOTFOUND /); // It says nothing of what is stored.
    });
  }
});

Deno.test("a scan that fails before its first event is an error; one that fails later closes the link", async () => {
  class FailingStore extends MemoryStore {
    failAfter = 0;
    override readStream(...args: Parameters<MemoryStore["readStream"]>): Scan {
      const scan = super.readStream(...args);
      const { failAfter } = this;
      return new Scan(async function* () {
        let pages = 0;
        for await (const page of scan.pages()) {
          if (pages++ === failAfter) throw new Error("The disk has gone");
          yield page;
        }
      });
    }
  }
  await withStore(new FailingStore(), async (client, store) => {
    const transaction = { events: Array.from({ length: 600 }, () => ({ streamId: "s", name: "E" })) };
    await store.append(transaction);
    assert.match(await client.ask("ESCAN", "s", "-", "+"), /^-ERR Internal error/);
    assert.equal(await client.ask("PING"), "+PONG");
    store.failAfter = 1;
    await client.send("ESCAN", "s", "-", "+", "COUNT", "600");
    await assert.rejects(client.reply(), /The server has closed/);
  });
});

Deno.test("a store that answers with what is no id is an error of the append, and the link goes on", async () => {
  class Odd extends MemoryStore {
    override append(): Promise<AppendResult> {
      const event = { eventId: "no id", streamId: "s", version: 0, sequence: 0, timestamp: 1 };
      return Promise.resolve({
        partitionKey: "no key",
        partition: 0,
        firstSequence: 0,
        lastSequence: 0,
        events: [event],
      });
    }
  }
  await withStore(new Odd(), async (client) => {
    await client.raw(joinBytes([append("a"), commandOf("PING")]));
    assert.match(await client.reply(), /^-/);
    assert.match(await client.reply(), /PONG/);
  });
});

Deno.test("a listener that closes waits for the appends of a link that is gone, those behind a read as well", async () => {
  const store = new GatedStore();
  const listener = listen(store, { hostname: "127.0.0.1", port: 0, version: "0", peerId: "peer", drainMs: 1 });
  const client = await TestClient.connect(listener.port);
  await client.raw(joinBytes([append("a"), commandOf("ESVER", "s"), append("b")]));
  await store.untilStarted(1);
  let closed = false;
  const closing = listener.close().then(() => closed = true);
  await assert.rejects(client.reply()); // The link is gone.
  store.letGo(1);
  await store.untilStarted(2);
  for (let turns = 0; turns < 20; turns++) await new Promise((resolve) => void setImmediate(resolve));
  assert.equal(closed, false);
  store.letGo();
  await closing;
  client.close();
});
