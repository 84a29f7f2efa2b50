/**
 * What the replicas of one bucket say to each other: plain data. Bytes are made of it elsewhere.
 *
 * Each message goes in an envelope that names its sender: the slot, which disk it has (`dataId`), and which life of its
 * process this is (`boot`). Ends are one past: an `end` of 10 says that entries 0 to 9 are there.
 *
 * Any message may be lost, be late, come twice, or come in another order.
 *
 * @module
 */
import type { Chain, Entries, TermStart } from "./entries.ts";

/**
 * The largest id of a disk or a process. Ids are drawn from 1 to here: 48 bits, so that what is added to one, to make
 * numbers that no other life has used, still is a safe integer.
 */
export const ID_MAX = 2 ** 48;

export function isId(id: number): boolean {
  return Number.isInteger(id) && id >= 1 && id <= ID_MAX;
}

/** Who says it. */
export interface Sender {
  readonly slot: number;
  /** Of the folder with this replica's log: another disk, another id. */
  readonly dataId: number;
  /** Of the process: another start, another number. */
  readonly boot: number;
}

export type Message =
  // Appending: the leader of a term to its followers, and back.
  | Append
  | Ack
  | Nack
  | Heartbeat
  | HeartbeatReply
  // Changing the term.
  | { readonly kind: "preVote"; readonly wantedTerm: number }
  | { readonly kind: "preVoteReply"; readonly wantedTerm: number; readonly granted: boolean; readonly term: number }
  /** You would be the next leader: please begin. */
  | { readonly kind: "nudge"; readonly wantedTerm: number }
  /** I begin this term, with a log that ends there. */
  | { readonly kind: "newTerm"; readonly term: number; readonly end: number }
  | TermPromise
  /** What you said is of a term that is over. */
  | { readonly kind: "stale"; readonly term: number }
  | { readonly kind: "fetch"; readonly term: number; readonly from: number }
  | Chunk
  /** From the leader: begin this term, it is yours. */
  | { readonly kind: "transferTerm"; readonly term: number; readonly targetTerm: number }
  // Committed facts, from anybody.
  | { readonly kind: "commitNote"; readonly end: number; readonly chain: Chain }
  // A replica that lost what it had.
  | { readonly kind: "recoverRequest"; readonly nonce: number; readonly challenge: number }
  /** Show that you are there now, and not long ago: ask again, with this. */
  | { readonly kind: "recoverChallenge"; readonly dataId: number; readonly nonce: number; readonly challenge: number }
  | RecoverReply
  /** Your disk is not the one that I know (`unknown`), or has less than it had (`lost`): you do not count. */
  | { readonly kind: "quarantine"; readonly dataId: number; readonly why: "unknown" | "lost" };

export interface Append {
  readonly kind: "append";
  readonly term: number;
  /** The end up to which both logs have to be equal already, and what is true there. */
  readonly from: number;
  readonly prevTerm: number;
  readonly prevChain: Chain;
  readonly entries: Entries;
  readonly commitEnd: number;
  /** It is large, or far behind what the leader appends now: what is sent later may come before it. */
  readonly bulk: boolean;
}

/** All entries below `end` are equal to the leader's of this term, and durable. */
export interface Ack {
  readonly kind: "ack";
  readonly term: number;
  readonly end: number;
  /** Not to be counted: its log is not what it promised yet. */
  readonly recovering: boolean;
}

/** The logs are not equal up to `from`: what may be tried instead. */
export interface Nack {
  readonly kind: "nack";
  readonly term: number;
  readonly from: number;
  /** Up to here they might be. */
  readonly end: number;
  /** Of the last entry below `end`, and where the entries of that term begin. */
  readonly endTerm: number;
  readonly endTermFrom: number;
  /** Up to here they are. */
  readonly commitEnd: number;
}

/** The same for all followers, and small: a driver puts those of all buckets for a node into one message. */
export interface Heartbeat {
  readonly kind: "heartbeat";
  readonly term: number;
  /** Only rises within a term. */
  readonly round: number;
  readonly end: number;
  readonly chain: Chain;
  readonly commitEnd: number;
  /** By slot: up to where each replica was known to hold committed entries. */
  readonly heldEnds: readonly number[];
}

export interface HeartbeatReply {
  readonly kind: "heartbeatReply";
  readonly term: number;
  readonly round: number;
  /** Of the log; of what is known to be equal to the leader's; of what is durable, equal or not. */
  readonly end: number;
  readonly verifiedEnd: number;
  readonly durableEnd: number;
  readonly recovering: boolean;
}

/** I follow this term, and here is how my durable log ends. */
export interface TermPromise {
  readonly kind: "promise";
  readonly term: number;
  readonly lastTerm: number;
  readonly end: number;
  readonly chain: Chain;
  readonly commitEnd: number;
  /** The newest of its log. */
  readonly terms: readonly TermStart[];
  /** By slot: whose disk it knows, 0 for none. A promise of a disk that is known to be gone is void. */
  readonly dataIds: readonly number[];
}

export interface Chunk {
  readonly kind: "chunk";
  readonly term: number;
  readonly from: number;
  readonly entries: Entries;
}

export interface RecoverReply {
  readonly kind: "recoverReply";
  readonly nonce: number;
  readonly term: number;
  /** Whether it leads, and serves. */
  readonly serving: boolean;
  readonly end: number;
  readonly lastTerm: number;
}
