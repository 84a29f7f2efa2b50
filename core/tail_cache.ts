/**
 * The newest frames of a bucket as events, so that of a thousand live subscribers one reads and decodes them for all.
 *
 * It is a cache and proves nothing: what is not in it is read from the segment. A subscriber that falls behind finds
 * nothing here any more, reads the log, and finds it again when it has caught up.
 *
 * @module
 */
import type { EventRecord } from "./event.ts";

/** One frame: its events, and how much of its segment it takes. */
export interface CachedFrame {
  partition: number;
  firstSequence: number;
  events: readonly EventRecord[];
  /** Bytes of each event that its reader will hold. */
  eventBytes: readonly number[];
  frameBytes: number;
}

/** Beside its bytes an event is an object, strings and arrays. */
const EVENT_OVERHEAD_BYTES = 600;
/** A frame larger than this is read by each for itself: it would push out all others. */
export const CACHED_FRAME_BYTES_MAX = 64 * 1024;

export class TailCache {
  /** By place, the oldest first. */
  readonly #frames = new Map<number, CachedFrame>();
  #bytes = 0;

  constructor(readonly bytesMax: number) {}

  get(segment: number, offset: number): CachedFrame | undefined {
    return this.#frames.get(placeOf(segment, offset));
  }

  put(segment: number, offset: number, frame: CachedFrame): void {
    this.#frames.set(placeOf(segment, offset), frame);
    this.#bytes += bytesOf(frame);
    for (const [place, oldest] of this.#frames) {
      if (this.#bytes <= this.bytesMax) break;
      this.#frames.delete(place);
      this.#bytes -= bytesOf(oldest);
    }
  }
}

function bytesOf({ frameBytes, events }: CachedFrame): number {
  return frameBytes + events.length * EVENT_OVERHEAD_BYTES;
}

/** One number for both: an offset has 32 bits, and no bucket has two million segments. */
function placeOf(segment: number, offset: number): number {
  return segment * 2 ** 32 + offset;
}
