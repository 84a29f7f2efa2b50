/**
 * A client at a node: what it asks there is answered, or the node dies, or the client has waited long enough.
 *
 * @module
 */
import { Damaged, NoReplica, StoreClosed, TryAgain } from "../../core/errors.ts";
import type { ClusterStore } from "../cluster.ts";
import type { History } from "../history_checker.ts";
import type { Timers } from "../timers.ts";
import type { Answer, AppendRequest } from "./node.ts";

/** There is no answer. */
export class Gone extends Error {
  override readonly name = "Gone";
}

/** One life of a node, as a client sees it. */
export interface Visit {
  readonly node: number;
  readonly life: string;
  readonly isAlive: boolean;
  /** @throws {Gone} | whatever `action` throws */
  ask<T>(action: (store: ClusterStore) => Promise<T>, patienceMs: number): Promise<T>;
  /** Something for which nobody waits. */
  tell(action: (store: ClusterStore) => void): void;
}

/** What the clients of whole nodes know of the world. */
export interface Clientele {
  now(): number;
  readonly timers: Timers;
  readonly nodeCount: number;
  readonly partitionCount: number;
  /** No faults any more. */
  readonly calm: boolean;
  /** Nobody appends or reads any more. */
  readonly isOver: boolean;
  /** Nor follows. */
  readonly isEnd: boolean;
  readonly history: History;
  /** Null when there is nobody. */
  visit(node: number): Visit | null;
  keyOf(partition: number): string;
  /** Whether the replica of the node itself answers for a partition. */
  holds(node: number, partition: number): boolean;
  /** One past the last sequence that was acknowledged. */
  ackedEnd(partition: number): number;
  /** Ids of acknowledged events. */
  ackedIds(partition: number): readonly { id: string; stream: string; sequence: number }[];
  /** Whether an event is the last one of what its writer appended at once. */
  isLast(id: string): boolean;
  /** How each replica of a partition stands: which life, and one past the last sequence that it shows; null where it shows none. */
  replicas(partition: number): { life: string; end: number | null }[];
  /** One past the last sequence that any replica has ever shown, and of a stream the last version. */
  shownEnd(partition: number): number;
  shownVersions(partition: number, stream: string): number;
  /** Over one connection, in their order, each so long after the one before it, without a wait for answers. */
  appendAll(
    node: number,
    requests: readonly AppendRequest[],
    everyMs: number,
    answer: (i: number, answer: Answer) => void,
  ): void;
  count(what: string): void;
  /** A promise was broken. */
  broke(reason: Error): void;
}

export function pause(timers: Timers, milliseconds: number): Promise<void> {
  return new Promise((resolve) => void timers.after(milliseconds, resolve));
}

/** Errors that say of a read only that it could not be carried out now. */
export function isTemporary(error: unknown): boolean {
  return error instanceof Gone || error instanceof TryAgain || error instanceof NoReplica ||
    error instanceof Damaged || error instanceof StoreClosed;
}
