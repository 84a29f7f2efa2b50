/**
 * Repairs of damaged folders: files cut, missing, with flipped bytes or zeroed sectors, one damage or several.
 *
 *     deno task fuzz repair SEED [ROUNDS]
 *
 * The old folder must be as it was, byte for byte. In the new one `check` must find nothing, and every event in it, and
 * every one that was salvaged, must be as it was written. All that the damaged folder could still give to a reader
 * must be in one of the two; and what is in neither must have been told as lost.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "./chance.ts";
import { checkFolder } from "./check.ts";
import { openDatabase } from "./database.ts";
import { Damaged, FolderMismatch } from "./errors.ts";
import type { EventRecord } from "./event.ts";
import { DIR, ENDINGS, type Folder, harm, makeFolder, SIZES } from "./folder_fuzz.ts";
import type { MemoryDisk } from "./log/memory_disk.ts";
import { isWhole, repairFolder, type RepairReport } from "./repair.ts";
import { SeededEnvironment } from "./seeded_environment.ts";
import type { Scan } from "./store.ts";
import { read } from "./store_suite.ts";
import { equalEvents } from "./story.ts";

const TO = "/repaired";
/** Rounds that share a folder: to make one takes longer than to repair it. */
const SHARED = 16;
const SECTOR_BYTES = 512;

let made: { key: number; folder: Folder } | null = null;

export async function fuzz(seed: number, rounds: number): Promise<void> {
  for (let round = seed; round < seed + rounds; round++) {
    const key = Math.floor(round / SHARED);
    if (made?.key !== key) {
      // Of a longer story the journal has forgotten the most.
      made = { key, folder: await makeFolder(key, ENDINGS[key % ENDINGS.length]!, key % 2 === 0 ? 8 : 60) };
    }
    const chance = new Chance(round);
    const disk = made.folder.disk.clone();
    const told: string[] = [];
    const harmed: string[] = [];
    for (let count = chance.pick([1, 1, 2, 3, 6]); count > 0; count--) {
      const path = chance.pick(disk.files(DIR));
      const size = disk.contentOf(path).length;
      const kind = chance.pick(["flip", "flip", "flip", "zero", "cut", "remove"] as const);
      const at = chance.below(Math.max(1, size));
      if (kind === "zero") zeroSector(disk, path, at);
      else harm(disk, { path, kind, at }, 1 << chance.below(8));
      told.push(`${kind} ${path} at ${at}`);
      harmed.push(path);
    }
    try {
      await judge(made.folder, disk, harmed);
    } catch (error) {
      throw new Error(`repair, seed ${round}: ${told.join(", ")}: ${error instanceof Error ? error.message : error}`, {
        cause: error,
      });
    }
  }
}

function zeroSector(disk: MemoryDisk, path: string, at: number): void {
  const content = disk.contentOf(path);
  const from = at - at % SECTOR_BYTES;
  for (let i = from; i < Math.min(content.length, from + SECTOR_BYTES); i++) disk.flip(path, i, content[i]!);
}

async function judge(folder: Folder, disk: MemoryDisk, harmed: string[]): Promise<void> {
  const written = new Map(folder.events.flat().map((event) => [event.eventId, event]));
  const served = await servedBy(disk.clone(), written);
  const before = snapshot(disk);

  const salvaged: EventRecord[] = [];
  const report = await repairFolder({
    ...{ dir: DIR, to: TO, disk, journalBytes: SIZES.journalBytes, environment: new SeededEnvironment(1) },
    partitionCount: SIZES.partitionCount,
    lineOf(event) {
      salvaged.push(event);
      return event.eventId + "\n";
    },
  }).catch((error) => {
    // The one thing that nobody can tell any more: how the folder was made.
    const isLost = harmed.includes(`${DIR}/meta.json`) && harmed.some((path) => path.includes("/journal/"));
    if (isLost && error instanceof Damaged) return null;
    throw error;
  });
  assert.deepEqual(snapshot(disk), before, "the old folder was touched");
  if (report === null) return;
  assert.deepEqual((await checkFolder({ dir: TO, disk })).problems, []);

  const environment = new SeededEnvironment(2);
  const store = await openDatabase({ dir: TO, disk, environment, journalBytes: SIZES.journalBytes });
  const kept: EventRecord[] = [];
  for (let partition = 0; partition < SIZES.partitionCount; partition++) {
    const events = await read(store.readPartition(partition));
    equalEvents(events, folder.events[partition]!.slice(0, events.length), `partition ${partition} in the new folder`);
    kept.push(...events);
  }
  await repeats(store, kept);
  await store.close();

  const lines = report.salvagedFile === null ? "" : new TextDecoder().decode(disk.contentOf(report.salvagedFile));
  assert.equal(lines, salvaged.map(({ eventId }) => eventId + "\n").join(""));
  equalEvents(salvaged, salvaged.map(({ eventId }) => written.get(eventId)!), "salvaged");
  const found = new Set([...kept, ...salvaged].map(({ eventId }) => eventId));
  assert.equal(found.size, kept.length + salvaged.length, "an event came twice");
  assert.deepEqual([kept.length, salvaged.length], [report.keptEvents, report.salvagedEvents]);
  for (const eventId of served) assert.ok(found.has(eventId), `${eventId} was still served, and is nowhere`);
  const lost = [...written.keys()].filter((eventId) => !found.has(eventId));
  judgeReport(report, folder, salvaged, lost, harmed);
}

/** Ids of the events that the damaged folder still gives to readers. Each must be as it was written. */
async function servedBy(disk: MemoryDisk, written: Map<string, EventRecord>): Promise<Set<string>> {
  const served = new Set<string>();
  const unlessTold = (error: unknown) => {
    if (!(error instanceof Damaged || error instanceof FolderMismatch)) throw error;
  };
  const store = await openDatabase({ dir: DIR, disk, environment: new SeededEnvironment(1), ...SIZES }).catch(
    unlessTold,
  );
  if (store === undefined) return served;
  const take = async (scan: () => Scan) => {
    for await (const event of scan()) {
      equalEvents([event], [written.get(event.eventId)!], "served");
      served.add(event.eventId);
    }
  };
  for (let partition = 0; partition < SIZES.partitionCount; partition++) {
    await take(() => store.readPartition(partition)).catch(unlessTold);
    await take(() => store.readPartition(partition, { direction: "backward" })).catch(unlessTold);
  }
  for (const { eventId, streamId, partitionKey } of written.values()) {
    const event = await store.event(eventId).catch(unlessTold);
    if (event) served.add(eventId);
    await take(() => store.readStream(streamId, { partitionKey, direction: "backward" })).catch(unlessTold);
  }
  await store.close().catch(unlessTold);
  return served;
}

/** An append that was answered in the old folder is answered alike in the new one. */
async function repeats(store: Awaited<ReturnType<typeof openDatabase>>, kept: EventRecord[]): Promise<void> {
  for (const { transactionId } of kept.slice(0, 3)) {
    const events = kept.filter((event) => event.transactionId === transactionId);
    const { partitionKey, sequence } = events[0]!;
    const result = await store.append({ partitionKey, events });
    assert.equal(result.firstSequence, sequence);
  }
}

/** What is lost must have been told; and nothing that is not. */
function judgeReport(
  report: RepairReport,
  folder: Folder,
  salvaged: EventRecord[],
  lost: string[],
  harmed: string[],
): void {
  for (const { partition, kept, lost: ranges, salvagedEvents } of report.partitions) {
    assert.equal(salvagedEvents, salvaged.filter((event) => event.partition === partition).length);
    const events = folder.events[partition]!;
    for (const { from, end } of ranges) {
      for (const event of events.slice(from, end)) {
        assert.ok(lost.includes(event.eventId), `sequence ${event.sequence} of ${partition} was told as lost`);
      }
      assert.ok(from >= kept);
    }
  }
  for (const { partition, partitionKey, streamId, from, end } of report.streams) {
    const events = folder.events[partition]!.filter((event) =>
      event.partitionKey === partitionKey && event.streamId === streamId
    );
    for (const { eventId } of events.slice(from, end)) assert.ok(lost.includes(eventId), `${eventId} was told as lost`);
  }
  const transactions = new Set(
    [...folder.events.flat()].filter(({ eventId }) => lost.includes(eventId)).map((event) => event.transactionId),
  );
  const entries = report.lostEntries.reduce((sum, { from, end }) => sum + end - from, 0);
  if (report.openEnds.length > 0) return assert.ok(entries <= transactions.size);
  // As everywhere, a last batch that rot in the journal looks like one that was never acknowledged.
  const isTorn = harmed.some((path) => path.includes("/journal/")) && lost.every((id) => folder.lastBatch.has(id));
  if (!isTorn) assert.equal(entries, transactions.size, "lost entries");
  assert.equal(isWhole(report), entries === 0 && salvaged.length === 0);
}

function snapshot(disk: MemoryDisk): [string, string][] {
  return disk.files(DIR).map((path) => [path, disk.contentOf(path).toString()]);
}
