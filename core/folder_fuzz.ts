/**
 * A data folder with damage: each file cut at any byte, with any byte flipped, or missing.
 *
 *     deno task fuzz folder SEED [ROUNDS]
 *
 * The store may refuse to open, or to read, or to append, with an error that says what is damaged. It may not crash,
 * serve an event that is not as it was written, or lose one without a word. There is one exception, which nobody can
 * tell from a power cut: when the last batch of the journal is damaged, its events were never there.
 *
 * A round does one in `SLICES` of all damages, so that as many rounds do every one.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "./chance.ts";
import { type Database, openDatabase } from "./database.ts";
import { Life, type Sizes } from "./life.ts";
import { Damaged, FolderMismatch } from "./errors.ts";
import type { EventRecord } from "./event.ts";
import { MemoryDisk } from "./log/memory_disk.ts";
import { SeededEnvironment } from "./seeded_environment.ts";
import type { Scan } from "./store.ts";
import { read } from "./store_suite.ts";
import { equalEvents, Story } from "./story.ts";

/** Rounds that it takes to do every damage once. A power of two. */
export const SLICES = 8192;
/** Odd, so that rounds in a row do damages that lie far apart, and each slice has its turn. */
const STRIDE = 5077;

export const DIR = "/data";
export const SIZES: Sizes = { partitionCount: 4, bucketCount: 2, segmentBytes: 2048, journalBytes: 32 * 1024 };

export interface Damage {
  path: string;
  kind: "flip" | "cut" | "remove";
  at: number;
}

/** A folder, and what it holds. */
export interface Folder {
  disk: MemoryDisk;
  /** Events by partition, in order. */
  events: EventRecord[][];
  /** Ids of the events that the last batch of the journal brought. */
  lastBatch: Set<string>;
}

/** Does the damages of as many slices, from the slice of `seed` on. */
export async function fuzz(seed: number, rounds: number): Promise<void> {
  for (let round = seed; round < seed + rounds; round++) {
    const folder = await makeFolder(Math.floor(round / SLICES), ENDINGS[round % ENDINGS.length]!);
    const chance = new Chance(round);
    const damages = damagesOf(folder.disk);
    for (let i = round * STRIDE % SLICES; i < damages.length; i += SLICES) {
      const damage = damages[i]!;
      const mask = 1 << chance.below(8);
      const told = `folder, seed ${round}: ${damage.kind} ${damage.path} at ${damage.at}, mask ${mask}`;
      try {
        await judge(folder, damage, mask);
      } catch (error) {
        throw new Error(`${told}: ${error instanceof Error ? error.message : error}`, { cause: error });
      }
    }
  }
}

/** Closed in peace; killed, with all in its segments; without power, with the end of the log in the journal only. */
export const ENDINGS = ["closed", "killed", "power cut"] as const;

export async function makeFolder(seed: number, ending: typeof ENDINGS[number], batches = 8): Promise<Folder> {
  const story = new Story(seed, { partitionCount: SIZES.partitionCount });
  const life = new Life(story, new MemoryDisk(), SIZES);
  await life.open();
  await life.tell(batches);
  await life.close();
  await life.open();
  await life.tell(3);
  const last = { partitionKey: "550e8400-e29b-41d4-a716-446655440000", events: [{ streamId: "last", name: "Last" }] };
  const eventId = (await story.oracle.append(last)).events[0]!.eventId;
  await life.store.append({ ...last, events: [{ ...last.events[0]!, eventId }] });
  await story.agree(life.store);
  if (ending === "closed") await life.close();
  const events = [];
  for (let partition = 0; partition < SIZES.partitionCount; partition++) {
    events.push(await read(story.oracle.readPartition(partition)));
  }
  const disk = ending === "power cut" ? afterTheWorst(life.disk) : life.disk.afterKill();
  return { disk, events, lastBatch: new Set([eventId]) };
}

/** The power cut, of some, that left the least in the segments. */
function afterTheWorst(disk: MemoryDisk): MemoryDisk {
  const bytes = (found: MemoryDisk) =>
    found.files(`${DIR}/buckets`).reduce((sum, path) => sum + found.contentOf(path).length, 0);
  const found = Array.from({ length: 8 }, (_, seed) => disk.afterPowerCut(seed));
  return found.reduce((least, other) => bytes(other) < bytes(least) ? other : least);
}

/** All that can be done to the files of a disk. */
function damagesOf(disk: MemoryDisk): Damage[] {
  const damages: Damage[] = [];
  for (const path of disk.files(DIR)) {
    damages.push({ path, kind: "remove", at: 0 });
    const size = disk.contentOf(path).length;
    for (let at = 0; at < size; at++) damages.push({ path, kind: "flip", at }, { path, kind: "cut", at });
  }
  return damages;
}

/** Does one damage; `mask` says which bits are flipped. */
export function harm(disk: MemoryDisk, { path, kind, at }: Damage, mask: number): void {
  if (kind === "flip") disk.flip(path, at, mask);
  else if (kind === "cut") disk.cut(path, at);
  else disk.remove(path);
}

async function judge(folder: Folder, { path, kind, at }: Damage, mask: number): Promise<void> {
  const disk = folder.disk.clone();
  harm(disk, { path, kind, at }, mask);
  // The second time it meets what the first one made of the damage, and must tell again.
  for (let time = 0; time < 2; time++) {
    const witness = new Witness(folder);
    const environment = new SeededEnvironment(1);
    let store: Database;
    try {
      store = await openDatabase({ dir: DIR, disk, environment, ...SIZES });
    } catch (error) {
      return witness.hears(error);
    }
    await witness.reads(store);
    if (time === 1) await witness.appends(store);
    await store.close().catch((error: unknown) => witness.hears(error));
    assert.deepEqual(environment.fatalReasons, []);
    witness.judges(path.includes("/journal/"));
  }
}

/** Reads all there is, and remembers what was missing and whether an error told of it. */
class Witness {
  readonly #folder: Folder;
  readonly #lost = new Set<string>();
  #heard = false;

  constructor(folder: Folder) {
    this.#folder = folder;
  }

  /** An error, which must be one that says what is damaged. */
  hears(error: unknown): void {
    if (!(error instanceof Damaged || error instanceof FolderMismatch)) throw error;
    this.#heard = true;
  }

  async reads(store: Database): Promise<void> {
    if (store.status().damage.length > 0) this.#heard = true;
    for (const [partition, events] of this.#folder.events.entries()) {
      await this.#scans(() => store.readPartition(partition), events);
      await this.#scans(() => store.readPartition(partition, { direction: "backward" }), events.toReversed());
      const streams = new Map<string, EventRecord[]>();
      for (const event of events) {
        const key = event.partitionKey + event.streamId;
        streams.set(key, [...streams.get(key) ?? [], event]);
        await this.#finds(() => store.event(event.eventId), event);
      }
      for (const ofStream of streams.values()) {
        const { streamId, partitionKey } = ofStream[0]!;
        await this.#scans(() => store.readStream(streamId, { partitionKey }), ofStream);
        const backward = () => store.readStream(streamId, { partitionKey, direction: "backward" });
        await this.#scans(backward, ofStream.toReversed());
      }
    }
  }

  /** Appends to a stream of each partition: the next number, or an error. */
  async appends(store: Database): Promise<void> {
    for (const [partition, events] of this.#folder.events.entries()) {
      const last = events.at(-1);
      if (last === undefined) continue;
      const { streamId, partitionKey } = last;
      try {
        const result = await store.append({ partitionKey, events: [{ streamId, name: "After" }] });
        const missing = events.slice(result.firstSequence);
        for (const event of missing) this.#lost.add(event.eventId);
        assert.ok(result.firstSequence <= events.length, `partition ${partition} has a gap`);
        assert.equal(
          result.events[0]!.version,
          last.version + 1 -
            missing.filter((event) => event.streamId === streamId && event.partitionKey === partitionKey).length,
        );
      } catch (error) {
        this.hears(error);
      }
    }
  }

  judges(isJournal: boolean): void {
    if (this.#lost.size === 0 || this.#heard) return;
    if (isJournal && [...this.#lost].every((eventId) => this.#folder.lastBatch.has(eventId))) return;
    assert.fail(`Lost without a word: ${[...this.#lost].join(" ")}`);
  }

  async #finds(find: () => Promise<EventRecord | null>, expected: EventRecord): Promise<void> {
    try {
      const found = await find();
      if (found === null) this.#lost.add(expected.eventId);
      else equalEvents([found], [expected], "by id");
    } catch (error) {
      this.hears(error);
    }
  }

  async #scans(scan: () => Scan, expected: EventRecord[]): Promise<void> {
    const missing = new Map(expected.map((event) => [event.eventId, event]));
    try {
      for await (const found of scan()) {
        const event = missing.get(found.eventId);
        assert.notEqual(event, undefined, `Served an event that nobody wrote, or one twice: ${found.eventId}`);
        equalEvents([found], [event!], "by scan");
        missing.delete(found.eventId);
      }
      for (const eventId of missing.keys()) this.#lost.add(eventId);
    } catch (error) {
      this.hears(error);
    }
  }
}
