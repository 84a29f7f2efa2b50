import assert from "node:assert/strict";
import { EVENT_NAME_BYTES_MAX } from "../core/event.ts";
import { MemoryStore } from "../core/memory_store.ts";
import { type ReadOptions, Scan } from "../core/store.ts";
import { listen, type ListenOptions } from "./mod.ts";
import { commandOf, field, joinBytes, TestClient, textOf } from "./test_client.ts";

function serve(store = new MemoryStore(), options: Partial<ListenOptions> = {}) {
  const listener = listen(store, { hostname: "127.0.0.1", port: 0, version: "0", peerId: "peer", ...options });
  return { store, listener, connect: () => TestClient.connect(listener.port) };
}

/** What INFO says of one thing. */
async function infoOf(client: TestClient, name: string): Promise<string> {
  await client.send("INFO");
  return new RegExp(`^${name}:(.*)\r$`, "m").exec(textOf(await client.frame()))![1]!;
}

Deno.test("a broken frame is answered, and then the link closes", async () => {
  const { listener, connect } = serve();
  const client = await connect();
  await client.raw(joinBytes([commandOf("PING"), new TextEncoder().encode("*1\r\n$-1\r\n"), commandOf("PING")]));
  assert.equal(await client.reply(), "+PONG");
  assert.equal(await client.reply(), "-ERR Protocol error: invalid bulk length");
  assert.equal(await client.untilClosed(), 0);
  client.close();
  await listener.close();
});

Deno.test("a command over the limit stores nothing, gets an error, and the link lives on", async () => {
  const { store, listener, connect } = serve(undefined, { limits: { commandBytesMax: 100_000, wordsMax: 50 } });
  const client = await connect();
  assert.match(await client.ask("EAPPEND", "s", "E", "x".repeat(200_000)), /^-DBOPFAILED .*100000/);
  assert.match(await client.ask("EMAPPEND", ...Array(60).fill("x")), /^-DBOPFAILED .*61 words/);
  assert.match(await client.ask("EAPPEND", "s", "x".repeat(EVENT_NAME_BYTES_MAX + 1)), /^-DBOPFAILED /);
  assert.equal(store.status().events, 0);
  assert.match(await client.ask("EAPPEND", "s", "E", "x".repeat(90_000)), /stream_version, :0/);
  client.close();
  await listener.close();
});

Deno.test("inline commands work, and several in one packet", async () => {
  const { listener, connect } = serve();
  const client = await connect();
  await client.raw(`PING\r\nEAPPEND user-1 Created '{"name": "Alice"}'\r\nESVER user-1\n`);
  assert.equal(await client.reply(), "+PONG");
  assert.match(await client.reply(), /stream_version, :0/);
  assert.equal(await client.reply(), ":0");
  await client.raw("ESCAN user-1 - +\r\n");
  const events = field(await client.frame(), "events");
  assert.equal(textOf(field(events.items[0]!, "payload")), `{"name": "Alice"}`);
  client.close();
  await listener.close();
});

/** Bytes of replies that wait for a client. */
async function unsentBytes(watcher: TestClient, id: number): Promise<number> {
  return Number(/omem=([0-9]+)/.exec(await watcher.ask("CLIENT", "LIST", "ID", String(id)))![1]);
}

Deno.test("a client that never reads is no longer read, and memory stays bounded", async () => {
  const { listener, connect } = serve(undefined, { limits: { outputBytesMax: 100_000 } });
  const slow = await connect();
  const id = Number((await slow.ask("CLIENT", "ID")).slice(1));
  const watcher = await connect();
  const message = commandOf("ECHO", new Uint8Array(10_000));
  let sent = 0;
  const sending = (async () => {
    for (; sent < 5000; sent++) await slow.raw(message);
  })();
  while (await unsentBytes(watcher, id) < 100_000) await watcher.ask("PING");
  for (let i = 0; i < 200; i++) assert.ok(await unsentBytes(watcher, id) <= 120_000);
  assert.ok(sent < 5000, "the client could send all that it wanted");
  // When the client reads again, everything is there.
  for (let i = 0; i < 5000; i++) assert.equal((await slow.frame()).bytes!.length, 10_000);
  await sending;
  slow.close();
  watcher.close();
  await listener.close();
});

Deno.test("many scans at once, and large answers behind them, wait for their reader too", async () => {
  const { store, listener, connect } = serve(undefined, { limits: { outputBytesMax: 100_000 } });
  const payload = new Uint8Array(10_000);
  await store.append({ events: Array.from({ length: 100 }, () => ({ streamId: "s", name: "E", payload })) });
  const slow = await connect();
  const id = Number((await slow.ask("CLIENT", "ID")).slice(1));
  const commands = Array.from(
    { length: 100 },
    (_, i) => commandOf(...i % 2 ? ["COMMAND", "DOCS"] : ["ESCAN", "s", "-", "+"]),
  );
  await slow.raw(joinBytes(commands));
  const watcher = await connect();
  while (await unsentBytes(watcher, id) < 100_000) await watcher.ask("PING");
  // A page of all hundred events, and less than the limit before it.
  for (let i = 0; i < 200; i++) assert.ok(await unsentBytes(watcher, id) <= 1_200_000);
  for (let i = 0; i < 100; i++) {
    const reply = await slow.frame();
    if (i % 2 === 0) assert.equal(field(reply, "events").items.length, 100);
    else assert.ok(reply.items.length > 20);
  }
  slow.close();
  watcher.close();
  await listener.close();
});

Deno.test("close() cuts off a client that does not take its replies, and resolves", async () => {
  const logged: string[] = [];
  const { store, listener, connect } = serve(undefined, {
    limits: { outputBytesMax: 100_000 },
    drainMs: 50,
    log: (_level, message) => void logged.push(message),
  });
  const payload = new Uint8Array(100_000);
  await store.append({ events: Array.from({ length: 100 }, () => ({ streamId: "s", name: "E", payload })) });
  const slow = await connect();
  const id = Number((await slow.ask("CLIENT", "ID")).slice(1));
  const watcher = await connect();
  await slow.raw(joinBytes([commandOf("ESCAN", "s", "-", "+"), commandOf("EAPPEND", "s", "last")]));
  while (await unsentBytes(watcher, id) < 100_000) await watcher.ask("PING");
  await listener.close();
  assert.deepEqual(logged, ["Closed a link that was not drained in time"]);
  await slow.untilClosed();
  slow.close();
  watcher.close();
});

Deno.test("a scan of many events goes no faster than its reader, and arrives whole", async () => {
  let pagesRead = 0;
  class LongStore extends MemoryStore {
    override streamVersion(): Promise<number | null> {
      return Promise.resolve(4_999);
    }
    override readStream(streamId: string, { from = 0, end = 0 }: ReadOptions = {}): Scan {
      return new Scan(async function* () {
        for (let version = from; version < end; version += 20) {
          await Promise.resolve();
          pagesRead++;
          yield Array.from({ length: 20 }, (_, i) => ({
            eventId: "01a20505-26b5-bd87-945c-2e28ce9cb943",
            partitionKey: "e7a265f9-46bb-55fc-945c-3571e2aaa17e",
            partition: 16,
            transactionId: "01a20505-26b5-bd87-945c-2e28ce9cb943",
            sequence: version + i,
            streamId,
            version: version + i,
            name: "E",
            timestamp: 1,
            metadata: new Uint8Array(0),
            payload: new Uint8Array(10_000),
          }));
        }
      });
    }
  }
  const { listener, connect } = serve(new LongStore(), { limits: { outputBytesMax: 100_000 } });
  const client = await connect();
  await client.send("ESCAN", "s", "-", "+", "COUNT", "5000");
  const watcher = await connect();
  while (await unsentBytes(watcher, 1) < 100_000) await watcher.ask("PING");
  for (let i = 0; i < 200; i++) await watcher.ask("PING");
  assert.ok(pagesRead < 150, `${pagesRead} pages were read for a client that reads nothing`);
  const reply = await client.frame();
  const events = field(reply, "events").items;
  assert.equal(events.length, 5_000);
  events.forEach((event, i) => {
    if (textOf(field(event, "stream_version")) !== String(i)) assert.fail(`event ${i} is out of place`);
  });
  assert.equal(await client.ask("PING"), "+PONG");
  client.close();
  watcher.close();
  await listener.close();
});

Deno.test("one client more than may be is told so and closed", async () => {
  const { listener, connect } = serve(undefined, { limits: { clientsMax: 1 } });
  const first = await connect();
  assert.equal(await first.ask("PING"), "+PONG");
  const second = await connect();
  await second.send("PING");
  assert.equal(await second.reply(), "-ERR max number of clients reached");
  assert.equal(await second.untilClosed(), 0);
  assert.equal(await infoOf(first, "rejected_connections"), "1");
  assert.equal(listener.connections, 1);
  first.close();
  second.close();
  await listener.close();
});

Deno.test("a client that ends its side is still answered", async () => {
  const { listener, connect } = serve();
  const client = await connect();
  await client.raw(joinBytes([commandOf("EAPPEND", "s", "E"), commandOf("ESVER", "s")]));
  await client.endSending();
  assert.match(await client.reply(), /stream_version, :0/);
  assert.equal(await client.reply(), ":0");
  assert.equal(await client.untilClosed(), 0);
  client.close();
  await listener.close();
});

Deno.test("close() answers what has arrived, ends every link, and accepts no more", async () => {
  class SlowStore extends MemoryStore {
    go = Promise.withResolvers<void>();
    entered = Promise.withResolvers<void>();
    override async append(...args: Parameters<MemoryStore["append"]>) {
      this.entered.resolve();
      await this.go.promise;
      return super.append(...args);
    }
  }
  const store = new SlowStore();
  const { listener, connect } = serve(store);
  const idle = await connect();
  assert.equal(await idle.ask("PING"), "+PONG");
  const busy = await connect();
  await busy.raw(joinBytes([commandOf("EAPPEND", "s", "E"), commandOf("ESVER", "s")]));
  await store.entered.promise;
  const closed = listener.close();
  assert.equal(await idle.untilClosed(), 0);
  await assert.rejects(connect());
  store.go.resolve();
  assert.match(await busy.reply(), /stream_version, :0/);
  assert.equal(await busy.reply(), ":0");
  assert.equal(await busy.untilClosed(), 0);
  await closed;
  assert.equal(listener.connections, 0);
  idle.close();
  busy.close();
});

Deno.test("QUIT, SHUTDOWN and HTTP end a link after what was asked before", async () => {
  let asked = 0;
  const { listener, connect } = serve(undefined, { shutdown: () => asked++ });
  for (const [last, reply] of [["QUIT", "+OK"], ["POST", "-ERR This is not an HTTP server"]] as const) {
    const client = await connect();
    await client.raw(joinBytes([commandOf("EAPPEND", "s", "E"), commandOf(last), commandOf("EAPPEND", "s", "never")]));
    assert.match(await client.reply(), /stream_version/);
    assert.equal(await client.reply(), reply);
    assert.equal(await client.untilClosed(), 0);
    client.close();
  }
  const client = await connect();
  await client.raw(joinBytes([commandOf("ESVER", "s"), commandOf("SHUTDOWN")]));
  assert.equal(await client.reply(), ":1");
  assert.equal(await client.untilClosed(), 0);
  assert.equal(asked, 1);
  client.close();
  await listener.close();
});

Deno.test("clients that vanish in the middle of things leave nothing behind", async () => {
  const { listener, connect } = serve();
  for (let i = 0; i < 20; i++) {
    const client = await connect();
    await client.raw(commandOf("EAPPEND", "s", "E", "x".repeat(100_000)).subarray(0, 5000 * i));
    client.close();
  }
  const client = await connect();
  while (await infoOf(client, "connected_clients") !== "1") await client.ask("PING");
  assert.equal(await client.ask("PING"), "+PONG");
  client.close();
  await listener.close();
});

Deno.test("large commands share their room: who keeps it is refused when others wait, and they are answered", async () => {
  const { listener, connect } = serve(undefined, { limits: { inputBytesMax: 2 * 1024 * 1024 } });
  const large = commandOf("ECHO", new Uint8Array(1_000_000));
  const stalled = [await connect(), await connect()];
  for (const client of stalled) await client.raw(large.subarray(0, 900_000));
  const refused = stalled.map((client) => client.reply());
  const honest = await connect();
  const answer = honest.frame();
  await honest.raw(large);
  // Who asks for little is not held up meanwhile.
  const modest = await connect();
  assert.equal(await modest.ask("ECHO", "x".repeat(20_000)), `$"${"x".repeat(20_000)}"`);
  for (const reply of refused) assert.match(await reply, /^-ERR The command is large and others wait/);
  for (const client of stalled) assert.equal(await client.untilClosed(), 0);
  assert.equal((await answer).bytes!.length, 1_000_000);
  for (const client of [...stalled, honest, modest]) client.close();
  await listener.close();
});

Deno.test("close() does not wait for clients that wait for room", async () => {
  const { listener, connect } = serve(undefined, { limits: { inputBytesMax: 0 } });
  const half = commandOf("ECHO", new Uint8Array(1_000_000)).subarray(0, 900_000);
  const clients = [await connect(), await connect()];
  for (const client of clients) await client.raw(half);
  await listener.close();
  for (const client of clients) {
    assert.equal(await client.untilClosed(), 0);
    client.close();
  }
});
