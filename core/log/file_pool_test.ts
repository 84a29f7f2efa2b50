import assert from "node:assert/strict";
import { FilePool } from "./file_pool.ts";
import { MemoryDisk } from "./memory_disk.ts";

/** A disk that counts its open files, of which there may be so many. */
class CountingDisk extends MemoryDisk {
  openFiles = 0;
  openFilesMax = Infinity;

  override open(...args: Parameters<MemoryDisk["open"]>) {
    const file = super.open(...args);
    const close = file.close.bind(file);
    this.openFiles++;
    file.close = () => {
      this.openFiles--;
      close();
    };
    return file;
  }

  filesAreShort(): boolean {
    return this.openFiles > this.openFilesMax;
  }
}

function diskOf(files: number): CountingDisk {
  const disk = new CountingDisk();
  disk.makeFolder("/d");
  for (let i = 0; i < files; i++) {
    const file = disk.open(`/d/${i}`, "create");
    file.write(new Uint8Array([i]), 0);
    file.close();
  }
  return disk;
}

function readAll(pool: FilePool, files: number): void {
  for (let i = 0; i < files; i++) {
    const byte = new Uint8Array(1);
    assert.equal(pool.read(`/d/${i}`, byte, 0), 1);
    assert.equal(byte[0], i);
  }
}

Deno.test("FilePool: holds no more files open than it may, and all can be read", () => {
  const disk = diskOf(50);
  const pool = new FilePool(disk, 20);
  readAll(pool, 50);
  assert.equal(disk.openFiles, 20);
  pool.close();
  assert.equal(disk.openFiles, 0);
});

Deno.test("FilePool: when the system gives fewer it makes do with half, and leaves the rest to others", () => {
  const disk = diskOf(100);
  const pool = new FilePool(disk);
  disk.openFilesMax = 40;
  readAll(pool, 100);
  assert.equal(disk.openFiles, 20);
  disk.openFilesMax = 0; // Others have taken all.
  readAll(pool, 100);
  assert.equal(disk.openFiles, 8);
  pool.close();
  assert.equal(disk.openFiles, 0);
});
