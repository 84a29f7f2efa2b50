/** Entries without events, which open terms: every reader of a log passes over them. */
import assert from "node:assert/strict";
import { checkFolder } from "../check.ts";
import { type Database, openDatabase } from "../database.ts";
import { admit, type EventRecord } from "../event.ts";
import { readMeta, saltOf } from "../meta.ts";
import { partitionHash, partitionOf } from "../placement.ts";
import { isWhole, repairFolder } from "../repair.ts";
import { SeededEnvironment } from "../seeded_environment.ts";
import { read } from "../store_suite.ts";
import {
  Chain,
  EMPTY_FRAME_BYTES_MAX,
  encodeEmptyFrame,
  encodeFrame,
  frameBytesAt,
  frameBytesBound,
  SEGMENT_HEADER_BYTES,
} from "./format.ts";
import { Journal } from "./journal.ts";
import { segmentFolder, segmentPath } from "./layout.ts";
import { MemoryDisk } from "./memory_disk.ts";
import { recover } from "./recovery.ts";

const DIR = "/data";
const TO = "/repaired";
const SIZES = { partitionCount: 4, bucketCount: 2, segmentBytes: 8 * 1024, journalBytes: 32 * 1024 };
const BUCKET = 1;
/** Of the bucket. */
const PARTITIONS = [1, 3];

/** What the segments of the bucket hold: an event of one of its partitions, or nothing, in a term that begins. */
const SEGMENTS: readonly (readonly ("none" | 1 | 3)[])[] = [
  ["none", 1, 3, "none", "none", 1, 1, "none", 3],
  ["none", "none"],
  ["none", 3, "none", 1, 1, 3, "none"],
];
const EVENTS = SEGMENTS.flat().filter((one) => one !== "none").length;

function open(disk: MemoryDisk, dir = DIR): Promise<Database> {
  return openDatabase({ dir, disk, environment: new SeededEnvironment(1), ...SIZES });
}

/** A stream of a partition. */
function streamOf(partition: number): string {
  for (let i = 0;; i++) {
    const { partitionKey } = admit({ events: [{ streamId: `s${i}`, name: "" }] }, new SeededEnvironment(1));
    if (partitionOf(partitionHash(partitionKey), SIZES.partitionCount) === partition) return `s${i}`;
  }
}

/** A folder whose process was killed as soon as all of `SEGMENTS` was in the journal. */
async function planted(): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  await (await open(disk)).close();
  const salt = saltOf(readMeta(disk, DIR)!);
  const environment = new SeededEnvironment(3);
  const recovered = await recover(disk, DIR, salt);
  const journal = await Journal.open(
    { disk, environment, folder: `${DIR}/journal`, salt, fileBytes: SIZES.journalBytes, hasReplicas: false },
    {
      ends: () => recovered.buckets.map(({ end }) => end),
      committed: () => recovered.buckets.map(({ end }) => end.logIndex),
      syncSegments: () => Promise.resolve(),
    },
    recovered,
  );
  const chain = Chain.ofBucket(BUCKET);
  const next = new Map<number, number>();
  let logIndex = 0;
  let term = 1;
  for (const [segment, entries] of SEGMENTS.entries()) {
    journal.beginRecord();
    for (const partition of entries) {
      const start = journal.length;
      let frame;
      if (partition === "none") {
        journal.reserve(EMPTY_FRAME_BYTES_MAX);
        term++;
        const opening = { bucket: BUCKET, logIndex, term, prevChain: chain };
        frame = encodeEmptyFrame(journal.bytes, journal.view, start, opening);
      } else {
        environment.nowMs++;
        const transaction = admit({
          events: [{ streamId: streamOf(partition), name: "E", payload: `entry ${logIndex}` }],
        }, environment);
        const sequence = next.get(partition) ?? 0;
        next.set(partition, sequence + 1);
        journal.reserve(frameBytesBound(transaction));
        frame = encodeFrame(journal.bytes, journal.view, start, transaction, {
          ...{ logIndex, term, partition, firstSequence: sequence, prevChain: chain },
          ...{ versions: [sequence], prevs: [sequence === 0 ? 0 : 1] },
        });
      }
      chain.step(term, logIndex++, frame.crc);
      journal.length = frame.end;
    }
    journal.endRecord(BUCKET, segment, SEGMENT_HEADER_BYTES, logIndex);
    await journal.commit(false);
  }
  await journal.close(true);
  return disk.afterKill();
}

async function eventsOf(store: Database): Promise<EventRecord[]> {
  const events = [];
  for (const partition of PARTITIONS) events.push(...await read(store.readPartition(partition)));
  return events;
}

/** Appends that the journal keeps instead of what was planted, to the other bucket. */
async function forgetPlanted(disk: MemoryDisk): Promise<void> {
  const store = await open(disk);
  for (let i = 0; i < 20; i++) await store.append({ events: [{ streamId: streamOf(0), name: "E" }] });
  await store.close();
}

Deno.test("empty frames: recovery redoes them, and events around them are read as if they were not there", async () => {
  const disk = await planted();
  for (let start = 0; start < 3; start++) {
    const store = await open(disk);
    assert.deepEqual(store.status().damage, []);
    assert.equal(store.status().events, EVENTS);
    const events = await eventsOf(store);
    assert.equal(events.length, EVENTS);
    for (const partition of PARTITIONS) {
      const own = events.filter((event) => event.partition === partition);
      assert.deepEqual(own.map(({ sequence }) => sequence), own.map((_, i) => i));
      const streamId = streamOf(partition);
      assert.deepEqual(await read(store.readStream(streamId)), own);
      assert.deepEqual(await read(store.readStream(streamId, { direction: "backward" })), own.toReversed());
      assert.deepEqual(await read(store.readPartition(partition, { direction: "backward" })), own.toReversed());
      assert.equal(await store.streamVersion(streamId), own.length - 1);
    }
    for (const event of events) assert.deepEqual(await store.event(event.eventId), event);
    assert.equal(await store.event("01a20505-26b5-bd87-bb95-42ce9cb94300"), null);
    await store.close();
    const report = await checkFolder({ dir: DIR, disk });
    assert.deepEqual([report.problems, report.frames, report.events], [[], SEGMENTS.flat().length, EVENTS]);
    for (const path of disk.files(DIR)) if (start === 1 && path.endsWith("idx")) disk.remove(path);
  }
});

Deno.test("empty frames: appends go on behind them, also when the index files are gone", async () => {
  const disk = await planted();
  const store = await open(disk);
  const before = await eventsOf(store);
  for (const partition of PARTITIONS) {
    const own = before.filter((event) => event.partition === partition);
    const { firstSequence } = await store.append({
      events: [{ streamId: streamOf(partition), name: "E", expectedVersion: own.length - 1 }],
    });
    assert.equal(firstSequence, own.length);
  }
  await store.close();
  for (const path of disk.files(DIR)) if (path.endsWith("idx")) disk.remove(path);
  const again = await open(disk);
  assert.equal((await eventsOf(again)).length, EVENTS + PARTITIONS.length);
  await again.close();
  assert.deepEqual((await checkFolder({ dir: DIR, disk })).problems, []);
});

for (const limit of [1, 2, 256]) {
  Deno.test(`empty frames: followers of all partitions pass over them, ${limit} events at a time`, async () => {
    const store = await open(await planted());
    const expected = (await eventsOf(store)).map(({ eventId }) => eventId).sort();
    // One alone reads the segments; of two, the second one takes what the first one has read.
    for (const followers of [1, 2]) {
      const subscriptions = await Promise.all(
        Array.from({ length: followers }, () => store.subscribe({ partitions: "all", from: 0 })),
      );
      for (const subscription of subscriptions) {
        const seen: string[] = [];
        while (seen.length < expected.length) {
          assert.ok(await subscription.ready());
          for (const { eventId } of await subscription.read(limit)) seen.push(eventId);
        }
        assert.deepEqual(seen.sort(), expected.toSorted());
        assert.deepEqual(await subscription.read(limit), []);
        assert.equal(await subscription.lag(), 0);
      }
      const { events: [appended] } = await store.append({ events: [{ streamId: streamOf(3), name: "Live" }] });
      expected.push(appended!.eventId);
      for (const subscription of subscriptions) {
        assert.ok(await subscription.ready());
        assert.deepEqual((await subscription.read(limit)).map(({ eventId }) => eventId), [appended!.eventId]);
        subscription.close();
      }
    }
    await store.close();
  });
}

/** Where the frames of a segment begin. */
function framesOf(disk: MemoryDisk, segment: number): number[] {
  const bytes = disk.contentOf(segmentPath(DIR, BUCKET, segment));
  const view = new DataView(bytes.buffer);
  const offsets = [];
  for (let at = SEGMENT_HEADER_BYTES; at < bytes.length; at += frameBytesAt(view, at)) offsets.push(at);
  return offsets;
}

async function repair(disk: MemoryDisk) {
  const environment = new SeededEnvironment(2);
  const lineOf = ({ eventId }: EventRecord) => `${eventId}\n`;
  const report = await repairFolder({ dir: DIR, to: TO, disk, environment, journalBytes: SIZES.journalBytes, lineOf });
  assert.deepEqual((await checkFolder({ dir: TO, disk })).problems, []);
  const store = await open(disk, TO);
  const events = await eventsOf(store);
  await store.close();
  return { report, events };
}

Deno.test("empty frames: a repair keeps all events, and nothing of the terms", async () => {
  const disk = await planted();
  const store = await open(disk);
  const events = await eventsOf(store);
  await store.close();
  const { report, events: kept } = await repair(disk);
  assert.ok(isWhole(report));
  assert.equal(report.keptTransactions, EVENTS);
  assert.deepEqual(kept, events);
});

// In each segment: which frame is damaged, how, whether an event is lost with it, and where the log is taken up again.
const DAMAGES = [
  { what: "payload before an empty frame", segment: 0, frame: 2, at: -1, isEvent: true },
  { what: "length before an empty frame", segment: 0, frame: 2, at: 1, isEvent: true },
  { what: "checksum of an empty frame", segment: 0, frame: 3, at: 4, isEvent: false },
  { what: "length of an empty frame", segment: 0, frame: 3, at: 1, isEvent: false },
  { what: "payload before an empty frame at the end of the log", segment: 2, frame: 5, at: -1, isEvent: true },
  { what: "length of an empty frame in a segment that has no other", segment: 1, frame: 0, at: 1, isEvent: false },
] as const;
for (const { what, segment, frame, at, isEvent } of DAMAGES) {
  for (const index of ["with", "without"]) {
    Deno.test(`empty frames: of damage to the ${what} a check and a repair find the end, ${index} index files`, async () => {
      const disk = await planted();
      await forgetPlanted(disk);
      const path = segmentPath(DIR, BUCKET, segment);
      const offsets = framesOf(disk, segment);
      disk.flip(path, at < 0 ? offsets[frame + 1]! + at : offsets[frame]! + at, 1);
      if (index === "without") {
        for (const file of disk.files(segmentFolder(DIR, BUCKET, segment))) if (file.endsWith("idx")) disk.remove(file);
      }
      const lost = SEGMENTS.slice(0, segment).flat().length + frame;
      const { problems } = await checkFolder({ dir: DIR, disk });
      const [first, ...others] = problems.filter(({ file }) => file === path);
      assert.equal(first?.offset, offsets[frame]);
      assert.ok(
        others.some(({ reason }) => reason === `entries ${lost} of the log of bucket ${BUCKET} are missing`),
        JSON.stringify(problems),
      );
      const { report, events } = await repair(disk);
      assert.deepEqual(report.lostEntries, [{ bucket: BUCKET, from: lost, end: lost + 1 }]);
      assert.equal(events.length + report.salvagedEvents, isEvent ? EVENTS - 1 : EVENTS);
    });
  }
}

Deno.test("empty frames: by what a damaged frame says of itself a repair finds the one behind it, which opens a term", async () => {
  const disk = await planted();
  await forgetPlanted(disk);
  // Nothing else says where the log goes on: neither an index nor the header of the next segment.
  for (const file of disk.files(segmentFolder(DIR, BUCKET, 0))) if (file.endsWith("idx")) disk.remove(file);
  disk.flip(segmentPath(DIR, BUCKET, 1), 40, 1);
  disk.flip(segmentPath(DIR, BUCKET, 0), framesOf(disk, 0)[3]! - 1, 1);
  const { report, events } = await repair(disk);
  assert.deepEqual(report.lostEntries, [{ bucket: BUCKET, from: 2, end: 3 }]);
  assert.equal(events.length + report.salvagedEvents, EVENTS - 1);
});
