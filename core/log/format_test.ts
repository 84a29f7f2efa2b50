import assert from "node:assert/strict";
import { admit, type Transaction } from "../event.ts";
import { SeededEnvironment } from "../seeded_environment.ts";
import { formatUuid } from "../uuid.ts";
import {
  Chain,
  decodeSegmentHeader,
  EMPTY_FRAME_BYTES_MAX,
  encodeEmptyFrame,
  encodeFrame,
  encodeSegmentHeader,
  Frame,
  FRAME_BYTES_MIN,
  frameBytesAt,
  frameBytesBound,
  frameHeadAt,
  SEGMENT_HEADER_BYTES,
} from "./format.ts";

const GOLDEN = new URL("../../testdata/segments/", import.meta.url);
const KEY = "550e8400-e29b-41d4-a716-446655440000";

/** A hex file: bytes in pairs, `#` begins a comment. */
function golden(name: string): Uint8Array {
  const text = Deno.readTextFileSync(new URL(name, GOLDEN)).replace(/#.*$/gm, "");
  return Uint8Array.from(text.match(/[0-9a-f]{2}/g)!, (pair) => parseInt(pair, 16));
}

function encode(
  transaction: Transaction,
  logIndex: number,
  firstSequence: number,
  versions: number[],
  prevs: number[],
) {
  const admitted = admit(transaction, new SeededEnvironment(1));
  const into = new Uint8Array(frameBytesBound(admitted));
  const { end } = encodeFrame(into, new DataView(into.buffer), 0, admitted, {
    logIndex,
    term: 1,
    partition: 25,
    firstSequence,
    prevChain: Chain.ofBucket(1),
    versions,
    prevs,
  });
  return into.slice(0, end);
}

function encodeEmpty(bucket: number, term: number, logIndex: number): Uint8Array {
  const into = new Uint8Array(EMPTY_FRAME_BYTES_MAX);
  const prevChain = Chain.ofBucket(bucket);
  const { end } = encodeEmptyFrame(into, new DataView(into.buffer), 0, { bucket, term, logIndex, prevChain });
  return into.slice(0, end);
}

function decode(bytes: Uint8Array): Frame {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  assert.equal(frameBytesAt(view, 0), bytes.length);
  const frame = Frame.decode(bytes, view, 0, bytes.length);
  assert(typeof frame !== "string", String(frame));
  return frame;
}

const SINGLE: Transaction = {
  events: [{
    streamId: "user-123",
    name: "UserCreated",
    eventId: "01a20505-26b5-bd87-bb95-42ce9cb94300",
    timestamp: 1_700_000_000_123,
    payload: '{"name": "Alice"}',
  }],
};
const SEVERAL: Transaction = {
  partitionKey: KEY,
  events: [
    { streamId: "a", name: "A", eventId: "01a20505-26b5-bd87-a716-442e9cb94301", timestamp: 1, payload: "p" },
    { streamId: "b", name: "", eventId: "01a20505-26b5-bd87-a716-442e9cb94302", timestamp: 2, metadata: "m" },
    { streamId: "a", name: "A", eventId: "01a20505-26b5-bd87-a716-442e9cb94303", timestamp: 2 ** 40 },
  ],
};

Deno.test("a segment header and frames have the bytes of the golden files", () => {
  const header = encodeSegmentHeader({ bucket: 1, segment: 2, firstLogIndex: 300, prevChain: Chain.ofBucket(1) });
  assert.deepEqual(header, golden("header.hex"));
  assert.deepEqual(encode(SINGLE, 300, 70_000, [0], [0]), golden("single_event.hex"));
  assert.deepEqual(encode(SEVERAL, 2 ** 40, 5, [7, 0, 8], [3, 0, 2]), golden("several_events.hex"));
  assert.deepEqual(encodeEmpty(1, 2, 300), golden("opens_term.hex"));
});

Deno.test("the golden frames read as what was written", () => {
  const single = decode(golden("single_event.hex"));
  assert(single.next());
  assert.deepEqual(single.record(), {
    eventId: "01a20505-26b5-bd87-bb95-42ce9cb94300",
    partitionKey: "7e124fe8-fe28-5398-bb95-53973100148f",
    partition: 25,
    transactionId: "01a20505-26b5-4d87-bb95-42ce9cb94300",
    sequence: 70_000,
    streamId: "user-123",
    version: 0,
    name: "UserCreated",
    timestamp: 1_700_000_000_123,
    metadata: new Uint8Array(),
    payload: new TextEncoder().encode('{"name": "Alice"}'),
  });
  assert(!single.next());

  const several = decode(golden("several_events.hex"));
  assert.deepEqual([several.logIndex, several.term, several.count, several.firstSequence], [2 ** 40, 1, 3, 5]);
  assert.equal(formatUuid(several.partitionKeyBytes()), KEY);
  const events = [];
  while (several.next()) {
    const { streamId, version, sequence, timestamp } = several.record();
    events.push({ streamId, version, prev: several.prev, sequence, timestamp });
  }
  assert.deepEqual(events, [
    { streamId: "a", version: 7, prev: 3, sequence: 5, timestamp: 1 },
    { streamId: "b", version: 0, prev: 0, sequence: 6, timestamp: 2 },
    { streamId: "a", version: 8, prev: 2, sequence: 7, timestamp: 2 ** 40 },
  ]);
  const empty = decode(golden("opens_term.hex"));
  assert.deepEqual([empty.logIndex, empty.term, empty.partition, empty.count], [300, 2, 1, 0]);
  assert(empty.isSpent && !empty.next());
  assert.equal(empty.payloadEnd, empty.end);
  const header = decodeSegmentHeader(golden("header.hex"));
  assert.deepEqual(header, { bucket: 1, segment: 2, firstLogIndex: 300, prevChain: Chain.ofBucket(1) });
});

Deno.test("a frame knows the same stream keys as the transaction that it was made from", () => {
  const first = admit(SINGLE, new SeededEnvironment(1));
  // Under the default key of its first stream, under a key of its own, and with a stream whose default key it is.
  for (const partitionKey of [formatUuid(first.partitionKey), KEY]) {
    const transaction = { partitionKey, events: [{ streamId: "user-123", name: "" }, { streamId: "x", name: "" }] };
    for (const events of [transaction.events, transaction.events.toReversed()]) {
      const admitted = admit({ partitionKey, events }, new SeededEnvironment(1));
      const frame = decode(encode({ partitionKey, events }, 1, 0, [0, 0], [0, 0]));
      for (const event of admitted.events) {
        assert(frame.next());
        assert.deepEqual(frame.streamKey(), event.streamKey);
        assert.deepEqual(frame.partitionKeyBytes(), admitted.partitionKey);
      }
    }
  }
});

Deno.test("every flipped bit of a frame or header is found", () => {
  for (const name of ["single_event.hex", "several_events.hex", "opens_term.hex"]) {
    const bytes = golden(name);
    const view = new DataView(bytes.buffer);
    for (let bit = 32; bit < bytes.length * 8; bit++) { // The length before it is held against the file by the reader.
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      assert.equal(typeof Frame.decode(bytes, view, 0, bytes.length), "string", `${name}, bit ${bit}`);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
  }
  const header = golden("header.hex");
  for (let bit = 0; bit < 48 * 8; bit++) {
    header[bit >> 3]! ^= 1 << (bit & 7);
    assert.equal(typeof decodeSegmentHeader(header), "string", `bit ${bit}`);
    header[bit >> 3]! ^= 1 << (bit & 7);
  }
  assert.equal(header.length, SEGMENT_HEADER_BYTES);
});

Deno.test("a frame without events has the bytes that a frame can have at least, and has room for the largest numbers", () => {
  assert.equal(encodeEmpty(0, 1, 0).length, FRAME_BYTES_MIN);
  const largest = encodeEmpty(65_534, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  assert(largest.length <= EMPTY_FRAME_BYTES_MAX);
  const { logIndex, term, partition } = decode(largest);
  const head = { logIndex, term, partition };
  assert.deepEqual(head, { logIndex: Number.MAX_SAFE_INTEGER, term: Number.MAX_SAFE_INTEGER, partition: 65_534 });
  const { frameBytes, crc: _, ...found } = frameHeadAt(largest, new DataView(largest.buffer), 0)!;
  assert.deepEqual([frameBytes, found], [largest.length, head]);
});

Deno.test("a chain depends on every fact of every entry, and on their order", () => {
  const entries = [[1, 7, 0xdeadbeef], [1, 8, 0], [2, 9, 1], [2, 2 ** 33, 1]] as const;
  const chainOf = (list: readonly (readonly [number, number, number])[]) => {
    const chain = Chain.ofBucket(0);
    for (const [term, logIndex, crc] of list) chain.step(term, logIndex, crc);
    return `${chain.low}/${chain.high}`;
  };
  const seen = new Set([chainOf(entries), chainOf(entries.toReversed()), chainOf(entries.slice(1))]);
  for (let i = 0; i < entries.length; i++) {
    for (let fact = 0; fact < 3; fact++) {
      const other = entries.map((entry) => [...entry] as [number, number, number]);
      other[i]![fact]! ^= 1;
      seen.add(chainOf(other));
    }
  }
  assert.equal(seen.size, 3 + 3 * entries.length);
});

Deno.test("an event alone costs what was budgeted beyond its payload", () => {
  const bytes = encode(SINGLE, 300, 70_000, [0], [0]).length - '{"name": "Alice"}'.length;
  assert(bytes <= 81, `${bytes} bytes`);
});
