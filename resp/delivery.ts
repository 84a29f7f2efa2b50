/**
 * One subscription of one client: what it was sent, what it has acknowledged, and whether it may be sent more.
 *
 *     acked          cursor - 1         acked + window
 *     ───┼── on the way ──┼── may be sent ──┼──────►  cursors: 0 is the first event that this subscription was sent
 *
 * It holds numbers. Events are read when they can be written at once, so a client that is slow, or never acknowledges,
 * costs nothing and is never dropped: it is behind, and the store still has what it has not seen.
 *
 * It knows no link: it says when it has something to send (`due`), and deliveries.ts says when it may.
 *
 * @module
 */
import type { Environment } from "../core/environment.ts";
import type { EventRecord } from "../core/event.ts";
import type { Subscription } from "../core/store.ts";
import type { Encoder } from "./encoder.ts";
import { messageHead, writeMessage } from "./replies.ts";

/** As many as a store gives at once. */
const PAGE_EVENTS_MAX = 256;
/** A wait of so long was one for new events. Those that are there already are told of at once. */
const WAITED_MS = 1000;

/** Who carries the events away. */
export interface Outlet {
  /** There is something to read, and the client may be sent it. */
  due(delivery: Delivery): void;
  /** The store cannot go on with it. */
  failed(delivery: Delivery, error: unknown): void;
}

export class Delivery {
  /** Of the next event. */
  cursor = 0;
  /** The highest cursor that the client has acknowledged, -1 before the first. */
  acked = -1;
  /** The last event that was sent. */
  position: Pick<EventRecord, "partition" | "sequence" | "streamId" | "version"> | null = null;
  readonly #subscription: Subscription;
  readonly #outlet: Outlet;
  readonly #environment: Pick<Environment, "monotonic">;
  readonly #messageHead: Uint8Array;
  #closed = false;
  /** Read, and not written yet, because a reply was begun meanwhile. */
  #held: EventRecord[] | null = null;
  /** There is something to read, and the window is closed. */
  #stalled = false;
  /** `monotonic()` since when it has not been at its end. */
  #behindSince: number | null = null;

  constructor(
    readonly id: string,
    /** The command that it came with. */
    readonly command: "esub" | "epsub",
    readonly window: number,
    subscription: Subscription,
    outlet: Outlet,
    environment: Pick<Environment, "monotonic">,
  ) {
    this.#subscription = subscription;
    this.#outlet = outlet;
    this.#environment = environment;
    this.#messageHead = messageHead(id);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** How many events may be sent before the client has to acknowledge one. */
  get room(): number {
    return this.acked + this.window - this.cursor + 1;
  }

  /** What was never sent cannot be acknowledged, and what was acknowledged stays it. */
  acknowledge(cursor: number): void {
    this.acked = Math.max(this.acked, Math.min(cursor, this.cursor - 1));
    if (!this.#stalled || this.room <= 0) return;
    this.#stalled = false;
    this.#outlet.due(this);
  }

  /** Says that it is due when there is something to read and the window is open: once. */
  wait(): void {
    const from = this.#environment.monotonic();
    this.#subscription.ready().then((ready) => {
      if (!ready || this.#closed) return;
      const now = this.#environment.monotonic();
      if (this.#behindSince === null || now - from > WAITED_MS) this.#behindSince = now;
      if (this.room > 0) this.#outlet.due(this);
      else this.#stalled = true;
    }, (error) => this.#outlet.failed(this, error));
  }

  /** What to write next, as much as the window leaves room for. None when it is at its end, or closed meanwhile. */
  async read(): Promise<EventRecord[]> {
    const page = this.#held ?? await this.#subscription.read(Math.min(PAGE_EVENTS_MAX, this.room));
    this.#held = null;
    if (this.#closed) return [];
    if (page.length === 0 || this.#subscription.atEnd) this.#behindSince = null;
    return page;
  }

  /** Whether it is to be waited for: nothing is left to read, or the window is closed. */
  get waits(): boolean {
    return this.room <= 0 || this.#subscription.atEnd;
  }

  /** Takes a page back that could not be written now. The next `read` gives it again. */
  hold(page: EventRecord[]): void {
    this.#held = page;
  }

  write(reply: Encoder, page: EventRecord[]): void {
    for (const event of page) writeMessage(reply, this.#messageHead, this.cursor++, event);
    const { partition, sequence, streamId, version } = page.at(-1)!;
    this.position = { partition, sequence, streamId, version };
  }

  /** Events that it has not been sent, and for how many seconds there have been such. */
  async lag(): Promise<{ events: number; seconds: number }> {
    const events = await this.#subscription.lag() + (this.#held?.length ?? 0);
    const since = events === 0 ? null : this.#behindSince;
    return { events, seconds: since === null ? 0 : Math.floor((this.#environment.monotonic() - since) / 1000) };
  }

  close(): void {
    this.#closed = true;
    this.#held = null;
    this.#subscription.close();
  }
}
