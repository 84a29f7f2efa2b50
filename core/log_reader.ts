/**
 * The log of a bucket by log index: for its replica, which sends entries to others and compares chains.
 *
 * No index knows log indexes. But sequences rise along the log, and the index of a segment knows where each sequence of a
 * partition is: so the frame before the wanted one is found by halving in each partition, and from there it is a few
 * frames. Whoever reads on finds where the last reading ended, without a search. The chain before an entry stands in its
 * frame.
 *
 * @module
 */
import type { Bucket, Segment } from "./bucket.ts";
import { Damaged } from "./errors.ts";
import { isUnreadable } from "./log/disk.ts";
import { IndexDamaged } from "./index/segment_index.ts";
import type { FilePool } from "./log/file_pool.ts";
import { Chain, type Frame, FRAME_PREFIX_BYTES, frameBytesAt, SEGMENT_HEADER_BYTES } from "./log/format.ts";
import { FrameReader, LOOKUP_BYTES, SCAN_BYTES } from "./log/segment_reader.ts";
import type { Entry } from "./uncommitted.ts";

/** So near to the wanted entry no better place is searched for. */
const NEAR_ENTRIES = 64;
/** Ends of readings that are remembered: one for each of those who are behind. */
const ENDS_REMEMBERED = 8;

export class LogReader {
  readonly #bucket: Bucket;
  readonly #pool: FilePool;
  readonly #probes: FrameReader;
  readonly #stretches: FrameReader;
  #ends: Entry[] = [];

  constructor(bucket: Bucket, pool: FilePool) {
    this.#bucket = bucket;
    this.#pool = pool;
    this.#probes = new FrameReader(pool, LOOKUP_BYTES);
    this.#stretches = new FrameReader(pool, SCAN_BYTES);
  }

  /** The chain of all entries below `end`, which is at most the log's. @throws {Damaged} */
  chainAt(end: number): { low: number; high: number } {
    const { log, number } = this.#bucket;
    if (end === log.end.logIndex) return log.end.chain.copy();
    if (end === 0) return Chain.ofBucket(number);
    const { prevChainLow, prevChainHigh } = this.#frame(end);
    return { low: prevChainLow, high: prevChainHigh };
  }

  /**
   * Frames from `from` on, which is below the log's end: whole, one after the other, of one segment, up to so many bytes;
   * at least one. Nothing is verified. @throws {Damaged}
   */
  read(from: number, bytesMax: number): Uint8Array {
    const { segment: number, offset } = this.#placeOf(from);
    const segment = this.#bucket.segments[number]!;
    const end = segment.identity?.endOffset ?? this.#bucket.log.end.offset;
    let bytes = this.#readBytes(segment, offset, Math.min(Math.max(bytesMax, FRAME_PREFIX_BYTES), end - offset));
    const first = bytes.length < FRAME_PREFIX_BYTES ? 0 : frameBytesAt(viewOf(bytes), 0);
    if (first === 0 || offset + first > end) throw new Damaged(segment.path, offset, "a frame is missing here");
    if (first > bytes.length) bytes = this.#readBytes(segment, offset, first);
    const view = viewOf(bytes);
    let at = 0;
    let count = 0;
    while (at + FRAME_PREFIX_BYTES <= bytes.length) {
      const frameBytes = frameBytesAt(view, at);
      if (frameBytes === 0 || at + frameBytes > bytes.length) break;
      at += frameBytes;
      count++;
    }
    if (at === 0) throw new Damaged(segment.path, offset, "the file ends within a frame");
    const next = from + count;
    if (offset + at < end) this.#remember({ logIndex: next, segment: number, offset: offset + at });
    else if (number + 1 < this.#bucket.segments.length) {
      this.#remember({ logIndex: next, segment: number + 1, offset: SEGMENT_HEADER_BYTES });
    }
    return bytes.subarray(0, at);
  }

  /** From which entry on each term's entries stand in the log. @throws {Damaged} */
  termStarts(): { term: number; from: number }[] {
    const last = this.#bucket.log.end.logIndex - 1;
    if (last < 0) return [];
    const starts: { term: number; from: number }[] = [{ term: this.#frame(0).term, from: 0 }];
    // Terms only rise along a log: between two entries of one term there is no other.
    const search = (low: number, lowTerm: number, high: number, highTerm: number) => {
      if (lowTerm === highTerm) return;
      if (high - low === 1) {
        starts.push({ term: highTerm, from: high });
        return;
      }
      const middle = Math.floor((low + high) / 2);
      const { term } = this.#frame(middle);
      search(low, lowTerm, middle, term);
      search(middle, term, high, highTerm);
    };
    search(0, starts[0]!.term, last, this.#frame(last).term);
    return starts;
  }

  /** The log was cut: what is remembered may be gone. */
  forget(): void {
    this.#ends = [];
  }

  #remember(end: Entry): void {
    this.#ends = [end, ...this.#ends.slice(0, ENDS_REMEMBERED - 1)];
  }

  #readBytes({ path }: Segment, offset: number, bytes: number): Uint8Array {
    const into = new Uint8Array(bytes);
    try {
      return into.subarray(0, this.#pool.read(path, into, offset));
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      throw this.#bucket.noteLogDamage(`it cannot be read: ${(error as Error).message}`);
    }
  }

  #frame(logIndex: number): Frame {
    const { segment, offset } = this.#placeOf(logIndex);
    return this.#bucket.frame(this.#probes, this.#bucket.segments[segment]!, offset);
  }

  #placeOf(logIndex: number): Entry {
    const { uncommitted, segments, log } = this.#bucket;
    if (!(logIndex >= 0 && logIndex < log.end.logIndex)) {
      throw new RangeError(`Entry ${logIndex} of a log that ends at ${log.end.logIndex}`);
    }
    const [first] = uncommitted.entries;
    if (first !== undefined && logIndex >= first.logIndex) {
      const entry = uncommitted.entries[logIndex - first.logIndex];
      if (entry === undefined) throw this.#bucket.damage ?? new Error(`Entry ${logIndex} is in no place`);
      return entry;
    }
    const known = this.#ends.find((end) => end.logIndex === logIndex);
    if (known !== undefined) return known;
    const number = lastWith(segments.length, (i) => segments[i]!.firstLogIndex <= logIndex);
    return this.#walk(segments[number]!, this.#nearest(segments[number]!, logIndex), logIndex);
  }

  /** An entry of the segment that is at or before the wanted one, as near as its index tells. */
  #nearest(segment: Segment, logIndex: number): Entry {
    let best: Entry = { logIndex: segment.firstLogIndex, segment: segment.number, offset: SEGMENT_HEADER_BYTES };
    try {
      for (const { partition, first, end } of segment.index.partitions()) {
        if (logIndex - best.logIndex <= NEAR_ENTRIES) break;
        const entryAt = (sequence: number): Entry => {
          const offset = segment.index.partitionOffsets(partition, sequence, sequence + 1)[0]!;
          const frame = this.#bucket.frame(this.#probes, segment, offset);
          return { logIndex: frame.logIndex, segment: segment.number, offset };
        };
        const sequence = first + lastWith(end - first, (i) => entryAt(first + i).logIndex <= logIndex);
        if (sequence < first) continue;
        const entry = entryAt(sequence);
        if (entry.logIndex > best.logIndex) best = entry;
      }
    } catch (error) {
      if (!(error instanceof IndexDamaged)) throw error; // Whoever looks an event up has it made again; here it is slower.
    }
    return best;
  }

  #walk(segment: Segment, from: Entry, logIndex: number): Entry {
    let { offset } = from;
    for (let at = from.logIndex; at < logIndex; at++) {
      const frame = this.#bucket.frame(this.#stretches, segment, offset);
      offset += frame.end - frame.start;
    }
    return { logIndex, segment: segment.number, offset };
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** The last of `count` numbers that a test holds for, which holds for some first ones and no others; -1 if for none. */
function lastWith(count: number, holds: (i: number) => boolean): number {
  let low = -1;
  for (let high = count; high - low > 1;) {
    const middle = low + high >> 1;
    if (holds(middle)) low = middle;
    else high = middle;
  }
  return low;
}
