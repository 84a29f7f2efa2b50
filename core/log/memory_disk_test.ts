import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { Chance } from "../chance.ts";
import { NoSpace } from "./disk.ts";
import { MemoryDisk, PowerCut } from "./memory_disk.ts";

Deno.test("a file reads what was written, zeros in a gap, and nothing past its end", () => {
  const disk = new MemoryDisk();
  const file = disk.open("a", "create");
  file.write(bytesOf("hello"), 5000);
  const into = new Uint8Array(10);
  assert.equal(file.read(into, 4995), 10);
  assert.equal(textOf(into), "\0\0\0\0\0hello");
  assert.equal(file.read(into, 5003), 2);
  assert.equal(file.read(into, 9000), 0);
  assert.equal(file.size(), 5005);
});

Deno.test("a file agrees with a plain array, for writes and truncates at random over page borders", () => {
  for (let seed = 0; seed < 20; seed++) {
    const chance = new Chance(seed);
    const file = new MemoryDisk().open("a", "create");
    let expected: number[] = [];
    for (let i = 0; i < 50; i++) {
      const at = chance.below(20_000);
      if (chance.oneIn(4)) {
        expected = Array.from({ length: at }, (_, j) => expected[j] ?? 0);
        file.truncate(at);
      } else {
        const bytes = chance.bytes(chance.below(9000));
        for (let j = expected.length; j < at; j++) expected[j] = 0;
        bytes.forEach((byte, j) => expected[at + j] = byte);
        file.write(bytes, at);
      }
    }
    const found = new Uint8Array(file.size());
    file.read(found, 0);
    assert.deepEqual([...found], expected, `seed ${seed}`);
  }
});

Deno.test("open() finds only what there is, and empties what it creates again", () => {
  const disk = new MemoryDisk();
  assert.throws(() => disk.open("a", "read"), Deno.errors.NotFound);
  assert.throws(() => disk.open("a", "write"), Deno.errors.NotFound);
  assert.throws(() => disk.open("folder/a", "create"), Deno.errors.NotFound);
  disk.open("a", "create").write(bytesOf("old"), 0);
  assert.equal(disk.open("a", "create").size(), 0);
  assert.throws(() => disk.open("a", "read").write(bytesOf("x"), 0), /EBADF/);
});

Deno.test("folders list their names, and go with all that is in them", () => {
  const disk = new MemoryDisk();
  disk.makeFolder("/data/b/c");
  disk.open("/data/b/two", "create");
  disk.open("/data/b/one", "create");
  assert.deepEqual(disk.list("/data/b"), ["c", "one", "two"]);
  assert.deepEqual(disk.list("/data/none"), []);
  disk.rename("/data/b/one", "/data/b/two");
  assert.deepEqual(disk.files("/data"), ["/data/b/two"]);
  disk.remove("/data/b");
  disk.remove("/data/b");
  assert.equal(disk.exists("/data/b/two"), false);
  assert.deepEqual(disk.list("/data"), []);
});

Deno.test("a power cut keeps what was synced, for every seed", async () => {
  const disk = new MemoryDisk();
  const file = disk.open("a", "create");
  file.write(bytesOf("safe"), 0);
  await file.sync();
  await disk.syncFolder("");
  file.write(bytesOf("later"), 8192);
  for (let seed = 0; seed < 50; seed++) {
    const found = disk.clone().afterPowerCut(seed);
    assert.equal(textOf(found.contentOf("a").subarray(0, 4)), "safe");
  }
});

Deno.test("a power cut leaves any of the unsynced sectors, each whole as it was at some moment", async () => {
  const disk = new MemoryDisk();
  const file = disk.open("a", "create");
  file.write(filled(2048, 1), 0);
  await file.sync();
  await disk.syncFolder("");
  file.write(filled(2048, 2), 0);
  file.write(filled(1024, 3), 512);
  const endings = new Set<string>();
  for (let seed = 0; seed < 300; seed++) {
    const content = disk.clone().afterPowerCut(seed).contentOf("a");
    const sectors = [0, 512, 1024, 1536].map((at) => content.subarray(at, at + 512));
    for (const sector of sectors) assert.ok(sector.every((byte) => byte === sector[0]), "a sector is torn");
    endings.add(sectors.map((sector) => sector[0]).join(""));
  }
  for (const ending of ["1111", "2222", "2332", "1331", "2131", "1132"]) {
    assert.ok(endings.has(ending), `${ending} never came: ${[...endings].sort().join(" ")}`);
  }
  for (const ending of endings) assert.match(ending, /^[12][123][123][12]$/);
});

Deno.test("a power cut leaves an unsynced name there or not, old or new", async () => {
  const disk = new MemoryDisk();
  const old = disk.open("meta", "create");
  old.write(bytesOf("old"), 0);
  await old.sync();
  await disk.syncFolder("");
  const next = disk.open("meta.new", "create");
  next.write(bytesOf("new"), 0);
  await next.sync();
  disk.rename("meta.new", "meta");
  const contents = new Set<string>();
  for (let seed = 0; seed < 50; seed++) contents.add(textOf(disk.clone().afterPowerCut(seed).contentOf("meta")));
  assert.deepEqual([...contents].sort(), ["new", "old"]);
  await disk.syncFolder("");
  for (let seed = 0; seed < 50; seed++) {
    const found = disk.clone().afterPowerCut(seed);
    assert.deepEqual(found.files(), ["meta"]);
    assert.equal(textOf(found.contentOf("meta")), "new");
  }
});

Deno.test("a power cut may leave a removed folder there, half empty", async () => {
  const disk = new MemoryDisk();
  disk.makeFolder("f");
  for (const name of ["f/a", "f/b"]) disk.open(name, "create");
  await disk.syncFolder("f");
  await disk.syncFolder("");
  disk.remove("f");
  const endings = new Set<string>();
  for (let seed = 0; seed < 100; seed++) endings.add(disk.clone().afterPowerCut(seed).files().join(" "));
  assert.deepEqual([...endings].sort(), ["", "f/a", "f/a f/b", "f/b"]);
});

Deno.test("bytes written after a truncate that did not come through are not found in the old file", async () => {
  const disk = new MemoryDisk();
  const file = disk.open("a", "create");
  file.write(filled(2048, 1), 0);
  await file.sync();
  await disk.syncFolder("");
  file.truncate(512);
  file.write(filled(512, 2), 512);
  for (let seed = 0; seed < 100; seed++) {
    const content = disk.clone().afterPowerCut(seed).contentOf("a");
    if (content.length === 2048) assert.ok(content.every((byte) => byte === 1), `seed ${seed}`);
    else assert.ok(content.subarray(512).every((byte) => byte === 2 || byte === 0), `seed ${seed}`);
  }
});

Deno.test("powerCutAt(n) does the n-th effect in part and nothing after", async () => {
  const story = async (disk: MemoryDisk) => {
    const file = disk.open("a", "create"); // 1
    await disk.syncFolder(""); // 2
    file.write(filled(4096, 1), 0); // 3
    await file.sync(); // 4
  };
  const whole = new MemoryDisk();
  await story(whole);
  assert.equal(whole.effects, 4);
  const sizes = new Map<number, Set<number>>();
  for (let n = 1; n <= 4; n++) {
    sizes.set(n, new Set());
    for (let seed = 0; seed < 60; seed++) {
      const disk = new MemoryDisk({ seed });
      disk.powerCutAt(n);
      await assert.rejects(story(disk), PowerCut);
      assert.throws(() => disk.exists("a"), PowerCut);
      const found = disk.afterPowerCut(seed);
      sizes.get(n)!.add(found.exists("a") ? found.contentOf("a").length : -1);
    }
  }
  assert.deepEqual([...sizes.get(1)!].sort(), [-1, 0]);
  assert.deepEqual([...sizes.get(2)!].sort(), [-1, 0]);
  assert.ok(sizes.get(3)!.size > 3, "a write is torn anywhere");
  assert.ok(sizes.get(4)!.has(0) && sizes.get(4)!.has(4096), "a sync came through or did not");
});

Deno.test("a sync covers what was written before it, not what was written while it ran", async () => {
  const disk = new MemoryDisk();
  const file = disk.open("a", "create");
  await disk.syncFolder("");
  file.write(bytesOf("before"), 0);
  let release = () => {};
  disk.hooks.sync = () => new Promise((resolve) => release = resolve);
  const synced = file.sync();
  file.write(bytesOf("after!"), 512);
  release();
  await synced;
  const endings = new Set<number>();
  for (let seed = 0; seed < 50; seed++) {
    const content = disk.clone().afterPowerCut(seed).contentOf("a");
    assert.equal(textOf(content.subarray(0, 6)), "before");
    endings.add(content.length);
  }
  assert.ok(endings.has(6), "what was written meanwhile may be lost");
});

Deno.test("two syncs of one file at a time make durable what each of them covers", async () => {
  const disk = new MemoryDisk();
  const file = disk.open("a", "create");
  await disk.syncFolder("");
  file.write(bytesOf("one"), 0);
  const first = file.sync();
  const second = disk.open("a", "read").sync();
  file.write(bytesOf("two"), 512);
  await Promise.all([first, second]);
  const lengths = new Set<number>();
  for (let seed = 0; seed < 50; seed++) lengths.add(disk.clone().afterPowerCut(seed).contentOf("a").length);
  assert.ok(lengths.has(3), "the second sync covered more than it should");
});

Deno.test("after a sync that failed, later syncs succeed and what it should have covered may be lost", async () => {
  const lost = new Set<boolean>();
  for (let seed = 0; seed < 50; seed++) {
    const disk = new MemoryDisk({ seed });
    const file = disk.open("a", "create");
    await disk.syncFolder("");
    file.write(filled(512, 1), 0);
    disk.failSync(1);
    await assert.rejects(file.sync(), { code: "EIO" });
    file.write(filled(512, 2), 512);
    await file.sync();
    assert.equal(disk.contentOf("a")[0], 1, "readers see it still");
    const found = disk.afterPowerCut(seed).contentOf("a");
    assert.equal(found[512], 2);
    lost.add(found[0] !== 1);
  }
  assert.deepEqual([...lost].sort(), [false, true]);
});

Deno.test("a full disk takes a part, says NoSpace, and takes the rest when there is room", () => {
  const disk = new MemoryDisk({ capacityBytes: 100 });
  const file = disk.open("a", "create");
  assert.throws(() => file.write(filled(150, 1), 0), NoSpace);
  assert.equal(file.size(), 100);
  file.write(filled(100, 2), 0);
  assert.throws(() => file.truncate(101), NoSpace);
  assert.equal(disk.freeBytes(""), 0);
  disk.capacityBytes = 150;
  file.write(filled(150, 1), 0);
  disk.remove("a");
  assert.equal(disk.freeBytes(""), 150);
});

Deno.test("after a kill all that was written is there, the locks are not, and the old process can do nothing", async () => {
  const disk = new MemoryDisk();
  const lock = await disk.lock("lock");
  assert.notEqual(lock, null);
  assert.equal(await disk.lock("lock"), null);
  const file = disk.open("a", "create");
  file.write(bytesOf("unsynced"), 0);
  const next = disk.afterKill();
  assert.throws(() => file.write(bytesOf("too late"), 0), PowerCut);
  assert.equal(textOf(next.contentOf("a")), "unsynced");
  const again = await next.lock("lock");
  again!.release();
  assert.notEqual(await next.lock("lock"), null);
  assert.ok([0, 1, 2, 3].some((seed) => !next.clone().afterPowerCut(seed).exists("a")), "a kill makes nothing durable");
});

Deno.test("a copy and its original do not see each other's changes", () => {
  const disk = new MemoryDisk();
  const file = disk.open("a", "create");
  file.write(filled(8192, 1), 0);
  const copy = disk.clone();
  file.write(bytesOf("x"), 5000);
  copy.open("a", "write").write(bytesOf("y"), 100);
  copy.open("b", "create");
  assert.equal(disk.contentOf("a")[100], 1);
  assert.equal(copy.contentOf("a")[5000], 1);
  assert.equal(disk.exists("b"), false);
});

Deno.test("flip() and cut() change what is durable", async () => {
  const disk = new MemoryDisk();
  const file = disk.open("a", "create");
  file.write(filled(100, 1), 0);
  await file.sync();
  await disk.syncFolder("");
  disk.flip("a", 10, 0x80);
  disk.cut("a", 50);
  const found = disk.afterPowerCut(0).contentOf("a");
  assert.equal(found.length, 50);
  assert.equal(found[10], 0x81);
});

Deno.test("a hook makes a read or a write fail", () => {
  const disk = new MemoryDisk();
  const file = disk.open("a", "create");
  file.write(bytesOf("hello"), 0);
  disk.hooks.read = (path, offset) => {
    if (path === "a" && offset === 2) throw new Error("EIO");
  };
  assert.throws(() => file.read(new Uint8Array(1), 2), /EIO/);
  assert.equal(file.read(new Uint8Array(1), 1), 1);
});

Deno.test("the same seed loses the same bytes, another seed others", async () => {
  const run = async (seed: number) => {
    const disk = new MemoryDisk();
    const file = disk.open("a", "create");
    await disk.syncFolder("");
    file.write(new Chance(1).bytes(10_000), 0);
    file.write(new Chance(2).bytes(10_000), 3000);
    return disk.afterPowerCut(seed).contentOf("a").join();
  };
  const contents = new Set<string>();
  for (let seed = 0; seed < 20; seed++) {
    const content = await run(seed);
    assert.equal(await run(seed), content);
    contents.add(content);
  }
  assert.ok(contents.size > 5);
});

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function filled(length: number, byte: number): Uint8Array {
  return new Uint8Array(length).fill(byte);
}

Deno.test("a sync on the spot makes durable, asks the hook and fails like any other", async () => {
  const disk = new MemoryDisk();
  disk.makeFolder("/d");
  const file = disk.open("/d/f", "create");
  await disk.syncFolder("/");
  await disk.syncFolder("/d");
  file.write(new Uint8Array([1, 2, 3]), 0);
  file.syncHere();
  for (let seed = 1; seed <= 20; seed++) {
    assert.deepEqual(disk.clone().afterPowerCut(seed).contentOf("/d/f"), new Uint8Array([1, 2, 3]));
  }
  disk.hooks.sync = () => {
    throw new Error("EIO");
  };
  assert.throws(() => file.syncHere(), /EIO/);
  disk.hooks = {};
  disk.failSync(1);
  assert.throws(() => file.syncHere(), /EIO/);
  file.syncHere();
  file.close();
});

Deno.test("calls that move fewer bytes than they were asked to are repeated until all is done", () => {
  const disk = new MemoryDisk();
  const file = disk.open("a", "create");
  const chance = new Chance(1);
  let calls = 0;
  disk.hooks.shorten = (_path, length) => {
    calls++;
    return chance.between(1, length);
  };
  const bytes = chance.bytes(10_000);
  file.write(bytes, 100);
  const into = new Uint8Array(10_000);
  assert.equal(file.read(into, 100), 10_000);
  assert.deepEqual(into, bytes);
  assert.equal(file.read(into, 10_000), 100, "there are no more");
  assert.ok(calls > 6, `only ${calls} calls`);
});

Deno.test("a write that fails after a short call leaves what that one wrote", () => {
  const disk = new MemoryDisk();
  const file = disk.open("a", "create");
  let calls = 0;
  disk.hooks.shorten = () => 3;
  disk.hooks.write = () => {
    if (++calls === 2) throw new Error("EIO");
  };
  assert.throws(() => file.write(bytesOf("hello"), 0), /EIO/);
  assert.equal(textOf(disk.contentOf("a")), "hel");
});

Deno.test("a slow sync takes turns of the event loop, and one on the spot does not", async () => {
  const disk = new MemoryDisk();
  const file = disk.open("a", "create");
  disk.hooks.slow = () => 3;
  file.write(bytesOf("x"), 0);
  const synced = file.sync().then(() => "synced");
  for (let turns = 0; turns < 2; turns++) await new Promise((resolve) => void setImmediate(resolve));
  assert.equal(await Promise.race([synced, Promise.resolve("not yet")]), "not yet");
  assert.equal(await synced, "synced");
  file.syncHere();
});

Deno.test("a file that is lost does not come back with the power", async () => {
  const disk = new MemoryDisk();
  const file = disk.open("a", "create");
  file.write(bytesOf("x"), 0);
  disk.open("b", "create").close();
  const { effects } = disk;
  disk.lose("a");
  assert.equal(disk.effects, effects, "nobody did that");
  for (let seed = 0; seed < 20; seed++) assert.deepEqual(disk.clone().afterPowerCut(seed).exists("a"), false);
  await disk.syncFolder("");
  assert.deepEqual(disk.afterPowerCut(1).list(""), ["b"]);
});

Deno.test("a power cut counts the writes that it tore, and those that came before earlier ones", () => {
  let torn = 0;
  let outOfOrder = 0;
  for (let seed = 0; seed < 40; seed++) {
    const disk = new MemoryDisk();
    const file = disk.open("a", "create");
    for (let i = 0; i < 4; i++) file.write(new Uint8Array(4096), i * 4096);
    const { wounds } = disk.afterPowerCut(seed);
    torn += wounds.tornWrites;
    outOfOrder += wounds.writesOutOfOrder;
  }
  assert.ok(torn > 5, `${torn} torn`);
  assert.ok(outOfOrder > 5, `${outOfOrder} out of order`);
});
