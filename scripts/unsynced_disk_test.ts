import assert from "node:assert/strict";
import { Chance } from "../core/chance.ts";
import { MemoryDisk } from "../core/log/memory_disk.ts";
import { type Disk, systemDisk } from "../core/log/disk.ts";
import { UnsyncedDisk } from "./unsynced_disk.ts";

/** Seeds, because each decides otherwise what is written early. */
async function forSeeds(body: (disk: UnsyncedDisk, root: string, seed: number) => Promise<void>): Promise<void> {
  for (let seed = 0; seed < 20; seed++) {
    const folder = Deno.makeTempDirSync({ prefix: "esker-unsynced-" });
    const root = `${folder}/root`;
    Deno.mkdirSync(root);
    try {
      await body(new UnsyncedDisk({ root, aside: `${folder}/aside`, seed, syncMsMax: 0 }), root, seed);
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  }
}

function contentOf(disk: Disk, path: string): Uint8Array {
  const file = disk.open(path, "read");
  const bytes = new Uint8Array(file.size());
  assert.equal(file.read(bytes, 0), bytes.length);
  file.close();
  return bytes;
}

/** All files below a folder, with their bytes. */
function filesOf(disk: Disk, folder: string, isFolder: (path: string) => boolean): Record<string, Uint8Array> {
  const files: Record<string, Uint8Array> = {};
  const walk = (path: string) => {
    for (const name of disk.list(path)) {
      const one = `${path}/${name}`;
      if (isFolder(one)) walk(one);
      else files[one.slice(folder.length)] = contentOf(disk, one);
    }
  };
  walk(folder);
  return files;
}

const isFolder = (path: string) => Deno.statSync(path).isDirectory;

Deno.test("UnsyncedDisk: what the process reads is what a disk in memory has, and synced it is on the real one", () =>
  forSeeds(async (disk, root, seed) => {
    const chance = new Chance(seed);
    const twin = new MemoryDisk({ seed });
    twin.makeFolder(root);
    const folders = [root, `${root}/a`, `${root}/a/b`];
    for (let step = 0; step < 200; step++) {
      const folder = chance.pick(folders),
        path = `${folder}/${chance.below(4)}`,
        other = `${folder}/${chance.below(4)}`;
      const act = chance.below(8), size = chance.below(3000), offset = chance.below(5000);
      const bytes = chance.bytes(size);
      for (const one of [disk, twin]) {
        if (!one.exists(folder)) one.makeFolder(folder);
        if (act === 0) one.remove(chance.seed % 5 === 0 && step === 100 ? `${root}/a` : path);
        else if (!one.exists(path)) one.open(path, "create").close();
        else if (act === 1) { if (path !== other) one.rename(path, other); }
        else {
          const file = one.open(path, act === 2 ? "create" : "write");
          if (act === 3) file.truncate(offset);
          else file.write(bytes, offset);
          if (act === 4) await file.sync();
          file.close();
        }
        if (act === 5) await one.syncFolder(folder);
      }
      assert.deepEqual(disk.list(folder), twin.list(folder));
      if (disk.exists(path)) assert.deepEqual(contentOf(disk, path), contentOf(twin, path));
    }
    for (const folder of folders) await disk.syncFolder(folder);
    const expected = Object.fromEntries(
      twin.files(root).map((path) => [path.slice(root.length), twin.contentOf(path)]),
    );
    for (const path of Object.keys(expected)) await disk.open(root + path, "write").sync();
    assert.deepEqual(filesOf(systemDisk, root, isFolder), expected);
  }));

Deno.test("UnsyncedDisk: a file that was not synced has, by sectors, what it had or what was written", async () => {
  let kept = 0, lost = 0;
  await forSeeds(async (disk, root) => {
    const file = disk.open(`${root}/file`, "create");
    file.write(new Uint8Array(8 * 512).fill(1), 0);
    await file.sync();
    await disk.syncFolder(root);
    for (let sector = 0; sector < 8; sector++) file.write(new Uint8Array(512).fill(2), sector * 512);
    const real = contentOf(systemDisk, `${root}/file`);
    assert.equal(real.length, 8 * 512);
    for (let sector = 0; sector < 8; sector++) {
      const bytes = real.subarray(sector * 512, (sector + 1) * 512);
      assert(bytes.every((byte) => byte === bytes[0]), "a sector by half");
      if (bytes[0] === 2) kept++;
      else lost++;
    }
  });
  assert(kept > 0 && lost > kept, `${kept} sectors were written early, ${lost} were not`);
});

Deno.test("UnsyncedDisk: a name that was not synced is there or not, and a rename never leaves neither", async () => {
  let made = 0, renamed = 0;
  await forSeeds(async (disk, root) => {
    const file = disk.open(`${root}/new`, "create");
    file.write(new Uint8Array([1]), 0);
    await file.sync();
    if (systemDisk.exists(`${root}/new`)) made++;
    await disk.syncFolder(root);
    assert.deepEqual(contentOf(systemDisk, `${root}/new`), new Uint8Array([1]));
    disk.rename(`${root}/new`, `${root}/name`);
    const [name, ...more] = systemDisk.list(root);
    assert.deepEqual(more, []);
    if (name === "name") renamed++;
    disk.remove(`${root}/name`);
    await disk.syncFolder(root);
    assert.deepEqual(systemDisk.list(root), []);
  });
  assert(made > 0 && made < 20 && renamed > 0 && renamed < 20, `${made} names, ${renamed} renames of 20 came early`);
});

Deno.test("UnsyncedDisk: one that lies syncs nothing", () =>
  forSeeds(async (disk, root) => {
    const file = disk.open(`${root}/file`, "create");
    await disk.syncFolder(root);
    disk.lies = true;
    file.write(new Uint8Array(512 * 1024).fill(1), 0);
    await file.sync();
    const real = contentOf(systemDisk, `${root}/file`);
    assert(real.length < 512 * 1024 || real.includes(0));
  }));
