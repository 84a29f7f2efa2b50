import assert from "node:assert/strict";
import { type Database, type DatabaseOptions, openDatabase } from "../database.ts";
import { DiskFull } from "../errors.ts";
import { amongTheDead } from "../life.ts";
import { readMeta, saltOf } from "../meta.ts";
import { SeededEnvironment } from "../seeded_environment.ts";
import { Chain } from "./format.ts";
import { batchesIn, decodeJournalHeader, encodeJournalHeader, type JournalHeader } from "./journal_format.ts";
import { MemoryDisk } from "./memory_disk.ts";

const DIR = "/data";
const SIZES = { partitionCount: 2, bucketCount: 2, segmentBytes: 8 * 1024, journalBytes: 32 * 1024 };

function open(disk: MemoryDisk, options: Partial<DatabaseOptions> = {}): Promise<Database> {
  return openDatabase({ dir: DIR, disk, environment: new SeededEnvironment(1), ...SIZES, ...options });
}

/** Waits for `promise`, but not for one of a store whose disk is gone. */
async function untilGone(promise: Promise<unknown>): Promise<void> {
  let over = false;
  promise.then(() => over = true, () => over = true);
  for (let turns = 0; turns < 2000 && !over; turns++) await null;
}

/**
 * Cuts the power at each effect of what is done to a disk, each time to another one, until it comes through. Returns how
 * many times that was, with the last one.
 */
async function cutAtEachEffect(
  make: (n: number) => MemoryDisk | Promise<MemoryDisk>,
  act: (disk: MemoryDisk) => Promise<unknown>,
  look: (disk: MemoryDisk, n: number) => Promise<void>,
): Promise<number> {
  for (let n = 1;; n++) {
    const disk = await make(n);
    disk.powerCutAt(disk.effects + n);
    await untilGone(act(disk));
    if (!disk.isGone) return n;
    await look(disk, n);
  }
}

/** Whatever a power cut leaves of a disk that is gone, a store opens on it and finds so many damaged buckets. */
async function holdDamage(
  disk: MemoryDisk,
  n: number,
  count: number,
  seeds: number,
  options?: Partial<DatabaseOptions>,
) {
  for (let seed = 0; seed < seeds; seed++) {
    const again = await open(disk.clone().afterPowerCut(seed), options);
    assert.equal(again.status().damage.length, count, `effect ${n}, seed ${seed}`);
  }
}

for (const name of ["a", "b"]) {
  Deno.test(`recovery: that journal file ${name} was cut is not forgotten, though nothing is appended after it`, async () => {
    let disk = new MemoryDisk();
    const store = await open(disk);
    await store.append({ events: [{ streamId: "s", name: "E" }] });
    await store.close();
    disk.cut(`${DIR}/journal/${name}`, 4096);
    for (let time = 0; time < 4; time++) {
      const again = await open(disk);
      assert.equal(again.status().damage.length, 2, `start ${time}`);
      if (time % 2 === 1) await again.close();
      disk = disk.afterKill();
    }
  });
}

for (const name of ["a", "b"]) {
  Deno.test(`recovery: that journal file ${name} was missing is not forgotten, wherever the start that found it was cut off`, () =>
    amongTheDead(async () => {
      const first = new MemoryDisk();
      const store = await open(first);
      for (let i = 0; i < 4; i++) await store.append({ events: [{ streamId: `s${i}`, name: "E" }] });
      const found = first.afterKill();
      found.remove(`${DIR}/journal/${name}`);
      await found.syncFolder(`${DIR}/journal`);
      const effects = await cutAtEachEffect(
        () => found.afterKill(),
        (disk) => open(disk),
        (disk, n) => holdDamage(disk, n, 2, 20),
      );
      assert.ok(effects > 8, `only ${effects} effects`);
    }));
}

Deno.test("recovery: of two headers without a batch in between the later one knows how long the files are", async () => {
  let disk = new MemoryDisk();
  const store = await open(disk);
  disk.cut(`${DIR}/journal/b`, 116); // It is made whole again at the next start.
  await store.close();
  const again = await open(disk);
  for (let i = 0; i < 4; i++) await again.append({ events: [{ streamId: "s", name: "E" }] });
  disk = disk.afterKill();
  disk.cut(`${DIR}/journal/b`, 8192);
  assert.equal((await open(disk)).status().damage.length, 2);
});

Deno.test("recovery: a loss is not forgotten with the header that told of it", async () => {
  for (const name of ["a", "b"]) {
    let disk = new MemoryDisk();
    const store = await open(disk);
    for (let i = 0; i < 4; i++) await store.append({ events: [{ streamId: "s", name: "E" }] });
    disk = disk.afterPowerCut(1);
    disk.flip(`${DIR}/journal/b`, 4096 + 40, 1);
    disk.flip(`${DIR}/journal/a`, 4096 + 40, 1);
    const told = (await open(disk)).status().damage.length;
    assert.ok(told > 0);
    disk = disk.afterKill();
    disk.flip(`${DIR}/journal/${name}`, 30, 1);
    assert.equal((await open(disk)).status().damage.length, told, `the header of ${name}`);
  }
});

Deno.test("recovery: a start does not write over the newest header before there is a newer one", async () => {
  const disk = new MemoryDisk();
  const store = await open(disk);
  const salt = saltOf(readMeta(disk, DIR)!);
  /** The journal file with the newest header, and the only batch that it holds; null when it holds more. */
  const justBegun = () => {
    const files = ["a", "b"].map((name) => {
      const bytes = disk.contentOf(`${DIR}/journal/${name}`);
      const header = decodeJournalHeader(bytes, salt);
      assert.ok(typeof header !== "string", String(header));
      const batches = [...batchesIn((offset, length) => bytes.subarray(offset, offset + length), bytes.length, salt)];
      return { name, header, own: batches.filter(({ number }) => number >= header.firstBatch) };
    });
    const newest = files[0]!.header.number > files[1]!.header.number ? files[0]! : files[1]!;
    return newest.header.redoFrom < newest.header.firstBatch && newest.own.length === 1 ? newest : null;
  };
  let found = null;
  for (let appends = 0; appends < 30 && found === null; appends++) {
    await store.append({ events: [{ streamId: "s", name: "E", payload: "x".repeat(4500) }] });
    found = justBegun();
  }
  assert.ok(found !== null, "the journal changed its file");
  // Its first batch is torn: the last whole one is in the other file. All that has to be redone stands in this header.
  const path = `${DIR}/journal/${found.name}`;
  const killed = disk.afterKill();
  killed.flip(path, found.own[0]!.offset + 40, 1);
  const written: string[] = [];
  killed.hooks.write = (path, offset) => {
    if (offset === 0 && path.includes("/journal/")) written.push(path);
  };
  await (await open(killed)).close();
  assert.ok(written.length >= 2);
  assert.notEqual(written[0], path);
});

Deno.test("recovery: a folder without its meta file is not made anew once it was open, though nothing else is left", async () => {
  const disk = new MemoryDisk();
  await (await open(disk)).close();
  disk.lose(`${DIR}/meta.json`);
  disk.remove(`${DIR}/buckets`); // As a power cut may have left it.
  await assert.rejects(open(disk), /meta\.json is damaged at offset 0: it is missing, and the folder has data/);
});

Deno.test("recovery: a journal file that cannot be read stops the start, with file and offset", async () => {
  let disk = new MemoryDisk();
  const store = await open(disk);
  await store.append({ events: [{ streamId: "s", name: "E" }] });
  disk = disk.afterKill();
  disk.hooks.read = (path, offset, length) => {
    const isBad = path.endsWith("journal/b") && offset <= 4096 && offset + length > 4096;
    if (isBad) throw Object.assign(new Error("EIO: i/o error, read"), { code: "EIO" });
  };
  await assert.rejects(open(disk), /journal\/b is damaged at offset 0: it cannot be read: EIO/);
  disk.hooks = {};
  const again = await open(disk);
  assert.equal(await again.streamVersion("s"), 0);
  await again.close();
});

Deno.test("recovery: a header of another layout is refused at once, whatever numbers it seems to have", async () => {
  const ends = [0, 1].map((bucket) => ({
    segment: 0,
    offset: 48,
    logIndex: 0,
    chain: Chain.ofBucket(bucket),
    lost: false,
  }));
  const header: JournalHeader = {
    ...{ number: 9, firstBatch: 2, redoFrom: 1, fileBytes: [32 * 1024, 32 * 1024], ends },
    states: ends.map(({ logIndex }) => ({ committed: logIndex, hard: null })),
  };
  for (const other of [{ firstBatch: 2 ** 52 }, { firstBatch: NaN }, { redoFrom: 0 }, { firstBatch: 2, redoFrom: 3 }]) {
    const disk = new MemoryDisk();
    const store = await open(disk);
    await store.append({ events: [{ streamId: "s", name: "E" }] });
    const killed = disk.afterKill();
    const bytes = encodeJournalHeader({ ...header, ...other }, saltOf(readMeta(killed, DIR)!));
    for (const name of ["a", "b"]) killed.open(`${DIR}/journal/${name}`, "write").write(bytes, 0);
    const told = await open(killed).then((store) => store.status().damage[0]?.reason, (error: Error) => error.name);
    assert.match(String(told), /missing|Damaged/, JSON.stringify(other));
  }
});

Deno.test("recovery: a close after a sync failed leaves all that was acknowledged", () =>
  amongTheDead(async () => {
    let failures = 0;
    for (let n = 1; n < 60; n++) {
      const disk = new MemoryDisk({ seed: n });
      const environment = new SeededEnvironment(n);
      const store = await open(disk, { environment });
      const acknowledged: string[] = [];
      disk.failSync(n);
      for (let i = 0; i < 80 && environment.fatalReasons.length === 0; i++) {
        await store.append({ events: [{ streamId: `s${i}`, name: "E", payload: "x".repeat(50) }] })
          .then(({ events }) => acknowledged.push(events[0]!.eventId), () => {});
      }
      if (environment.fatalReasons.length === 0) continue;
      failures++;
      await store.close().catch(() => {});
      const again = await open(disk.afterPowerCut(n));
      for (const id of acknowledged) assert.equal((await again.event(id))?.eventId, id, `sync ${n}`);
      await again.close();
    }
    assert.ok(failures > 20, `${failures} failures`);
  }));

Deno.test("recovery: a process killed while it made the folder takes nothing with it in a later power cut", () =>
  amongTheDead(async () => {
    const effects = await cutAtEachEffect(() => new MemoryDisk(), (disk) => open(disk), async (first, n) => {
      for (let seed = 0; seed < 6; seed++) {
        const disk = first.afterKill();
        const store = await open(disk);
        const { events } = await store.append({ events: [{ streamId: "s", name: "E" }] });
        const again = await open(disk.afterPowerCut(seed));
        assert.notEqual(await again.event(events[0]!.eventId), null, `effect ${n}, seed ${seed}`);
      }
    });
    assert.ok(effects > 10, `only ${effects} effects`);
  }));

Deno.test("recovery: a power cut while the folder is made leaves one that opens", () =>
  amongTheDead(async () => {
    const effects = await cutAtEachEffect(() => new MemoryDisk(), (disk) =>
      open(disk), (disk, n) =>
      holdDamage(disk, n, 0, 40));
    assert.ok(effects > 10, `only ${effects} effects`);
  }));

Deno.test("recovery: a power cut while the journal is lengthened for a large batch is no damage", () =>
  amongTheDead(async () => {
    for (let n = 1; n <= 6; n++) {
      const disk = new MemoryDisk({ seed: n });
      const store = await open(disk, { segmentBytes: 200_000 });
      await store.append({ events: [{ streamId: "s", name: "E" }] });
      disk.powerCutAt(disk.effects + n);
      await untilGone(store.append({ events: [{ streamId: "s", name: "E", payload: new Uint8Array(100_000) }] }));
      for (let seed = 0; seed < 60; seed++) {
        const again = await open(disk.clone().afterPowerCut(seed), { segmentBytes: 200_000 });
        assert.deepEqual(again.status().damage, [], `effect ${n}, seed ${seed}`);
        assert.notEqual(await again.streamVersion("s"), null);
      }
    }
  }));

const LARGE = { events: [{ streamId: "s", name: "E", payload: new Uint8Array(100_000) }] };
const FOR_LARGE = { segmentBytes: 200_000 };

/** A store whose journal was lengthened for a large batch as far as there was room, which was not far enough. */
async function withHalfLengthenedJournal(disk: MemoryDisk): Promise<Database> {
  const store = await open(disk, FOR_LARGE);
  await store.append({ events: [{ streamId: "s", name: "E" }] });
  disk.capacityBytes = disk.usedBytes + 50_000;
  await assert.rejects(store.append(LARGE), DiskFull);
  return store;
}

Deno.test("recovery: a power cut while a store closes whose journal was lengthened in part is no damage", () =>
  amongTheDead(async () => {
    let store: Database;
    const effects = await cutAtEachEffect(
      async (seed) => {
        const disk = new MemoryDisk({ seed });
        store = await withHalfLengthenedJournal(disk);
        return disk;
      },
      () => store.close(),
      (disk, n) => holdDamage(disk, n, 0, 60, FOR_LARGE),
    );
    assert.ok(effects > 3, `only ${effects} effects`);
  }));

Deno.test("recovery: a power cut while a store opens whose journal a killed one lengthened in part is no damage", () =>
  amongTheDead(async () => {
    const effects = await cutAtEachEffect(
      async (seed) => {
        const disk = new MemoryDisk({ seed });
        await withHalfLengthenedJournal(disk);
        return disk.afterKill();
      },
      (disk) => open(disk, FOR_LARGE),
      (disk, n) => holdDamage(disk, n, 0, 60, FOR_LARGE),
    );
    assert.ok(effects > 3, `only ${effects} effects`);
  }));
