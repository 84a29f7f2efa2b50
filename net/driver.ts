/**
 * The replicas of a node: one for each bucket that it holds. It carries out on the real log what `consensus/` wants done,
 * and tells it what happened.
 *
 *     messages ─┐                      ┌─► send
 *     ticks ────┼─► replica.step ──────┼─► append, cut, hard state ─► the bucket's log and the journal ─► sync
 *     appends ──┘        ▲             └─► commit ─► the engine publishes and answers
 *                        └───────── what was written, what is durable ◄──────────────────────────────┘
 *
 * Rules:
 *
 * - Effects are carried out in their order, and before the next step.
 * - A sync covers all that was written before the batch was sealed. When it is done, all replicas know that before any of
 *   them makes a step.
 * - A replica whose disk has no room, or whose log turns out to be damaged, is stopped alone, and begins anew after a
 *   while, as after a restart of the node: from what is durable. Of a damaged log what is proved is kept, under a new data
 *   id, and the rest is fetched.
 * - A broken invariant ends the process: what it knows must not be acted upon.
 *
 * @module
 */
import { Damaged, DiskFull, TooFewReplicas, TryAgain } from "../core/errors.ts";
import type { Database } from "../core/database.ts";
import { endProcess, type Environment, type Log as Logger } from "../core/environment.ts";
import type { Group, WrittenFrames } from "../core/group.ts";
import { NoSpace } from "../core/log/disk.ts";
import type { ReplicatedBucket } from "../core/replicated_bucket.ts";
import type { Effect, HardState, Input } from "./consensus/effect.ts";
import { type Chain, type Entries, type Log, TermTable } from "./consensus/entries.ts";
import { ID_MAX } from "./consensus/message.ts";
import { start, step } from "./consensus/replica.ts";
import { InvariantBroken, type Limits, newHardState, ReplicaState, type Timing } from "./consensus/replica_state.ts";
import { refusal } from "./consensus/replication.ts";
import { type ClusterShape, leaderOf, nodeOf, slotOf } from "./consensus/topology.ts";
import { FrameEntries } from "./frame_entries.ts";
import { decodeHardState, encodeHardState } from "./hard_state.ts";
import { type LocalReplica, NotLeader } from "./local.ts";
import type { Packet } from "./messages.ts";
import { systemTimers, type Timers } from "./timers.ts";

/** A replica that could not go on begins anew after so long. */
const RESTART_MS = 1000;
/** A replica that does not count any more waits up to so long, so that not all of a node ask at once. */
const RECOVER_MS_MAX = 500;

/** What is told of a node's log and decisions when it happens: for the simulator, which knows all nodes. */
export interface Observer {
  persisted(node: number, bucket: number, hard: HardState): void;
  appended(node: number, bucket: number, logIndex: number, term: number, chain: Chain): void;
  truncated(node: number, bucket: number, end: number, removed: readonly Chain[]): void;
  /** The entry is durable on this node. */
  durable(node: number, bucket: number, logIndex: number, chain: Chain): void;
  /** `ownEnd`: one past the first entry of the replica's term in its log, null when there is none. */
  committed(
    node: number,
    bucket: number,
    from: number,
    end: number,
    chainAt: (end: number) => Chain,
    ownEnd: number | null,
  ): void;
  serves(node: number, bucket: number, term: number, logEnd: number, chainAt: (end: number) => Chain): void;
  sent(
    node: number,
    packet: Packet,
    durable: { hard: HardState; logEnd: number },
    chainAt: (end: number) => Chain,
  ): void;
  quarantined(node: number, bucket: number, reason: string): void;
  recovered(node: number, bucket: number, logEnd: number, chainAt: (end: number) => Chain): void;
}

export type ReplicaView = Omit<LocalReplica, "dataId" | "commitChain">;

export interface DriverOptions {
  shape: ClusterShape;
  /** The index of this node. */
  node: number;
  /** All nodes are as new as this one: replicas without a hard state count at once. Else they recover first. */
  founding: boolean;
  /** The folder was put back from an older copy: what is in it does not count before it has recovered. */
  isRestored?: boolean | undefined;
  environment: Environment;
  log?: Logger | undefined;
  send(to: number, packet: Packet): void;
  timers?: Timers | undefined;
  /** An operator's word: of two replicas the one that lost what it had takes what the other has. It holds until all count. */
  forcesRecovery?: boolean | undefined;
  /** All replicas of this node count, for the first time since it was opened, and that is durable. */
  onWhole?: (() => void) | undefined;
  timing?: Partial<Timing> | undefined;
  limits?: Partial<Limits> | undefined;
  observer?: Observer | undefined;
}

export class Driver implements Group {
  readonly isReplicated = true;
  readonly boot: number;
  readonly options: DriverOptions;
  /** By bucket; null where this node holds none. */
  readonly #hosts: (ReplicaHost | null)[] = [];
  /** Those that there are. */
  readonly #held: ReplicaHost[] = [];
  #store!: Database;
  #waiting: { isSealed: boolean; resolve: () => void }[] = [];
  #handedOver: (() => void) | null = null;
  /** What is to happen later, and how to call it off. */
  readonly #cancels = new Set<() => void>();
  isClosed = false;
  #wasWhole = false;

  private constructor(options: DriverOptions) {
    this.options = options;
    this.boot = this.newId();
  }

  /** `openStore` opens the node's store with this driver as its group. Resolves when all replicas have begun. */
  static async open(options: DriverOptions, openStore: (group: Group) => Promise<Database>): Promise<Driver> {
    const driver = new Driver(options);
    const { shape, node } = options;
    const store = driver.#store = await openStore(driver);
    for (let number = 0; number < shape.bucketCount; number++) {
      const slot = slotOf(number, node, shape);
      const host = slot === null ? null : new ReplicaHost(driver, store.replicated(number), slot);
      driver.#hosts.push(host);
      if (host !== null) driver.#held.push(host);
    }
    await Promise.all(driver.#held.map((host) => host.begin()));
    return driver; // Those that could not begin try again.
  }

  get store(): Database {
    return this.#store;
  }

  /** From 1 to `ID_MAX`. */
  newId(): number {
    const bytes = new Uint8Array(6);
    this.options.environment.random(bytes);
    return 1 + bytes.reduce((sum, byte) => sum * 256 + byte, 0) % ID_MAX;
  }

  /** As Timers.after, unless this is closed by then. */
  after(milliseconds: number, action: () => void): () => void {
    const cancel = (this.options.timers ?? systemTimers).after(milliseconds, () => {
      this.#cancels.delete(cancel);
      action();
    });
    this.#cancels.add(cancel);
    return () => {
      this.#cancels.delete(cancel);
      cancel();
    };
  }

  // ---- From outside ----------------------------------------------------------------------------------------------

  /** Time has passed: every 50 ms. */
  tick(): void {
    for (const host of this.#held) host.step({ kind: "tick" });
    if (this.#handedOver !== null) this.#lookAtHandOver();
    if (!this.#wasWhole && this.isWhole) {
      this.#wasWhole = true;
      this.options.onWhole?.();
    }
  }

  /** Whether a replica that recovers may take what the only other one has. */
  get forcesRecovery(): boolean {
    const { forcesRecovery, shape } = this.options;
    return forcesRecovery === true && shape.replicationFactor === 2 && !this.#wasWhole;
  }

  /** From a replica of another node: that it is one, and its slot, the transport has compared. */
  receive({ bucket, from, message }: Packet): void {
    this.#hosts[bucket]?.step({ kind: "message", from, message });
  }

  /** Of what a bucket's replica sent to that of another node, all from log index `from` on may be lost on the way. */
  lost(bucket: number, node: number, from: number): void {
    const slot = slotOf(bucket, node, this.options.shape);
    if (slot !== null) this.#hosts[bucket]?.step({ kind: "lost", slot, from });
  }

  /** Which slots of a bucket seem to be down, as bits. A hint. */
  suspected(bucket: number, slots: number): void {
    this.#hosts[bucket]?.step({ kind: "suspected", slots });
  }

  /** Somebody says that entries below `end`, which have this chain, are committed. */
  commitNote(bucket: number, end: number, chain: Chain): void {
    this.#hosts[bucket]?.commitNote(end, chain);
  }

  /** This node is about to stop: others should lead. Resolves when it leads nothing, or after so many milliseconds. */
  handOver(msMax: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.after(msMax, resolve);
    this.#handedOver = () => {
      cancel();
      resolve();
    };
    for (const host of this.#held) host.step({ kind: "handOver" });
    return promise;
  }

  #lookAtHandOver(): void {
    if (this.#held.every((host) => host.state === null || !host.state.isLeader)) this.#handedOver?.();
  }

  /** How this node's replica of a bucket stands; null where there is none. */
  replica(bucket: number): ReplicaView | null {
    return this.#hosts[bucket]?.view() ?? null;
  }

  chainAt(bucket: number, end: number): Chain {
    return this.#hosts[bucket]!.log.chainAt(end);
  }

  dataId(bucket: number): number {
    return this.#hosts[bucket]!.hard.dataId;
  }

  /** Whether all replicas of this node count, and that is durable. */
  get isWhole(): boolean {
    return this.#held.every((host) => host.counts);
  }

  /** Whether all replicas of this node have begun: what they began as is durable. */
  get hasBegun(): boolean {
    return this.#held.every(({ state }) => state !== null);
  }

  /** The node that serves a bucket, as far as its replica here knows. */
  leaderOf(bucket: number): { node: number; term: number } | null {
    return this.#hosts[bucket]?.leader() ?? null;
  }

  /** At the leader: up to which log index one must read to see all that was acknowledged before now; null when it does not lead. */
  readEnd(bucket: number): Promise<number | null> {
    return this.#hosts[bucket]?.readEnd() ?? Promise.resolve(null);
  }

  /** Resolves with true when entries below `end` are committed here, with false after so many milliseconds. */
  committed(bucket: number, end: number, msMax: number): Promise<boolean> {
    const host = this.#hosts[bucket];
    return host?.when(() => host.committedEnd >= end, msMax) ?? Promise.resolve(false);
  }

  /** Resolves with true when a test holds, which is asked whenever more of a bucket is committed; with false after so many milliseconds. */
  whenCommitted(bucket: number, holds: () => boolean, msMax: number): Promise<boolean> {
    return this.#hosts[bucket]?.when(holds, msMax) ?? Promise.resolve(false);
  }

  /** All who wait are told that nobody knows. Then the store may be closed. */
  async close(): Promise<void> {
    this.isClosed = true;
    for (const cancel of this.#cancels) cancel();
    for (const host of this.#held) host.stop();
    this.#handedOver?.();
    await Promise.all(this.#held.map(({ beginning }) => beginning));
  }

  // ---- The engine's group ----------------------------------------------------------------------------------------

  admission(bucket: number): number | Error {
    const host = this.#hosts[bucket];
    return host?.admission() ?? new NotLeader(bucket, 0, null);
  }

  appended(bucket: number, frames: WrittenFrames): void {
    const { bytes, firstLogIndex: logIndex, prevChain, term, ends, crcs } = frames;
    this.#hosts[bucket]!.appended(FrameEntries.encoded(bytes, { logIndex, prevChain, term }, ends, crcs));
  }

  sealed(): void {
    for (const host of this.#held) host.sealed();
    for (const one of this.#waiting) one.isSealed = true;
  }

  synced(): void {
    for (const host of this.#held) host.markSynced();
    for (const host of this.#held) host.stepSynced();
    const done = this.#waiting.filter(({ isSealed }) => isSealed);
    if (done.length === 0) return;
    this.#waiting = this.#waiting.filter(({ isSealed }) => !isSealed);
    for (const { resolve } of done) resolve();
  }

  damaged(bucket: number): void {
    // Not within the step that found it.
    queueMicrotask(() => this.#hosts[bucket]?.damaged());
  }

  /** Resolves when all is durable that is written up to now. */
  allSynced(bucket: ReplicatedBucket): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push({ isSealed: false, resolve });
    bucket.sync();
    return promise;
  }
}

/** A log as its replica may read it. */
class BucketEntries implements Log {
  constructor(readonly bucket: ReplicatedBucket, readonly bucketCount: number) {}

  get end(): number {
    return this.bucket.end;
  }

  chainAt(end: number): Chain {
    return this.bucket.chainAt(end);
  }

  entries(from: number, bytesMax: number): Entries {
    const { number: bucket } = this.bucket;
    const must = { bucket, bucketCount: this.bucketCount, from, prevChain: null, prevTerm: 0, term: Infinity };
    const entries = FrameEntries.verify(this.bucket.read(from, bytesMax), must);
    if (typeof entries === "string") throw this.bucket.noteDamage(entries);
    return entries;
  }
}

class ReplicaHost {
  /** Null while it is stopped: after a failure, before it begins. */
  state: ReplicaState | null = null;
  readonly log: BucketEntries;
  hard!: HardState;
  #durableHard!: HardState;
  #sealedHard!: HardState;
  #wantedSync = 0;
  #sealedSync = 0;
  #doneSync = 0;
  #toldSync = 0;
  readonly #reads = new Map<number, (end: number | null) => void>();
  #nextToken = 0;
  #waits: { holds: () => boolean; resolve: (held: boolean) => void }[] = [];
  /** While it begins. */
  beginning: Promise<void> | null = null;
  #hasBegun = false;
  /** For the observer: up to here it was told to be durable. */
  #toldDurable = 0;
  #sealedEnd = 0;

  constructor(readonly driver: Driver, readonly bucket: ReplicatedBucket, readonly slot: number) {
    this.log = new BucketEntries(bucket, driver.options.shape.bucketCount);
    const { hardState } = bucket;
    if (hardState === null) return;
    const hard = decodeHardState(hardState);
    if (typeof hard === "string") throw new Error(`Bucket ${bucket.number}: ${hard}`); // The journal's checksum holds.
    this.hard = this.#durableHard = this.#sealedHard = hard;
  }

  get committedEnd(): number {
    return this.bucket.committedEnd;
  }

  /** Whether it counts, and would after a crash. */
  get counts(): boolean {
    return this.state?.hard.mode === "normal" && this.#durableHard.mode === "normal";
  }

  #now(): number {
    return this.driver.options.environment.monotonic();
  }

  // ---- Beginning and stopping --------------------------------------------------------------------------------------

  /** Begins from what is durable; until that is possible, again and again. */
  begin(): Promise<void> {
    this.beginning ??= this.#beginOnce().finally(() => this.beginning = null);
    return this.beginning;
  }

  async #beginOnce(): Promise<void> {
    if (this.driver.isClosed) return;
    try {
      await this.#begin();
    } catch (error) {
      this.#failed(error);
    }
    if (this.state !== null && this.bucket.damage !== null) this.damaged(); // It came while this was under way.
  }

  async #begin(): Promise<void> {
    const { driver, bucket, slot } = this;
    const { shape, founding, timing, limits, observer, node } = driver.options;
    const { number } = bucket;
    const wasDamaged = bucket.damage !== null;
    const isShort = this.hard?.mode === "normal" && bucket.commitFloor > bucket.end;
    const lost = wasDamaged || isShort || driver.options.isRestored === true && !this.#hasBegun;
    if (this.hard === undefined) {
      const isNew = founding && bucket.damage === null;
      this.#persist(newHardState(shape.replicationFactor, driver.newId(), isNew ? "normal" : "recovering"));
      this.#durableHard = this.#sealedHard = this.hard;
    } else if (lost) {
      // What is left goes on under a new id, which must be known before anything is cut: a log that lost something, of a
      // replica that counts, would deny what it acknowledged.
      this.#persist({ ...this.hard, mode: "recovering", dataId: driver.newId(), founder: false });
    }
    this.#hasBegun = true;
    await driver.allSynced(bucket);
    if (driver.isClosed) return;
    if (wasDamaged) { // What turns out to be damaged only now is met when this is over.
      await bucket.cutDamage();
      this.#log("warn", "The log was damaged: what is proved of it is kept, the rest is fetched", {
        entries: bucket.end,
      });
      await driver.allSynced(bucket);
    }
    if (driver.isClosed) return;
    const state = new ReplicaState({
      replicationFactor: shape.replicationFactor,
      slot,
      log: this.log,
      terms: new TermTable(bucket.termStarts()),
      hard: this.hard,
      commitFloor: Math.max(bucket.commitFloor, bucket.committedEnd),
      boot: driver.boot,
      now: this.#now(),
      ...(timing && { timing }),
      ...(limits && { limits }),
    });
    this.#toldDurable = bucket.end;
    if (observer !== undefined) {
      for (let i = 0; i < bucket.end; i++) observer.durable(node, number, i, this.log.chainAt(i + 1));
    }
    this.#wantedSync =
      this.#sealedSync =
      this.#doneSync =
      this.#toldSync =
        0;
    this.state = state;
    this.#tellOfTwo();
    if (driver.forcesRecovery && this.hard.mode === "recovering") {
      this.step({ kind: "recover", dataId: driver.newId(), forced: true });
    } else this.#carryOut(start(state, this.#now()), state);
  }

  #tellOfTwo(): void {
    const { driver, hard } = this;
    if (hard.mode !== "recovering" || driver.options.shape.replicationFactor !== 2 || driver.forcesRecovery) return;
    this.#log("warn", "Of two replicas one that lost what it had cannot know what that was, and waits for a word", {
      word: "an empty file cluster.forced in its folder, at its next start: what the other one has counts",
    });
  }

  /** What a step or its effects could not do. */
  #failed(error: unknown): void {
    const { driver, bucket } = this;
    const isItsOwn = error instanceof NoSpace || error instanceof DiskFull || error instanceof Damaged;
    if (!isItsOwn) {
      const what = error instanceof InvariantBroken ? "An invariant of the cluster is broken" : "A replica failed";
      const why = error instanceof Error ? error.message : String(error);
      this.stop();
      const reason = new Error(`${what}, in bucket ${bucket.number}: ${why}`, { cause: error });
      return endProcess(driver.options.environment, reason);
    }
    this.stop();
    if (driver.isClosed) return;
    this.#log("warn", "A replica stopped, and begins anew", { reason: error.message, milliseconds: RESTART_MS });
    driver.after(RESTART_MS, () => void this.begin());
  }

  stop(): void {
    this.state = null;
    this.bucket.stepDown();
    for (const answer of this.#reads.values()) answer(null);
    this.#reads.clear();
    if (this.driver.isClosed) { for (const { resolve } of this.#waits.splice(0)) resolve(false); }
  }

  damaged(): void {
    if (this.state !== null) this.#failed(this.bucket.damage ?? new Error("A log is damaged, and nobody says where"));
  }

  #log(level: "info" | "warn" | "error", message: string, facts: Record<string, unknown>): void {
    this.driver.options.log?.(level, message, { bucket: this.bucket.number, ...facts });
  }

  // ---- Steps -------------------------------------------------------------------------------------------------------

  step(input: Input): void {
    const { state } = this;
    if (state === null) return;
    let effects: Effect[];
    try {
      effects = step(state, input, this.#now());
    } catch (error) {
      return this.#failed(error);
    }
    this.#carryOut(effects, state);
  }

  #carryOut(effects: Effect[], state: ReplicaState): void {
    for (const effect of effects) {
      if (this.state !== state) return; // It failed in between.
      try {
        this.#do(effect, state);
      } catch (error) {
        return this.#failed(error);
      }
    }
  }

  #do(effect: Effect, state: ReplicaState): void {
    const { driver, bucket, log } = this;
    const { observer, node, shape } = driver.options;
    const { number } = bucket;
    switch (effect.kind) {
      case "persist":
        return this.#persist(effect.hard);
      case "append":
        bucket.append((effect.entries as FrameEntries).frames);
        return this.#observeAppended(effect.entries);
      case "truncate": {
        const removed: Chain[] = [];
        if (observer !== undefined) {
          for (let end = effect.end; end < bucket.end; end++) removed.push(log.chainAt(end + 1));
        }
        bucket.truncate(effect.end);
        this.#toldDurable = Math.min(this.#toldDurable, effect.end);
        this.#sealedEnd = Math.min(this.#sealedEnd, effect.end);
        observer?.truncated(node, number, effect.end, removed);
        return;
      }
      case "noop":
        return bucket.openTerm(effect.term);
      case "sync":
        this.#wantedSync = effect.number;
        return bucket.sync();
      case "send": {
        const { slot, boot } = state;
        const packet = { bucket: number, from: { slot, dataId: state.hard.dataId, boot }, message: effect.message };
        if (observer !== undefined) {
          const durable = { hard: this.#durableHard, logEnd: this.#toldDurable };
          observer.sent(node, packet, durable, (end) => log.chainAt(end));
        }
        return driver.options.send(nodeOf(number, effect.to, shape.nodeCount), packet);
      }
      case "commit": {
        if (observer !== undefined) {
          const ownFrom = state.terms.startOf(state.term);
          const ownEnd = ownFrom === null ? null : ownFrom + 1;
          observer.committed(node, number, this.committedEnd, effect.end, (end) => log.chainAt(end), ownEnd);
        }
        bucket.commitTo(effect.end);
        return this.#lookAtWaits();
      }
      case "serve":
        this.#log("info", "This node leads", { term: effect.term });
        return observer?.serves(node, number, effect.term, log.end, (end) => log.chainAt(end));
      case "stepDown":
        this.#log("info", "This node leads no longer", { term: effect.term });
        return bucket.stepDown();
      case "quarantined": {
        this.#log("error", "A replica does not count any more: it recovers", { reason: effect.reason });
        this.#tellOfTwo();
        observer?.quarantined(node, number, effect.reason);
        driver.after(driver.newId() % RECOVER_MS_MAX, () => {
          const forced = driver.forcesRecovery;
          if (this.state === state) this.step({ kind: "recover", dataId: driver.newId(), forced });
        });
        return;
      }
      case "recovered":
        this.#log("info", "A replica has recovered", { entries: log.end });
        return observer?.recovered(node, number, log.end, (end) => log.chainAt(end));
      case "readEnd":
        this.#reads.get(effect.token)!(effect.end);
        this.#reads.delete(effect.token);
        return;
    }
  }

  #persist(hard: HardState): void {
    this.bucket.persist(encodeHardState(hard));
    this.hard = hard;
    this.driver.options.observer?.persisted(this.driver.options.node, this.bucket.number, hard);
  }

  #observeAppended(entries: Entries): void {
    const { observer, node } = this.driver.options;
    if (observer === undefined) return;
    for (let i = entries.from; i < entries.end; i++) {
      observer.appended(node, this.bucket.number, i, entries.termAt(i), entries.chainAt(i + 1));
    }
  }

  // ---- The engine --------------------------------------------------------------------------------------------------

  admission(): number | Error {
    const { state, bucket: { number } } = this;
    if (state === null) return new TryAgain(`The replica of bucket ${number} on this node is not ready`);
    switch (refusal(state, this.#now())) {
      case null:
        return state.term;
      case "not leader":
        return new NotLeader(number, state.term, this.leader()?.node ?? null);
      case "no majority": {
        const { replicationFactor, majority } = state;
        return new TooFewReplicas(
          `Bucket ${number} has ${replicationFactor} replicas, of which ${majority} are needed and were not heard`,
        );
      }
      case "full":
        return new TryAgain(`Too much waits to be replicated in bucket ${number}`);
      case "changing":
        return new TryAgain(`The leader of bucket ${number} is changing`);
    }
  }

  appended(entries: FrameEntries): void {
    this.#observeAppended(entries);
    this.step({ kind: "appended", entries });
  }

  sealed(): void {
    this.#sealedSync = this.#wantedSync;
    this.#sealedHard = this.hard;
    this.#sealedEnd = this.bucket.end;
  }

  markSynced(): void {
    this.#doneSync = this.#sealedSync;
    this.#durableHard = this.#sealedHard;
    const { observer, node } = this.driver.options;
    const from = this.#toldDurable;
    this.#toldDurable = Math.max(from, this.#sealedEnd);
    if (observer === undefined || this.state === null) return;
    try {
      for (let i = from; i < this.#sealedEnd; i++) {
        observer.durable(node, this.bucket.number, i, this.log.chainAt(i + 1));
      }
    } catch (error) {
      this.#failed(error);
    }
  }

  stepSynced(): void {
    if (this.#doneSync === this.#toldSync) return;
    this.#toldSync = this.#doneSync;
    this.step({ kind: "synced", number: this.#doneSync });
  }

  // ---- Views -------------------------------------------------------------------------------------------------------

  view(): ReplicaView {
    const { state, bucket } = this;
    const { end, committedEnd } = bucket;
    if (state === null) {
      // One that only had no room may still be read, as far as it had come.
      const isReadable = this.#hasBegun && this.hard.mode === "normal" && bucket.damage === null;
      return {
        role: isReadable ? "follower" : "recovering",
        term: this.hard.term,
        logEnd: end,
        durableEnd: committedEnd,
        commitEnd: committedEnd,
      };
    }
    const { role, term, durableEnd } = state;
    return { role, term, logEnd: end, durableEnd, commitEnd: committedEnd };
  }

  leader(): { node: number; term: number } | null {
    const { state } = this;
    if (state === null || !(state.hasLeader || state.role === "serving")) return null;
    return { node: leaderOf(this.bucket.number, state.term, this.driver.options.shape), term: state.term };
  }

  readEnd(): Promise<number | null> {
    if (this.state === null) return Promise.resolve(null);
    const token = this.#nextToken++;
    const { promise, resolve } = Promise.withResolvers<number | null>();
    this.#reads.set(token, resolve);
    this.step({ kind: "readEnd", token });
    return promise;
  }

  commitNote(end: number, chain: Chain): void {
    const { state } = this;
    if (state === null || end <= state.commitEnd) return;
    // It is true whoever says it: it goes in under the name of a replica that is known.
    const slot = this.hard.dataIds.findIndex((dataId, slot) => slot !== this.slot && dataId > 0);
    if (slot < 0) return;
    const from = { slot, dataId: this.hard.dataIds[slot]!, boot: this.driver.boot };
    this.step({ kind: "message", from, message: { kind: "commitNote", end, chain } });
  }

  when(holds: () => boolean, msMax: number): Promise<boolean> {
    if (holds()) return Promise.resolve(true);
    if (this.driver.isClosed) return Promise.resolve(false);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const cancel = this.driver.after(msMax, () => {
      this.#waits = this.#waits.filter((one) => one !== wait);
      resolve(false);
    });
    const wait = {
      holds,
      resolve: (held: boolean) => {
        cancel();
        resolve(held);
      },
    };
    this.#waits.push(wait);
    return promise;
  }

  #lookAtWaits(): void {
    if (this.#waits.length === 0) return;
    const done = this.#waits.filter(({ holds }) => holds());
    if (done.length === 0) return;
    this.#waits = this.#waits.filter((wait) => !done.includes(wait));
    for (const { resolve } of done) resolve(true);
  }
}
