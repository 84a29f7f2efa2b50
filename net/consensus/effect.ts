/**
 * What a replica is told, and what it wants done: plain data both ways.
 *
 * Effects are carried out in the order in which they stand; nothing waits but what `sync` says. The driver tells the
 * replica when a sync is done, by its number, in the order in which they were asked for.
 *
 * @module
 */
import type { Entries } from "./entries.ts";
import type { Message, Sender } from "./message.ts";

export type Input =
  /** Time passes. At least as often as the shortest time of `Timing`. */
  | { readonly kind: "tick" }
  | { readonly kind: "message"; readonly from: Sender; readonly message: Message }
  /** At the leader: these were appended to the log, after its end, by the writer of the bucket. */
  | { readonly kind: "appended"; readonly entries: Entries }
  /** All that was asked for before this sync is durable. */
  | { readonly kind: "synced"; readonly number: number }
  /** Which slots seem to be down: bit `slot`. A hint. */
  | { readonly kind: "suspected"; readonly slots: number }
  /** What was sent to a slot from log index `from` on, and is not acknowledged, may be lost on the way: at the leader. */
  | { readonly kind: "lost"; readonly slot: number; readonly from: number }
  /** This node is about to stop: another one should lead. */
  | { readonly kind: "handOver" }
  /** What this replica has may be less than it had: a new id for what is left. `forced` is the word of an operator. */
  | { readonly kind: "recover"; readonly dataId: number; readonly forced: boolean }
  /** At the leader: up to which end must one read to have seen all that was acknowledged before now? */
  | { readonly kind: "readEnd"; readonly token: number };

export type Effect =
  | { readonly kind: "persist"; readonly hard: HardState }
  | { readonly kind: "append"; readonly entries: Entries }
  /** The log ends at `end` now. What is cut off was never committed. */
  | { readonly kind: "truncate"; readonly end: number }
  /** Append an entry without events, and tell the replica as of any other. */
  | { readonly kind: "noop"; readonly term: number; readonly logIndex: number }
  /** Make durable all that stands before. Then: `synced` with this number. */
  | { readonly kind: "sync"; readonly number: number }
  | { readonly kind: "send"; readonly to: number; readonly message: Message }
  /** Entries below `end` are committed, and durable here: they may be read. */
  | { readonly kind: "commit"; readonly end: number }
  /** From now on clients' appends may come, and none after `stepDown`. */
  | { readonly kind: "serve"; readonly term: number }
  /** What was appended and is not committed may or may not be: whoever waits for it is told so. */
  | { readonly kind: "stepDown"; readonly term: number }
  /** This replica must not go on as it is: a new `dataId` is needed, by the input `recover`. An alarm. */
  | { readonly kind: "quarantined"; readonly reason: string }
  /** A replica that recovered counts again. */
  | { readonly kind: "recovered" }
  | { readonly kind: "readEnd"; readonly token: number; readonly end: number | null };

/** What must be durable before it is acted on. A value: it is replaced, never changed. */
export interface HardState {
  /** The highest term that this replica follows or began. Only rises. */
  readonly term: number;
  /** The highest term that this replica began as its leader. Only rises. */
  readonly startedTerm: number;
  /** Which process leads `term`, once one was heard; zeros before. */
  readonly leaderDataId: number;
  readonly leaderBoot: number;
  readonly dataId: number;
  readonly mode: "normal" | "recovering";
  /** Normal since the cluster was founded, and not by a recovery. */
  readonly founder: boolean;
  /** By slot: the disk that counts; 0 while none was heard of, -1 when the one that was there does not count any more. */
  readonly dataIds: readonly number[];
  /** Disks that are gone: they never count again. The newest of them. */
  readonly retired: readonly number[];
}
