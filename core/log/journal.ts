/**
 * The journal of a node: one write and one sync for all buckets. What is in it is durable; nothing else says so.
 *
 *     DIR/journal/a   DIR/journal/b        two files, really written once, used in turn
 *
 * Many logs that each sync for themselves make small batches and many syncs. So a batch goes into the segments unsynced,
 * where a full disk is still a definite refusal, and then whole into the journal, with the one sync that its writers
 * wait for. When a file is full the other takes over. Before that one is used again, the segments that its batches
 * went to have been synced behind the writers' backs; the header that it then gets says up to where.
 *
 * One batch is in flight at a time, so a batch proves that the one before it was synced. What that means after a crash
 * is decided in recovery.ts. While one is synced the next is put together.
 *
 * A failed write or sync of the journal, or of a segment behind it, leaves nobody who could say what is durable: the
 * caller ends the process.
 *
 * @module
 */
import { endProcess, type Environment } from "../environment.ts";
import { CutNotes } from "./cut_notes.ts";
import { type Disk, type DiskFile, isUnreadable } from "./disk.ts";
import { setUint53 } from "./format.ts";
import {
  BATCH_HEADER_BYTES,
  type BucketState,
  decodeJournalHeader,
  encodeJournalHeader,
  finishBatch,
  JOURNAL_HEADER_BYTES_MAX,
  type JournalHeader,
  journalHeaderBytes,
  journalSalt,
  type LogEnd,
  padded,
  putRecordHeader,
  RECORD_FRAMES,
  RECORD_HARD_STATE,
  RECORD_HEADER_BYTES,
  RECORD_TRUNCATION,
  TRUNCATION_BYTES,
} from "./journal_format.ts";

/** A batch rarely needs more. A larger one grows the buffer, which is then given back. */
const BUFFER_BYTES = 1024 * 1024;
/** Zeros are written at most so many at a time when a file is made. */
const FILL_BYTES = 1024 * 1024;

/** A sync that took less may be waited for on the spot. */
const SYNC_HERE_MS_MAX = 0.5;

export const JOURNAL_FILES = ["a", "b"] as const;

/** The headers of a journal whose salt nobody knows: those that are sound in themselves; null for a file that cannot be read. */
export function soundHeaders(disk: Disk, folder: string): ({ header: JournalHeader; salt: Uint8Array } | null)[] {
  return JOURNAL_FILES.map((name) => `${folder}/${name}`).filter((path) => disk.exists(path)).flatMap((path) => {
    const file = disk.open(path, "read");
    const bytes = new Uint8Array(Math.min(file.size(), JOURNAL_HEADER_BYTES_MAX));
    try {
      file.read(bytes, 0);
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      return [null];
    } finally {
      file.close();
    }
    const salt = journalSalt(bytes);
    const header = decodeJournalHeader(bytes, salt);
    return typeof header === "string" ? [] : [{ header, salt }];
  });
}

/** Number of the header of a journal that nobody has opened yet. */
export const FIRST_HEADER = 1;

export interface JournalOptions {
  disk: Disk;
  environment: Environment;
  /** DIR/journal */
  folder: string;
  salt: Uint8Array;
  /** Of each of the two files. */
  fileBytes: number;
  /** Whether logs may be cut: their buckets have replicas. */
  hasReplicas: boolean;
}

/** How the buckets stand, for the header that a file gets. */
export interface JournaledBuckets {
  /** Where their logs ended when the last batch was written that is durable. */
  ends(): LogEnd[];
  /** One past the last log index of each that is committed. */
  committed(): number[];
  /** Makes durable all that was written to segments up to now: the files, and their names. */
  syncSegments(): Promise<void>;
}

/** What recovery found of it. */
export interface RecoveredJournal {
  lastBatch: number;
  lastFile: number;
  lastHeader: number;
  buckets: { hard: Uint8Array | null }[];
}

export class Journal {
  readonly #options: JournalOptions;
  readonly #buckets: JournaledBuckets;
  readonly #files: DiskFile[];
  /** Null where no log is ever cut. */
  #cutNotes: CutNotes | null = null;
  /** Up to where their lengths are durable. */
  readonly #syncedBytes: number[];
  #current: number;
  /** Where the next batch goes in the current file. */
  #position = 0;
  #capacity = 0;
  #headerBytes = 0;
  #lastHeader: number;
  #nextBatch: number;
  /** First batch and bucket ends of the current file. */
  #firstBatch = 0;
  #endsAtFirst: LogEnd[] = [];
  /** That the segments written during the other file's turn are synced. */
  #otherSynced: Promise<void> = Promise.resolve();
  #failure: Error | null = null;
  #lastSyncMs = Infinity;

  // The batch being put together.
  bytes = new Uint8Array(BUFFER_BYTES);
  view = new DataView(this.bytes.buffer);
  /** One past the last byte of the batch so far. */
  length = BATCH_HEADER_BYTES;
  #recordCount = 0;
  #recordAt = 0;

  /** The hard states of the buckets that are durable, and those in the batch being put together. */
  readonly #hardStates: (Uint8Array | null)[];
  #newHardStates = new Map<number, Uint8Array>();

  syncs = 0;

  private constructor(
    options: JournalOptions,
    buckets: JournaledBuckets,
    files: DiskFile[],
    recovered: RecoveredJournal,
  ) {
    this.#hardStates = recovered.buckets.map(({ hard }) => hard);
    this.#options = options;
    this.#buckets = buckets;
    this.#files = files;
    this.#syncedBytes = files.map(() => 0); // A process that was killed may have lengthened them.
    this.#current = recovered.lastFile;
    this.#nextBatch = recovered.lastBatch + 1;
    this.#lastHeader = recovered.lastHeader;
  }

  /** Makes the two files of a new data folder, all blocks written, so that no later write has to find room. */
  static async create(
    { disk, folder, fileBytes, salt }: Omit<JournalOptions, "environment" | "hasReplicas">,
    ends: LogEnd[],
  ): Promise<void> {
    disk.makeFolder(folder);
    for (const name of JOURNAL_FILES) {
      const file = disk.open(`${folder}/${name}`, "create");
      fill(file, 0, fileBytes);
      if (name === JOURNAL_FILES[0]) {
        file.write(
          encodeJournalHeader({
            number: FIRST_HEADER,
            firstBatch: 1,
            redoFrom: 1,
            fileBytes: [fileBytes, fileBytes],
            ends,
            states: ends.map(({ logIndex }) => ({ committed: logIndex, hard: null })),
          }, salt),
          0,
        );
      }
      await file.sync();
      file.close();
    }
    await disk.syncFolder(folder);
  }

  /**
   * Goes on after recovery: `lastBatch` and all before it are in the segments, and those are synced. The file with the
   * newest header, `lastFile`, is left as it is until the header in the other one, which says so, is durable; then it
   * gets one as well.
   */
  static async open(
    options: JournalOptions,
    buckets: JournaledBuckets,
    recovered: RecoveredJournal,
  ): Promise<Journal> {
    const { disk, folder } = options;
    const files = JOURNAL_FILES.map((name) => {
      const path = `${folder}/${name}`;
      return disk.open(path, disk.exists(path) ? "write" : "create"); // Recovery has told what a missing one means.
    });
    await disk.syncFolder(folder);
    // A file that is shorter than it was tells of a loss: it is made longer when a header says so that is durable.
    const isLost = buckets.ends().some(({ lost }) => lost);
    const makeWhole = () => {
      for (const file of files) fill(file, file.size(), options.fileBytes);
    };
    if (!isLost) makeWhole();
    const journal = new Journal(options, buckets, files, recovered);
    await journal.#beginSynced();
    if (isLost) makeWhole();
    // In both files: what the newest header knows of a loss must not go with that header.
    await journal.#beginSynced();
    if (options.hasReplicas) {
      journal.#cutNotes = await CutNotes.open(disk, folder, options.salt, recovered.buckets.length);
    }
    return journal;
  }

  /**
   * Room for `bytes` more, and for a record around them: in memory, and in the file that the batch would go to.
   * `bytes` and `view` may be others after this.
   * @throws {NoSpace} the file could not be lengthened for a batch that is larger than a whole one
   */
  reserve(bytes: number): void {
    const needed = padded(this.length + 2 * RECORD_HEADER_BYTES + bytes);
    if (bytes > 0 && this.#position + needed > this.#capacity) this.#lengthen(needed);
    if (needed <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(needed, 2 * this.bytes.length));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
    this.view = new DataView(larger.buffer);
  }

  /** The file that is used next is made as long as a batch of so many bytes needs it. @throws {NoSpace} */
  #lengthen(batchBytes: number): void {
    const next = this.#files[1 - this.#current]!;
    const size = next.size();
    const needed = journalHeaderBytes(this.#states()) + batchBytes;
    if (size < needed) fill(next, size, needed);
  }

  #states(): BucketState[] {
    const committed = this.#buckets.committed();
    return this.#hardStates.map((hard, i) => ({ hard, committed: committed[i]! }));
  }

  /** Begins a record: the caller puts frames at `length` and raises it. */
  beginRecord(): void {
    this.reserve(0);
    this.#recordAt = this.length;
    this.length += RECORD_HEADER_BYTES;
  }

  /** The frames of the record begun last. */
  recordBytes(): Uint8Array {
    return this.bytes.subarray(this.#recordAt + RECORD_HEADER_BYTES, this.length);
  }

  /** Ends the record begun last: its frames belong to `segment` at `offset`. */
  endRecord(bucket: number, segment: number, offset: number, committed: number): void {
    const length = this.length - this.#recordAt - RECORD_HEADER_BYTES;
    if (length === 0) {
      this.length = this.#recordAt;
      return;
    }
    putRecordHeader(this.view, this.#recordAt, { kind: RECORD_FRAMES, bucket, segment, offset, length, committed });
    this.#recordCount++;
  }

  /**
   * The log of a bucket will end at `end` as soon as the caller has cut it; `isDurable` says whether what is cut off is,
   * some of it. Nothing is cut yet. @throws {NoSpace}
   */
  putTruncation(bucket: number, end: LogEnd, committed: number, isDurable: boolean): void {
    const { segment, offset, logIndex, chain } = end;
    this.reserve(TRUNCATION_BYTES);
    if (isDurable) this.#cutNotes!.note(bucket, this.#nextBatch, end);
    const at = this.length + RECORD_HEADER_BYTES;
    const length = TRUNCATION_BYTES;
    putRecordHeader(this.view, this.length, { kind: RECORD_TRUNCATION, bucket, segment, offset, length, committed });
    setUint53(this.view, at, logIndex);
    this.view.setUint32(at + 8, chain.low, true);
    this.view.setUint32(at + 12, chain.high, true);
    this.length = at + TRUNCATION_BYTES;
    this.#recordCount++;
  }

  /** @throws {NoSpace} */
  putHardState(bucket: number, hard: Uint8Array, committed: number): void {
    this.reserve(hard.length);
    const at = this.length + RECORD_HEADER_BYTES;
    const { length } = hard;
    putRecordHeader(this.view, this.length, {
      kind: RECORD_HARD_STATE,
      bucket,
      segment: 0,
      offset: 0,
      length,
      committed,
    });
    this.bytes.set(hard, at);
    this.length = at + length;
    this.#recordCount++;
    this.#newHardStates.set(bucket, hard);
  }

  /** What `revert` goes back to, when the frames of a bucket found no room on the disk. */
  mark(): { length: number; recordCount: number } {
    return { length: this.length, recordCount: this.#recordCount };
  }

  revert(mark: { length: number; recordCount: number }): void {
    this.length = mark.length;
    this.#recordCount = mark.recordCount;
  }

  get isEmpty(): boolean {
    return this.#recordCount === 0;
  }

  /** Goes over to the other file when the current one has no room for the batch. */
  async prepare(): Promise<void> {
    // More may be put into the batch while the files are changed.
    while (this.#position + padded(this.length) > this.#capacity) await this.#changeFiles();
  }

  /**
   * Writes and syncs the batch. When this resolves it is durable. From the first step on the next one may be put together.
   * `few` says that a short wait holds up few others: then a disk that was quick the last time is waited for here, which
   * spares the way to another thread and back. A single client gets 10 to 50 % more answers, fifty get 5 to 10 %; two
   * hundred would get none.
   */
  async commit(few: boolean): Promise<void> {
    const paddedLength = padded(this.length);
    this.bytes.fill(0, this.length, paddedLength);
    finishBatch(this.bytes, this.view, this.length, {
      number: this.#nextBatch,
      recordCount: this.#recordCount,
      salt: this.#options.salt,
    });
    const file = this.#files[this.#current]!;
    const newHardStates = this.#newHardStates;
    try {
      file.write(this.bytes.subarray(0, paddedLength), this.#position);
      this.#nextBatch++;
      this.#position += paddedLength;
      this.#beginBatch();
      const began = this.#options.environment.monotonic();
      if (few && this.#lastSyncMs < SYNC_HERE_MS_MAX) file.syncHere();
      else await file.sync();
      this.#lastSyncMs = this.#options.environment.monotonic() - began;
    } catch (cause) {
      throw new Error(`The journal ${file.path} could not be written and synced`, { cause });
    }
    this.syncs++;
    if (newHardStates.size > 0) { for (const [bucket, hard] of newHardStates) this.#hardStates[bucket] = hard; }
  }

  #beginBatch(): void {
    if (this.bytes.length > BUFFER_BYTES) {
      this.bytes = new Uint8Array(BUFFER_BYTES);
      this.view = new DataView(this.bytes.buffer);
    }
    this.length = BATCH_HEADER_BYTES;
    this.#recordCount = 0;
    if (this.#newHardStates.size > 0) this.#newHardStates = new Map();
  }

  /**
   * Leaves nothing to redo, so that the next start is quick, and closes. When a write or a sync has `failed`, here or in
   * the writer above, all is left as it is: what to believe is for recovery to say.
   */
  async close(failed: boolean): Promise<void> {
    await this.#otherSynced;
    if (!failed && this.#failure === null) {
      await this.#buckets.syncSegments();
      await this.#beginSynced();
    }
    for (const file of this.#files) file.close();
    this.#cutNotes?.close();
  }

  /** Goes over to the other file, with nothing to redo: all segments are synced up to their ends. */
  async #beginSynced(): Promise<void> {
    for (const i of this.#files.keys()) await this.#syncLength(i);
    this.#current = 1 - this.#current;
    this.#begin(this.#nextBatch, this.#buckets.ends());
    await this.#files[this.#current]!.sync();
  }

  /** Before a header says that a file is so long. What is put into the batch meanwhile may lengthen it again. */
  async #syncLength(of: number): Promise<void> {
    const file = this.#files[of]!;
    for (let bytes = file.size(); bytes > this.#syncedBytes[of]!; bytes = file.size()) {
      await file.sync();
      this.#syncedBytes[of] = bytes;
    }
  }

  async #changeFiles(): Promise<void> {
    // What the other file's batches wrote must be durable in the segments before those batches are overwritten.
    await this.#otherSynced;
    if (this.#failure !== null) throw this.#failure;
    const redoFrom = this.#firstBatch;
    const ends = this.#endsAtFirst;
    this.#otherSynced = this.#buckets.syncSegments().catch((cause) => {
      this.#failure = new Error("A segment could not be synced", { cause });
      endProcess(this.#options.environment, this.#failure);
    });
    const other = 1 - this.#current;
    this.#lengthen(padded(this.length));
    await this.#syncLength(other);
    this.#current = other;
    this.#begin(redoFrom, ends);
    // By itself, before the first batch: until the header is durable, the batches that it no longer needs are needed.
    await this.#files[this.#current]!.sync();
  }

  /** Starts the current file anew: batches from `redoFrom` on may be missing in segments, which are synced up to `ends`. */
  #begin(redoFrom: number, ends: LogEnd[]): void {
    const file = this.#files[this.#current]!;
    const fileBytes = this.#files.map((file) => file.size());
    const number = ++this.#lastHeader;
    const facts = { number, firstBatch: this.#nextBatch, redoFrom, fileBytes, ends, states: this.#states() };
    const header = encodeJournalHeader(facts, this.#options.salt);
    try {
      file.write(header, 0);
    } catch (cause) {
      throw new Error(`The journal ${file.path} could not be written`, { cause });
    }
    this.#position = this.#headerBytes = header.length;
    this.#capacity = file.size();
    this.#firstBatch = this.#nextBatch;
    this.#endsAtFirst = this.#buckets.ends();
  }
}

function fill(file: DiskFile, from: number, end: number): void {
  if (from >= end) return;
  const zeros = new Uint8Array(Math.min(FILL_BYTES, end - from));
  for (let at = from; at < end; at += zeros.length) file.write(zeros.subarray(0, Math.min(zeros.length, end - at)), at);
}
