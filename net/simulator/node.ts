/**
 * What the world of the simulator asks of a node, so that a model and the real engine can take the same place.
 *
 * A `Machine` is what survives a process: its disk. It starts a `Node`, the process, which ends when the machine crashes.
 * All that a node does outside itself goes through its `Surroundings`; and what it does to its disk it tells a `Witness`,
 * who knows all nodes and holds them to what must be true of all together.
 *
 * @module
 */
import type { Chance } from "../../core/chance.ts";
import type { Chain } from "../consensus/entries.ts";
import type { Role } from "../consensus/replica_state.ts";
import type { ClusterStore } from "../cluster.ts";
import type { SeenEvent } from "../history_checker.ts";
import type { Observer } from "../driver.ts";
import type { Packet } from "../messages.ts";
import type { Transport } from "../transport.ts";

/** An event that a client wants stored. Ids are unique to an operation, and the same at every try of it. */
export interface WantedEvent {
  readonly id: string;
  readonly stream: string;
}

export interface AppendRequest {
  readonly partition: number;
  readonly events: readonly WantedEvent[];
  /** Of the first event's stream, before it: the version of its last event, -1 for none; null for any. */
  readonly expected: number | null;
}

export type Answer =
  /** Stored and committed: the sequence of the first event. */
  | { readonly kind: "ok"; readonly firstSequence: number }
  /** Nothing was appended, at any node, and nothing will be. */
  | { readonly kind: "refused"; readonly why: string }
  /** The stream is at another version, for certain. */
  | { readonly kind: "wrong version"; readonly current: number }
  | { readonly kind: "unknown" };

export interface Surroundings {
  send(to: number, packet: Packet): void;
  /** Calls back after some time, unless the process has ended by then. */
  /** An action that returns false did nothing. */
  after(milliseconds: number, action: () => unknown): void;
  /** The clock of this node. */
  now(): number;
  /** As that, but it only rises. */
  monotonic(): number;
  /** Links to the other nodes, for a process that uses them. */
  transport(): Transport;
  readonly chance: Chance;
  readonly witness: Witness;
  /** The process ends itself, and may. */
  die(why: "failed sync" | "started on a full disk" | "restarted by an operator"): void;
  /** Something has happened that is worth a number at the end. */
  count(what: string): void;
  /** It ended itself, and should not have. */
  broke(reason: Error): void;
}

/** What is told of a node's disk and decisions, when it happens. */
export interface Witness extends Observer {
  /** A linearizable read was answered: what had been acknowledged before `askedAt`, of the world's time, is below. */
  readEnd(bucket: number, end: number, ackedEnd: number): void;
}

/** For the eyes of the world alone. */
export interface ReplicaView {
  readonly role: Role;
  readonly term: number;
  readonly logEnd: number;
  readonly commitEnd: number;
  readonly durableEnd: number;
  chainAt(end: number): Chain;
}

export interface Node {
  receive(packet: Packet): void;
  tick(): void;
  append(request: AppendRequest, answer: (answer: Answer, end: number) => void): void;
  /** Events of a partition from a sequence on, as far as they may be read here; null where this node has no replica. */
  read(partition: number, from: number): SeenEvent[] | null;
  /** One past the last sequence that may be read of a partition here; null where that is for others to say. */
  headOf(partition: number): number | null;
  /** Up to which end one must read to see all that was acknowledged before now. */
  readEnd(bucket: number, answer: (end: number | null) => void): void;
  /** It is about to be stopped. */
  handOver(): void;
  view(bucket: number): ReplicaView | null;
  /** The store over all nodes; null where there is none, or not yet. */
  readonly store: ClusterStore | null;
  /** The process ends itself: what it says now counts for nothing. */
  readonly isEnding: boolean;
  /** Subscriptions of its own replicas that are open. */
  readonly subscriptions: number;
}

export type Death = "kill" | "power cut";

export interface Machine {
  /** Starts the process. @throws it must not start */
  start(surroundings: Surroundings): Node;
  /** The process is gone: and with a power cut what was not synced, but perhaps some of it. */
  crash(death: Death, chance: Chance): void;
  /** Another disk, without anything. */
  wipe(): void;
  /** Bytes of committed entries are not what they were, in one of its logs. */
  damage(chance: Chance): void;
  /** All that is durable, to be put back later: with another id, as the tool that restores does. */
  save(): unknown;
  restore(saved: unknown): void;
  /** The next syncs take longer, or the next one fails. */
  slowDown(untilMs: number): void;
  failSync(): void;
  /** Its disk has room for so much more; or for any amount again. */
  fill(roomBytes: number): void;
  /** Nothing of that any more. */
  mend(): void;
  /** Whether all replicas that are on its disk count. */
  isWhole(): boolean;
}
