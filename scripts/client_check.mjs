/**
 * Uses the bundled client as a program of Node, Bun or Deno would: `node client_check.mjs BUNDLE PORT`.
 *
 * For each check it prints a line of JSON. Links are cut by a proxy of its own, in the same process.
 *
 * @module
 */
import assert from "node:assert/strict";
import { connect as connectSocket, createServer } from "node:net";
import process from "node:process";
import { pathToFileURL } from "node:url";

const [bundle, port] = process.argv.slice(2);
const { connect, ConnectionLost, InvalidArgument, StoreClosed, typed, WrongExpectedVersion } = await import(
  pathToFileURL(bundle).href
);

/** Stands between client and server, and can cut all links. */
class Proxy {
  #links = new Set();
  #server = createServer((client) => {
    const server = connectSocket(Number(port), "127.0.0.1");
    const cut = () => {
      client.destroy();
      server.destroy();
      this.#links.delete(cut);
    };
    this.#links.add(cut);
    for (const [from, to] of [[client, server], [server, client]]) from.pipe(to).on("error", cut).on("close", cut);
  });

  listen() {
    return new Promise((resolve) => this.#server.listen(0, "127.0.0.1", () => resolve(this.#server.address().port)));
  }

  cut() {
    for (const cut of [...this.#links]) cut();
  }

  /** It listens no more at once. That it has closed is not waited for: Deno 2.6 does not say so when links were cut. */
  close() {
    this.cut();
    this.#server.close();
  }
}

const proxy = new Proxy();
const address = `esker://127.0.0.1:${await proxy.listen()}`;
const store = await connect(address, { window: 50 });
const run = crypto.randomUUID().slice(0, 8);

const checks = {
  async "append and read"() {
    const streamId = `a-${run}`;
    const { events } = await store.append({
      events: [{ streamId, name: "Happened", payload: "é", expectedVersion: "empty" }],
    });
    const stored = await store.event(events[0].eventId);
    assert.equal(new TextDecoder().decode(stored.payload), "é");
    assert.equal(Object.getPrototypeOf(stored.payload), Uint8Array.prototype);
    await store.append({ events: Array.from({ length: 600 }, () => ({ streamId, name: "More" })) });
    const versions = [];
    for await (const { version } of store.readStream(streamId)) versions.push(version);
    assert.deepEqual(versions, Array.from({ length: 601 }, (_, i) => i));
    const large = crypto.getRandomValues(new Uint8Array(65536));
    const payload = new Uint8Array(1024 * 1024).map((_, i) => large[i % 65536]);
    await store.append({ events: [{ streamId: `large-${run}`, name: "Large", payload }] });
    for await (const found of store.readStream(`large-${run}`)) assert.deepEqual(found.payload, payload);
  },

  async "errors are classes with facts"() {
    const events = [{ streamId: `a-${run}`, name: "Happened", expectedVersion: 7 }];
    await assert.rejects(store.append({ events }), (error) => {
      assert.ok(error instanceof WrongExpectedVersion);
      assert.deepEqual([error.streamId, error.expected, error.current], [`a-${run}`, 7, 600]);
      return true;
    });
    await assert.rejects(store.event("nonsense"), InvalidArgument);
  },

  async "subscribe: history, then live"() {
    const streamId = `sub-${run}`;
    await store.append({ events: Array.from({ length: 200 }, () => ({ streamId, name: "Old" })) });
    const versions = [];
    for await (const { version } of await store.subscribe({ streams: [{ streamId, from: 0 }] })) {
      versions.push(version);
      if (versions.length === 200) await store.append({ events: [{ streamId, name: "New" }] });
      if (versions.length === 201) break;
    }
    assert.deepEqual(versions, Array.from({ length: 201 }, (_, i) => i));
  },

  async "typed events"() {
    const accounts = typed(store);
    await accounts.append(`t-${run}`, [{ name: "Deposited", data: { cents: 5 } }], { expectedVersion: "empty" });
    for await (const event of accounts.readStream(`t-${run}`)) assert.deepEqual(event.data, { cents: 5 });
  },

  async "links are cut: stored once, seen once"() {
    const streamId = `cut-${run}`;
    const subscription = await store.subscribe({ streams: [{ streamId, from: 0 }] });
    const appending = (async () => {
      for (let round = 0; round < 20; round++) {
        const appends = Array.from({ length: 10 }, (_, i) => (
          store.append({ events: [{ streamId, name: "Happened", payload: `${10 * round + i}` }] })
        ));
        await appends[round % 10]; // So that some are answered and some are in flight.
        proxy.cut();
        await Promise.all(appends);
      }
    })();
    const seen = [];
    for await (const { version, payload } of subscription) {
      assert.equal(version, seen.length);
      seen.push(Number(new TextDecoder().decode(payload)));
      if (seen.length === 200) break;
    }
    await appending;
    assert.equal(await store.streamVersion(streamId), 199);
    assert.deepEqual(seen.sort((a, b) => a - b), Array.from({ length: 200 }, (_, i) => i));
  },

  async "a server that is gone: ConnectionLost"() {
    const other = new Proxy();
    const client = await connect(`redis://127.0.0.1:${await other.listen()}`, { reconnectMs: 100 });
    other.close();
    await assert.rejects(client.streamVersion("s"), ConnectionLost);
    await client.close();
    await assert.rejects(client.streamVersion("s"), StoreClosed);
  },
};

for (const [check, body] of Object.entries(checks)) {
  const failure = await body().then(() => undefined, (error) => error.stack);
  console.log(JSON.stringify({ check, error: failure }));
}
await store.close();
proxy.close(); // Nothing holds the process now: that it ends is a check as well.
