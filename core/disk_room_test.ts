import assert from "node:assert/strict";
import { openDatabase } from "./database.ts";
import { DiskRoom } from "./disk_room.ts";
import { DiskFull, WrongExpectedVersion } from "./errors.ts";
import { MemoryDisk } from "./log/memory_disk.ts";
import { SeededEnvironment } from "./seeded_environment.ts";
import { read } from "./store_suite.ts";

const SIZES = { partitionCount: 4, bucketCount: 2, segmentBytes: 64 * 1024, journalBytes: 64 * 1024 };
const RESERVE = 100_000;

/** A disk of which a test says how much is free, and a look at it. */
function room(reserveBytes = RESERVE) {
  const told: string[] = [];
  const disk = Object.assign(new MemoryDisk(), { free: 10 * RESERVE, looks: 0 });
  disk.freeBytes = () => {
    disk.looks++;
    return disk.free;
  };
  const log = (level: string, message: string) => void told.push(`${level}: ${message.split(":")[0]}`);
  const environment = new SeededEnvironment(1);
  return { disk, told, environment, room: new DiskRoom({ disk, dir: "/data", environment, log, reserveBytes }) };
}

/** A store on a disk with a bound, and what it logs about the disk. */
async function open(reserveBytes?: number) {
  const disk = new MemoryDisk();
  const environment = new SeededEnvironment(1);
  /** Leaves so much room, and lets time pass: somebody else has filled the disk. */
  const leave = (freeBytes: number) => {
    disk.capacityBytes = disk.usedBytes + freeBytes;
    environment.pass(1000);
  };
  const told: string[] = [];
  const store = await openDatabase({
    ...{ dir: "/data", disk, environment, reserveBytes, ...SIZES },
    log: (level, message) => void (/disk/i.test(message) && told.push(`${level}: ${message.split(":")[0]}`)),
  });
  return { disk, store, told, leave };
}

const EVENT = { streamId: "s", name: "E", payload: "x".repeat(1000) };

Deno.test("DiskRoom asks the system once in a while, and at once when what it knew of is taken", () => {
  const { disk, room: it } = room();
  for (let i = 0; i < 50; i++) it.beforeBatch(1000);
  assert.equal(disk.looks, 1, "A tenth of a millisecond passes at each look at the clock");
  for (let i = 0; i < 1000; i++) it.beforeBatch(1000);
  assert.equal(disk.looks, 2);
  it.take(9 * RESERVE - 10);
  it.beforeBatch(10);
  assert.equal(disk.looks, 2);
  it.beforeBatch(11);
  assert.equal(disk.looks, 3);
});

Deno.test("DiskRoom is full below the reserve, has room again a quarter above it, and tells of each once", () => {
  const { disk, room: it, told } = room();
  const ask = (free: number) => {
    disk.free = free;
    it.beforeBatch(Infinity);
    return it.status()!.full;
  };
  assert.equal(ask(RESERVE), false);
  assert.equal(ask(RESERVE - 1), true);
  assert.throws(() => it.take(1), /99999 bytes free, 100000 of them .* taken again when 125000 bytes are free$/);
  for (const free of [0, RESERVE, 1.25 * RESERVE - 1]) assert.equal(ask(free), true, `${free} free`);
  assert.equal(ask(1.25 * RESERVE), false);
  it.take(0.25 * RESERVE);
  assert.throws(
    () => it.take(1),
    /100000 of them are kept in reserve, and these events may need 1: nothing was stored/,
  );
  assert.deepEqual(told, [
    "warn: The disk is full but for its reserve",
    "info: The disk has room again",
  ]);
});

Deno.test("DiskRoom without a reserve never refuses, and still says how full the disk is", () => {
  const { disk, room: it, told } = room(0);
  disk.free = 0;
  it.beforeBatch(1e9);
  it.take(1e9);
  assert.equal(disk.looks, 0);
  assert.deepEqual(it.status(), { freeBytes: 0, reserveBytes: 0, full: false });
  it.refused();
  assert.equal(it.status()!.full, true);
  it.stored();
  assert.equal(it.status()!.full, false);
  assert.deepEqual(told, []);
});

Deno.test("DiskRoom that may not ask keeps no reserve, and says so once", () => {
  const { disk, room: it, told } = room();
  disk.freeBytes = () => {
    throw new Deno.errors.NotCapable("Requires sys access");
  };
  it.beforeBatch(Infinity);
  it.beforeBatch(Infinity);
  it.take(1e9);
  assert.equal(it.status(), null);
  assert.deepEqual(told, ["warn: It cannot be asked how full the disk is"]);
});

Deno.test("a full disk is a state: appends are refused, reads and subscriptions go on, retries are answered, room ends it", async () => {
  const { disk, store, told, leave } = await open(RESERVE);
  const id = "01a20505-26b5-bd87-945c-2e28ce9cb943";
  const known = { partitionKey: "e7a265f9-46bb-55fc-945c-3571e2aaa17e", events: [{ ...EVENT, eventId: id }] };
  const first = await store.append(known);
  using subscription = await store.subscribe({ partitions: "all", from: 0 });
  leave(RESERVE + 50_000);
  let stored = 1;
  await assert.rejects(
    async () => {
      for (;; stored++) await store.append({ events: [EVENT] });
    },
    (error: Error) => error instanceof DiskFull && /bytes free, 100000 of them are kept in reserve/.test(error.message),
  );
  assert.ok(stored > 30, `${stored} events found room`);
  assert.ok(disk.capacityBytes - disk.usedBytes >= RESERVE, "The reserve is whole");

  disk.capacityBytes -= 50_000; // Others fill it further.
  for (let i = 0; i < 3; i++) {
    await assert.rejects(store.append({ events: [EVENT] }), /Appends are taken again when 125000/);
  }
  assert.equal(store.status().disk!.full, true);
  assert.deepEqual(await store.append(known), first);
  await assert.rejects(store.append({ events: [{ ...EVENT, expectedVersion: 1e6 }] }), WrongExpectedVersion);
  let followed = 0;
  while (followed < stored) followed += (await subscription.read()).length;
  assert.equal((await read(store.readStream("s"))).length, stored - 1);

  disk.capacityBytes = Infinity;
  assert.equal(store.status().disk!.full, false, "No append is needed to find out");
  assert.equal((await store.append({ events: [EVENT] })).events[0]!.version, stored - 1);
  assert.equal((await subscription.read()).length, 1);
  assert.deepEqual(told, ["warn: The disk is full but for its reserve", "info: The disk has room again"]);
  await store.close();
});

Deno.test("the reserve is for index files: what is rolled is sealed on a full disk, and it starts and stops there", async () => {
  const { disk, store, leave } = await open(RESERVE);
  leave(RESERVE + 200_000);
  await assert.rejects(async () => {
    for (;;) await store.append({ events: [EVENT] });
  }, DiskFull);
  leave(RESERVE - 1);
  const { events } = store.status();
  await store.close();
  const [sealed, rolled] = ["stream.sidx", "data.evts"].map((name) =>
    disk.files("/data").filter((path) => path.endsWith(name)).length
  );
  assert.ok(rolled! > 2 && sealed! >= rolled! - SIZES.bucketCount, `${sealed} of ${rolled} segments are sealed`);
  const again = await openDatabase({
    ...{ dir: "/data", disk, environment: new SeededEnvironment(2), reserveBytes: RESERVE, ...SIZES },
  });
  assert.equal(again.status().events, events);
  assert.equal(again.status().disk!.full, true);
  await assert.rejects(again.append({ events: [EVENT] }), DiskFull);
  await again.close();
});

Deno.test("openDatabase() keeps 64 MiB in reserve, or a quarter of a segment", async () => {
  for (const [segmentBytes, expected] of [[256 * 1024 * 1024, 64 * 1024 * 1024], [4096, 1024]] as const) {
    const options = {
      dir: "/data",
      disk: new MemoryDisk(),
      environment: new SeededEnvironment(1),
      journalBytes: 65_536,
    };
    const store = await openDatabase({ ...options, segmentBytes });
    assert.equal(store.status().disk!.reserveBytes, expected);
    await store.close();
  }
});
