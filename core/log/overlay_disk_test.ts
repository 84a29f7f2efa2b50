import assert from "node:assert/strict";
import { Chance } from "../chance.ts";
import { MemoryDisk } from "./memory_disk.ts";
import { OverlayDisk } from "./overlay_disk.ts";

const write = (disk: MemoryDisk | OverlayDisk, path: string, bytes: Uint8Array, offset: number) => {
  const file = disk.open(path, "write");
  file.write(bytes, offset);
  file.close();
};

function contentOf(disk: MemoryDisk | OverlayDisk, path: string): Uint8Array {
  const file = disk.open(path, "read");
  const bytes = new Uint8Array(file.size());
  assert.equal(file.read(bytes, 0), bytes.length);
  file.close();
  return bytes;
}

Deno.test("a file over another reads as if it had been written, for random writes and cuts, and that one stays", () => {
  const chance = new Chance(1);
  for (let round = 0; round < 50; round++) {
    const below = new MemoryDisk();
    below.makeFolder("/d");
    below.open("/d/f", "create").close();
    const original = Uint8Array.from({ length: chance.below(20_000) }, () => chance.below(256));
    write(below, "/d/f", original, 0);
    const twin = below.clone();
    const overlay = new OverlayDisk(below);
    for (let step = 0; step < 20; step++) {
      if (chance.below(4) === 0) {
        const size = chance.below(25_000);
        overlay.open("/d/f", "write").truncate(size);
        const file = twin.open("/d/f", "write");
        file.truncate(size);
        file.close();
      } else {
        const bytes = Uint8Array.from({ length: 1 + chance.below(9000) }, () => chance.below(256));
        const offset = chance.below(20_000);
        write(overlay, "/d/f", bytes, offset);
        write(twin, "/d/f", bytes, offset);
      }
      assert.deepEqual(contentOf(overlay, "/d/f"), contentOf(twin, "/d/f"));
    }
    assert.deepEqual(contentOf(below, "/d/f"), original);
  }
});

Deno.test("what is made, renamed and removed is seen above and not below", () => {
  const below = new MemoryDisk();
  below.makeFolder("/d/e");
  make(below, "/d/e/old");
  const overlay = new OverlayDisk(below);
  overlay.makeFolder("/d/new");
  make(overlay, "/d/new/x.tmp");
  overlay.rename("/d/new/x.tmp", "/d/new/x");
  assert.deepEqual(overlay.list("/d"), ["e", "new"]);
  assert.deepEqual(overlay.list("/d/new"), ["x"]);
  overlay.remove("/d/e");
  assert(!overlay.exists("/d/e/old"));
  assert.throws(() => overlay.open("/d/e/old", "read"), Deno.errors.NotFound);
  assert.deepEqual(overlay.list("/d"), ["new"]);
  assert.deepEqual(below.list("/d"), ["e"]);
  assert(below.exists("/d/e/old"));
});

function make(disk: MemoryDisk | OverlayDisk, path: string): void {
  const file = disk.open(path, "create");
  file.write(new Uint8Array(3), 0);
  file.close();
}
