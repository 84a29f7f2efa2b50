/**
 * The log of one bucket as far as it can be proved, over damage and beyond it: for `check` and `repair`.
 *
 * Problem: behind a damaged place nobody says where the next frame begins, and bytes that look like a frame need not be
 * one: they may stand in the payload of an event, which anybody may have written.
 *
 * Idea: frames are tied to each other by their chain, so that one of them that is known to be one proves those around
 * it; and where the log goes on is also known from elsewhere.
 *
 * Rule: a frame is believed when its checksum is right and it follows from the one before it. Behind damage, a run of
 * frames that follow from each other is believed
 *
 *     - when it begins where a segment begins, or where the damaged frame says that it ends, and follows from that, or
 *     - when it ends where the next segment's header, or the journal, says that the log has got to, or
 *     - when an index file names one of its frames.
 *
 * Anything else is told as damage. Log indexes that are passed over are told as lost. No log index comes twice.
 *
 * @module
 */
import type { BlockCache } from "./index/block_cache.ts";
import { IndexDamaged, SegmentIndex } from "./index/segment_index.ts";
import type { Environment } from "./environment.ts";
import { Damaged } from "./errors.ts";
import { TRANSACTION_BYTES_MAX } from "./event.ts";
import { bucketOf } from "./placement.ts";
import type { FilePool } from "./log/file_pool.ts";
import {
  Chain,
  type Frame,
  FRAME_HEAD_BYTES,
  FRAME_PREFIX_BYTES,
  type FrameHead,
  frameHeadAt,
  SEGMENT_HEADER_BYTES,
} from "./log/format.ts";
import { emptyLogEnd, type LogEnd } from "./log/journal_format.ts";
import { segmentFolder, segmentPath, segmentsFolder } from "./log/layout.ts";
import { FrameReader, LOOKUP_BYTES, readSegmentHeader, SCAN_BYTES } from "./log/segment_reader.ts";

export type Proved =
  | { kind: "frame"; frame: Frame; path: string; offset: number }
  /** Bytes that are not what was written. */
  | { kind: "damage"; damage: Damaged }
  /** Entries `[from, end)` of the log are missing at this place. */
  | { kind: "lost"; path: string; offset: number; from: number; end: number };

export interface ProvedLogOptions {
  pool: FilePool;
  cache: BlockCache;
  environment: Environment;
  dir: string;
  bucket: number;
  partitionCount: number;
  bucketCount: number;
  /** Where the journal says that the log ends; null if it does not say. */
  end: LogEnd | null;
  /** Whether the log may go on behind that end: the journal has lost something. */
  open: boolean;
}

export class ProvedLog {
  readonly #options: ProvedLogOptions;
  readonly #frames: FrameReader;
  readonly #probes: FrameReader;
  readonly lastSegment: number;
  /** Where the log stands: behind the last frame that was handed out. */
  readonly position: LogEnd;
  /** Nothing ties the next frame to the last one: its place proves it. */
  #loose = false;
  /** Of the segments with damage: one past the last sequence of each partition that an index file knows of. */
  readonly promised = new Map<number, number>();
  #index: { segment: number; index: SegmentIndex | null } | null = null;

  constructor(options: ProvedLogOptions) {
    this.#options = options;
    this.#frames = new FrameReader(options.pool, SCAN_BYTES);
    this.#probes = new FrameReader(options.pool, LOOKUP_BYTES);
    this.position = emptyLogEnd(options.bucket);
    const { pool, dir, bucket, end, open } = options;
    const there = open ? pool.disk.list(segmentsFolder(dir, bucket)).map(Number).filter(Number.isInteger) : [];
    this.lastSegment = Math.max(end?.segment ?? 0, ...there);
  }

  /** What a segment has, in order. Segments are asked for one after the other; a frame is good until the next one. */
  *segment(number: number): Generator<Proved, void> {
    const { pool, dir, bucket, end, open } = this.#options;
    const { position } = this;
    const path = segmentPath(dir, bucket, number);
    const isLast = number === this.lastSegment;
    // Nothing was ever acknowledged in this bucket: what its first segment holds, if it is there, is made anew.
    if (end?.logIndex === 0 && !open) return;
    try {
      const header = readSegmentHeader(pool, path, bucket, number);
      const follows = header.firstLogIndex === position.logIndex && header.prevChain.equals(position.chain);
      if (!follows) {
        yield* this.#lost(header.firstLogIndex);
        if (number > 0) this.#takePromises(number - 1);
        if (!this.#loose) yield damageAt(path, 0, "the segment does not follow from the one before it");
      }
      position.chain = header.prevChain.copy();
      this.#loose = !follows && header.firstLogIndex !== position.logIndex;
    } catch (error) {
      if (!(error instanceof Damaged)) throw error;
      yield { kind: "damage", damage: error };
      this.#takePromises(number);
      if (!pool.disk.exists(path)) {
        this.#loose = true;
        if (isLast && end !== null) yield* this.#lost(end.logIndex);
        return;
      }
    }
    position.segment = number;
    position.offset = SEGMENT_HEADER_BYTES;
    const fileBytes = pool.size(path);
    const endOffset = isLast && end !== null && !open ? Math.min(fileBytes, end.offset) : fileBytes;
    yield* this.#framesOf(number, path, endOffset);
    if (number === end?.segment && fileBytes < end.offset) {
      yield damageAt(path, fileBytes, `the file ends here: acknowledged frames reach to ${end.offset}`);
      this.#takePromises(number);
    }
    if (isLast && end !== null) yield* this.#lost(end.logIndex);
    this.#letGo();
  }

  *#framesOf(number: number, path: string, endOffset: number): Generator<Proved, void> {
    const { position } = this;
    while (position.offset < endOffset) {
      const { offset } = position;
      const frame = this.#frameAt(this.#frames, path, offset, endOffset);
      const damage = frame instanceof Damaged ? frame : this.#unfit(frame, path, offset);
      if (damage === null) {
        yield* this.#hand(frame as Frame, path, offset);
        continue;
      }
      yield { kind: "damage", damage };
      this.#takePromises(number);
      const next = this.#linkedAcross(path, offset, endOffset);
      if (next !== null) {
        position.offset = next;
      } else {
        yield* this.#search(number, path, offset + 1, endOffset);
      }
      this.#loose = true;
    }
  }

  *#hand(frame: Frame, path: string, offset: number): Generator<Proved, void> {
    const { position } = this;
    const again = frame.logIndex < position.logIndex;
    yield* this.#lost(frame.logIndex);
    position.chain = new Chain(frame.prevChainLow, frame.prevChainHigh);
    position.chain.step(frame.term, frame.logIndex, frame.crc);
    position.offset = offset + frame.end - frame.start;
    this.#loose = again; // What comes behind it may be new, and cannot follow from what was handed out.
    if (again) return;
    position.logIndex = frame.logIndex + 1;
    yield { kind: "frame", frame, path, offset };
  }

  /** Tells of the entries that are missing up to the log index `end`. */
  *#lost(end: number): Generator<Proved, void> {
    const { position } = this;
    if (end <= position.logIndex) return;
    const path = segmentPath(this.#options.dir, this.#options.bucket, position.segment);
    yield { kind: "lost", path, offset: position.offset, from: position.logIndex, end };
    position.logIndex = end;
  }

  #unfit(frame: Frame, path: string, offset: number): Damaged | null {
    const { chain, logIndex } = this.position;
    if (this.#loose) return null;
    if (!chain.equals({ low: frame.prevChainLow, high: frame.prevChainHigh })) {
      return new Damaged(path, offset, "a frame does not follow from the one before it");
    }
    if (frame.logIndex === logIndex) return null;
    return new Damaged(path, offset, `a frame has log index ${frame.logIndex}: ${logIndex} must stand here`);
  }

  /** Where the frame begins that follows from the damaged one at `offset` by what that one's first bytes say; null if none. */
  #linkedAcross(path: string, offset: number, endOffset: number): number | null {
    if (this.#loose) return null;
    const head = this.#headAt(path, offset);
    if (head === null || offset + head.frameBytes >= endOffset) return null;
    const next = offset + head.frameBytes;
    const frame = this.#frameAt(this.#probes, path, next, endOffset);
    if (frame instanceof Damaged) return null;
    const { chain, logIndex } = this.position;
    if (frame.logIndex !== logIndex + 1) return null;
    // Its term is the next frame's, if what it says is damaged, or its own, if the next one opens another.
    for (const term of [frame.term, head.term]) {
      const across = chain.copy();
      across.step(term, logIndex, head.crc);
      if (across.equals({ low: frame.prevChainLow, high: frame.prevChainHigh })) return next;
    }
    return null;
  }

  /** Moves the position to the next run of frames that is believed, or to the end. */
  *#search(number: number, path: string, from: number, endOffset: number): Generator<Proved, void> {
    let at: number | null = from;
    while ((at = this.#nextFrame(path, at, endOffset)) !== null) {
      const run = this.#follow(number, path, at, endOffset);
      if (run.proved) break;
      yield damageAt(path, at, `what looks like ${run.frames} frames stands here, and nothing proves it`);
      at = run.end;
    }
    this.position.offset = at ?? endOffset;
  }

  /** The next place at which a whole frame can be read, whatever it is worth. */
  #nextFrame(path: string, from: number, endOffset: number): number | null {
    const { pool, partitionCount, bucketCount, bucket, end, open } = this.#options;
    const logIndexEnd = end === null || open ? Infinity : end.logIndex;
    const bytes = new Uint8Array(SCAN_BYTES);
    const view = new DataView(bytes.buffer);
    for (let base = from; base < endOffset; base += SCAN_BYTES - FRAME_HEAD_BYTES) {
      bytes.fill(0, pool.read(path, bytes, base));
      for (let i = 0; i < SCAN_BYTES - FRAME_HEAD_BYTES && base + i < endOffset; i++) {
        const head = frameHeadAt(bytes, view, i);
        if (head === null || head.frameBytes > TRANSACTION_BYTES_MAX || base + i + head.frameBytes > endOffset) {
          continue;
        }
        if (head.logIndex < this.position.logIndex || head.logIndex >= logIndexEnd) continue;
        if (head.partition >= partitionCount || bucketOf(head.partition, bucketCount) !== bucket) continue;
        if (!(this.#frameAt(this.#probes, path, base + i, endOffset) instanceof Damaged)) return base + i;
      }
    }
    return null;
  }

  /** Follows the run of frames that begins at `at`, until it is proved or ends. */
  #follow(number: number, path: string, at: number, endOffset: number) {
    const index = this.#indexOf(number);
    let chain: Chain | null = null;
    let logIndex = 0;
    let frames = 0;
    let end = at;
    while (end < endOffset) {
      const frame = this.#frameAt(this.#probes, path, end, endOffset);
      if (frame instanceof Damaged) break;
      const prevChain = new Chain(frame.prevChainLow, frame.prevChainHigh);
      if (chain !== null && !(chain.equals(prevChain) && frame.logIndex === logIndex)) break;
      if (index !== null && names(index, frame, end)) return { proved: true, end, frames };
      chain = prevChain;
      chain.step(frame.term, frame.logIndex, frame.crc);
      logIndex = frame.logIndex + 1;
      frames++;
      end += frame.end - frame.start;
    }
    return { proved: end === endOffset && this.#endsSo(number, chain!, logIndex), end, frames };
  }

  /** Whether it is known that a segment ends with this chain before this log index. */
  #endsSo(number: number, chain: Chain, logIndex: number): boolean {
    const { pool, dir, bucket, end, open } = this.#options;
    if (number === end?.segment && !open) return end.logIndex === logIndex && end.chain.equals(chain);
    try {
      const next = readSegmentHeader(pool, segmentPath(dir, bucket, number + 1), bucket, number + 1);
      return next.firstLogIndex === logIndex && next.prevChain.equals(chain);
    } catch (error) {
      if (error instanceof Damaged) return false;
      throw error;
    }
  }

  #frameAt(reader: FrameReader, path: string, offset: number, endOffset: number): Frame | Damaged {
    try {
      const frame = reader.frame(path, offset);
      const end = offset + frame.end - frame.start;
      if (end > endOffset) return new Damaged(path, offset, `a frame ends at ${end}: the segment ends at ${endOffset}`);
      while (frame.next()); // What is no frame, and has the checksum of one, ends in a RangeError.
      frame.rewind();
      return frame;
    } catch (error) {
      if (error instanceof Damaged) return error;
      if (error instanceof RangeError) return new Damaged(path, offset, error.message);
      throw error;
    }
  }

  #headAt(path: string, offset: number): FrameHead | null {
    const bytes = new Uint8Array(FRAME_HEAD_BYTES);
    if (this.#options.pool.read(path, bytes, offset) < FRAME_PREFIX_BYTES) return null;
    return frameHeadAt(bytes, new DataView(bytes.buffer), 0);
  }

  /** What the index files of a damaged segment say of its partitions. */
  #takePromises(number: number): void {
    for (const { partition, end } of this.#indexOf(number)?.partitions() ?? []) {
      this.promised.set(partition, Math.max(end, this.promised.get(partition) ?? 0));
    }
  }

  /** The index of a segment, null where there is none that can be believed. */
  #indexOf(number: number): SegmentIndex | null {
    if (this.#index?.segment !== number) {
      this.#letGo();
      this.#index = { segment: number, index: this.#loadIndex(number) };
    }
    return this.#index!.index;
  }

  #loadIndex(number: number): SegmentIndex | null {
    const { pool, cache, environment, dir, bucket, end, open } = this.#options;
    const context = { pool, cache, environment };
    const folder = segmentFolder(dir, bucket, number);
    try {
      return SegmentIndex.loadSealed(context, folder, { bucket, segment: number });
    } catch (error) {
      if (!(error instanceof IndexDamaged)) throw error;
    }
    const { index, covered } = SegmentIndex.loadPieces(context, folder, bucket, number);
    // Pieces that know more than the log has may know frames that were never acknowledged.
    if (covered !== null && (end === null || open || covered.endLogIndex <= end.logIndex)) return index;
    index.close();
    return null;
  }

  #letGo(): void {
    this.#index?.index?.close();
    this.#index = null;
  }
}

function names(index: SegmentIndex, frame: Frame, offset: number): boolean {
  if (!frame.next()) return false;
  const eventId = frame.eventId.slice();
  frame.rewind();
  try {
    return index.eventOffsets(eventId).includes(offset);
  } catch (error) {
    if (error instanceof IndexDamaged) return false;
    throw error;
  }
}

function damageAt(path: string, offset: number, reason: string): Proved {
  return { kind: "damage", damage: new Damaged(path, offset, reason) };
}
