/**
 * Plays a story against a real database on a disk in memory, and holds it to every promise after each operation.
 *
 *     what was acknowledged, or given to any reader, is there for ever, byte for byte, and nothing is there in part
 *     versions and sequences have no gaps; what is acknowledged, read and followed has one order
 *     a refusal leaves no trace; a retry is answered as the first time, or refused as other content
 *     damage is told and never served: true events or an error, never others, and never "there is nothing"
 *     a bucket without damage goes on, whatever happened to its neighbours; an index that is damaged costs nobody anything
 *     a store that asked for the end of its process acknowledges nothing after it, and asks only for a reason
 *
 * A bucket is in doubt from the moment in which a fault hit its files at rest: from then on its reads and appends may
 * fail, but what they say must still be true. One loss nobody can tell from a power cut (see recovery.ts): when the
 * last batch of the journal was hit, its events were never there.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../chance.ts";
import { checkFolder, type FoundProblem } from "../check.ts";
import { type Database, openDatabase } from "../database.ts";
import {
  Damaged,
  DiskFull,
  FolderInUse,
  FolderMismatch,
  LimitExceeded,
  StoreClosed,
  WrongExpectedVersion,
} from "../errors.ts";
import { type EventRecord, identify, type Transaction } from "../event.ts";
import { NoSpace } from "../log/disk.ts";
import { SEGMENT_HEADER_BYTES } from "../log/format.ts";
import { MemoryDisk } from "../log/memory_disk.ts";
import { bucketOf, partitionHash, partitionOf } from "../placement.ts";
import type { EventStore } from "../store.ts";
import { plain } from "../store_suite.ts";
import { describeTransaction, equalEvents, factsOf, unlessGone } from "../story.ts";
import { parseUuid } from "../uuid.ts";
import { Audience } from "./audience.ts";
import { Comparison } from "./comparison.ts";
import { type Hit, hurt } from "./damage.ts";
import { bucketOfPath, DIR, Faults, FILES, isOfSync, isOfTheDead, isOfTheDisk, MortalEnvironment } from "./faults.ts";
import {
  type Death,
  describe,
  LARGE_PAYLOAD_BYTES,
  type Operation,
  partOf,
  planned,
  type PlannedTransaction,
  type Story,
  STREAM_IDS,
} from "./operation.ts";
import { isRefusal, isStoredAs, type Outcome, resultOf } from "./outcome.ts";
import { Truth } from "./truth.ts";

const INDEX_FILE = /\.[esph]idx(\.tmp)?$/;
/** The files of a sealed segment. What is indexed of an open one depends on when that was written. */
const SEALED_INDEX_FILE = /\/(index\.eidx|partition\.pidx|stream\.sidx)$/;
/** Appends at the end of each story, when all faults are over. */
const LAST_APPENDS = 4;
/** Batches that may still be refused as the disk was full, after there is room again. */
const FULL_BATCHES_MAX = 3;
/** After so long a store has asked how full the disk is. */
const LOOK_MS = 100;
/** Until what was thrown in the background has reached whoever ends the process. */
const TURNS_TO_DIE = 20;

/** What a played story came to. */
export interface Played {
  operations: number;
  /** Appends, reads of a scan, lookups, pages of subscriptions: what the store was asked. */
  calls: number;
  /** By class: how often a fault was met, not only planned. */
  faults: ReadonlyMap<string, number>;
  /** What happened, line by line: the same for the same story. */
  trace: string[];
}

/** A promise that was broken. */
export class Broken extends Error {
  override readonly name = "Broken";
  constructor(readonly story: Story, readonly at: number, reason: unknown) {
    const operation = story.operations[at];
    const told = operation === undefined ? "at the end" : `at operation ${at}, ${describe(operation)}`;
    super(`${told}: ${reason instanceof Error ? reason.message : reason}`, { cause: reason });
  }
}

/** For a test of the world's own checks: a store that does something wrong, over the real one. */
export type Plant = (store: EventStore) => EventStore;

/** Plays a story. @throws {Broken} */
export async function play(story: Story, plant: Plant = (store) => store): Promise<Played> {
  let at = -1;
  let lost: unknown = null;
  // What ends a process ends all that it waits for; here the promises of a dead database go on, and nobody awaits them.
  const unhandled = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    if (!isOfTheDead(event.reason)) lost ??= event.reason;
  };
  globalThis.addEventListener("unhandledrejection", unhandled);
  const world = new World(story, plant);
  try {
    await world.begin();
    for (at = 0; at < story.operations.length && !world.over; at++) {
      await world.step(story.operations[at]!);
      if (lost !== null) throw lost;
    }
    if (!world.over) await world.finish();
    await turn();
    if (lost !== null) throw lost;
  } catch (error) {
    throw new Broken(story, at, error);
  } finally {
    await turn();
    globalThis.removeEventListener("unhandledrejection", unhandled);
  }
  return world.played();
}

function turn(): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, 0));
}

class World {
  /** The story cannot go on: the folder cannot be opened, and it was told why. */
  over = false;
  readonly #story: Story;
  readonly #plant: Plant;
  readonly #truth: Truth;
  readonly #faults: Faults;
  readonly #comparison: Comparison;
  readonly #trace: string[] = [];
  #operations = 0;
  #calls = 0;
  #disk!: MemoryDisk;
  #environment!: MortalEnvironment;
  #database!: Database;
  #store!: EventStore;
  /** Of the process that opened the store. */
  #openedBy: MortalEnvironment | null = null;
  #opened = 0;

  #nowMs = 1_700_000_000_000;
  #clockStands = false;

  // What is armed.
  #death: Death = { kind: "kill", seed: 0, again: [] };
  #cutArmed = false;
  #fullBatches = 0;
  /** What happens to the disk before the next process finds it. */
  #atRest: Operation & { kind: "damage" } | null = null;
  /** Whether any file was ever damaged. */
  #isDamaged = false;

  /** Index files that were taken away while the store was closed. */
  readonly #lostIndexes = new Set<string>();
  /** Appends of buckets in doubt of which nobody can find out whether they are stored. */
  readonly #maybe = new Map<number, Transaction[]>();
  /** In how many batches appends were acknowledged, in all lives. */
  #batches = 0;
  #lastSyncs = -1;

  readonly #audience: Audience;
  /** What any reader was given in this operation. */
  #given: EventRecord[] = [];

  constructor(story: Story, plant: Plant) {
    this.#story = story;
    this.#plant = plant;
    this.#truth = new Truth(story.sizes.partitionCount);
    this.#faults = new Faults(story.sizes.bucketCount);
    this.#audience = new Audience({
      partitionCount: story.sizes.partitionCount,
      isGone: this.#isGone,
      mayFail: (error) => this.#mayFail(error, null),
      witness: (event) => this.#given.push(plain(event)),
    });
    this.#comparison = new Comparison(this.#truth, {
      mayFail: (error, partition) => this.#mayFail(error, partition),
      isUnsure: (partition) => this.#isUnsure(partition),
    });
  }

  played(): Played {
    return {
      operations: this.#operations,
      calls: this.#calls + this.#comparison.calls + this.#audience.calls,
      faults: this.#faults.met,
      trace: this.#trace,
    };
  }

  async begin(): Promise<void> {
    this.#equip(new MemoryDisk({ seed: this.#story.seed }));
    assert.ok(await this.#open(), "a new folder can be opened");
  }

  async step(operation: Operation): Promise<void> {
    this.#operations++;
    this.#faults.begin();
    this.#given = [];
    if (!this.#clockStands) this.#nowMs += 7;
    this.#environment.nowMs = this.#nowMs;
    await this.#act(operation);
    await this.#holdSyncs();
    if (this.#isGone()) await this.#recover([]);
    if (this.over) return;
    assert.equal(this.#faults.writtenUnlocked, null, "a file was written without the lock of the folder");
    await this.#unlessFails(() => this.#checkStep(new Chance(partOf(this.#story.seed, this.#operations))));
    if (this.#isGone()) await this.#recover([]);
    this.#note(`${operation.kind} ${this.#disk.effects} ${this.#truth.oracle.status().events}`);
  }

  /** All faults end, all readers read to the end, and everything is compared; then once more after a restart. */
  async finish(): Promise<void> {
    this.#disarm();
    this.#disk.capacityBytes = Infinity;
    this.#faults.begin();
    for (let i = 0; i < LAST_APPENDS && !this.over; i++) {
      const seed = partOf(this.#story.seed, 2 ** 20 + i);
      await this.step({ kind: "append", seed, count: 3, repeats: [] });
    }
    if (this.over) return;
    await this.#agree();
    const all = async () => this.#maybe.size === 0 ? (await this.#truth.partitions()).flat() : null;
    await this.#audience.readToEnd(this.#store, all);
    await this.#restart();
    if (this.#isGone()) await this.#recover([]); // A sync that failed some time ago may be told of only now.
    if (!this.over && await this.#close()) await this.#holdCheck([]);
    assert.equal(this.#faults.writtenUnlocked, null, "a file was written without the lock of the folder");
    this.#note(`end ${this.#disk.effects}`);
  }

  // ---- Operations ----------------------------------------------------------------------------------------------------

  async #act(operation: Operation): Promise<void> {
    switch (operation.kind) {
      case "append":
        return await this.#append(operation);
      case "read":
        return await this.#unlessFails(() => this.#comparison.ofSome(this.#store, new Chance(operation.seed)));
      case "subscribe":
        return this.#audience.add(operation.seed);
      case "restart":
        return await this.#restart();
      case "second process":
        return await this.#openTwice();
      case "die":
        this.#death = operation.death;
        this.#cutArmed = true;
        if (operation.effects === 0) return await this.#recover([]);
        return this.#faults.arm(operation, this.#disk);
      case "die at a journal header":
        this.#death = operation.death;
        this.#cutArmed = true;
        return this.#faults.arm(operation, this.#disk);
      case "failing sync":
      case "failing read":
      case "failing write":
        this.#death = operation.death;
        return this.#faults.arm(operation, this.#disk);
      case "bad sector":
        this.#isDamaged = true;
        return this.#faults.arm(operation, this.#disk);
      case "short calls":
      case "slow disk":
        return this.#faults.arm(operation, this.#disk);
      case "full disk":
        this.#disk.capacityBytes = this.#disk.usedBytes + operation.roomBytes;
        this.#lostIndexes.clear(); // They find no room perhaps.
        return;
      case "room on the disk":
        this.#disk.capacityBytes = Infinity;
        return;
      case "clock":
        this.#nowMs = Math.max(0, this.#nowMs + operation.jumpMs);
        this.#clockStands = operation.stands;
        return this.#faults.count(operation.stands ? "clock stands" : "clock jumps");
      case "damage":
        return await this.#damage(operation);
    }
  }

  /** Appends at the same time, with readers and subscribers beside them. */
  async #append(operation: Operation & { kind: "append" }): Promise<void> {
    const chance = new Chance(partOf(operation.seed, 0));
    const outcomes: Outcome[] = [];
    for (const plan of planned(operation)) {
      const transaction = await this.#resolve(plan);
      const key = plan.partitionKey === undefined
        ? identify(plan.events[0]!.streamId, null).partitionKey
        : parseUuid(plan.partitionKey)!;
      outcomes.push({
        transaction,
        partition: partitionOf(partitionHash(key), this.#story.sizes.partitionCount),
        kind: "unknown",
      });
    }
    const store = this.#store;
    const refusing = new Set(this.#database.status().damage.map(({ bucket }) => bucket));
    const acts = [
      this.#appendAll(store, outcomes, chance),
      ...Array.from({ length: chance.below(3) }, () => this.#readBeside(store, chance.below(2 ** 31))),
      ...this.#audience.act(store, operation.seed),
    ];
    await unlessGone(Promise.all(acts), this.#isGone);
    const came = outcomes.slice();
    if (this.#isGone()) return await this.#recover(came);
    for (const outcome of came) {
      const isRefusing = refusing.has(this.#bucketOf(outcome.partition));
      assert.ok(!isRefusing || outcome.kind !== "answered", "a damaged bucket took an append");
      await this.#hold(outcome);
    }
    if (this.#disk.capacityBytes === Infinity) this.#fullBatches++;
    else this.#fullBatches = 0;
    await this.#holdGiven();
    if (chance.oneIn(3)) await this.#audience.holdLag(store);
  }

  async #appendAll(store: EventStore, outcomes: Outcome[], chance: Chance): Promise<void> {
    const environment = this.#environment;
    const answers: Promise<void>[] = [];
    const nextSequences = await this.#heads();
    const takesReserve = this.#reserveIsTouched();
    for (const [i, { transaction, partition }] of outcomes.entries()) {
      // Some come while others are being synced.
      if (chance.oneIn(3)) { for (let turns = chance.below(20); turns > 0; turns--) await null; }
      if (this.#isGone()) break;
      this.#calls++;
      answers.push(
        store.append(transaction).then(
          (result) => {
            assert.ok(!environment.ended, "an append was acknowledged after the store asked for its end");
            outcomes[i] = { transaction, partition, kind: "answered", result, batch: this.#batchNow() };
            // What is new is acknowledged in the order of its sequences. What is not was a retry.
            const next = nextSequences[partition]!;
            if (result.lastSequence < next || this.#isUnsure(partition)) return;
            assert.equal(result.firstSequence, next, `acknowledged in partition ${partition}`);
            assert.ok(!takesReserve, "an append was stored while less than the reserve is free");
            nextSequences[partition] = result.lastSequence + 1;
          },
          (error) => {
            outcomes[i] = isRefusal(error) || this.#faults.isOfRead(error)
              ? { transaction, partition, kind: "refused", error }
              : { transaction, partition, kind: "unknown", error };
          },
        ),
      );
    }
    await Promise.all(answers);
  }

  /** Whether less than the reserve is free, whatever index files give back, and the store has had the time to see it. */
  #reserveIsTouched(): boolean {
    const { reserveBytes } = this.#story.sizes;
    if (this.#disk.capacityBytes === Infinity) return false;
    const indexes = this.#disk.files(DIR).filter((path) => INDEX_FILE.test(path));
    const indexBytes = indexes.reduce((sum, path) => sum + this.#disk.contentOf(path).length, 0);
    this.#environment.pass(LOOK_MS);
    return this.#disk.freeBytes(DIR) + indexBytes < reserveBytes;
  }

  /** The sequence that comes next in each partition. */
  async #heads(): Promise<number[]> {
    return (await this.#truth.partitions()).map(({ length }) => length);
  }

  /** The number of the batch in which what is answered now became durable. */
  #batchNow(): number {
    const { syncs } = this.#database.status();
    if (syncs !== this.#lastSyncs) {
      this.#lastSyncs = syncs;
      this.#batches++;
    }
    return this.#batches;
  }

  async #readBeside(store: EventStore, seed: number): Promise<void> {
    const chance = new Chance(seed);
    const partition = chance.below(this.#story.sizes.partitionCount);
    const head = await this.#truth.oracle.partitionSequence(partition) ?? -1;
    const from = chance.below(head + 3);
    let next = from;
    try {
      this.#calls++;
      for await (const event of store.readPartition(partition, { from })) {
        assert.equal(event.sequence, next++, `partition ${partition} was read beside appends`);
        this.#given.push(plain(event));
      }
      assert.ok(
        next > head,
        `partition ${partition} was read from ${from}: it ended at ${next} and not behind ${head}`,
      );
    } catch (error) {
      if (!this.#mayFail(error, partition)) throw error;
    }
  }

  async #restart(): Promise<void> {
    if (await this.#close()) await this.#reopen();
  }

  /** Closes the store: false when it died of it. */
  async #close(): Promise<boolean> {
    const waits = this.#audience.waits();
    try {
      const closed = await unlessGone(this.#store.close().then(() => true), this.#isGone);
      if (closed !== true || this.#isGone()) return false;
      assert.ok(!this.#faults.syncFailed(this.#disk), "the store closed as if no sync had failed");
      for (const wait of waits) {
        const found = await unlessGone(wait.catch((error: unknown) => error), this.#isGone);
        const isTold = found === true || found instanceof StoreClosed || this.#mayFail(found, null);
        assert.ok(isTold, `the store closed, and who waited was told ${found}`);
      }
      this.#holdIndexes();
      return true;
    } catch (error) {
      if (!this.#isGone() && !isOfTheDead(error) && !this.#isOfLostFile(error)) throw error;
      if (!this.#isGone()) await this.#recover([]); // It met an error of the disk: its process ends with it.
      return false;
    }
  }

  /** An index file that was lost is there again, at the latest when the store is closed. */
  #holdIndexes(): void {
    for (const path of this.#lostIndexes) {
      if (this.#faults.inDoubt(bucketOfPath(path)!)) continue;
      assert.ok(this.#disk.exists(path), `${path} was lost and did not come back`);
    }
    this.#lostIndexes.clear();
  }

  async #damage(operation: Operation & { kind: "damage" }): Promise<void> {
    switch (operation.when) {
      case "open":
        this.#hurt(operation);
        return;
      case "closed": {
        if (!await this.#close()) return;
        const before = operation.of === "meta" ? this.#disk.clone() : null;
        const hits = this.#hurt(operation);
        await this.#holdCheck(hits);
        if (before !== null) return await this.#metaIsDamaged(before);
        await this.#reopen();
        if (!this.#isGone() && !this.over) this.#holdTold(hits);
        return;
      }
      default:
        this.#death = { kind: operation.when, seed: operation.seed, again: [] };
        this.#cutArmed = true;
        this.#atRest = operation;
        return await this.#recover([]);
    }
  }

  /** Does damage to the present disk. Returns what of it hit files that were not in doubt. */
  #hurt(operation: Operation & { kind: "damage" }): Hit[] {
    const hits = hurt(this.#disk, operation, new Chance(operation.seed));
    // Where the journal was hit, nobody knows where the logs end.
    const fresh = this.#faults.ofJournal > 0 ? [] : hits.filter(({ path }) => {
      const bucket = bucketOfPath(path);
      return bucket === null || !this.#faults.inDoubt(bucket);
    });
    for (const { path, of, how, offset } of hits) {
      this.#isDamaged = true;
      this.#faults.count(`${how}: ${of}`);
      this.#note(`${how} ${path} ${offset}`);
      if (of === "segment") this.#faults.hit(bucketOfPath(path)!);
      if (of === "journal") this.#faults.ofJournal++;
      const isClosed = operation.when === "closed" && this.#disk.capacityBytes === Infinity;
      if (how === "lose" && isClosed && SEALED_INDEX_FILE.test(path)) this.#lostIndexes.add(path);
    }
    return fresh;
  }

  /** A check of the closed folder names each file that was just hit, and says nothing of a folder that was never hit. */
  async #holdCheck(hits: Hit[]): Promise<void> {
    let problems: FoundProblem[];
    try {
      ({ problems } = await checkFolder({ dir: DIR, disk: this.#disk.clone() }));
    } catch (error) {
      // The format version is told before the checksum.
      if (error instanceof FolderMismatch && hits.some(({ of }) => of === "meta")) return;
      throw error;
    }
    if (!this.#isDamaged) assert.deepEqual(problems, [], "a check finds something wrong, and nothing was hit");
    // A damaged segment's index is not looked at, nor is that of the open one; what is missing the next start makes.
    // One that has no frame yet is made anew as well.
    const segment = hits.find(({ of, fileBytes }) => of === "segment" && fileBytes > SEGMENT_HEADER_BYTES);
    const named = segment !== undefined
      ? [segment]
      : hits.filter(({ path, of, how }) =>
        of === "meta" || (of === "heads" || SEALED_INDEX_FILE.test(path)) && how !== "lose"
      );
    for (const { path, how, offset } of named) {
      assert.ok(problems.some(({ file }) => file === path), `${how} of ${path} at ${offset}: a check does not find it`);
    }
  }

  /** A segment that does not follow from the one before it is known from the start on. */
  #holdTold(hits: Hit[]): void {
    const { damage } = this.#database.status();
    for (const { path, how, offset } of hits) {
      if (how !== "forge" || offset > 0) continue;
      const isTold = damage.some(({ bucket }) => bucket === bucketOfPath(path));
      assert.ok(isTold, `${path} does not follow from what came before it, and a start does not tell`);
    }
  }

  async #reopen(): Promise<void> {
    if (!await this.#open()) return;
    await this.#lookForLoss();
    this.#audience.storeWasLost();
    await this.#agree();
  }

  /** Without its meta file a folder is not opened, or as before; then the file is put back. */
  async #metaIsDamaged(before: MemoryDisk): Promise<void> {
    this.#disarm();
    const { dir, disk, environment, sizes } = this.#options();
    // A start that is told nothing takes from the file how the folder was made.
    const unknown = { partitionCount: undefined, bucketCount: undefined, segmentBytes: undefined };
    const given = this.#story.seed % 2 === 0 ? sizes : { ...sizes, ...unknown };
    try {
      const database = await openDatabase({ dir, disk, environment, ...given });
      this.#database = database;
      this.#store = this.#plant(database);
      this.#lastSyncs = -1;
      assert.equal(database.partitionCount, sizes.partitionCount, "partition count");
      assert.equal(database.bucketCount, sizes.bucketCount, "bucket count");
      assert.equal(database.segmentBytes, sizes.segmentBytes, "segment size");
      await this.#agree();
      await database.close();
    } catch (error) {
      if (!(error instanceof Damaged || error instanceof FolderMismatch)) throw error;
    }
    this.#equip(before);
    await this.#reopen();
  }

  // ---- Life and death ------------------------------------------------------------------------------------------------

  readonly #isGone = (): boolean => this.#disk.isGone || this.#environment.fatalReasons.length > 0;

  #options() {
    const { sizes } = this.#story;
    return { dir: DIR, disk: this.#disk, environment: this.#environment, sizes };
  }

  /** Gives a disk the faults that are armed. */
  #equip(disk: MemoryDisk): void {
    this.#disk = disk;
    this.#cutArmed = false;
    this.#environment = new MortalEnvironment(partOf(this.#story.seed, this.#opened++), this.#story.lookMs);
    this.#environment.nowMs = this.#nowMs;
    this.#faults.beset(disk, this.#environment);
  }

  #disarm(): void {
    this.#faults.spare();
    this.#disk.powerCutAt(Infinity);
    this.#disk.failSync(Infinity);
    this.#cutArmed = false;
  }

  /** Opens the database on the present disk. False when that went in the middle, or cannot be opened at all. */
  async #open(): Promise<boolean> {
    const { dir, disk, environment, sizes } = this.#options();
    try {
      const database = await unlessGone(openDatabase({ dir, disk, environment, ...sizes }), this.#isGone);
      if (database === null || this.#isGone()) return false;
      this.#database = database;
      this.#store = this.#plant(database);
      this.#openedBy = environment;
      this.#lastSyncs = -1;
    } catch (error) {
      if (this.#isGone()) return false;
      if (error instanceof Damaged && this.#faults.journalIsUnreadable && FILES.journal.test(error.file)) {
        this.over = true;
        return false;
      }
      if (isOfTheDead(error)) {
        // It met an error of the disk, and says so: another process tries again.
        this.#equip(disk.afterKill());
        return await this.#open();
      }
      if (error instanceof Damaged && this.#faults.ofJournal > 0 && FILES.journal.test(error.file)) {
        this.over = true;
        return false;
      }
      if (isOfNoSpace(error) && disk.capacityBytes < Infinity) {
        // What a crash took away takes room to be made again. It is told, and the next try finds some.
        disk.capacityBytes = Infinity;
        return await this.#open();
      }
      throw error;
    }
    assert.ok(!this.#faults.syncFailed(disk), "the store opened as if no sync had failed");
    for (const { bucket } of this.#database.status().damage) {
      assert.ok(
        this.#faults.ofJournal > 0 || this.#faults.inDoubt(bucket),
        `bucket ${bucket} is damaged: nothing hit it`,
      );
      this.#faults.told(bucket);
    }
    return true;
  }

  /** Another process is told that the folder is in use. */
  async #openTwice(): Promise<void> {
    const { dir, disk, sizes } = this.#options();
    const environment = new MortalEnvironment(this.#story.seed);
    try {
      await openDatabase({ dir, disk, environment, ...sizes });
    } catch (error) {
      if (this.#isGone()) return;
      if (!(error instanceof FolderInUse)) throw error;
      return this.#faults.count("second process");
    }
    assert.fail("a folder that is open was opened a second time");
  }

  /** A sync that failed ends the process, also one behind the writers' backs. */
  async #holdSyncs(): Promise<void> {
    for (let turns = 0; this.#faults.syncFailed(this.#disk) && !this.#isGone() && !this.over; turns++) {
      assert.ok(turns < TURNS_TO_DIE, "a sync failed, and the store goes on");
      await turn();
    }
  }

  /** The process is dead: the next one opens what it left, though that may be cut off again. */
  async #recover(outcomes: Outcome[]): Promise<void> {
    this.#lostIndexes.clear();
    await this.#holdEnd();
    const { kind, seed, again } = this.#death;
    this.#death = { kind: "kill", seed: 0, again: [] };
    if (this.#cutArmed) this.#faults.count(kind);
    this.#faults.spare();
    for (let times = 0;; times++) {
      if (times > 0) this.#faults.count("crash in recovery");
      const found: MemoryDisk = kind === "kill" && times === 0
        ? this.#disk.afterKill()
        : this.#disk.afterPowerCut(partOf(seed, times));
      this.#faults.count("torn write", found.wounds.tornWrites);
      this.#faults.count("writes out of order", found.wounds.writesOutOfOrder);
      this.#equip(found);
      if (this.#atRest !== null) this.#hurt(this.#atRest);
      this.#atRest = null;
      const cut = again[times];
      if (cut !== undefined) found.powerCutAt(cut);
      if (await this.#open()) {
        found.powerCutAt(Infinity);
        break;
      }
      if (this.over) return;
      assert.ok(this.#isGone(), "a store that does not open is gone");
    }
    await this.#settle(outcomes);
    this.#audience.storeWasLost();
    await this.#agree();
    await this.#holdGiven();
  }

  /**
   * A file that was cut under a store has lost the room that it had on a disk which is full; and one that was removed cannot
   * be opened again when the log goes back to it, because what came after found no room.
   */
  #isOfLostFile(error: unknown): boolean {
    if (this.#faults.ofJournal === 0 && this.#faults.none) return false;
    return error instanceof Deno.errors.NotFound || isOfNoSpace(error);
  }

  /** A store asks for its end only when the disk failed it, and answers nothing from then on. */
  async #holdEnd(): Promise<void> {
    const [reason] = this.#environment.fatalReasons;
    if (reason === undefined) return;
    assert.ok(
      this.#isOfLostFile(reason) || isOfTheDisk(reason),
      `it asked for its end, though the disk did not fail it: ${reason.stack}`,
    );
    if (isOfSync(reason)) this.#faults.count("failing sync");
    if (this.#openedBy !== this.#environment) return; // It was not open yet.
    const late = { events: [{ streamId: STREAM_IDS[0]!, name: "Late" }] };
    const calls = [
      this.#store.append(late),
      this.#store.streamVersion(STREAM_IDS[0]!),
      this.#store.partitionSequence(0),
    ].map((call) => call.then(() => "an answer", () => null));
    for (const call of calls) {
      const answer = await unlessGone(call, this.#isGone);
      assert.equal(answer, null, "the store asked for its end, and went on");
    }
  }

  /** What a power cut or a kill leaves of appends that were under way: whole or not at all, and all that was answered. */
  async #settle(outcomes: Outcome[]): Promise<void> {
    const tails = new Map<number, EventRecord[][] | null>();
    for (const { partition } of outcomes) {
      if (!tails.has(partition)) tails.set(partition, await this.#tail(partition));
    }
    for (const outcome of outcomes) {
      const { transaction, partition } = outcome;
      const tail = tails.get(partition)!;
      if (outcome.kind === "answered") {
        await this.#hold(outcome);
        const first = outcome.result.events[0]!.eventId;
        const at = tail?.findIndex((events) => events.some(({ eventId }) => eventId === first)) ?? -1;
        if (at >= 0) tail!.splice(at, 1);
      } else if (outcome.kind === "refused") {
        await this.#holdRestOn(outcome.error, transaction, partition);
      } else if (tail === null) {
        const bucket = this.#bucketOf(partition);
        this.#maybe.set(bucket, [...this.#maybe.get(bucket) ?? [], transaction]);
      } else {
        const at = tail.findIndex((events) => isStoredAs(transaction, events, this.#nowMs));
        if (at < 0) continue;
        const [events] = tail.splice(at, 1);
        const result = resultOf(events!);
        assert.deepEqual(await this.#truth.append(transaction, result, ++this.#batches), result, "stored, and not so");
      }
    }
    for (const [partition, tail] of tails) {
      assert.deepEqual(tail ?? [], [], `partition ${partition} holds what nobody appended`);
    }
    await this.#lookForLoss();
  }

  /** What a partition holds beyond what is known, by transactions; null when that cannot be found out. */
  async #tail(partition: number): Promise<EventRecord[][] | null> {
    const from = (await this.#truth.oracle.partitionSequence(partition) ?? -1) + 1;
    const transactions: EventRecord[][] = [];
    try {
      for await (const event of this.#store.readPartition(partition, { from })) {
        const last = transactions.at(-1);
        if (last !== undefined && last[0]!.transactionId === event.transactionId) last.push(plain(event));
        else transactions.push([plain(event)]);
      }
    } catch (error) {
      if (!this.#mayFail(error, partition)) throw error;
      return null;
    }
    return transactions;
  }

  /** A refusal that rested on a version was not made before that version was durable. */
  async #holdRestOn(error: Error, { events }: Transaction, partition: number): Promise<void> {
    if (!(error instanceof WrongExpectedVersion) || error.current === null) return;
    if (events.length > 1) return; // It counts its own events too.
    const { streamId, partitionKey, current } = error;
    try {
      const version = await this.#store.streamVersion(streamId, { partitionKey });
      assert.ok(
        version !== null && version >= current,
        `a refusal rested on version ${current} of ${streamId}, which is lost: found ${version}`,
      );
    } catch (failure) {
      if (!this.#mayFail(failure, partition)) throw failure;
    }
  }

  /**
   * After the journal was hit: a bucket that has lost something says so, but for the last batches, as many as there were
   * faults. What those brought is forgotten.
   */
  async #lookForLoss(): Promise<void> {
    if (this.#faults.ofJournal === 0) return;
    const told = new Set(this.#database.status().damage.map(({ bucket }) => bucket));
    const lost = new Set<string>();
    for (const [partition, events] of (await this.#truth.partitions()).entries()) {
      if (told.has(this.#bucketOf(partition))) continue;
      try {
        const head = await this.#store.partitionSequence(partition) ?? -1;
        for (const { eventId } of events.slice(head + 1)) lost.add(eventId);
      } catch (error) {
        if (!this.#mayFail(error, partition)) throw error;
      }
    }
    const last = this.#truth.lastBatches(this.#faults.ofJournal);
    for (const eventId of lost) assert.ok(last.has(eventId), `event ${eventId} is lost without a word`);
    this.#faults.ofJournal = 0;
    if (lost.size === 0) return;
    this.#faults.count("last batch lost");
    await this.#truth.forget(lost);
    this.#given = this.#given.filter(({ eventId }) => !lost.has(eventId));
    this.#audience.clear();
  }

  // ---- What must hold ------------------------------------------------------------------------------------------------

  async #hold(outcome: Outcome): Promise<void> {
    const { transaction, partition } = outcome;
    const told = () => describeTransaction(transaction);
    if (outcome.kind === "unknown") {
      throw new Error(`no answer but ${outcome.error}: ${told()}`, { cause: outcome.error });
    }
    if (outcome.kind === "answered") {
      assert.deepEqual(outcome.result, await this.#truth.append(transaction, outcome.result, outcome.batch), told());
      return;
    }
    const { error } = outcome;
    if (this.#faults.isOfRead(error)) return;
    if (error instanceof DiskFull) {
      this.#faults.count("full disk");
      const isFull = this.#disk.capacityBytes < Infinity || this.#fullBatches < FULL_BATCHES_MAX;
      assert.ok(isFull, `the disk has room: ${error}: ${told()}`);
      return;
    }
    if (error instanceof Damaged) {
      assert.ok(this.#faults.inDoubt(this.#bucketOf(partition)), `${error}: nothing hit its bucket: ${told()}`);
      return;
    }
    if (error instanceof LimitExceeded) {
      // The oracle has no segments that a transaction must fit.
      const bytes = transaction.events.reduce((sum, { payload }) => sum + (payload?.length ?? 0), 0);
      assert.ok(bytes >= LARGE_PAYLOAD_BYTES, `${error}: ${told()}`);
      return;
    }
    const expected = await this.#truth.refusal(transaction);
    assert.notEqual(expected, null, `it should have been stored, but: ${error}: ${told()}`);
    assert.deepEqual(factsOf(error), factsOf(expected!), told());
  }

  /** What was given to any reader is true. */
  async #holdGiven(): Promise<void> {
    for (const event of this.#given) {
      if (this.#isUnsure(event.partition)) continue;
      const known = await this.#truth.oracle.event(event.eventId);
      equalEvents(known === null ? [] : [event], known === null ? [event] : [known], `given: ${event.eventId}`);
    }
    this.#given = [];
  }

  async #checkStep(chance: Chance): Promise<void> {
    const { damage, events } = this.#store.status();
    for (const { bucket } of damage) {
      assert.ok(this.#faults.inDoubt(bucket), `bucket ${bucket} is damaged: nothing hit it`);
    }
    if (this.#faults.none) assert.equal(events, this.#truth.oracle.status().events, "events in all");
    await this.#comparison.ofPartition(this.#store, chance.below(this.#story.sizes.partitionCount));
    await this.#comparison.ofSome(this.#store, chance);
  }

  /** Everything that can be read of the store is what can be read of the oracle. */
  async #agree(): Promise<void> {
    await this.#unlessFails(() => this.#comparison.ofAll(this.#store));
  }

  /** Whether a call that concerns a partition, or all when null, may fail so. */
  #mayFail(error: unknown, partition: number | null): boolean {
    if (this.#isGone()) return !(error instanceof assert.AssertionError);
    return this.#faults.explain(error, partition);
  }

  #isUnsure(partition: number): boolean {
    return this.#maybe.has(this.#bucketOf(partition));
  }

  async #unlessFails(act: () => Promise<void>): Promise<void> {
    try {
      await unlessGone(act(), this.#isGone);
    } catch (error) {
      if (!this.#isGone() || error instanceof assert.AssertionError) throw error;
    }
  }

  // ---- Small things --------------------------------------------------------------------------------------------------

  async #resolve({ partitionKey, events }: PlannedTransaction): Promise<Transaction> {
    const resolved = [];
    for (const { expects, ...event } of events) {
      const current = await this.#truth.oracle.streamVersion(event.streamId, { partitionKey });
      const expectedVersion = typeof expects === "string"
        ? expects
        : expects.fromCurrent === 0
        ? current ?? "empty" as const
        : Math.max(0, (current ?? 0) + expects.fromCurrent);
      resolved.push({ ...event, expectedVersion });
    }
    return { partitionKey, events: resolved };
  }

  #bucketOf(partition: number): number {
    return bucketOf(partition, this.#story.sizes.bucketCount);
  }

  #note(line: string): void {
    this.#trace.push(line);
  }
}

function isOfNoSpace(error: unknown): boolean {
  return error instanceof NoSpace || error instanceof Error && error.cause instanceof NoSpace;
}
