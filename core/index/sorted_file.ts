/**
 * A sorted, checksummed lookup file with its filter: event keys, streams and versions, or streams and segments, to
 * offsets.
 *
 * A lookup is one block for the filter and one for each level of keys (three for a million entries), through the
 * cache; the whole file is never read but to merge it. The file is a pure function of its sorted entries and its
 * identity, so it does not matter what they were merged from.
 *
 * @module
 */
import type { Disk } from "../log/disk.ts";
import {
  addToLine,
  BLOCK_BYTES,
  BLOCKS_PER_WRITE,
  compareKeyAt,
  EVENT_FORM,
  filterLine,
  filterLines,
  formOf,
  HEADS_FORM,
  type IndexFile,
  IndexFileWriter,
  isInLine,
  type Key,
  keyAt,
  LINES_PER_BLOCK,
  NO_KEY,
  offsetAt,
  PAYLOAD_AT,
  putKey,
  putOffset,
  putSequence,
  type SegmentIdentity,
  sequenceAt,
  type SortedForm,
  type SortedKind,
} from "./index_file.ts";
import { type FilterMemory, KeptFilter } from "./filter_memory.ts";
import type { Sliced } from "./sliced.ts";

/** Offset of the frame in which a version of a stream may be. */
export interface Place {
  version: number;
  offset: number;
}

/** The entry of a stream in a heads file. */
export interface HeadEntry {
  version: number;
  /** The end of the stream key. */
  more: number;
  sequence: number;
}

/** Entries in order of key, then offset. The fields are those of the present entry, after `next` returned true. */
export interface Cursor {
  a: number;
  b: number;
  c: number;
  /** Of a heads file: the end of the stream key. */
  offset: number;
  /** Of a heads file, else 0. */
  sequence: number;
  next(): boolean;
}

export class SortedFile {
  readonly entries: number;
  readonly minKey: Key;
  readonly maxKey: Key;
  readonly #file: IndexFile;
  readonly #form: SortedForm;
  /** First block and count of blocks: of the leaves, then of each level. */
  readonly #levels: { firstBlock: number; blocks: number }[];
  readonly #filterBlock: number;
  readonly #filterLines: number;
  /** Where its filter may be kept. Null: nowhere, or not any more. */
  #filters: FilterMemory | null;
  #filter: KeptFilter | null = null;

  /** `filters`: when its filter is asked so often that it should be kept. It is to be closed then. */
  constructor(file: IndexFile, filters: FilterMemory | null = null) {
    this.#filters = filters;
    this.#file = file;
    this.#form = formOf(file.header.kind as SortedKind);
    this.entries = file.header.entries;
    this.minKey = file.header.minKey;
    this.maxKey = file.header.maxKey;
    this.#levels = file.sections.filter(({ kind }) => kind !== "filter");
    this.#filterBlock = file.section("filter").firstBlock;
    this.#filterLines = filterLines(file.header.keys, this.#form.filterBits);
  }

  /** False: the key (of a stream: `c` is 0) is not in the file. One block. */
  mayHold(a: number, b: number, c: number): boolean {
    if (this.#filterLines === 0) return false;
    const line = filterLine(this.#form, a, b, c, this.#filterLines);
    if (this.#filter === null && this.#filters !== null) {
      this.#filter = KeptFilter.open(this.#filters, this.#file, this.#filterBlock, this.#filterLines);
    }
    if (this.#filter !== null) return this.#filter.mayHold(line, a, b, c);
    const inBlock = line % LINES_PER_BLOCK;
    const view = this.#file.block(this.#filterBlock + (line - inBlock) / LINES_PER_BLOCK);
    return isInLine(view, PAYLOAD_AT + inBlock * 64, a, b, c);
  }

  /** Gives back the room of its filter. */
  close(): void {
    if (this.#filters !== null) this.#filter?.close(this.#filters);
    this.#filters = null;
    this.#filter = null;
  }

  /** Adds the offsets of all entries of a key to `into`. */
  offsetsOf(a: number, b: number, c: number, into: number[]): void {
    const form = this.#form;
    for (let i = this.#lowerBound(a, b, c); i < this.entries; i++) {
      const view = this.#leafOf(i);
      const at = this.#positionOf(i);
      if (compareKeyAt(view, at, form, a, b, c) !== 0) break;
      into.push(offsetAt(view, at, form));
    }
  }

  /** The places of (a, b) with a version in `[from, end)`, all of at most `limit` versions, from the low or the high end. */
  places(a: number, b: number, from: number, end: number, limit: number, backward: boolean): Place[] {
    const places: Place[] = [];
    const step = backward ? -1 : 1;
    let i = backward ? this.#lowerBound(a, b, end) - 1 : this.#lowerBound(a, b, from);
    for (let versions = 0, version = -1; i >= 0 && i < this.entries; i += step) {
      const view = this.#leafOf(i);
      const at = this.#positionOf(i);
      const found = view.getUint32(at + 8);
      if (view.getUint32(at) !== a || view.getUint32(at + 4) !== b || found < from || found >= end) break;
      if (found !== version && ++versions > limit) break;
      version = found;
      places.push({ version, offset: offsetAt(view, at, this.#form) });
    }
    return places;
  }

  /** In a heads file: the entry of (a, b), null if there is none. */
  headOf(a: number, b: number): HeadEntry | null {
    const i = this.#lowerBound(a, b, C_END) - 1;
    if (i < 0) return null;
    const view = this.#leafOf(i);
    const at = this.#positionOf(i);
    if (view.getUint32(at) !== a || view.getUint32(at + 4) !== b) return null;
    return { version: view.getUint32(at + 8), more: offsetAt(view, at, this.#form), sequence: sequenceAt(view, at) };
  }

  /** All entries in order, read in large pieces past the cache. */
  cursor(): Cursor {
    return new FileCursor(this.#file, this.#form);
  }

  /** The last entry of each stream: of equal (a, b) that with the highest c. */
  lastOfEach(): Cursor {
    return new LastOfEach(new FileCursor(this.#file, this.#form), (a, b) => this.#lowerBound(a, b, C_END) - 1);
  }

  /** How many entries have a smaller key, which is the place of the first that has not. */
  #lowerBound(a: number, b: number, c: number): number {
    if (this.entries === 0) return 0;
    const form = this.#form;
    let child = 0;
    for (let level = this.#levels.length - 1; level > 0; level--) {
      const view = this.#file.block(this.#levels[level]!.firstBlock + child);
      const first = child * form.keysPerNode;
      const keys = Math.min(form.keysPerNode, this.#levels[level - 1]!.blocks - first);
      // The last child that begins below the key: equal keys may begin in it.
      const notBelow = this.#search(view, form.keyBytes, keys, a, b, c);
      child = first + Math.max(0, notBelow - 1);
    }
    const first = child * form.entriesPerLeaf;
    const entries = Math.min(form.entriesPerLeaf, this.entries - first);
    return first +
      this.#search(this.#file.block(this.#levels[0]!.firstBlock + child), form.entryBytes, entries, a, b, c);
  }

  /** The first of `count` keys, `stride` apart, that is not below (a, b, c). */
  #search(view: DataView, stride: number, count: number, a: number, b: number, c: number): number {
    const form = this.#form;
    let low = 0;
    let high = count;
    while (low < high) {
      const middle = low + high >>> 1;
      if (compareKeyAt(view, PAYLOAD_AT + middle * stride, form, a, b, c) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #leafOf(entry: number): DataView {
    return this.#file.block(this.#levels[0]!.firstBlock + Math.floor(entry / this.#form.entriesPerLeaf));
  }

  #positionOf(entry: number): number {
    return PAYLOAD_AT + entry % this.#form.entriesPerLeaf * this.#form.entryBytes;
  }
}

/** Above every version. */
const C_END = 0xffff_ffff;
/** Entries of one stream that are walked over. Of more the last is looked up: a step must not take long. */
const WALKED_ENTRIES_MAX = 64;

class LastOfEach implements Cursor {
  a = 0;
  b = 0;
  c = 0;
  offset = 0;
  sequence = 0;
  /** On the first entry of the next stream, unless there is none. */
  readonly #entries: FileCursor;
  readonly #lastOf: (a: number, b: number) => number;
  #more: boolean;

  constructor(entries: FileCursor, lastOf: (a: number, b: number) => number) {
    this.#entries = entries;
    this.#lastOf = lastOf;
    this.#more = entries.next();
  }

  next(): boolean {
    if (!this.#more) return false;
    const entries = this.#entries;
    const { a, b } = entries;
    for (let walked = 1; this.#more && entries.a === a && entries.b === b; walked++) {
      this.c = entries.c;
      this.offset = entries.offset;
      if (walked === WALKED_ENTRIES_MAX) entries.goTo(this.#lastOf(a, b));
      this.#more = entries.next();
    }
    this.a = a;
    this.b = b;
    return true;
  }
}

class FileCursor implements Cursor {
  a = 0;
  b = 0;
  c = 0;
  offset = 0;
  sequence = 0;
  readonly #file: IndexFile;
  readonly #form: SortedForm;
  readonly #firstBlock: number;
  readonly #blocks: number;
  readonly #bytes = new Uint8Array(BLOCKS_PER_WRITE * BLOCK_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #entries: number;
  /** Entries left in all, in the block at hand, blocks left in the buffer, blocks read. */
  #left: number;
  #leftInBlock = 0;
  #bufferEnd = 0;
  #read = 0;
  #blockAt = 0;
  #at = 0;

  constructor(file: IndexFile, form: SortedForm) {
    this.#file = file;
    this.#form = form;
    const leaves = file.section("leaves");
    this.#firstBlock = leaves.firstBlock;
    this.#blocks = leaves.blocks;
    this.#entries = file.header.entries;
    this.#left = this.#entries;
  }

  /** The next entry will be this one, which lies ahead or is the present one. */
  goTo(entry: number): void {
    const inLeaf = entry % this.#form.entriesPerLeaf;
    const leaf = (entry - inLeaf) / this.#form.entriesPerLeaf;
    const firstHeld = this.#read - this.#bufferEnd / BLOCK_BYTES;
    if (leaf < this.#read) {
      this.#blockAt = (leaf - firstHeld - 1) * BLOCK_BYTES; // It lies ahead: it is held.
    } else {
      this.#read = leaf;
      this.#bufferEnd = 0;
    }
    this.#nextBlock();
    this.#left = this.#entries - entry;
    this.#leftInBlock -= inLeaf;
    this.#at += inLeaf * this.#form.entryBytes;
  }

  next(): boolean {
    if (this.#left === 0) return false;
    if (this.#leftInBlock === 0) this.#nextBlock();
    this.#left--;
    this.#leftInBlock--;
    const view = this.#view;
    const at = this.#at;
    const form = this.#form;
    this.a = view.getUint32(at);
    if (form === EVENT_FORM) {
      this.b = view.getUint16(at + 4);
      this.c = view.getUint32(at + 6);
    } else {
      this.b = view.getUint32(at + 4);
      this.c = view.getUint32(at + 8);
    }
    this.offset = offsetAt(view, at, form);
    if (form === HEADS_FORM) this.sequence = sequenceAt(view, at);
    this.#at = at + form.entryBytes;
    return true;
  }

  #nextBlock(): void {
    this.#blockAt += BLOCK_BYTES;
    if (this.#blockAt >= this.#bufferEnd) {
      const blocks = Math.min(BLOCKS_PER_WRITE, this.#blocks - this.#read);
      this.#bufferEnd = blocks * BLOCK_BYTES;
      this.#file.readBlocks(this.#firstBlock + this.#read, this.#bytes.subarray(0, this.#bufferEnd));
      this.#read += blocks;
      this.#blockAt = 0;
    }
    this.#leftInBlock = this.#form.entriesPerLeaf;
    this.#at = this.#blockAt + PAYLOAD_AT;
  }
}

/** How many leaves are written between two yields: some 2,000 entries, 0.1 ms. */
const LEAVES_A_STEP = 8;

/**
 * Writes and syncs a file of all entries of `cursors`, which hold later events the later they come: of equal entries
 * the earlier cursor's goes first, so that equal keys are in the order of the log.
 */
export function* writeSortedFile(
  disk: Disk,
  path: string,
  kind: SortedKind,
  identity: SegmentIdentity,
  cursors: Cursor[],
): Sliced {
  const form = formOf(kind);
  const writer = new IndexFileWriter(disk, path, kind, identity);
  try {
    const leaves = new LeafWriter(writer, form, cursors);
    // A head is the last of many entries, which are walked over.
    const leavesAStep = kind === "heads" ? 1 : LEAVES_A_STEP;
    while (leaves.write(leavesAStep)) yield;
    yield;
    for (let level = leaves.firstKeys; level.length > 1;) level = writeLevel(writer, form, level);
    yield;
    yield* writeFilter(writer, form, leaves);
    writer.finish(leaves.entries, leaves.keys, leaves.firstKeys[0] ?? NO_KEY, leaves.lastKey);
    yield writer.sync();
  } finally {
    writer.close();
  }
}

/** Merges the cursors into leaf blocks. The loops are in plain methods, which the runtime makes faster than generators. */
class LeafWriter {
  entries = 0;
  /** Distinct event keys or stream hashes. */
  keys = 0;
  firstKeys: Key[] = [];
  lastKey: Key = NO_KEY;
  readonly #writer: IndexFileWriter;
  readonly #form: SortedForm;
  readonly #cursors: Cursor[];
  #a = -1;
  #b = -1;
  #c = -1;

  constructor(writer: IndexFileWriter, form: SortedForm, cursors: Cursor[]) {
    this.#writer = writer;
    this.#form = form;
    this.#cursors = cursors.filter((cursor) => cursor.next());
  }

  /** Writes at most so many leaves; false when there are no more entries. */
  write(leaves: number): boolean {
    for (let i = 0; i < leaves; i++) if (!this.#writeLeaf()) return false;
    return true;
  }

  #writeLeaf(): boolean {
    const cursors = this.#cursors;
    if (cursors.length === 0) return false;
    const form = this.#form;
    const wholeKey = form === EVENT_FORM;
    let at = this.#writer.begin();
    const view = this.#writer.view;
    for (let i = 0; i < form.entriesPerLeaf && cursors.length > 0; i++) {
      // At most a dozen cursors: looking at each is faster than keeping a heap.
      let smallest = cursors[0]!;
      for (let k = 1; k < cursors.length; k++) {
        const cursor = cursors[k]!;
        if (
          cursor.a < smallest.a ||
          cursor.a === smallest.a && (cursor.b < smallest.b || cursor.b === smallest.b && cursor.c < smallest.c)
        ) smallest = cursor;
      }
      const { a, b, c } = smallest;
      if (i === 0) this.firstKeys.push([a, b, c]);
      if (a !== this.#a || b !== this.#b || wholeKey && c !== this.#c) this.keys++;
      this.#a = a;
      this.#b = b;
      this.#c = c;
      putKey(view, at, form, a, b, c);
      putOffset(view, at, form, smallest.offset);
      if (form === HEADS_FORM) putSequence(view, at, smallest.sequence);
      at += form.entryBytes;
      this.entries++;
      if (!smallest.next()) cursors.splice(cursors.indexOf(smallest), 1);
    }
    this.lastKey = [this.#a, this.#b, this.#c];
    return true;
  }
}

/** Writes one level over blocks that begin with `keys`; returns the first keys of its own blocks. */
function writeLevel(writer: IndexFileWriter, form: SortedForm, keys: Key[]): Key[] {
  const firstKeys: Key[] = [];
  let at = 0;
  for (let i = 0; i < keys.length; i++) {
    const [a, b, c] = keys[i]!;
    if (i % form.keysPerNode === 0) {
      at = writer.begin();
      firstKeys.push(keys[i]!);
    }
    putKey(writer.view, at, form, a, b, c);
    at += form.keyBytes;
  }
  return firstKeys;
}

/**
 * The filter is made from the leaves, read back: how many keys it must hold, and so its size, is known only when all
 * entries are merged, and to keep them until then would cost more memory than the filter.
 */
function* writeFilter(writer: IndexFileWriter, form: SortedForm, leaves: LeafWriter): Sliced {
  const lines = filterLines(leaves.keys, form.filterBits);
  const words = new Uint32Array(lines * 16);
  const bytes = new Uint8Array(LEAVES_A_STEP * BLOCK_BYTES);
  const leafBlocks = leaves.firstKeys.length;
  for (let leaf = 0; leaf < leafBlocks; leaf += LEAVES_A_STEP) {
    const blocks = Math.min(LEAVES_A_STEP, leafBlocks - leaf);
    const read = bytes.subarray(0, blocks * BLOCK_BYTES);
    writer.readBlocks(1 + leaf, read);
    for (let i = 0; i < blocks; i++) {
      const entries = Math.min(form.entriesPerLeaf, leaves.entries - (leaf + i) * form.entriesPerLeaf);
      addLeaf(words, lines, new DataView(read.buffer, i * BLOCK_BYTES, BLOCK_BYTES), form, entries);
    }
    yield;
  }
  for (let line = 0; line < lines;) {
    let at = writer.begin();
    for (let i = 0; i < LINES_PER_BLOCK && line < lines; i++, line++) {
      for (let word = 0; word < 16; word++, at += 4) writer.view.setUint32(at, words[line * 16 + word]!, true);
    }
    if (line % (LINES_PER_BLOCK * BLOCKS_PER_WRITE) === 0) yield;
  }
}

function addLeaf(words: Uint32Array, lines: number, view: DataView, form: SortedForm, entries: number): void {
  let lastA = -1;
  let lastB = -1;
  for (let i = 0, at = PAYLOAD_AT; i < entries; i++, at += form.entryBytes) {
    let [a, b, c] = keyAt(view, at, form);
    if (form !== EVENT_FORM) {
      if (a === lastA && b === lastB) continue;
      c = 0;
      lastA = a;
      lastB = b;
    }
    addToLine(words, filterLine(form, a, b, c, lines) * 16, a, b, c);
  }
}
