/**
 * What a node of a cluster does itself, as the router sees it: its own store, and what its replicas know of who leads.
 *
 * The store holds every bucket's folder, but only those of which this node has a replica are ever filled. Whoever asks it
 * must know which these are: a partition of another bucket is empty there.
 *
 * @module
 */
import type { AppendReceiver, Transaction } from "../core/event.ts";
import type { EventStore } from "../core/store.ts";
import type { Chain } from "./consensus/entries.ts";
import type { Role } from "./consensus/replica_state.ts";

/** What this node's replica of a bucket is doing. */
export interface LocalReplica {
  readonly role: Role;
  /** Of the disk that it is on. */
  readonly dataId: number;
  readonly term: number;
  readonly logEnd: number;
  readonly durableEnd: number;
  readonly commitEnd: number;
  /** At `commitEnd`. */
  readonly commitChain: Chain;
}

/** This node does not lead the bucket. Nothing was stored. */
export class NotLeader extends Error {
  override readonly name = "NotLeader";
  constructor(readonly bucket: number, readonly term: number, readonly leader: number | null) {
    super(
      `This node does not lead bucket ${bucket}: in term ${term} ${
        leader === null ? "nobody is known to" : `node ${leader} does`
      }`,
    );
  }
}

export interface LocalNode {
  /** Reads of it see what is committed and durable here; its subscriptions follow that. */
  readonly store: EventStore;

  /** Of this life of the process, as its replicas have it. */
  readonly boot: number;

  /** Null when this node has no replica of the bucket. */
  replica(bucket: number): LocalReplica | null;

  /** The node that serves the bucket, as far as this node's replica knows; null when it knows of none, or there is no replica. */
  leaderOf(bucket: number): { node: number; term: number } | null;

  /**
   * Appends, if this node leads the bucket. `receiver.refused` is told of `NotLeader`, `TooFewReplicas` and `TryAgain`
   * when nothing was appended and nothing will be, and of `OutcomeUnknown`.
   *
   * Appends to one bucket are decided in the order of these calls. When one is not taken, with `NotLeader` or `TryAgain`,
   * none that was called behind it is taken before that has been said: it would overtake.
   */
  append(transaction: Transaction, receiver: AppendReceiver): void;

  /** At the leader: up to which log index one must read to see all that was acknowledged before now; null when it does not lead, or could not reach a majority. */
  readEnd(bucket: number): Promise<number | null>;

  /** Resolves with true when this node's committed end is at least `end`; with false after so many milliseconds. */
  committed(bucket: number, end: number, msMax: number): Promise<boolean>;

  /** Resolves with true when the sequence is readable here; with false after so many milliseconds. */
  readable(partition: number, sequence: number, msMax: number): Promise<boolean>;

  /** Another node's hint: `end` entries with this chain are committed. */
  commitNote(bucket: number, end: number, chain: Chain): void;

  /** A hint: the slots of a bucket whose nodes seem to be down, as bits. Told when it changes. */
  suspected(bucket: number, slots: number): void;
}
