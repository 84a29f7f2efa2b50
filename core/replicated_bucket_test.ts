/** Buckets of a group that does as the test says: what is durable is not yet committed. */
import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { checkFolder } from "./check.ts";
import { type Database, type DatabaseOptions, openDatabase } from "./database.ts";
import { identify, type Transaction } from "./event.ts";
import { amongTheDead } from "./life.ts";
import { segmentPath } from "./log/layout.ts";
import { MemoryDisk } from "./log/memory_disk.ts";
import { MadeLog, streamOf } from "./made_log.ts";
import { ManualGroup } from "./manual_group.ts";
import { partitionHash } from "./placement.ts";
import { isWhole, repairFolder } from "./repair.ts";
import type { ReplicatedBucket } from "./replicated_bucket.ts";
import { SeededEnvironment } from "./seeded_environment.ts";
import { read } from "./store_suite.ts";
import { formatUuid, newEventId } from "./uuid.ts";

const DIR = "/data";
const PARTITIONS = [0, 1];
const SIZES = {
  ...{ partitionCount: PARTITIONS.length, bucketCount: 1, segmentBytes: 1024, journalBytes: 16 * 1024 },
  ...{ reserveBytes: 0, tailBytes: 4000, headBytes: 16 * 1024 },
};

/** A node: its store, with a group in the hand of the test. */
class Node {
  readonly group = new ManualGroup();
  readonly environment: SeededEnvironment;
  store!: Database;

  private constructor(readonly disk: MemoryDisk, seed: number) {
    this.environment = new SeededEnvironment(seed);
  }

  static async open(disk: MemoryDisk, options: Partial<DatabaseOptions> = {}, seed = 1): Promise<Node> {
    const node = new Node(disk, seed);
    const { environment, group } = node;
    node.store = await openDatabase({ dir: DIR, disk, environment, group, ...SIZES, ...options });
    return node;
  }

  get bucket(): ReplicatedBucket {
    return this.store.replicated(0);
  }

  synced(): Promise<void> {
    return this.group.allSynced(this.bucket);
  }

  /** What became of an append, as it is told. */
  append(transaction: Transaction): { outcome: string | null } {
    const told: { outcome: string | null } = { outcome: null };
    this.store.appendFor(transaction, {
      stored: ({ firstSequence, versions }) => told.outcome = `stored at ${firstSequence}, versions ${versions}`,
      refused: (error) => told.outcome = (error as Error).name,
    });
    return told;
  }

  /** The ids that readers see of a partition. */
  async ids(partition: number): Promise<string[]> {
    return (await read(this.store.readPartition(partition))).map(({ eventId }) => eventId);
  }

  async kill(): Promise<MemoryDisk> {
    await settled();
    return this.disk.afterKill();
  }
}

/** All that can be done without a sync that takes time is done. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 5; turns++) await new Promise((resolve) => void setImmediate(resolve));
}

const stream = (partition: number) => streamOf(partition, SIZES.partitionCount);

const one = (streamId: string, more: Partial<Transaction["events"][number]> = {}): Transaction => ({
  events: [{ streamId, name: "E", ...more }],
});

/** Whether the bucket has exactly the entries of `log`. */
function hasLog(bucket: ReplicatedBucket, log: MadeLog): boolean {
  if (bucket.end !== log.end) return false;
  const { low, high } = bucket.chainAt(log.end);
  return low === log.chain.low && high === log.chain.high;
}

/** Reads all of it, frame by frame, whatever its end says. */
function holdLog(bucket: ReplicatedBucket, log: MadeLog): void {
  assert.equal(bucket.end, log.end);
  for (let from = 0; from < log.end;) {
    const frames = bucket.read(from, 700);
    let at = 0;
    while (at < frames.length) {
      const { frame } = log.entries[from++]!;
      assert.deepEqual(frames.subarray(at, at + frame.length), frame, `entry ${from - 1}`);
      at += frame.length;
    }
  }
}

// ---- Committed apart from durable ------------------------------------------------------------------------------------

Deno.test("replicated: an append is neither readable nor answered before it is committed", async () => {
  const node = await Node.open(new MemoryDisk());
  const follower = await node.store.subscribe({ partitions: "all", from: 0 });
  const told = [0, 1, 2].map((i) => node.append(one(stream(0), { payload: `${i}` })));
  await settled();
  assert.deepEqual(told.map(({ outcome }) => outcome), [null, null, null]);
  assert.deepEqual([node.bucket.end, node.bucket.committedEnd], [3, 0]);
  assert.deepEqual(await node.ids(0), []);
  assert.deepEqual(await follower.read(10), []);
  assert.equal(await node.store.streamVersion(stream(0)), null);
  assert.equal(await node.store.partitionSequence(0), null);

  node.bucket.commitTo(2);
  assert.deepEqual(told.map(({ outcome }) => outcome), ["stored at 0, versions 0", "stored at 1, versions 1", null]);
  assert.equal((await node.ids(0)).length, 2);
  assert.deepEqual((await follower.read(10)).map(({ payload }) => new TextDecoder().decode(payload)), ["0", "1"]);
  assert.equal(await node.store.streamVersion(stream(0)), 1);
  node.bucket.commitTo(3);
  assert.equal(told[2]!.outcome, "stored at 2, versions 2");
  assert.equal((await follower.read(10)).length, 1);
  follower.close();
  await node.store.close();
});

Deno.test("replicated: what is appended is told to the group with its place in the log", async () => {
  const node = await Node.open(new MemoryDisk());
  node.group.admits = 7;
  node.bucket.openTerm(7);
  for (let i = 0; i < 12; i++) node.append(one(stream(i % 2), { payload: "x".repeat(150) }));
  await settled();
  const copy = await Node.open(new MemoryDisk());
  for (const { firstLogIndex, term, bytes, prevChain, ends, crcs } of node.group.written.get(0)!) {
    assert.equal(term, 7);
    assert.equal(firstLogIndex, copy.bucket.end);
    assert.deepEqual({ ...copy.bucket.chainAt(firstLogIndex) }, { ...prevChain });
    assert.equal(ends.at(-1), bytes.length);
    assert.equal(crcs.length, ends.length);
    copy.bucket.append(bytes);
  }
  assert.equal(copy.bucket.end, 13);
  assert.deepEqual({ ...copy.bucket.chainAt(13) }, { ...node.bucket.chainAt(13) });
  await copy.synced();
  node.bucket.commitTo(13);
  copy.bucket.commitTo(13);
  for (const partition of PARTITIONS) {
    assert.deepEqual(
      await read(copy.store.readPartition(partition)),
      await read(node.store.readPartition(partition)),
    );
  }
  await node.store.close();
  await copy.store.close();
});

Deno.test("replicated: what follows is decided on what is not committed", async () => {
  const node = await Node.open(new MemoryDisk());
  const first = node.append(one("s", { expectedVersion: "empty" }));
  await settled();
  const second = node.append(one("s", { expectedVersion: 0 }));
  await settled();
  assert.equal(node.bucket.end, 2);
  node.bucket.commitTo(1); // The younger of its entries gave out what is needed still.
  const third = node.append(one("s", { expectedVersion: 1 }));
  await settled();
  node.bucket.commitTo(3);
  assert.deepEqual(
    [first, second, third].map(({ outcome }) => outcome),
    ["stored at 0, versions 0", "stored at 1, versions 1", "stored at 2, versions 2"],
  );
  await node.store.close();
});

Deno.test("replicated: a refusal that rests on what is not committed is told when that is, and before those who won", async () => {
  const node = await Node.open(new MemoryDisk());
  const order: string[] = [];
  const race = (name: string) =>
    node.store.appendFor(one("s", { expectedVersion: "empty" }), {
      stored: () => order.push(`${name} stored`),
      refused: (error) => order.push(`${name} ${(error as Error).name}`),
    });
  race("a");
  race("b");
  await settled();
  race("c");
  await settled();
  assert.deepEqual(order, []);
  node.append(one("s", { expectedVersion: 0 }));
  race("d");
  await settled();
  node.bucket.commitTo(1);
  assert.deepEqual(order, ["b WrongExpectedVersion", "c WrongExpectedVersion", "a stored"]);
  node.bucket.commitTo(2);
  assert.equal(order.at(-1), "d WrongExpectedVersion");
  race("e"); // Rests on what is committed.
  await settled();
  assert.equal(order.at(-1), "e WrongExpectedVersion");
  await node.store.close();
});

Deno.test("replicated: a retry of what is not committed is answered with it, and as it", async () => {
  const node = await Node.open(new MemoryDisk());
  const first = node.append(one("s", { eventId: idFor("s") }));
  await settled();
  const retry = node.append(one("s", { eventId: idFor("s") }));
  const other = node.append(one("s", { eventId: idFor("s"), payload: "other" }));
  await settled();
  assert.equal(node.bucket.end, 1, "it was appended once");
  assert.deepEqual([first.outcome, retry.outcome, other.outcome], [null, null, null]);
  node.bucket.commitTo(1);
  assert.equal(first.outcome, "stored at 0, versions 0");
  assert.equal(retry.outcome, first.outcome);
  assert.equal(other.outcome, "DuplicateEventId");
  const late = node.append(one("s", { eventId: idFor("s") }));
  await settled();
  assert.equal(late.outcome, first.outcome);
  await node.store.close();
});

Deno.test("replicated: a retry of what is not committed is no refusal when the disk has no room for others", async () => {
  const node = await Node.open(new MemoryDisk());
  const first = node.append(one("s", { eventId: idFor("s") }));
  await settled();
  node.disk.capacityBytes = node.disk.usedBytes;
  const retry = node.append(one("s", { eventId: idFor("s") }));
  const other = node.append(one("s", { payload: "x".repeat(300) }));
  await settled();
  assert.equal(other.outcome, "DiskFull");
  assert.equal(retry.outcome, null, "it may be stored yet");
  node.bucket.commitTo(1);
  assert.deepEqual([first.outcome, retry.outcome], ["stored at 0, versions 0", "stored at 0, versions 0"]);
  await node.store.close();
});

Deno.test("replicated: who leads no more tells its writers that nobody knows, and those refused to try again", async () => {
  const node = await Node.open(new MemoryDisk());
  const first = node.append(one("s", { eventId: idFor("s"), expectedVersion: "empty" }));
  await settled();
  const retry = node.append(one("s", { eventId: idFor("s"), expectedVersion: "empty" }));
  const refused = node.append(one("s", { expectedVersion: "empty" }));
  await settled();
  node.group.admits = new Error("another leads");
  node.bucket.stepDown();
  assert.deepEqual(
    [first.outcome, retry.outcome, refused.outcome],
    ["OutcomeUnknown", "OutcomeUnknown", "TryAgain"],
  );
  // The entry is there still, and may be committed by who leads now: nobody is told twice.
  node.bucket.commitTo(1);
  assert.equal(first.outcome, "OutcomeUnknown");
  assert.equal(await node.store.streamVersion("s"), 0);
  await node.store.close();
});

Deno.test("replicated: what was given out and cut off is not known to who leads again", async () => {
  const node = await Node.open(new MemoryDisk());
  node.append(one("s", { eventId: idFor("s") }));
  await settled();
  node.bucket.stepDown();
  node.bucket.truncate(0);
  node.bucket.openTerm(4);
  await node.synced();
  node.bucket.commitTo(1);
  node.group.admits = 4;
  const again = node.append(one("s", { eventId: idFor("s"), expectedVersion: "empty" }));
  await settled();
  node.bucket.commitTo(2);
  assert.equal(again.outcome, "stored at 0, versions 0");
  await node.store.close();
});

Deno.test("replicated: who is not admitted leaves no trace, nor do those who came after", async () => {
  const node = await Node.open(new MemoryDisk());
  node.group.admits = new Error("no majority");
  const told = [0, 1].map((i) => node.append(one("s", { payload: `${i}` })));
  await settled();
  assert.deepEqual(told.map(({ outcome }) => outcome), ["Error", "Error"]);
  assert.equal(node.bucket.end, 0);
  assert.equal(node.group.written.size, 0);
  await node.store.close();
});

/** An event id that carries the partition of a stream's own key. */
function idFor(streamId: string): string {
  const { partitionKey } = identify(streamId, null);
  return formatUuid(newEventId(partitionHash(partitionKey), 1_700_000_000_000, (bytes) => bytes.fill(7)));
}
