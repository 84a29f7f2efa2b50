import assert from "node:assert/strict";
import { openDatabase } from "./database.ts";
import { systemDisk } from "./log/disk.ts";
import { MemoryDisk } from "./log/memory_disk.ts";
import { SeededEnvironment } from "./seeded_environment.ts";
import { storeSuite } from "./store_suite.ts";

/** A transaction has to fit a segment: this takes a payload of 1 MiB. */
const SEGMENT_BYTES = 1.5 * 1024 * 1024;

storeSuite("database on memory disk", async () => {
  const options = {
    dir: "/data",
    partitionCount: 32,
    bucketCount: 4,
    segmentBytes: SEGMENT_BYTES,
    journalBytes: 256 * 1024,
    disk: new MemoryDisk(),
    environment: new SeededEnvironment(1),
  };
  return {
    store: await openDatabase(options),
    reopen: () => openDatabase(options),
    now: () => options.environment.nowMs,
  };
});

storeSuite("database on files", async () => {
  const dir = await Deno.makeTempDir({ prefix: "esker-" });
  const options = { dir, segmentBytes: SEGMENT_BYTES, journalBytes: 1024 * 1024, disk: systemDisk };
  return {
    store: await openDatabase({ ...options, partitionCount: 32, bucketCount: 4 }),
    reopen: () => openDatabase(options),
    end: () => Deno.remove(dir, { recursive: true }),
  };
});

Deno.test("when a sync fails, the process is asked to end before anybody hears of it", async () => {
  const disk = new MemoryDisk();
  const environment = new SeededEnvironment(1);
  const store = await openDatabase({ dir: "/data", disk, environment, partitionCount: 1, journalBytes: 32 * 1024 });
  disk.failSync(1);
  const reasons = await new Promise<number>((resolve) => {
    const told = () => resolve(environment.fatalReasons.length);
    store.appendFor({ events: [{ streamId: "s", name: "E" }] }, { stored: told, refused: told });
  });
  assert.equal(reasons, 1);
  await assert.rejects(store.append({ events: [{ streamId: "s", name: "E" }] }));
  await store.close();
});
