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
import { Damaged } from "./errors.ts";
import type { EventRecord, StreamIdentity } from "./event.ts";
import { type Frame, type FramePlace, SEGMENT_HEADER_BYTES } from "./log/format.ts";
import { FEW, PAGE_BYTES_MAX, partitionPage, streamPage, type StreamPlace } from "./scan.ts";
import type { Follower } from "./watermark.ts";

export interface Source {
  readonly bucket: Bucket;
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
    return Math.max(0, (this.bucket.partitionHead(this.partition) ?? -1) + 1 - this.next);
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
  /** Whether it may have more: the others are not looked at. */
  mayHaveMore: boolean;
}

/** Streams of one partition, their events in the order of the partition. */
export class StreamsSource implements Source {
  readonly #streams: FollowedStream[];
  #follower: Follower | null = null;

  constructor(readonly bucket: Bucket, streams: readonly { identity: StreamIdentity; next: number }[]) {
    this.#streams = streams.map(({ identity, next }) => {
      const stream: FollowedStream = {
        identity,
        next,
        place: { segment: null },
        mayHaveMore: true,
        woken: () => {
          stream.mayHaveMore = true;
          this.#follower?.woken();
        },
      };
      return stream;
    });
  }

  lag(): number {
    return this.#streams.reduce((sum, stream) => sum + this.#lagOf(stream), 0);
  }

  isBehind(): boolean {
    return this.#behind().length > 0;
  }

  /** Merges by sequence as far as it is certain that no stream has an earlier event that was not looked at. */
  read(limit: number, transactionId: string | null): EventRecord[] {
    const behind = this.#behind();
    if (behind.length === 0) return [];
    const share = Math.ceil(limit / behind.length);
    const heads = behind.flatMap((stream) => {
      const wanted = Math.min(share, this.#lagOf(stream));
      const { next, place, identity } = stream;
      const range = { from: next, end: next + wanted, backward: false, limit: wanted, transactionId };
      const events = streamPage(this.bucket, this.bucket.lookups, identity, place, range);
      if (events.length > 0) return [{ stream, events, at: 0 }];
      if (transactionId !== null) return [];
      throw missing(this.bucket, `event ${next} of a stream cannot be found`);
    });
    const merged: EventRecord[] = [];
    while (merged.length < limit && heads.length > 0) {
      let first = heads[0]!;
      for (const head of heads) if (head.events[head.at]!.sequence < first.events[first.at]!.sequence) first = head;
      merged.push(first.events[first.at++]!);
      first.stream.next++;
      if (first.at < first.events.length) continue;
      if (this.#lagOf(first.stream) > 0) break; // Its next event may come before what the others have.
      heads.splice(heads.indexOf(first), 1);
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

  #behind(): FollowedStream[] {
    return this.#streams.filter((stream) => {
      if (stream.mayHaveMore) stream.mayHaveMore = this.#lagOf(stream) > 0;
      return stream.mayHaveMore;
    });
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
  /** Before the log is followed: each by itself, who is served last goes to the end. Null from then on. */
  #alone: PartitionSource[] | null;
  /** The first sequence of each partition that has not been given. */
  readonly #next = new Map<number, number>();
  #segment = 0;
  #offset = SEGMENT_HEADER_BYTES;
  /** In the frame there, if some of its events have been given. */
  #within: FramePlace | null = null;
  /** Whether partitions begin beyond their heads, so that not each new entry is for us. */
  #startsAhead = false;

  constructor(readonly bucket: Bucket, starts: ReadonlyMap<number, number>) {
    this.#alone = Array.from(starts, ([partition, next]) => new PartitionSource(bucket, partition, next));
    if (this.#alone.every(({ nextSequence }) => nextSequence === 0)) this.#followLog();
    else this.#followLogIfTogether();
  }

  lag(): number {
    if (this.#alone !== null) return this.#alone.reduce((sum, partition) => sum + partition.lag(), 0);
    let lag = 0;
    for (const [partition, next] of this.#next) {
      lag += Math.max(0, (this.bucket.partitionHead(partition) ?? -1) + 1 - next);
    }
    return lag;
  }

  isBehind(): boolean {
    if (this.#alone !== null || this.#startsAhead) return this.lag() > 0;
    const { end } = this.bucket.watermark;
    return this.#segment < end.segment || this.#offset < end.offset;
  }

  read(limit: number, transactionId: string | null): EventRecord[] {
    if (this.#alone !== null) {
      if (transactionId === null) return this.#readAlone(this.#alone, limit);
      return this.#alone.at(-1)!.read(limit, transactionId); // Who was served last.
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

  #readAlone(partitions: PartitionSource[], limit: number): EventRecord[] {
    for (let i = 0; i < partitions.length; i++) {
      const partition = partitions.shift()!;
      partitions.push(partition);
      const page = partition.read(limit, null);
      if (page.length === 0) continue;
      this.#followLogIfTogether();
      return page;
    }
    return [];
  }

  #followLogIfTogether(): void {
    if (this.#alone!.some((partition) => partition.isBehind())) return;
    const { end } = this.bucket.watermark;
    this.#segment = end.segment;
    this.#offset = end.offset;
    this.#followLog();
  }

  #followLog(): void {
    for (const { partition, nextSequence } of this.#alone!) {
      this.#next.set(partition, nextSequence);
      if (nextSequence > (this.bucket.partitionHead(partition) ?? -1) + 1) this.#startsAhead = true;
    }
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
      if (endOffset === undefined) throw missing(bucket, `segment ${this.#segment} cannot be read whole`);
      if (this.#offset === endOffset) {
        if (this.#segment === end.segment) break;
        this.#segment++;
        this.#offset = SEGMENT_HEADER_BYTES;
        continue;
      }
      if (oneFrame && events.length > 0) break;
      try {
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
