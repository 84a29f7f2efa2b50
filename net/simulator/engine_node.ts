/**
 * A node of the real thing, for the simulator: engine and driver on a disk in memory, whose syncs take time of the world.
 *
 * @module
 */
import type { Chance } from "../../core/chance.ts";
import { type Database, openDatabase } from "../../core/database.ts";
import type { Environment, Log } from "../../core/environment.ts";
import type { EventRecord, Transaction } from "../../core/event.ts";
import { Damaged, OutcomeUnknown, WrongExpectedVersion } from "../../core/errors.ts";
import { cutNotesPath } from "../../core/log/cut_notes.ts";
import { segmentsFolder } from "../../core/log/layout.ts";
import { NoSpace } from "../../core/log/disk.ts";
import { MemoryDisk } from "../../core/log/memory_disk.ts";
import { bucketOf, partitionHash, partitionOf } from "../../core/placement.ts";
import { formatUuid } from "../../core/uuid.ts";
import type { ClusterStore } from "../cluster.ts";
import { type ClusterShape, slotOf } from "../consensus/topology.ts";
import { Driver } from "../driver.ts";
import { FrameEntries } from "../frame_entries.ts";
import type { SeenEvent } from "../history_checker.ts";
import type { Packet } from "../messages.ts";
import type { Timers } from "../timers.ts";
import { limitsOf } from "./model_node.ts";
import type { Answer, AppendRequest, Death, Machine, Node, ReplicaView, Surroundings } from "./node.ts";

const DIR = "/data";
const SYNC_MS_MAX = 8;
const SLOW_SYNC_MS_MAX = 700;
const PAGE = 256;
/** Until somebody has seen a warning. */
const OPERATOR_MS = 500;

export class EngineMachine implements Machine {
  #disk: MemoryDisk;
  #node: EngineNode | null = null;
  #slowUntil = -Infinity;
  /** Made together with all others. */
  #founding = true;
  /** Put back from an older copy, which does not know what was said since. */
  #isRestored = false;
  #isWhole = true;
  /** A bit was flipped, and nobody has met it yet: it may be met when others have lost what they had. */
  #mayBeRotten = false;
  /** A bit of this disk was flipped at some time. Of no other disk a log may be found damaged. */
  #wasSpoiled = false;

  constructor(
    readonly number: number,
    readonly shape: ClusterShape,
    readonly chance: Chance,
    private readonly make: (...args: ConstructorParameters<typeof EngineNode>) => EngineNode = (...args) =>
      new EngineNode(...args),
  ) {
    this.#disk = new MemoryDisk({ seed: chance.below(1e9) });
  }

  start(surroundings: Surroundings): Node {
    const { chance, now } = surroundings;
    const syncMs = () => 1 + chance.below(now() < this.#slowUntil ? SLOW_SYNC_MS_MAX : SYNC_MS_MAX);
    const takesTime = () => new Promise<void>((resolve) => surroundings.after(syncMs(), resolve));
    this.#disk.hooks = {
      sync: (path) => path === cutNotesPath(`${DIR}/journal`) ? undefined : takesTime(),
      syncFolder: takesTime,
    };
    const facts = { founding: this.#founding, isRestored: this.#isRestored, wasSpoiled: this.#wasSpoiled };
    const node = this.#node = this.make(this.number, this.shape, this.#disk, surroundings);
    node.open(facts).then(() => this.#isRestored = false, (error) => node.end(error)); // It has another data id now, and knows it.
    return node;
  }

  crash(death: Death, chance: Chance): void {
    if (this.#node !== null) this.#isWhole = this.#node.isWhole();
    this.#node = null;
    this.#disk = death === "kill" ? this.#disk.afterKill() : this.#disk.afterPowerCut(chance.below(1e9));
  }

  wipe(): void {
    this.#disk = new MemoryDisk({ seed: this.chance.below(1e9) });
    this.#founding =
      this.#isRestored =
      this.#isWhole =
      this.#mayBeRotten =
      this.#wasSpoiled =
        false;
  }

  damage(chance: Chance): void {
    const buckets = Array.from({ length: this.shape.bucketCount }, (_, bucket) => segmentsFolder(DIR, bucket));
    const paths = buckets.flatMap((folder) => this.#disk.files(folder)).filter((path) => path.endsWith("data.evts"));
    const [path] = paths.length === 0 ? [] : [chance.pick(paths)];
    if (path === undefined) return;
    const { length } = this.#disk.contentOf(path);
    if (length === 0) return;
    this.#disk.flip(path, chance.below(length), 1 << chance.below(8));
    this.#mayBeRotten = this.#wasSpoiled = true;
  }

  save(): unknown {
    return { disk: this.#disk.clone(), founding: this.#founding, wasSpoiled: this.#wasSpoiled };
  }

  restore(saved: unknown): void {
    const { disk, founding, wasSpoiled } = saved as { disk: MemoryDisk; founding: boolean; wasSpoiled: boolean };
    this.#disk = disk.clone();
    this.#wasSpoiled = wasSpoiled;
    this.#founding = founding && !this.#disk.exists(`${DIR}/meta.json`) ? false : founding;
    this.#isRestored = true;
    this.#isWhole = this.#mayBeRotten = false;
  }

  slowDown(untilMs: number): void {
    this.#slowUntil = untilMs;
  }

  failSync(): void {
    this.#disk.failSync(1);
  }

  fill(roomBytes: number): void {
    this.#disk.capacityBytes = this.#disk.usedBytes + roomBytes;
  }

  mend(): void {
    this.#slowUntil = -Infinity;
    this.fill(Infinity);
    this.#disk.failSync(Infinity);
  }

  isWhole(): boolean {
    if (this.#node === null) return this.#isWhole && !this.#mayBeRotten;
    if (this.#mayBeRotten && this.#node.isSound()) this.#mayBeRotten = false;
    return this.#node.isWhole() && !this.#mayBeRotten;
  }
}

/** Of the disk that a node is started on. */
interface Facts {
  founding: boolean;
  isRestored: boolean;
  wasSpoiled: boolean;
}

export class EngineNode implements Node {
  get store(): ClusterStore | null {
    return null;
  }

  get isEnding(): boolean {
    return this.#hasEnded;
  }

  get subscriptions(): number {
    return 0;
  }

  /** Null until it is open. */
  #driver: Driver | null = null;
  #hasEnded = false;
  readonly #keys: string[];
  protected readonly environment: Environment;
  /** They end with the process. */
  protected readonly timers: Timers;

  constructor(
    readonly number: number,
    readonly shape: ClusterShape,
    readonly disk: MemoryDisk,
    readonly surroundings: Surroundings,
  ) {
    this.#keys = keysOf(shape.partitionCount);
    const { chance } = surroundings;
    this.timers = timersOver((milliseconds, action) => surroundings.after(milliseconds, action));
    this.environment = {
      now: () => 1_700_000_000_000 + surroundings.now(),
      monotonic: () => surroundings.now(),
      random: (bytes) => chance.fill(bytes),
      pause: () => new Promise((resolve) => surroundings.after(1, resolve)),
      fatal: (reason) => {
        this.end(reason);
        throw reason;
      },
    };
  }

  protected get driver(): Driver | null {
    return this.#driver;
  }

  keyOf(partition: number): string {
    return this.#keys[partition]!;
  }

  /** The process ends for `reason`: a disk that failed it, or a fault of the program. */
  end(reason: Error): void {
    if (this.#hasEnded || this.disk.isGone) return;
    this.#hasEnded = true;
    const mayEnd = this.disk.failedSyncs > 0
      ? "failed sync"
      : this.#driver === null && reason instanceof NoSpace
      ? "started on a full disk"
      : null;
    if (mayEnd === null) this.surroundings.broke(reason);
    else this.surroundings.after(0, () => this.surroundings.die(mayEnd));
  }

  async open({ wasSpoiled, ...facts }: Facts): Promise<void> {
    const { shape, number, surroundings, disk, environment } = this;
    const { chance, witness } = surroundings;
    this.begin();
    const log: Log = (level, message, facts) => {
      if (level !== "error" || wasSpoiled || disk.isGone) return;
      surroundings.broke(new Error(`Nobody has spoiled the disk of node ${number}: ${message}: ${facts?.reason}`));
    };
    const options = {
      ...{ shape, node: number, ...facts, environment, observer: witness },
      send: (to: number, packet: Packet) => this.send(to, packet),
      timers: this.timers,
      log: (level: string, message: string) => {
        if (level !== "warn") return;
        surroundings.count(message);
        // An operator gives it, to the next start.
        if (message.includes("waits for a word")) {
          surroundings.after(OPERATOR_MS, () => surroundings.die("restarted by an operator"));
        }
      },
      forcesRecovery: true,
      limits: limitsOf(chance),
    };
    const open = (group: Parameters<Parameters<typeof Driver.open>[1]>[0]): Promise<Database> =>
      openDatabase({
        ...{ dir: DIR, disk, environment, group, log },
        partitionCount: shape.partitionCount,
        bucketCount: shape.bucketCount,
        segmentBytes: shape.segmentBytes,
        ...{ journalBytes: 32 * 1024, cacheBytes: 64 * 1024, tailBytes: 4000, headBytes: 16 * 1024, reserveBytes: 0 },
      });
    const driver = await Driver.open(options, open);
    this.#driver = driver;
    await this.opened(driver);
  }

  // What a node has beside its replicas.

  protected begin(): void {}

  protected opened(_driver: Driver): Promise<void> {
    return Promise.resolve();
  }

  protected send(to: number, packet: Packet): void {
    this.surroundings.send(to, packet);
  }

  /** What a link tells that it did not carry. */
  protected lost(bucket: number, to: number, from: number): void {
    this.#driver?.lost(bucket, to, from);
  }

  receive(packet: Packet): void {
    this.#driver?.receive(packet);
  }

  tick(): void {
    this.#driver?.tick();
  }

  protected transactionOf({ partition, events, expected }: AppendRequest): Transaction {
    const partitionKey = this.keyOf(partition);
    return {
      partitionKey,
      events: events.map(({ id, stream }, i) => ({
        streamId: stream,
        name: id,
        eventId: eventIdOf(id, partitionKey),
        ...(i === 0 && expected !== null && { expectedVersion: expected === -1 ? "empty" as const : expected }),
      })),
    };
  }

  append(request: AppendRequest, answer: (answer: Answer, end: number) => void): void {
    const driver = this.#driver;
    if (driver === null) return answer({ kind: "refused", why: "not open" }, 0);
    const bucket = bucketOf(request.partition, this.shape.bucketCount);
    const committedEnd = () => driver.replica(bucket)?.commitEnd ?? 0;
    driver.store.appendFor(this.transactionOf(request), {
      stored: ({ firstSequence }) => answer({ kind: "ok", firstSequence }, committedEnd()),
      refused: (error) => {
        if (error instanceof WrongExpectedVersion) {
          return answer({ kind: "wrong version", current: error.current ?? -1 }, committedEnd());
        }
        if (error instanceof OutcomeUnknown) return answer({ kind: "unknown" }, 0);
        const { name } = error as Error;
        if (name === "DiskFull") this.surroundings.count("appends refused on a full disk");
        if (DEFINITE.includes(name)) answer({ kind: "refused", why: name }, 0);
        else answer({ kind: "unknown" }, 0); // The process is about to end.
      },
    });
  }

  read(partition: number, from: number): SeenEvent[] | null {
    const bucket = bucketOf(partition, this.shape.bucketCount);
    // A replica that recovers may have less than it has shown before: others answer for it.
    if (this.#driver === null || (this.#driver.replica(bucket)?.role ?? "recovering") === "recovering") return null;
    const bucketOfIt = this.#driver.store.replicated(bucket);
    const records: EventRecord[] = [];
    try {
      for (let page = bucketOfIt.events(partition, from, PAGE); page.length > 0;) {
        records.push(...page);
        page = bucketOfIt.events(partition, from + records.length, PAGE);
      }
    } catch (error) {
      if (!(error instanceof Damaged)) throw error;
      return null;
    }
    return seen(records);
  }

  headOf(partition: number): number | null {
    const bucket = bucketOf(partition, this.shape.bucketCount);
    if (this.#driver === null || (this.#driver.replica(bucket)?.role ?? "recovering") === "recovering") return null;
    return this.#driver.store.replicated(bucket).nextSequence(partition);
  }

  readEnd(bucket: number, answer: (end: number | null) => void): void {
    if (this.#driver === null) answer(null);
    else void this.#driver.readEnd(bucket).then(answer);
  }

  handOver(): void {
    void this.#driver?.handOver(1000);
  }

  view(bucket: number): ReplicaView | null {
    if (slotOf(bucket, this.number, this.shape) === null) return null;
    const driver = this.#driver;
    const view = driver?.replica(bucket) ?? { role: "recovering", term: 0, logEnd: 0, durableEnd: 0, commitEnd: 0 };
    return { ...view, chainAt: (end) => driver!.chainAt(bucket, end) };
  }

  isWhole(): boolean {
    return this.#driver?.isWhole ?? false;
  }

  /** Whether every entry can be read. Who finds that it cannot has noticed the damage. */
  isSound(): boolean {
    const driver = this.#driver;
    if (driver === null) return false;
    try {
      for (let bucket = 0; bucket < this.shape.bucketCount; bucket++) {
        const log = driver.store.replicated(bucket);
        for (let from = 0; from < log.end;) {
          const must = {
            bucket,
            bucketCount: this.shape.bucketCount,
            from,
            prevChain: null,
            prevTerm: 0,
            term: Infinity,
          };
          const entries = FrameEntries.verify(log.read(from, 65536), must);
          if (typeof entries === "string") throw log.noteDamage(entries);
          from = entries.end;
        }
      }
      return driver.isWhole;
    } catch (error) {
      if (!(error instanceof Damaged)) throw error;
      return false;
    }
  }
}

const DEFINITE = ["NotLeader", "TryAgain", "TooFewReplicas", "DiskFull", "StoreClosed", "Damaged"];

/** Events of one transaction stand one after the other. */
export function seen(records: readonly EventRecord[]): SeenEvent[] {
  return records.map(({ name: id, streamId: stream, version, sequence, transactionId }, i) => {
    let first = i;
    while (records[first - 1]?.transactionId === transactionId) first--;
    let end = i + 1;
    while (records[end]?.transactionId === transactionId) end++;
    return { id, stream, version, sequence, part: i - first, parts: end - first };
  });
}

/** A partition key for each partition. */
export function keysOf(partitionCount: number): string[] {
  const keys: string[] = [];
  const bytes = new Uint8Array(16).fill(0x11);
  bytes[6] = 0x41;
  for (let i = 0, found = 0; found < partitionCount; i++) {
    bytes[8] = 0x80 | i >>> 10 & 0x3f;
    bytes[9] = i >>> 2;
    bytes[10] = (i & 3) << 6;
    const partition = partitionOf(partitionHash(bytes), partitionCount);
    if (keys[partition] !== undefined) continue;
    keys[partition] = formatUuid(bytes);
    found++;
  }
  return keys;
}

/** An event id that is made of a short text, and carries the hash of its partition key. */
export function eventIdOf(id: string, partitionKey: string): Uint8Array {
  const bytes = new Uint8Array(16);
  const key = Uint8Array.from(partitionKey.replaceAll("-", "").match(/../g)!, (hex) => parseInt(hex, 16));
  const text = new TextEncoder().encode(id);
  let a = 0x811c9dc5;
  let b = 0x1234567;
  for (const byte of text) {
    a = Math.imul(a ^ byte, 0x01000193);
    b = Math.imul(b ^ byte, 0x85ebca6b) + a | 0;
  }
  const view = new DataView(bytes.buffer);
  view.setUint32(0, a);
  view.setUint32(11, b);
  bytes[6] = 0x70;
  bytes[8] = key[8]!;
  bytes[9] = key[9]!;
  bytes[10] = key[10]! & 0xc0 | bytes[10]! & 0x3f;
  return bytes;
}

/** Timers of the world. One that was called off says that nothing has happened. */
export function timersOver(after: (milliseconds: number, action: () => unknown) => void): Timers {
  return {
    after(milliseconds, action) {
      let isOff = false;
      after(Math.max(0, milliseconds), () => isOff ? false : action());
      return () => isOff = true;
    },
  };
}
