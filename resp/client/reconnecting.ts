/**
 * A link that comes back: what is asked is answered, over however many sockets that takes.
 *
 *     linked ── lost ──► connecting ── too long ──► down
 *        ▲                   │  ▲                     │
 *        └───────────────────┘  └──── a new call ─────┘
 *
 * When the socket is lost it connects again, with pauses that grow up to a bound and are spread by chance, so that the
 * clients of a server that has restarted do not all come at once. What was in flight is asked again in its old order:
 * reads change nothing, and appends carry event ids, by which the server knows a repeat. If the time runs out, all that
 * waits is refused with `ConnectionLost`; the next call tries anew. A repeat that is refused because of how things are at
 * that moment says nothing of what was sent before: that is `OutcomeUnknown`.
 *
 * It knows commands as bytes, and of subscriptions only that they want to be told when the link goes and comes.
 *
 * @module
 */
import type { Environment } from "../../core/environment.ts";
import {
  DuplicateEventId,
  InvalidArgument,
  LimitExceeded,
  OutcomeUnknown,
  StoreClosed,
  WrongExpectedVersion,
} from "../../core/errors.ts";
import type { Transaction } from "../../core/event.ts";
import { commandOf } from "./command.ts";
import { type Address, Link, type Question } from "./link.ts";
import { ErrorReply, type Reply } from "./reply_decoder.ts";
import { errorOfReply } from "./reply_errors.ts";

/** The server was not reached for too long. */
export class ConnectionLost extends Error {
  override readonly name = "ConnectionLost";
  /**
   * Whether this was an append that may have been stored. Then `transaction` is what was appended, with an event id by
   * which it can be repeated: to append it again stores it if it was not, and else answers as the first time would have.
   */
  readonly outcomeUnknown: boolean;

  constructor(message: string, cause: unknown, readonly transaction: Transaction | null) {
    super(message, { cause });
    this.outcomeUnknown = transaction !== null;
  }
}

/** A question that outlives its link, or is given back when that is lost. */
export interface Call extends Question {
  /** Whether it is asked again over the next link. */
  readonly repeatable: boolean;
  /** What it appends, if it appends. */
  readonly transaction: Transaction | null;
  /** Whether a link was lost that it had been sent over. */
  repeated: boolean;
  /** It will not be answered. */
  fail(error: Error): void;
}

/** What follows the link: a subscription. */
export interface Follower {
  linked(): void;
  unlinked(): void;
  /** The link does not come back, or the client is closed. */
  failed(error: Error): void;
}

export interface ReconnectingOptions {
  address: Address;
  reconnectMs: number;
  /** How the client calls itself, for CLIENT LIST. */
  clientName: string | null;
  environment: Environment;
}

const PAUSE_MS_FIRST = 20;
const PAUSE_MS_MAX = 2000;
/** From the first packet to the answer to HELLO. */
const CONNECT_MS_MAX = 5000;
/** A link that lasted so long was a good one, whatever came over it. */
const STEADY_MS = 1000;

export class Reconnecting {
  readonly #options: ReconnectingOptions;
  readonly #hello: Uint8Array;
  readonly #closing = new AbortController();
  readonly #followers = new Set<Follower>();
  /** Takes pushes of the present link. */
  onPush: (items: Reply[]) => void = () => {};
  partitionCount = 0;
  #link: Link | null = null;
  #linkedAt = 0;
  /** A link that ends as soon as it has answered what it was asked. */
  #retiring: Link | null = null;
  /** What waits for a link. */
  #queue: Call[] = [];
  /** The attempt that runs. It never rejects. */
  #connecting: Promise<void> | null = null;
  /** Since when nothing came from the server, and how often it was tried. */
  #failingSince: number | null = null;
  #attempts = 0;

  private constructor(options: ReconnectingOptions) {
    this.#options = options;
    const name = options.clientName === null ? [] : ["SETNAME", options.clientName];
    this.#hello = commandOf(["HELLO", 3, ...name]);
  }

  /** @throws {ConnectionLost} nobody answers there: the first time it is not tried again */
  static async open(options: ReconnectingOptions): Promise<Reconnecting> {
    const reconnecting = new Reconnecting(options);
    try {
      await reconnecting.#open();
    } catch (cause) {
      throw reconnecting.#lost(cause, null);
    }
    return reconnecting;
  }

  /** A reply, or the error that it tells of; asked again if the link is lost. */
  ask(command: Uint8Array, transaction: Transaction | null = null): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const call: Call = {
        command,
        sent: false,
        repeatable: true,
        transaction,
        repeated: false,
        answer: (reply) => {
          if (reply instanceof ErrorReply) reject(errorOfCall(call, errorOfReply(reply.text, this.partitionCount)));
          else resolve(reply);
        },
        fail: reject,
      };
      if (this.#link !== null) return this.#link.ask(call);
      this.#queue.push(call);
      this.#connect();
    });
  }

  /** Tells the present link, if there is one; its answer counts only while it is that. */
  tell(command: Uint8Array, answer: (reply: Reply) => void): void {
    const link = this.#link;
    link?.ask(callOnce(command, (reply) => {
      if (link === this.#link) answer(reply);
    }));
  }

  /** From now on the follower is told of each link; at once if there is one. */
  follow(follower: Follower): void {
    this.#followers.add(follower);
    if (this.#link !== null) follower.linked();
    else this.#connect();
  }

  unfollow(follower: Follower): void {
    this.#followers.delete(follower);
  }

  /** The server is about to close this link: nothing new is asked on it, and it counts as one that failed. */
  retire(): void {
    const link = this.#link;
    if (link === null) return;
    this.#link = null;
    this.#retiring = link;
    for (const follower of [...this.#followers]) follower.unlinked();
    whenAllIsAnswered(link, () => link.end(new Error("The server closes")));
  }

  /** Waits for what is in flight, unless there is no link to carry it. */
  async close(): Promise<void> {
    for (const follower of [...this.#followers]) follower.failed(new StoreClosed());
    const link = this.#link ?? this.#retiring;
    if (link !== null) await new Promise<void>((resolve) => whenAllIsAnswered(link, resolve));
    this.#closing.abort();
    link?.end(new Error("The client was closed"));
    await this.#connecting;
    this.#giveUp(new Error("The client was closed"));
  }

  #adopt(link: Link): void {
    this.#connecting = null;
    this.#link = link;
    this.#linkedAt = this.#options.environment.monotonic();
    link.received = 0;
    link.onPush = (items) => {
      if (link === this.#link) this.onPush(items);
    };
    link.onEnd = (cause) => this.#ended(link, cause);
    for (const call of this.#queue.splice(0)) link.ask(call);
    for (const follower of [...this.#followers]) follower.linked();
  }

  #ended(link: Link, cause: Error): void {
    const retired = link === this.#retiring;
    // A server that is closing may take links for a while, and be of no use on them.
    const useful = link.received > 0 && !retired;
    if (useful || this.#options.environment.monotonic() - this.#linkedAt > STEADY_MS) {
      this.#failingSince = null;
      this.#attempts = 0;
    }
    this.#link = this.#retiring = null;
    // Before what was asked since: a retired link still had some of the older ones.
    const again: Call[] = [];
    for (const call of link.unanswered as Call[]) {
      call.repeated ||= call.sent;
      if (call.repeatable) again.push(call);
      else call.fail(cause);
    }
    this.#queue = [...again, ...this.#queue];
    if (!retired) { for (const follower of [...this.#followers]) follower.unlinked(); }
    if (this.#closing.signal.aborted) this.#giveUp(cause);
    else this.#connect();
  }

  #connect(): void {
    if (this.#retiring === null) this.#connecting ??= this.#untilLinked();
  }

  async #untilLinked(): Promise<void> {
    const { environment, reconnectMs } = this.#options;
    const { signal } = this.#closing;
    this.#failingSince ??= environment.monotonic();
    for (;;) {
      const pauseMs = Math.min(PAUSE_MS_MAX, PAUSE_MS_FIRST * 2 ** this.#attempts++) * (1 + chanceOf(environment)) / 2;
      await pause(Math.min(pauseMs, this.#failingSince + reconnectMs - environment.monotonic()), signal);
      if (signal.aborted) return;
      let cause: unknown;
      try {
        return await this.#open();
      } catch (error) {
        cause = error;
      }
      if (signal.aborted) return;
      if (environment.monotonic() - this.#failingSince >= reconnectMs) return this.#giveUp(cause);
    }
  }

  /** Adopts a link that has said HELLO. */
  #open(): Promise<void> {
    const { signal } = this.#closing;
    return new Promise((resolve, reject) => {
      const link = new Link(this.#options.address);
      const timer = setTimeout(() => link.end(new Error(`No answer within ${CONNECT_MS_MAX} ms`)), CONNECT_MS_MAX);
      const abort = () => link.end(new Error("The client was closed"));
      const over = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", abort);
      };
      signal.addEventListener("abort", abort);
      link.onEnd = (cause) => {
        over();
        reject(cause);
      };
      link.ask({
        command: this.#hello,
        sent: false,
        answer: (reply) => {
          const problem = this.#problemOf(reply);
          if (problem !== null) return link.end(problem);
          over();
          this.#adopt(link); // Here, not by who awaits this: the link could end before.
          resolve();
        },
      });
    });
  }

  /** What is wrong with an answer to HELLO, if anything. */
  #problemOf(reply: Reply): Error | null {
    if (reply instanceof ErrorReply) return errorOfReply(reply.text, this.partitionCount);
    const count = reply instanceof Map ? reply.get("num_partitions") : undefined;
    if (typeof count !== "number") {
      return new Error("This is no event store: its answer to HELLO has no num_partitions");
    }
    if (this.partitionCount !== 0 && this.partitionCount !== count) {
      return new Error(`This is another store: it has ${count} partitions, and the one before ${this.partitionCount}`);
    }
    this.partitionCount = count;
    return null;
  }

  #giveUp(cause: unknown): void {
    this.#connecting = null;
    this.#failingSince = null;
    this.#attempts = 0;
    for (const call of this.#queue.splice(0)) call.fail(this.#lost(cause, call.sent ? call.transaction : null));
    for (const follower of [...this.#followers]) follower.failed(this.#lost(cause, null));
  }

  #lost(cause: unknown, transaction: Transaction | null): ConnectionLost {
    const { hostname, port } = this.#options.address;
    // Node tries several addresses of a name, and its error for all of them has a code and no message.
    const why = cause instanceof Error ? cause.message || String((cause as { code?: string }).code) : String(cause);
    return new ConnectionLost(
      `Cannot reach ${hostname}:${port}: ${why}` +
        (transaction === null ? "" : ". Whether the append is stored is not known"),
      cause,
      transaction,
    );
  }
}

const PING = commandOf(["PING"]);

/** Calls `done` when the link has answered all that it was asked so far, or has ended. */
function whenAllIsAnswered(link: Link, done: () => void): void {
  link.ask(callOnce(PING, done, done));
}

/** A call that is not asked again. */
function callOnce(command: Uint8Array, answer: (reply: Reply) => void, fail = () => {}): Call {
  return { command, sent: false, repeatable: false, transaction: null, repeated: false, answer, fail };
}

/** Refusals that hold for an append whenever it is sent: had it been stored before, the answer would be that. */
const LASTING = [InvalidArgument, LimitExceeded, WrongExpectedVersion, DuplicateEventId];

/** What an error reply means to who made the call. */
function errorOfCall({ transaction, repeated }: Call, error: Error): Error {
  const isUnknown = error instanceof OutcomeUnknown ||
    transaction !== null && repeated && !LASTING.some((Class) => error instanceof Class);
  if (!isUnknown) return error;
  const unknown = error instanceof OutcomeUnknown ? error : new OutcomeUnknown(
    `The append was sent over a link that was lost, and may be stored. Sent again, it was refused: ${error.message}`,
    { cause: error },
  );
  unknown.transaction = transaction;
  return unknown;
}

/** From 0 to 1. */
function chanceOf(environment: Environment): number {
  const bytes = new Uint8Array(2);
  environment.random(bytes);
  return (bytes[0]! * 256 + bytes[1]!) / 65536;
}

/** Resolves after `ms`, or when the signal is given. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
  });
}
