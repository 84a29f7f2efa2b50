/**
 * A database on a disk that can fail, the story that it is told, and what may happen to it: for the tests that put one
 * fault at every place of a fixed story. Stories with all faults by chance are those of simulator/.
 *
 * @module
 */
import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import type { Chance } from "./chance.ts";
import { type Database, openDatabase } from "./database.ts";
import { DiskFull } from "./errors.ts";
import type { Transaction } from "./event.ts";
import { MemoryDisk, PowerCut } from "./log/memory_disk.ts";
import { SeededEnvironment } from "./seeded_environment.ts";
import { type Outcome, outcomesOf, Story, unlessGone } from "./story.ts";

const DIR = "/data";
const INDEX_FILE = /\.(eidx|pidx|sidx|hidx)$/;
/** The files of a sealed segment. What is indexed of an open one depends on when that was written. */
const SEALED_INDEX_FILE = /\/(index\.eidx|partition\.pidx|stream\.sidx)$/;

/** Sizes so small that segments roll every few appends and the journal changes its file every few batches. */
export interface Sizes {
  partitionCount: number;
  bucketCount: number;
  segmentBytes: number;
  journalBytes: number;
  /** A quarter of a segment when left out. */
  reserveBytes?: number | undefined;
}

export const SMALL: Sizes = { partitionCount: 8, bucketCount: 2, segmentBytes: 4096, journalBytes: 32 * 1024 };

/**
 * Does `act`, in which databases die. What ends a process ends all that it waits for; here the process goes on, and so
 * do the promises of a dead database, which reject and which nobody awaits.
 */
export async function amongTheDead(act: () => Promise<void>): Promise<void> {
  const ignore = (event: PromiseRejectionEvent) => {
    for (let reason: unknown = event.reason; reason instanceof Error; reason = reason.cause) {
      if (reason instanceof PowerCut || SeededEnvironment.wasFatal(reason)) return event.preventDefault();
    }
  };
  globalThis.addEventListener("unhandledrejection", ignore);
  try {
    await act();
  } finally {
    // The last of them are told of when this turn is over; a timer would come before.
    await new Promise((resolve) => void setImmediate(resolve));
    globalThis.removeEventListener("unhandledrejection", ignore);
  }
}

/** A database on a disk that can fail, and the story that it is told. */
export class Life {
  store!: Database;
  environment!: SeededEnvironment;
  #opened = 0;

  constructor(readonly story: Story, public disk: MemoryDisk, readonly sizes: Sizes) {}

  get #chance(): Chance {
    return this.story.chance;
  }

  readonly isGone = () => this.disk.isGone || this.environment.fatalReasons.length > 0;

  /** Opens the database. Returns whether it came so far before the disk was gone. */
  async open(): Promise<boolean> {
    this.environment = new SeededEnvironment(this.story.chance.seed * 1000 + this.#opened++);
    const { disk, environment, sizes } = this;
    try {
      const store = await unlessGone(openDatabase({ dir: DIR, disk, environment, ...sizes }), this.isGone);
      if (store === null) return false;
      this.store = store;
    } catch (error) {
      if (this.isGone()) return false;
      throw error;
    }
    return true;
  }

  async close(): Promise<void> {
    await this.store.close();
    assert.deepEqual(this.environment.fatalReasons, []);
  }

  /** Tells some batches. Returns the outcomes of the one in which the store was lost, none when it lives. */
  async tell(batches: number): Promise<Outcome[]> {
    for (; batches > 0; batches--) {
      const outcomes = await outcomesOf(this.store, await this.story.batch(), this.isGone);
      if (this.isGone()) return outcomes;
      for (const outcome of outcomes) await this.story.hold(outcome);
      if (this.#chance.oneIn(4)) await this.story.glance(this.store).catch(this.#unlessGone);
    }
    return [];
  }

  /** Tells batches until the disk is gone at its `n`-th effect; then opens what `after` finds, and settles. */
  async cutAt(n: number, after: (disk: MemoryDisk) => MemoryDisk, batchesMax = 40): Promise<void> {
    this.disk.powerCutAt(n);
    const outcomes = await this.tell(batchesMax);
    await this.settle(outcomes, after(this.disk));
  }

  /** Opens the database on what a crash left behind, though that may be cut off again, and holds it to the oracle. */
  async settle(outcomes: Outcome[], found: MemoryDisk): Promise<void> {
    this.disk = found;
    while (this.#chance.oneIn(3)) {
      this.disk.powerCutAt(this.#chance.between(1, 30));
      await this.open();
      this.disk = this.disk.afterPowerCut(this.#chance.below(1e9));
    }
    await this.open();
    await this.story.settle(this.store, outcomes);
    // Who got no answer asks again.
    await this.story.tell(
      this.store,
      outcomes.filter(({ kind }) => kind === "unknown").map((told) => told.transaction),
    );
    // What was served once is served for ever, though no append came after it.
    if (this.#chance.oneIn(3)) {
      this.disk = this.disk.afterPowerCut(this.#chance.below(1e9));
      await this.open();
      await this.story.agree(this.store);
    }
  }

  /** Lets the `n`-th sync from now fail: the engine must ask for the end of the process. What it still answered must hold. */
  async failSync(n: number, kill: boolean): Promise<void> {
    this.disk.failSync(n);
    const outcomes = await this.tell(60);
    assert.ok(this.environment.fatalReasons.length > 0, `no sync failed, or nobody cared`);
    const found = kill ? this.disk.afterKill() : this.disk.afterPowerCut(this.#chance.below(1e9));
    await this.settle(outcomes, found);
  }

  /** Leaves so much room on the disk, appends until it is full and on, then makes room and asks again. */
  async fillDisk(roomBytes: number): Promise<void> {
    this.disk.capacityBytes = this.disk.usedBytes + roomBytes;
    const refused: Transaction[] = [];
    for (let batches = 0; batches < 20 && refused.length < 12; batches++) {
      for (const outcome of await outcomesOf(this.store, await this.story.batch(4), this.isGone)) {
        if (outcome.kind === "refused" && outcome.error instanceof DiskFull) refused.push(outcome.transaction);
        else await this.story.hold(outcome);
      }
      await this.story.glance(this.store);
    }
    await this.story.agree(this.store);
    if (this.#chance.oneIn(2)) {
      // A full disk is no reason not to start, nor not to stop.
      if (this.#chance.oneIn(2)) await this.close();
      this.disk = this.disk.afterKill();
      await this.open();
      await this.story.agree(this.store);
    }
    this.disk.capacityBytes = Infinity;
    await this.story.tell(this.store, refused);
    assert.notEqual(refused.length > 0 && this.store.status().disk?.full, true, "room, and still full");
    assert.deepEqual(this.environment.fatalReasons, []);
  }

  /** Closes, takes some index files away, and opens again: they come back. */
  async loseIndexes(isLost: (path: string) => boolean): Promise<void> {
    await this.close();
    const lost = this.disk.files(DIR).filter((path) => INDEX_FILE.test(path) && isLost(path));
    for (const path of lost) this.disk.remove(path);
    await this.open();
    await this.story.agree(this.store);
    await this.close();
    for (const path of lost) {
      if (SEALED_INDEX_FILE.test(path)) assert.ok(this.disk.exists(path), `${path} did not come back`);
    }
    await this.open();
  }

  readonly #unlessGone = (error: unknown) => {
    if (!this.isGone()) throw error;
  };
}
