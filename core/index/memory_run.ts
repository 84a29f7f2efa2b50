/**
 * Where the latest events of an open segment are: columns by ordinal (the place of an event in the run), and tables
 * of open addressing whose slots hold ordinals only, so a slot costs 4 bytes and growing moves no column.
 *
 *     ordinal          0    1    2    …          slots of ids       hash(event key)        → ordinal + 1
 *     event key        ·    ·    ·               slots of places    hash(stream, version)  → ordinal + 1
 *     stream, version  ·    ·    ·               slots of streams   hash(stream hash)      → stream + 1
 *     offset           ·    ·    ·
 *
 * A stream is a number in the run: its hash, its first and last version here. Two streams whose 64-bit hashes are
 * equal are one to the run: their places come mixed, and the frames tell.
 *
 * It begins small, because a node has many buckets that get few events, and doubles. About 60 bytes an event.
 *
 * @module
 */
import { mix } from "./index_file.ts";
import type { PartitionRange, PartitionSource } from "./partition_file.ts";
import type { Sliced } from "./sliced.ts";
import { sortedOrder } from "./sorted_order.ts";
import type { Cursor, Place } from "./sorted_file.ts";

const EVENTS_AT_FIRST = 1024;
const STREAMS_AT_FIRST = 256;
const SEQUENCES_AT_FIRST = 16;

interface PartitionColumn {
  first: number;
  count: number;
  offsets: Uint32Array;
}

export class MemoryRun implements PartitionSource {
  /** Events in the run. */
  events = 0;
  #seed: number;

  #keyA = new Uint32Array(EVENTS_AT_FIRST);
  #keyB = new Uint16Array(EVENTS_AT_FIRST);
  #keyC = new Uint32Array(EVENTS_AT_FIRST);
  #offsets = new Uint32Array(EVENTS_AT_FIRST);
  #streams = new Uint32Array(EVENTS_AT_FIRST);
  #versions = new Uint32Array(EVENTS_AT_FIRST);
  #idSlots = new Uint32Array(2 * EVENTS_AT_FIRST);
  #placeSlots = new Uint32Array(2 * EVENTS_AT_FIRST);

  #streamCount = 0;
  #streamHigh = new Uint32Array(STREAMS_AT_FIRST);
  #streamLow = new Uint32Array(STREAMS_AT_FIRST);
  #streamFirst = new Uint32Array(STREAMS_AT_FIRST);
  #streamLast = new Uint32Array(STREAMS_AT_FIRST);
  /** 1: its versions are not one after the other, so two streams have this hash. */
  #streamMixed = new Uint8Array(STREAMS_AT_FIRST);
  #streamSlots = new Uint32Array(2 * STREAMS_AT_FIRST);

  readonly #partitions = new Map<number, PartitionColumn>();
  #sequenceSlots = 0;

  /** `seed` is drawn by chance, so that nobody can send ids that all fall into one slot. */
  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Empty again, with the memory that it has: to make that anew, bit by bit as it fills, costs more than to clear it. */
  renew(seed: number): void {
    this.#seed = seed;
    this.events = 0;
    this.#idSlots.fill(0);
    this.#placeSlots.fill(0);
    this.#streamCount = 0;
    this.#streamSlots.fill(0);
    this.#partitions.clear();
    this.#sequenceSlots = 0;
  }

  /** How many events it can take before it grows. */
  get capacity(): number {
    return this.#keyA.length;
  }

  get memoryBytes(): number {
    return 38 * this.#keyA.length + 25 * this.#streamHigh.length + 4 * this.#sequenceSlots +
      200 * this.#partitions.size;
  }

  /** Event key (a, b, c), stream hash (high, low). Whether the sequence is dense is the caller's to know. */
  add(
    a: number,
    b: number,
    c: number,
    high: number,
    low: number,
    version: number,
    partition: number,
    sequence: number,
    offset: number,
  ): void {
    const ordinal = this.events;
    if (ordinal === this.#keyA.length) this.#growEvents();
    this.events = ordinal + 1;
    this.#keyA[ordinal] = a;
    this.#keyB[ordinal] = b;
    this.#keyC[ordinal] = c;
    this.#offsets[ordinal] = offset;
    this.#versions[ordinal] = version;
    putInSlot(this.#idSlots, mix(a, b, c, this.#seed), ordinal);

    let stream = this.#findStream(high, low);
    if (stream < 0) {
      stream = this.#addStream(high, low, version);
    } else {
      if (version !== this.#streamLast[stream]! + 1) this.#streamMixed[stream] = 1;
      if (version < this.#streamFirst[stream]!) this.#streamFirst[stream] = version;
      if (version > this.#streamLast[stream]!) this.#streamLast[stream] = version;
    }
    this.#streams[ordinal] = stream;
    putInSlot(this.#placeSlots, mix(stream, version, 0, this.#seed), ordinal);

    let column = this.#partitions.get(partition);
    if (column === undefined) {
      column = { first: sequence, count: 0, offsets: new Uint32Array(SEQUENCES_AT_FIRST) };
      this.#partitions.set(partition, column);
      this.#sequenceSlots += SEQUENCES_AT_FIRST;
    } else if (column.count === column.offsets.length) {
      this.#sequenceSlots += column.count;
      column.offsets = grown(column.offsets);
    }
    column.offsets[column.count++] = offset;
  }

  /** Adds the offsets of the events of a key to `into`. */
  offsetsOf(a: number, b: number, c: number, into: number[]): void {
    const slots = this.#idSlots;
    const mask = slots.length - 1;
    for (let slot = mix(a, b, c, this.#seed) & mask; slots[slot] !== 0; slot = slot + 1 & mask) {
      const ordinal = slots[slot]! - 1;
      if (this.#keyA[ordinal] === a && this.#keyC[ordinal] === c && this.#keyB[ordinal] === b) {
        into.push(this.#offsets[ordinal]!);
      }
    }
  }

  holdsStream(high: number, low: number): boolean {
    return this.#findStream(high, low) >= 0;
  }

  /** As SortedFile.places. */
  places(high: number, low: number, from: number, end: number, limit: number, backward: boolean): Place[] {
    const places: Place[] = [];
    const stream = this.#findStream(high, low);
    if (stream < 0) return places;
    from = Math.max(from, this.#streamFirst[stream]!);
    end = Math.min(end, this.#streamLast[stream]! + 1);
    if (this.#streamMixed[stream] === 1) return this.#mixedPlaces(stream, from, end, limit, backward);
    if (backward) {
      for (let version = end - 1, least = Math.max(from, end - limit); version >= least; version--) {
        places.push({ version, offset: this.#offsetOf(stream, version) });
      }
    } else {
      for (let version = from, most = Math.min(end, from + limit); version < most; version++) {
        places.push({ version, offset: this.#offsetOf(stream, version) });
      }
    }
    return places;
  }

  partitions(): PartitionRange[] {
    return [...this.#partitions.keys()].map((partition) => this.range(partition)!);
  }

  range(partition: number): PartitionRange | null {
    const column = this.#partitions.get(partition);
    return column === undefined ? null : { partition, first: column.first, end: column.first + column.count };
  }

  /** The sequence that a partition's next event must have, -1 while it has none here. */
  nextSequence(partition: number): number {
    const column = this.#partitions.get(partition);
    return column === undefined ? -1 : column.first + column.count;
  }

  copyOffsets(partition: number, from: number, end: number, into: Uint32Array, at: number): void {
    const { first, offsets } = this.#partitions.get(partition)!;
    into.set(offsets.subarray(from - first, end - first), at);
  }

  /** The run's entries by event key. Nothing may be added any more. */
  *eventCursor(): Sliced<Cursor> {
    const order = yield* sortedOrder([this.#keyA, this.#keyB, this.#keyC], this.events);
    return new RunCursor(order, null, this.#keyA, this.#keyB, this.#keyC, this.#offsets);
  }

  /** The run's entries by stream hash and version. Nothing may be added any more. */
  *streamCursor(): Sliced<Cursor> {
    // Streams are sorted first, so that events are sorted by a small rank and not by 64 bits of hash.
    const streams = yield* sortedOrder([this.#streamHigh, this.#streamLow], this.#streamCount);
    const ranks = new Uint32Array(this.#streamCount);
    for (let rank = 0; rank < streams.length; rank++) ranks[streams[rank]!] = rank;
    yield;
    const rankOfEvent = new Uint32Array(this.events);
    for (let ordinal = 0; ordinal < this.events; ordinal++) rankOfEvent[ordinal] = ranks[this.#streams[ordinal]!]!;
    yield;
    const order = yield* sortedOrder([rankOfEvent, this.#versions], this.events);
    return new RunCursor(order, this.#streams, this.#streamHigh, this.#streamLow, this.#versions, this.#offsets);
  }

  #offsetOf(stream: number, version: number): number {
    const slots = this.#placeSlots;
    const mask = slots.length - 1;
    for (let slot = mix(stream, version, 0, this.#seed) & mask;; slot = slot + 1 & mask) {
      const ordinal = slots[slot]! - 1;
      if (ordinal < 0) throw new Error(`Version ${version} of stream number ${stream} is in no slot`);
      if (this.#streams[ordinal] === stream && this.#versions[ordinal] === version) return this.#offsets[ordinal]!;
    }
  }

  /** Two streams of one hash: it never happens unless somebody searches for it, so all events are looked through. */
  #mixedPlaces(stream: number, from: number, end: number, limit: number, backward: boolean): Place[] {
    const places: Place[] = [];
    for (let ordinal = 0; ordinal < this.events; ordinal++) {
      const version = this.#versions[ordinal]!;
      if (this.#streams[ordinal] !== stream || version < from || version >= end) continue;
      places.push({ version, offset: this.#offsets[ordinal]! });
    }
    return firstVersions(inOrder(places, backward), limit);
  }

  #findStream(high: number, low: number): number {
    const slots = this.#streamSlots;
    const mask = slots.length - 1;
    for (let slot = mix(high, low, 0, this.#seed) & mask; slots[slot] !== 0; slot = slot + 1 & mask) {
      const stream = slots[slot]! - 1;
      if (this.#streamLow[stream] === low && this.#streamHigh[stream] === high) return stream;
    }
    return -1;
  }

  #addStream(high: number, low: number, version: number): number {
    const stream = this.#streamCount;
    if (stream === this.#streamHigh.length) this.#growStreams();
    this.#streamCount = stream + 1;
    this.#streamHigh[stream] = high;
    this.#streamLow[stream] = low;
    this.#streamFirst[stream] = version;
    this.#streamLast[stream] = version;
    this.#streamMixed[stream] = 0;
    putInSlot(this.#streamSlots, mix(high, low, 0, this.#seed), stream);
    return stream;
  }

  #growEvents(): void {
    this.#keyA = grown(this.#keyA);
    this.#keyC = grown(this.#keyC);
    this.#offsets = grown(this.#offsets);
    this.#streams = grown(this.#streams);
    this.#versions = grown(this.#versions);
    const keyB = new Uint16Array(2 * this.#keyB.length);
    keyB.set(this.#keyB);
    this.#keyB = keyB;
    this.#idSlots = new Uint32Array(2 * this.#keyA.length);
    this.#placeSlots = new Uint32Array(2 * this.#keyA.length);
    for (let i = 0; i < this.events; i++) {
      putInSlot(this.#idSlots, mix(this.#keyA[i]!, this.#keyB[i]!, this.#keyC[i]!, this.#seed), i);
      putInSlot(this.#placeSlots, mix(this.#streams[i]!, this.#versions[i]!, 0, this.#seed), i);
    }
  }

  #growStreams(): void {
    this.#streamHigh = grown(this.#streamHigh);
    this.#streamLow = grown(this.#streamLow);
    this.#streamFirst = grown(this.#streamFirst);
    this.#streamLast = grown(this.#streamLast);
    const mixed = new Uint8Array(2 * this.#streamMixed.length);
    mixed.set(this.#streamMixed);
    this.#streamMixed = mixed;
    this.#streamSlots = new Uint32Array(2 * this.#streamHigh.length);
    for (let i = 0; i < this.#streamCount; i++) {
      putInSlot(this.#streamSlots, mix(this.#streamHigh[i]!, this.#streamLow[i]!, 0, this.#seed), i);
    }
  }
}

class RunCursor implements Cursor {
  a = 0;
  b = 0;
  c = 0;
  offset = 0;
  readonly sequence = 0;
  #at = 0;

  constructor(
    readonly order: Uint32Array,
    /** When given, the row of an entry in the columns of a and b. */
    readonly rows: Uint32Array | null,
    readonly columnA: Uint32Array,
    readonly columnB: Uint32Array | Uint16Array,
    readonly columnC: Uint32Array,
    readonly offsets: Uint32Array,
  ) {}

  next(): boolean {
    if (this.#at === this.order.length) return false;
    const ordinal = this.order[this.#at++]!;
    const row = this.rows === null ? ordinal : this.rows[ordinal]!;
    this.a = this.columnA[row]!;
    this.b = this.columnB[row]!;
    this.c = this.columnC[ordinal]!;
    this.offset = this.offsets[ordinal]!;
    return true;
  }
}

/** Places by version, ascending or descending; those of one version in the order in which they came. */
export function inOrder(places: Place[], backward: boolean): Place[] {
  return places.sort((one, other) => backward ? other.version - one.version : one.version - other.version);
}

/** All places of the first `limit` versions of places in order. */
export function firstVersions(places: Place[], limit: number): Place[] {
  if (places.length <= limit) return places;
  let versions = 0;
  const end = places.findIndex(({ version }, i) =>
    (i === 0 || places[i - 1]!.version !== version) && ++versions > limit
  );
  return end < 0 ? places : places.slice(0, end);
}

/** Slots are twice as many as entries, a power of two. */
function putInSlot(slots: Uint32Array, hash: number, entry: number): void {
  const mask = slots.length - 1;
  let slot = hash & mask;
  while (slots[slot] !== 0) slot = slot + 1 & mask;
  slots[slot] = entry + 1;
}

function grown(column: Uint32Array): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(2 * column.length);
  larger.set(column);
  return larger;
}
