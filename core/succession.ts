/**
 * Whether events follow from each other in numbers: the sequences of each partition and the versions of each stream
 * count from 0 without gaps, and each event says how far back the one before it in its stream is.
 *
 * It knows neither files nor why a number may be missing.
 *
 * @module
 */
import { type HeadOfHash, HeadTable } from "./index/heads.ts";
import type { Frame } from "./log/format.ts";

/** A number that is not the next one. What is skipped, `[expected, found)`, is missing; one below was there before. */
export interface Break {
  of: "partition" | "stream" | "previous event";
  found: number;
  expected: number;
}

const NONE: readonly Break[] = [];

export class Succession {
  readonly #heads = new HeadTable();
  readonly #nextSequences = new Map<number, number>();

  /** One past the last sequence of a partition. */
  nextSequence(partition: number): number {
    return this.#nextSequences.get(partition) ?? 0;
  }

  /** The head of the only stream with the hash (a, b), if it is at `version` so far; else null. */
  headOfHash(a: number, b: number, version: number): HeadOfHash | null {
    return this.#heads.ofHash(a, b, version);
  }

  /** Takes the event under the cursor of a frame, the next of the log, and tells what does not follow. */
  take(frame: Frame, streamKey: Uint8Array): readonly Break[] {
    const { partition, sequence, version, prev } = frame;
    const expected = this.nextSequence(partition);
    const head = this.#heads.get(streamKey);
    const expectedVersion = head === null ? 0 : head.version + 1;
    this.#nextSequences.set(partition, sequence + 1);
    this.#heads.set(streamKey, version, sequence);
    const distance = head === null ? 0 : sequence - head.sequence;
    if (sequence === expected && version === expectedVersion && prev === distance) return NONE;
    const breaks: Break[] = [];
    if (sequence !== expected) breaks.push({ of: "partition", found: sequence, expected });
    if (version !== expectedVersion) breaks.push({ of: "stream", found: version, expected: expectedVersion });
    else if (prev !== distance) breaks.push({ of: "previous event", found: prev, expected: distance });
    return breaks;
  }
}

/** `[from, end)` as a reader wants it: `5`, or `5 to 7`. */
export function rangeText(from: number, end: number): string {
  return end - from === 1 ? `${from}` : `${from} to ${end - 1}`;
}
