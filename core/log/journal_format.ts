/**
 * The bytes of a journal file.
 *
 *     header, padded | batch, padded | batch, padded | … | what an earlier use of the file left
 *
 *     header  0            8         12      16      20             24     32            40                48
 *             "ESKRJRNL"   version   bytes   crc32   bucket count   salt   first batch   redo from batch   sizes of the
 *             64          72
 *             two files   number   ends …
 *     end     0         4        8                16      24     28    of a bucket's log, synced in its segments
 *             segment   offset   next log index   chain   lost   0
 *     state   0                     8       12                         of a bucket, behind all ends; none where all of
 *             committed log index   bytes   hard state                 each log is committed and there is no hard state
 *
 *     batch   0        4       8       12             16     24       32
 *             "EBAT"   bytes   crc32   record count   salt   number   record | record | …
 *     record  0                       4         8        12      16                    24
 *             kind, 0, bucket (u16)   segment   offset   bytes   committed log index   body …
 *
 *     frames       the frames that stand at `offset` of `segment`
 *     truncation   the log ends there now: next log index 8, chain 8. What was behind it was never committed
 *     hard state   of the bucket, as net/hard_state.ts writes it. Nothing here looks into it
 *
 * Header and batches start on 4 KiB boundaries, so that no sector that was acknowledged is ever written again. Numbers
 * are little-endian; a checksum covers what follows it. The salt is drawn when the data folder is made: a payload that
 * looks like a batch cannot be taken for one.
 *
 * Nothing here reads or writes a file.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { Chain, FORMAT_VERSION, getUint53, SEGMENT_HEADER_BYTES, setUint53 } from "./format.ts";

/** Header and batches start on multiples of this: no disk writes less at a time. */
export const BLOCK_BYTES = 4096;
export const SALT_BYTES = 8;
/** More than the header of a journal with 65,535 buckets has. */
export const JOURNAL_HEADER_BYTES_MAX = 3 * 1024 * 1024;
export const BATCH_HEADER_BYTES = 32;
export const RECORD_HEADER_BYTES = 24;

const FILE_MAGIC = new TextEncoder().encode("ESKRJRNL");
const BATCH_MAGIC = 0x54414245; // "EBAT"
const FILE_HEADER_BYTES = 72;
const END_BYTES = 32;

/** Where the log of a bucket ends. */
export interface LogEnd {
  segment: number;
  /** One past the last byte of the last frame. */
  offset: number;
  /** Of the next entry. */
  logIndex: number;
  /** After the last entry. */
  chain: Chain;
  /** A batch of the journal was lost, and with it perhaps entries at this end. Never forgotten by the store itself. */
  lost: boolean;
}

/** Where the log of a bucket ends that has no entries. */
export function emptyLogEnd(bucket: number): LogEnd {
  return { segment: 0, offset: SEGMENT_HEADER_BYTES, logIndex: 0, chain: Chain.ofBucket(bucket), lost: false };
}

export interface JournalHeader {
  /** Counts the headers that a folder ever had: of two, the larger is the later. */
  number: number;
  /** Number of the first batch that this file holds. */
  firstBatch: number;
  /** Number of the first batch, here or in the other file, that may not be in the segments yet. */
  redoFrom: number;
  /** Bytes of the two files. One that is shorter was cut, and may have lost batches. */
  fileBytes: readonly number[];
  /** Of each bucket: up to here its segments were synced. */
  ends: LogEnd[];
  /** Of each bucket. */
  states: BucketState[];
}

/** What a replica of a bucket must not forget. */
export interface BucketState {
  /** One past the last log index that is known to be committed. */
  committed: number;
  /** Null when nobody ever stored one. */
  hard: Uint8Array | null;
}

const STATE_BYTES = 12;

/** The kinds of records. */
export const RECORD_FRAMES = 1;
export const RECORD_TRUNCATION = 2;
export const RECORD_HARD_STATE = 3;

/** Log index and chain. */
export const TRUNCATION_BYTES = 16;

export interface JournalRecord {
  kind: number;
  bucket: number;
  segment: number;
  /** Where in the segment the bytes belong. */
  offset: number;
  bytes: Uint8Array;
  /** One past the last log index that was committed when the batch was written. */
  committed: number;
}

export function padded(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}

/** As long as a header with these states may be. */
export function journalHeaderBytes(states: readonly BucketState[]): number {
  const stateBytes = states.reduce((sum, { hard }) => sum + STATE_BYTES + (hard?.length ?? 0), 0);
  return padded(FILE_HEADER_BYTES + states.length * END_BYTES + stateBytes);
}

export function encodeJournalHeader(header: JournalHeader, salt: Uint8Array): Uint8Array {
  const endsEnd = FILE_HEADER_BYTES + header.ends.length * END_BYTES;
  const hasStates = header.states.some(({ committed, hard }, i) =>
    hard !== null || committed !== header.ends[i]!.logIndex
  );
  const stateBytes = header.states.reduce((sum, { hard }) => sum + STATE_BYTES + (hard?.length ?? 0), 0);
  const length = endsEnd + (hasStates ? stateBytes : 0);
  const bytes = new Uint8Array(padded(length));
  const view = new DataView(bytes.buffer);
  bytes.set(FILE_MAGIC);
  view.setUint32(8, FORMAT_VERSION, true);
  view.setUint32(12, length, true);
  view.setUint32(20, header.ends.length, true);
  bytes.set(salt, 24);
  setUint53(view, 32, header.firstBatch);
  setUint53(view, 40, header.redoFrom);
  header.fileBytes.forEach((size, i) => setUint53(view, 48 + 8 * i, size));
  setUint53(view, 64, header.number);
  header.ends.forEach((end, i) => {
    const at = FILE_HEADER_BYTES + i * END_BYTES;
    view.setUint32(at, end.segment, true);
    view.setUint32(at + 4, end.offset, true);
    setUint53(view, at + 8, end.logIndex);
    view.setUint32(at + 16, end.chain.low, true);
    view.setUint32(at + 20, end.chain.high, true);
    view.setUint32(at + 24, end.lost ? 1 : 0, true);
  });
  if (hasStates) {
    let at = endsEnd;
    for (const { committed, hard } of header.states) {
      setUint53(view, at, committed);
      view.setUint32(at + 8, hard?.length ?? 0, true);
      if (hard !== null) bytes.set(hard, at + STATE_BYTES);
      at += STATE_BYTES + (hard?.length ?? 0);
    }
  }
  view.setUint32(16, crc32(bytes.subarray(20, length)), true);
  return bytes;
}

/** The salt that stands in a journal's header, if there is one: `decodeJournalHeader` says whether. */
export function journalSalt(bytes: Uint8Array): Uint8Array {
  return bytes.slice(24, 24 + SALT_BYTES);
}

/** The header that a journal file begins with, or what is wrong with it. */
export function decodeJournalHeader(bytes: Uint8Array, salt: Uint8Array): JournalHeader | string {
  if (bytes.length < FILE_HEADER_BYTES) return "the journal file is shorter than its header";
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (FILE_MAGIC.some((byte, i) => bytes[i] !== byte)) return "this is not a journal file";
  const version = view.getUint32(8, true);
  if (version !== FORMAT_VERSION) {
    return `the journal has format version ${version}: this program reads ${FORMAT_VERSION}`;
  }
  const length = view.getUint32(12, true);
  if (
    length < FILE_HEADER_BYTES || length > bytes.length ||
    view.getUint32(16, true) !== crc32(bytes.subarray(20, length))
  ) {
    return "the journal header fails its checksum";
  }
  if (salt.some((byte, i) => bytes[24 + i] !== byte)) return "the journal is of another data folder";
  const endsEnd = FILE_HEADER_BYTES + view.getUint32(20, true) * END_BYTES;
  if (endsEnd > length) return "the journal header has another layout";
  const ends: LogEnd[] = [];
  for (let at = FILE_HEADER_BYTES; at < endsEnd; at += END_BYTES) {
    ends.push({
      segment: view.getUint32(at, true),
      offset: view.getUint32(at + 4, true),
      logIndex: getUint53(view, at + 8),
      chain: new Chain(view.getUint32(at + 16, true), view.getUint32(at + 20, true)),
      lost: view.getUint32(at + 24, true) !== 0,
    });
  }
  const states: BucketState[] = ends.map(({ logIndex }) => ({ committed: logIndex, hard: null }));
  let at = endsEnd;
  for (let i = 0; i < states.length && length > endsEnd && at + STATE_BYTES <= length; i++) {
    const start = at + STATE_BYTES;
    const end = start + view.getUint32(at + 8, true);
    states[i] = { committed: getUint53(view, at), hard: start === end ? null : bytes.slice(start, end) };
    at = end;
  }
  if (at !== length) return "the journal header has another layout";
  const fileBytes = [getUint53(view, 48), getUint53(view, 56)];
  const firstBatch = getUint53(view, 32);
  const redoFrom = getUint53(view, 40);
  const number = getUint53(view, 64);
  if (!(redoFrom >= 1 && firstBatch >= redoFrom && number >= 1)) return "the journal header has another layout";
  return { number, firstBatch, redoFrom, fileBytes, ends, states };
}

/** Puts the header of a batch before its records, which `bytes` hold from BATCH_HEADER_BYTES to `length`. */
export function finishBatch(
  bytes: Uint8Array,
  view: DataView,
  length: number,
  batch: { number: number; recordCount: number; salt: Uint8Array },
): void {
  view.setUint32(0, BATCH_MAGIC, true);
  view.setUint32(4, length, true);
  view.setUint32(12, batch.recordCount, true);
  bytes.set(batch.salt, 16);
  setUint53(view, 24, batch.number);
  view.setUint32(8, crc32(bytes.subarray(12, length)), true);
}

/** Puts a record's header at `at`; its frames follow it. */
export function putRecordHeader(view: DataView, at: number, record: Omit<JournalRecord, "bytes"> & { length: number }) {
  view.setUint8(at, record.kind);
  view.setUint8(at + 1, 0);
  view.setUint16(at + 2, record.bucket, true);
  view.setUint32(at + 4, record.segment, true);
  view.setUint32(at + 8, record.offset, true);
  view.setUint32(at + 12, record.length, true);
  setUint53(view, at + 16, record.committed);
}

/** Where a whole batch stands in a journal file. */
export interface BatchPlace {
  number: number;
  offset: number;
  /** With the padding. */
  paddedBytes: number;
}

/** Part of a journal file: at least `bytes` from `offset`, fewer only at its end. */
export type ReadJournal = (offset: number, bytes: number) => Uint8Array;

/** All whole batches of a journal file, in the order in which they stand: also those of an earlier use of the file. */
export function* batchesIn(read: ReadJournal, fileBytes: number, salt: Uint8Array): Generator<BatchPlace> {
  let offset = 0;
  while (offset + BATCH_HEADER_BYTES <= fileBytes) {
    const bytes = wholeBatch(read, offset, fileBytes, salt);
    if (bytes === null) {
      offset += BLOCK_BYTES;
      continue;
    }
    const place = { number: getUint53(viewOf(bytes), 24), offset, paddedBytes: padded(bytes.length) };
    yield place;
    offset += place.paddedBytes;
  }
}

/** The records of a batch that `batchesIn` found. */
export function recordsOf(read: ReadJournal, place: BatchPlace): JournalRecord[] {
  const view = viewOf(read(place.offset, BATCH_HEADER_BYTES));
  const length = view.getUint32(4, true);
  const count = view.getUint32(12, true);
  const bytes = read(place.offset, length);
  const all = viewOf(bytes);
  const records: JournalRecord[] = [];
  let at = BATCH_HEADER_BYTES;
  for (let i = 0; i < count; i++) {
    const start = at + RECORD_HEADER_BYTES;
    const end = start + all.getUint32(at + 12, true);
    records.push({
      kind: all.getUint8(at),
      bucket: all.getUint16(at + 2, true),
      segment: all.getUint32(at + 4, true),
      offset: all.getUint32(at + 8, true),
      bytes: bytes.subarray(start, end),
      committed: getUint53(all, at + 16),
    });
    at = end;
  }
  return records;
}

function wholeBatch(read: ReadJournal, offset: number, fileBytes: number, salt: Uint8Array): Uint8Array | null {
  const head = read(offset, BATCH_HEADER_BYTES);
  const view = viewOf(head);
  if (view.getUint32(0, true) !== BATCH_MAGIC) return null;
  const length = view.getUint32(4, true);
  if (length < BATCH_HEADER_BYTES || offset + length > fileBytes) return null;
  for (let i = 0; i < SALT_BYTES; i++) if (head[16 + i] !== salt[i]) return null;
  const crc = view.getUint32(8, true);
  const bytes = read(offset, length).subarray(0, length);
  return crc32(bytes.subarray(12)) === crc ? bytes : null;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
