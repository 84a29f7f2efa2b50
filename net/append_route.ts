/**
 * The appends of this node to one bucket, on their way to its leader.
 *
 *     waiting ──► flying ──► told: stored, or refused
 *        ▲           │
 *        └── again ◄─┘       not taken, or nothing is known
 *
 * What holds:
 *
 * - They reach the leader in the order in which they were called. When one comes back, nothing more is sent until all
 *   that fly have come back; then those that have to be tried again go first, in their order, and begin a new run. A
 *   leader that has not taken one of a run takes none behind it (messages.ts). All that fly go to the same place: at
 *   another one nobody would know of those that are not taken here.
 * - A failure is told only when nothing was appended anywhere. What may have been is tried again with the same event ids,
 *   by which a leader knows whether it was, until the time is up; then nothing is known.
 * - A leader appends only in the term in which it was asked. So when a later one has refused the same events, no earlier
 *   attempt can still succeed.
 *
 * It knows no message: how an append travels is handed in.
 *
 * @module
 */
import {
  DuplicateEventId,
  NoReplica,
  OutcomeUnknown,
  TooFewReplicas,
  TryAgain,
  WrongExpectedVersion,
} from "../core/errors.ts";
import type { Appended, AppendReceiver, Transaction } from "../core/event.ts";
import { formatUuid } from "../core/uuid.ts";

/** What became of an attempt. */
export type Outcome =
  | { readonly kind: "stored"; readonly appended: Appended }
  /** Nothing was appended, and the same will be said elsewhere. */
  | { readonly kind: "refused"; readonly error: unknown }
  /** Nothing was appended: another node may, or this one soon. */
  | { readonly kind: "notTaken"; readonly why: Error }
  /** It may have been appended, or may still be. */
  | { readonly kind: "unknown"; readonly why: Error };

/** Where an append goes: to the leader, over a node that may know better, or nowhere yet. */
export type Target =
  | { readonly kind: "leader"; readonly node: number; readonly term: number }
  | { readonly kind: "relay"; readonly node: number }
  /** `unreachable`: there is no link to any node that could help, and no replica here. */
  | { readonly kind: "none"; readonly unreachable: boolean };

export interface AppendWays {
  now(): number;
  target(append: Append, run: number): Target;
  /**
   * Sends it within this call, or returns false: then there is no room, and it is said when there is. Tells what became of
   * it once, perhaps within the call.
   */
  send(append: Append, to: Exclude<Target, { kind: "none" }>, run: number, told: (outcome: Outcome) => void): boolean;
  /** Nobody is known to lead: somebody should be asked. */
  seek(): void;
  /** The append has been answered. */
  ended(append: Append): void;
}

export interface RouteSettings {
  /** Before the same is tried again where it was not taken. */
  retryMs: number;
  /** How long no node that could help may be out of reach before a client is told. */
  unreachableMs: number;
}

/** An append under way. */
export class Append {
  /** It counts its attempts: what is said of an earlier one is no longer heard. */
  attempt = 0;
  /** In which term it was sent last, if to a leader elsewhere. */
  sentInTerm: number | null = null;
  mayBeStored = false;
  /** An attempt over another node is open: it is not bound to a term, and may reach any leader. */
  mayReachAnyLeader = false;
  why: Error | null = null;

  constructor(
    readonly order: number,
    readonly transaction: Transaction,
    readonly bytes: number,
    readonly receiver: AppendReceiver,
    readonly deadline: number,
    /** How many nodes it may still be handed on over. */
    readonly hops: number,
    /** The node that handed it to this one. */
    readonly from: number | null,
  ) {}
}

export class AppendRoute {
  readonly #ways: AppendWays;
  readonly #settings: RouteSettings;
  #waiting: Append[] = [];
  readonly #flying = new Set<Append>();
  #flyingTo: Target | null = null;
  /** Those that came back. While there are any, nothing is sent. */
  #again: Append[] = [];
  #run = 1;
  #sending = false;
  /** What was sent came back from there: the same is not tried before `#retryAt`. */
  #refusedBy: Target | null = null;
  #retryAt = 0;
  #unreachableSince: number | null = null;

  constructor(ways: AppendWays, settings: RouteSettings) {
    this.#ways = ways;
    this.#settings = settings;
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0 && this.#flying.size === 0 && this.#again.length === 0;
  }

  add(append: Append): void {
    this.#waiting.push(append);
    this.send();
  }

  /** Sends what may be sent. To be called when something has changed, and now and then. */
  send(): void {
    if (this.#sending) return;
    this.#sending = true;
    if (this.#again.length > 0 && this.#flying.size === 0) this.#beginRun();
    while (this.#again.length === 0 && this.#waiting.length > 0 && this.#sendFirst());
    this.#sending = false;
    if (this.#again.length > 0 && this.#flying.size === 0) this.send(); // What was sent came back within this step.
  }

  /** Another leader may be known. What flies to one of an older term will hardly be answered: the new one knows what became of it. */
  leaderChanged(): void {
    for (const append of this.#flying) {
      if (append.sentInTerm === null) continue;
      const target = this.#ways.target(append, this.#run);
      if (target.kind !== "leader" || target.term <= append.sentInTerm) continue;
      append.mayBeStored = true;
      append.why = new TryAgain("The leader has changed");
      this.#back(append);
    }
    this.send();
  }

  /** Ends those whose time is up. */
  expire(): void {
    const now = this.#ways.now();
    for (const append of [...this.#flying, ...this.#again, ...this.#waiting]) {
      if (append.deadline > now) continue;
      if (this.#flying.has(append)) append.mayBeStored = true;
      this.#refuse(append, this.#failureOf(append));
    }
  }

  #sendFirst(): boolean {
    const append = this.#waiting[0]!;
    const target = this.#ways.target(append, this.#run);
    const now = this.#ways.now();
    if (target.kind === "none") {
      this.#ways.seek();
      this.#unreachableSince = target.unreachable ? this.#unreachableSince ?? now : null;
      if (target.unreachable && now - this.#unreachableSince! >= this.#settings.unreachableMs) this.#giveUp();
      return false;
    }
    this.#unreachableSince = null;
    if (this.#refusedBy !== null && now < this.#retryAt) {
      if (isSame(target, this.#refusedBy)) return false;
      if (target.kind === "relay" && this.#refusedBy.kind === "relay") return false; // They know as little.
    }
    this.#refusedBy = null;
    if (this.#flying.size > 0 && !isSame(target, this.#flyingTo!)) return false; // It would overtake.
    this.#flyingTo = target;
    this.#waiting.shift();
    const attempt = ++append.attempt;
    append.sentInTerm = target.kind === "leader" ? target.term : null;
    this.#flying.add(append);
    const hasLeft = this.#ways.send(append, target, this.#run, (outcome) => {
      if (append.attempt === attempt && this.#flying.has(append)) this.#told(append, target, outcome);
    });
    if (hasLeft) return true;
    this.#flying.delete(append);
    this.#waiting.unshift(append);
    return false;
  }

  #giveUp(): void {
    const why = new NoReplica("No node that has a replica of the partition can be reached");
    for (const append of this.#waiting.slice()) {
      append.why = why;
      if (!append.mayBeStored) this.#refuse(append, why);
    }
  }

  #told(append: Append, by: Target, outcome: Outcome): void {
    switch (outcome.kind) {
      case "stored":
        this.#remove(append);
        append.receiver.stored(outcome.appended);
        return this.#settled();
      case "refused":
        if (this.#isFinal(append, outcome.error)) {
          this.#refuse(append, outcome.error);
          return this.#settled();
        }
        append.why = outcome.error instanceof Error ? outcome.error : new Error(String(outcome.error));
        break;
      case "notTaken":
        append.why = outcome.why;
        break;
      case "unknown":
        append.why = outcome.why;
        append.mayBeStored = true;
        if (by.kind === "relay") append.mayReachAnyLeader = true;
    }
    this.#back(append);
    this.#refusedBy = by;
    this.#retryAt = this.#ways.now() + this.#settings.retryMs;
    this.#settled();
  }

  /**
   * Whether an error is all that there is to say. After an attempt of which nothing is known, only what was decided behind
   * the ids is. What is said while one before it waits to be tried again may rest on that one's absence.
   */
  #isFinal(append: Append, error: unknown): boolean {
    if (this.#again.some(({ order }) => order < append.order)) return false;
    if (!append.mayBeStored) return true;
    if (append.mayReachAnyLeader) return false;
    return error instanceof WrongExpectedVersion || error instanceof DuplicateEventId;
  }

  /** One that flew does no more: it may have been the one for which others wait. */
  #settled(): void {
    if (this.#flying.size === 0) this.send();
  }

  #back(append: Append): void {
    append.attempt++; // Nothing more is heard of this one.
    this.#flying.delete(append);
    this.#again.push(append);
  }

  #beginRun(): void {
    this.#again.sort((a, b) => a.order - b.order);
    this.#waiting = [...this.#again, ...this.#waiting];
    this.#again = [];
    this.#run++;
  }

  #refuse(append: Append, error: unknown): void {
    this.#remove(append);
    append.receiver.refused(error);
  }

  #remove(append: Append): void {
    append.attempt++;
    if (!this.#flying.delete(append)) {
      this.#again = this.#again.filter((one) => one !== append);
      this.#waiting = this.#waiting.filter((one) => one !== append);
    }
    this.#ways.ended(append);
  }

  #failureOf(append: Append): Error {
    const cause = append.why ?? undefined;
    if (append.mayBeStored) {
      const id = append.transaction.events.find(({ eventId }) => eventId !== undefined)?.eventId;
      return new OutcomeUnknown(
        "No leader has said in time whether the events are stored" +
          (id === undefined ? "" : `: they are if event ${typeof id === "string" ? id : formatUuid(id)} is there`),
        { cause },
      );
    }
    if (cause instanceof NoReplica || cause instanceof TooFewReplicas || cause instanceof TryAgain) return cause;
    return new TryAgain("No leader has taken the events in time", { cause });
  }
}

function isSame(a: Target, b: Target): boolean {
  return a.kind === b.kind && a.kind !== "none" && b.kind !== "none" && a.node === b.node &&
    (a.kind !== "leader" || b.kind !== "leader" || a.term === b.term);
}
