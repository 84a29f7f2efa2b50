/**
 * A subscription of the client: pushes in, events out, over however many links that takes.
 *
 * The server sends at most a window of events that were not acknowledged. They wait here until they are taken, and are
 * acknowledged by half windows as that happens: so a reader that is slow holds a window of events and no more, and one
 * that is fast does not wait for the server to hear of it. When the link is lost, what has arrived is taken first, and then
 * the next link is asked for what comes behind it.
 *
 *     cursors:   acknowledged | taken, not acknowledged | arrived | on the way …    at most a window from the first bar
 *
 * @module
 */
import type { EventRecord } from "../../core/event.ts";
import { Subscription } from "../../core/store.ts";
import { commandOf, type Word } from "./command.ts";
import type { Ask, Followed } from "./following.ts";
import type { Follower, Reconnecting } from "./reconnecting.ts";
import { recordOf } from "./replies.ts";
import { BrokenReply, ErrorReply, type Reply } from "./reply_decoder.ts";
import { errorOfReply } from "./reply_errors.ts";

const PAGE_EVENTS_MAX = 256;
const PAGE_BYTES_MAX = 256 * 1024;
/** The server is closing: another link will heal it. */
const STOPPED = "ACTORSTOPPED";

/** Finds whom a push is for, by the id that the server gave the subscription. */
export class Pushes {
  readonly #byId = new Map<string, ClientSubscription>();

  add(id: string, subscription: ClientSubscription): void {
    this.#byId.set(id, subscription);
  }

  remove(id: string): void {
    this.#byId.delete(id);
  }

  /** Pushes of other kinds, and for subscriptions that were closed, are none of our business. */
  take(items: Reply[]): void {
    const subscription = this.#byId.get(items[1] as string);
    if (subscription === undefined) return;
    if (items[0] === "message") subscription.arrived(items[2] as number, items[3]!);
    else if (items[0] === "error") subscription.ended(textOf(items[2]!));
  }
}

export class ClientSubscription extends Subscription implements Follower {
  /** Resolves when the server has taken it on, rejects when it will not. */
  readonly started: Promise<void>;
  #settle!: { resolve: () => void; reject: (error: Error) => void };
  readonly #reconnecting: Reconnecting;
  readonly #pushes: Pushes;
  readonly #ask: Ask;
  /** Null when there is nothing that it follows. */
  readonly #followed: Followed | null;
  readonly #window: number;
  /** Whether there is a link, and whether it was asked. */
  #linked = false;
  #asked = false;
  /** Given by the server; null while there is none. */
  #id: string | null = null;
  /** What has arrived, to be taken from `#head` on. */
  #arrived: EventRecord[] = [];
  #head = 0;
  /** One past the cursor of the last event that has arrived, that was taken, that was acknowledged. */
  #arrivedEnd = 0;
  #takenEnd = 0;
  #ackedEnd = 0;
  #wake: (() => void) | null = null;
  #failure: Error | null = null;
  #closed = false;

  constructor(reconnecting: Reconnecting, pushes: Pushes, ask: Ask, followed: Followed | null, window: number) {
    super();
    this.#reconnecting = reconnecting;
    this.#pushes = pushes;
    this.#ask = ask;
    this.#followed = followed;
    this.#window = window;
    this.started = new Promise((resolve, reject) => this.#settle = { resolve, reject });
    reconnecting.follow(this);
  }

  get closed(): boolean {
    return this.#closed;
  }

  // deno-lint-ignore require-await -- What it throws is to be a rejection.
  override async read(limit = PAGE_EVENTS_MAX): Promise<EventRecord[]> {
    const page: EventRecord[] = [];
    if (this.#closed) return page;
    if (!this.#waiting && this.#failure !== null) throw this.#failure;
    const wanted = Math.min(limit, PAGE_EVENTS_MAX);
    let bytes = 0;
    while (this.#waiting && page.length < wanted && bytes < PAGE_BYTES_MAX) {
      const event = this.#arrived[this.#head]!;
      page.push(event);
      bytes += event.payload.length + event.metadata.length;
      this.#pass(event);
      this.#dropUnwanted();
    }
    this.#begin();
    return page;
  }

  override async ready(): Promise<boolean> {
    for (;;) {
      if (this.#closed) return false;
      if (this.#waiting) return true;
      if (this.#failure !== null) throw this.#failure;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  // deno-lint-ignore require-await -- What it throws is to be a rejection.
  override async lag(): Promise<number> {
    if (this.#failure !== null) throw this.#failure;
    return this.#followed === null ? 0 : this.#followed.lag(this.#ask);
  }

  override close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#arrived = [];
    this.#leave();
    this.#settle.resolve();
  }

  // What the link says.

  linked(): void {
    this.#linked = true;
    this.#begin();
  }

  unlinked(): void {
    if (this.#id !== null) this.#pushes.remove(this.#id);
    this.#id = null;
    this.#linked = this.#asked = false;
  }

  /** It will get no more events. What has arrived can still be taken. */
  failed(error: Error): void {
    if (this.#closed || this.#failure !== null) return;
    this.#failure = error;
    this.#leave();
    this.#settle.reject(error);
  }

  arrived(cursor: number, event: Reply): void {
    try {
      if (cursor !== this.#arrivedEnd) {
        throw new BrokenReply(`The server sent cursor ${cursor} in place of ${this.#arrivedEnd}`);
      }
      this.#arrived.push(recordOf(event));
    } catch (error) {
      return this.failed(error as Error);
    }
    this.#arrivedEnd++;
    this.#dropUnwanted();
    if (this.#waiting) this.#wakeReader();
  }

  /** The server has ended it, or not begun it, and says why. */
  ended(text: string): void {
    if (text.startsWith(STOPPED)) this.#reconnecting.retire();
    else this.failed(errorOfReply(text, this.#reconnecting.partitionCount));
  }

  /** Asks the link, unless something of an earlier one is to be taken first: there is never more than a window here. */
  #begin(): void {
    if (this.#followed === null) return this.#settle.resolve();
    if (!this.#linked || this.#asked || this.#waiting || this.#failure !== null) return;
    this.#asked = true;
    this.#arrivedEnd = this.#takenEnd = this.#ackedEnd = 0;
    this.#tell([...this.#followed.command(), "WINDOW", this.#window], (reply) => {
      if (reply instanceof ErrorReply) return this.ended(reply.text);
      this.#id = reply as string;
      if (this.#closed || this.#failure !== null) return this.#leave();
      this.#pushes.add(this.#id, this); // At once: events may stand right behind the reply.
      this.#settle.resolve();
    });
  }

  get #waiting(): boolean {
    return this.#head < this.#arrived.length;
  }

  /** What nobody wants must not wait to be taken: it would fill the window. */
  #dropUnwanted(): void {
    while (this.#waiting && !this.#followed!.wants(this.#arrived[this.#head]!)) this.#pass(this.#arrived[this.#head]!);
    if (2 * this.#head < this.#arrived.length) return;
    this.#arrived = this.#arrived.slice(this.#head);
    this.#head = 0;
  }

  #pass(event: EventRecord): void {
    this.#followed!.passed(event);
    this.#head++;
    this.#takenEnd++;
    if (this.#id === null || this.#takenEnd - this.#ackedEnd < this.#window / 2) return;
    this.#ackedEnd = this.#takenEnd;
    // An error means that the server has ended it, which it says by a push.
    this.#tell(["EACK", this.#id, this.#takenEnd - 1], () => {});
  }

  #leave(): void {
    this.#reconnecting.unfollow(this);
    if (this.#id !== null) {
      this.#pushes.remove(this.#id);
      this.#tell(["EUNSUB", this.#id], () => {}); // If it is not heard, the link is lost, and with it the subscription.
      this.#id = null;
    }
    this.#wakeReader();
  }

  #wakeReader(): void {
    this.#wake?.();
    this.#wake = null;
  }

  /** What it tells one link is of no meaning to the next: that one is told anew. */
  #tell(words: Word[], answer: (reply: Reply) => void): void {
    this.#reconnecting.tell(commandOf(words), answer);
  }
}

function textOf(error: Reply): string {
  if (error instanceof Uint8Array) return new TextDecoder().decode(error);
  return error instanceof ErrorReply ? error.text : String(error);
}
