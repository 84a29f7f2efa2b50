/**
 * Who says that an entry of a log is committed: the seam between the engine and the replicas of its buckets.
 *
 * The engine writes, syncs and publishes. In between it asks the group: whether appends are taken, and in which term;
 * it tells what it wrote and what became durable; and it publishes when it is told that entries are committed
 * (`AppendQueue.commitTo`). A lone node is a group of one: what is durable is committed.
 *
 * @module
 */
import { NoReplica } from "./errors.ts";
import type { Chain } from "./log/format.ts";

/** Entries that the engine just encoded: frames one after the other, as they stand in a segment. */
export interface WrittenFrames {
  readonly firstLogIndex: number;
  readonly term: number;
  /** Before the first of them. */
  readonly prevChain: Chain;
  /** Their bytes; whoever is told may keep them. */
  readonly bytes: Uint8Array;
  /** Of each frame: where it ends in `bytes`, and its checksum. */
  readonly ends: readonly number[];
  readonly crcs: readonly number[];
}

export interface Group {
  /** Whether there are others who want the frames. */
  readonly isReplicated: boolean;

  /** The term in which appends to a bucket are taken now, or why they are not: then nothing is appended. */
  admission(bucket: number): number | Error;

  /** These were appended to the bucket's log, in the same step in which `admission` gave the term. */
  appended(bucket: number, frames: WrittenFrames): void;

  /** All that was written up to now is in the batch that is synced next. */
  sealed(): void;

  /** What was in that batch is durable. */
  synced(): void;

  /** A bucket was found damaged: its log cannot be believed any more. */
  damaged(bucket: number): void;
}

/** The term of a node that is alone. */
export const TERM_ALONE = 1;

/** A group of one. `commit` publishes all that is durable. */
export function aloneGroup(commit: () => void): Group {
  return {
    isReplicated: false,
    admission: () => TERM_ALONE,
    appended: () => {},
    sealed: () => {},
    synced: commit,
    damaged: () => {},
  };
}

/** The folder is a cluster's, and its other nodes are not asked: it can be read, as far as it is known to be committed. */
export function absentGroup(): Group {
  return {
    ...aloneGroup(() => {}),
    admission: () => new NoReplica("The data folder is that of a cluster's node: only the cluster takes appends"),
  };
}
