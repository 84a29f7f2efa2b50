import assert from "node:assert/strict";
import { checkFolder } from "./check.ts";
import { openDatabase } from "./database.ts";
import { Damaged, FolderInUse, InvalidArgument } from "./errors.ts";
import { admit, type EventRecord } from "./event.ts";
import { Chain, encodeFrame, frameBytesAt, SEGMENT_HEADER_BYTES } from "./log/format.ts";
import { segmentFolder, segmentPath } from "./log/layout.ts";
import { MemoryDisk } from "./log/memory_disk.ts";
import { isWhole, repairFolder, type RepairReport } from "./repair.ts";
import { fuzz } from "./repair_fuzz.ts";
import { SeededEnvironment } from "./seeded_environment.ts";
import { read } from "./store_suite.ts";
import { equalEvents } from "./story.ts";

const DIR = "/data";
const TO = "/repaired";
/** One bucket, so that a hole in its log lies before events of all partitions. */
const SIZES = { partitionCount: 4, bucketCount: 1, segmentBytes: 4096, journalBytes: 32 * 1024 };
const STREAMS = ["a", "b", "c", "d", "e", "f", "g"];

function open(disk: MemoryDisk, dir = DIR) {
  return openDatabase({ dir, disk, environment: new SeededEnvironment(1), ...SIZES });
}

interface Filled {
  disk: MemoryDisk;
  events: EventRecord[];
}

/** A closed folder with a dozen segments, of which the journal has forgotten the first. `payload` of one event in the third. */
async function filled(payload: Uint8Array | string = "x"): Promise<Filled> {
  const disk = new MemoryDisk();
  const store = await open(disk);
  for (let i = 0; i < 320; i++) {
    const streamId = STREAMS[i % STREAMS.length]!;
    const name = "n".repeat(i % 50);
    await store.append({
      events: [{ streamId, name, payload: i === 60 ? payload : "x" }, ...i % 5 === 0 ? [{ streamId, name: "B" }] : []],
    });
  }
  const events = await allOf(store);
  await store.close();
  return { disk, events };
}

async function allOf(store: Awaited<ReturnType<typeof open>>): Promise<EventRecord[]> {
  const events = [];
  for (let partition = 0; partition < SIZES.partitionCount; partition++) {
    events.push(...await read(store.readPartition(partition)));
  }
  return events;
}

interface Repaired {
  report: RepairReport;
  kept: EventRecord[];
  salvaged: EventRecord[];
}

/** Repairs, and holds the new folder to what it promises. */
async function repair({ disk, events }: Filled, partitionCount?: number): Promise<Repaired> {
  const salvaged: EventRecord[] = [];
  const lineOf = (event: EventRecord) => {
    salvaged.push(event);
    return `${event.eventId}\n`;
  };
  const environment = new SeededEnvironment(2);
  const before = disk.files(DIR).map((path) => [path, disk.contentOf(path)]);
  const { journalBytes } = SIZES;
  const report = await repairFolder({ dir: DIR, to: TO, disk, environment, journalBytes, partitionCount, lineOf });
  assert.deepEqual(disk.files(DIR).map((path) => [path, disk.contentOf(path)]), before);
  assert.deepEqual((await checkFolder({ dir: TO, disk })).problems, []);
  const store = await openDatabase({ dir: TO, disk, environment, journalBytes });
  const kept = await allOf(store);
  await store.close();
  const written = new Map(events.map((event) => [event.eventId, event]));
  for (const found of [kept, salvaged]) equalEvents(found, found.map(({ eventId }) => written.get(eventId)!), "found");
  return { report, kept, salvaged };
}

/** Where the frames of a segment begin. */
function framesOf(disk: MemoryDisk, segment: number): number[] {
  const bytes = disk.contentOf(segmentPath(DIR, 0, segment));
  const view = new DataView(bytes.buffer);
  const offsets = [];
  for (let at = SEGMENT_HEADER_BYTES; at < bytes.length; at += frameBytesAt(view, at)) offsets.push(at);
  return offsets;
}

/** Damages the fourth frame of a segment: its payload, or its length, so that it does not say where the next one begins. */
function damageFrame(disk: MemoryDisk, segment: number, what: "payload" | "length"): void {
  const offsets = framesOf(disk, segment);
  if (what === "payload") disk.flip(segmentPath(DIR, 0, segment), offsets[4]! - 1, 1);
  else disk.flip(segmentPath(DIR, 0, segment), offsets[3]! + 1, 1);
}

function removeIndexes(disk: MemoryDisk, segment: number): void {
  for (const path of disk.files(segmentFolder(DIR, 0, segment))) if (path.endsWith("idx")) disk.remove(path);
}

/** All but the one transaction must be there: its partition kept before it and salvaged behind it, the others whole. */
function assertOneLost({ events }: Filled, { report, kept, salvaged }: Repaired): void {
  const found = new Set([...kept, ...salvaged].map(({ eventId }) => eventId));
  const lost = events.filter(({ eventId }) => !found.has(eventId));
  assert.equal(new Set(lost.map(({ transactionId }) => transactionId)).size, 1);
  const [{ partition, sequence: first, streamId, partitionKey, version }] = lost as [EventRecord];
  const end = first + lost.length;
  const behind = events.filter((event) => event.partition === partition && event.sequence >= end);
  assert.deepEqual(salvaged, behind);
  assert.equal(kept.length + lost.length + salvaged.length, events.length);
  assert.deepEqual(report.partitions, [
    { partition, kept: first, lost: [{ from: first, end }], salvagedEvents: behind.length },
  ]);
  assert.deepEqual(report.streams, [
    { partition, partitionKey, streamId, from: version, end: version + lost.length },
  ]);
  assert.deepEqual(report.lostEntries.map(({ from, end }) => end - from), [1]);
  assert.equal(isWhole(report), false);
}

Deno.test("repair of a sound folder is the same store again", async () => {
  const folder = await filled();
  const { report, kept, salvaged } = await repair(folder);
  equalEvents(kept, folder.events, "kept");
  assert.deepEqual([salvaged, report.damage, isWhole(report)], [[], [], true]);
  assert.deepEqual([report.keptTransactions, report.keptEvents], [320, 384]);
  assert.equal(folder.disk.exists(`${TO}/salvaged.ndjson`), false);
});

for (const what of ["payload", "length"] as const) {
  Deno.test(`repair behind a frame with a bad ${what}: its partition ends there, the others go on`, async () => {
    const folder = await filled();
    damageFrame(folder.disk, 3, what);
    assertOneLost(folder, await repair(folder));
  });
}

Deno.test("repair without index files finds the next frame by the header of the next segment", async () => {
  const folder = await filled();
  damageFrame(folder.disk, 3, "length");
  removeIndexes(folder.disk, 3);
  assertOneLost(folder, await repair(folder));
});

Deno.test("repair without index files and next header finds the next frame by what the damaged one says", async () => {
  const folder = await filled();
  damageFrame(folder.disk, 3, "payload");
  removeIndexes(folder.disk, 3);
  folder.disk.flip(segmentPath(DIR, 0, 4), 20, 1);
  assertOneLost(folder, await repair(folder));
});

Deno.test("repair without the journal finds the end of the log by the index files", async () => {
  const folder = await filled();
  const last = folder.disk.files(DIR).filter((path) => path.endsWith("data.evts")).length - 1;
  for (const name of ["a", "b"]) folder.disk.remove(`${DIR}/journal/${name}`);
  damageFrame(folder.disk, last, "length");
  const repaired = await repair(folder);
  assert.deepEqual(repaired.report.openEnds, [0]);
  assertOneLost(folder, repaired);
});

Deno.test("repair takes from the journal what the segment has lost", async () => {
  const folder = await filled();
  const last = folder.disk.files(DIR).filter((path) => path.endsWith("data.evts")).length - 1;
  const offsets = framesOf(folder.disk, last);
  folder.disk.flip(segmentPath(DIR, 0, last), offsets.at(-1)! + 20, 1);
  const { report, kept } = await repair(folder);
  equalEvents(kept, folder.events, "kept");
  assert.equal(isWhole(report), true);
});

Deno.test("repair tells by the index files what was in a segment that is missing", async () => {
  for (const segment of [3, -1]) {
    const folder = await filled();
    const { disk, events } = folder;
    const files = disk.files(DIR).filter((path) => path.endsWith("data.evts"));
    for (const name of ["a", "b"]) disk.remove(`${DIR}/journal/${name}`);
    disk.remove(files.at(segment)!);
    const { report, kept, salvaged } = await repair(folder);
    const found = new Set([...kept, ...salvaged].map(({ eventId }) => eventId));
    const lost = events.filter(({ eventId }) => !found.has(eventId)).map((event) => [event.partition, event.sequence]);
    const told = report.partitions.flatMap(({ partition, lost }) =>
      lost.flatMap(({ from, end }) => Array.from({ length: end - from }, (_, i) => [partition, from + i]))
    );
    assert.ok(lost.length > 8, `${lost.length} events lost`);
    assert.deepEqual(told, lost);
    assert.equal(salvaged.length > 0, segment === 3);
  }
});

Deno.test("repair does not believe a frame that stands in a payload", async () => {
  // As if somebody had stored a piece of a segment: all about it is right but the place.
  const forged = new Uint8Array(1000);
  const streamId = "a";
  const transaction = admit({ events: [{ streamId, name: "Forged" }] }, new SeededEnvironment(9));
  const { partition } = (await filled()).events.find((event) => event.streamId === streamId)!;
  const { end } = encodeFrame(forged, new DataView(forged.buffer), 100, transaction, {
    ...{ logIndex: 70, term: 1, partition, firstSequence: 90, prevChain: new Chain(1, 2), versions: [30], prevs: [1] },
  });
  const folder = await filled(forged.subarray(0, end + 50));
  const { disk } = folder;
  const path = disk.files(DIR).find((path) =>
    path.endsWith("data.evts") && new TextDecoder("latin1").decode(disk.contentOf(path)).includes("Forged")
  )!;
  const segment = Number(path.split("/").at(-2));
  const at = new TextDecoder("latin1").decode(disk.contentOf(path)).indexOf("Forged");
  const offset = framesOf(disk, segment).findLast((offset) => offset < at)!;
  disk.flip(path, offset + 1, 2);
  const repaired = await repair(folder);
  assert.match(repaired.report.damage[1]!.reason, /^what looks like 1 frames stands here, and nothing proves it$/);
  assertOneLost(folder, repaired);
});

Deno.test("repair does without the meta file when it is told the partition count", async () => {
  const folder = await filled();
  const { disk } = folder;
  disk.remove(`${DIR}/meta.json`);
  const options = { dir: DIR, disk, journalBytes: SIZES.journalBytes, lineOf: () => "" };
  await assert.rejects(repairFolder({ ...options, to: TO }), /meta\.json is damaged at offset 0: it is missing/);
  await assert.rejects(repairFolder({ ...options, to: "/wrong", partitionCount: 5 }), /not made with 5 partitions/);
  const { report, kept } = await repair(folder, SIZES.partitionCount);
  equalEvents(kept, folder.events, "kept");
  assert.equal(isWhole(report), true);
  assert.deepEqual(report.damage.map(({ file }) => file), [`${DIR}/meta.json`]);
});

Deno.test("repair refuses what would touch the old folder, or mix with another", async () => {
  const { disk } = await filled();
  const attempt = (to: string) => repairFolder({ dir: DIR, to, disk, lineOf: () => "" });
  await assert.rejects(attempt(`${DIR}/new`), InvalidArgument);
  await assert.rejects(attempt(`${DIR}/`), InvalidArgument);
  disk.makeFolder(`${TO}/something`);
  await assert.rejects(attempt(TO), /must be empty/);
  const store = await open(disk);
  await assert.rejects(attempt("/other"), FolderInUse);
  await store.close();
  await assert.rejects(
    repairFolder({ dir: DIR, to: "/other", disk, partitionCount: 5, lineOf: () => "" }),
    /made with partition count 4: it cannot be opened with partition count 5/,
  );
  disk.flip(`${DIR}/meta.json`, 10, 1);
  await assert.rejects(attempt("/other"), Damaged);
  assert.equal(disk.exists("/other"), false);
});

Deno.test("repair that was cut off leaves a folder that no store takes for a whole one", async () => {
  const folder = await filled();
  damageFrame(folder.disk, 3, "payload");
  const { disk } = folder;
  const lineOf = () => {
    throw new Error("cut off");
  };
  const journalBytes = SIZES.journalBytes;
  await assert.rejects(repairFolder({ dir: DIR, to: TO, disk, journalBytes, lineOf }), /cut off/);
  await assert.rejects(open(disk, TO), /meta\.json is damaged at offset 0: it is missing, and the folder has data/);
});

Deno.test("repair of folders with damage of all kinds, by seed", async () => {
  await fuzz(0, 32);
});
