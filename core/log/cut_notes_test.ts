import assert from "node:assert/strict";
import { CutNotes, cutNotesPath, readCutNotes } from "./cut_notes.ts";
import { Chain } from "./format.ts";
import { BLOCK_BYTES, type LogEnd } from "./journal_format.ts";
import { MemoryDisk } from "./memory_disk.ts";

const FOLDER = "/data/journal";
const SALT = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
const BUCKETS = 3;

function endOf(number: number): LogEnd {
  const chain = new Chain(0xf000_0000 + number, number);
  return { segment: number, offset: 48 + number, logIndex: 2 ** 40 + number, chain, lost: false };
}

async function opened(): Promise<{ disk: MemoryDisk; notes: CutNotes }> {
  const disk = new MemoryDisk();
  disk.makeFolder(FOLDER);
  for (const folder of ["", "/data"]) await disk.syncFolder(folder);
  return { disk, notes: await CutNotes.open(disk, FOLDER, SALT, BUCKETS) };
}

const read = (disk: MemoryDisk, salt = SALT) => readCutNotes(disk, FOLDER, salt, BUCKETS);

Deno.test("cut notes: where there is none, none is read", async () => {
  assert.deepEqual(read(new MemoryDisk()), [null, null, null]);
  const { disk } = await opened();
  assert.deepEqual(read(disk), [null, null, null]);
});

Deno.test("cut notes: of each bucket the newest one is read back, and is durable at once", async () => {
  const { disk, notes } = await opened();
  for (let i = 1; i <= 5; i++) {
    notes.note(0, 100 + i, endOf(i));
    if (i < 4) notes.note(2, 200 + i, endOf(10 + i));
    const found = read(disk.clone().afterPowerCut(i));
    assert.deepEqual(found[0], { number: i, batch: 100 + i, end: endOf(i) });
    assert.equal(found[1], null);
    assert.deepEqual(found[2], {
      number: Math.min(i, 3),
      batch: 200 + Math.min(i, 3),
      end: endOf(10 + Math.min(i, 3)),
    });
  }
  notes.close();
});

Deno.test("cut notes: a note that is flipped, torn or of another folder is none, and the one before it counts", async () => {
  const { disk, notes } = await opened();
  notes.note(1, 7, endOf(1));
  notes.note(1, 8, endOf(2));
  assert.deepEqual(read(disk, SALT.toReversed()), [null, null, null]);
  const path = cutNotesPath(FOLDER);
  const newest = 2 * BLOCK_BYTES; // Notes with even numbers stand in the first block.
  for (let at = 0; at < 56; at++) {
    const flipped = disk.clone();
    flipped.flip(path, newest + at, 1 << at % 8);
    assert.deepEqual(read(flipped)[1], { number: 1, batch: 7, end: endOf(1) }, `byte ${at}`);
  }
  for (const bytes of [0, newest, newest + 1, newest + 55]) {
    const short = disk.clone();
    short.cut(path, bytes);
    assert.equal(read(short)[1], null, `${bytes} bytes`);
  }
  // Opened again, a file that was cut is as long as it must be.
  const short = disk.clone();
  short.cut(path, newest + 10);
  await CutNotes.open(short, FOLDER, SALT, BUCKETS);
  assert.equal(short.contentOf(path).length, 2 * BUCKETS * BLOCK_BYTES);
});

Deno.test("cut notes: whoever opens them again lets none of them count", async () => {
  const { disk, notes } = await opened();
  notes.note(0, 7, endOf(1));
  notes.note(0, 8, endOf(2));
  notes.close();
  const again = await CutNotes.open(disk, FOLDER, SALT, BUCKETS);
  assert.equal(read(disk)[0]!.batch, 0);
  again.note(0, 3, endOf(3)); // Later than all before it, whatever its batch.
  assert.deepEqual(read(disk)[0], { number: 4, batch: 3, end: endOf(3) });
});

Deno.test("cut notes: a power cut while one is written leaves it or the one before it", async () => {
  for (let seed = 1; seed <= 40; seed++) {
    const { disk, notes } = await opened();
    notes.note(0, 7, endOf(1));
    disk.powerCutAt(disk.effects + 1 + seed % 2);
    assert.throws(() => notes.note(0, 8, endOf(2)), { name: "PowerCut" });
    const { number } = read(disk.afterPowerCut(seed))[0]!;
    assert.ok(number === 1 || number === 2);
  }
});
