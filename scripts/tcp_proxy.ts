/**
 * A line between two processes of one machine that can be slow, or silent in one direction, or broken.
 *
 *     dialler ──► proxy ──► target        `there`: what the dialler sends      `back`: what the target sends
 *
 * A direction that is held loses nothing: its bytes wait, at first here and then with their sender, and come when it is
 * let go, as over a network that fails for a while. Neither end is told. While either direction is held, a new connection
 * is taken and gets no further, as one whose first packets are lost. `sever` breaks what there is, and both ends notice.
 *
 * @module
 */
import type { Address } from "./resp_client.ts";

/** One direction, of one or more proxies: it is looked at for each piece that passes. */
export class Direction {
  delayMs = 0;
  #held: PromiseWithResolvers<void> | null = null;

  get isHeld(): boolean {
    return this.#held !== null;
  }

  hold(): void {
    this.#held ??= Promise.withResolvers();
  }

  letGo(): void {
    this.#held?.resolve();
    this.#held = null;
  }

  /** Resolves when nothing holds it. */
  async open(): Promise<void> {
    while (this.#held !== null) await this.#held.promise;
  }
}

/** Bytes that may be under way in one direction of a connection. Beyond it the sender waits, as for a full line. */
const UNDER_WAY_BYTES_MAX = 4 * 1024 * 1024;
const PIECE_BYTES = 64 * 1024;

export class TcpProxy implements AsyncDisposable {
  readonly #listener: Deno.TcpListener;
  readonly #connections = new Set<Deno.TcpConn>();
  readonly #pumps = new Set<Promise<void>>();
  readonly #accepting: Promise<void>;

  constructor(readonly target: Address, readonly there = new Direction(), readonly back = new Direction()) {
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.#accepting = this.#accept();
  }

  /** Where to dial instead of the target. */
  get port(): number {
    return this.#listener.addr.port;
  }

  /** Ends all connections at once. */
  sever(): void {
    for (const connection of this.#connections) close(connection);
    this.#connections.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    this.sever();
    await this.#accepting;
    // A pump that is held has nowhere to send to any more.
    this.there.letGo();
    this.back.letGo();
    await Promise.all(this.#pumps);
  }

  async #accept(): Promise<void> {
    for await (const dialler of this.#listener) {
      this.#connections.add(dialler);
      const serving = this.#serve(dialler).finally(() => this.#pumps.delete(serving));
      this.#pumps.add(serving);
    }
  }

  async #serve(dialler: Deno.TcpConn): Promise<void> {
    let target: Deno.TcpConn;
    try {
      do {
        await this.there.open();
        await this.back.open();
      } while (this.there.isHeld);
      if (!this.#connections.has(dialler)) return; // It was severed meanwhile.
      target = await Deno.connect(this.target);
    } catch {
      this.#end(dialler); // Nobody listens there: so it is for the dialler.
      return;
    }
    this.#connections.add(target);
    for (const end of [dialler, target]) end.setNoDelay(); // What waits, waits here.
    if (!this.#connections.has(dialler)) this.#end(target);
    await Promise.all([pump(dialler, target, this.there), pump(target, dialler, this.back)]);
    this.#end(dialler);
    this.#end(target);
  }

  #end(connection: Deno.TcpConn): void {
    this.#connections.delete(connection);
    close(connection);
  }
}

/** Carries bytes in one direction, until either end is done or broken; then both are. */
async function pump(from: Deno.TcpConn, to: Deno.TcpConn, direction: Direction): Promise<void> {
  const pieces: { bytes: Uint8Array; dueMs: number }[] = [];
  let underWay = 0;
  let over = false;
  let look = () => {};
  const change = () => new Promise<void>((resolve) => look = resolve);

  const sending = (async () => {
    try {
      for (;;) {
        const piece = pieces.shift();
        if (piece === undefined) {
          if (over) break;
          await change();
          continue;
        }
        const early = piece.dueMs - performance.now();
        if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
        await direction.open();
        for (let done = 0; done < piece.bytes.length;) done += await to.write(piece.bytes.subarray(done));
        underWay -= piece.bytes.length;
        look();
      }
      await to.closeWrite();
    } catch {
      over = true;
      close(from);
      close(to);
    }
  })();
  try {
    while (!over) {
      const bytes = new Uint8Array(PIECE_BYTES);
      const count = await from.read(bytes);
      if (count === null) break;
      pieces.push({ bytes: bytes.subarray(0, count), dueMs: performance.now() + direction.delayMs });
      underWay += count;
      look();
      while (underWay > UNDER_WAY_BYTES_MAX && !over) await change();
    }
  } catch {
    pieces.length = 0; // Broken, and not just done: what was under way is lost with it.
    close(to);
  }
  over = true;
  look();
  await sending;
}

function close(connection: Deno.TcpConn): void {
  try {
    connection.close();
  } catch {
    // It is closed already.
  }
}
