/**
 * What the index of a segment costs: adding, looking up in the run and in sealed files that are in the cache, and
 * building the files of a million events.
 *
 * @module
 */
import { systemDisk } from "../log/disk.ts";
import { FilePool } from "../log/file_pool.ts";
import { systemEnvironment } from "../environment.ts";
import { Chance } from "../chance.ts";
import { BlockCache } from "./block_cache.ts";
import { type IndexContext, runSliced, type SegmentIdentity, SegmentIndex } from "./segment_index.ts";

const EVENTS = 1_000_000;
const STREAMS = 250_000;

const chance = new Chance(1);
const ids = chance.bytes(EVENTS * 4);
const keys = chance.bytes(STREAMS * 8);
const folder = Deno.makeTempDirSync();
addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
const context: IndexContext = {
  pool: new FilePool(systemDisk),
  cache: new BlockCache(64 << 20),
  environment: systemEnvironment(),
};

const id = new Uint8Array(16);
const key = new Uint8Array(16);

/** Ten ids a millisecond, as a busy store makes them. */
function idOf(event: number): Uint8Array {
  const ms = Math.floor(event / 10);
  id[3] = ms >>> 16;
  id[4] = ms >>> 8;
  id[5] = ms;
  for (let i = 0; i < 4; i++) id[12 + i] = ids[event * 4 + i]!;
  return id;
}

function keyOf(event: number): Uint8Array {
  const stream = event % STREAMS;
  for (let i = 0; i < 8; i++) key[i] = keys[stream * 8 + i]!;
  return key;
}

function addEvent(index: SegmentIndex, event: number): void {
  index.add(idOf(event), keyOf(event), Math.floor(event / STREAMS), event & 255, event >>> 8, 64 + event * 200);
}

function identity(name: number, events: number): SegmentIdentity {
  return {
    bucket: 0,
    segment: name,
    firstLogIndex: 0,
    endLogIndex: events,
    endOffset: 64 + events * 200,
    chainLow: 0,
    chainHigh: 0,
  };
}

async function build(name: number, events: number): Promise<SegmentIndex> {
  Deno.mkdirSync(`${folder}/${name}`, { recursive: true });
  const index = SegmentIndex.open(context, `${folder}/${name}`);
  for (let event = 0; event < events; event++) {
    addEvent(index, event);
    if (index.pieceDue) await runSliced(index.writePiece(identity(name, event + 1)), context.environment);
  }
  await runSliced(index.seal(identity(name, events)), context.environment);
  return index;
}

const RUN = 100_000;
let filled = 0;
let filling = SegmentIndex.open(context, `${folder}`);
const run = SegmentIndex.open(context, `${folder}`);
for (let event = 0; event < RUN; event++) addEvent(run, event);
const sealed = await build(1, EVENTS);
for (let event = 0; event < EVENTS; event += 50) sealed.eventOffsets(idOf(event));
let at = 0;

Deno.bench("add", { group: "run" }, () => {
  if (filled === 65_536) {
    filling = SegmentIndex.open(context, folder);
    filled = 0;
  }
  addEvent(filling, filled++);
});

Deno.bench("event id", { group: "run" }, () => {
  run.eventOffsets(idOf(at = (at + 7919) % RUN));
});

Deno.bench("head of a stream", { group: "run" }, () => {
  run.streamPlaces(keyOf(at = (at + 7919) % RUN), 0, Infinity, 1, "backward");
});

Deno.bench("event id", { group: "sealed, a million events, warm" }, () => {
  sealed.eventOffsets(idOf(at = (at + 7919) % EVENTS));
});

Deno.bench("event id that is not there", { group: "sealed, a million events, warm" }, () => {
  const unknown = idOf(at = (at + 7919) % EVENTS);
  unknown[15]! ^= 0x55;
  sealed.eventOffsets(unknown);
});

Deno.bench("head of a stream", { group: "sealed, a million events, warm" }, () => {
  sealed.streamPlaces(keyOf(at = (at + 7919) % EVENTS), 0, Infinity, 1, "backward");
});

Deno.bench("stream that is not there", { group: "sealed, a million events, warm" }, () => {
  const unknown = keyOf(at = (at + 7919) % EVENTS);
  unknown[7]! ^= 0x55;
  sealed.mayHoldStream(unknown);
});

Deno.bench("256 offsets of a partition", { group: "sealed, a million events, warm" }, () => {
  at = (at + 7919) % EVENTS;
  const first = at % 3000;
  sealed.partitionOffsets(at & 255, first, first + 256);
});

let name = 2;
Deno.bench("add a million events, write 7 pieces, seal", { group: "build", n: 2, warmup: 1 }, async () => {
  (await build(name++, EVENTS)).close();
});
