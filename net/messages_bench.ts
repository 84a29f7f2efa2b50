/**
 * What it costs to say things to another node: an append of 50 entries with payloads of 300 bytes, out and in.
 *
 *     deno bench net/messages_bench.ts
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { admit } from "../core/event.ts";
import { Chain as ChainSum, encodeFrame, frameBytesBound } from "../core/log/format.ts";
import { SeededEnvironment } from "../core/seeded_environment.ts";
import type { ClusterShape } from "./consensus/topology.ts";
import { FrameEntries } from "./frame_entries.ts";
import { type Beat, MessageDecoder, MessageEncoder, type NodeMessage } from "./messages.ts";

const SHAPE: ClusterShape = {
  clusterId: "bench",
  nodeCount: 3,
  partitionCount: 32,
  bucketCount: 4,
  replicationFactor: 3,
  segmentBytes: 256 * 1024 * 1024,
};
const ENTRIES = 50;
const PAYLOAD_BYTES = 300;
const FIRST = { logIndex: 1_000_000, prevChain: { low: 1, high: 2 }, term: 7 };
const DATA_ID = 2 ** 47 + 1;

const encoder = new MessageEncoder(SHAPE);
const decoder = new MessageDecoder(SHAPE, 1);

const environment = new SeededEnvironment(1);
const admitted = admit({
  events: [{ streamId: "order-123456", name: "OrderPlaced", payload: new Uint8Array(PAYLOAD_BYTES) }],
}, environment);
const memory = new Uint8Array(ENTRIES * frameBytesBound(admitted));
const view = new DataView(memory.buffer);
const ends: number[] = [];
const crcs: number[] = [];
const prevChain = new ChainSum(FIRST.prevChain.low, FIRST.prevChain.high);
for (let i = 0, at = 0; i < ENTRIES; i++) {
  const logIndex = FIRST.logIndex + i;
  const placing = {
    ...FIRST,
    logIndex,
    partition: 4,
    firstSequence: 500_000 + i,
    prevChain,
    versions: [i],
    prevs: [1],
  };
  const { end, crc } = encodeFrame(memory, view, at, admitted, placing);
  prevChain.step(FIRST.term, logIndex, crc);
  ends.push(at = end);
  crcs.push(crc);
}
const frames = memory.slice(0, ends.at(-1));
const entries = FrameEntries.encoded(frames, FIRST, ends, crcs);
const from = { slot: 0, dataId: DATA_ID, boot: DATA_ID };
const append: NodeMessage = {
  kind: "replica",
  bucket: 0,
  from,
  message: {
    kind: "append",
    term: FIRST.term,
    from: FIRST.logIndex,
    prevTerm: FIRST.term,
    prevChain: FIRST.prevChain,
    entries,
    commitEnd: FIRST.logIndex,
    bulk: false,
  },
};
const ack: NodeMessage = {
  kind: "replica",
  bucket: 0,
  from,
  message: { kind: "ack", term: FIRST.term, end: FIRST.logIndex, recovering: false },
};
const beats: Beat[] = Array.from({ length: 16 }, (_, i) => ({
  bucket: i % SHAPE.bucketCount,
  from: { ...from, slot: senderSlot(i % SHAPE.bucketCount) },
  message: {
    kind: "heartbeat",
    term: 7,
    round: 100_000,
    end: FIRST.logIndex,
    chain: FIRST.prevChain,
    commitEnd: FIRST.logIndex,
    heldEnds: [FIRST.logIndex, FIRST.logIndex, FIRST.logIndex],
  },
}));
const heartbeats: NodeMessage = { kind: "heartbeats", beats };

/** Of node 0. */
function senderSlot(bucket: number): number {
  return (SHAPE.nodeCount - bucket % SHAPE.nodeCount) % SHAPE.nodeCount;
}

function bytesOf(message: NodeMessage): Uint8Array {
  encoder.add(message);
  return encoder.take().slice();
}

const must = { bucket: 0, bucketCount: 4, from: FIRST.logIndex, prevChain: FIRST.prevChain, prevTerm: 7, term: 7 };

for (const [name, message] of Object.entries({ append, ack, heartbeats })) {
  const bytes = bytesOf(message);
  Deno.bench(`encode ${name}: ${bytes.length} bytes`, () => {
    encoder.add(message);
    encoder.take();
  });
  Deno.bench(`decode ${name}: ${bytes.length} bytes`, () => void decoder.decode(bytes));
}
Deno.bench("of that, to verify the entries", () => void FrameEntries.verify(frames, must));
Deno.bench("of that, the checksums alone", () => {
  for (let i = 0, at = 0; i < ENTRIES; at = ends[i++]!) crc32(frames.subarray(at + 8, ends[i]));
});
Deno.bench(
  "entries that were just encoded, with their table",
  () => void FrameEntries.encoded(frames, FIRST, ends, crcs),
);
