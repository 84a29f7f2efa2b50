/**
 * A group in the hand of a test: it takes appends in the term that the test sets, or refuses them, and notes what it is
 * told. Nothing is committed before the test says so.
 *
 * @module
 */
import type { Group, WrittenFrames } from "./group.ts";
import type { ReplicatedBucket } from "./replicated_bucket.ts";

export class ManualGroup implements Group {
  readonly isReplicated = true;
  /** What `admission` answers. */
  admits: number | Error = 1;
  /** By bucket, what was appended to it, in order. */
  readonly written = new Map<number, WrittenFrames[]>();
  readonly damagedBuckets: number[] = [];
  #nextSeal = Promise.withResolvers<void>();
  #waiting: { isSealed: boolean; resolve: () => void }[] = [];

  admission(): number | Error {
    return this.admits;
  }

  appended(bucket: number, frames: WrittenFrames): void {
    this.written.set(bucket, [...this.written.get(bucket) ?? [], frames]);
  }

  sealed(): void {
    this.#nextSeal.resolve();
    this.#nextSeal = Promise.withResolvers();
    for (const one of this.#waiting) one.isSealed = true;
  }

  synced(): void {
    const done = this.#waiting.filter(({ isSealed }) => isSealed);
    this.#waiting = this.#waiting.filter(({ isSealed }) => !isSealed);
    for (const { resolve } of done) resolve();
  }

  damaged(bucket: number): void {
    this.damagedBuckets.push(bucket);
  }

  /** Resolves when a batch is sealed: what is written from then on is of the next one. */
  nextSeal(): Promise<void> {
    return this.#nextSeal.promise;
  }

  /** Resolves when all that is written up to now is durable. */
  allSynced(bucket: ReplicatedBucket): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push({ isSealed: false, resolve });
    bucket.sync();
    return promise;
  }
}
