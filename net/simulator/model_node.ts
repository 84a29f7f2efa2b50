/**
 * A node in few lines: a driver that carries out effects on a modelled disk, and as much of an engine as is needed to
 * number events, to know a retry, and to answer when it is committed.
 *
 * It takes the place of the real driver and engine in the simulator. What it must do as they do is marked with the rule.
 *
 * @module
 */
import type { Chance } from "../../core/chance.ts";
import { bucketOf } from "../../core/placement.ts";
import type { Effect, Input } from "../consensus/effect.ts";
import { TermTable } from "../consensus/entries.ts";
import { start, step } from "../consensus/replica.ts";
import { type Limits, newHardState, ReplicaState } from "../consensus/replica_state.ts";
import { refusal } from "../consensus/replication.ts";
import { type ClusterShape, nodeOf, slotOf } from "../consensus/topology.ts";
import type { Packet } from "../messages.ts";
import type { SeenEvent } from "../history_checker.ts";
import { type Entry, makeEntry, ModelDisk, ModelEntries, ModelLog } from "./model_log.ts";
import type { Answer, AppendRequest, Death, Machine, Node, ReplicaView, Surroundings } from "./node.ts";

/** Entries that wait for each other before the replica is told of them. */
const BATCH_MS = 1;
const SYNC_MS_MAX = 8;
const SLOW_SYNC_MS_MAX = 700;
/** Small, so that windows and pieces are met: down to one entry a message. */
export function limitsOf(chance: Chance): Partial<Limits> {
  return {
    messageBytesMax: chance.pick([100, 100, 300, 2000]),
    windowBytesMax: chance.pick([100, 1500, 10_000]),
    windowMessagesMax: chance.pick([1, 4, 16]),
    uncommittedBytesMax: 4000,
  };
}

export class ModelMachine implements Machine {
  #disk = new ModelDisk();
  #node: ModelNode | null = null;
  #slowUntil = -Infinity;
  #syncFails = false;
  /** Logs whose bytes do not fit their checksums any more, and from where on. */
  readonly #damage = new Map<number, number>();

  constructor(readonly number: number, readonly shape: ClusterShape, readonly chance: Chance) {
    this.#format("normal");
  }

  #format(mode: "normal" | "recovering"): void {
    for (let bucket = 0; bucket < this.shape.bucketCount; bucket++) {
      if (slotOf(bucket, this.number, this.shape) === null) continue;
      const hard = newHardState(this.shape.replicationFactor, newId(this.chance), mode);
      this.#disk.images.set(bucket, { hard, list: [], commitFloor: 0 });
    }
  }

  start(surroundings: Surroundings): Node {
    const node = new ModelNode(this.number, this.shape, this.#disk, surroundings, {
      syncMs: () => this.#syncMs(surroundings),
      syncFails: () => this.#syncFails && !(this.#syncFails = false),
      damage: this.#damage,
    });
    return this.#node = node;
  }

  #syncMs({ chance, now }: Surroundings): number {
    return 1 + chance.below(now() < this.#slowUntil ? SLOW_SYNC_MS_MAX : SYNC_MS_MAX);
  }

  crash(death: Death, chance: Chance): void {
    this.#node = null;
    this.#disk.crash(death === "kill", chance);
  }

  wipe(): void {
    this.#disk = new ModelDisk();
    this.#damage.clear();
    this.#format("recovering");
  }

  damage(chance: Chance): void {
    if (this.#disk.images.size === 0) return;
    const [bucket, image] = chance.pick([...this.#disk.images]);
    if (image.list.length > 0) this.#damage.set(bucket, chance.below(image.list.length));
  }

  save(): unknown {
    return this.#disk.copyImages();
  }

  restore(saved: unknown): void {
    this.#disk = new ModelDisk();
    this.#disk.images = saved as ModelDisk["images"];
    this.#damage.clear();
    for (const image of this.#disk.images.values()) {
      image.hard = { ...image.hard, dataId: newId(this.chance), mode: "recovering", founder: false };
    }
  }

  slowDown(untilMs: number): void {
    this.#slowUntil = untilMs;
  }

  failSync(): void {
    this.#syncFails = true;
  }

  /** Of a modelled log nobody knows how long it is. */
  fill(): void {}

  mend(): void {
    this.#slowUntil = -Infinity;
    this.#syncFails = false;
  }

  isWhole(): boolean {
    if (this.#damage.size > 0 || [...this.#disk.images.values()].some(({ hard }) => hard.mode !== "normal")) {
      return false;
    }
    return this.#node === null || this.#node.isWhole();
  }
}

/** From 1 to `ID_MAX`. */
export function newId(chance: Chance): number {
  return 1 + chance.below(2 ** 24) * 2 ** 24 + chance.below(2 ** 24);
}

interface DiskFaults {
  syncMs(): number;
  syncFails(): boolean;
  damage: Map<number, number>;
}

class ModelNode implements Node {
  readonly store = null;
  readonly isEnding = false;
  readonly subscriptions = 0;
  readonly boot: number;
  readonly #replicas = new Map<number, ModelReplica>();
  #syncing = false;

  constructor(
    readonly number: number,
    readonly shape: ClusterShape,
    readonly disk: ModelDisk,
    readonly surroundings: Surroundings,
    readonly faults: DiskFaults,
  ) {
    this.boot = newId(surroundings.chance);
    for (const bucket of disk.images.keys()) this.#replicas.set(bucket, new ModelReplica(this, bucket));
  }

  receive(packet: Packet): void {
    this.#replicas.get(packet.bucket)?.step({ kind: "message", from: packet.from, message: packet.message });
  }

  tick(): void {
    for (const replica of this.#replicas.values()) replica.step({ kind: "tick" });
  }

  append(request: AppendRequest, answer: (answer: Answer, end: number) => void): void {
    const replica = this.#replicas.get(bucketOf(request.partition, this.shape.bucketCount));
    if (replica === undefined) answer({ kind: "refused", why: "not leader" }, 0);
    else replica.append(request, answer);
  }

  read(partition: number, from: number): SeenEvent[] | null {
    return this.#replicas.get(bucketOf(partition, this.shape.bucketCount))?.read(partition, from) ?? null;
  }

  headOf(partition: number): number | null {
    return this.read(partition, 0)?.length ?? null;
  }

  readEnd(bucket: number, answer: (end: number | null) => void): void {
    this.#replicas.get(bucket)?.readEnd(answer);
  }

  handOver(): void {
    for (const replica of this.#replicas.values()) replica.step({ kind: "handOver" });
  }

  view(bucket: number): ReplicaView | null {
    return this.#replicas.get(bucket)?.view() ?? null;
  }

  isWhole(): boolean {
    return [...this.#replicas.values()].every(({ state }) => state.hard.mode === "normal");
  }

  /** One sync at a time, for all buckets: those that ask while one is under way are done by the next. */
  sync(): void {
    if (this.#syncing) return;
    this.#syncing = true;
    const mark = this.disk.mark;
    const done: [ModelReplica, number][] = [];
    for (const replica of this.#replicas.values()) {
      if (replica.wantedSync > replica.doneSync) done.push([replica, replica.wantedSync]);
    }
    this.surroundings.after(this.faults.syncMs(), () => {
      if (this.faults.syncFails()) return this.surroundings.die("failed sync"); // R12
      this.disk.sync(mark, (bucket, entry) => {
        this.surroundings.witness.durable(this.number, bucket, entry.logIndex, entry.chain);
      });
      this.#syncing = false;
      for (const [replica, number] of done) replica.doneSync = number;
      for (const [replica, number] of done) replica.step({ kind: "synced", number });
      if ([...this.#replicas.values()].some((replica) => replica.wantedSync > replica.doneSync)) this.sync();
    });
  }
}

interface Waiting {
  /** Answered when all below is committed. */
  end: number;
  answer: Answer;
  /** Instead, when this replica leads no longer. */
  otherwise: Answer;
  tell: (answer: Answer, end: number) => void;
}

class ModelReplica {
  readonly state: ReplicaState;
  readonly log: ModelLog;
  wantedSync = 0;
  doneSync = 0;
  #isStarted = false;
  #readable = 0;
  #waiting: Waiting[] = [];
  #queue: { request: AppendRequest; tell: Waiting["tell"] }[] = [];
  readonly #reads = new Map<number, (end: number | null) => void>();
  #nextToken = 0;

  // The engine: of all that is in the log, committed or not.
  #sequences = new Map<number, number>();
  #versions = new Map<string, number>();
  #ids = new Map<string, Entry>();

  constructor(readonly node: ModelNode, readonly bucket: number) {
    const { shape, disk, surroundings, faults } = node;
    const image = disk.images.get(bucket)!;
    let { hard } = image;
    const damagedFrom = faults.damage.get(bucket);
    const list = image.list.slice(0, damagedFrom);
    if (damagedFrom !== undefined) {
      hard = { ...hard, mode: "recovering" };
    }
    this.log = new ModelLog(bucket, list);
    const terms = new TermTable();
    for (const { term, logIndex } of list) terms.add(term, logIndex);
    this.state = new ReplicaState({
      replicationFactor: shape.replicationFactor,
      slot: slotOf(bucket, node.number, shape)!,
      log: this.log,
      terms,
      hard,
      commitFloor: image.commitFloor,
      boot: node.boot,
      now: surroundings.now(),
      limits: limitsOf(surroundings.chance),
    });
    this.#index(list);
    this.#readable = this.state.commitEnd;
    for (const entry of list) surroundings.witness.durable(node.number, bucket, entry.logIndex, entry.chain); // Redone and synced.
    // With two replicas only an operator can say that the other one has all that counts.
    const forced = shape.replicationFactor === 2;
    surroundings.after(0, () => {
      this.#isStarted = true;
      if (damagedFrom === undefined && !(forced && hard.mode === "recovering")) {
        return this.#carryOut(start(this.state, surroundings.now()));
      }
      this.step({ kind: "recover", dataId: newId(surroundings.chance), forced });
      if (damagedFrom === undefined) return;
      // After the hard state: a log that was cut, of a replica that counts, would deny what it acknowledged.
      disk.write({ kind: "truncate", bucket, end: list.length });
      faults.damage.delete(bucket);
    });
  }

  step(input: Input): void {
    if (!this.#isStarted) return;
    this.#carryOut(step(this.state, input, this.node.surroundings.now()));
  }

  #carryOut(effects: Effect[]): void {
    const { node, bucket, log } = this;
    const { witness } = node.surroundings;
    for (const effect of effects) {
      switch (effect.kind) {
        case "persist":
          node.disk.write({ kind: "hard", bucket, hard: effect.hard });
          witness.persisted(node.number, bucket, effect.hard);
          break;
        case "append": {
          const { list } = effect.entries as ModelEntries;
          this.#write(list);
          this.#index(list);
          break;
        }
        case "truncate": {
          const removed = log.list.splice(effect.end);
          node.disk.write({ kind: "truncate", bucket, end: effect.end });
          witness.truncated(node.number, bucket, effect.end, removed.map(({ chain }) => chain));
          this.#sequences.clear();
          this.#versions.clear();
          this.#ids.clear();
          this.#index(log.list);
          break;
        }
        case "noop":
          this.#noop(effect.term);
          break;
        case "sync":
          this.wantedSync = effect.number;
          node.sync();
          break;
        case "send": {
          const from = { slot: this.state.slot, dataId: this.state.hard.dataId, boot: this.state.boot };
          const packet = { bucket, from, message: effect.message };
          const image = node.disk.images.get(bucket)!;
          const durable = { hard: image.hard, logEnd: image.list.length };
          witness.sent(node.number, packet, durable, (end) => log.chainAt(end));
          node.surroundings.send(nodeOf(bucket, effect.to, node.shape.nodeCount), packet);
          break;
        }
        case "commit": {
          const ownFrom = this.state.terms.startOf(this.state.term);
          const ownEnd = ownFrom === null ? null : ownFrom + 1;
          witness.committed(node.number, bucket, this.#readable, effect.end, (end) => log.chainAt(end), ownEnd);
          this.#readable = effect.end;
          node.disk.write({ kind: "commit", bucket, end: effect.end });
          this.#answer();
          break;
        }
        case "serve":
          witness.serves(node.number, bucket, effect.term, log.end, (end) => log.chainAt(end));
          break;
        case "stepDown": {
          const waiting = this.#waiting;
          this.#waiting = [];
          for (const { tell, otherwise } of waiting) tell(otherwise, 0);
          break;
        }
        case "quarantined": {
          witness.quarantined(node.number, bucket, effect.reason);
          const { chance } = node.surroundings;
          node.surroundings.after(chance.below(500), () => {
            this.step({ kind: "recover", dataId: newId(chance), forced: node.shape.replicationFactor === 2 });
          });
          break;
        }
        case "recovered":
          witness.recovered(node.number, bucket, log.end, (end) => log.chainAt(end));
          break;
        case "readEnd":
          this.#reads.get(effect.token)!(effect.end);
          this.#reads.delete(effect.token);
          break;
      }
    }
  }

  // ---- The engine ----------------------------------------------------------------------------------------------------

  /** Waits for others, so that one write and one message carry many. */
  append(request: AppendRequest, tell: (answer: Answer, end: number) => void): void {
    this.#queue.push({ request, tell });
    if (this.#queue.length === 1) this.node.surroundings.after(BATCH_MS, () => this.#takeQueue());
  }

  /** Decides about all that wait, writes what is taken, and tells the replica, in one step. */
  #takeQueue(): void {
    const queue = this.#queue;
    this.#queue = [];
    const batch: Entry[] = [];
    for (const { request, tell } of queue) {
      const why = refusal(this.state, this.node.surroundings.now());
      if (why !== null) tell({ kind: "refused", why }, 0);
      else this.#decide(request, tell, batch);
    }
    if (batch.length > 0) {
      this.#write(batch);
      this.#tellAppended(batch);
    }
    this.#answer();
  }

  #decide({ partition, events, expected }: AppendRequest, tell: Waiting["tell"], batch: Entry[]): void {
    const known = this.#ids.get(events[0]!.id);
    if (known !== undefined) {
      // A retry attaches to what is there, and is answered when that is committed.
      const answer: Answer = { kind: "ok", firstSequence: known.content.firstSequence };
      this.#waiting.push({ end: known.logIndex + 1, answer, otherwise: { kind: "unknown" }, tell });
      return;
    }
    const end = this.log.end + batch.length;
    const current = this.#versions.get(events[0]!.stream) ?? -1;
    if (expected !== null && expected !== current) {
      // A refusal that rests on what is not committed is given when it is.
      const otherwise: Answer = { kind: "refused", why: "changing" };
      this.#waiting.push({ end, answer: { kind: "wrong version", current }, otherwise, tell });
      return;
    }
    const firstSequence = this.#sequences.get(partition) ?? 0;
    const versions = new Map<string, number>();
    const stored = events.map(({ id, stream }) => {
      const version = (versions.get(stream) ?? this.#versions.get(stream) ?? -1) + 1;
      versions.set(stream, version);
      return { id, stream, version };
    });
    const prevChain = batch.at(-1)?.chain ?? this.log.chainAt(this.log.end);
    const entry = makeEntry(prevChain, end, this.state.term, { partition, firstSequence, events: stored });
    batch.push(entry);
    this.#index([entry]);
    const answer: Answer = { kind: "ok", firstSequence };
    this.#waiting.push({ end: end + 1, answer, otherwise: { kind: "unknown" }, tell });
  }

  #noop(term: number): void {
    const { log, bucket } = this;
    const content = { partition: bucket, firstSequence: 0, events: [] };
    const entry = makeEntry(log.chainAt(log.end), log.end, term, content);
    this.#write([entry]);
    this.#tellAppended([entry]);
  }

  #tellAppended(list: readonly Entry[]): void {
    this.step({ kind: "appended", entries: new ModelEntries(list, this.log.chainAt(list[0]!.logIndex)) });
  }

  #write(list: readonly Entry[]): void {
    const { node, bucket } = this;
    this.log.list.push(...list);
    node.disk.write({ kind: "append", bucket, entries: list });
    for (const { logIndex, term, chain } of list) {
      node.surroundings.witness.appended(node.number, bucket, logIndex, term, chain);
    }
  }

  #index(list: readonly Entry[]): void {
    for (const entry of list) {
      const { partition, firstSequence, events } = entry.content;
      if (events.length > 0) this.#sequences.set(partition, firstSequence + events.length);
      for (const { id, stream, version } of events) {
        this.#versions.set(stream, version);
        this.#ids.set(id, entry);
      }
    }
  }

  #answer(): void {
    const ready = this.#waiting.filter(({ end }) => end <= this.#readable);
    if (ready.length === 0) return;
    this.#waiting = this.#waiting.filter(({ end }) => end > this.#readable);
    for (const { tell, answer, end } of ready) tell(answer, end);
  }

  read(partition: number, from: number): SeenEvent[] {
    const events: SeenEvent[] = [];
    for (let i = 0; i < this.#readable; i++) {
      const { content } = this.log.list[i]!;
      if (content.partition !== partition) continue;
      content.events.forEach(({ id, stream, version }, part) => {
        const sequence = content.firstSequence + part;
        if (sequence >= from) events.push({ id, stream, version, sequence, part, parts: content.events.length });
      });
    }
    return events;
  }

  readEnd(answer: (end: number | null) => void): void {
    const token = this.#nextToken++;
    this.#reads.set(token, answer);
    this.step({ kind: "readEnd", token });
  }

  view(): ReplicaView {
    const { role, term, logEnd, durableEnd } = this.state;
    return { role, term, logEnd, durableEnd, commitEnd: this.#readable, chainAt: (end) => this.log.chainAt(end) };
  }
}
