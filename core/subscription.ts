/**
 * A subscription to a database: its sources, one after another, as long as one of them has more.
 *
 * History and live are one loop, so there is no hand-over that could be got wrong. A source that may have more stands
 * in a line; who is at its front is read, and goes to the end if it has more still. One that is read to its head leaves
 * the line, and stands in it again when the watermark rises. It is looked at first and then waited for, and nothing can
 * happen between: so no event is missed that was published before, and none twice.
 *
 * @module
 */
import { Damaged, StoreClosed } from "./errors.ts";
import type { EventRecord } from "./event.ts";
import { IndexDamaged } from "./index/segment_index.ts";
import { PAGE_BYTES_MAX, PAGE_EVENTS_MAX } from "./scan.ts";
import type { Source } from "./source.ts";
import { Subscription } from "./store.ts";
import { isOfSeveral } from "./uuid.ts";
import type { Follower } from "./watermark.ts";

/** A source's place in the line. */
interface Place extends Follower {
  source: Source;
  inLine: boolean;
}

export class DatabaseSubscription extends Subscription {
  readonly #places: Place[];
  /** The sources that may have more, from `#lineStart` on: to shift tens of thousands at each turn would take its time. */
  #line: Place[];
  #lineStart = 0;
  /** The transaction of the last event that was given, if it has several. */
  #unfinished: string | null = null;
  #wake: (() => void) | null = null;
  #closed = false;
  #storeClosed = false;
  readonly #pause: () => Promise<void>;
  readonly #onClose: () => void;

  constructor(sources: readonly Source[], pause: () => Promise<void>, onClose: () => void) {
    super();
    this.#pause = pause;
    this.#onClose = onClose;
    this.#places = sources.map((source) => {
      const place: Place = { source, inLine: true, woken: () => this.#woken(place) };
      return place;
    });
    this.#line = this.#places.slice();
    for (const place of this.#places) place.source.follow(place);
  }

  get closed(): boolean {
    return this.#closed;
  }

  override get atEnd(): boolean {
    return this.#lineLength === 0;
  }

  override async read(limit = PAGE_EVENTS_MAX): Promise<EventRecord[]> {
    if (this.#closed) return [];
    this.#requireOpen();
    let page: EventRecord[] = [];
    const wanted = Math.min(limit, PAGE_EVENTS_MAX);
    let bytesLeft = PAGE_BYTES_MAX;
    while (page.length < wanted && bytesLeft > 0 && this.#lineLength > 0) {
      const place = this.#line[this.#lineStart]!;
      const most = wanted - page.length;
      const share = Math.ceil(most / this.#lineLength);
      let events: EventRecord[];
      try {
        await this.#settle(place.source);
        events = await place.source.bucket.lookUp(() => this.#readFrom(place, share, most));
      } catch (error) {
        if (page.length > 0) break; // What was read is given first: the next read meets it again.
        throw error;
      }
      for (const { payload, metadata } of events) bytesLeft -= payload.length + metadata.length;
      page = page.length === 0 ? events : page.concat(events);
    }
    return page;
  }

  override async ready(): Promise<boolean> {
    while (!this.#closed) {
      this.#requireOpen();
      const place = this.#line[this.#lineStart];
      if (place === undefined) {
        await new Promise<void>((resolve) => this.#wake = resolve);
        continue;
      }
      await this.#settle(place.source);
      if (await place.source.bucket.lookUp(() => place.source.isBehind() || this.#leaveLine(place))) return true;
    }
    return false;
  }

  override async lag(): Promise<number> {
    if (this.#closed) return 0;
    this.#requireOpen();
    let lag = 0;
    for (const { source } of this.#places) {
      lag += await source.bucket.lookUp(() => source.lag());
    }
    return lag;
  }

  override close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const place of this.#places) place.source.leave(place);
    this.#onClose();
    this.#wake?.();
  }

  /** Waits end with StoreClosed. */
  storeCloses(): void {
    this.#storeClosed = true;
    this.#wake?.();
  }

  /** Reads from the first in the line, who then goes to its end, or leaves it with nothing. */
  #readFrom(place: Place, share: number, most: number): EventRecord[] {
    const transactionId = this.#unfinished;
    const events = place.source.read(transactionId === null ? share : most, transactionId);
    if (events.length === 0 && transactionId === null) {
      this.#leaveLine(place);
      return events;
    }
    // The rest of a transaction comes before anybody else's turn. Whether there is a rest, the next read tells.
    const last = events.at(-1);
    this.#unfinished = last !== undefined && isOfSeveral(last.transactionId) ? last.transactionId : null;
    if (this.#unfinished !== null) return events;
    if (events.length < share && isAtEnd(place.source)) this.#leaveLine(place);
    else {
      this.#shiftLine();
      this.#line.push(place);
    }
    return events;
  }

  async #settle(source: Source): Promise<void> {
    if (source.settle === undefined) return;
    while (!this.#closed && !await source.bucket.lookUp(() => source.settle!())) await this.#pause();
  }

  get #lineLength(): number {
    return this.#line.length - this.#lineStart;
  }

  #shiftLine(): void {
    this.#lineStart++;
    if (2 * this.#lineStart < this.#line.length) return;
    this.#line = this.#line.slice(this.#lineStart);
    this.#lineStart = 0;
  }

  #leaveLine(place: Place): false {
    place.inLine = false;
    this.#unfinished = null;
    this.#shiftLine();
    return false;
  }

  #woken(place: Place): void {
    if (place.inLine) return;
    place.inLine = true;
    this.#line.push(place);
    this.#wake?.();
  }

  #requireOpen(): void {
    if (this.#storeClosed) throw new StoreClosed();
  }
}

/** Whether a source was read to its head. An index that must be made again first is for the next read to meet. */
function isAtEnd(source: Source): boolean {
  try {
    return !source.isBehind();
  } catch (error) {
    if (error instanceof IndexDamaged || error instanceof Damaged) return false;
    throw error;
  }
}
