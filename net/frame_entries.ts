/**
 * Entries of a bucket's log as the frames that they are in a segment, see core/log/format.ts: so they are read, sent,
 * and written again, and nobody makes them anew.
 *
 * What comes from another node is verified here, frame by frame, before it is `Entries`: its checksum, its log index, its
 * chain and its term, and that its events end where it ends.
 *
 * @module
 */
import { Chain as ChainSum, Frame, FRAME_BYTES_MIN, frameBytesAt } from "../core/log/format.ts";
import { bucketOf } from "../core/placement.ts";
import type { Chain, Entries } from "./consensus/entries.ts";

/** Entries as the frames that they are in a segment, one after the other, and a table over them. */
export class FrameEntries implements Entries {
  readonly from: number;
  readonly end: number;

  private constructor(
    readonly frames: Uint8Array,
    /** Of all that is in the frames. Of `starts` and the chains there is one more than entries. */
    readonly table: {
      from: number;
      starts: Uint32Array;
      terms: Float64Array;
      lows: Uint32Array;
      highs: Uint32Array;
    },
    from: number,
    end: number,
  ) {
    this.from = from;
    this.end = end;
  }

  get byteLength(): number {
    return this.frames.length;
  }

  termAt(logIndex: number): number {
    return this.table.terms[logIndex - this.table.from]!;
  }

  chainAt(end: number): Chain {
    const { from, lows, highs } = this.table;
    return { low: lows[end - from]!, high: highs[end - from]! };
  }

  since(logIndex: number): FrameEntries {
    const { from, starts } = this.table;
    const before = starts[logIndex - from]! - starts[this.from - from]!;
    return new FrameEntries(this.frames.subarray(before), this.table, logIndex, this.end);
  }

  /** The same entries without those from `end` on: at least one is left. Copies no bytes. */
  until(end: number): FrameEntries {
    const { from, starts } = this.table;
    const bytes = starts[end - from]! - starts[this.from - from]!;
    return new FrameEntries(this.frames.subarray(0, bytes), this.table, this.from, end);
  }

  /** The bytes of one entry. */
  frameAt(logIndex: number): Uint8Array {
    const { from, starts } = this.table;
    const before = starts[this.from - from]!;
    return this.frames.subarray(starts[logIndex - from]! - before, starts[logIndex - from + 1]! - before);
  }

  /**
   * Entries that this process just encoded, all of one term: `ends` and `crcs` are those that `encodeFrame` gave, with
   * the first frame at 0. Nothing is verified.
   */
  static encoded(
    frames: Uint8Array,
    first: { logIndex: number; prevChain: Chain; term: number },
    ends: ArrayLike<number>,
    crcs: ArrayLike<number>,
  ): FrameEntries {
    const count = ends.length;
    const table = tableFor(first.logIndex, count);
    const chain = new ChainSum(first.prevChain.low, first.prevChain.high);
    table.lows[0] = chain.low;
    table.highs[0] = chain.high;
    for (let i = 0; i < count; i++) {
      chain.step(first.term, first.logIndex + i, crcs[i]!);
      table.starts[i + 1] = ends[i]!;
      table.terms[i] = first.term;
      table.lows[i + 1] = chain.low;
      table.highs[i + 1] = chain.high;
    }
    return new FrameEntries(frames, table, first.logIndex, first.logIndex + count);
  }

  /**
   * The entries that `frames` hold, which may come from anywhere, or what is wrong with them. They must be of the
   * bucket, begin with the log index `from`, and follow from `prevChain` (null: from what the first frame says) and
   * from an entry of `prevTerm`, in terms that only rise, to at most `term`.
   */
  static verify(
    frames: Uint8Array,
    must: {
      bucket: number;
      bucketCount: number;
      from: number;
      prevChain: Chain | null;
      prevTerm: number;
      term: number;
    },
  ): FrameEntries | string {
    const view = new DataView(frames.buffer, frames.byteOffset, frames.length);
    let count = 0;
    for (let at = 0; at < frames.length; count++) {
      const frameBytes = frames.length - at < 4 ? 0 : frameBytesAt(view, at);
      if (frameBytes < FRAME_BYTES_MIN) return `entry ${must.from + count} is shorter than any frame`;
      at += frameBytes;
      if (at > frames.length) return `entry ${must.from + count} is cut off`;
    }
    if (count === 0) return "there is no entry";
    const table = tableFor(must.from, count);
    const { starts, terms, lows, highs } = table;
    const chain = new ChainSum(0, 0);
    let { prevTerm } = must;
    for (let i = 0, at = 0; i < count; i++) {
      const logIndex = must.from + i;
      const end = at + frameBytesAt(view, at);
      const frame = decodeFrame(frames, view, at, end);
      if (typeof frame === "string") return `entry ${logIndex}: ${frame}`;
      if (i === 0) {
        const { low, high } = must.prevChain ?? { low: frame.prevChainLow, high: frame.prevChainHigh };
        chain.low = lows[0] = low;
        chain.high = highs[0] = high;
      }
      if (frame.logIndex !== logIndex) return `entry ${logIndex} has log index ${frame.logIndex}`;
      if (frame.prevChainLow !== chain.low || frame.prevChainHigh !== chain.high) {
        return `entry ${logIndex} does not follow from the one before it: its chain is another`;
      }
      if (frame.term < prevTerm) return `entry ${logIndex} has term ${frame.term}: one before it has ${prevTerm}`;
      if (frame.term > must.term) return `entry ${logIndex} has term ${frame.term}: it comes in ${must.term}`;
      if (bucketOf(frame.partition, must.bucketCount) !== must.bucket) {
        return `entry ${logIndex} is of partition ${frame.partition}, which is not in bucket ${must.bucket}`;
      }
      prevTerm = frame.term;
      chain.step(frame.term, logIndex, frame.crc);
      starts[i + 1] = at = end;
      terms[i] = frame.term;
      lows[i + 1] = chain.low;
      highs[i + 1] = chain.high;
    }
    return new FrameEntries(frames, table, must.from, must.from + count);
  }
}

function tableFor(from: number, count: number): FrameEntries["table"] {
  return {
    from,
    starts: new Uint32Array(count + 1),
    terms: new Float64Array(count),
    lows: new Uint32Array(count + 1),
    highs: new Uint32Array(count + 1),
  };
}

/** The frame between `start` and `end`, whose events end where it ends; or what is wrong with it. */
function decodeFrame(bytes: Uint8Array, view: DataView, start: number, end: number): Frame | string {
  try {
    const frame = Frame.decode(bytes, view, start, end);
    if (typeof frame === "string") return frame;
    while (frame.next());
    return frame.payloadEnd === end ? frame : "its events do not end where it ends";
  } catch (error) {
    return (error as Error).message; // A checksum is right, and what it covers is not.
  }
}
