/**
 * The index of a segment against the simplest thing that could be right: a list of all events, looked through.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../chance.ts";
import { FilePool } from "../log/file_pool.ts";
import { MemoryDisk } from "../log/memory_disk.ts";
import { SeededEnvironment } from "../seeded_environment.ts";
import { BlockCache } from "./block_cache.ts";
import {
  type IndexContext,
  IndexDamaged,
  type Place,
  runSliced,
  type SegmentIdentity,
  SegmentIndex,
} from "./segment_index.ts";
import type { Sliced } from "./sliced.ts";

const FOLDER = "segment";
const SEALED = ["index.eidx", "stream.sidx", "partition.pidx"];

interface ModelEvent {
  id: Uint8Array;
  stream: Uint8Array;
  /** What of the id and the stream key the index knows, as text. */
  idKey: string;
  hash: string;
  version: number;
  partition: number;
  sequence: number;
  offset: number;
}

/** Streams that write in turn, some with the same hash; events whose keys are the same; frames of several events. */
class Model {
  readonly events: ModelEvent[] = [];
  readonly streams: { key: Uint8Array; partition: number; next: number }[] = [];
  readonly #sequences = new Map<number, number>();
  readonly #chance: Chance;
  readonly #streamsMax: number;
  #offset = 64;
  #ms = 1_700_000_000_000;

  constructor(chance: Chance, readonly bucket = 3) {
    this.#chance = chance;
    this.#streamsMax = chance.pick([1, 3, 40, 1000]);
  }

  next(): ModelEvent {
    const chance = this.#chance;
    if (this.streams.length === 0 || this.streams.length < this.#streamsMax && chance.oneIn(3)) {
      const key = chance.bytes(16);
      // A stream of the same hash as another, which only the frames can tell apart.
      if (this.streams.length > 0 && chance.oneIn(8)) key.set(chance.pick(this.streams).key.subarray(0, 8));
      this.streams.push({ key, partition: chance.below(5) * 4 + 3, next: chance.pick([0, 0, 7, 4_000_000_000]) });
    }
    const stream = chance.pick(this.streams);
    const sequence = this.#sequences.get(stream.partition) ?? chance.pick([0, 1234, 2 ** 40]);
    this.#sequences.set(stream.partition, sequence + 1);
    if (!chance.oneIn(4)) this.#offset += chance.between(40, 300);
    const id = chance.bytes(16);
    this.#ms += chance.below(3);
    new DataView(id.buffer).setUint32(0, Math.floor(this.#ms / 0x10000));
    new DataView(id.buffer).setUint16(4, this.#ms % 0x10000);
    if (this.events.length > 0 && chance.oneIn(10)) {
      const other = chance.pick(this.events).id;
      id.set(other.subarray(0, 6));
      id.set(other.subarray(12), 12);
    }
    const { key, partition } = stream;
    const event = {
      id,
      stream: key,
      idKey: idKeyOf(id),
      hash: hashOf(key),
      version: stream.next++,
      partition,
      sequence,
      offset: this.#offset,
    };
    this.events.push(event);
    return event;
  }

  /** As far as all events so far. */
  identity(): SegmentIdentity {
    return {
      bucket: this.bucket,
      segment: 12,
      firstLogIndex: 1000,
      endLogIndex: 1000 + this.events.length,
      endOffset: this.#offset + 100,
      chainLow: this.events.length,
      chainHigh: 0xfedcba98,
    };
  }
}

function makeContext(disk: MemoryDisk, runEventsMax: number, cacheBytes = 1 << 20): IndexContext {
  return {
    pool: new FilePool(disk, 8),
    cache: new BlockCache(cacheBytes),
    environment: new SeededEnvironment(1),
    runEventsMax,
    spareRuns: [],
  };
}

function makeDisk(): MemoryDisk {
  const disk = new MemoryDisk();
  disk.makeFolder(FOLDER);
  return disk;
}

function add(index: SegmentIndex, { id, stream, version, partition, sequence, offset }: ModelEvent): void {
  index.add(id, stream, version, partition, sequence, offset);
}

function hashOf(stream: Uint8Array): string {
  return stream.subarray(0, 8).join();
}

function idKeyOf(id: Uint8Array): string {
  return id.subarray(0, 6).join() + "," + id.subarray(12).join();
}

/** As `streamPlaces` of one that looks through everything. */
function placesByHand(
  events: ModelEvent[],
  stream: Uint8Array,
  from: number,
  end: number,
  limit: number,
  direction: string,
) {
  const hash = hashOf(stream);
  const ours = events.filter((event) => event.hash === hash && event.version >= from && event.version < end);
  const versions = [...new Set(ours.map(({ version }) => version))].sort((a, b) => a - b);
  if (direction === "backward") versions.reverse();
  return versions.slice(0, limit).map((version) => [
    version,
    ours.filter((event) => event.version === version).map(({ offset }) => offset).sort((a, b) => a - b),
  ]);
}

/** Places by version, in the order in which the versions came. */
function grouped(places: Place[]) {
  const versions: [number, number[]][] = [];
  for (const { version, offset } of places) {
    if (versions.at(-1)?.[0] !== version) versions.push([version, []]);
    versions.at(-1)![1].push(offset);
  }
  for (const [, offsets] of versions) offsets.sort((a, b) => a - b);
  return versions;
}

/** Asks the index some of everything, and compares. Damage may be reported, a wrong answer may not be given. */
function compare(index: SegmentIndex, model: Model, chance: Chance, questions: number, events = model.events): void {
  const streams = model.streams;
  assert.equal(index.events, events.length);
  const partitions = new Map<number, number[]>();
  for (const event of events) {
    if (!partitions.has(event.partition)) partitions.set(event.partition, []);
    partitions.get(event.partition)!.push(event.offset);
  }
  const firsts = new Map(events.toReversed().map(({ partition, sequence }) => [partition, sequence]));
  assert.deepEqual(
    index.partitions(),
    [...partitions].sort(([a], [b]) => a - b).map(([partition, offsets]) => ({
      partition,
      first: firsts.get(partition)!,
      end: firsts.get(partition)! + offsets.length,
    })),
  );
  assert.equal(index.partitionRange(4), null);
  for (let i = 0; i < questions && events.length > 0; i++) {
    const event = chance.pick(events);
    assert.deepEqual(
      index.eventOffsets(event.id).sort((a, b) => a - b),
      events.filter(({ idKey }) => idKey === event.idKey).map(({ offset }) => offset).sort((a, b) => a - b),
    );
    assert.deepEqual(index.eventOffsets(chance.bytes(16)), []);

    const stream = chance.oneIn(2) ? event.stream : chance.pick(streams).key;
    const held = events.some(({ hash }) => hash === hashOf(stream));
    if (held) assert.equal(index.mayHoldStream(stream), true);
    const from = chance.oneIn(3) ? 0 : Math.max(0, event.version - chance.below(20));
    const end = chance.oneIn(3) ? Infinity : event.version + chance.below(20);
    const limit = chance.pick([1, 2, 10, 300, Infinity]);
    for (const direction of ["forward", "backward"] as const) {
      assert.deepEqual(
        grouped(index.streamPlaces(stream, from, end, limit, direction)),
        placesByHand(events, stream, from, end, limit, direction),
        `${direction} [${from}, ${end}) limit ${limit}`,
      );
    }
    assert.deepEqual(
      grouped(index.streamPlaces(stream, 0, Infinity, 1, "backward")),
      placesByHand(events, stream, 0, Infinity, 1, "backward"),
    );

    const offsets = partitions.get(event.partition)!;
    const first = firsts.get(event.partition)!;
    assert.deepEqual(index.partitionRange(event.partition), { first, end: first + offsets.length });
    const fromPlace = chance.below(offsets.length);
    const endPlace = chance.between(fromPlace, offsets.length);
    assert.deepEqual(
      [...index.partitionOffsets(event.partition, first + fromPlace, first + endPlace)],
      offsets.slice(fromPlace, endPlace),
    );
  }
}

/** Runs work to its end, and between its steps whatever is to happen. */
async function finish(work: Sliced, between: () => void = () => {}): Promise<void> {
  for (const step of work) {
    if (step !== undefined) await step;
    between();
  }
}

Deno.test("SegmentIndex agrees with a list of all events, in every state, for many seeds", async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const chance = new Chance(seed);
    const model = new Model(chance);
    const disk = makeDisk();
    const context = makeContext(disk, chance.pick([20, 100, 700]), chance.pick([0, 20_000, 1 << 20]));
    let index = SegmentIndex.open(context, FOLDER);
    const addSome = (most: number) => {
      for (let left = chance.below(most); left > 0; left--) add(index, model.next());
    };
    for (let round = 0; round < 10; round++) {
      addSome(chance.pick([5, 300, 1500]));
      if (index.pieceDue || chance.oneIn(4)) {
        await finish(index.writePiece(model.identity()), () => {
          addSome(4);
          if (chance.oneIn(4)) compare(index, model, chance, 1);
        });
      }
      compare(index, model, chance, 10);
      if (!chance.oneIn(5)) continue;
      // Another process: what was in memory only is added again, as if from the frames.
      index.close();
      const loaded = SegmentIndex.loadPieces(context, FOLDER, model.bucket, 12);
      index = loaded.index;
      const covered = loaded.covered === null ? 0 : loaded.covered.chainLow;
      assert.equal(index.events, covered);
      for (const event of model.events.slice(covered)) add(index, event);
      compare(index, model, chance, 10);
    }
    await finish(index.seal(model.identity()), () => {
      if (chance.oneIn(6)) compare(index, model, chance, 1);
    });
    assert.deepEqual(disk.files(FOLDER), SEALED.map((name) => `${FOLDER}/${name}`).sort());
    compare(index, model, chance, 30);
    index.close();
    assert.equal(context.cache.entries, 0);

    const sealed = SegmentIndex.loadSealed(context, FOLDER, model.identity());
    compare(sealed, model, chance, 30);
    sealed.close();
  }
});

Deno.test("sealed files are the same bytes, whatever pieces there were", async () => {
  for (let seed = 100; seed < 110; seed++) {
    const chance = new Chance(seed);
    const model = new Model(chance);
    for (let left = 3000; left > 0; left--) model.next();
    const contents = [];
    for (const pieces of [0, 1, 5]) {
      const disk = makeDisk();
      const index = SegmentIndex.open(makeContext(disk, 1 << 20), FOLDER);
      const marks = new Set(Array.from({ length: pieces }, () => chance.below(3000)));
      for (let i = 0; i < 3000; i++) {
        add(index, model.events[i]!);
        if (marks.has(i)) await finish(index.writePiece({ ...model.identity(), endLogIndex: 1001 + i }));
      }
      await finish(index.seal(model.identity()));
      contents.push(SEALED.map((name) => disk.contentOf(`${FOLDER}/${name}`)));
    }
    assert.deepEqual(contents[1], contents[0]);
    assert.deepEqual(contents[2], contents[0]);
  }
});

async function sealedModel(seed: number, events: number) {
  const model = new Model(new Chance(seed));
  for (let left = events; left > 0; left--) model.next();
  const disk = makeDisk();
  const index = SegmentIndex.open(makeContext(disk, 1 << 20), FOLDER);
  for (const event of model.events) add(index, event);
  await finish(index.seal(model.identity()));
  return { model, disk };
}

/** Asks everything of a damaged folder: true if the damage was seen, false if all answers were right. Nothing else. */
function seesDamage(disk: MemoryDisk, model: Model, chance: Chance): boolean {
  const context = makeContext(disk, 1 << 20, 0);
  try {
    const index = SegmentIndex.loadSealed(context, FOLDER, model.identity());
    compare(index, model, chance, 4);
    return false;
  } catch (error) {
    if (!(error instanceof IndexDamaged)) throw error;
    assert.match(error.file, /^segment\/(index\.eidx|stream\.sidx|partition\.pidx)$/);
    return true;
  }
}

Deno.test("a flipped bit in any block, and a cut anywhere, is reported or harmless, never a wrong answer", async () => {
  const { model, disk } = await sealedModel(7, 1200);
  const chance = new Chance(8);
  assert.equal(seesDamage(disk, model, chance), false);
  let seen = 0;
  for (const name of SEALED) {
    const path = `${FOLDER}/${name}`;
    const size = disk.contentOf(path).length;
    for (let block = 0; block < size; block += 4096) {
      for (let tries = 0; tries < 4; tries++) {
        const damaged = disk.clone();
        damaged.flip(path, block + chance.below(4096), 1 << chance.below(8));
        const found = seesDamage(damaged, model, chance);
        if (block === 0) assert.equal(found, true, "a header is read whenever its file is opened");
        if (found) seen++;
      }
      const cut = disk.clone();
      cut.cut(path, block + chance.below(4096));
      assert.equal(seesDamage(cut, model, chance), true);
    }
    const longer = disk.clone();
    const file = longer.open(path, "write");
    file.write(new Uint8Array(4096), size);
    assert.equal(seesDamage(longer, model, chance), true);
  }
  assert.ok(seen > 20, `only ${seen} flips were seen`);
});

Deno.test("a file that is missing, of another segment, or of another state of it is refused", async () => {
  const { model, disk } = await sealedModel(9, 500);
  const other = await sealedModel(9, 499);
  const foreign = new Model(new Chance(9), 4);
  for (let left = 500; left > 0; left--) foreign.next();
  const load = (from: MemoryDisk, identity = model.identity()) =>
    SegmentIndex.loadSealed(makeContext(from, 1), FOLDER, identity);
  for (const name of SEALED) {
    const missing = disk.clone();
    missing.remove(`${FOLDER}/${name}`);
    assert.throws(
      () => load(missing),
      (error: unknown) => error instanceof IndexDamaged && error.reason === "it is missing",
    );
    const mixed = disk.clone();
    const file = mixed.open(`${FOLDER}/${name}`, "create");
    file.write(other.disk.contentOf(`${FOLDER}/${name}`), 0);
    assert.throws(() => load(mixed, { bucket: 3, segment: 12 } as SegmentIdentity), IndexDamaged);
  }
  assert.throws(() => load(disk, foreign.identity()), IndexDamaged);
  assert.throws(() => load(disk, { ...model.identity(), endOffset: model.identity().endOffset + 1 }), IndexDamaged);
});

Deno.test("a block of one file in the place of another's, or of another place, is refused", async () => {
  const { model, disk } = await sealedModel(10, 1200);
  const other = await sealedModel(11, 1200);
  const chance = new Chance(12);
  const path = `${FOLDER}/index.eidx`;
  const moves = [[other.disk, 1, 1], [disk, 1, 2], [disk, 2, 1]] as const;
  for (const [source, from, to] of moves) {
    const damaged = disk.clone();
    damaged.open(path, "write").write(source.contentOf(path).subarray(from * 4096, from * 4096 + 4096), to * 4096);
    const index = SegmentIndex.loadSealed(makeContext(damaged, 1), FOLDER, model.identity());
    assert.throws(() => {
      for (const { id } of model.events) index.eventOffsets(id);
    }, IndexDamaged);
  }
  assert.equal(seesDamage(disk, model, chance), false);
});

Deno.test("pieces are believed up to the first that is damaged or does not follow, the rest is removed", async () => {
  const model = new Model(new Chance(20));
  const disk = makeDisk();
  const index = SegmentIndex.open(makeContext(disk, 100), FOLDER);
  const ends: number[] = [];
  for (let piece = 0; piece < 4; piece++) {
    for (let left = 100; left > 0; left--) add(index, model.next());
    assert.equal(index.pieceDue, true);
    await finish(index.writePiece(model.identity()));
    assert.equal(index.pieceDue, false);
    ends.push(model.events.length);
  }
  const damages: [string, (disk: MemoryDisk) => void, number][] = [
    ["nothing", () => {}, 4],
    ["a header", (disk) => disk.flip(`${FOLDER}/piece-002.sidx`, 50, 1), 2],
    ["a missing file", (disk) => disk.remove(`${FOLDER}/piece-001.pidx`), 1],
    ["a missing first file", (disk) => disk.remove(`${FOLDER}/piece-000.eidx`), 0],
    ["a gap", (disk) => {
      for (const kind of ["eidx", "sidx", "pidx"]) {
        disk.rename(`${FOLDER}/piece-003.${kind}`, `${FOLDER}/piece-002.${kind}`);
      }
    }, 2],
    ["an unfinished file", (disk) => disk.open(`${FOLDER}/piece-004.eidx.tmp`, "create").close(), 4],
  ];
  for (const [what, damage, kept] of damages) {
    const damaged = disk.clone();
    damage(damaged);
    const { index: loaded, covered } = SegmentIndex.loadPieces(makeContext(damaged, 100), FOLDER, 3, 12);
    assert.equal(damaged.files(FOLDER).length, 3 * kept, what);
    assert.equal(covered?.chainLow ?? 0, ends[kept - 1] ?? 0, what);
    if (covered !== null) assert.equal(covered.firstLogIndex, 1000, what);
    compare(loaded, model, new Chance(21), 10, model.events.slice(0, ends[kept - 1] ?? 0));
  }
  const { covered } = SegmentIndex.loadPieces(makeContext(disk.clone(), 100), FOLDER, 3, 13);
  assert.equal(covered, null, "pieces of another segment");
  const opened = SegmentIndex.open(makeContext(disk, 100), FOLDER);
  assert.deepEqual([opened.events, disk.files(FOLDER).length], [0, 12], "nothing is touched before there is a piece");
  add(opened, model.events[0]!);
  await finish(opened.writePiece({ ...model.identity(), endLogIndex: 1100 }));
  assert.equal(disk.files(FOLDER).length, 3, "old pieces would seem to follow the new one");
});

Deno.test("a power cut at every effect of a piece and a seal leaves an index that is whole or is made again", async () => {
  const model = new Model(new Chance(30));
  for (let left = 400; left > 0; left--) model.next();
  const half = { ...model.identity(), endLogIndex: 1200, chainLow: 200 };
  const story = async (disk: MemoryDisk) => {
    const index = SegmentIndex.open(makeContext(disk, 100), FOLDER);
    for (const event of model.events.slice(0, 200)) add(index, event);
    await finish(index.writePiece(half));
    for (const event of model.events.slice(200)) add(index, event);
    await finish(index.seal(model.identity()));
  };
  const start = makeDisk();
  await start.syncFolder("");
  const effects = start.effects;
  const calm = start.clone();
  await story(calm);
  let [sealed, pieces, nothing] = [0, 0, 0];
  for (let cut = 1; cut <= calm.effects; cut++) {
    const disk = start.clone();
    disk.powerCutAt(cut);
    await assert.rejects(story(disk), { name: "PowerCut" });
    const after = disk.afterPowerCut(cut);
    const context = makeContext(after, 100);
    const chance = new Chance(cut);
    try {
      compare(SegmentIndex.loadSealed(context, FOLDER, model.identity()), model, chance, 5);
      sealed++;
      continue;
    } catch (error) {
      if (!(error instanceof IndexDamaged)) throw error;
    }
    const { index, covered } = SegmentIndex.loadPieces(context, FOLDER, 3, 12);
    if (covered === null) nothing++;
    else pieces++;
    const known = covered?.chainLow ?? 0;
    compare(index, model, chance, 5, model.events.slice(0, known));
    for (const event of model.events.slice(known)) add(index, event);
    await finish(index.seal(model.identity()));
    compare(index, model, chance, 5);
    assert.deepEqual(
      SEALED.map((name) => after.contentOf(`${FOLDER}/${name}`)),
      SEALED.map((name) => calm.contentOf(`${FOLDER}/${name}`)),
    );
  }
  assert.ok(effects >= 0 && sealed > 0 && pieces > 0 && nothing > 0, `${sealed} ${pieces} ${nothing}`);
});

Deno.test("a piece or a seal that fails or is stopped loses nothing and can be tried again", async () => {
  const chance = new Chance(40);
  const model = new Model(chance);
  const disk = makeDisk();
  const context = makeContext(disk, 100);
  const index = SegmentIndex.open(context, FOLDER);
  for (let left = 500; left > 0; left--) add(index, model.next());
  disk.capacityBytes = 10_000;
  await assert.rejects(finish(index.writePiece(model.identity())), { name: "NoSpace" });
  disk.capacityBytes = Infinity;
  assert.deepEqual(disk.files(FOLDER), []);
  compare(index, model, chance, 10);

  const stop = new AbortController();
  stop.abort(new Error("stopped"));
  await assert.rejects(runSliced(index.writePiece(model.identity()), context.environment, stop.signal), /stopped/);
  const begun = index.writePiece(model.identity());
  begun.next();
  assert.throws(() => index.writePiece(model.identity()), /being written/);
  begun.return();
  assert.deepEqual(disk.files(FOLDER), []);

  for (let left = 50; left > 0; left--) add(index, model.next());
  await runSliced(index.writePiece(model.identity()), context.environment);
  assert.deepEqual(disk.files(FOLDER).length, 3);
  compare(index, model, chance, 10);
  for (let left = 50; left > 0; left--) add(index, model.next());

  disk.failSync(2);
  await assert.rejects(finish(index.seal(model.identity())), { code: "EIO" });
  compare(index, model, chance, 10);
  assert.throws(() => add(index, model.events[0]!), /sealed or closed/);
  await runSliced(index.seal(model.identity()), context.environment);
  compare(index, model, chance, 10);
  assert.equal(index.memoryBytes < 5000, true);
});

Deno.test("an index that is closed while its files are written leaves none behind", async () => {
  const model = new Model(new Chance(50));
  const disk = makeDisk();
  const index = SegmentIndex.open(makeContext(disk, 100), FOLDER);
  for (let left = 500; left > 0; left--) add(index, model.next());
  const work = index.seal(model.identity());
  for (let step = 0; step < 3; step++) work.next();
  index.close();
  await finish(work);
  assert.deepEqual(disk.files(FOLDER), []);
});

Deno.test("a segment without events has an index too", async () => {
  const model = new Model(new Chance(60));
  const disk = makeDisk();
  const index = SegmentIndex.open(makeContext(disk, 100), FOLDER);
  await finish(index.writePiece(model.identity()));
  await finish(index.seal(model.identity()));
  const sealed = SegmentIndex.loadSealed(makeContext(disk, 100), FOLDER, model.identity());
  for (const empty of [index, sealed]) {
    compare(empty, model, new Chance(61), 1);
    assert.deepEqual(empty.eventOffsets(new Uint8Array(16)), []);
    assert.deepEqual(empty.streamPlaces(new Uint8Array(16), 0, Infinity, 1, "backward"), []);
    assert.equal(empty.mayHoldStream(new Uint8Array(16)), false);
  }
});

Deno.test("a small cache stays within its bound and changes no answer", async () => {
  const { model, disk } = await sealedModel(70, 5000);
  const context = makeContext(disk, 1, 20_000);
  const index = SegmentIndex.loadSealed(context, FOLDER, model.identity());
  compare(index, model, new Chance(71), 50);
  const { cache } = context;
  assert.ok(cache.memoryBytes <= 20_000 && cache.entries === 4, `${cache.memoryBytes} bytes`);
  assert.ok(cache.hits > 0 && cache.misses > 0 && cache.evictions > 0);
  index.close();
  assert.equal(cache.entries, 0);
});

Deno.test("add() refuses a sequence that is not the next of its partition, in the run and behind a piece", async () => {
  const index = SegmentIndex.open(makeContext(makeDisk(), 10), FOLDER);
  const id = new Uint8Array(16);
  index.add(id, id, 0, 3, 5, 100);
  assert.throws(() => index.add(id, id, 1, 3, 7, 200), /sequence 7 of partition 3: the next must be 6/);
  await finish(index.writePiece(new Model(new Chance(1)).identity()));
  assert.throws(() => index.add(id, id, 1, 3, 5, 200), /the next must be 6/);
  assert.throws(() => index.add(id, id, 2 ** 32, 3, 6, 200), RangeError);
  index.add(id, id, 1, 3, 6, 200);
  assert.deepEqual([...index.partitionOffsets(3, 5, 7)], [100, 200]);
});

Deno.test("200,000 events, which take three levels of keys, are all found, and few of those that are not there", async () => {
  const disk = makeDisk();
  const context = makeContext(disk, 50_000);
  const index = SegmentIndex.open(context, FOLDER);
  const chance = new Chance(80);
  const identity = new Model(chance).identity();
  const ids: Uint8Array[] = [];
  const keys = Array.from({ length: 30_000 }, () => chance.bytes(16));
  const count = 200_000;
  for (let i = 0; i < count; i++) {
    ids.push(chance.bytes(16));
    index.add(ids[i]!, keys[i % keys.length]!, Math.floor(i / keys.length), i % 3, Math.floor(i / 3), 64 + i);
    if (index.pieceDue) await finish(index.writePiece({ ...identity, endLogIndex: 1000 + i }));
  }
  const askAll = () => {
    for (let i = 0; i < count; i++) {
      const offsets = index.eventOffsets(ids[i]!);
      assert.ok(offsets.length === 1 && offsets[0] === 64 + i);
    }
    for (let i = 0; i < keys.length; i++) {
      const places = index.streamPlaces(keys[i]!, 0, Infinity, Infinity, "forward");
      assert.ok(places.length === (i < count % keys.length ? 7 : 6));
      assert.ok(places.every(({ version, offset }, at) => version === at && offset === 64 + at * keys.length + i));
      const head = index.streamPlaces(keys[i]!, 0, Infinity, 1, "backward");
      assert.ok(head.length === 1 && head[0]!.version === places.length - 1);
    }
    assert.ok(index.partitionOffsets(1, 0, 66_667).every((offset, sequence) => offset === 65 + 3 * sequence));
    let passed = 0;
    for (let i = 0; i < 20_000; i++) if (index.mayHoldStream(chance.bytes(16))) passed++;
    return passed;
  };
  assert.ok(askAll() < 20_000 * 0.04, "four filters of pieces");
  await finish(index.seal(identity));
  assert.ok(askAll() < 20_000 * 0.01, "one filter");
});
