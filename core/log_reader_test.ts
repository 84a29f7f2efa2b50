import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { Chance } from "./chance.ts";
import { type Database, openDatabase } from "./database.ts";
import { MemoryDisk } from "./log/memory_disk.ts";
import { MadeLog } from "./made_log.ts";
import { ManualGroup } from "./manual_group.ts";
import type { ReplicatedBucket } from "./replicated_bucket.ts";
import { SeededEnvironment } from "./seeded_environment.ts";

const DIR = "/data";
const SIZES = {
  ...{ partitionCount: 4, bucketCount: 1, segmentBytes: 32 * 1024, journalBytes: 128 * 1024, reserveBytes: 0 },
  ...{ cacheBytes: 64 * 1024, tailBytes: 4000, headBytes: 16 * 1024 },
};

/** Terms that begin with an empty entry or with several, or with none; partitions of which one has nearly all. */
function logOf(chance: Chance, entries: number, from = new MadeLog(0, SIZES.partitionCount, chance.seed)): MadeLog {
  let term = (from.entries.at(-1)?.term ?? 0) + 1;
  from.open(term);
  while (from.end < entries) {
    if (chance.oneIn(80)) term += chance.between(1, 3);
    else if (chance.oneIn(40)) from.open(term += chance.below(2));
    const partition = chance.oneIn(12) ? chance.between(1, 3) : 0;
    from.append(term, partition, {
      payloadBytes: chance.below(250),
      events: chance.oneIn(5) ? chance.between(2, 5) : 1,
    });
  }
  return from;
}

async function open(disk: MemoryDisk): Promise<{ store: Database; group: ManualGroup; bucket: ReplicatedBucket }> {
  const group = new ManualGroup();
  const store = await openDatabase({ dir: DIR, disk, environment: new SeededEnvironment(1), group, ...SIZES });
  return { store, group, bucket: store.replicated(0) };
}

/** The bucket after so many entries, some appended at a time, committed as far as said. */
async function filled(log: MadeLog, committed: number, chance: Chance) {
  const disk = new MemoryDisk();
  const node = await open(disk);
  for (let from = 0; from < log.end;) {
    const end = Math.min(log.end, from + chance.between(1, 40));
    node.bucket.append(log.frames(from, end));
    await node.group.allSynced(node.bucket);
    node.bucket.commitTo(Math.min(committed, end));
    from = end;
  }
  // Segments are sealed beside the writer.
  for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => void setImmediate(resolve));
  return { disk, ...node };
}

/** Whether the bucket tells of its log what it is, asked in the order of chance. */
function hold(bucket: ReplicatedBucket, log: MadeLog, chance: Chance): void {
  assert.equal(bucket.end, log.end);
  for (let asked = 0; asked < 60; asked++) {
    const end = asked < 3 ? [0, log.end, log.end - 1][asked]! : chance.below(log.end + 1);
    const { low, high } = bucket.chainAt(end);
    assert.deepEqual({ low, high }, { low: log.chainAt(end).low, high: log.chainAt(end).high }, `the chain at ${end}`);
    if (end === log.end) continue;
    // As one who is behind reads: on from where the last reading ended, while others do the same elsewhere.
    let from = end;
    for (let pages = chance.between(1, 4); pages > 0 && from < log.end; pages--) {
      const bytesMax = chance.pick([1, 300, 5000, 100_000]);
      const frames = bucket.read(from, bytesMax);
      const first = from;
      for (let at = 0; at < frames.length; from++) {
        const { frame } = log.entries[from]!;
        assert.deepEqual(frames.subarray(at, at + frame.length), frame, `entry ${from}`);
        at += frame.length;
      }
      assert.ok(from > first, "at least one");
      assert.ok(frames.length <= bytesMax || from === first + 1, `${frames.length} bytes of ${bytesMax}`);
    }
  }
  const starts = log.entries.flatMap(({ term }, from) => term === log.entries[from - 1]?.term ? [] : [{ term, from }]);
  assert.deepEqual(bucket.termStarts().toSorted((a, b) => a.from - b.from), starts);
}

Deno.test("log reader: chains, frames and terms are those of the log, over segments that are sealed, active or not committed", async () => {
  for (let seed = 1; seed <= 8; seed++) {
    const chance = new Chance(seed);
    const log = logOf(chance, chance.between(300, 900));
    const committed = chance.pick([0, chance.below(log.end), log.end - 3, log.end]);
    let { disk, store, bucket } = await filled(log, committed, chance);
    hold(bucket, log, chance);
    await store.close();
    ({ store, bucket } = await open(disk));
    hold(bucket, log, chance);
    // Without indexes it walks.
    await store.close();
    for (const path of disk.files(DIR)) if (path.endsWith("partition.pidx")) disk.flip(path, 4096 + 10, 1);
    ({ store, bucket } = await open(disk));
    hold(bucket, log, chance);
    await store.close();
  }
});

Deno.test("log reader: where a reading ended before a cut nobody goes on", async () => {
  for (let seed = 1; seed <= 8; seed++) {
    const chance = new Chance(seed);
    const log = logOf(chance, 400);
    const { store, bucket, group } = await filled(log, 150, chance);
    for (let from = 100; from < log.end;) {
      const frames = bucket.read(from, 4000);
      for (let at = 0; at < frames.length; from++) at += log.entries[from]!.frame.length;
    }
    const end = chance.between(150, log.end - 1);
    bucket.truncate(end);
    const fork = logOf(chance, 450, log.upTo(end, 1000 + seed));
    bucket.append(fork.frames(end));
    hold(bucket, fork, chance);
    await group.allSynced(bucket);
    bucket.commitTo(fork.end);
    hold(bucket, fork, chance);
    await store.close();
  }
});

Deno.test("log reader: a log without entries has a chain and no terms, and there is nothing to read", async () => {
  const { store, bucket } = await open(new MemoryDisk());
  assert.deepEqual({ ...bucket.chainAt(0) }, { ...new MadeLog(0, 1).chain });
  assert.deepEqual(bucket.termStarts(), []);
  for (const from of [0, 1, -1]) assert.throws(() => bucket.read(from, 100), RangeError);
  assert.throws(() => bucket.chainAt(1), RangeError);
  await store.close();
});
