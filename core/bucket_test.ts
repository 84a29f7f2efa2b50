/** A bucket with damage: what it tells, and what it does not make of it. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers";
import { Chance } from "./chance.ts";
import { checkFolder } from "./check.ts";
import { type Database, type DatabaseOptions, openDatabase } from "./database.ts";
import { identify } from "./event.ts";
import { BlockCache } from "./index/block_cache.ts";
import { word0, word1, word2 } from "./index/heads.ts";
import { HeadsFile, writeHeadsFile } from "./index/heads_file.ts";
import { RUN_EVENTS_MAX } from "./index/segment_index.ts";
import { runSliced } from "./index/sliced.ts";
import { FilePool } from "./log/file_pool.ts";
import { SEGMENT_HEADER_BYTES } from "./log/format.ts";
import { MemoryDisk } from "./log/memory_disk.ts";
import { SeededEnvironment } from "./seeded_environment.ts";
import { read } from "./store_suite.ts";

const DIR = "/data";
const SIZES = { partitionCount: 1, bucketCount: 1, segmentBytes: 8 * 1024, journalBytes: 32 * 1024 };

function open(disk: MemoryDisk, options: Partial<DatabaseOptions> = {}): Promise<Database> {
  return openDatabase({ dir: DIR, disk, environment: new SeededEnvironment(1), ...SIZES, ...options });
}

function segmentFolder(segment: number): string {
  return `${DIR}/buckets/00000/segments/${String(segment).padStart(10, "0")}`;
}

const dataOf = (segment: number) => `${segmentFolder(segment)}/data.evts`;

/** A closed folder: events of seven streams, one a millisecond. */
async function filled(events: number, options: Partial<DatabaseOptions> = {}) {
  const disk = new MemoryDisk();
  const environment = new SeededEnvironment(2);
  const store = await open(disk, { environment, ...options });
  const ids: string[] = [];
  for (; environment.nowMs++, ids.length < events;) {
    const appended = await store.append({
      events: [{ streamId: `s${ids.length % 7}`, name: "E", payload: "x".repeat(50) }],
    });
    ids.push(appended.events[0]!.eventId);
  }
  await store.close();
  return { disk, ids };
}

/** Flips a byte in each block of an index file but its header, so that only a lookup sees it. */
function damageBlocks(disk: MemoryDisk, path: string): void {
  for (let at = 4096; at < disk.contentOf(path).length; at += 4096) disk.flip(path, at + 100, 1);
}

function removePieces(disk: MemoryDisk, segment: number): void {
  for (const path of disk.files(segmentFolder(segment))) if (path.includes("/piece-")) disk.remove(path);
}

const nameOf = (error: Error) => error.name;

Deno.test("bucket: an index that lacks events is never sealed as the whole", async () => {
  const { disk, ids } = await filled(300);
  for (const segment of [0, 1]) damageBlocks(disk, `${segmentFolder(segment)}/index.eidx`);
  disk.flip(dataOf(0), 3000, 1);
  for (let time = 0; time < 3; time++) {
    const store = await open(disk);
    for (const id of ids) assert.notEqual(await store.event(id).catch(nameOf), null, `start ${time}`);
    await store.close();
  }
});

Deno.test("bucket: an index that lacks events is never written as a piece", async () => {
  const disk = new MemoryDisk();
  const sizes = { segmentBytes: 60_000_000, journalBytes: 1024 * 1024 };
  let store = await open(disk, sizes);
  let last = "";
  for (let i = 0; i < 140; i++) {
    const events = Array.from({ length: 1000 }, () => ({ streamId: "s", name: "E" }));
    last = (await store.append({ events })).events.at(-1)!.eventId;
  }
  await store.close();
  removePieces(disk, 0);
  disk.flip(dataOf(0), disk.contentOf(dataOf(0)).length - 1000, 1);
  for (let time = 0; time < 2; time++) {
    store = await open(disk, sizes);
    assert.equal(await store.event(last).catch(nameOf), "Damaged", `start ${time}`);
    await store.close();
  }
});

Deno.test("bucket: a stream that may have lost its last events is not told short", async () => {
  const { disk } = await filled(300);
  const [last, before] = disk.files(DIR).filter((path) => path.endsWith("data.evts")).reverse();
  for (const damaged of [last!, before!]) {
    const copy = disk.clone();
    for (const path of copy.files(damaged.slice(0, damaged.lastIndexOf("/")))) if (path !== damaged) copy.remove(path);
    copy.flip(damaged, 1000, 1);
    const store = await open(copy);
    assert.equal(store.status().damage.length, 1);
    // Of an event in the segment after it, it can be proved that it is the last.
    const expected = damaged === last ? "Damaged" : 42;
    assert.equal(await store.streamVersion("s0").catch(nameOf), expected);
    assert.equal(await read(store.readStream("s0")).catch(nameOf), "Damaged");
    await store.close();
  }
});

Deno.test("bucket: an open segment that is shorter than the log is damage, though its piece is whole", async () => {
  const { disk } = await filled(10);
  disk.cut(dataOf(0), 600);
  const store = await open(disk);
  assert.equal(store.status().damage[0]?.offset, 600);
  await store.close();
});

Deno.test("bucket: a piece that knows frames which were cut is not believed when the log has grown past it", async () => {
  const disk = new MemoryDisk();
  const store = await open(disk);
  for (let i = 0; i < 10; i++) await store.append({ events: [{ streamId: "s", name: "E" }] });
  const before = disk.clone();
  await store.append({ events: [{ streamId: "never", name: "E" }] });
  await store.close();
  // The piece came to the disk, the batch did not.
  for (const path of disk.files(segmentFolder(0)).filter((path) => path.includes("/piece-"))) {
    before.open(path, "create").write(disk.contentOf(path), 0);
  }
  const other = await open(before);
  assert.equal(await other.streamVersion("never"), null);
  for (let i = 0; i < 3; i++) await other.append({ events: [{ streamId: "s", name: "Other", payload: "longer" }] });
  const again = await open(before.afterKill());
  assert.deepEqual(again.status().damage, []);
  assert.equal(await again.streamVersion("s"), 12);
  await again.close();
});

Deno.test("bucket: appends to a damaged bucket are told of the damage, wherever it is", async () => {
  const { disk } = await filled(600);
  const segments = disk.files(DIR).filter((path) => path.endsWith("data.evts")).length;
  assert.ok(segments > 6, `${segments} segments`);
  for (let segment = 0; segment < segments - 1; segment++) {
    const copy = disk.clone();
    copy.remove(`${segmentFolder(segment)}/index.eidx`);
    copy.flip(dataOf(segment), 3000, 1);
    const store = await open(copy);
    const append = store.append({ events: [{ streamId: "s0", name: "E" }] });
    assert.equal(await append.catch(nameOf), "Damaged", `segment ${segment}`);
    await store.close();
  }
});

Deno.test("bucket: damage that sealing meets ends the appends, not the process", async () => {
  const { disk, ids } = await filled(60);
  const piece = disk.files(segmentFolder(0)).find((path) => /piece-.*eidx/.test(path))!;
  damageBlocks(disk, piece);
  disk.flip(dataOf(0), 1000, 1);
  const environment = new SeededEnvironment(3);
  const store = await open(disk, { environment });
  const outcomes: string[] = [];
  for (let i = 0; i < 100; i++) {
    outcomes.push(await store.append({ events: [{ streamId: `t${i}`, name: "E" }] }).then(() => "stored", nameOf));
  }
  assert.deepEqual(environment.fatalReasons, []);
  assert.equal(outcomes.at(-1), "Damaged");
  for (const id of ids) assert.notEqual(await store.event(id).catch(nameOf), null);
  await store.close();
});

Deno.test("bucket: an index that was made again in part while a batch was on its way does not take the batch", async () => {
  const { disk, ids } = await filled(20);
  damageBlocks(disk, disk.files(segmentFolder(0)).find((path) => /piece-.*eidx/.test(path))!);
  disk.flip(dataOf(0), 1000, 1);
  const environment = new SeededEnvironment(3);
  const store = await open(disk, { environment });
  let isStored = false;
  disk.hooks.slow = (path) => path.includes("/journal/") ? 2000 : 0;
  const append = store.append({ events: [{ streamId: "new", name: "E" }] }).then(() => isStored = true);
  await null; // It is put into a batch.
  assert.equal(await store.event(ids[0]!).catch(nameOf), "Damaged");
  assert.equal(isStored, false);
  await append;
  assert.deepEqual(environment.fatalReasons, []);
  assert.equal(await store.streamVersion("new"), 0);
  await store.close();
});

Deno.test("bucket: many readers who meet the same damaged index make it again once", async () => {
  const { disk, ids } = await filled(300);
  damageBlocks(disk, `${segmentFolder(0)}/index.eidx`);
  let times = 0;
  const store = await open(disk, { log: (_level, message) => void (message.includes("made again") && times++) });
  const found = await Promise.all(Array.from({ length: 50 }, () => store.event(ids[0]!)));
  assert.ok(found.every((event) => event?.eventId === ids[0]));
  assert.equal(times, 1);
  await store.close();
});

Deno.test("bucket: a read that a close overtakes is refused, and never told that there is nothing", async () => {
  const { disk, ids } = await filled(300);
  for (const segment of [0, 1, 2]) damageBlocks(disk, `${segmentFolder(segment)}/index.eidx`);
  for (let turns = 0; turns < 40; turns++) {
    const copy = disk.clone();
    const environment = new SeededEnvironment(turns);
    const store = await open(copy, { environment });
    const find = (i: number) => store.event(ids[i]!).catch(nameOf);
    const first = find(0);
    for (let i = 0; i < turns / 2; i++) await null;
    const reads = Promise.all([first, find(1), find(80)]);
    const scan = read(store.readStream("s0")).then((events) => events.length, nameOf);
    for (let i = 0; i < turns; i++) await null;
    await store.close();
    const { effects } = copy;
    for (const found of await reads) {
      assert.ok(found !== null && (typeof found === "object" || found === "StoreClosed"));
    }
    assert.ok([43, "StoreClosed"].includes(await scan), `turn ${turns}`);
    for (let i = 0; i < 10; i++) await environment.pause();
    assert.equal(copy.effects, effects, "a closed store writes nothing");
    assert.deepEqual(environment.fatalReasons, []);
  }
});

// Heads of sealed segments.

const HEADS_PATH = `${DIR}/buckets/00000/heads.hidx`;
/** No head is remembered: each is looked up. */
const NO_MEMORY = { headBytes: 0 };

/** A closed folder of more than fifty segments: streams that are busy, that rest, and that have a page of events. */
async function ofManySegments(disk = new MemoryDisk(), events = 5000) {
  const store = await open(disk, NO_MEMORY);
  const versions = new Map<string, number>();
  const chance = new Chance(events);
  for (let i = 0; i < events; i++) {
    const streamId = i < 200 ? `resting-${i % 20}` : chance.oneIn(10) ? `late-${chance.below(300)}` : "busy";
    await store.append({ events: [{ streamId, name: "E", payload: "x".repeat(40) }] });
    versions.set(streamId, (versions.get(streamId) ?? -1) + 1);
  }
  const { segments } = store.status();
  assert.ok(segments > 51, `${segments} segments`);
  while (!disk.exists(HEADS_PATH)) await nextTurn(); // It is made beside the writers.
  await store.close();
  return { disk, versions };
}

const nextTurn = () => new Promise<void>((resolve) => void setImmediate(resolve));

async function holdHeads(disk: MemoryDisk, versions: ReadonlyMap<string, number>): Promise<void> {
  const store = await open(disk, NO_MEMORY);
  for (const [streamId, version] of versions) {
    assert.equal(await store.streamVersion(streamId), version, streamId);
    const limit = streamId === "busy" ? 700 : 10;
    const back = await read(store.readStream(streamId, { direction: "backward", limit }));
    const count = Math.min(limit, version + 1);
    assert.deepEqual(
      back.map((event) => event.version),
      Array.from({ length: count }, (_, i) => version - i),
      streamId,
    );
    assert.ok(back.every((event) => event.streamId === streamId));
  }
  for (let i = 0; i < 100; i++) assert.equal(await store.streamVersion(`new-${i}`), null);
  await store.append({ events: [{ streamId: "resting-3", name: "E", expectedVersion: versions.get("resting-3")! }] });
  await store.append({ events: [{ streamId: "none", name: "E", expectedVersion: "empty" }] });
  await store.close();
}

Deno.test("bucket: over fifty segments every stream has its head, with the heads file, without it, and with an older one", async () => {
  const { disk, versions } = await ofManySegments();
  const older = disk.contentOf(HEADS_PATH);
  const without = disk.clone();
  without.remove(HEADS_PATH);
  await holdHeads(disk.clone(), versions);
  await holdHeads(without, versions);

  const store = await open(disk, NO_MEMORY);
  for (let i = 0; i < 1000; i++) {
    const streamId = `late-${i}`;
    await store.append({ events: [{ streamId, name: "E", payload: "x".repeat(40) }] });
    versions.set(streamId, (versions.get(streamId) ?? -1) + 1);
  }
  await store.close();
  const file = disk.open(HEADS_PATH, "create");
  file.write(older, 0);
  file.close();
  await holdHeads(disk, versions);
});

Deno.test("bucket: a heads file of another log is not believed, though nothing in it is damaged", async () => {
  const { disk, versions } = await ofManySegments();
  const { disk: other } = await ofManySegments(new MemoryDisk(), 5100);
  const file = disk.open(HEADS_PATH, "create");
  file.write(other.contentOf(HEADS_PATH), 0);
  file.close();
  await holdHeads(disk, versions);
});

Deno.test("bucket: a damaged heads file costs nobody anything, and is made again", async () => {
  const { disk, versions } = await ofManySegments();
  damageBlocks(disk, HEADS_PATH);
  const store = await open(disk, NO_MEMORY);
  const damaged = disk.contentOf(HEADS_PATH);
  for (const [streamId, version] of versions) assert.equal(await store.streamVersion(streamId), version, streamId);
  while (Buffer.compare(disk.contentOf(HEADS_PATH), damaged) === 0) await nextTurn();
  for (const [streamId, version] of versions) assert.equal(await store.streamVersion(streamId), version, streamId);
  await store.close();
  assert.deepEqual((await checkFolder({ dir: DIR, disk })).problems, []);
});

Deno.test("bucket: where the place of a stream in the heads file is another's of the same hash, the segments are asked", async () => {
  const { disk, versions } = await ofManySegments();
  const context = { pool: new FilePool(disk), cache: new BlockCache(1 << 20), environment: new SeededEnvironment(1) };
  const { identity } = new HeadsFile(context, HEADS_PATH);
  const keys = [...versions.keys()].map((name) => identify(name, null).streamKey.slice());
  keys.sort((one, other) => word0(one) - word0(other) || word1(one) - word1(other));
  let at = -1;
  const lastEvents = () => ({
    ...{ a: 0, b: 0, c: 0, offset: SEGMENT_HEADER_BYTES, sequence: 0 },
    next() {
      if (++at === keys.length) return false;
      this.a = word0(keys[at]!);
      this.b = word1(keys[at]!);
      return true;
    },
  });
  const headOf = () => ({ more: word2(keys[at === 0 ? 1 : 0]!), sequence: 0 });
  await runSliced(writeHeadsFile(context, HEADS_PATH, identity, null, [{ lastEvents, headOf }]), context.environment);
  const [problem] = (await checkFolder({ dir: DIR, disk })).problems;
  assert.equal(problem?.file, HEADS_PATH);
  await holdHeads(disk, versions);
});

Deno.test("check names every flipped byte of the heads file, and nothing in one that is sound", async () => {
  const { disk } = await ofManySegments();
  assert.deepEqual((await checkFolder({ dir: DIR, disk })).problems, []);
  const size = disk.contentOf(HEADS_PATH).length;
  for (const at of [20, 4000, 4100, size - 5000, size - 1]) {
    disk.flip(HEADS_PATH, at, 1);
    const problems = (await checkFolder({ dir: DIR, disk })).problems;
    assert.deepEqual(problems.map(({ file }) => file), [HEADS_PATH], `the flip at ${at}`);
    disk.flip(HEADS_PATH, at, 1);
  }
});

Deno.test("bucket: of a segment that was rolled and not sealed a start reads what its pieces do not know", async () => {
  const disk = new MemoryDisk();
  const sizes = { segmentBytes: 4_000_000, journalBytes: 1024 * 1024 };
  let store = await open(disk, sizes);
  const payload = "x".repeat(8);
  const append = () => {
    const events = Array.from({ length: 1000 }, (_, i) => ({ streamId: `s${i % 7}`, name: "E", payload }));
    return store.append({ partitionKey: "550e8400-e29b-41d4-a716-446655440000", events });
  };
  while (store.status().events <= RUN_EVENTS_MAX) await append();
  while (!disk.exists(`${segmentFolder(0)}/piece-000.eidx`)) await nextTurn();
  let { events } = await append();
  while (store.status().segments < 2) ({ events } = await append());
  const killed = disk.clone();
  assert.ok(!killed.exists(`${segmentFolder(0)}/index.eidx`)); // It takes some turns to be sealed.
  await store.close();

  let readBytes = 0;
  killed.hooks = { read: (path, _, length) => void (readBytes += path === dataOf(0) ? length : 0) };
  store = await open(killed, sizes);
  assert.ok(readBytes < 0.6 * killed.contentOf(dataOf(0)).length, `${readBytes} bytes were read`);
  for (const { streamId, version } of events.slice(-7)) {
    const partitionKey = "550e8400-e29b-41d4-a716-446655440000";
    assert.equal(await store.streamVersion(streamId, { partitionKey }), version);
    const back = await read(store.readStream(streamId, { partitionKey, direction: "backward", limit: 1000 }));
    assert.deepEqual(back.map((event) => event.version), Array.from({ length: 1000 }, (_, i) => version - i));
  }
  await store.close();
  assert.deepEqual((await checkFolder({ dir: DIR, disk: killed })).problems, []);
});
