/**
 * From beacons to suspicion: which nodes seem to be down. A hint, never a decision: it makes a replica ask sooner whether
 * its leader is gone, and try owners first that seem to be there. A majority still has to say so.
 *
 * A beacon may be lost, come twice, late, or in another order. One of an earlier life of a node says nothing, unless the
 * later one has fallen silent and the earlier one goes on: then that was another process with a copy of the folder.
 *
 * @module
 */
import { nodeOf } from "./topology.ts";

export interface Beacon {
  readonly node: number;
  readonly boot: number;
  /** Counts the beacons of one life. */
  readonly number: number;
}

/** Three beacons of a second each. */
const SILENCE_MS = 3000;

interface Seen {
  boot: number;
  number: number;
  heardAt: number;
  former: { boot: number; number: number }[];
}

/** Lives of a node that are remembered to be over. */
const FORMER_BOOTS_MAX = 8;

export class Membership {
  readonly #seen = new Map<number, Seen>();
  /** There was a connection, and is none. */
  readonly #cut = new Set<number>();

  constructor(readonly self: number, readonly nodeCount: number, readonly silenceMs = SILENCE_MS) {}

  /** Whether it was news. */
  heard({ node, boot, number }: Beacon, now: number): boolean {
    if (!this.#isNews({ node, boot, number }, now)) return false;
    this.#cut.delete(node); // Over another node, if it has no connection to this one.
    return true;
  }

  #isNews({ node, boot, number }: Beacon, now: number): boolean {
    const seen = this.#seen.get(node);
    if (seen === undefined) {
      this.#seen.set(node, { boot, number, heardAt: now, former: [] });
      return true;
    }
    if (seen.boot === boot) {
      if (number <= seen.number) return false;
    } else {
      const earlier = seen.former.find((life) => life.boot === boot);
      if (earlier !== undefined && (number <= earlier.number || now - seen.heardAt < this.silenceMs)) return false;
      const others = seen.former.filter((life) => life !== earlier);
      seen.former = [...others, { boot: seen.boot, number: seen.number }].slice(-FORMER_BOOTS_MAX);
    }
    Object.assign(seen, { boot, number, heardAt: now });
    return true;
  }

  /** The last connection to it is gone. It may have another in a moment. */
  cut(node: number): void {
    this.#cut.add(node);
  }

  /** There is a connection to it: who it is, it has just proved. */
  linked(node: number, now: number): void {
    this.#cut.delete(node);
    const seen = this.#seen.get(node);
    if (seen !== undefined) seen.heardAt = now;
  }

  /** A node of which nothing is known is not suspected: it may be there, and we new. */
  isSuspected(node: number, now: number): boolean {
    if (node === this.self) return false;
    const seen = this.#seen.get(node);
    return this.#cut.has(node) || seen !== undefined && now - seen.heardAt >= this.silenceMs;
  }

  /** For the input `suspected`: the slots of a bucket whose nodes seem to be down, as bits. */
  suspectedSlots(bucket: number, replicationFactor: number, now: number): number {
    let slots = 0;
    for (let slot = 0; slot < replicationFactor; slot++) {
      if (this.isSuspected(nodeOf(bucket, slot, this.nodeCount), now)) slots |= 1 << slot;
    }
    return slots;
  }
}
