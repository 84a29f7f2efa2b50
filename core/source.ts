/**
 * What a subscription reads of one bucket: a partition, streams of a partition, or all of the bucket.
 *
 * A source is numbers: from which on nothing has been given yet. `read` moves them, and does so only past what it
 * returns, so that an error loses nothing. Everything here happens within one step of the event loop, in which no head
 * can move: what lies between two looks is never lost.
 *
 * @module
 */
import type { Bucket, Segment } from "./bucket.ts";
import { Earliest } from "./earliest.ts";
import { Damaged } from "./errors.ts";
import type { EventRecord, StreamIdentity } from "./event.ts";
import { type Frame, type FramePlace, SEGMENT_HEADER_BYTES } from "./log/format.ts";
import { FEW, PAGE_BYTES_MAX, partitionPage, streamPage, type StreamPlace } from "./scan.ts";
import type { Follower } from "./watermark.ts";

export interface Source {
  readonly bucket: Bucket;
  /**
   * Looks at a few of the things that must be known before a read, false while there are more: so that others have
   * their turn between. What is left, `read` looks at itself. @throws {Damaged} | {IndexDamaged}
   */
  settle?(): boolean;
  /** Whether there is something to read. May look into an index. @throws {Damaged} | {IndexDamaged} */
  isBehind(): boolean;
  /**
   * The next events, at most `limit`; none when there is nothing. With a transaction id: those that are left of the
   * transaction that the last event belonged to.
   * @throws {Damaged} | {IndexDamaged}
   */
  read(limit: number, transactionId: string | null): EventRecord[];
  /** How many events there are to read. @throws {Damaged} | {IndexDamaged} */
  lag(): number;
  follow(follower: Follower): void;
  leave(follower: Follower): void;
}

/** One partition, by its index. */
export class PartitionSource implements Source {
  constructor(readonly bucket: Bucket, readonly partition: number, private next: number) {}

  get nextSequence(): number {
    return this.next;
  }

  lag(): number {
    return Math.max(0, this.bucket.nextSequence(this.partition) - this.next);
  }

  isBehind(): boolean {
    return this.lag() > 0;
  }

  read(limit: number, transactionId: string | null): EventRecord[] {
    const { bucket, partition, next } = this;
    const wanted = Math.min(limit, this.lag());
    if (wanted === 0) return [];
    const reader = wanted <= FEW ? bucket.lookups : bucket.stretches;
    const page = partitionPage(bucket, reader, partition, {
      from: next,
      end: next + wanted,
      backward: false,
      limit: wanted,
      transactionId,
    });
    if (page.length === 0 && transactionId === null) {
      throw missing(bucket, `event ${next} of partition ${partition} cannot be found`);
    }
    this.next += page.length;
    return page;
  }

  follow(follower: Follower): void {
    this.bucket.watermark.follow(this.partition, follower);
  }

  leave(follower: Follower): void {
    this.bucket.watermark.leave(this.partition, follower);
  }
}

/** A stream of a StreamsSource. */
interface FollowedStream extends Follower {
  identity: StreamIdentity;
  next: number;
  place: StreamPlace;
  /** Of its next event, while it is in `#behind`. */
  sequence: number;
  /** In `#behind` or `#unknown`: the others have nothing to read. */
  mayHaveMore: boolean;
}

/** Streams that are looked at in one step: each may cost a read. */
const LOOKS_MAX = 256;
/** Events that are read of a stream at first, where others are behind as well. Twice as many when all were its turn. */
const RUN_MIN = 2;

/**
 * Streams of one partition, their events in the order of the partition.
 *
 * Of each stream that is behind it is known where in the partition it goes on. So only the earliest is read, and what
 * an event costs does not depend on how many there are; and no event is held until another stream's turn has passed.
 */
export class StreamsSource implements Source {
  readonly #streams: FollowedStream[];
  /** Streams that may have more, and it is not known where. */
  readonly #unknown: FollowedStream[];
  readonly #behind = new Earliest<FollowedStream>();
  #follower: Follower | null = null;

  constructor(readonly bucket: Bucket, streams: readonly { identity: StreamIdentity; next: number }[]) {
    this.#streams = streams.map(({ identity, next }) => {
      const stream: FollowedStream = {
        identity,
        next,
        place: { segment: null },
        sequence: -1,
        mayHaveMore: true,
        woken: () => {
          if (!stream.mayHaveMore) this.#unknown.push(stream);
          stream.mayHaveMore = true;
          this.#follower?.woken();
        },
      };
      return stream;
    });
    this.#unknown = this.#streams.slice();
  }

  lag(): number {
    return this.#streams.reduce((sum, stream) => sum + this.#lagOf(stream), 0);
  }

  settle(): boolean {
    for (let looks = 0; looks < LOOKS_MAX && this.#unknown.length > 0; looks++) this.#lookAtOne();
    return this.#unknown.length === 0;
  }

  isBehind(): boolean {
    return this.#behind.size > 0 || this.#unknown.some((stream) => this.#lagOf(stream) > 0);
  }

  read(limit: number, transactionId: string | null): EventRecord[] {
    const merged: EventRecord[] = [];
    let bytes = 0;
    let run = RUN_MIN;
    let isOver = false;
    try {
      while (this.#unknown.length > 0) this.#lookAtOne(); // Those that were woken since `settle`.
      while (!isOver && merged.length < limit && bytes < PAGE_BYTES_MAX && this.#behind.size > 0) {
        const stream = this.#behind.first!;
        const ofOthers = this.#behind.secondSequence;
        // One more than can be taken: it tells where the stream goes on.
        const most = Math.min(this.#lagOf(stream), limit - merged.length + 1);
        const page = this.#pageOf(stream, ofOthers === Infinity ? most : Math.min(most, run));
        let taken = 0;
        for (const event of page) {
          isOver = transactionId !== null && event.transactionId !== transactionId;
          if (isOver || event.sequence > ofOthers || merged.length === limit || bytes >= PAGE_BYTES_MAX) break;
          merged.push(event);
          bytes += event.payload.length + event.metadata.length;
          taken++;
        }
        stream.next += taken;
        if (taken < page.length) {
          stream.sequence = page[taken]!.sequence;
          this.#behind.firstMoved();
          run = RUN_MIN;
        } else {
          this.#behind.removeFirst();
          this.#unknown.push(stream);
          this.#lookAtOne();
          run *= 2;
        }
      }
    } catch (error) {
      if (merged.length === 0) throw error; // What was read is given first: the next read meets it again.
    }
    return merged;
  }

  follow(follower: Follower): void {
    this.#follower = follower;
    for (const stream of this.#streams) this.bucket.watermark.follow(stream.identity.streamKey, stream);
  }

  leave(): void {
    this.#follower = null;
    for (const stream of this.#streams) this.bucket.watermark.leave(stream.identity.streamKey, stream);
  }

  /** Finds out where the last of the unknown goes on, if it does. */
  #lookAtOne(): void {
    const stream = this.#unknown.at(-1)!;
    const head = this.bucket.streamHead(stream.identity);
    stream.mayHaveMore = head !== null && head.version >= stream.next;
    if (stream.mayHaveMore) {
      const isLast = head!.version === stream.next;
      stream.sequence = isLast ? head!.sequence : this.#pageOf(stream, 1)[0]!.sequence;
      this.#behind.add(stream);
    }
    this.#unknown.pop();
  }

  /** The next events of a stream that has so many: at least one. */
  #pageOf({ identity, next, place }: FollowedStream, wanted: number): EventRecord[] {
    const range = { from: next, end: next + wanted, backward: false, limit: wanted };
    const page = streamPage(this.bucket, this.bucket.lookups, identity, place, range);
    if (page.length === 0) throw missing(this.bucket, `event ${next} of a stream cannot be found`);
    return page;
  }

  #lagOf({ identity, next }: FollowedStream): number {
    return Math.max(0, (this.bucket.streamHead(identity)?.version ?? -1) + 1 - next);
  }
}

/**
 * All partitions of a bucket. From its first event, or from its end, it follows the log itself, frame by frame, whatever
 * the number of partitions. Other starts lie at as many places of the log as there are partitions: those are read one
 * by one to their heads, and when all are there at once, the log is followed from its end.
 */
export class BucketSource implements Source {
  /** Before the log is followed: each by itself, in turn. Null from then on. */
  #alone: PartitionSource[] | null;
  /** Whose turn among them it was last. */
  #turn = -1;
  /** The first sequence of each partition that has not been given. */
  readonly #next = new Map<number, number>();
  #segment = 0;
  #offset = SEGMENT_HEADER_BYTES;
  /** In the frame there, if some of its events have been given. */
  #within: FramePlace | null = null;

  constructor(readonly bucket: Bucket, starts: ReadonlyMap<number, number>) {
    this.#alone = Array.from(starts, ([partition, next]) => new PartitionSource(bucket, partition, next));
    if (this.#alone.every(({ nextSequence }) => nextSequence === 0)) this.#followLog();
    else this.#nextTurn();
  }

  lag(): number {
    if (this.#alone !== null) return this.#alone.reduce((sum, partition) => sum + partition.lag(), 0);
    let lag = 0;
    for (const [partition, next] of this.#next) {
      lag += Math.max(0, this.bucket.nextSequence(partition) - next);
    }
    return lag;
  }

  isBehind(): boolean {
    if (this.#alone !== null) return this.#nextTurn() !== null;
    const { end } = this.bucket.watermark;
    if (this.#segment === end.segment && this.#offset === end.offset) return false;
    for (const [partition, next] of this.#next) if (next < this.bucket.nextSequence(partition)) return true;
    // Partitions that begin beyond their heads, entries that open a term: nothing is for us, nor to be walked through later.
    this.#goToEnd();
    return false;
  }

  read(limit: number, transactionId: string | null): EventRecord[] {
    if (this.#alone !== null) {
      const turn = transactionId === null ? this.#nextTurn() : this.#turn;
      if (turn === null) return [];
      this.#turn = turn;
      return this.#alone[turn]!.read(limit, transactionId);
    }
    if (transactionId !== null && this.#within === null) return [];
    return this.#readLog(limit, transactionId !== null);
  }

  follow(follower: Follower): void {
    this.bucket.watermark.follow("all", follower);
  }

  leave(follower: Follower): void {
    this.bucket.watermark.leave("all", follower);
  }

  /** Whose turn is next. Null when nobody is behind: all are at their heads at once, and the log is followed from its end. */
  #nextTurn(): number | null {
    const alone = this.#alone!;
    for (let i = 1; i <= alone.length; i++) {
      const turn = (this.#turn + i) % alone.length;
      if (alone[turn]!.isBehind()) return turn;
    }
    this.#goToEnd();
    this.#followLog();
    return null;
  }

  #goToEnd(): void {
    const { end } = this.bucket.watermark;
    this.#segment = end.segment;
    this.#offset = end.offset;
  }

  #followLog(): void {
    for (const { partition, nextSequence } of this.#alone!) this.#next.set(partition, nextSequence);
    this.#alone = null;
  }

  #readLog(limit: number, oneFrame: boolean): EventRecord[] {
    const { bucket } = this;
    const { end } = bucket.watermark;
    const events: EventRecord[] = [];
    let bytes = 0;
    while (events.length < limit && bytes < PAGE_BYTES_MAX) {
      const segment = bucket.segments[this.#segment]!;
      const endOffset = this.#segment < end.segment ? segment.identity?.endOffset : end.offset;
      if (this.#offset === endOffset) {
        if (this.#segment === end.segment) break;
        this.#segment++;
        this.#offset = SEGMENT_HEADER_BYTES;
        continue;
      }
      if (oneFrame && events.length > 0) break;
      try {
        if (endOffset === undefined) throw missing(bucket, `segment ${this.#segment} cannot be read whole`);
        bytes += this.#readFrame(segment, limit, PAGE_BYTES_MAX - bytes, events);
      } catch (error) {
        if (events.length === 0) throw error;
        break; // What was read is given first: the next read meets it again.
      }
    }
    return events;
  }

  /** Adds what is wanted of the frame at our place, and moves past it, or to where it stopped. Returns the events' bytes. */
  #readFrame(segment: Segment, limit: number, bytesMax: number, into: EventRecord[]): number {
    const { bucket } = this;
    const live = this.#within === null ? bucket.liveFrame(segment, this.#offset) : null;
    if (live !== null && into.length + live.events.length <= limit) {
      let bytes = 0;
      const next = this.#nextOf(live.partition, live.firstSequence, segment);
      live.events.forEach((event, i) => {
        if (event.sequence < next) return;
        into.push(event);
        bytes += live.eventBytes[i]!;
      });
      this.#next.set(live.partition, Math.max(next, live.firstSequence + live.events.length));
      this.#offset += live.frameBytes;
      return bytes;
    }
    const near = bucket.watermark.end;
    const few = segment.number === near.segment && near.offset - this.#offset < FEW_BYTES;
    const frame = bucket.frame(few ? bucket.lookups : bucket.stretches, segment, this.#offset);
    if (this.#within !== null) frame.goTo(this.#within);
    return this.#takeEvents(frame, segment, limit, bytesMax, into);
  }

  #takeEvents(frame: Frame, segment: Segment, limit: number, bytesMax: number, into: EventRecord[]): number {
    const { partition } = frame;
    let next = this.#nextOf(partition, frame.firstSequence, segment);
    let bytes = 0;
    while (!frame.isSpent && into.length < limit && bytes < bytesMax) {
      frame.next();
      if (frame.sequence < next) continue; // It lies before the start.
      into.push(frame.record());
      bytes += frame.eventBytes;
      next++;
    }
    this.#within = frame.isSpent ? null : frame.place;
    if (frame.isSpent) this.#offset += frame.end - frame.start;
    this.#next.set(partition, next);
    return bytes;
  }

  /** The sequence that comes next in a partition. A frame may begin before it, and never after: that would be a gap. */
  #nextOf(partition: number, firstSequence: number, segment: Segment): number {
    const next = this.#next.get(partition)!;
    if (firstSequence > next) {
      throw new Damaged(
        segment.path,
        this.#offset,
        `sequence ${firstSequence} of partition ${partition} follows ${next - 1}`,
      );
    }
    return next;
  }
}

/** Less than this is not worth reading a stretch. */
const FEW_BYTES = 4096;

function missing(bucket: Bucket, reason: string): Error {
  return bucket.damage ?? new Damaged(`bucket ${bucket.number}`, 0, reason);
}
