/**
 * How far a bucket may be read, and who is to be told when that is further.
 *
 * It only rises, and by whole transactions. It does not know why an entry is safe: alone that is a sync, in a group of
 * replicas a majority.
 *
 * What is told is that there may be more, never what: whoever is told looks at the heads, which are a level and not a
 * signal. So it does no harm to be told in vain, and nothing can be missed between a look and the wait. Waits are
 * keyed, so that an append wakes those it concerns and costs nothing for ten thousand others.
 *
 * @module
 */
import type { LogEnd } from "./log/journal_format.ts";

/** Something that follows a bucket, a partition or a stream. */
export interface Follower {
  /** There may be more. Called within the step that publishes: to be noted, not acted upon. */
  woken(): void;
}

/** What is followed: all of the bucket, one of its partitions, or a stream by its 16 bytes. */
export type Followed = "all" | number | Uint8Array;

export class Watermark {
  #end: LogEnd;
  /** Followers of this bucket, of whatever kind. */
  followers = 0;
  readonly #all = new Set<Follower>();
  readonly #partitions = new Map<number, Set<Follower>>();
  /** By 32 bits of the stream's key. Two streams that share them wake each other's followers, in vain. */
  readonly #streams = new Map<number, Set<Follower>>();

  constructor(end: LogEnd) {
    this.#end = end;
  }

  /** One past the last entry that may be read. Not to be changed. */
  get end(): LogEnd {
    return this.#end;
  }

  raise(end: LogEnd): void {
    this.#end = end;
  }

  /** From now on the follower is told. */
  follow(followed: Followed, follower: Follower): void {
    this.followers++;
    this.#setOf(followed).add(follower);
  }

  leave(followed: Followed, follower: Follower): void {
    const followers = this.#setOf(followed);
    if (followers.delete(follower)) this.followers--;
    if (followers.size > 0 || followed === "all") return;
    if (typeof followed === "number") this.#partitions.delete(followed);
    else this.#streams.delete(hashOf(followed));
  }

  /** Tells the followers of a transaction that was published. */
  wake(partition: number, events: readonly { streamKey: Uint8Array }[]): void {
    for (const follower of this.#all) follower.woken();
    const ofPartition = this.#partitions.get(partition);
    if (ofPartition !== undefined) { for (const follower of ofPartition) follower.woken(); }
    if (this.#streams.size === 0) return;
    // Once for all events of a stream: there may be a hundred thousand, and a thousand followers.
    const ofStreams = new Set<Set<Follower>>();
    for (const { streamKey } of events) {
      const ofStream = this.#streams.get(hashOf(streamKey));
      if (ofStream !== undefined) ofStreams.add(ofStream);
    }
    for (const ofStream of ofStreams) for (const follower of ofStream) follower.woken();
  }

  #setOf(followed: Followed): Set<Follower> {
    if (followed === "all") return this.#all;
    const [sets, key] = typeof followed === "number" ? [this.#partitions, followed] : [this.#streams, hashOf(followed)];
    let set = sets.get(key);
    if (set === undefined) sets.set(key, set = new Set());
    return set;
  }
}

function hashOf(streamKey: Uint8Array): number {
  return streamKey[0]! | streamKey[1]! << 8 | streamKey[2]! << 16 | streamKey[3]! << 24;
}
