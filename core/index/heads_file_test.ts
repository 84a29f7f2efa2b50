/**
 * The heads of many segments in one file, against the simplest thing that could be right: a map.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../chance.ts";
import { FilePool } from "../log/file_pool.ts";
import { MemoryDisk } from "../log/memory_disk.ts";
import { SeededEnvironment } from "../seeded_environment.ts";
import { BlockCache } from "./block_cache.ts";
import { type Head, word0, word1, word2 } from "./heads.ts";
import { HeadsFile, writeHeadsFile } from "./heads_file.ts";
import { type IndexContext, IndexDamaged, runSliced, type SegmentIdentity, SegmentIndex } from "./segment_index.ts";

const PATH = "bucket/heads.hidx";

interface Sealed {
  index: SegmentIndex;
  identity: SegmentIdentity;
}

/** Segments one after the other, in which streams go on; what is newest of each is written down. */
class Bucket {
  readonly newest = new Map<string, Head>();
  readonly keys: Uint8Array[];
  readonly #versions = new Map<string, number>();
  /** What a segment's index does not say. */
  readonly #heads = new Map<string, { more: number; sequence: number }>();
  #logIndex = 0;
  #sequence = 0;

  constructor(readonly context: IndexContext, readonly chance: Chance, streams: number) {
    this.keys = Array.from({ length: streams }, () => chance.bytes(16));
  }

  /** `busy`: half of all events are of one stream. */
  async segment(number: number, events: number, busy = false): Promise<Sealed> {
    const folder = `bucket/${number}`;
    this.context.pool.disk.makeFolder(folder);
    const index = SegmentIndex.open(this.context, folder);
    const firstLogIndex = this.#logIndex;
    for (let i = 0; i < events; i++) {
      const key = busy && i % 2 === 0 ? this.keys[0]! : this.chance.pick(this.keys);
      const name = nameOf(key);
      const version = this.#versions.get(name) ?? 0;
      this.#versions.set(name, version + 1);
      const sequence = this.#sequence++;
      index.add(this.chance.bytes(16), key, version, 0, sequence, 64 + 100 * i);
      this.newest.set(name, { version, sequence });
      this.#heads.set(`${word0(key)} ${word1(key)} ${version}`, { more: word2(key), sequence });
      this.#logIndex++;
    }
    const identity = {
      ...{ bucket: 0, segment: number, firstLogIndex, endLogIndex: this.#logIndex, endOffset: 64 + 100 * events },
      ...{ chainLow: this.chance.below(2 ** 32), chainHigh: number },
    };
    await runSliced(index.seal(identity), this.context.environment);
    return { index, identity };
  }

  /** The segment, to be merged in. */
  added({ index }: Pick<Sealed, "index">) {
    return {
      lastEvents: () => index.lastEvents(),
      headOf: (a: number, b: number, version: number) => this.#heads.get(`${a} ${b} ${version}`)!,
    };
  }

  async merge(previous: HeadsFile | null, segments: Sealed[]): Promise<HeadsFile> {
    const added = segments.map((segment) => this.added(segment));
    const writing = writeHeadsFile(this.context, PATH, segments.at(-1)!.identity, previous, added);
    const made = await runSliced(writing, this.context.environment);
    previous?.close();
    return made;
  }

  /** Every stream that is there has its head, one of the same hash is not known, and of any other there is nothing. */
  hold(heads: HeadsFile): void {
    for (const key of this.keys) {
      const head = this.newest.get(nameOf(key)) ?? null;
      assert.deepEqual(heads.find(key), head);
      assert.equal(heads.find(key.with(15, key[15]! ^ 1)), head === null ? null : "unknown");
    }
    for (let i = 0; i < 1000; i++) assert.equal(heads.find(this.chance.bytes(16)), null);
    assert.equal(heads.streams, this.newest.size);
  }
}

const nameOf = (key: Uint8Array) => key.join();

function makeContext(disk = new MemoryDisk()): IndexContext {
  return { pool: new FilePool(disk), cache: new BlockCache(1 << 20), environment: new SeededEnvironment(1) };
}

Deno.test("a heads file has the newest head of every stream, over fifty segments and however they were merged", async () => {
  for (let seed = 1; seed <= 5; seed++) {
    const chance = new Chance(seed);
    const bucket = new Bucket(makeContext(), chance, chance.pick([1, 30, 2000]));
    let heads: HeadsFile | null = null;
    for (let number = 0; number < 50;) {
      const segments: Sealed[] = [];
      for (let count = chance.between(1, 6); count > 0 && number < 50; count--) {
        segments.push(await bucket.segment(number++, chance.between(1, 300)));
      }
      heads = await bucket.merge(heads, segments);
      assert.equal(heads.end, number);
      bucket.hold(heads);
    }
    heads!.close();
    bucket.hold(new HeadsFile(bucket.context, PATH));
  }
});

Deno.test("a heads file is the same bytes, whatever it was merged from", async () => {
  const contents = [1, 4, 9].map(async (atATime) => {
    const disk = new MemoryDisk();
    const bucket = new Bucket(makeContext(disk), new Chance(7), 500);
    let heads: HeadsFile | null = null;
    for (let number = 0; number < 36; number += atATime) {
      const segments: Sealed[] = [];
      for (let i = 0; i < atATime; i++) segments.push(await bucket.segment(number + i, 100));
      heads = await bucket.merge(heads, segments);
    }
    return disk.contentOf(PATH);
  });
  const [one, four, nine] = await Promise.all(contents);
  assert.deepEqual(four, one);
  assert.deepEqual(nine, one);
});

Deno.test("a stream of many thousand events in a segment costs a merge no more than a look-up", async () => {
  const bucket = new Bucket(makeContext(), new Chance(3), 2000);
  const segments = [await bucket.segment(0, 20_000, true), await bucket.segment(1, 20_000, true)];
  bucket.hold(await bucket.merge(null, segments));
});

Deno.test("a heads file is refused when it is of another log, and when it is of another end of this one", async () => {
  const bucket = new Bucket(makeContext(), new Chance(3), 10);
  const segment = await bucket.segment(0, 100);
  const heads = await bucket.merge(null, [segment]);
  heads.requireOf(segment.identity);
  assert.throws(() => heads.requireOf(null), IndexDamaged);
  const others = { bucket: 1, segment: 1, endLogIndex: 99, endOffset: 1, chainLow: 1, chainHigh: 1 };
  for (const [field, value] of Object.entries(others)) {
    assert.throws(() => heads.requireOf({ ...segment.identity, [field]: value }), IndexDamaged, field);
  }
});

Deno.test("a flipped bit in any block of a heads file, and a cut, is told and never a wrong answer", async () => {
  const disk = new MemoryDisk();
  const bucket = new Bucket(makeContext(disk), new Chance(3), 1000);
  await bucket.merge(null, [await bucket.segment(0, 2000)]);
  const size = disk.contentOf(PATH).length;
  for (let at = 13; at < size; at += 1024) {
    disk.flip(PATH, at, 1);
    const context = makeContext(disk);
    let told = 0;
    try {
      const heads = new HeadsFile(context, PATH);
      for (const key of bucket.keys) {
        try {
          assert.deepEqual(heads.find(key), bucket.newest.get(nameOf(key)) ?? null);
        } catch (error) {
          if (!(error instanceof IndexDamaged)) throw error;
          told++;
        }
      }
    } catch (error) {
      if (!(error instanceof IndexDamaged)) throw error;
      told++;
    }
    assert.ok(told > 0, `the flip at ${at} went unseen`);
    disk.flip(PATH, at, 1);
  }
  disk.open(PATH, "write").truncate(size - 4096);
  assert.throws(() => new HeadsFile(makeContext(disk), PATH), IndexDamaged);
});

Deno.test("a merge that is cut off, stopped or finds no room leaves the file before it, and nothing unfinished", async () => {
  const disk = new MemoryDisk();
  const bucket = new Bucket(makeContext(disk), new Chance(3), 1000);
  const first = await bucket.segment(0, 2000);
  const heads = await bucket.merge(null, [first]);
  const { identity, index } = await bucket.segment(1, 2000);
  const before = disk.contentOf(PATH);
  const write = () => writeHeadsFile(bucket.context, PATH, identity, heads, [bucket.added({ index })]);
  const stopped = write();
  stopped.next();
  stopped.return(undefined as never);
  disk.capacityBytes = disk.usedBytes + 8192;
  await assert.rejects(runSliced(write(), bucket.context.environment), { name: "NoSpace" });
  disk.capacityBytes = Infinity;
  assert.deepEqual(disk.contentOf(PATH), before);
  assert.deepEqual(disk.list("bucket"), ["0", "1", "heads.hidx"]);
  bucket.hold(await bucket.merge(heads, [{ identity, index }]));
});
