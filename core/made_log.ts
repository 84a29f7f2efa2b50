/**
 * The log of a bucket as another node would have it, for tests: frames that were never on a disk, and what a reader has
 * to find in them. A copy of it can go on in another way.
 *
 * @module
 */
import { admit, type AdmittedTransaction } from "./event.ts";
import { Chain, EMPTY_FRAME_BYTES_MAX, encodeEmptyFrame, encodeFrame, frameBytesBound } from "./log/format.ts";
import { partitionHash, partitionOf } from "./placement.ts";
import { SeededEnvironment } from "./seeded_environment.ts";
import { formatUuid } from "./uuid.ts";

export interface MadeEntry {
  readonly term: number;
  readonly frame: Uint8Array;
  /** Before it. */
  readonly prevChain: { low: number; high: number };
  /** Null for an entry without events. */
  readonly partition: number | null;
  readonly eventIds: readonly string[];
}

export class MadeLog {
  readonly entries: MadeEntry[] = [];
  chain: Chain;
  #environment: SeededEnvironment;

  constructor(readonly bucket: number, readonly partitionCount: number, seed = 1) {
    this.chain = Chain.ofBucket(bucket);
    this.#environment = new SeededEnvironment(seed);
  }

  get end(): number {
    return this.entries.length;
  }

  /** The first `end` entries of it, to go on in another way: with another `seed`, whose events are others. */
  upTo(end: number, seed: number): MadeLog {
    const copy = new MadeLog(this.bucket, this.partitionCount, seed);
    copy.entries.push(...this.entries.slice(0, end));
    copy.chain = new Chain(this.chainAt(end).low, this.chainAt(end).high);
    return copy;
  }

  /** The chain of all entries below `end`. */
  chainAt(end: number): { low: number; high: number } {
    return end === this.end ? this.chain.copy() : this.entries[end]!.prevChain;
  }

  /** The frames from `from` to `end`, as they stand in a segment. */
  frames(from: number, end = this.end): Uint8Array {
    return joined(this.entries.slice(from, end).map(({ frame }) => frame));
  }

  /** The ids of a partition's events below `end`, in order. */
  idsOf(partition: number, end = this.end): string[] {
    return this.entries.slice(0, end).flatMap((entry) => entry.partition === partition ? entry.eventIds : []);
  }

  /** An entry without events, which opens a term. */
  open(term: number): void {
    const into = new Uint8Array(EMPTY_FRAME_BYTES_MAX);
    const facts = { bucket: this.bucket, logIndex: this.end, term, prevChain: this.chain };
    this.#push(into, encodeEmptyFrame(into, new DataView(into.buffer), 0, facts), term, null, []);
  }

  /** Events of the partition's own stream, all in one entry. */
  append(term: number, partition: number, { payloadBytes = 20, events = 1 } = {}): void {
    this.#environment.nowMs++;
    const next = this.idsOf(partition).length;
    const transaction = admit({
      events: Array.from({ length: events }, () => ({
        streamId: streamOf(partition, this.partitionCount),
        name: "E",
        payload: "x".repeat(payloadBytes),
      })),
    }, this.#environment);
    const into = new Uint8Array(frameBytesBound(transaction));
    const encoded = encodeFrame(into, new DataView(into.buffer), 0, transaction, {
      ...{ logIndex: this.end, term, partition, firstSequence: next, prevChain: this.chain },
      versions: transaction.events.map((_, i) => next + i),
      prevs: transaction.events.map((_, i) => next + i === 0 ? 0 : 1),
    });
    this.#push(into, encoded, term, partition, transaction.events.map(({ eventId }) => formatUuid(eventId)));
  }

  #push(
    into: Uint8Array,
    { end, crc }: { end: number; crc: number },
    term: number,
    partition: number | null,
    eventIds: string[],
  ): void {
    this.entries.push({ term, frame: into.subarray(0, end), prevChain: this.chain.copy(), partition, eventIds });
    this.chain.step(term, this.end - 1, crc);
  }
}

/** A stream of a partition. */
export function streamOf(partition: number, partitionCount: number): string {
  for (let i = 0;; i++) {
    const { partitionKey }: AdmittedTransaction = admit(
      { events: [{ streamId: `s${i}`, name: "" }] },
      new SeededEnvironment(1),
    );
    if (partitionOf(partitionHash(partitionKey), partitionCount) === partition) return `s${i}`;
  }
}

export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
