/**
 * One socket: read, decode, session, encode, write.
 *
 * Replies gather in the encoder while the event loop works off what has arrived, and go out in one write: a write each
 * would cost more than the commands themselves.
 *
 * Memory is bounded both ways. While too many replies wait to be sent, or too many commands for their answers, nothing
 * more is read, so the client's own sends block; and a scan waits for the socket after each page. What is large is read
 * when there is room for it (large_commands.ts). Only behind a command that waits for events is a little read ahead: a
 * client that goes while nobody reads would not be seen to go.
 *
 * @module
 */
import type { EventStore } from "../core/store.ts";
import type { Server } from "./commands/command.ts";
import { BROKEN, COMMAND, Decoder, MORE } from "./decoder.ts";
import { reuse } from "./encoder.ts";
import type { Holder } from "./large_commands.ts";
import { type Link, Session } from "./session.ts";
import { ReplyError } from "./value.ts";

/**
 * Commands behind one that waits for events are read, so many bytes of them, although they cannot be taken yet: only a
 * read that is under way sees a client go. Who sends even more ends its wait, as if the time had run out.
 */
const AHEAD_BYTES_MAX = 1024 * 1024;
const AHEAD_READ_BYTES = 16 * 1024;
/** How long a link that we end is still read, so that the last replies are not lost with unread requests. */
const LINGER_MS = 1000;

export class Connection implements Link, Holder {
  readonly session: Session;
  readonly #socket: Deno.TcpConn;
  readonly #server: Server;
  readonly #decoder: Decoder;
  /** Bytes in the hands of the socket. */
  #sending = 0;
  #flushing = false;
  /** Waiting in `read`, with nothing decoded left to do. */
  #reading = false;
  #draining = false;
  /** A read under way while no command can be taken. */
  #ahead: Promise<void> | null = null;
  /** The client sends no more. */
  #ended = false;
  #failure: unknown = null;
  #waiters: (() => void)[] = [];

  constructor(store: EventStore, server: Server, socket: Deno.TcpConn, id: number) {
    this.#socket = socket;
    this.#server = server;
    this.#decoder = new Decoder(server.limits);
    this.session = new Session(store, server, this, id, addressOf(socket.remoteAddr), addressOf(socket.localAddr));
  }

  /** Serves the client until one side ends it. Never rejects. */
  async serve(): Promise<void> {
    try {
      const lingers = await this.#takeCommands();
      if (!this.#draining) this.session.end();
      await this.until(() => this.#idle);
      if (lingers) await this.#linger();
    } catch (error) {
      this.#fail(error);
      // The store may still be deciding: its answers have nobody to go to, but are waited for before the store closes.
      while (this.session.pending > 0) await this.#next();
    } finally {
      this.#close();
      this.#server.largeCommands.leave(this);
    }
  }

  /** Tells a client that it cannot be served; `serve` then says goodbye. */
  turnAway(why: string): void {
    this.session.refuse(new ReplyError("ERR", why));
    this.session.leaving = true;
  }

  /** Answers what has arrived, then ends. */
  drain(): void {
    this.#draining = true;
    this.session.drain();
    this.wake();
    this.#endReading();
  }

  get silentMs(): number {
    return this.#reading ? this.#server.environment.monotonic() - this.session.activeAt : 0;
  }

  giveWay(): void {
    const { session } = this;
    if (this.crowded || session.leaving) return this.#fail(new Error("It does not read its replies"));
    if (session.pending > 0) return session.endWait();
    session.refuse(new ReplyError("ERR", "The command is large and others wait for its room. Nothing was stored"));
    session.leaving = true;
    this.#endReading();
  }

  /** Ends at once. */
  abort(why: unknown): void {
    this.#fail(why);
  }

  changed(): void {
    if (!this.#flushing && this.session.reply.length > 0) {
      this.#flushing = true;
      void this.#flush();
    }
    const { largeCommands } = this.#server;
    if (!largeCommands.quiet) largeCommands.giveBack(this, this.#inputBytes);
    if (this.#waiters.length > 0) this.wake();
  }

  room(): Promise<void> {
    this.changed(); // What waits must be on its way, or there would never be room.
    return this.until(() => !this.crowded);
  }

  /** Resolves when `reached` holds: looked at now, and after each change. Rejects when the link fails first. */
  async until(reached: () => boolean): Promise<void> {
    while (!reached()) {
      if (this.#failure !== null) throw this.#failure;
      await this.#next();
    }
    if (this.#failure !== null) throw this.#failure;
  }

  get gone(): boolean {
    return this.#failure !== null;
  }

  get crowded(): boolean {
    return this.unsentBytes >= this.#server.limits.outputBytesMax && !this.gone;
  }

  get unsentBytes(): number {
    return this.#sending + this.session.reply.length;
  }

  get readBufferBytes(): number {
    return this.#decoder.bufferBytes;
  }

  /** Takes commands until no more shall come. True when the client may still be sending. */
  async #takeCommands(): Promise<boolean> {
    const { session } = this;
    const decoder = this.#decoder;
    while (!session.leaving) {
      const found = decoder.next();
      if (found === MORE) {
        if (!this.#mayRead) await this.until(() => this.#draining || this.#mayRead);
        if (this.#draining) return true;
        if (this.#failure !== null) throw this.#failure;
        this.#reading = true;
        // Not in a function of its own, which would cost a promise and two turns of the microtasks for each read.
        if (this.#ahead !== null) await this.#ahead;
        else if (!this.#ended) {
          const count = await this.#socket.read(decoder.room());
          if (count !== null) decoder.filled(count);
          this.#arrived(count);
        }
        this.#reading = false;
        if (this.#ended) return false;
        continue;
      }
      if (found === COMMAND) session.take(decoder.words);
      else session.refuse(decoder.problem);
      if (found === BROKEN) break;
      if (!this.#hasRoom) await this.#untilRoom();
    }
    return true;
  }

  /** Whether a further command may be taken. */
  get #hasRoom(): boolean {
    return !this.session.full && !this.crowded && this.#mayRead;
  }

  /** Whether there is room for what comes next. */
  get #mayRead(): boolean {
    return this.#server.largeCommands.take(this, this.#inputBytes);
  }

  /** What the client makes us hold of its commands: in the read buffer, and waiting for their answers. */
  get #inputBytes(): number {
    return this.#decoder.claimedBytes + this.session.pendingBytes;
  }

  #arrived(count: number | null): void {
    this.#ended = count === null;
    this.session.activeAt = this.#server.environment.monotonic();
    this.#server.counters.bytesIn += count ?? 0;
  }

  /** Waits until a further command may be taken. */
  async #untilRoom(): Promise<void> {
    const { session } = this;
    for (;;) {
      if (this.#failure !== null) throw this.#failure;
      if (this.#hasRoom) return;
      if (session.waiting && !this.#ended) {
        if (this.#decoder.bufferBytes > AHEAD_BYTES_MAX || !this.#mayRead) session.endWait();
        else this.#ahead ??= this.#readAhead();
      }
      await this.#next();
    }
  }

  /** Reads on while no command can be taken, into memory of its own: the decoder goes on with its buffer when one can. */
  async #readAhead(): Promise<void> {
    try {
      const bytes = new Uint8Array(AHEAD_READ_BYTES);
      const count = await this.#socket.read(bytes);
      for (let at = 0; at < (count ?? 0);) at += this.#decoder.feed(bytes.subarray(at, count!));
      this.#arrived(count);
      if (count === null) this.session.end();
      this.#ahead = null;
      this.wake();
    } catch (error) {
      this.#fail(error);
    }
  }

  async #flush(): Promise<void> {
    const { reply } = this.session;
    await null; // The answers of one batch come one by one, in one step.
    try {
      while (reply.length > 0) {
        const bytes = reply.take();
        this.#sending = bytes.length;
        while (this.#sending > 0) {
          const sent = bytes.length - this.#sending;
          const count = await this.#socket.write(sent === 0 ? bytes : bytes.subarray(sent));
          this.#sending -= count;
          this.#server.counters.bytesOut += count;
          this.wake();
        }
        reuse(bytes);
      }
      this.#flushing = false;
    } catch (error) {
      this.#fail(error); // Still "flushing", so that nothing is sent any more.
    }
  }

  /** Says that no more will be sent, and reads on for a moment: closing with bytes unread would take back what we sent. */
  async #linger(): Promise<void> {
    await this.#socket.closeWrite();
    const timer = setTimeout(() => this.#close(), LINGER_MS);
    try {
      const rest = new Uint8Array(4096);
      while (await this.#socket.read(rest) !== null);
    } finally {
      clearTimeout(timer);
    }
  }

  get #idle(): boolean {
    return this.session.idle && this.unsentBytes === 0;
  }

  /** Blocked in a read for a command that shall not come: when all is answered, only closing ends that. */
  #endReading(): void {
    void this.until(() => !this.#reading || this.#idle).then(() => this.#reading && this.#close(), () => {});
  }

  #next(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }

  #fail(why: unknown): void {
    this.#failure ??= why ?? new Error("The link failed");
    this.session.end();
    this.#close();
    this.wake();
  }

  #close(): void {
    try {
      this.#socket.close();
    } catch {
      // It is closed already.
    }
  }
}

function addressOf(address: Deno.NetAddr): string {
  return address.hostname.includes(":")
    ? `[${address.hostname}]:${address.port}`
    : `${address.hostname}:${address.port}`;
}
