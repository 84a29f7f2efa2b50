/**
 * What one replica of one bucket knows: its term and role, how far its log is written, verified, durable and committed,
 * and, at the leader, the same of its peers. And what must hold of all that.
 *
 *     0 ……………… commitEnd ≤ durableEnd ≤ logEnd            commitEnd ≤ verifiedEnd ≤ logEnd
 *
 * Two rules are kept here, once for all chapters:
 *
 * - Nothing leaves that speaks of a hard state which is not durable yet: such messages are held back until it is.
 * - What was written counts as durable when the sync comes back that was asked for after it; and an entry that was cut
 *   off in the meantime is not counted by the sync that was under way.
 *
 * @module
 */
import type { Effect, HardState } from "./effect.ts";
import { type Chain, type Entries, equalChains, type Log, TermTable } from "./entries.ts";
import { Flight } from "./flight.ts";
import { ID_MAX, isId, type Message, type Sender, type TermPromise } from "./message.ts";
import { majority, reachedByMajority } from "./quorum.ts";
import { leaderSlot, termBeforeAll } from "./topology.ts";

/** A bug, or a disk that is not what it says: the bucket must stop, and its files must be kept. */
export class InvariantBroken extends Error {
  override readonly name = "InvariantBroken";
}

/** What must hold, where the words cost nothing. Elsewhere `broken`, so that they are put together only when needed. */
export function insist(condition: boolean, what: string): asserts condition {
  if (!condition) broken(what);
}

export function broken(what: string): never {
  throw new InvariantBroken(what);
}

export function insistOnId(name: string, id: number): void {
  if (!isId(id)) broken(`the ${name} is ${id}: ids go from 1 to ${ID_MAX}`);
}

/** Milliseconds. */
export interface Timing {
  heartbeatMs: number;
  /** A leader that was not heard for so long is suspected, up to `suspectJitterMs` later by some. */
  suspectMs: number;
  suspectJitterMs: number;
  /** The same for one that seems to be down by other signs. */
  suspectHintedMs: number;
  /** A step of a term change that takes longer has failed. */
  changeMs: number;
  /** A leader that did not hear a majority for so long leads no longer. */
  quorumMs: number;
  /** Slot 0 leads again after it has kept up for so long. */
  failBackMs: number;
}

export const TIMING: Timing = {
  heartbeatMs: 200,
  suspectMs: 1000,
  suspectJitterMs: 200,
  suspectHintedMs: 300,
  changeMs: 1000,
  quorumMs: 2000,
  failBackMs: 3000,
};

export interface Limits {
  /** Entries of one message. One larger entry goes alone. */
  messageBytesMax: number;
  /** To one follower, sent and not acknowledged. */
  windowBytesMax: number;
  windowMessagesMax: number;
  /** A message with more than this may be overtaken by what is sent later. */
  bulkBytes: number;
  /** To one follower, sent and not acknowledged, while some of it may be overtaken. */
  bulkWindowBytesMax: number;
  /** Appended and not committed. */
  uncommittedBytesMax: number;
}

export const LIMITS: Limits = {
  messageBytesMax: 1024 * 1024,
  windowBytesMax: 4 * 1024 * 1024,
  windowMessagesMax: 64,
  bulkBytes: 256 * 1024,
  bulkWindowBytesMax: 2 * 1024 * 1024,
  uncommittedBytesMax: 64 * 1024 * 1024,
};

/**
 * follower    hears a leader, or waits for one
 * asking      would lead: has a majority lost its leader, too?
 * collecting  has begun its term: how do the others' logs end?
 * adopting    fetches what the best of them has and it has not
 * opening     replicates the first entry of its term, which commits all before it
 * serving     takes appends
 * recovering  lost what it had: votes for nobody, acknowledges nothing that would count
 */
export type Role = "follower" | "asking" | "collecting" | "adopting" | "opening" | "serving" | "recovering";

/** Until what may be overtaken is taken for lost, at first. */
export const PATIENCE_ROUNDS = 10;

/** What a leader knows of a follower, as far as it was said in this term. */
export class Peer {
  /** Up to here its log is equal and durable. */
  match = 0;
  /** The next entry to send. While `probing`, from `probeFrom` on it is a guess. */
  next = 0;
  probing = true;
  probeFrom = 0;
  /** It acknowledges, but must not be counted. */
  recovering = false;
  readonly flight: Flight;
  /** Up to here it was sent what may be overtaken: as long as it has not acknowledged that, an answer says little of it. */
  bulkEnd = 0;
  /** The round in which it came further, or was sent something after nothing was under way; and for how many it may stand still. */
  progressRound = 0;
  patience = PATIENCE_ROUNDS;
  /** When the newest round went out that it answered. */
  heardAt = -Infinity;
  /** The newest round of heartbeats that it answered. */
  round = 0;
  /** The round whose answer says whether something was lost; and what had been sent, and was held, before it went. */
  askedRound = 0;
  askedNext = 0;
  askedHeld = 0;
  /** The newest promise for the term that is being begun. */
  promise: TermPromise | null = null;
  granted = false;
  recovery: { term: number; serving: boolean; end: number; lastTerm: number } | null = null;
  /** What a disk that is new to this replica has to repeat, before it takes the place of the one that is known. */
  challenge = 0;
  challengedId = 0;

  constructor(limits: Limits) {
    this.flight = new Flight(limits.windowMessagesMax);
  }

  /** A new term: nothing is known. */
  reset(next: number): void {
    this.match = 0;
    this.probe(next);
    this.recovering = false;
    this.heardAt = -Infinity;
    this.round = 0;
    this.askedRound = 0;
    this.bulkEnd = 0;
    this.progressRound = 0;
    this.patience = PATIENCE_ROUNDS;
  }

  get hasBulk(): boolean {
    return this.match < this.bulkEnd;
  }

  probe(next: number): void {
    this.next = this.probeFrom = next;
    this.probing = true;
    this.flight.clear();
  }
}

/** Of so many rounds of heartbeats a leader knows when they went out. */
export const ROUNDS_REMEMBERED = 256;

export interface ReplicaOptions {
  replicationFactor: number;
  /** Of this replica. */
  slot: number;
  log: Log;
  /** Of the entries that are in the log. */
  terms: TermTable;
  /** As it was found on the disk; all of the log that was found is durable. */
  hard: HardState;
  /** The largest committed end that was found on the disk. */
  commitFloor: number;
  /** Of this process: a random number, up to `ID_MAX`. */
  boot: number;
  now: number;
  timing?: Partial<Timing>;
  limits?: Partial<Limits>;
}

/** The hard state of a folder that was just made. `mode` is normal only if all replicas are as new. */
export function newHardState(replicationFactor: number, dataId: number, mode: HardState["mode"]): HardState {
  const term = termBeforeAll(replicationFactor);
  const dataIds = new Array<number>(replicationFactor).fill(0);
  const founder = mode === "normal";
  return { term, startedTerm: 0, leaderDataId: 0, leaderBoot: 0, dataId, mode, founder, dataIds, retired: [] };
}

export class ReplicaState {
  readonly replicationFactor: number;
  readonly majority: number;
  readonly slot: number;
  readonly log: Log;
  readonly terms: TermTable;
  readonly boot: number;
  readonly timing: Timing;
  readonly limits: Limits;
  hard: HardState;
  role: Role = "follower";
  effects: Effect[] = [];

  // The log.
  logEnd: number;
  lastChain: Chain;
  durableEnd: number;
  commitEnd: number;
  /** Follower: up to here the log is equal to that of the leader of this term. */
  verifiedEnd: number;
  leaderCommitEnd = 0;
  /** The last that was acknowledged to this leader; -1 when an answer is owed in any case. */
  ackedEnd = 0;

  // Syncs. Parallel queues: what is durable when a sync comes back.
  #syncs = 0;
  #synced = 0;
  #wrote = false;
  readonly #pendingEnds: number[] = [];
  /** The sync that makes the present hard state durable. */
  #hardSync = 0;
  readonly #heldBack: { sync: number; to: number; message: Message }[] = [];

  // Time.
  /** When the leader of this term was last heard; that it never was is told by `hasLeader`. */
  leaderHeardAt: number;
  hasLeader = false;
  nextHeartbeatAt = 0;
  /** The deadline of the step that a term change is at. */
  changeUntil = 0;
  changeBeganAt = 0;
  askAgainAt = 0;
  attempt = 0;
  wantedTerm = 0;
  /** Slots that seem to be down, as bits. A hint. */
  suspectedSlots = 0;

  // The leader.
  readonly peers: readonly (Peer | null)[];
  /** The first entry of its term. */
  termFrom = 0;
  round = 0;
  readonly roundsSentAt = new Float64Array(ROUNDS_REMEMBERED);
  readonly uncommitted = new Flight(1024);
  keptUpSince = Infinity;
  handOver: { to: number; since: number; sent: boolean; stopping: boolean } | null = null;
  challenges = 0;
  readonly reads: { token: number; round: number; end: number }[] = [];
  readonly #reached: Float64Array;

  /** By slot: up to where each was known to hold committed entries. No replica can ever have less. */
  readonly heldEnds: number[];
  /** What the best of the logs has, which this replica fetches. */
  adoption: { from: number; end: number; chain: Chain | null; next: number; askedAt: number } | null = null;
  recovery: { nonce: number; term: number; end: number; known: boolean; forced: boolean } | null = null;

  constructor(options: ReplicaOptions) {
    const { replicationFactor, slot, log, terms, hard, commitFloor, boot, now } = options;
    this.replicationFactor = replicationFactor;
    this.majority = majority(replicationFactor);
    this.slot = slot;
    this.log = log;
    this.terms = terms;
    this.hard = hard;
    if (hard.mode === "recovering") this.role = "recovering";
    this.boot = boot;
    this.timing = { ...TIMING, ...options.timing };
    this.limits = { ...LIMITS, ...options.limits };
    this.logEnd = this.durableEnd = log.end;
    this.lastChain = log.chainAt(log.end);
    // A log that lost entries is still right up to where it goes.
    this.commitEnd = Math.min(commitFloor, log.end);
    this.verifiedEnd = this.commitEnd;
    this.leaderHeardAt = now;
    this.peers = Array.from({ length: replicationFactor }, (_, i) => i === slot ? null : new Peer(this.limits));
    this.#reached = new Float64Array(replicationFactor);
    this.heldEnds = new Array<number>(replicationFactor).fill(0);
    insistOnId("boot", boot);
    insistOnId("data id", hard.dataId);
    insist(hard.dataIds.length === replicationFactor, "the hard state is of another replication factor");
    insist(
      hard.mode === "recovering" || commitFloor <= log.end,
      `the log ends at ${log.end}, and ${commitFloor} entries were committed: this replica lost some and must recover`,
    );
  }

  get term(): number {
    return this.hard.term;
  }

  get leaderSlot(): number {
    return leaderSlot(this.hard.term, this.replicationFactor);
  }

  get isLeader(): boolean {
    return this.role === "opening" || this.role === "serving";
  }

  get lastTerm(): number {
    return this.terms.lastTerm;
  }

  chainAt(end: number): Chain {
    return end === this.logEnd ? this.lastChain : this.log.chainAt(end);
  }

  // ---- Effects -------------------------------------------------------------------------------------------------------

  /** Sends, as soon as the hard state that it speaks of is durable. */
  send(to: number, message: Message): void {
    if (this.#hardSync > this.#synced) this.#heldBack.push({ sync: this.#hardSync, to, message });
    else this.effects.push({ kind: "send", to, message });
  }

  sendToAll(message: Message): void {
    for (let slot = 0; slot < this.replicationFactor; slot++) if (slot !== this.slot) this.send(slot, message);
  }

  /** Sends when all that is written up to now is durable. */
  sendWhenDurable(to: number, message: Message): void {
    this.#wrote = true;
    this.#heldBack.push({ sync: this.#syncs + 1, to, message });
  }

  persist(change: Partial<HardState>): void {
    const hard = { ...this.hard, ...change };
    if (hard.term < this.hard.term) broken(`term ${hard.term} after term ${this.hard.term}`);
    insist(hard.startedTerm >= this.hard.startedTerm, "the term that was begun last went back");
    insist(hard.startedTerm <= hard.term, "a term was begun that is not followed");
    this.hard = hard;
    this.effects.push({ kind: "persist", hard });
    this.#wrote = true;
    this.#hardSync = this.#syncs + 1;
  }

  get isHardStateDurable(): boolean {
    return this.#hardSync <= this.#synced;
  }

  append(entries: Entries): void {
    if (entries.from !== this.logEnd) broken(`entries from ${entries.from} for a log that ends at ${this.logEnd}`);
    this.effects.push({ kind: "append", entries });
    this.noteAppended(entries);
  }

  /** These stand at the end of the log now. */
  noteAppended(entries: Entries): void {
    insist(entries.end > entries.from, "entries without an entry");
    const { terms } = this;
    const lastTerm = entries.termAt(entries.end - 1);
    if (lastTerm > this.hard.term) broken(`an entry of term ${lastTerm} in term ${this.hard.term}`);
    if (lastTerm !== terms.lastTerm) {
      for (let i = entries.from; i < entries.end; i++) terms.add(entries.termAt(i), i);
    }
    this.logEnd = entries.end;
    this.lastChain = entries.chainAt(entries.end);
    this.#wrote = true;
  }

  /** The only place where a log becomes shorter. */
  truncate(end: number): void {
    if (end < this.commitEnd) broken(`the log would be cut to ${end}: ${this.commitEnd} entries of it are committed`);
    insist(!this.isLeader, "a leader only appends");
    this.lastChain = this.chainAt(end);
    this.logEnd = end;
    this.durableEnd = Math.min(this.durableEnd, end);
    this.verifiedEnd = Math.min(this.verifiedEnd, end);
    for (let i = 0; i < this.#pendingEnds.length; i++) {
      // What comes after it under the same log index is not what these syncs were asked for.
      if (this.#pendingEnds[i]! > end) this.#pendingEnds[i] = end;
    }
    this.terms.cut(end);
    // What waits for its sync must not speak of a log that is no more. Of a promise there is no need either: its leader has
    // its majority.
    const held = this.#heldBack.splice(0);
    for (const one of held) {
      if (one.message.kind !== "promise") this.#heldBack.push({ ...one, message: upTo(end, one.message) });
    }
    this.effects.push({ kind: "truncate", end });
    this.#wrote = true;
  }

  /** At the end of each step. */
  finish(): void {
    if (!this.#wrote) return;
    this.#wrote = false;
    this.#pendingEnds.push(this.logEnd);
    this.effects.push({ kind: "sync", number: ++this.#syncs });
  }

  /** A sync came back. Sends what waited for it. */
  noteSynced(number: number): void {
    if (number <= this.#synced || number > this.#syncs) {
      broken(`sync ${number} came back: those of ${this.#synced} to ${this.#syncs} are under way`);
    }
    const count = number - this.#synced;
    this.durableEnd = Math.max(this.durableEnd, this.#pendingEnds[count - 1]!);
    this.#pendingEnds.splice(0, count);
    this.#synced = number;
    if (this.#heldBack.length > 0) {
      const held = this.#heldBack.splice(0);
      for (const one of held) {
        if (one.sync > number) this.#heldBack.push(one);
        else this.effects.push({ kind: "send", to: one.to, message: one.message });
      }
    }
  }

  /** Whether what is in the log now is durable. */
  get isLogDurable(): boolean {
    return this.durableEnd === this.logEnd;
  }

  /** Entries below `end` are committed and in this log, as far as the caller knows. */
  raiseCommit(end: number): void {
    end = Math.min(end, this.durableEnd); // What may be read is durable here.
    if (end <= this.commitEnd) return;
    this.commitEnd = end;
    if (this.verifiedEnd < end) this.verifiedEnd = end;
    this.heldEnds[this.slot] = end;
    this.uncommitted.arrived(end);
    this.effects.push({ kind: "commit", end });
  }

  // ---- Others --------------------------------------------------------------------------------------------------------

  /** Whether the sender's disk is the one that counts for its slot. The first that is heard of does. */
  knows({ slot, dataId }: Sender): boolean {
    const known = this.hard.dataIds[slot]!;
    if (known === dataId) return true;
    if (known !== 0 || this.hard.retired.includes(dataId)) return false;
    this.persist({ dataIds: this.hard.dataIds.with(slot, dataId) });
    return true;
  }

  /** The largest end that a majority has durable, this replica included. */
  majorityEnd(): number {
    const reached = this.#reached;
    for (let i = 0; i < reached.length; i++) {
      const peer = this.peers[i]!;
      reached[i] = peer === null ? this.durableEnd : peer.recovering ? 0 : peer.match;
    }
    return reachedByMajority(reached);
  }

  /** When a majority was last heard at the same time. */
  majorityHeardAt(now: number): number {
    const reached = this.#reached;
    for (let i = 0; i < reached.length; i++) reached[i] = this.peers[i]?.heardAt ?? now;
    return reachedByMajority(reached);
  }

  /** The newest round of heartbeats that a majority answered. */
  majorityRound(): number {
    const reached = this.#reached;
    for (let i = 0; i < reached.length; i++) {
      const peer = this.peers[i]!;
      reached[i] = peer === null ? this.round : peer.recovering ? 0 : peer.round;
    }
    return reachedByMajority(reached);
  }

  /** What must hold after every step. */
  check(): void {
    const { commitEnd, durableEnd, logEnd, verifiedEnd } = this;
    if (commitEnd > durableEnd) broken(`${commitEnd} entries are committed: ${durableEnd} are durable here`);
    if (durableEnd > logEnd) broken(`${durableEnd} entries are durable: the log has ${logEnd}`);
    if (verifiedEnd > logEnd) broken(`${verifiedEnd} entries are verified: the log has ${logEnd}`);
    if (commitEnd > verifiedEnd) broken(`${commitEnd} entries are committed: ${verifiedEnd} are verified`);
    insist(!this.isLeader || this.leaderSlot === this.slot, "leads a term of another slot");
    insist(!this.isLeader || this.hard.startedTerm === this.hard.term, "leads a term that it did not begin");
    insist((this.hard.mode === "recovering") === (this.role === "recovering"), "the role is not that of the mode");
  }
}

/** Disks that are gone and remembered. More than a slot ever has before all replicas know its newest. */
const RETIRED_MAX = 32;

/** In the place of a data id: the disk that was there does not count, and no other has said that it recovers. */
export const NO_DISK = -1;

/** The disk of a slot does not count any more, and never again: another one is there, or none. */
export function retire(state: ReplicaState, slot: number, dataId: number): void {
  const { dataIds, retired } = state.hard;
  const gone = dataIds[slot]!;
  state.persist({
    dataIds: dataIds.with(slot, dataId),
    retired: gone <= 0 ? retired : [...retired, gone].slice(-RETIRED_MAX),
  });
  state.heldEnds[slot] = 0;
  const peer = state.peers[slot]!;
  peer!.reset(state.logEnd);
  peer!.recovering = true;
  peer!.promise = null; // A promise of a disk that is gone is void.
  peer!.granted = false;
}

/** A replica has less than it is known to have had: it must recover, and does not count until it has. */
export function quarantine(state: ReplicaState, { slot, dataId }: Sender): void {
  retire(state, slot, NO_DISK);
  state.send(slot, { kind: "quarantine", dataId, why: "lost" });
}

/** Whether a log that is verified to `end` by someone is this one. */
export function agrees(state: ReplicaState, end: number, chain: Chain): boolean {
  return end <= state.logEnd && equalChains(state.chainAt(end), chain);
}

/** The message as it is to be sent when the log was cut to `end` since. */
function upTo(end: number, message: Message): Message {
  if (message.kind !== "heartbeatReply") return message;
  const least = (number: number) => Math.min(number, end);
  const { durableEnd, verifiedEnd } = message;
  return { ...message, end: least(message.end), durableEnd: least(durableEnd), verifiedEnd: least(verifiedEnd) };
}
