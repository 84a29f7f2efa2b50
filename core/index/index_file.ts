/**
 * The bytes of an index file, of its four kinds: event (.eidx), stream (.sidx), partition (.pidx), heads (.hidx).
 *
 *     header | section | section | …                       all in blocks of 4096 bytes
 *
 *     block    0       4
 *              crc32 | payload, 4092 bytes                 the crc32 starts from the file's salt and the block's number
 *
 *     header   0       4                  12       14     16       20        28                36              44
 *              crc32 | magic "eskerIDX" | format | kind | bucket | segment | first log index | end log index | end offset
 *
 *              48                60        64     68        80        92       96
 *              chain low, high | entries | keys | min key | max key | blocks | sections: kind 4, first block 4, blocks 4
 *
 *     leaves   an entry after the other, sorted by key, then offset; every block full but the last
 *              event   key 10 (first 6 bytes of the event id: its milliseconds; last 4: chance) | offset 4
 *              stream  key 12 (first 8 bytes of the stream key: its hash; version 4)            | offset 4
 *              heads   key 12 (the stream's hash; version 4)        | last 4 of the stream key 4 | sequence 8
 *     level    the first key of each block of the section before it; the last level is one block. None over one leaf
 *     filter   blocked Bloom filter over the distinct event keys, or stream hashes: lines of 64 bytes, 63 a block
 *     table    partition files: partition 4 | first sequence 8 | count 4 | where its offsets begin 4, by partition
 *     offsets  partition files: one offset (4) a sequence, partition after partition
 *
 * Numbers are little-endian but for keys, which are big-endian: their bytes compare as they do. An offset is where
 * in the segment the event's frame begins. `entries` counts events, `keys` what the filter holds, or partitions.
 *
 * The identity (bucket to chain) ties a file to the bytes of its segment up to `end offset`; a heads file, which is of a
 * whole bucket, to its log from the first entry to the end of `segment`. It is also the salt of every block's checksum:
 * a block of another file, of another place, or of an older try is as bad as a torn one.
 * The sections are a pure function of kind, entries and keys, so the header's table is only believed if it is that.
 *
 * Nothing here knows what a frame is, and no entry is the truth: a key only proposes, the frame decides.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import type { Environment } from "../environment.ts";
import { type Disk, type DiskFile, isUnreadable } from "../log/disk.ts";
import type { FilePool } from "../log/file_pool.ts";
import { type BlockCache, CachedFile } from "./block_cache.ts";
import type { FilterMemory } from "./filter_memory.ts";
import type { MemoryRun } from "./memory_run.ts";

export const BLOCK_BYTES = 4096;
const FORMAT_VERSION = 1;
const MAGIC = new TextEncoder().encode("eskerIDX");

const KIND_AT = 14;
const IDENTITY_END = 56;
const ENTRIES_AT = 56;
const KEYS_AT = 60;
const MIN_KEY_AT = 64 + 4;
const MAX_KEY_AT = MIN_KEY_AT + 12;
const BLOCKS_AT = MAX_KEY_AT + 12;
const SECTIONS_AT = BLOCKS_AT + 4;

/** Where the payload of a block begins. */
export const PAYLOAD_AT = 4;
const PAYLOAD_BYTES = BLOCK_BYTES - PAYLOAD_AT;

/** Ties an index file to the bytes of a segment. `[firstLogIndex, endLogIndex)`; the chain is a u64 in two halves. */
export interface SegmentIdentity {
  bucket: number;
  segment: number;
  firstLogIndex: number;
  endLogIndex: number;
  /** Where in the segment the last frame that the file knows ends. */
  endOffset: number;
  chainLow: number;
  chainHigh: number;
}

export const IDENTITY_FIELDS = [
  "bucket",
  "segment",
  "firstLogIndex",
  "endLogIndex",
  "endOffset",
  "chainLow",
  "chainHigh",
] as const satisfies (keyof SegmentIdentity)[];

/** What reading and writing index files takes. */
export interface IndexContext {
  pool: FilePool;
  cache: BlockCache;
  /** Left out: filters are read through the cache. */
  filters?: FilterMemory;
  environment: Environment;
  /** Runs whose memory can be used again; left out: none is. */
  spareRuns?: MemoryRun[];
  /** How many events a run in memory gathers before it is due as a piece; `RUN_EVENTS_MAX` when left out. For tests. */
  runEventsMax?: number;
}

/** An index file is missing, of another segment, or damaged: it must be rebuilt from its segment. */
export class IndexDamaged extends Error {
  override readonly name = "IndexDamaged";
  constructor(readonly file: string, readonly offset: number, readonly reason: string, options?: ErrorOptions) {
    super(`The index file ${file} must be rebuilt from its segment: ${reason} (at offset ${offset})`, options);
  }
}

/** A sorted kind's sizes. */
export interface SortedForm {
  readonly entryBytes: number;
  readonly keyBytes: number;
  readonly entriesPerLeaf: number;
  readonly keysPerNode: number;
  /** Bits of the filter for each distinct key: 10 give 1 % false answers, 12 half of that. */
  readonly filterBits: number;
}

function sortedForm(keyBytes: number, valueBytes: number, filterBits: number): SortedForm {
  const entryBytes = keyBytes + valueBytes;
  return {
    entryBytes,
    keyBytes,
    entriesPerLeaf: Math.floor(PAYLOAD_BYTES / entryBytes),
    keysPerNode: Math.floor(PAYLOAD_BYTES / keyBytes),
    filterBits,
  };
}

export const EVENT_FORM: SortedForm = sortedForm(10, 4, 10);
const STREAM_FORM: SortedForm = sortedForm(12, 4, 12);
export const HEADS_FORM: SortedForm = sortedForm(12, 12, 12);

export function formOf(kind: SortedKind): SortedForm {
  return kind === "event" ? EVENT_FORM : kind === "stream" ? STREAM_FORM : HEADS_FORM;
}

export const PARTITION_ENTRY_BYTES = 20;
export const PARTITIONS_PER_BLOCK = Math.floor(PAYLOAD_BYTES / PARTITION_ENTRY_BYTES);
export const OFFSETS_PER_BLOCK = PAYLOAD_BYTES / 4;

/** The kinds that a segment has. */
export type SegmentKind = "event" | "stream" | "partition";
export type Kind = SegmentKind | "heads";
export type SortedKind = Exclude<Kind, "partition">;
const KIND_CODES: Record<Kind, number> = { event: 1, stream: 2, partition: 3, heads: 4 };

type SectionKind = "leaves" | "level" | "filter" | "table" | "offsets";
const SECTION_CODES: Record<SectionKind, number> = { leaves: 1, level: 2, filter: 3, table: 4, offsets: 5 };

export interface Section {
  kind: SectionKind;
  firstBlock: number;
  blocks: number;
}

/** A sort key as three numbers: the event key's 4, 2 and 4 bytes; or half a hash, the other half, version. */
export type Key = readonly [a: number, b: number, c: number];
export const NO_KEY: Key = [0, 0, 0];

/** What a file says about itself as a whole. */
export interface Header {
  kind: Kind;
  identity: SegmentIdentity;
  entries: number;
  keys: number;
  minKey: Key;
  maxKey: Key;
}

/** The sections of a file, in order. */
export function sectionsOf(kind: Kind, entries: number, keys: number): Section[] {
  const sections: Section[] = [];
  let firstBlock = 1;
  const add = (section: SectionKind, blocks: number) => {
    sections.push({ kind: section, firstBlock, blocks });
    firstBlock += blocks;
  };
  if (kind === "partition") {
    add("table", Math.ceil(keys / PARTITIONS_PER_BLOCK));
    add("offsets", Math.ceil(entries / OFFSETS_PER_BLOCK));
    return sections;
  }
  const form = formOf(kind);
  let blocks = Math.ceil(entries / form.entriesPerLeaf);
  add("leaves", blocks);
  while (blocks > 1) {
    blocks = Math.ceil(blocks / form.keysPerNode);
    add("level", blocks);
  }
  add("filter", Math.ceil(filterLines(keys, form.filterBits) / LINES_PER_BLOCK));
  return sections;
}

// Keys and entries. `view` is a block, `at` a position in it.

/** Negative, zero or positive as the key at `at` is smaller than, equal to or greater than (a, b, c). */
export function compareKeyAt(view: DataView, at: number, form: SortedForm, a: number, b: number, c: number): number {
  const order = view.getUint32(at) - a;
  if (order !== 0) return order;
  if (form === EVENT_FORM) return view.getUint16(at + 4) - b || view.getUint32(at + 6) - c;
  return view.getUint32(at + 4) - b || view.getUint32(at + 8) - c;
}

export function keyAt(view: DataView, at: number, form: SortedForm): Key {
  if (form === EVENT_FORM) return [view.getUint32(at), view.getUint16(at + 4), view.getUint32(at + 6)];
  return [view.getUint32(at), view.getUint32(at + 4), view.getUint32(at + 8)];
}

export function putKey(view: DataView, at: number, form: SortedForm, a: number, b: number, c: number): void {
  view.setUint32(at, a);
  if (form === EVENT_FORM) {
    view.setUint16(at + 4, b);
    view.setUint32(at + 6, c);
  } else {
    view.setUint32(at + 4, b);
    view.setUint32(at + 8, c);
  }
}

/** The offset of the entry whose key stands at `at`; of a heads file, the end of the stream key. */
export function offsetAt(view: DataView, at: number, form: SortedForm): number {
  return view.getUint32(at + form.keyBytes, true);
}

export function putOffset(view: DataView, at: number, form: SortedForm, offset: number): void {
  view.setUint32(at + form.keyBytes, offset, true);
}

/** Of an entry of a heads file. */
export function sequenceAt(view: DataView, at: number): number {
  return getNumber(view, at + HEADS_FORM.keyBytes + 4);
}

export function putSequence(view: DataView, at: number, sequence: number): void {
  putNumber(view, at + HEADS_FORM.keyBytes + 4, sequence);
}

/** A row of a partition file's table. */
export interface PartitionRow {
  partition: number;
  first: number;
  count: number;
  /** The place of its first offset among all offsets of the file. */
  start: number;
}

export function partitionRowAt(view: DataView, at: number): PartitionRow {
  return {
    partition: view.getUint32(at, true),
    first: getNumber(view, at + 4),
    count: view.getUint32(at + 12, true),
    start: view.getUint32(at + 16, true),
  };
}

export function putPartitionRow(view: DataView, at: number, row: PartitionRow): void {
  view.setUint32(at, row.partition, true);
  putNumber(view, at + 4, row.first);
  view.setUint32(at + 12, row.count, true);
  view.setUint32(at + 16, row.start, true);
}

// The filter: a key sets, and asks for, 6 bits of one line of 512.

export const LINE_WORDS = 16;
const LINE_BYTES = LINE_WORDS * 4;
export const LINES_PER_BLOCK = Math.floor(PAYLOAD_BYTES / LINE_BYTES);
const BITS_PER_KEY = 6;

/** How many lines the filter of so many keys has. */
export function filterLines(keys: number, filterBits: number): number {
  return Math.ceil(keys * filterBits / (LINE_BYTES * 8));
}

/**
 * Which line of `lines` a key belongs to. Hashes of streams are spread evenly as they are: lines in their order are
 * filled one after the other, where a line by chance would be a miss of the processor's cache for each.
 */
export function filterLine(form: SortedForm, a: number, b: number, c: number, lines: number): number {
  return Math.floor((form === EVENT_FORM ? mix(a, b, c, 0x2545f491) : a) * lines / 0x1_0000_0000);
}

/** Sets the bits of a key in its line, whose words begin at `words[at]`. */
export function addToLine(words: Uint32Array, at: number, a: number, b: number, c: number): void {
  let bits = mix(a, b, c, 0x7feb352d);
  for (let i = 0; i < BITS_PER_KEY; i++) {
    bits = Math.imul(bits, 0x9e3779b1);
    words[at + (bits >>> 28)]! |= 1 << (bits >>> 23);
    bits = bits ^ bits >>> 16;
  }
}

/** Whether all bits of a key are set in its line, which begins at `at`. */
export function isInLine(view: DataView, at: number, a: number, b: number, c: number): boolean {
  let bits = mix(a, b, c, 0x7feb352d);
  for (let i = 0; i < BITS_PER_KEY; i++) {
    bits = Math.imul(bits, 0x9e3779b1);
    if ((view.getUint32(at + (bits >>> 28) * 4, true) & 1 << (bits >>> 23)) === 0) return false;
    bits = bits ^ bits >>> 16;
  }
  return true;
}

/** As isInLine, of a line whose words begin at `words[at]`. */
export function isInWords(words: Uint32Array, at: number, a: number, b: number, c: number): boolean {
  let bits = mix(a, b, c, 0x7feb352d);
  for (let i = 0; i < BITS_PER_KEY; i++) {
    bits = Math.imul(bits, 0x9e3779b1);
    if ((words[at + (bits >>> 28)]! & 1 << (bits >>> 23)) === 0) return false;
    bits = bits ^ bits >>> 16;
  }
  return true;
}

/** 32 well mixed bits of three numbers, another set for each seed. */
export function mix(a: number, b: number, c: number, seed: number): number {
  let hash = Math.imul(a ^ seed, 0x85ebca6b);
  hash = Math.imul(hash ^ hash >>> 15 ^ b, 0xc2b2ae35);
  hash = Math.imul(hash ^ hash >>> 13 ^ c, 0x27d4eb2f);
  hash = Math.imul(hash ^ hash >>> 16, 0x85ebca6b);
  return (hash ^ hash >>> 13) >>> 0;
}

// Numbers of 64 bits that are safe integers.

function putNumber(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}

function getNumber(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
}

// The header.

function encodeHeader({ kind, identity, entries, keys, minKey, maxKey }: Header): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES);
  const view = new DataView(block.buffer);
  encodeIdentity(view, kind, identity);
  view.setUint32(ENTRIES_AT, entries, true);
  view.setUint32(KEYS_AT, keys, true);
  for (let i = 0; i < 3; i++) {
    view.setUint32(MIN_KEY_AT + 4 * i, minKey[i]!);
    view.setUint32(MAX_KEY_AT + 4 * i, maxKey[i]!);
  }
  const sections = sectionsOf(kind, entries, keys);
  view.setUint32(BLOCKS_AT, sections.at(-1)!.firstBlock + sections.at(-1)!.blocks, true);
  for (let i = 0; i < sections.length; i++) {
    const at = SECTIONS_AT + 12 * i;
    view.setUint32(at, SECTION_CODES[sections[i]!.kind], true);
    view.setUint32(at + 4, sections[i]!.firstBlock, true);
    view.setUint32(at + 8, sections[i]!.blocks, true);
  }
  view.setUint32(0, crc32(block.subarray(PAYLOAD_AT)), true);
  return block;
}

function encodeIdentity(view: DataView, kind: Kind, identity: SegmentIdentity): void {
  for (let i = 0; i < MAGIC.length; i++) view.setUint8(4 + i, MAGIC[i]!);
  view.setUint16(12, FORMAT_VERSION, true);
  view.setUint16(KIND_AT, KIND_CODES[kind], true);
  view.setUint32(16, identity.bucket, true);
  putNumber(view, 20, identity.segment);
  putNumber(view, 28, identity.firstLogIndex);
  putNumber(view, 36, identity.endLogIndex);
  view.setUint32(44, identity.endOffset, true);
  view.setUint32(48, identity.chainLow, true);
  view.setUint32(52, identity.chainHigh, true);
}

/** The header in a block, or what is wrong with it. */
function decodeHeader(block: Uint8Array, kind: Kind): Header | string {
  const view = new DataView(block.buffer, block.byteOffset, BLOCK_BYTES);
  if (MAGIC.some((byte, i) => block[4 + i] !== byte)) return "it is not an index file";
  if (view.getUint32(0, true) !== crc32(block.subarray(PAYLOAD_AT))) return "the checksum of its header is wrong";
  const format = view.getUint16(12, true);
  if (format !== FORMAT_VERSION) return `its format is ${format}, not ${FORMAT_VERSION}`;
  if (view.getUint16(KIND_AT, true) !== KIND_CODES[kind]) return `it is not of the kind ${kind}`;
  const header: Header = {
    kind,
    identity: {
      bucket: view.getUint32(16, true),
      segment: getNumber(view, 20),
      firstLogIndex: getNumber(view, 28),
      endLogIndex: getNumber(view, 36),
      endOffset: view.getUint32(44, true),
      chainLow: view.getUint32(48, true),
      chainHigh: view.getUint32(52, true),
    },
    entries: view.getUint32(ENTRIES_AT, true),
    keys: view.getUint32(KEYS_AT, true),
    minKey: [view.getUint32(MIN_KEY_AT), view.getUint32(MIN_KEY_AT + 4), view.getUint32(MIN_KEY_AT + 8)],
    maxKey: [view.getUint32(MAX_KEY_AT), view.getUint32(MAX_KEY_AT + 4), view.getUint32(MAX_KEY_AT + 8)],
  };
  // A header that decodes is one that encodes to the same bytes: sections, block count and padding are as they must be.
  const again = encodeHeader(header);
  return again.every((byte, i) => byte === block[i]) ? header : "its header contradicts itself";
}

/** What the checksums of a file's blocks start from. */
function saltOf(kind: Kind, identity: SegmentIdentity): number {
  const bytes = new Uint8Array(IDENTITY_END);
  encodeIdentity(new DataView(bytes.buffer), kind, identity);
  return crc32(bytes);
}

function checksumOf(payload: Uint8Array, salt: number, block: number): number {
  return crc32(payload, salt + Math.imul(block, 0x9e3779b1) >>> 0);
}

// Files.

/** A whole index file, open for reading: its header, and blocks that were verified. */
export class IndexFile {
  readonly path: string;
  readonly header: Header;
  readonly sections: Section[];
  readonly #context: IndexContext;
  readonly #salt: number;
  readonly #cached = new CachedFile();

  /** @throws {IndexDamaged} missing, or not whole, or not of this kind */
  constructor(context: IndexContext, path: string, kind: Kind) {
    this.#context = context;
    this.path = path;
    // A file may have taken the place of one that is still open in the pool.
    context.pool.forget(path);
    const block = new Uint8Array(BLOCK_BYTES);
    this.#read(block, 0);
    const header = decodeHeader(block, kind);
    if (typeof header === "string") throw new IndexDamaged(path, 0, header);
    this.header = header;
    this.sections = sectionsOf(kind, header.entries, header.keys);
    this.#salt = saltOf(kind, header.identity);
    const last = this.sections.at(-1)!;
    const needed = (last.firstBlock + last.blocks) * BLOCK_BYTES;
    const found = context.pool.size(path);
    if (found !== needed) throw new IndexDamaged(path, 0, `it must have ${needed} bytes: it has ${found}`);
  }

  section(kind: SectionKind): Section {
    return this.sections.find((section) => section.kind === kind)!;
  }

  /** A block, from the cache if it is there. Do not write to it. @throws {IndexDamaged} */
  block(number: number): DataView {
    const { cache } = this.#context;
    let view = cache.get(this.#cached, number);
    if (view === null) {
      view = this.blockPastCache(number);
      cache.put(this.#cached, number, view);
    }
    return view;
  }

  /** A block that its reader keeps in another form. @throws {IndexDamaged} */
  blockPastCache(number: number): DataView {
    const bytes = new Uint8Array(BLOCK_BYTES);
    this.readBlocks(number, bytes);
    return new DataView(bytes.buffer);
  }

  /** Reads whole blocks from `first` on into all of `into`, past the cache. @throws {IndexDamaged} */
  readBlocks(first: number, into: Uint8Array): void {
    this.#read(into, first * BLOCK_BYTES);
    verifyBlocks(this.path, into, first, this.#salt);
  }

  /** The file is to be removed or replaced, or not needed any more. */
  close(): void {
    this.#context.cache.drop(this.#cached);
    this.#context.pool.forget(this.path);
  }

  #read(into: Uint8Array, offset: number): void {
    let found: number;
    try {
      found = this.#context.pool.read(this.path, into, offset);
    } catch (cause) {
      if (!this.#context.pool.disk.exists(this.path)) throw new IndexDamaged(this.path, 0, "it is missing", { cause });
      throw damagedIfUnreadable(cause, this.path, offset);
    }
    if (found < into.length) throw new IndexDamaged(this.path, offset + found, "it ends too early");
  }
}

/** What to throw where a read failed. */
function damagedIfUnreadable(cause: unknown, path: string, offset: number): unknown {
  return isUnreadable(cause) ? new IndexDamaged(path, offset, "it cannot be read", { cause }) : cause;
}

function verifyBlocks(path: string, blocks: Uint8Array, first: number, salt: number): void {
  for (let at = 0; at < blocks.length; at += BLOCK_BYTES) {
    const stored = (blocks[at]! | blocks[at + 1]! << 8 | blocks[at + 2]! << 16 | blocks[at + 3]! << 24) >>> 0;
    const number = first + at / BLOCK_BYTES;
    if (checksumOf(blocks.subarray(at + PAYLOAD_AT, at + BLOCK_BYTES), salt, number) !== stored) {
      throw new IndexDamaged(path, number * BLOCK_BYTES, "the checksum of a block is wrong");
    }
  }
}

/** Blocks written at once: 64 KiB, a few dozen microseconds. */
export const BLOCKS_PER_WRITE = 16;

/** A new index file: blocks in order from block 1, the header last. It is not whole before `finish`. */
export class IndexFileWriter {
  readonly #file: DiskFile;
  readonly #buffer = new Uint8Array(BLOCKS_PER_WRITE * BLOCK_BYTES);
  readonly #view = new DataView(this.#buffer.buffer);
  readonly #kind: Kind;
  readonly #identity: SegmentIdentity;
  readonly #salt: number;
  /** Blocks in the buffer. */
  #pending = 0;
  /** The number of the buffer's first block. */
  #next = 1;

  constructor(disk: Disk, path: string, kind: Kind, identity: SegmentIdentity) {
    this.#file = disk.open(path, "create");
    this.#kind = kind;
    this.#identity = identity;
    this.#salt = saltOf(kind, identity);
  }

  /** What a position from `begin` is a position in. */
  get view(): DataView {
    return this.#view;
  }

  /** Begins the next block, all zeros: where its payload is to be put, until the next `begin`. */
  begin(): number {
    if (this.#pending === BLOCKS_PER_WRITE) this.#write();
    const at = this.#pending++ * BLOCK_BYTES;
    this.#buffer.fill(0, at, at + BLOCK_BYTES);
    return at + PAYLOAD_AT;
  }

  /** Reads back whole blocks that were begun before. @throws {IndexDamaged} */
  readBlocks(first: number, into: Uint8Array): void {
    this.#write();
    const { path } = this.#file;
    try {
      this.#file.read(into, first * BLOCK_BYTES);
    } catch (cause) {
      throw damagedIfUnreadable(cause, path, first * BLOCK_BYTES);
    }
    verifyBlocks(path, into, first, this.#salt);
  }

  finish(entries: number, keys: number, minKey: Key, maxKey: Key): void {
    this.#write();
    const sections = sectionsOf(this.#kind, entries, keys);
    const blocks = sections.at(-1)!.firstBlock + sections.at(-1)!.blocks;
    if (blocks !== this.#next) throw new Error(`${this.#file.path} should have ${blocks} blocks: it has ${this.#next}`);
    this.#file.write(encodeHeader({ kind: this.#kind, identity: this.#identity, entries, keys, minKey, maxKey }), 0);
  }

  sync(): Promise<void> {
    return this.#file.sync();
  }

  close(): void {
    this.#file.close();
  }

  #write(): void {
    if (this.#pending === 0) return;
    for (let i = 0; i < this.#pending; i++) {
      const at = i * BLOCK_BYTES;
      const payload = this.#buffer.subarray(at + PAYLOAD_AT, at + BLOCK_BYTES);
      this.#view.setUint32(at, checksumOf(payload, this.#salt, this.#next + i), true);
    }
    this.#file.write(this.#buffer.subarray(0, this.#pending * BLOCK_BYTES), this.#next * BLOCK_BYTES);
    this.#next += this.#pending;
    this.#pending = 0;
  }
}
