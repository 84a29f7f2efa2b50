/**
 * What to believe after a crash.
 *
 * Problem: the segments may lack, or hold half of, anything written since they were last synced; the journal holds all
 * that was acknowledged since then, and perhaps a last batch that was not.
 *
 * Idea: one batch is in flight at a time, so a batch in the journal proves that the one before it was synced whole.
 *
 * Rule: the header that began last says from which batch on the segments may lack something. Those batches are redone
 * in order, and each bucket's log ends where its last record ends; what a segment has beyond that was never
 * acknowledged and is cut. A batch that is bad and has no good one after it is the torn tail of the crash, and was
 * never acknowledged. A batch that is missing before a good one is damage: a bucket whose later records prove, by
 * their chain, that the segment has all of it is sound; any other is not, because nobody can say what it lost.
 *
 * One case cannot be told apart: rot that hits exactly the last batch looks like a torn tail.
 *
 * @module
 */
import { Damaged } from "../errors.ts";
import { readCutNotes } from "./cut_notes.ts";
import { type Disk, type DiskFile, isUnreadable } from "./disk.ts";
import { Chain, encodeSegmentHeader, Frame, frameBytesAt, getUint53, SEGMENT_HEADER_BYTES } from "./format.ts";
import { JOURNAL_FILES } from "./journal.ts";
import {
  batchesIn,
  type BatchPlace,
  BLOCK_BYTES,
  decodeJournalHeader,
  JOURNAL_HEADER_BYTES_MAX,
  type JournalHeader,
  type JournalRecord,
  type LogEnd,
  type ReadJournal,
  RECORD_FRAMES,
  RECORD_HARD_STATE,
  RECORD_TRUNCATION,
  recordsOf,
} from "./journal_format.ts";
import { foldersUpTo, segmentFolder, segmentPath, segmentsFolder } from "./layout.ts";

/** How much of a journal file is read at a time. */
const READ_BYTES = 1024 * 1024;

export interface Recovered {
  lastBatch: number;
  /** 0 or 1: the journal file with the newest header, which must stay until the other one has a newer. */
  lastFile: number;
  /** Number of the newest header of the journal. */
  lastHeader: number;
  buckets: RecoveredBucket[];
  /** Bytes that were written again to segments. */
  redoneBytes: number;
}

export interface RecoveredBucket {
  /** Where the segments were synced up to before the batches that were redone. */
  base: LogEnd;
  /** Where the log ends. */
  end: LogEnd;
  /** One past the last log index that is known to be committed. More than the log has: it lost some. */
  committed: number;
  /** What its replica must not forget; null where there never was a replica. */
  hard: Uint8Array | null;
  /** Set when the journal lost a batch, now or earlier, and nothing after it proves that this bucket lost nothing. */
  damage: Damaged | null;
  /** Whether the journal lost a batch, so that the segments from `base` on have to be verified. */
  suspect: boolean;
}

/**
 * Redoes the journal into the segments, cuts them where the log ends, and syncs them.
 * @throws {Damaged} neither journal file has a header, or one cannot be read
 */
export async function recover(disk: Disk, dir: string, salt: Uint8Array): Promise<Recovered> {
  const folder = `${dir}/journal`;
  const files = JOURNAL_FILES.map((name) => {
    const path = `${folder}/${name}`;
    return disk.exists(path) ? disk.open(path, "read") : null;
  });
  try {
    return await redo(
      disk,
      dir,
      salt,
      files.map((file, i) => journalFile(file, `${folder}/${JOURNAL_FILES[i]}`, salt)),
    );
  } finally {
    for (const file of files) file?.close();
  }
}

interface JournalFile {
  path: string;
  bytes: number;
  header: JournalHeader | string;
  read: ReadJournal;
  batches: BatchPlace[];
}

function journalFile(file: DiskFile | null, path: string, salt: Uint8Array): JournalFile {
  if (file === null) {
    return {
      path,
      bytes: 0,
      header: "the journal file is missing",
      read: () => new Uint8Array(0),
      batches: [],
    };
  }
  const read = windowed(file);
  const bytes = file.size();
  // The header says itself how long it is, at most as long as the file.
  let header = decodeJournalHeader(read(0, BLOCK_BYTES), salt);
  if (typeof header === "string") {
    header = decodeJournalHeader(read(0, Math.min(bytes, JOURNAL_HEADER_BYTES_MAX)), salt);
  }
  return { path, bytes, header, read, batches: [...batchesIn(read, bytes, salt)] };
}

/** What it returns is good until the next call: 128 windows of their own would be 128 MiB for the collector. */
function windowed(file: DiskFile): ReadJournal {
  const buffer = new Uint8Array(READ_BYTES);
  let start = 0;
  let window = new Uint8Array(0);
  return (offset, bytes) => {
    if (offset < start || offset + bytes > start + window.length) {
      const into = bytes <= READ_BYTES ? buffer : new Uint8Array(bytes);
      window = into.subarray(0, readAt(file, into, offset));
      start = offset;
    }
    return window.subarray(offset - start, offset - start + bytes);
  };
}

/** What cannot be read may have been acknowledged: another try may read it, and a repair does without. */
function readAt(file: DiskFile, into: Uint8Array, offset: number): number {
  try {
    return file.read(into, offset);
  } catch (cause) {
    if (!isUnreadable(cause)) throw cause;
    throw new Damaged(file.path, offset, `it cannot be read: ${(cause as Error).message}`, { cause });
  }
}

async function redo(disk: Disk, dir: string, salt: Uint8Array, files: JournalFile[]): Promise<Recovered> {
  const newest = newestHeader(files);
  const header = files[newest]!.header as JournalHeader;
  const batches = new Map<number, { file: number; place: BatchPlace }>();
  let lastBatch = header.redoFrom - 1;
  for (const [file, { batches: places }] of files.entries()) {
    for (const place of places) {
      if (place.number < header.redoFrom) continue;
      batches.set(place.number, { file, place });
      lastBatch = Math.max(lastBatch, place.number);
    }
  }
  // A header without a batch of its own yet still says that all before it are there.
  lastBatch = Math.max(lastBatch, header.firstBatch - 1);

  const buckets: RecoveredBucket[] = header.ends.map((base, i) => ({
    base,
    end: base,
    ...header.states[i]!,
    damage: base.lost
      ? new Damaged(files[newest]!.path, 0, "an earlier start found a batch of the journal missing")
      : null,
    suspect: base.lost,
  }));
  const ends = header.ends.map((base) => new Map([[base.segment, base.offset]]));
  const writer = new SegmentWriter(disk, dir);
  const truncate = (number: number, end: LogEnd) => {
    const bucket = buckets[number]!;
    bucket.end = end;
    // What was synced goes only so far now.
    if (isBefore(end, bucket.base)) bucket.base = { ...end, lost: bucket.base.lost };
    for (const segment of ends[number]!.keys()) if (segment > end.segment) ends[number]!.delete(segment);
    writer.removeAfter(number, end.segment);
    writer.cut(number, end.segment, end.offset);
    ends[number]!.set(end.segment, end.offset);
  };
  let lost: Damaged | null = null;
  let after: { file: number; offset: number } = { file: newest, offset: BLOCK_BYTES };
  let next = header.redoFrom;
  // Those that are there, not all that should be: a header that makes no sense may promise billions.
  for (const number of [...[...batches.keys()].sort((a, b) => a - b), lastBatch + 1]) {
    if (number !== next) {
      lost ??= new Damaged(files[after.file]!.path, after.offset, `journal batch ${next} of ${lastBatch} is missing`);
      for (const bucket of buckets) {
        bucket.damage = lost;
        bucket.suspect = true;
      }
    }
    next = number + 1;
    const batch = batches.get(number);
    if (batch === undefined) break;
    after = { file: batch.file, offset: batch.place.offset + batch.place.paddedBytes };
    for (const record of recordsOf(files[batch.file]!.read, batch.place)) {
      const bucket = buckets[record.bucket];
      if (bucket === undefined || record.kind < RECORD_FRAMES || record.kind > RECORD_HARD_STATE) {
        throw new Damaged(files[batch.file]!.path, batch.place.offset, `journal batch ${number} has an unknown record`);
      }
      bucket.committed = Math.max(bucket.committed, record.committed);
      if (record.kind === RECORD_HARD_STATE) {
        bucket.hard = record.bytes.slice(); // Of the window that is read next the bytes are others.
        continue;
      }
      if (record.kind === RECORD_TRUNCATION) {
        truncate(record.bucket, truncatedEnd(record));
        continue;
      }
      // Should the batch that is lost be one of this bucket's, the chain of these frames will not fit.
      if (!bucket.base.lost) bucket.damage = null;
      if (isBefore(record, bucket.base)) continue;
      writer.write(record);
      bucket.end = endOf(record, files[batch.file]!.path, batch.place.offset);
      ends[record.bucket]!.set(bucket.end.segment, bucket.end.offset);
    }
  }
  for (const [number, note] of readCutNotes(disk, `${dir}/journal`, salt, buckets.length).entries()) {
    if (note !== null && note.batch > lastBatch) truncate(number, note.end);
  }
  for (const [i, { path, bytes }] of files.entries()) {
    if (bytes >= header.fileBytes[i]!) continue;
    const cut = new Damaged(path, bytes, `the journal file ends here: it had ${header.fileBytes[i]} bytes`);
    for (const bucket of buckets) {
      bucket.damage ??= cut;
      bucket.suspect = true;
    }
  }
  for (const [bucket, { damage, end }] of buckets.entries()) {
    if (damage !== null) {
      end.lost = true;
      continue; // What stands beyond the end may be what was lost: it is for a repair to judge.
    }
    for (const [segment, offset] of ends[bucket]!) writer.cut(bucket, segment, offset);
    writer.removeAfter(bucket, end.segment);
  }
  await writer.sync();
  return { lastBatch, lastFile: newest, lastHeader: header.number, buckets, redoneBytes: writer.redoneBytes };
}

function isBefore(one: { segment: number; offset: number }, other: { segment: number; offset: number }): boolean {
  return one.segment < other.segment || one.segment === other.segment && one.offset < other.offset;
}

function truncatedEnd({ segment, offset, bytes }: JournalRecord): LogEnd {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const chain = new Chain(view.getUint32(8, true), view.getUint32(12, true));
  return { segment, offset, logIndex: getUint53(view, 0), chain, lost: false };
}

/** Where the log ends after the last frame of a record. */
function endOf({ segment, offset, bytes }: JournalRecord, file: string, batchOffset: number): LogEnd {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0;;) {
    const next = at + frameBytesAt(view, at);
    const frame = Frame.decode(bytes, view, at, next);
    if (typeof frame === "string") throw new Damaged(file, batchOffset, frame);
    if (next === bytes.length) {
      const chain = new Chain(frame.prevChainLow, frame.prevChainHigh);
      chain.step(frame.term, frame.logIndex, frame.crc);
      return { segment, offset: offset + next, logIndex: frame.logIndex + 1, chain, lost: false };
    }
    at = next;
  }
}

function newestHeader(files: JournalFile[]): number {
  let newest = -1;
  for (const [i, { header }] of files.entries()) {
    if (typeof header === "string") continue;
    if (newest === -1 || header.number > (files[newest]!.header as JournalHeader).number) newest = i;
  }
  if (newest === -1) throw new Damaged(files[0]!.path, 0, files[0]!.header as string);
  return newest;
}

/** Writes to segments during recovery, and remembers what to sync. */
class SegmentWriter {
  readonly #open = new Map<string, DiskFile>();
  readonly #folders = new Set<string>();
  redoneBytes = 0;

  constructor(readonly disk: Disk, readonly dir: string) {}

  write(record: JournalRecord): void {
    const file = this.#file(record.bucket, record.segment, record);
    file.write(record.bytes, record.offset);
    this.redoneBytes += record.bytes.length;
  }

  /** Takes away what was never acknowledged. */
  cut(bucket: number, segment: number, offset: number): void {
    const path = segmentPath(this.dir, bucket, segment);
    if (!this.#open.has(path) && !this.disk.exists(path)) return;
    const file = this.#file(bucket, segment, null);
    if (file.size() > offset) file.truncate(offset);
  }

  removeAfter(bucket: number, segment: number): void {
    const folder = segmentsFolder(this.dir, bucket);
    for (const name of this.disk.list(folder)) {
      if (Number(name) <= segment) continue;
      const path = segmentPath(this.dir, bucket, Number(name));
      this.#open.get(path)?.close();
      this.#open.delete(path);
      this.disk.remove(`${folder}/${name}`);
      this.#folders.add(folder);
    }
  }

  async sync(): Promise<void> {
    for (const file of this.#open.values()) {
      await file.sync();
      file.close();
    }
    // Of a segment that was redone and is cut off again the folder is gone.
    for (const folder of this.#folders) if (this.disk.exists(folder)) await this.disk.syncFolder(folder);
  }

  #file(bucket: number, segment: number, record: JournalRecord | null): DiskFile {
    const path = segmentPath(this.dir, bucket, segment);
    let file = this.#open.get(path);
    if (file !== undefined) return file;
    const folder = segmentFolder(this.dir, bucket, segment);
    if (this.disk.exists(path)) {
      file = this.disk.open(path, "write");
    } else {
      this.disk.makeFolder(folder);
      file = this.disk.open(path, "create");
    }
    // Also when it was there: a process that was killed may have made it and not synced its name.
    for (const up of foldersUpTo(this.dir, folder)) this.#folders.add(up);
    // The header of a segment follows from its first frame.
    if (record !== null && record.offset === SEGMENT_HEADER_BYTES) {
      const view = new DataView(record.bytes.buffer, record.bytes.byteOffset, record.bytes.length);
      const frame = Frame.decode(record.bytes, view, 0, frameBytesAt(view, 0));
      if (typeof frame === "string") throw new Damaged(path, record.offset, frame);
      file.write(
        encodeSegmentHeader({
          bucket,
          segment,
          firstLogIndex: frame.logIndex,
          prevChain: new Chain(frame.prevChainLow, frame.prevChainHigh),
        }),
        0,
      );
    }
    this.#open.set(path, file);
    return file;
  }
}
