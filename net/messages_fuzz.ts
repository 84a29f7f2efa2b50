/**
 * Messages between nodes: any message reads as it was written, and any bytes are refused, or are a message that would be
 * written so. Nothing else is ever thrown.
 *
 * @module
 */
import assert from "node:assert/strict";
import { crc32 } from "node:zlib";
import { Chance } from "../core/chance.ts";
import { admit, type EventRecord, type NewEvent } from "../core/event.ts";
import {
  Chain as ChainSum,
  EMPTY_FRAME_BYTES_MAX,
  encodeEmptyFrame,
  encodeFrame,
  frameBytesAt,
  frameBytesBound,
} from "../core/log/format.ts";
import { SeededEnvironment } from "../core/seeded_environment.ts";
import { formatUuid } from "../core/uuid.ts";
import type { Chain } from "./consensus/entries.ts";
import { ID_MAX, type Message } from "./consensus/message.ts";
import { type ClusterShape, slotOf } from "./consensus/topology.ts";
import { FrameEntries } from "./frame_entries.ts";
import {
  type Answer,
  type Beat,
  type Failure,
  FOLLOW_EVENTS_MAX,
  FOLLOW_MS_MAX,
  HOPS_MAX,
  MESSAGE_HEADER_BYTES,
  MessageDecoder,
  MessageEncoder,
  MessageRefused,
  type NodeMessage,
  type Positions,
  type Query,
  REMAINING_MS_MAX,
} from "./messages.ts";

export const SHAPE: ClusterShape = {
  clusterId: "fuzzed",
  nodeCount: 5,
  partitionCount: 32,
  bucketCount: 8,
  replicationFactor: 3,
  segmentBytes: 1024 * 1024,
};
/** Who receives. */
export const NODE = 1;
/** Of which it has replicas. */
const BUCKETS = Array.from({ length: SHAPE.bucketCount }, (_, bucket) => bucket)
  .filter((bucket) => slotOf(bucket, NODE, SHAPE) !== null);

const TESTDATA = new URL("../testdata/", import.meta.url);

/** A hex file: bytes in pairs, `#` begins a comment. */
export function golden(name: string): Uint8Array {
  const text = Deno.readTextFileSync(new URL(name, TESTDATA)).replace(/#.*$/gm, "");
  return Uint8Array.from(text.match(/[0-9a-f]{2}/g)!, (pair) => parseInt(pair, 16));
}

/** Mutations of each message. */
const MUTATIONS = 20;

export function fuzz(seed: number, rounds: number): void {
  const encoder = new MessageEncoder(SHAPE);
  const decoder = new MessageDecoder(SHAPE, NODE);
  for (let round = 0; round < rounds; round++) {
    const chance = new Chance(seed + round);
    const message = someMessage(chance);
    const bytes = encoded(encoder, message);
    assert.deepEqual(plain(decoder.decode(bytes)), plain(message));
    for (let i = 0; i < MUTATIONS; i++) {
      const mutated = mutate(chance, bytes);
      const found = refusalOf(decoder, mutated);
      if (found instanceof MessageRefused) continue;
      assert.deepEqual(encoded(encoder, found), mutated, `seed ${seed + round}: ${found.kind}`);
    }
  }
}

export function encoded(encoder: MessageEncoder, message: NodeMessage): Uint8Array {
  encoder.add(message);
  return encoder.take().slice();
}

/** The message, or why it is none. */
export function refusalOf(decoder: MessageDecoder, bytes: Uint8Array): NodeMessage | MessageRefused {
  try {
    return decoder.decode(bytes);
  } catch (error) {
    if (error instanceof MessageRefused) return error;
    throw error;
  }
}

/** Puts the length into the header again, so that what is behind it is looked at. */
export function withLength(bytes: Uint8Array): Uint8Array {
  if (bytes.length >= 4) new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, bytes.length - 4, true);
  return bytes;
}

function mutate(chance: Chance, original: Uint8Array): Uint8Array {
  let bytes = original.slice();
  switch (chance.below(6)) {
    case 0:
      bytes[chance.below(bytes.length)]! ^= 1 << chance.below(8);
      return bytes;
    case 1:
      return bytes.slice(0, chance.below(bytes.length));
    case 2: // Something in between, or left out.
      bytes = Uint8Array.of(
        ...bytes.subarray(0, chance.below(bytes.length)),
        ...chance.bytes(chance.below(9)),
        ...bytes.subarray(chance.below(bytes.length)),
      );
      return withLength(bytes);
    case 3: { // Another kind, or a body that is none.
      bytes[5] = chance.below(40);
      if (chance.oneIn(2)) bytes = Uint8Array.of(...bytes.subarray(0, MESSAGE_HEADER_BYTES), ...chance.bytes(60));
      return withLength(bytes);
    }
    case 4: { // Frames whose checksums are right, and nothing else.
      for (let i = chance.between(1, 4); i > 0; i--) bytes[between(chance, bytes)] = chance.below(256);
      return sealFrames(bytes);
    }
    default:
      for (let i = chance.between(1, 4); i > 0; i--) {
        bytes[between(chance, bytes)] = chance.pick([0, 1, 0x7f, 0x80, 0xff]);
      }
      return bytes;
  }
}

function between(chance: Chance, bytes: Uint8Array): number {
  return Math.min(
    bytes.length - 1,
    MESSAGE_HEADER_BYTES + chance.below(Math.max(1, bytes.length - MESSAGE_HEADER_BYTES)),
  );
}

/** Gives each frame at the end of a message the checksum of what it holds now. */
function sealFrames(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer);
  for (let first = MESSAGE_HEADER_BYTES; first + 8 < bytes.length; first++) {
    const ends: number[] = [];
    let at = first;
    while (at + 8 < bytes.length && frameBytesAt(view, at) > 8) ends.push(at += frameBytesAt(view, at));
    if (at !== bytes.length) continue;
    for (let i = 0, from = first; i < ends.length; from = ends[i++]!) {
      view.setUint32(from + 4, crc32(bytes.subarray(from + 8, ends[i])), true);
    }
    return bytes;
  }
  return bytes;
}

// ---- Any message -------------------------------------------------------------------------------------------------------

const NUMBERS = [0, 1, 2, 127, 128, 16_383, 16_384, 2 ** 31, 2 ** 32, 2 ** 49, Number.MAX_SAFE_INTEGER];
const TEXTS = ["", "a", "user-1", "größer", "…\u{1f600}", "x".repeat(300), "x".repeat(1024)];
const STREAM_IDS = ["a", "order-7", "größer", "s".repeat(64)];
const NAMES = ["", "Created", "n".repeat(255)];

export function someNumber(chance: Chance): number {
  return chance.oneIn(3) ? chance.below(1000) : chance.pick(NUMBERS);
}

function someId(chance: Chance): number {
  return Math.min(Math.max(1, someNumber(chance)), ID_MAX);
}

function someFlag(chance: Chance): boolean {
  return chance.oneIn(2);
}

function maybe<T>(chance: Chance, make: (chance: Chance) => T): T | null {
  return chance.oneIn(3) ? null : make(chance);
}

function listOf<T>(chance: Chance, max: number, make: (chance: Chance) => T): T[] {
  return Array.from({ length: chance.below(max + 1) }, () => make(chance));
}

function bySlot(make: () => number): number[] {
  return Array.from({ length: SHAPE.replicationFactor }, make);
}

function someUuid(chance: Chance): string {
  return formatUuid(chance.bytes(16));
}

export function someChain(chance: Chance): Chain {
  return { low: chance.below(2 ** 32), high: chance.below(2 ** 32) };
}

/** The frame with which a leader opens its term. */
export function emptyFrame(bucket: number, logIndex: number, term: number, prevChain: Chain): Uint8Array {
  const into = new Uint8Array(EMPTY_FRAME_BYTES_MAX);
  const { end } = encodeEmptyFrame(into, new DataView(into.buffer), 0, { bucket, logIndex, term, prevChain });
  return into.slice(0, end);
}

export function varint(value: number): number[] {
  return value < 0x80 ? [value] : [value % 0x80 | 0x80, ...varint(Math.floor(value / 0x80))];
}

/** Frames in a row, of terms from `term` on that rise now and then. */
export function someFrames(
  chance: Chance,
  bucket: number,
  first: { logIndex: number; prevChain: Chain; term: number },
  count: number,
): { frames: Uint8Array; lastTerm: number } {
  const chain = new ChainSum(first.prevChain.low, first.prevChain.high);
  let { term } = first;
  const pieces: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    if (chance.oneIn(4)) term += chance.between(1, 3);
    const logIndex = first.logIndex + i;
    const partition = bucket + SHAPE.bucketCount * chance.below(SHAPE.partitionCount / SHAPE.bucketCount);
    let frame: Uint8Array;
    if (chance.oneIn(4)) {
      frame = emptyFrame(bucket, logIndex, term, chain);
    } else {
      const partitionKey = chance.oneIn(2) ? someUuid(chance) : undefined;
      const streamId = chance.pick(STREAM_IDS);
      const events = Array.from({ length: chance.between(1, 3) }, () => ({
        streamId,
        name: chance.pick(NAMES),
        timestamp: 1_700_000_000_000 + chance.below(3),
        payload: chance.bytes(chance.below(50)),
      }));
      const admitted = admit(
        partitionKey === undefined ? { events } : { partitionKey, events },
        new SeededEnvironment(chance.below(1000)),
      );
      const into = new Uint8Array(frameBytesBound(admitted));
      const { end } = encodeFrame(into, new DataView(into.buffer), 0, admitted, {
        logIndex,
        term,
        partition,
        firstSequence: chance.below(1000),
        prevChain: chain.copy(),
        versions: events.map(() => chance.below(300)),
        prevs: events.map(() => chance.below(300)),
      });
      frame = into.slice(0, end);
    }
    chain.step(term, logIndex, new DataView(frame.buffer).getUint32(4, true));
    pieces.push(frame);
  }
  return { frames: Uint8Array.from(pieces.flatMap((piece) => [...piece])), lastTerm: term };
}

function someEntries(chance: Chance, bucket: number, from: number, prevTerm: number) {
  const prevChain = someChain(chance);
  const first = { logIndex: from, prevChain, term: prevTerm };
  const { frames, lastTerm } = someFrames(chance, bucket, first, chance.between(1, 5));
  const must = { bucket, bucketCount: SHAPE.bucketCount, from, prevChain, prevTerm, term: lastTerm };
  let entries = FrameEntries.verify(frames, must);
  assert.ok(typeof entries !== "string", String(entries));
  if (entries.end - from > 1 && chance.oneIn(3)) entries = entries.since(from + 1);
  return { entries, term: lastTerm + chance.below(3) };
}

const REPLICA_KINDS: { [K in Message["kind"]]: (chance: Chance, bucket: number) => Message & { kind: K } } = {
  append: (chance, bucket) => {
    const start = chance.pick([0, 1, 300, 2 ** 40]);
    const prevTerm = start === 0 ? 0 : chance.pick([1, 2, 200]);
    const { entries, term } = someEntries(chance, bucket, start, prevTerm);
    return {
      kind: "append",
      term,
      from: entries.from,
      prevTerm: entries.from === start ? prevTerm : entries.table.terms[0]!,
      prevChain: entries.chainAt(entries.from),
      entries,
      commitEnd: someNumber(chance),
      bulk: someFlag(chance),
    };
  },
  ack: (chance) => ({ kind: "ack", term: someNumber(chance), end: someNumber(chance), recovering: someFlag(chance) }),
  nack: (chance) => ({
    kind: "nack",
    term: someNumber(chance),
    from: someNumber(chance),
    end: someNumber(chance),
    endTerm: someNumber(chance),
    endTermFrom: someNumber(chance),
    commitEnd: someNumber(chance),
  }),
  heartbeat: (chance) => ({
    kind: "heartbeat",
    term: someNumber(chance),
    round: someNumber(chance),
    end: someNumber(chance),
    chain: someChain(chance),
    commitEnd: someNumber(chance),
    heldEnds: bySlot(() => someNumber(chance)),
  }),
  heartbeatReply: (chance) => ({
    kind: "heartbeatReply",
    term: someNumber(chance),
    round: someNumber(chance),
    end: someNumber(chance),
    verifiedEnd: someNumber(chance),
    durableEnd: someNumber(chance),
    recovering: someFlag(chance),
  }),
  preVote: (chance) => ({ kind: "preVote", wantedTerm: someNumber(chance) }),
  preVoteReply: (chance) => ({
    kind: "preVoteReply",
    wantedTerm: someNumber(chance),
    granted: someFlag(chance),
    term: someNumber(chance),
  }),
  nudge: (chance) => ({ kind: "nudge", wantedTerm: someNumber(chance) }),
  newTerm: (chance) => ({ kind: "newTerm", term: someNumber(chance), end: someNumber(chance) }),
  promise: (chance) => {
    let term = 0;
    let from = -1;
    return {
      kind: "promise",
      term: someNumber(chance),
      lastTerm: someNumber(chance),
      end: someNumber(chance),
      chain: someChain(chance),
      commitEnd: someNumber(chance),
      terms: listOf(chance, 64, () => ({ term: term += chance.between(1, 300), from: from += chance.between(1, 300) })),
      dataIds: bySlot(() => chance.pick([-1, 0, 1, 2 ** 40, ID_MAX])),
    };
  },
  stale: (chance) => ({ kind: "stale", term: someNumber(chance) }),
  fetch: (chance) => ({ kind: "fetch", term: someNumber(chance), from: someNumber(chance) }),
  chunk: (chance, bucket) => {
    const { entries, term } = someEntries(chance, bucket, chance.pick([0, 1, 300, 2 ** 40]), 1);
    return { kind: "chunk", term, from: entries.from, entries };
  },
  transferTerm: (chance) => ({ kind: "transferTerm", term: someNumber(chance), targetTerm: someNumber(chance) }),
  commitNote: (chance) => ({ kind: "commitNote", end: someNumber(chance), chain: someChain(chance) }),
  recoverRequest: (chance) => ({ kind: "recoverRequest", nonce: someNumber(chance), challenge: someNumber(chance) }),
  recoverChallenge: (chance) => ({
    kind: "recoverChallenge",
    dataId: someId(chance),
    nonce: someNumber(chance),
    challenge: someNumber(chance),
  }),
  recoverReply: (chance) => ({
    kind: "recoverReply",
    nonce: someNumber(chance),
    term: someNumber(chance),
    serving: someFlag(chance),
    end: someNumber(chance),
    lastTerm: someNumber(chance),
  }),
  quarantine: (chance) => ({ kind: "quarantine", dataId: someId(chance), why: chance.pick(["unknown", "lost"]) }),
};

function somePacket<M extends Message>(chance: Chance, boot: number, make: (chance: Chance, bucket: number) => M) {
  const bucket = chance.pick(BUCKETS);
  const own = slotOf(bucket, NODE, SHAPE)!;
  const slot = (own + chance.between(1, SHAPE.replicationFactor - 1)) % SHAPE.replicationFactor;
  return { bucket, from: { slot, dataId: someId(chance), boot }, message: make(chance, bucket) };
}

function someRange(chance: Chance) {
  return {
    from: someNumber(chance),
    end: maybe(chance, someNumber),
    backward: someFlag(chance),
    limit: someNumber(chance),
  };
}

function someQuery(chance: Chance): Query {
  const streamId = chance.pick(STREAM_IDS);
  const partition = chance.below(SHAPE.partitionCount);
  return chance.pick<() => Query>([
    () => ({ kind: "event", eventId: someUuid(chance) }),
    () => ({ kind: "stream", streamId, partitionKey: maybe(chance, someUuid), ...someRange(chance) }),
    () => ({ kind: "partition", partition, ...someRange(chance) }),
    () => ({ kind: "streamVersion", streamId, partitionKey: maybe(chance, someUuid) }),
    () => ({ kind: "partitionSequence", partition }),
    () => ({ kind: "readEnd", bucket: chance.below(SHAPE.bucketCount) }),
    () => ({ kind: "leader", bucket: chance.below(SHAPE.bucketCount) }),
    () => ({ kind: "heads", positions: somePositions(chance) }),
    () => ({
      kind: "follow",
      positions: somePositions(chance),
      waitMs: chance.between(0, FOLLOW_MS_MAX),
      limit: chance.between(0, FOLLOW_EVENTS_MAX),
      within: maybe(chance, someUuid),
    }),
  ])();
}

function somePositions(chance: Chance): Positions {
  return chance.pick<() => Positions>([
    () => ({
      partitions: listOf(chance, 5, () => ({
        partition: chance.below(SHAPE.partitionCount),
        next: someNumber(chance),
      })),
    }),
    () => ({
      streams: listOf(chance, 5, () => ({
        streamId: chance.pick(STREAM_IDS),
        partitionKey: someUuid(chance),
        next: someNumber(chance),
      })),
    }),
  ])();
}

function someRecord(chance: Chance): EventRecord {
  return {
    eventId: someUuid(chance),
    partitionKey: someUuid(chance),
    partition: chance.below(SHAPE.partitionCount),
    transactionId: someUuid(chance),
    sequence: someNumber(chance),
    streamId: chance.pick(STREAM_IDS),
    version: someNumber(chance),
    name: chance.pick(NAMES),
    timestamp: someNumber(chance),
    metadata: chance.bytes(chance.below(20)),
    payload: chance.bytes(chance.below(200)),
  };
}

export function someFailure(chance: Chance): Failure {
  const message = chance.pick(TEXTS);
  return chance.pick<() => Failure>([
    () => ({ code: "notLeader", term: someNumber(chance), leader: maybe(chance, (c) => c.below(SHAPE.nodeCount)) }),
    () => ({ code: chance.pick(["insufficientReplicas", "clusterDown", "tryAgain", "unknown"]), message }),
    () => ({ code: chance.pick(["invalidArgument", "diskFull"]), message }),
    () => ({
      code: "limitExceeded",
      message,
      what: chance.pick(TEXTS),
      found: someNumber(chance),
      max: someNumber(chance),
    }),
    () => ({
      code: "wrongExpectedVersion",
      streamId: chance.pick(STREAM_IDS),
      partitionKey: someUuid(chance),
      expected: chance.pick(["any", "exists", "empty", someNumber(chance)]),
      current: maybe(chance, someNumber),
    }),
    () => ({ code: "duplicateEventId", message, eventId: someUuid(chance) }),
    () => ({ code: "noSuchPartition", partition: someNumber(chance), partitionCount: someNumber(chance) }),
    () => ({ code: "damaged", file: message, offset: someNumber(chance), reason: chance.pick(TEXTS) }),
    () => ({ code: "storeClosed" }),
  ])();
}

function someAnswer(chance: Chance): Answer {
  return chance.pick<() => Answer>([
    () => {
      const events = listOf(chance, 5, () => ({
        eventId: chance.bytes(16),
        streamId: chance.pick(STREAM_IDS),
        timestamp: someNumber(chance),
      }));
      const appended = {
        partitionKey: chance.bytes(16),
        partition: chance.below(SHAPE.partitionCount),
        firstSequence: someNumber(chance),
        versions: events.map(() => someNumber(chance)),
        events,
      };
      return { kind: "appended", appended };
    },
    () => ({ kind: "event", event: maybe(chance, someRecord) }),
    () => ({ kind: "events", events: listOf(chance, 5, someRecord), more: someFlag(chance) }),
    () => ({ kind: "number", number: maybe(chance, someNumber) }),
    () => ({ kind: "numbers", numbers: listOf(chance, 5, someNumber) }),
    () => ({ kind: "leader", term: someNumber(chance), leader: maybe(chance, (c) => c.below(SHAPE.nodeCount)) }),
    () => ({ kind: "failed", failure: someFailure(chance) }),
  ])();
}

function someNewEvent(chance: Chance): NewEvent {
  const event: NewEvent = {
    streamId: chance.pick(STREAM_IDS),
    name: chance.pick(NAMES),
    expectedVersion: chance.pick(["any", "exists", "empty", someNumber(chance)]),
    metadata: chance.bytes(chance.below(20)),
    payload: chance.bytes(chance.below(200)),
  };
  if (someFlag(chance)) event.eventId = someUuid(chance);
  if (someFlag(chance)) event.timestamp = someNumber(chance);
  return event;
}

export function someMessage(chance: Chance): NodeMessage {
  const node = chance.below(SHAPE.nodeCount);
  const boot = someId(chance);
  const request = {
    request: someNumber(chance),
    hopsLeft: chance.between(0, HOPS_MAX),
    remainingMs: chance.pick([0, 1000, REMAINING_MS_MAX]),
  };
  const kind = chance.below(12);
  switch (kind) {
    case 0:
      return { kind: "hello", node, boot };
    case 1: {
      const buckets = Array.from({ length: SHAPE.bucketCount }, (_, bucket) => bucket)
        .filter((bucket) => slotOf(bucket, node, SHAPE) !== null)
        .map((bucket) => ({
          bucket,
          dataId: someId(chance),
          term: someNumber(chance),
          leader: maybe(chance, (chance) => chance.below(SHAPE.nodeCount)),
          commitEnd: someNumber(chance),
          chain: someChain(chance),
        }));
      const addresses = listOf(chance, 4, (chance) => chance.pick(TEXTS));
      return { kind: "beacon", node, boot, number: someNumber(chance), addresses, buckets };
    }
    case 2: {
      const make = () => chance.pick([REPLICA_KINDS.heartbeat, REPLICA_KINDS.heartbeatReply]);
      return {
        kind: "heartbeats",
        beats: listOf(chance, 20, (): Beat => somePacket<Beat["message"]>(chance, boot, make())),
      };
    }
    case 3: {
      const events = listOf(chance, 5, someNewEvent);
      const transaction = someFlag(chance) ? { events } : { partitionKey: someUuid(chance), events };
      return { kind: "forwardAppend", ...request, term: someNumber(chance), run: someNumber(chance), transaction };
    }
    case 4: {
      const atLeast = maybe(chance, someNumber);
      return { kind: "forwardRead", ...request, atLeast, fromLeader: someFlag(chance), query: someQuery(chance) };
    }
    case 5:
      return { kind: "answer", request: request.request, answer: someAnswer(chance) };
    default: { // As much of what replicas say as of all else.
      const kinds = Object.values(REPLICA_KINDS);
      const make = kind < 8 ? chance.pick([REPLICA_KINDS.append, REPLICA_KINDS.chunk]) : chance.pick(kinds);
      return { kind: "replica", ...somePacket<Message>(chance, boot, make) };
    }
  }
}

/** A message with what its entries say in the place of how they lie. */
export function plain(message: NodeMessage): unknown {
  if (message.kind !== "replica" || !("entries" in message.message)) return message;
  const { entries } = message.message;
  assert.ok(entries instanceof FrameEntries);
  const { from, end, byteLength } = entries;
  const terms = [];
  const frames = [];
  const chains = [entries.chainAt(from)];
  for (let i = from; i < end; i++) {
    terms.push(entries.termAt(i));
    frames.push(entries.frameAt(i).slice());
    chains.push(entries.chainAt(i + 1));
  }
  return { ...message, message: { ...message.message, entries: { from, end, byteLength, terms, frames, chains } } };
}
