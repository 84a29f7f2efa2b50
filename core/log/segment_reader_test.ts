import assert from "node:assert/strict";
import { openDatabase } from "../database.ts";
import { SeededEnvironment } from "../seeded_environment.ts";
import { FilePool } from "./file_pool.ts";
import { SEGMENT_HEADER_BYTES } from "./format.ts";
import { MemoryDisk } from "./memory_disk.ts";
import { FrameReader, SCAN_BYTES } from "./segment_reader.ts";

const PATH = "/data/buckets/00000/segments/0000000000/data.evts";

/** The disk of a store with one event of this name. */
async function diskWith(name: string): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  const environment = new SeededEnvironment(1);
  await using store = await openDatabase({
    dir: "/data",
    disk,
    environment,
    partitionCount: 1,
    journalBytes: 32 * 1024,
  });
  await store.append({ events: [{ streamId: "s", name }] });
  return disk;
}

Deno.test("a reader reads again what was taken back and written anew in its place", async () => {
  const disk = await diskWith("Taken back");
  const pool = new FilePool(disk);
  const reader = new FrameReader(pool, SCAN_BYTES);
  const nameAt = () => {
    const frame = reader.frame(PATH, SEGMENT_HEADER_BYTES);
    frame.next();
    return frame.record().name;
  };
  assert.equal(nameAt(), "Taken back");
  disk.open(PATH, "write").write((await diskWith("Came after")).contentOf(PATH), 0);
  assert.equal(nameAt(), "Taken back", "nobody said that anything was taken back");
  pool.generation++;
  assert.equal(nameAt(), "Came after");
  pool.close();
});
