/**
 * The subscriptions of one client, and when they may be written: between two replies, never inside one, and only when
 * all that was written before has left.
 *
 * Those that have something to send stand in a line. When it is their time, each in turn writes a page of events until
 * that is enough for one write; who has more goes to the end of the line. So many subscriptions share a link fairly, and
 * one link holds no more than a page or two, however far its client is behind.
 *
 * @module
 */
import type { Environment, Log } from "../core/environment.ts";
import type { EventRecord } from "../core/event.ts";
import type { Subscription } from "../core/store.ts";
import { formatUuid } from "../core/uuid.ts";
import { Delivery, type Outlet } from "./delivery.ts";
import type { Encoder } from "./encoder.ts";
import { writeSubscriptionEnd } from "./replies.ts";
import type { Turns } from "./turns.ts";
import { ReplyError } from "./value.ts";

/** Enough for one write: about a page of small events. */
const WRITE_BYTES = 64 * 1024;

/** What pushing needs to know of a link. */
export interface PushLink {
  /** Resolves when `reached` holds: looked at now, and after each change. Rejects when the link fails first. */
  until(reached: () => boolean): Promise<void>;
  /** There is something in the encoder to send. */
  changed(): void;
  /** What is pushed would be taken for nonsense. */
  abort(why: unknown): void;
  readonly gone: boolean;
  readonly unsentBytes: number;
}

/** What pushing needs to know of the replies on the same link. */
export interface Replies {
  readonly reply: Encoder;
  /** A reply has been begun and not ended. */
  readonly replying: boolean;
  /** What to tell the client of an error. */
  replyErrorOf(error: unknown, delivery: Delivery): ReplyError;
}

/** What pushing needs to know of the server. */
export interface Surroundings {
  readonly environment: Environment;
  readonly turns: Turns;
  readonly log: Log;
}

export class Deliveries implements Outlet, Iterable<Delivery> {
  readonly #link: PushLink;
  readonly #replies: Replies;
  readonly #server: Surroundings;
  readonly #byId = new Map<string, Delivery>();
  #due: Delivery[] = [];
  /** Those that could not go on, and why, until the client is told. They are due as well. */
  readonly #failures = new Map<Delivery, ReplyError>();
  #pushing = false;
  #pushedBytes = 0;
  /** No more can be added. */
  #ended = false;

  constructor(link: PushLink, replies: Replies, server: Surroundings) {
    this.#link = link;
    this.#replies = replies;
    this.#server = server;
  }

  get size(): number {
    return this.#byId.size;
  }

  /** Bytes of pushes among those that were written to the link. */
  get pushedBytes(): number {
    return this.#pushedBytes;
  }

  /** Whether the client has been told of every subscription that could not go on. */
  get told(): boolean {
    return this.#failures.size === 0;
  }

  [Symbol.iterator](): IterableIterator<Delivery> {
    return this.#byId.values();
  }

  get(id: string): Delivery | undefined {
    return this.#byId.get(id);
  }

  /** Begins to deliver. Nothing is written before the caller has had its turn: the reply comes first. */
  add(subscription: Subscription, command: Delivery["command"], window: number): Delivery {
    if (this.#ended) {
      subscription.close();
      throw new ReplyError("ACTORSTOPPED", "This link ends, and takes no more subscriptions");
    }
    const { environment } = this.#server;
    const delivery = new Delivery(newId(environment), command, window, subscription, this, environment);
    this.#byId.set(delivery.id, delivery);
    delivery.wait();
    return delivery;
  }

  /** Nothing of it is written any more. */
  remove(delivery: Delivery): void {
    delivery.close();
    this.#byId.delete(delivery.id);
    this.#failures.delete(delivery);
  }

  /** Removes all. */
  clear(): void {
    for (const delivery of this.#byId.values()) this.remove(delivery);
    this.#due = [];
  }

  /** Removes all, and takes no more: their client has gone. */
  end(): void {
    this.#ended = true;
    this.clear();
  }

  /** Tells all that they are over, and takes no more. */
  drain(why: ReplyError): void {
    this.#ended = true;
    for (const delivery of this.#byId.values()) this.failed(delivery, why);
  }

  failed(delivery: Delivery, error: unknown): void {
    if (delivery.closed) return;
    delivery.close();
    this.#failures.set(delivery, this.#replies.replyErrorOf(error, delivery));
    this.due(delivery);
  }

  due(delivery: Delivery): void {
    this.#due.push(delivery);
    if (!this.#pushing) void this.#push();
  }

  async #push(): Promise<void> {
    this.#pushing = true;
    const { reply } = this.#replies;
    try {
      while (this.#due.length > 0) {
        // What was written until now has to leave, not what comes meanwhile: on a busy link nothing would be pushed.
        const { written } = reply;
        await this.#link.until(() => reply.written - this.#link.unsentBytes >= written);
        await this.#server.turns.take(() => this.#pushDue());
      }
    } catch (error) {
      if (!this.#link.gone) this.#server.log("error", "Could not push: closed the link", { cause: error });
      this.#link.abort(error);
    }
    this.#pushing = false;
  }

  /** Lets those that are due write, until that is enough for one write. */
  async #pushDue(): Promise<void> {
    await this.#link.until(() => !this.#replies.replying);
    const end = this.#pushedBytes + WRITE_BYTES;
    while (this.#due.length > 0 && this.#pushedBytes < end && !this.#replies.replying) {
      await this.#pushFrom(this.#due.shift()!);
    }
    this.#link.changed();
  }

  async #pushFrom(delivery: Delivery): Promise<void> {
    const { reply } = this.#replies;
    const failure = this.#failures.get(delivery);
    if (failure !== undefined) {
      this.#write(() => writeSubscriptionEnd(reply, delivery.id, failure));
      this.remove(delivery);
    }
    if (delivery.closed) return;
    let page: EventRecord[];
    try {
      page = await delivery.read();
    } catch (error) {
      return this.failed(delivery, error);
    }
    if (delivery.closed) return;
    if (this.#replies.replying) {
      delivery.hold(page);
      return void this.#due.unshift(delivery);
    }
    if (page.length > 0) this.#write(() => delivery.write(reply, page));
    if (page.length === 0 || delivery.waits) delivery.wait();
    else this.#due.push(delivery);
  }

  #write(write: () => void): void {
    const before = this.#replies.reply.written;
    write();
    this.#pushedBytes += this.#replies.reply.written - before;
  }
}

/** A UUID of version 4: chance and nothing else. */
function newId(environment: Environment): string {
  const bytes = new Uint8Array(16);
  environment.random(bytes);
  bytes[6] = bytes[6]! & 0x0f | 0x40;
  bytes[8] = bytes[8]! & 0x3f | 0x80;
  return formatUuid(bytes);
}
