/**
 * The bytes of a segment file.
 *
 *     header | frame | frame | …                        and nothing after the last frame
 *
 *     header  0                8         12       16        20   24                32           40      44     48
 *             "ESKRSEGM"       version   bucket   segment   0    first log index   prev chain   crc32   0
 *
 *     frame   0        4       8            16
 *             length   crc32   prev chain   log index, term | flags | partition, first sequence | time | …
 *                                           … [partition key 16] [count] | event | event …
 *
 *     opens a term             … log index, term | 2 | bucket, 0 | 0 | 0        a frame without events: all of it
 *
 *     event   id 16 | version, prev | stream id | name | metadata length, payload length | [time] | metadata | payload
 *
 * A frame is one entry of the log, one transaction, and is valid as a whole or not at all. `length` counts the bytes
 * from `prev chain` to the end, and the checksum covers them. Fixed numbers are little-endian, `time` has 6 bytes, all
 * others are varints of at most 53 bits; stream id and name have their length before them. What is usual is not
 * stored: the partition key when it is the default key of the first event's stream, the count when it is 1, an event's
 * time when all have the frame's. `prev` is the distance in partition sequence to the previous event of the stream, 0
 * when there is none.
 *
 * A leader opens its term with a frame that has no events: its flags say that there is a count, and that is 0, as are
 * first sequence and time. Its partition is the first of the bucket's, which has the bucket's own number: who looks for
 * frames behind damage takes none of another bucket. So its bytes follow from bucket, term, log index and chain alone.
 *
 * The chain ties each entry to all before it: chain = mix(prev chain, term, log index, crc32). Equal chains at equal
 * log index mean equal logs. The first frame of a bucket has a prev chain made from the bucket's number.
 *
 * Nothing that only this node knows is in these bytes, so that a segment is the same on every replica. Nothing here
 * reads or writes a file, and nothing here decides what a bad frame means: see recovery.ts.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { equalBytes } from "../bytes.ts";
import { type AdmittedTransaction, type EventRecord, type StoredEvent, STREAM_ID_BYTES_MAX } from "../event.ts";
import { shortLived } from "../slab.ts";
import { textOf } from "../text.ts";
import { formatUuid, PARTITION_KEY_NAMESPACE, transactionIdOf, uuidV5 } from "../uuid.ts";

/** Of every file below the data folder. A folder of another version is refused. */
export const FORMAT_VERSION = 1;
export const SEGMENT_HEADER_BYTES = 48;
/** Length and checksum. */
export const FRAME_PREFIX_BYTES = 8;
/** The smallest frame that there can be, an entry without events. */
export const FRAME_BYTES_MIN = 8 + 8 + 1 + 1 + 1 + 1 + 1 + 6 + 1;
/** As large as an entry without events can be. */
export const EMPTY_FRAME_BYTES_MAX = 8 + 8 + 8 + 8 + 1 + 8 + 1 + 6 + 1;
/** Versions and offsets have 4 bytes in the index files. */
export const VERSION_MAX = 0xffff_fffe;
export const SEGMENT_BYTES_MAX = 0xffff_ffff;

const SEGMENT_MAGIC = new TextEncoder().encode("ESKRSEGM");
const FLAG_PARTITION_KEY = 1;
const FLAG_COUNT = 2;
const FLAG_TIMES = 4;
const FLAGS_KNOWN = FLAG_PARTITION_KEY | FLAG_COUNT | FLAG_TIMES;

/** 64 bits that stand for all entries up to one. Two halves, because bigint is slow. */
export class Chain {
  constructor(public low: number, public high: number) {}

  /** What stands before the first entry of a bucket. */
  static ofBucket(bucket: number): Chain {
    const chain = new Chain(0x45534b52, 0x4c4f4721);
    chain.step(0, bucket, 0);
    return chain;
  }

  /** Becomes the chain after the entry with these facts. */
  step(term: number, logIndex: number, crc: number): void {
    let a = this.low ^ crc;
    let b = this.high ^ Math.imul(logIndex >>> 0, 0x9e3779b1) ^ Math.floor(logIndex / 0x1_0000_0000);
    a = Math.imul(a ^ a >>> 16, 0x85ebca6b) + b | 0;
    b = Math.imul(b ^ b >>> 15, 0xc2b2ae35) ^ Math.imul(a, 0x27d4eb2f) ^ term;
    a = Math.imul(a ^ a >>> 13 ^ b, 0x165667b1);
    b = Math.imul(b ^ b >>> 16, 0x9e3779b1) + a | 0;
    a = Math.imul(a ^ a >>> 16, 0xc2b2ae35) ^ b >>> 13;
    this.low = a >>> 0;
    this.high = (b ^ a >>> 15) >>> 0;
  }

  copy(): Chain {
    return new Chain(this.low, this.high);
  }

  equals(other: { low: number; high: number }): boolean {
    return this.low === other.low && this.high === other.high;
  }
}

export interface SegmentHeader {
  bucket: number;
  segment: number;
  firstLogIndex: number;
  prevChain: Chain;
}

export function encodeSegmentHeader(header: SegmentHeader): Uint8Array {
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(SEGMENT_MAGIC);
  view.setUint32(8, FORMAT_VERSION, true);
  view.setUint32(12, header.bucket, true);
  view.setUint32(16, header.segment, true);
  setUint53(view, 24, header.firstLogIndex);
  view.setUint32(32, header.prevChain.low, true);
  view.setUint32(36, header.prevChain.high, true);
  view.setUint32(40, crc32(bytes.subarray(0, 40)), true);
  return bytes;
}

/** The header that `bytes` begin with, or what is wrong with it. */
export function decodeSegmentHeader(bytes: Uint8Array): SegmentHeader | string {
  if (bytes.length < SEGMENT_HEADER_BYTES) return "the segment header is cut off";
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  if (SEGMENT_MAGIC.some((byte, i) => bytes[i] !== byte)) return "this is not a segment file";
  if (view.getUint32(40, true) !== crc32(bytes.subarray(0, 40))) return "the segment header fails its checksum";
  if (view.getUint32(44, true) !== 0) return "the segment header does not end with zeros";
  const version = view.getUint32(8, true);
  if (version !== FORMAT_VERSION) {
    return `the segment has format version ${version}: this program reads ${FORMAT_VERSION}`;
  }
  return {
    bucket: view.getUint32(12, true),
    segment: view.getUint32(16, true),
    firstLogIndex: getUint53(view, 24),
    prevChain: new Chain(view.getUint32(32, true), view.getUint32(36, true)),
  };
}

/** What the append queue decided about a transaction. */
export interface Placing {
  logIndex: number;
  term: number;
  partition: number;
  firstSequence: number;
  prevChain: Chain;
  /** Of each event: its version, and the distance to the previous event of its stream. */
  versions: number[];
  prevs: number[];
}

/** More than a frame of this transaction can need. */
export function frameBytesBound(transaction: AdmittedTransaction): number {
  let bytes = 80;
  for (const event of transaction.events) {
    bytes += 64 + event.streamIdBytes.length + event.nameBytes.length + event.metadata.length + event.payload.length;
  }
  return bytes;
}

/** A frame that was encoded: where it ends, and its checksum, which the chain needs. */
export interface EncodedFrame {
  end: number;
  crc: number;
}

/** Encodes a frame into `into`, which has room for `frameBytesBound`, at `start`. */
export function encodeFrame(
  into: Uint8Array,
  view: DataView,
  start: number,
  transaction: AdmittedTransaction,
  placing: Placing,
): EncodedFrame {
  const { events } = transaction;
  const time = events[0]!.timestamp;
  let flags = transaction.partitionKeyIsDefault ? 0 : FLAG_PARTITION_KEY;
  if (events.length !== 1) flags |= FLAG_COUNT;
  for (let i = 1; i < events.length; i++) if (events[i]!.timestamp !== time) flags |= FLAG_TIMES;

  let at = putHead(into, view, start, placing, flags, time);
  if (flags & FLAG_PARTITION_KEY) {
    into.set(transaction.partitionKey, at);
    at += 16;
  }
  if (flags & FLAG_COUNT) at = putVarint(into, at, events.length);
  for (let i = 0; i < events.length; i++) {
    const event = events[i]!;
    for (let k = 0; k < 16; k++) into[at + k] = event.eventId[k]!;
    at = putVarint(into, at + 16, placing.versions[i]!);
    at = putVarint(into, at, placing.prevs[i]!);
    at = putBytes(into, putVarint(into, at, event.streamIdBytes.length), event.streamIdBytes);
    at = putBytes(into, putVarint(into, at, event.nameBytes.length), event.nameBytes);
    at = putVarint(into, at, event.metadata.length);
    at = putVarint(into, at, event.payload.length);
    if (flags & FLAG_TIMES) at = putTime(view, at, event.timestamp);
    at = putBytes(into, at, event.metadata);
    at = putBytes(into, at, event.payload);
  }
  return finishFrame(into, view, start, at);
}

/** Encodes the frame without events that opens a term into `into`, which has room for `EMPTY_FRAME_BYTES_MAX`, at `start`. */
export function encodeEmptyFrame(
  into: Uint8Array,
  view: DataView,
  start: number,
  { bucket, logIndex, term, prevChain }: {
    bucket: number;
    logIndex: number;
    term: number;
    prevChain: Pick<Chain, "low" | "high">;
  },
): EncodedFrame {
  const placing = { logIndex, term, partition: bucket, firstSequence: 0, prevChain };
  const at = putHead(into, view, start, placing, FLAG_COUNT, 0);
  return finishFrame(into, view, start, putVarint(into, at, 0));
}

/** From the chain to the time. */
function putHead(
  into: Uint8Array,
  view: DataView,
  start: number,
  placing: Omit<Placing, "versions" | "prevs" | "prevChain"> & { prevChain: Pick<Chain, "low" | "high"> },
  flags: number,
  time: number,
): number {
  view.setUint32(start + 8, placing.prevChain.low, true);
  view.setUint32(start + 12, placing.prevChain.high, true);
  let at = putVarint(into, start + 16, placing.logIndex);
  at = putVarint(into, at, placing.term);
  into[at++] = flags;
  at = putVarint(into, at, placing.partition);
  at = putVarint(into, at, placing.firstSequence);
  return putTime(view, at, time);
}

/** Puts length and checksum before what ends at `end`. */
function finishFrame(into: Uint8Array, view: DataView, start: number, end: number): EncodedFrame {
  const crc = crc32(into.subarray(start + FRAME_PREFIX_BYTES, end));
  view.setUint32(start, end - start - FRAME_PREFIX_BYTES, true);
  view.setUint32(start + 4, crc, true);
  return { end, crc };
}

/** Bytes of the frame whose first four bytes are at `at`; 0 where nothing was written. */
export function frameBytesAt(view: DataView, at: number): number {
  const length = view.getUint32(at, true);
  return length === 0 ? 0 : FRAME_PREFIX_BYTES + length;
}

/** What the bytes at `at` would say of a frame, if one began there. */
export interface FrameHead {
  frameBytes: number;
  crc: number;
  logIndex: number;
  term: number;
  partition: number;
}

/** As many bytes as a frame's head can have. */
export const FRAME_HEAD_BYTES = 16 + 8 + 8 + 1 + 8;

/** For whoever looks for a frame in bytes that may be anything: its head, or null where none can begin. Nothing is verified. */
export function frameHeadAt(bytes: Uint8Array, view: DataView, at: number): FrameHead | null {
  const frameBytes = frameBytesAt(view, at);
  if (frameBytes < FRAME_BYTES_MIN) return null;
  let next = at + 16;
  const varint = () => {
    let value = 0;
    let factor = 1;
    let byte;
    do {
      byte = bytes[next++]!;
      value += (byte & 0x7f) * factor;
      factor *= 0x80;
    } while (byte >= 0x80 && value <= Number.MAX_SAFE_INTEGER);
    return value;
  };
  const logIndex = varint();
  const term = varint();
  if (bytes[next++]! & ~FLAGS_KNOWN) return null;
  const partition = varint();
  if (!Number.isSafeInteger(logIndex)) return null;
  return { frameBytes, crc: view.getUint32(at + 4, true), logIndex, term, partition };
}

/** Where a frame's cursor is: how many events are before it, and at which byte of the frame. */
export interface FramePlace {
  next: number;
  at: number;
}

/** One verified frame: its facts, and a cursor over its events. */
export class Frame implements StoredEvent {
  readonly crc: number;
  readonly prevChainLow: number;
  readonly prevChainHigh: number;
  readonly logIndex: number;
  readonly term: number;
  readonly partition: number;
  readonly firstSequence: number;
  readonly count: number;
  /** Null when it is the default key of the first event's stream. */
  readonly partitionKey: Uint8Array | null;
  readonly #time: number;
  readonly #flags: number;
  /** Where the id of its first event is. */
  readonly firstEventAt: number;

  // The event under the cursor.
  #next = 0;
  #at: number;
  eventIdAt = 0;
  version = 0;
  prev = 0;
  timestamp = 0;
  streamIdAt = 0;
  streamIdEnd = 0;
  nameAt = 0;
  nameEnd = 0;
  metadataAt = 0;
  payloadAt = 0;

  // What all events of the frame share as text, made when first asked for.
  #partitionKeyText: string | undefined;
  #transactionIdText: string | undefined;

  readonly #view: DataView;

  private constructor(readonly bytes: Uint8Array, view: DataView, readonly start: number, readonly end: number) {
    this.#view = view;
    this.crc = view.getUint32(start + 4, true);
    this.prevChainLow = view.getUint32(start + 8, true);
    this.prevChainHigh = view.getUint32(start + 12, true);
    this.#at = start + 16;
    this.logIndex = this.#varint();
    this.term = this.#varint();
    this.#flags = bytes[this.#at++]!;
    if (this.#flags & ~FLAGS_KNOWN) throw new RangeError(`unknown flags ${this.#flags}`);
    this.partition = this.#varint();
    this.firstSequence = this.#varint();
    this.#time = getTime(view, this.#at);
    this.#at += 6;
    if (this.#flags & FLAG_PARTITION_KEY) {
      this.partitionKey = bytes.subarray(this.#at, this.#at + 16);
      this.#at += 16;
    } else {
      this.partitionKey = null;
    }
    this.count = this.#flags & FLAG_COUNT ? this.#varint() : 1;
    this.firstEventAt = this.#at;
  }

  /**
   * The frame at `start`, or what is wrong with it. `bytes` hold it whole, `start` to `end`; its checksum is verified
   * here, so that what follows may trust the lengths inside.
   */
  static decode(bytes: Uint8Array, view: DataView, start: number, end: number): Frame | string {
    if (end - start < FRAME_BYTES_MIN) return "a frame is shorter than any frame";
    if (crc32(bytes.subarray(start + FRAME_PREFIX_BYTES, end)) !== view.getUint32(start + 4, true)) {
      return "a frame fails its checksum";
    }
    return new Frame(bytes, view, start, end);
  }

  /** Moves the cursor to the next event; false after the last. */
  next(): boolean {
    if (this.#next === this.count) return false;
    this.#next++;
    this.eventIdAt = this.#at;
    this.#at += 16;
    this.version = this.#varint();
    this.prev = this.#varint();
    const streamIdBytes = this.#varint();
    this.streamIdAt = this.#at;
    this.#at = this.streamIdEnd = this.#at + streamIdBytes;
    const nameBytes = this.#varint();
    this.nameAt = this.#at;
    this.#at = this.nameEnd = this.#at + nameBytes;
    const metadataBytes = this.#varint();
    const payloadBytes = this.#varint();
    if (this.#flags & FLAG_TIMES) {
      this.timestamp = getTime(this.#view, this.#at);
      this.#at += 6;
    } else {
      this.timestamp = this.#time;
    }
    this.metadataAt = this.#at;
    this.payloadAt = this.#at + metadataBytes;
    this.#at = this.payloadAt + payloadBytes;
    if (this.#at > this.end) throw new RangeError("an event ends beyond its frame");
    return true;
  }

  /** Back to before the first event. */
  rewind(): void {
    this.#next = 0;
    this.#at = this.firstEventAt;
  }

  /** Where the cursor is, to come back to. */
  get place(): FramePlace {
    return { next: this.#next, at: this.#at - this.start };
  }

  /** The place from which `next` comes to the event under the cursor. */
  get placeOfEvent(): FramePlace {
    return { next: this.#next - 1, at: this.eventIdAt - this.start };
  }

  /** Moves the cursor to a place that it was at, in this frame. */
  goTo({ next, at }: FramePlace): void {
    this.#next = next;
    this.#at = this.start + at;
  }

  /** Whether no event is left after the cursor. */
  get isSpent(): boolean {
    return this.#next === this.count;
  }

  get payloadEnd(): number {
    return this.#at;
  }

  /** Sequence of the event under the cursor. */
  get sequence(): number {
    return this.firstSequence + this.#next - 1;
  }

  /** Bytes of the event under the cursor that its reader will hold. */
  get eventBytes(): number {
    return this.#at - this.eventIdAt;
  }

  get eventId(): Uint8Array {
    return this.bytes.subarray(this.eventIdAt, this.eventIdAt + 16);
  }

  get streamIdBytes(): Uint8Array {
    return this.bytes.subarray(this.streamIdAt, this.streamIdEnd);
  }

  get nameBytes(): Uint8Array {
    return this.bytes.subarray(this.nameAt, this.nameEnd);
  }

  get metadata(): Uint8Array {
    return this.bytes.subarray(this.metadataAt, this.payloadAt);
  }

  get payload(): Uint8Array {
    return this.bytes.subarray(this.payloadAt, this.#at);
  }

  /** The partition key, worked out from the first event's stream where it is not stored. */
  partitionKeyBytes(): Uint8Array {
    if (this.partitionKey !== null) return this.partitionKey;
    if (this.#defaultKey === undefined) {
      if (this.#next > 1) {
        this.#defaultKey = new Frame(this.bytes, this.#view, this.start, this.end).partitionKeyBytes();
      } else {
        const unread = this.#next === 0;
        if (unread) this.next();
        this.#defaultKey = defaultKeyOf(this.bytes, this.streamIdAt, this.streamIdEnd);
        if (unread) this.rewind();
      }
    }
    return this.#defaultKey;
  }
  #defaultKey: Uint8Array | undefined;

  /** The 16 bytes by which the engine knows the stream of the event under the cursor: as `identify` in event.ts makes them. */
  streamKey(): Uint8Array {
    if (this.partitionKey === null && this.#next === 1) return this.partitionKeyBytes();
    const defaultKey = defaultKeyOf(this.bytes, this.streamIdAt, this.streamIdEnd);
    const key = this.partitionKeyBytes();
    return equalBytes(defaultKey, key) ? defaultKey : uuidV5(key, this.streamIdBytes);
  }

  get transactionId(): string {
    return this.#transactionIdText ??= formatUuid(
      transactionIdOf(this.bytes.subarray(this.firstEventAt, this.firstEventAt + 16), this.count),
    );
  }

  /** The event under the cursor. It holds nothing of the frame's bytes. */
  record(): EventRecord {
    this.#partitionKeyText ??= formatUuid(this.partitionKeyBytes());
    return {
      eventId: formatUuid(this.bytes, this.eventIdAt),
      partitionKey: this.#partitionKeyText,
      partition: this.partition,
      transactionId: this.transactionId,
      sequence: this.sequence,
      streamId: textOf(this.bytes, this.streamIdAt, this.streamIdEnd),
      version: this.version,
      name: textOf(this.bytes, this.nameAt, this.nameEnd),
      timestamp: this.timestamp,
      metadata: copyOf(this.bytes, this.metadataAt, this.payloadAt),
      payload: copyOf(this.bytes, this.payloadAt, this.#at),
    };
  }

  #varint(): number {
    const { bytes } = this;
    let byte = bytes[this.#at++]!;
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    let factor = 0x80;
    do {
      byte = bytes[this.#at++]!;
      value += (byte & 0x7f) * factor;
      factor *= 0x80;
    } while (byte >= 0x80);
    if (!Number.isSafeInteger(value)) throw new RangeError(`a number in a frame is not a safe integer: ${value}`);
    return value;
  }
}

const EMPTY = new Uint8Array(0);

/** The stream that was asked for last, and its key. */
const lastStreamId = new Uint8Array(STREAM_ID_BYTES_MAX);
let lastStreamIdBytes = 0;
let lastKey: Uint8Array = EMPTY;

/** The default key of a stream. Who reads a stream asks for one again and again: to compare costs a tenth of hashing. */
function defaultKeyOf(bytes: Uint8Array, from: number, to: number): Uint8Array {
  const length = to - from;
  let same = length === lastStreamIdBytes && length > 0;
  for (let i = 0; same && i < length; i++) same = bytes[from + i] === lastStreamId[i];
  if (same) return lastKey;
  const key = uuidV5(PARTITION_KEY_NAMESPACE, bytes, from, to);
  if (length > STREAM_ID_BYTES_MAX) return key;
  for (let i = 0; i < length; i++) lastStreamId[i] = bytes[from + i]!;
  lastStreamIdBytes = length;
  return lastKey = key;
}

function copyOf(bytes: Uint8Array, from: number, to: number): Uint8Array {
  return from === to ? EMPTY : shortLived.copy(bytes.subarray(from, to));
}

function putVarint(into: Uint8Array, at: number, value: number): number {
  while (value >= 0x80) {
    into[at++] = value % 0x80 | 0x80;
    value = Math.floor(value / 0x80);
  }
  into[at++] = value;
  return at;
}

function putBytes(into: Uint8Array, at: number, bytes: Uint8Array): number {
  // A call to `set` costs more than a few stores.
  if (bytes.length < 24) { for (let i = 0; i < bytes.length; i++) into[at + i] = bytes[i]!; }
  else into.set(bytes, at);
  return at + bytes.length;
}

function putTime(view: DataView, at: number, time: number): number {
  view.setUint32(at, time % 0x1_0000_0000, true);
  view.setUint16(at + 4, Math.floor(time / 0x1_0000_0000), true);
  return at + 6;
}

function getTime(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint16(at + 4, true) * 0x1_0000_0000;
}

/** Writes a number of at most 53 bits into 8 bytes. */
export function setUint53(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 0x1_0000_0000, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** Reads what `setUint53` wrote; NaN when it is not a safe integer. */
export function getUint53(view: DataView, at: number): number {
  const value = view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000;
  return Number.isSafeInteger(value) ? value : NaN;
}
