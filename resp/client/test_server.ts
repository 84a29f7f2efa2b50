/**
 * What stands at the other end in the client's tests, when that is not a listener of ours that does well.
 *
 * `CuttingProxy` passes bytes on and cuts links, at places that a seed chooses. `ScriptedServer` answers what the test
 * says, byte for byte.
 *
 * @module
 */
import type { Chance } from "../../core/chance.ts";
import { COMMAND, Decoder, MORE } from "../decoder.ts";
import type { Address } from "./link.ts";

/** Accepts links, and gives each to `serve`; closing it closes them all. */
abstract class TestServer implements AsyncDisposable {
  readonly address: Address;
  /** Links that were accepted. */
  accepted = 0;
  readonly #listener: Deno.TcpListener;
  readonly #sockets = new Set<Deno.TcpConn>();
  readonly #serving = new Set<Promise<void>>();
  readonly #accepting: Promise<void>;

  constructor(port = 0) {
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port });
    this.address = { hostname: "127.0.0.1", port: this.#listener.addr.port };
    this.#accepting = this.#accept();
  }

  protected abstract serve(socket: Deno.TcpConn): Promise<void>;

  /** A socket that is closed with the server. */
  protected own(socket: Deno.TcpConn): Deno.TcpConn {
    this.#sockets.add(socket);
    return socket;
  }

  /** Closes all links; new ones are accepted. */
  cut(): void {
    for (const socket of this.#sockets) close(socket);
    this.#sockets.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    this.cut();
    await this.#accepting;
    this.cut();
    await Promise.all(this.#serving);
  }

  async #accept(): Promise<void> {
    for await (const socket of this.#listener) {
      this.accepted++;
      const served = this.serve(this.own(socket)).catch((error) => {
        if (!isOfClosedSocket(error)) throw error;
      }).finally(() => {
        close(socket);
        this.#serving.delete(served);
      });
      this.#serving.add(served);
    }
  }
}

/** Passes bytes on to a server. With `chance`, each link is cut after so many bytes, of either direction, at most. */
export class CuttingProxy extends TestServer {
  cuts = 0;

  constructor(readonly target: () => Address, readonly chance: Chance | null = null, readonly bytesMax = 10_000) {
    super();
  }

  protected override async serve(client: Deno.TcpConn): Promise<void> {
    const server = this.own(await Deno.connect(this.target()));
    let left = this.chance?.between(1, this.bytesMax) ?? Infinity;
    const pump = async (from: Deno.TcpConn, to: Deno.TcpConn) => {
      const slice = new Uint8Array(16 * 1024);
      try {
        for (let count; (count = await from.read(slice)) !== null;) {
          const passed = Math.min(count, left);
          left -= passed;
          for (let at = 0; at < passed;) at += await to.write(slice.subarray(at, passed));
          if (left > 0) continue;
          this.cuts++;
          break;
        }
      } catch (error) {
        if (!isOfClosedSocket(error)) throw error;
      }
      close(from);
      close(to);
    };
    await Promise.all([pump(client, server), pump(server, client)]);
  }
}

/** Answers HELLO by itself, and everything else as `answer` says: bytes as text, or null for no answer. */
export class ScriptedServer extends TestServer {
  /** Commands that came, in words. */
  readonly commands: string[][] = [];
  #socket: Deno.TcpConn | null = null;
  #watchers: (() => void)[] = [];

  /** Nothing is read behind HELLO before this has resolved. */
  pause: Promise<void> = Promise.resolve();

  constructor(readonly answer: (words: string[]) => string | null, readonly hello = HELLO) {
    super();
  }

  /** Sends without being asked, over the last link. */
  async send(text: string): Promise<void> {
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length;) at += await this.#socket!.write(bytes.subarray(at));
  }

  /** Resolves when a command for which `wanted` holds has come, at once if it has already. */
  async until(wanted: (words: string[]) => boolean): Promise<string[]> {
    for (;;) {
      const found = this.commands.find(wanted);
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => this.#watchers.push(resolve));
    }
  }

  protected override async serve(socket: Deno.TcpConn): Promise<void> {
    this.#socket = socket;
    const decoder = new Decoder();
    for (;;) {
      const count = await socket.read(decoder.room());
      if (count === null) return;
      decoder.filled(count);
      for (let found; (found = decoder.next()) !== MORE;) {
        if (found !== COMMAND) throw new Error(`The client sent what is no command: ${decoder.problem.message}`);
        const { bytes, base, starts, ends, count } = decoder.words;
        const text = new TextDecoder();
        const words = Array.from(
          { length: count },
          (_, i) => text.decode(bytes.subarray(base + starts[i]!, base + ends[i]!)),
        );
        this.commands.push(words);
        const answer = words[0] === "HELLO" ? this.hello : this.answer(words);
        if (answer !== null) await this.send(answer);
        await this.pause;
        for (const wake of this.#watchers.splice(0)) wake();
      }
    }
  }
}

const HELLO = "%1\r\n$14\r\nnum_partitions\r\n:32\r\n";

function close(socket: Deno.TcpConn): void {
  try {
    socket.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error;
  }
}

/** Whether an error only says that one of the two ends has closed. */
function isOfClosedSocket(error: unknown): boolean {
  const { BadResource, BrokenPipe, ConnectionRefused, ConnectionReset, Interrupted, NotConnected } = Deno.errors;
  return [BadResource, BrokenPipe, ConnectionRefused, ConnectionReset, Interrupted, NotConnected]
    .some((kind) => error instanceof kind);
}
