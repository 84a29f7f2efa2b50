import assert from "node:assert/strict";
import { Direction, TcpProxy } from "./tcp_proxy.ts";

/** A target that answers each piece with the same, and the connections that it has. */
class Echo implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly connections: Deno.TcpConn[] = [];
  readonly #work: Promise<void>[] = [];

  constructor() {
    this.#work.push(this.#accept());
  }

  get address() {
    return { hostname: "127.0.0.1", port: this.#listener.addr.port };
  }

  async #accept(): Promise<void> {
    for await (const connection of this.#listener) {
      this.connections.push(connection);
      this.#work.push(connection.readable.pipeTo(connection.writable).catch(() => {}));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await Promise.all(this.#work);
  }
}

/** Writes a byte and reads until it comes back. */
async function roundTrip(connection: Deno.TcpConn, byte: number): Promise<number> {
  await connection.write(Uint8Array.of(byte));
  return await read(connection);
}

async function read(connection: Deno.TcpConn): Promise<number> {
  const into = new Uint8Array(1);
  if (await connection.read(into) === null) throw new Error("It has ended");
  return into[0]!;
}

Deno.test("tcp proxy: passes everything on, in both directions, and the end as well", async () => {
  await using echo = new Echo();
  await using proxy = new TcpProxy(echo.address);
  using connection = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
  const sent = crypto.getRandomValues(new Uint8Array(60_000));
  const received: number[] = [];
  const writing = (async () => {
    for (let done = 0; done < sent.length;) done += await connection.write(sent.subarray(done));
    await connection.closeWrite();
  })();
  for await (const bytes of connection.readable) received.push(...bytes);
  await writing;
  assert.deepEqual(Uint8Array.from(received), sent);
});

Deno.test("tcp proxy: what is held comes when it is let go, and the other direction is not held", async () => {
  await using echo = new Echo();
  const there = new Direction();
  const back = new Direction();
  await using proxy = new TcpProxy(echo.address, there, back);
  using connection = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
  assert.equal(await roundTrip(connection, 1), 1);
  for (const direction of [there, back]) {
    direction.hold();
    let came = false;
    const byte = roundTrip(connection, 2).then((byte) => {
      came = true;
      return byte;
    });
    if (direction === there) {
      // What the target says by itself still comes through.
      await echo.connections[0]!.write(Uint8Array.of(9));
      assert.equal(await byte, 9);
      there.letGo();
      assert.equal(await read(connection), 2);
      continue;
    }
    await new Promise((resolve) => setTimeout(resolve, 50)); // It must not come: there is nothing to wait for.
    assert.equal(came, false);
    back.letGo();
    assert.equal(await byte, 2);
  }
});

Deno.test("tcp proxy: a connection that is made while a direction is held gets through when it is let go", async () => {
  await using echo = new Echo();
  const back = new Direction();
  back.hold();
  await using proxy = new TcpProxy(echo.address, new Direction(), back);
  using connection = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
  const byte = roundTrip(connection, 3);
  assert.equal(echo.connections.length, 0);
  back.letGo();
  assert.equal(await byte, 3);
});

Deno.test("tcp proxy: a delay is kept, and delays each piece once", async () => {
  await using echo = new Echo();
  await using proxy = new TcpProxy(echo.address);
  proxy.there.delayMs = 30;
  using connection = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
  const began = performance.now();
  assert.equal(await roundTrip(connection, 4), 4);
  assert.ok(performance.now() - began >= 29);
});

Deno.test("tcp proxy: to sever breaks both ends, and a new connection can be made; where nobody listens none can", async () => {
  let port;
  {
    await using echo = new Echo();
    await using proxy = new TcpProxy(echo.address);
    using first = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
    assert.equal(await roundTrip(first, 5), 5);
    proxy.sever();
    await assert.rejects(read(first));
    using second = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
    assert.equal(await roundTrip(second, 6), 6);
    port = echo.address.port;
  }
  await using proxy = new TcpProxy({ hostname: "127.0.0.1", port });
  using nobody = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
  await assert.rejects(read(nobody));
});
