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
import { unlessGone } from "./story.ts";
import { read } from "./store_suite.ts";
import { formatUuid, newEventId } from "./uuid.ts";

const DIR = "/data";
const PARTITIONS = [0, 1];
const SIZES = {
  ...{ partitionCount: PARTITIONS.length, bucketCount: 1, segmentBytes: 1024, journalBytes: 16 * 1024 },
  ...{ reserveBytes: 0, cacheBytes: 64 * 1024, tailBytes: 4000, headBytes: 16 * 1024 },
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

Deno.test("H21, replicated: an append is neither readable nor answered before it is committed", async () => {
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

Deno.test("H11, H21, replicated: a transaction of several events is on a replica that catches up what it was, and seen whole", async () => {
  const node = await Node.open(new MemoryDisk());
  const [event] = one(stream(0)).events;
  const told = [node.append({ events: [event!, event!, event!] }), node.append(one(stream(0)))];
  await settled();
  const copy = await Node.open(new MemoryDisk());
  copy.bucket.append(node.bucket.read(0, 10_000));
  await copy.synced();
  assert.equal(copy.bucket.end, 2);
  for (const each of [node, copy]) {
    assert.deepEqual(await each.ids(0), []);
    each.bucket.commitTo(1);
    assert.equal((await each.ids(0)).length, 3);
    each.bucket.commitTo(2);
    assert.equal((await each.ids(0)).length, 4);
  }
  assert.deepEqual(told.map(({ outcome }) => outcome), ["stored at 0, versions 0,1,2", "stored at 3, versions 3"]);
  assert.deepEqual(await read(copy.store.readPartition(0)), await read(node.store.readPartition(0)));
  await node.store.close();
  await copy.store.close();
});

Deno.test("H12, replicated: what is committed after the log rolled is answered and read, in whichever segment it is", async () => {
  const node = await Node.open(new MemoryDisk());
  const told = Array.from({ length: 12 }, () => node.append(one(stream(0), { payload: "x".repeat(300) })));
  await settled();
  assert.ok(node.store.status().segments > 4);
  for (let i = 0; i < told.length; i++) {
    assert.equal(told[i]!.outcome, null);
    node.bucket.commitTo(i + 1);
    assert.equal(told[i]!.outcome, `stored at ${i}, versions ${i}`);
    assert.equal((await node.ids(0)).length, i + 1);
  }
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

Deno.test("replicated: a retry of what is committed is answered at once, also while what came after it is not", async () => {
  const node = await Node.open(new MemoryDisk());
  const first = node.append(one("s", { eventId: idFor("s") }));
  await settled();
  node.append(one("s"));
  await settled();
  node.bucket.commitTo(1);
  const retry = node.append(one("s", { eventId: idFor("s") }));
  await settled();
  assert.equal(retry.outcome, "stored at 0, versions 0");
  assert.equal(retry.outcome, first.outcome);
  node.bucket.commitTo(2);
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

// ---- What other nodes decided, and what is cut off -------------------------------------------------------------------

/** A log of some segments: a term is opened, and then events of both partitions come, some entries of several. */
function madeLog(entries: number, term = 1, seed = 1): MadeLog {
  const log = new MadeLog(0, SIZES.partitionCount, seed);
  log.open(term);
  return grown(log, entries, term);
}

function grown(log: MadeLog, end: number, term: number): MadeLog {
  while (log.end < end) {
    log.append(term, log.end % 3 === 0 ? 1 : 0, { payloadBytes: 40 + 30 * (log.end % 4), events: 1 + log.end % 2 });
  }
  return log;
}

/** As `log` up to `from`, and then other entries of another term. */
function forked(log: MadeLog, from: number, end: number, term: number): MadeLog {
  const fork = log.upTo(from, 100 + term);
  fork.open(term);
  return grown(fork, end, term);
}

Deno.test("replicated: frames of another node are stored as they are, and their events shown when committed", async () => {
  const log = madeLog(20);
  let node = await Node.open(new MemoryDisk());
  node.bucket.append(log.frames(0, 7));
  node.bucket.append(log.frames(7));
  await node.synced();
  assert.ok(node.store.status().segments > 3);
  holdLog(node.bucket, log);
  for (let end = 0; end <= log.end; end++) {
    node.bucket.commitTo(end);
    assert.equal(node.bucket.committedEnd, end);
    for (const partition of PARTITIONS) assert.deepEqual(await node.ids(partition), log.idsOf(partition, end));
  }
  const { disk } = node;
  await node.store.close();
  assert.deepEqual((await checkFolder({ dir: DIR, disk })).problems, []);
  node = await Node.open(disk);
  holdLog(node.bucket, log);
  for (const partition of PARTITIONS) assert.deepEqual(await node.ids(partition), log.idsOf(partition));
  await node.store.close();
});

Deno.test("replicated: uncommitted entries are there after a close, wherever the committed ones end", async () => {
  const log = madeLog(20);
  for (let committed = 0; committed <= log.end; committed++) {
    let node = await Node.open(new MemoryDisk());
    node.bucket.append(log.frames(0));
    await node.synced();
    node.bucket.commitTo(committed);
    node.bucket.persist(Uint8Array.of(committed)); // So that it is known.
    await node.synced();
    const { disk } = node;
    await node.store.close();
    const report = await checkFolder({ dir: DIR, disk });
    assert.deepEqual(report.problems, [], `committed to ${committed}`);
    node = await Node.open(disk);
    assert.deepEqual([node.bucket.commitFloor, node.bucket.committedEnd], [committed, committed]);
    holdLog(node.bucket, log);
    node.bucket.commitTo(log.end);
    for (const partition of PARTITIONS) assert.deepEqual(await node.ids(partition), log.idsOf(partition));
    await node.store.close();
    assert.deepEqual((await checkFolder({ dir: DIR, disk })).problems, []);
  }
});

Deno.test("replicated: from any uncommitted entry on the log can be cut and go on in another way, over segments", async () => {
  const log = madeLog(20);
  for (let from = 0; from <= log.end; from++) {
    let node = await Node.open(new MemoryDisk());
    node.bucket.append(log.frames(0));
    await node.synced();
    node.bucket.commitTo(Math.min(from, 9));
    node.bucket.truncate(from);
    assert.equal(node.bucket.end, from);
    assert.deepEqual({ ...node.bucket.chainAt(from) }, { ...log.chainAt(from) });
    const fork = forked(log, from, 24, 5);
    node.bucket.append(fork.frames(from));
    holdLog(node.bucket, fork);
    assert.deepEqual(node.bucket.termStarts(), termsOf(fork));
    await node.synced();
    node.bucket.commitTo(fork.end);
    for (let start = 0; start < 2; start++) {
      for (const partition of PARTITIONS) assert.deepEqual(await node.ids(partition), fork.idsOf(partition));
      let { disk } = node;
      if (start === 0) disk = await node.kill();
      else await node.store.close();
      node = await Node.open(disk);
      assert.equal(node.bucket.damage, null);
      holdLog(node.bucket, fork);
      node.bucket.commitTo(fork.end);
    }
    await node.store.close();
    assert.deepEqual((await checkFolder({ dir: DIR, disk: node.disk })).problems, []);
  }
});

function termsOf(log: MadeLog): { term: number; from: number }[] {
  return log.entries.flatMap(({ term }, from) => term === log.entries[from - 1]?.term ? [] : [{ term, from }]);
}

Deno.test("replicated: what is committed cannot be cut", async () => {
  const log = madeLog(10);
  const node = await Node.open(new MemoryDisk());
  node.bucket.append(log.frames(0));
  await node.synced();
  node.bucket.commitTo(6);
  assert.throws(() => node.bucket.truncate(5), RangeError);
  holdLog(node.bucket, log);
  await node.store.close();
});

Deno.test("replicated: frames that find no room leave no trace", async () => {
  const log = madeLog(24);
  let refusals = 0;
  for (let roomBytes = 0; roomBytes < 4000; roomBytes += 130) {
    const node = await Node.open(new MemoryDisk());
    node.bucket.append(log.frames(0, 6));
    await node.synced();
    node.bucket.commitTo(3);
    node.disk.capacityBytes = node.disk.usedBytes + roomBytes;
    let stored = 6;
    try {
      node.bucket.append(log.frames(6));
      stored = log.end;
    } catch (error) {
      assert.match((error as Error).name, /NoSpace|DiskFull/);
      refusals++;
    }
    assert.equal(node.bucket.end, stored);
    holdLog(node.bucket, log.upTo(stored, 1));
    await node.synced();
    if (stored < log.end) {
      node.disk.capacityBytes = Infinity;
      node.bucket.append(log.frames(6, 15));
      await node.synced();
      node.bucket.append(log.frames(15));
      await node.synced();
    }
    node.bucket.commitTo(log.end);
    for (const partition of PARTITIONS) assert.deepEqual(await node.ids(partition), log.idsOf(partition));
    const disk = (await node.kill()).afterPowerCut(roomBytes);
    disk.capacityBytes = Infinity;
    assert.deepEqual((await checkFolder({ dir: DIR, disk })).problems, []);
    const again = await Node.open(disk);
    holdLog(again.bucket, log);
    await again.store.close();
  }
  assert.ok(refusals > 5 && refusals < 31, `${refusals} refusals`);
});

// ---- Crashes ---------------------------------------------------------------------------------------------------------

/** What a node has written by the end of a batch. */
interface Having {
  log: MadeLog;
  hard: number | null;
  /** As far as was known to be committed. */
  floor: number;
}

/** What a crash may leave: one of these states, the first of them durable; or the log of one, cut where it was to be cut. */
interface Possible {
  states: Having[];
  cuts: { end: number; batch: number }[];
}

type Step = (node: Node, having: Having, cut: (end: number) => void) => Having;

const append = (log: MadeLog): Step => (node, having) => {
  node.bucket.append(log.frames(having.log.end));
  return { ...having, log };
};

const truncate = (end: number): Step => (node, having, cut) => {
  cut(end);
  node.bucket.truncate(end);
  return { ...having, log: having.log.upTo(end, 1) };
};

const persist = (hard: number): Step => (node, having) => {
  node.bucket.persist(Uint8Array.of(hard));
  return { ...having, hard };
};

const LOG = madeLog(18);
const FORK = forked(LOG, 9, 20, 2);
const SHORT_FORK = forked(FORK, 14, 17, 3);
const DEEP_FORK = forked(LOG, 6, 16, 4);
const LAST = forked(DEEP_FORK, 12, 25, 5);

/** Each is written into one batch. One that overlaps is written while the one before it is synced. */
const BATCHES: readonly { steps: readonly Step[]; commit: number; overlaps: boolean }[] = [
  { steps: [persist(1), append(LOG)], commit: 4, overlaps: false },
  { steps: [truncate(9), persist(2), append(FORK)], commit: 5, overlaps: false },
  // Cut again before the batch before it is durable: above what it brings, and below.
  { steps: [truncate(14), append(SHORT_FORK)], commit: 5, overlaps: true },
  { steps: [truncate(15), truncate(9), truncate(6), append(DEEP_FORK), persist(3)], commit: 6, overlaps: true },
  { steps: [truncate(12), append(LAST.upTo(14, 1)), truncate(13), append(LAST)], commit: 12, overlaps: false },
  { steps: [persist(4)], commit: LAST.end, overlaps: false },
];

/** Does all that, and keeps in `possible` what a crash may leave at any moment. */
async function live(node: Node, possible: Possible): Promise<void> {
  const { group, bucket } = node;
  let before = Promise.resolve();
  for (const [batch, { steps, commit, overlaps }] of BATCHES.entries()) {
    if (!overlaps) await before;
    let having = { ...possible.states.at(-1)!, floor: bucket.committedEnd };
    for (const step of steps) having = step(node, having, (end) => possible.cuts.push({ end, batch }));
    possible.states.push(having);
    const sealed = group.nextSeal();
    before = Promise.all([before, node.synced()]).then(() => {
      possible.states.splice(0, possible.states.indexOf(having));
      possible.cuts = possible.cuts.filter((cut) => cut.batch > batch);
      bucket.commitTo(commit);
    });
    await sealed;
  }
  await before;
}

/** Whether what was found is one of what may be. */
function isPossible({ bucket }: Node, { states, cuts }: Possible): boolean {
  const { end, hardState } = bucket;
  const { low, high } = bucket.chainAt(end);
  return states.some(({ log, hard }) => {
    if (hard !== (hardState?.[0] ?? null) || end > log.end) return false;
    const had = log.chainAt(end);
    return had.low === low && had.high === high && (end === log.end || cuts.some((cut) => cut.end === end));
  });
}

/** A live node on a disk whose power goes at its `n`-th effect, counted from the open store. False: it ended before. */
async function crashAt(
  n: number,
  journalBytes: number,
  crash: (disk: MemoryDisk) => MemoryDisk,
): Promise<boolean> {
  const disk = new MemoryDisk({ seed: n });
  // The sync of a batch takes so long that the next one is begun.
  disk.hooks.slow = (path) => path.endsWith("journal/a") || path.endsWith("journal/b") ? 1 : 0;
  const node = await Node.open(disk, { journalBytes });
  disk.powerCutAt(disk.effects + n);
  const possible: Possible = { states: [{ log: new MadeLog(0, 2), hard: null, floor: 0 }], cuts: [] };
  const isGone = () => disk.isGone || node.environment.fatalReasons.length > 0;
  try {
    await unlessGone(live(node, possible).then(() => node.store.close()), isGone);
  } catch (error) {
    if (!isGone()) throw error;
  }
  if (!isGone()) {
    assert.deepEqual(possible.states.map(({ log }) => log), [LAST]);
    return false;
  }
  const { committedEnd } = node.bucket;
  const left = crash(disk);
  assert.deepEqual((await checkFolder({ dir: DIR, disk: left })).problems, [], `effect ${n}`);
  let again = await Node.open(left, { journalBytes });
  for (let start = 0;; start++) {
    const { bucket, store } = again;
    assert.deepEqual(store.status().damage, [], `effect ${n}, start ${start}`);
    assert.ok(isPossible(again, possible), `effect ${n}, start ${start}: the log ends at ${bucket.end}`);
    const { commitFloor } = bucket;
    assert.ok(commitFloor >= possible.states[0]!.floor && commitFloor <= committedEnd, `effect ${n}: ${commitFloor}`);
    assert.ok(bucket.end >= committedEnd, `effect ${n}: of ${committedEnd} committed entries there are ${bucket.end}`);
    assert.ok(bucket.committedEnd >= commitFloor && bucket.committedEnd <= committedEnd);
    const { log } = possible.states.find(({ log }) =>
      log.end >= bucket.end && hasLog(bucket, log.upTo(bucket.end, 1))
    )!;
    holdLog(bucket, log.upTo(bucket.end, 1));
    for (const partition of PARTITIONS) {
      assert.deepEqual(await again.ids(partition), log.idsOf(partition, bucket.committedEnd));
    }
    if (start === 1) break;
    again = await Node.open(await again.kill(), { journalBytes });
  }
  await again.store.close();
  return true;
}

// In the small one the files change with almost every batch.
for (
  const [what, journalBytes, crash] of [
    ["a kill", 12 * 1024, (disk: MemoryDisk) => disk.afterKill()],
    ["a power cut", 12 * 1024, (disk: MemoryDisk) => disk.afterPowerCut(disk.seed)],
    ["a power cut", 64 * 1024, (disk: MemoryDisk) => disk.afterPowerCut(disk.seed)],
  ] as const
) {
  Deno.test(`replicated: ${what} at any effect leaves a log that may be, ${journalBytes} bytes of journal`, () =>
    amongTheDead(async () => {
      let n = 1;
      while (await crashAt(n, journalBytes, crash)) n++;
      assert.ok(n > 60, `${n} effects`);
    }));
}

// ---- What must not be forgotten ----------------------------------------------------------------------------------------

Deno.test("replicated: hard states are there after every start, however often the journal changes its file", async () => {
  let node = await Node.open(new MemoryDisk(), { journalBytes: 12 * 1024 });
  let hard: Uint8Array | null = null;
  let log = madeLog(1);
  for (let i = 0; i < 40; i++) {
    assert.deepEqual(node.bucket.hardState, hard);
    // Of a size that changes; some stand alone in the journal, some are followed by many batches without any.
    hard = new Uint8Array(1 + 37 * (i % 5)).fill(i);
    node.bucket.persist(hard.toReversed());
    node.bucket.persist(hard);
    await node.synced();
    for (let batch = i % 4 * 3; batch > 0; batch--) {
      log = grown(log, log.end + 2, 1);
      node.bucket.append(log.frames(node.bucket.end));
      await node.synced();
    }
    node.bucket.commitTo(Math.min(log.end, node.bucket.end));
    let { disk } = node;
    if (i % 3 === 0) await node.store.close();
    else disk = i % 3 === 1 ? await node.kill() : disk.afterPowerCut(i);
    node = await Node.open(disk, { journalBytes: 12 * 1024 });
  }
  await node.store.close();
});

Deno.test("replicated: each bucket keeps its own hard state, and one that has none has none", async () => {
  const options = { bucketCount: 2 };
  let node = await Node.open(new MemoryDisk(), options);
  node.store.replicated(1).persist(Uint8Array.of(1, 2, 3));
  await node.synced();
  for (let start = 0; start < 3; start++) {
    node = await Node.open(await node.kill(), options);
    assert.equal(node.store.replicated(0).hardState, null);
    assert.deepEqual(node.store.replicated(1).hardState, Uint8Array.of(1, 2, 3));
  }
  await node.store.close();
});

Deno.test("replicated: what is known to be committed is known after a start, as far as the journal or an index says it", async () => {
  const log = madeLog(16);
  let node = await Node.open(new MemoryDisk());
  node.bucket.append(log.frames(0, 8));
  await node.synced();
  node.bucket.commitTo(5);
  node.bucket.append(log.frames(8));
  await node.synced();
  node.bucket.commitTo(11); // Of this the journal hears nothing.
  node = await Node.open(await node.kill());
  assert.deepEqual([node.bucket.commitFloor, node.bucket.end], [5, 16]);
  // Index files were written of segments that are committed whole: what is in an index is committed.
  const { committedEnd } = node.bucket;
  assert.ok(committedEnd > 5 && committedEnd <= 11, `${committedEnd}`);
  for (const partition of PARTITIONS) assert.deepEqual(await node.ids(partition), log.idsOf(partition, committedEnd));
  node.bucket.commitTo(13);
  const { disk } = node;
  await node.store.close();
  node = await Node.open(disk);
  assert.deepEqual([node.bucket.commitFloor, node.bucket.committedEnd, node.bucket.end], [13, 13, 16]);
  await node.store.close();
});

Deno.test("replicated: a folder of a cluster's node shows alone what is committed, and takes no appends", async () => {
  const log = madeLog(16);
  const node = await Node.open(new MemoryDisk());
  node.bucket.persist(Uint8Array.of(9));
  node.bucket.append(log.frames(0));
  await node.synced();
  node.bucket.commitTo(10);
  await node.synced();
  node.bucket.truncate(14);
  await node.synced();
  let { disk } = node;
  await node.store.close();
  for (let start = 0; start < 3; start++) {
    const alone = await openDatabase({ dir: DIR, disk, environment: new SeededEnvironment(2), ...SIZES });
    for (const partition of PARTITIONS) {
      const ids = (await read(alone.readPartition(partition))).map(({ eventId }) => eventId);
      assert.deepEqual(ids, log.idsOf(partition, 10));
    }
    await assert.rejects(alone.append(one("s")), { name: "NoReplica" });
    assert.deepEqual(alone.status().damage, []);
    if (start === 1) disk = disk.afterKill();
    else await alone.close();
  }
  const again = await Node.open(disk);
  assert.deepEqual([again.bucket.end, again.bucket.committedEnd], [14, 10]);
  assert.deepEqual(again.bucket.hardState, Uint8Array.of(9));
  holdLog(again.bucket, log.upTo(14, 1));
  await again.store.close();
});

// ---- Damage ------------------------------------------------------------------------------------------------------------

/** Where in its segment each entry stands. */
function placesOf(log: MadeLog): { segment: number; offset: number }[] {
  let [segment, offset] = [0, 48];
  return log.entries.map(({ frame }) => {
    if (offset + frame.length > SIZES.segmentBytes) [segment, offset] = [segment + 1, 48];
    const place = { segment, offset };
    offset += frame.length;
    return place;
  });
}

for (const whenFound of ["by a start", "while it runs"]) {
  Deno.test(`replicated: a damaged log is cut where it is not proved any more, found ${whenFound}, and is filled again`, async () => {
    const log = madeLog(20);
    const places = placesOf(log);
    for (let lost = 0; lost < log.end; lost++) {
      let node = await Node.open(new MemoryDisk());
      node.bucket.append(log.frames(0));
      await node.synced();
      node.bucket.commitTo(14);
      node.bucket.persist(Uint8Array.of(1));
      await node.synced();
      const { segment, offset } = places[lost]!;
      let { disk } = node;
      if (whenFound === "by a start") await node.store.close(); // With nothing to redo.
      disk.flip(segmentPath(DIR, 0, segment), offset + 12, 1);
      if (whenFound === "by a start") {
        for (const path of disk.files(DIR)) if (path.endsWith("idx")) disk.remove(path); // Else not all of it is read.
        node = await Node.open(disk);
        assert.ok(node.bucket.damage !== null);
      } else {
        node.bucket.noteDamage("a frame that was read is another");
      }
      assert.deepEqual(node.group.damagedBuckets, [0]);
      node.bucket.persist(Uint8Array.of(2));
      await node.synced();
      await node.bucket.cutDamage();
      await node.synced();
      assert.equal(node.bucket.damage, null);
      assert.ok(node.bucket.end <= lost, `entry ${lost} is damaged, and ${node.bucket.end} are believed`);
      assert.ok(node.bucket.end >= Math.min(lost, places.findIndex((place) => place.segment === segment)));
      const kept = node.bucket.end;
      assert.equal(node.bucket.committedEnd, Math.min(14, kept), "what is proved need not be committed");
      holdLog(node.bucket, log.upTo(kept, 1));
      if (lost % 2 === 1) { // A crash in between finds it cut, and says what it had.
        disk = await node.kill();
        assert.deepEqual((await checkFolder({ dir: DIR, disk })).problems, []);
        node = await Node.open(disk);
        assert.equal(node.bucket.end, kept);
        assert.deepEqual(node.bucket.hardState, Uint8Array.of(2));
      }
      node.bucket.append(log.frames(kept));
      await node.synced();
      node.bucket.commitTo(log.end);
      for (const partition of PARTITIONS) assert.deepEqual(await node.ids(partition), log.idsOf(partition));
      await node.store.close();
      ({ disk } = node);
      assert.deepEqual((await checkFolder({ dir: DIR, disk })).problems, []);
    }
  });
}

// ---- Check and repair --------------------------------------------------------------------------------------------------

Deno.test("replicated: check and repair find nothing wrong with hard states, cuts and an uncommitted tail", async () => {
  for (const ending of ["close", "kill", "power cut"] as const) {
    for (const committed of [4, 7, FORK.end]) {
      const node = await Node.open(new MemoryDisk({ seed: committed }));
      node.bucket.persist(Uint8Array.of(1, 2, 3));
      node.bucket.append(LOG.frames(0));
      await node.synced();
      node.bucket.commitTo(4);
      node.bucket.truncate(9);
      node.bucket.append(FORK.frames(9));
      node.bucket.persist(Uint8Array.of(4, 5, 6));
      await node.synced();
      node.bucket.commitTo(committed);
      node.bucket.persist(Uint8Array.of(7));
      await node.synced();
      if (ending === "close") await node.store.close();
      const disk = ending === "close"
        ? node.disk
        : ending === "kill"
        ? await node.kill()
        : node.disk.afterPowerCut(committed);
      const report = await checkFolder({ dir: DIR, disk });
      assert.deepEqual(report.problems, []);
      assert.equal(report.frames, FORK.end);
      const repaired = await repairFolder({
        ...{ dir: DIR, to: "/repaired", disk, environment: new SeededEnvironment(3) },
        ...{ journalBytes: SIZES.journalBytes, lineOf: () => "" },
      });
      assert.ok(isWhole(repaired), `${ending}, committed to ${committed}: ${JSON.stringify(repaired)}`);
    }
  }
});
