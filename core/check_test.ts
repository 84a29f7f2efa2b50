import assert from "node:assert/strict";
import { checkFolder } from "./check.ts";
import { type Database, openDatabase } from "./database.ts";
import { FolderInUse, FolderMismatch } from "./errors.ts";
import { MemoryDisk } from "./log/memory_disk.ts";
import { SeededEnvironment } from "./seeded_environment.ts";

const DIR = "/data";
const SIZES = { partitionCount: 4, bucketCount: 2, segmentBytes: 8 * 1024, journalBytes: 32 * 1024 };

function open(disk: MemoryDisk): Promise<Database> {
  return openDatabase({ dir: DIR, disk, environment: new SeededEnvironment(1), ...SIZES });
}

/** A folder with several segments a bucket. */
async function filled(): Promise<{ disk: MemoryDisk; store: Database }> {
  const disk = new MemoryDisk();
  const store = await open(disk);
  const partitionKey = "550e8400-e29b-41d4-a716-446655440000";
  for (let i = 0; i < 300; i++) {
    await store.append({ events: [{ streamId: `s${i % 7}`, name: "E", payload: "x".repeat(50) }] });
    await store.append({ partitionKey, events: [{ streamId: "a", name: "A" }, { streamId: `b${i % 3}`, name: "B" }] });
  }
  return { disk, store };
}

const snapshot = (disk: MemoryDisk) => disk.files(DIR).map((path) => [path, disk.contentOf(path)]);

Deno.test("check finds a closed folder sound, and touches nothing", async () => {
  const { disk, store } = await filled();
  await store.close();
  const before = snapshot(disk);
  const report = await checkFolder({ dir: DIR, disk });
  assert.deepEqual([report.problems, report.notes], [[], []]);
  assert.equal(report.events, 900);
  assert.equal(report.frames, 600);
  assert(report.segments > 8, `${report.segments} segments`);
  assert.deepEqual(snapshot(disk), before);
});

Deno.test("check finds a folder sound that was killed, and says what the journal still has to tell", async () => {
  const { disk } = await filled();
  const killed = disk.afterPowerCut(7);
  const before = snapshot(killed);
  const report = await checkFolder({ dir: DIR, disk: killed });
  assert.deepEqual(report.problems, []);
  assert.equal(report.events, 900);
  assert.match(report.notes.join("\n"), /journal has \d+ bytes/);
  assert.deepEqual(snapshot(killed), before);
});

Deno.test("check names the file and offset of every flipped byte of segments and index files", async () => {
  const { disk, store } = await filled();
  await store.close();
  const chosen = disk.files(DIR).filter((path) =>
    /00001\/segments\/000000000[0-2]\/(data|index|stream|partition)/.test(path)
  );
  assert.equal(chosen.length, 12);
  for (const path of chosen) {
    const size = disk.contentOf(path).length;
    for (let at = 5; at < size; at += 397) {
      const damaged = disk.clone();
      damaged.flip(path, at, 4);
      const { problems } = await checkFolder({ dir: DIR, disk: damaged });
      const found = problems.find(({ file }) => file === path);
      assert(found !== undefined, `${path} at ${at}: ${JSON.stringify(problems)}`);
      assert(found.offset <= at, `${path} at ${at}: told at ${found.offset}`);
    }
  }
});

Deno.test("check says behind damage what is missing: entries, sequences and versions", async () => {
  const { disk, store } = await filled();
  await store.close();
  const path = disk.files(DIR).find((name) => name.endsWith("00001/segments/0000000001/data.evts"))!;
  disk.flip(path, 1000, 1);
  const { problems, events, frames } = await checkFolder({ dir: DIR, disk });
  assert.ok(problems.every(({ file }) => file === path));
  const told = problems.map(({ reason }) => reason);
  assert.equal(told[0], "a frame fails its checksum");
  assert.ok(problems[0]!.offset <= 1000 && problems[0]!.offset > 800, `${problems[0]!.offset}`);
  assert.match(told[1]!, /^entries \d+ of the log of bucket 1 are missing$/);
  assert.match(told[2]!, /^sequences \d+( to \d+)? of partition \d are missing before this$/);
  assert.match(told[3]!, /^versions \d+ of stream "\w\d?" of partition key [0-9a-f-]{36} are missing before this$/);
  assert.equal(frames, 599);
  assert.ok(events === 899 || events === 898);
});

Deno.test("check of a folder without its journal still reads every segment", async () => {
  const { disk, store } = await filled();
  await store.close();
  for (const name of ["a", "b"]) disk.remove(`${DIR}/journal/${name}`);
  const { problems, events } = await checkFolder({ dir: DIR, disk });
  assert.deepEqual(problems.map(({ reason }) => reason), ["the journal file is missing"]);
  assert.equal(events, 900);
});

Deno.test("check tells of index files that are missing as a note: the next start makes them", async () => {
  const { disk, store } = await filled();
  await store.close();
  const path = disk.files(DIR).find((name) => name.endsWith("stream.sidx"))!;
  disk.remove(path);
  const { problems, notes } = await checkFolder({ dir: DIR, disk });
  assert.deepEqual(problems, []);
  assert.match(notes.join("\n"), /stream\.sidx missing/);
  await (await open(disk)).close();
  assert.deepEqual((await checkFolder({ dir: DIR, disk })).notes, []);
});

Deno.test("check says what is wrong with a folder that is none, is in use, or is of another version", async () => {
  const nothing = await checkFolder({ dir: DIR, disk: new MemoryDisk() });
  assert.match(nothing.problems[0]!.reason, /not a data folder/);
  const { disk, store } = await filled();
  await assert.rejects(checkFolder({ dir: DIR, disk }), FolderInUse);
  await store.close();
  disk.flip(`${DIR}/meta.json`, 10, 1);
  const [problem] = (await checkFolder({ dir: DIR, disk })).problems;
  assert.equal(problem!.file, `${DIR}/meta.json`);
});

Deno.test("openDatabase() refuses settings other than the folder's, and tells both values", async () => {
  const { disk, store } = await filled();
  await store.close();
  for (const other of [{ partitionCount: 8 }, { bucketCount: 4 }, { segmentBytes: 16 * 1024 }]) {
    await assert.rejects(openDatabase({ dir: DIR, disk, ...other }), (error: FolderMismatch) => {
      assert(error instanceof FolderMismatch);
      assert(error.message.includes(String(Object.values(other)[0])) && error.message.includes(String(error.stored)));
      return true;
    });
  }
  const without = await openDatabase({ dir: DIR, disk, journalBytes: SIZES.journalBytes });
  assert.equal(without.partitionCount, SIZES.partitionCount);
  await without.close();
});

Deno.test("openDatabase() that fails leaves the folder to the next one: closed, unlocked, and nothing going on in it", async () => {
  const { disk, store } = await filled();
  await store.close();
  for (const path of disk.files(DIR)) if (path.endsWith("idx")) disk.remove(path); // So that there is maintenance to do.
  disk.hooks.write = (path) => {
    if (path.includes("/journal/")) throw new Error("EIO");
  };
  await assert.rejects(open(disk), /EIO|journal/);
  const effects = disk.effects;
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setTimeout(resolve, 0));
  assert.equal(disk.effects, effects);
  disk.hooks = {};
  const again = await open(disk);
  assert.equal(again.status().events, 900);
  await again.close();
});

Deno.test("openDatabase() says what each part of a store may hold in memory", async () => {
  const disk = new MemoryDisk();
  const sizes = { cacheBytes: 1000, headBytes: 2000, filterBytes: 3000, tailBytes: 4000 };
  const store = await openDatabase({ dir: DIR, disk, environment: new SeededEnvironment(1), ...SIZES, ...sizes });
  const bounds = Object.fromEntries(store.bounds.map(({ of, bytes }) => [of, bytes]));
  assert.equal(bounds["blocks of index files"], 1000);
  assert.equal(bounds["heads of streams"], 2000);
  assert.equal(bounds["filters"], 3000);
  assert.equal(bounds["newest events"], 4000);
  assert.equal(bounds["indexes of open segments"], SIZES.bucketCount * 24 * 1024 * 1024);
  await store.close();
});
