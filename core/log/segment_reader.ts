/**
 * Frames of segment files: one at an offset, or all in order. Every checksum is checked, on every read from disk.
 *
 * A reader keeps the last stretch that it read, so that frames that lie together cost one read. Its memory is used
 * again for the next stretch: a frame is good until the next one is asked for. To make and zero it anew cost 0.6 µs for
 * a lookup and 12 for a stretch of a scan, and what a reader was handed held all of it.
 *
 * @module
 */
import { Damaged } from "../errors.ts";
import { isUnreadable } from "./disk.ts";
import type { FilePool } from "./file_pool.ts";
import {
  type Chain,
  decodeSegmentHeader,
  Frame,
  FRAME_PREFIX_BYTES,
  frameBytesAt,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
} from "./format.ts";

/** What one lookup reads: most frames are far smaller, and the disk reads no less. */
export const LOOKUP_BYTES = 4096;
/** What a scan reads at a time. */
export const SCAN_BYTES = 128 * 1024;

/** Memory beyond it, for the stretch of a large transaction, is given back with the next read. */
const KEPT_BYTES_MAX = 1024 * 1024;

const NOTHING = new Uint8Array(0);

export class FrameReader {
  readonly #pool: FilePool;
  readonly #readBytes: number;
  #path = "";
  #bytes = NOTHING;
  #view = new DataView(NOTHING.buffer);
  /** How many of `#bytes` are of the file, and where in it they begin. */
  #length = 0;
  #offset = 0;
  #last: Frame | null = null;
  #lastOffset = -1;
  #generation = 0;

  constructor(pool: FilePool, readBytes: number) {
    this.#pool = pool;
    this.#readBytes = readBytes;
  }

  /**
   * The frame at `offset` of a segment file, its cursor before the first event. Good until the next call.
   * @throws {Damaged} there is no whole and valid frame
   */
  frame(path: string, offset: number): Frame {
    if (this.#generation !== this.#pool.generation) this.#path = "";
    if (offset === this.#lastOffset && path === this.#path) {
      this.#last!.rewind();
      return this.#last!;
    }
    if (!this.#holds(path, offset, FRAME_PREFIX_BYTES)) this.#read(path, offset, this.#readBytes);
    if (!this.#holds(path, offset, FRAME_PREFIX_BYTES)) {
      throw new Damaged(path, offset, "the file ends before this frame");
    }
    const frameBytes = frameBytesAt(this.#view, offset - this.#offset);
    if (frameBytes === 0) throw new Damaged(path, offset, "a frame is missing here");
    if (!this.#holds(path, offset, frameBytes)) {
      // A damaged length must not make us ask for gigabytes: no frame reaches beyond its file.
      if (offset + frameBytes > this.#pool.size(path)) throw new Damaged(path, offset, "a frame ends beyond the file");
      this.#read(path, offset, Math.max(frameBytes, this.#readBytes));
    }
    if (!this.#holds(path, offset, frameBytes)) throw new Damaged(path, offset, "the file ends within this frame");
    const start = offset - this.#offset;
    const frame = Frame.decode(this.#bytes, this.#view, start, start + frameBytes);
    if (typeof frame === "string") throw new Damaged(path, offset, frame);
    this.#last = frame;
    this.#lastOffset = offset;
    return frame;
  }

  #holds(path: string, offset: number, bytes: number): boolean {
    return path === this.#path && offset >= this.#offset && offset + bytes <= this.#offset + this.#length;
  }

  #read(path: string, offset: number, bytes: number): void {
    // Should the read fail, nothing of the old stretch counts any more.
    this.#path = "";
    this.#last = null;
    this.#lastOffset = -1;
    if (bytes > this.#bytes.length || this.#bytes.length > KEPT_BYTES_MAX) {
      this.#bytes = new Uint8Array(bytes);
      this.#view = new DataView(this.#bytes.buffer);
    }
    this.#length = readAt(this.#pool, path, this.#bytes.subarray(0, bytes), offset);
    this.#path = path;
    this.#offset = offset;
    this.#generation = this.#pool.generation;
  }
}

/** Bytes that the medium does not give back are as lost as wrong ones: damage, which stays where it is. */
function readAt(pool: FilePool, path: string, into: Uint8Array, offset: number): number {
  try {
    return pool.read(path, into, offset);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new Damaged(path, offset, "the file is missing");
    if (!isUnreadable(error)) throw error;
    throw new Damaged(path, offset, `it cannot be read: ${(error as Error).message}`);
  }
}

/**
 * The header of the file of one segment of a bucket.
 * @throws {Damaged} it is missing, cut off, damaged, or of another segment
 */
export function readSegmentHeader(pool: FilePool, path: string, bucket: number, segment: number): SegmentHeader {
  if (!pool.disk.exists(path)) throw new Damaged(path, 0, "the segment file is missing");
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES);
  const header = decodeSegmentHeader(bytes.subarray(0, readAt(pool, path, bytes, 0)));
  if (typeof header === "string") throw new Damaged(path, 0, header);
  if (header.bucket !== bucket || header.segment !== segment) {
    throw new Damaged(path, 0, `this is segment ${header.segment} of bucket ${header.bucket}`);
  }
  return header;
}

/**
 * The frames of one segment in order, from `position` to `end`. `position` is moved past each frame before that is
 * handed out, so that it always says where the log stands.
 * @throws {Damaged} at the first frame that does not follow from the one before it
 */
export function* framesInOrder(
  pool: FilePool,
  path: string,
  position: { offset: number; logIndex: number; chain: Chain },
  end: number,
): Generator<{ frame: Frame; offset: number }, void> {
  const reader = new FrameReader(pool, SCAN_BYTES);
  const { chain } = position;
  while (position.offset < end) {
    const { offset, logIndex } = position;
    const frame = reader.frame(path, offset);
    if (!chain.equals({ low: frame.prevChainLow, high: frame.prevChainHigh })) {
      throw new Damaged(path, offset, "a frame does not follow from the one before it");
    }
    if (frame.logIndex !== logIndex) {
      throw new Damaged(path, offset, `a frame has log index ${frame.logIndex}: ${logIndex} must stand here`);
    }
    const next = offset + (frame.end - frame.start);
    if (next > end) throw new Damaged(path, offset, `a frame ends at ${next}: the segment ends at ${end}`);
    chain.step(frame.term, frame.logIndex, frame.crc);
    position.logIndex = logIndex + 1;
    position.offset = next;
    yield { frame, offset };
  }
}
