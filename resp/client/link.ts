/**
 * One socket: commands out, their replies back in the order in which they were asked, pushes in between.
 *
 * Commands of one turn leave in one write; while the socket is full they wait here. It always reads, so that the server
 * is never held up: what a reader has not taken is bounded by its subscription's window. When it ends, for whatever
 * reason, it says so once, and what it was asked and has not answered can be asked again on another link.
 *
 * It is built on `node:net`, which Deno, Node and Bun have alike.
 *
 * @module
 */
import { connect, type Socket } from "node:net";
import { MORE, Push, type Reply, ReplyDecoder } from "./reply_decoder.ts";

/** Where a server listens. */
export interface Address {
  hostname: string;
  port: number;
}

/** A command, and who waits for its reply. */
export interface Question {
  readonly command: Uint8Array;
  /** Whether it has been handed to a socket, so that a server may have carried it out. */
  sent: boolean;
  /** Called at once, before anything that came behind the reply is looked at. */
  answer(reply: Reply): void;
}

/** Commands are gathered up to this size, and a larger one is not copied. */
const WRITE_BYTES = 64 * 1024;
/** When a peer that has vanished without a word is first asked for a sign of life by the system. */
const KEEP_ALIVE_MS = 15_000;

export class Link {
  readonly #socket: Socket;
  readonly #decoder = new ReplyDecoder();
  /** Asked and not answered, from `#first` on. */
  #asked: Question[] = [];
  #first = 0;
  /** Of those, what was not written yet. */
  #outbox: Question[] = [];
  #flushing = false;
  #ended = false;
  /** Replies and pushes that came. */
  received = 0;
  onPush: (items: Reply[]) => void = () => {};
  onEnd: (cause: Error) => void = () => {};

  constructor({ hostname, port }: Address) {
    this.#socket = connect({
      host: hostname,
      port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_MS,
    });
    this.#socket.on("data", (slice: Uint8Array) => this.#receive(slice));
    this.#socket.on("drain", () => this.#flush());
    this.#socket.on("error", (cause: Error) => this.end(cause));
    this.#socket.on("close", () => this.end(new Error("The server closed the connection")));
  }

  /** What was asked and not answered. */
  get unanswered(): Question[] {
    return this.#asked.slice(this.#first);
  }

  ask(question: Question): void {
    this.#asked.push(question);
    this.#outbox.push(question);
    if (this.#flushing || this.#ended) return;
    this.#flushing = true;
    queueMicrotask(() => this.#flush());
  }

  /** Ends it; later calls do nothing. */
  end(cause: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#socket.destroy();
    this.onEnd(cause);
  }

  #flush(): void {
    this.#flushing = true;
    let free = true;
    while (free && this.#outbox.length > 0 && !this.#ended) free = this.#socket.write(this.#gathered());
    this.#flushing = !free; // Else `drain` calls again.
  }

  /** The next bytes to write. */
  #gathered(): Uint8Array {
    let bytes = 0;
    let count = 0;
    while (count < this.#outbox.length) {
      const more = this.#outbox[count]!.command.length;
      if (count > 0 && bytes + more > WRITE_BYTES) break;
      bytes += more;
      count++;
    }
    const questions = this.#outbox.splice(0, count);
    for (const question of questions) question.sent = true;
    if (count === 1) return questions[0]!.command;
    const gathered = new Uint8Array(bytes);
    let at = 0;
    for (const { command } of questions) {
      gathered.set(command, at);
      at += command.length;
    }
    return gathered;
  }

  #receive(slice: Uint8Array): void {
    this.#decoder.push(slice);
    while (!this.#ended) {
      let reply: Reply | typeof MORE;
      try {
        reply = this.#decoder.next();
      } catch (cause) {
        return this.end(cause as Error);
      }
      if (reply === MORE) return;
      this.received++;
      if (reply instanceof Push) this.onPush(reply.items);
      else {
        const question = this.#answered();
        if (question === undefined) return this.end(new Error("The server answered what nobody asked"));
        question.answer(reply);
      }
    }
  }

  #answered(): Question | undefined {
    const question = this.#asked[this.#first++];
    if (this.#first >= this.#asked.length || this.#first > 1024) {
      this.#asked = this.#asked.slice(this.#first);
      this.#first = 0;
    }
    return question;
  }
}
