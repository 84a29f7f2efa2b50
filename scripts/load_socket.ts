/**
 * A socket for clients that misbehave: it sends what it likes, reads when it likes, and knows how to leave rudely.
 *
 * It holds no buffer before it reads, so that ten thousand of them fit into one process. That a server ends the link is
 * an answer here, not an error: sending says false, reading undefined or null.
 *
 * @module
 */
import { type Address, type Plain, plain, ReplyReader } from "./resp_client.ts";

const READ_BYTES = 4 * 1024;

export class Socket implements Disposable {
  #reader: ReplyReader<Plain> | null = null;
  #slice: Uint8Array<ArrayBuffer> | null = null;

  private constructor(readonly connection: Deno.TcpConn) {}

  static async open(address: Address): Promise<Socket> {
    const connection = await Deno.connect(address);
    connection.setNoDelay(true);
    return new Socket(connection);
  }

  /** Sends all of it, however long the server takes to read it. False when the server ended the link. */
  async send(bytes: Uint8Array): Promise<boolean> {
    try {
      for (let at = 0; at < bytes.length;) at += await this.connection.write(bytes.subarray(at));
      return true;
    } catch (cause) {
      return ended(cause);
    }
  }

  /** The next reply, in RESP2, undefined when the server has ended the link. */
  async reply(): Promise<Plain | undefined> {
    this.#reader ??= new ReplyReader(plain);
    for (;;) {
      const value = this.#reader.next(2);
      if (value !== undefined) return value;
      const count = await this.#read();
      if (count === null) return undefined;
      this.#reader.push(this.#slice!.subarray(0, count));
    }
  }

  /** Reads and keeps nothing, until the server ends the link. How many bytes that were. */
  async discard(): Promise<number> {
    let bytes = 0;
    for (let count = await this.#read(); count !== null; count = await this.#read()) bytes += count;
    return bytes;
  }

  /** Says that no more will be sent. */
  async closeWrite(): Promise<void> {
    try {
      await this.connection.closeWrite();
    } catch (cause) {
      ended(cause);
    }
  }

  /** With replies unread this is a reset: the kernel has nobody to give them to. */
  [Symbol.dispose](): void {
    try {
      this.connection.close();
    } catch (cause) {
      ended(cause);
    }
  }

  async #read(): Promise<number | null> {
    try {
      return await this.connection.read(this.#slice ??= new Uint8Array(READ_BYTES));
    } catch (cause) {
      ended(cause);
      return null;
    }
  }
}

/** False for the ways in which a link ends. Anything else is thrown on. */
function ended(cause: unknown): false {
  const { BadResource, BrokenPipe, ConnectionReset, Interrupted, NotConnected } = Deno.errors;
  const ways = [BadResource, BrokenPipe, ConnectionReset, Interrupted, NotConnected];
  if (ways.some((way) => cause instanceof way)) return false;
  throw cause;
}
