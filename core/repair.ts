/**
 * A new data folder with all of a damaged one that can be proved, and a report of what cannot. The old folder is not
 * touched.
 *
 * Problem: in the new folder versions and sequences must count from 0 without gaps, as everywhere. What lies behind a
 * hole cannot keep its number there without a gap, and with another number it would be another event to all who have
 * read it.
 *
 * Rule: nothing is renumbered.
 *
 *     - Each partition is kept up to its first event that is lost. A hole in the log of a bucket ends only the
 *       partitions that lost something in it: the others go on behind it.
 *     - What can be proved of a partition behind that goes as lines into a file beside (`salvaged.ndjson`), with the
 *       numbers that it had: nothing provable is dropped, and a person decides.
 *     - Transactions stay whole, on either side. Events keep all they had, ids and times too: an append that is
 *       repeated in the new folder is answered as it was in the old one.
 *
 * Streams do not leave their partition, so that no version is lost where no sequence is. What counts as proved is in
 * proved_log.ts. The journal helps: whatever it still has a whole copy of is as good as the segment's own.
 *
 * Until all is there, the new folder has no meta file, and no store opens it: a repair that was cut off is not taken
 * for one.
 *
 * @module
 */
import { equalBytes } from "./bytes.ts";
import { type Database, openDatabase } from "./database.ts";
import { type Environment, type Log, systemEnvironment } from "./environment.ts";
import { InvalidArgument } from "./errors.ts";
import type { EventRecord } from "./event.ts";
import { type FolderReading, openReading, segmentSizes } from "./folder_reading.ts";
import { BlockCache } from "./index/block_cache.ts";
import { type Disk, type DiskFile, systemDisk } from "./log/disk.ts";
import { FilePool } from "./log/file_pool.ts";
import { Chain, encodeSegmentHeader, Frame, frameBytesAt, SEGMENT_HEADER_BYTES } from "./log/format.ts";
import { JOURNAL_FILES } from "./log/journal.ts";
import {
  batchesIn,
  type BatchPlace,
  type JournalRecord,
  type ReadJournal,
  RECORD_FRAMES,
  RECORD_TRUNCATION,
  recordsOf,
} from "./log/journal_format.ts";
import { segmentFolder, segmentPath } from "./log/layout.ts";
import { metaPath, saltOf } from "./meta.ts";
import type { FoundProblem } from "./check.ts";
import { partitionHash, partitionOf } from "./placement.ts";
import { ProvedLog } from "./proved_log.ts";
import { Succession } from "./succession.ts";
import { textOf } from "./text.ts";
import { formatUuid } from "./uuid.ts";

export interface RepairOptions {
  dir: string;
  /** The new folder: missing, or empty. */
  to: string;
  /** The form, with its line feed, of an event that could be proved and not be kept. */
  lineOf: (event: EventRecord) => string;
  disk?: Disk;
  environment?: Environment;
  log?: Log;
  /** Of the new folder's journal; 64 MiB when left out. */
  journalBytes?: number | undefined;
  /** Of the old folder, for the case that its meta file is damaged. */
  partitionCount?: number | undefined;
  /** Called as segments are read. */
  onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/** Numbers `[from, end)` that are lost. */
export interface LostRange {
  from: number;
  end: number;
}

export interface RepairReport {
  /** In the new folder. */
  keptTransactions: number;
  keptEvents: number;
  /** In the file beside, in the order of their bucket's log. Null when there are none. */
  salvagedFile: string | null;
  salvagedTransactions: number;
  salvagedEvents: number;
  /** What could not be read. */
  damage: FoundProblem[];
  /** By bucket: the entries of its log, each a transaction, that are lost. */
  lostEntries: (LostRange & { bucket: number })[];
  /** Buckets whose log may have gone on behind the last entry that is there: the journal does not prove where it ended. */
  openEnds: number[];
  /** The partitions that are not whole. */
  partitions: PartitionLoss[];
  /** The versions of streams that are known to be lost. There may be more where a partition ends in a loss. */
  streams: (LostRange & { partition: number; partitionKey: string; streamId: string })[];
}

export interface PartitionLoss {
  partition: number;
  /** Events of it that were kept: sequences below this. */
  kept: number;
  /** Sequences that are known to be lost. */
  lost: LostRange[];
  salvagedEvents: number;
}

const CACHE_BYTES = 4 * 1024 * 1024;
/** Appends to the new folder that are on their way at a time. */
const WAITING_TRANSACTIONS_MAX = 1024;
const WAITING_BYTES_MAX = 16 * 1024 * 1024;
/** A line of JSON is some 400 bytes: enough that a write costs little a line. */
const SALVAGE_CHARS_MAX = 256 * 1024;

/** Whether all that was ever acknowledged is in the new folder. */
export function isWhole({ lostEntries, openEnds, partitions }: RepairReport): boolean {
  return lostEntries.length === 0 && openEnds.length === 0 && partitions.length === 0;
}

/**
 * Makes a new data folder of what can be proved of one that no store has open.
 * @throws {InvalidArgument} the new folder is not empty, or lies in the old one; the partition count cannot be right
 * @throws {Damaged} the old folder's meta file is not what was written, and no partition count given, or the journal as bad
 * @throws {FolderInUse} a store has the old folder open
 * @throws {FolderMismatch} the old folder has another format version, or another partition count than was given
 * @throws {DiskFull} there is no room for the new folder
 */
export async function repairFolder(options: RepairOptions): Promise<RepairReport> {
  const { disk: below = systemDisk, environment = systemEnvironment() } = options;
  const [dir, to] = [options.dir, options.to].map((path) => path.replace(/(?<=.)\/+$/, "")) as [string, string];
  if (`${to}/`.startsWith(`${dir}/`)) {
    throw new InvalidArgument(`The new folder ${to} must not lie in the damaged one, ${dir}: that is not touched`);
  }
  if (below.list(to).length > 0) throw new InvalidArgument(`The new folder ${to} must be empty: it is not`);
  const folder = await openReading(below, dir, options.partitionCount);
  try {
    const { meta } = folder;
    redoAllBatches(folder, dir);
    const store = await openDatabase({
      ...{ dir: to, disk: below, environment, ...(options.log && { log: options.log }) },
      ...{ partitionCount: meta.partitionCount, bucketCount: meta.bucketCount, segmentBytes: meta.segmentBytes },
      ...{ journalBytes: options.journalBytes, reserveBytes: 0 },
    });
    below.rename(metaPath(to), `${metaPath(to)}.unfinished`);
    await below.syncFolder(to);
    const repair = new Repair(folder, dir, store, environment, options);
    try {
      for (let bucket = 0; bucket < meta.bucketCount; bucket++) await repair.bucket(bucket);
      await repair.end();
    } finally {
      await store.close();
    }
    below.rename(`${metaPath(to)}.unfinished`, metaPath(to));
    await below.syncFolder(to);
    return repair.report;
  } finally {
    folder.release();
  }
}

class Repair {
  readonly report: RepairReport = {
    ...{ keptTransactions: 0, keptEvents: 0, salvagedFile: null, salvagedTransactions: 0, salvagedEvents: 0 },
    ...{ damage: [], lostEntries: [], openEnds: [], partitions: [], streams: [] },
  };
  readonly #pool: FilePool;
  readonly #cache = new BlockCache(CACHE_BYTES);
  readonly #succession = new Succession();
  /** By number: those that have lost something. */
  readonly #losses = new Map<number, PartitionLoss>();
  readonly #totalBytes: number;
  #doneBytes = 0;
  #waiting: Promise<void>[] = [];
  #waitingBytes = 0;
  #salvaged: DiskFile | null = null;
  #salvagedText = "";
  #salvagedBytes = 0;

  constructor(
    readonly folder: FolderReading,
    readonly dir: string,
    readonly store: Database,
    readonly environment: Environment,
    readonly options: RepairOptions,
  ) {
    this.#pool = new FilePool(folder.disk);
    if (folder.metaDamage !== null) this.report.damage.push(problemOf(folder.metaDamage));
    this.#totalBytes = segmentSizes(folder.disk, dir, folder.meta.bucketCount).reduce((sum, bytes) => sum + bytes, 0);
  }

  async bucket(bucket: number): Promise<void> {
    const { report, folder, dir, environment } = this;
    const { partitionCount, bucketCount } = folder.meta;
    const { end, damage } = folder.buckets[bucket]!;
    if (damage !== null) {
      report.openEnds.push(bucket);
      if (!report.damage.some(({ file, offset }) => file === damage.file && offset === damage.offset)) {
        report.damage.push(problemOf(damage));
      }
    }
    const log = new ProvedLog({
      ...{ pool: this.#pool, cache: this.#cache, environment, dir, bucket, partitionCount, bucketCount, end },
      open: damage !== null,
    });
    for (let number = 0; number <= log.lastSegment; number++) {
      for (const found of log.segment(number)) {
        if (found.kind === "damage") report.damage.push(problemOf(found.damage));
        else if (found.kind === "lost") report.lostEntries.push({ bucket, from: found.from, end: found.end });
        else if (this.#place(found.frame)) await this.#settle();
      }
      const path = segmentPath(dir, bucket, number);
      if (this.#pool.disk.exists(path)) {
        this.options.onProgress?.(this.#doneBytes += this.#pool.size(path), this.#totalBytes);
      }
      this.#pool.forget(path);
    }
    await this.#settle();
    for (const [partition, promised] of log.promised) {
      const next = this.#succession.nextSequence(partition);
      if (promised > next) this.#loss(partition).lost.push({ from: next, end: promised });
    }
    const losses = [...this.#losses.values()].sort((one, other) => one.partition - other.partition);
    report.partitions = losses;
  }

  /** Keeps a transaction, or salvages it. Whether enough is on its way to wait for it. */
  #place(frame: Frame): boolean {
    const { report } = this;
    if (frame.count === 0) return false; // It opened a term of the old log. The new one has terms of its own.
    const { partition, firstSequence } = frame;
    const kept = this.#succession.nextSequence(partition);
    this.#requirePlace(frame);
    const records: EventRecord[] = [];
    while (frame.next()) {
      this.#follow(frame, kept);
      records.push(frame.record());
    }
    const loss = this.#losses.get(partition);
    if (loss !== undefined) {
      report.salvagedTransactions++;
      report.salvagedEvents += records.length;
      loss.salvagedEvents += records.length;
      this.#salvage(records);
      return false;
    }
    report.keptTransactions++;
    report.keptEvents += records.length;
    const appended = this.#append(records, firstSequence);
    appended.catch(() => {}); // It is told by `#settle`, unless something else ends the repair before.
    this.#waiting.push(appended);
    this.#waitingBytes += frame.end - frame.start;
    return this.#waiting.length >= WAITING_TRANSACTIONS_MAX || this.#waitingBytes >= WAITING_BYTES_MAX;
  }

  /** What stands in another partition than its key's cannot be kept there: the partition ends before it. */
  #requirePlace(frame: Frame): void {
    const { partitionCount } = this.folder.meta;
    const expected = partitionOf(partitionHash(frame.partitionKeyBytes()), partitionCount);
    if (frame.partition === expected) return;
    if (this.folder.metaDamage === null) return void this.#loss(frame.partition);
    throw new InvalidArgument(
      `The folder ${this.dir} was not made with ${partitionCount} partitions: an event of partition ${frame.partition} ` +
        `would belong to ${expected}`,
    );
  }

  /** Notes what is missing before the event under the cursor. */
  #follow(frame: Frame, kept: number): void {
    const { partition } = frame;
    for (const { of, expected, found } of this.#succession.take(frame, frame.streamKey())) {
      const loss = this.#loss(partition, kept);
      if (found <= expected) continue;
      if (of === "partition") loss.lost.push({ from: expected, end: found });
      if (of !== "stream") continue;
      this.report.streams.push({
        ...{ partition, from: expected, end: found },
        partitionKey: formatUuid(frame.partitionKeyBytes()),
        streamId: textOf(frame.bytes, frame.streamIdAt, frame.streamIdEnd),
      });
    }
  }

  /** The partition is kept up to `kept`, and not beyond. */
  #loss(partition: number, kept = this.#succession.nextSequence(partition)): PartitionLoss {
    let loss = this.#losses.get(partition);
    if (loss === undefined) {
      this.#losses.set(partition, loss = { partition, kept, lost: [], salvagedEvents: 0 });
    }
    return loss;
  }

  /** Appends to the new folder, which must give out the numbers that the events had. */
  async #append(records: EventRecord[], firstSequence: number): Promise<void> {
    const { partitionKey } = records[0]!;
    const { firstSequence: sequence, events } = await this.store.append({
      partitionKey,
      events: records.map(newEvent),
    });
    if (sequence === firstSequence && events.every(({ version }, i) => version === records[i]!.version)) return;
    throw new Error(
      `Event ${records[0]!.eventId} got another number in the new folder than ${firstSequence}: ${sequence}`,
    );
  }

  #salvage(records: EventRecord[]): void {
    const { to, lineOf, disk = systemDisk } = this.options;
    this.#salvaged ??= disk.open(this.report.salvagedFile = `${to}/salvaged.ndjson`, "create");
    for (const record of records) this.#salvagedText += lineOf(record);
    if (this.#salvagedText.length >= SALVAGE_CHARS_MAX) this.#writeSalvaged();
  }

  #writeSalvaged(): void {
    const bytes = new TextEncoder().encode(this.#salvagedText);
    this.#salvaged!.write(bytes, this.#salvagedBytes);
    this.#salvagedBytes += bytes.length;
    this.#salvagedText = "";
  }

  async end(): Promise<void> {
    this.#pool.close();
    if (this.#salvaged === null) return;
    this.#writeSalvaged();
    await this.#salvaged.sync(); // Before the new folder counts as made. Its name is synced with that of the meta file.
    this.#salvaged.close();
  }

  async #settle(): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    await Promise.all(waiting);
  }
}

function newEvent({ streamId, name, eventId, timestamp, payload, metadata }: EventRecord) {
  return { streamId, name, eventId, timestamp, payload, metadata };
}

/**
 * Writes what the journal has of any batch to the segments of the overlay, wherever it is not what stands there. What
 * took the place of what a batch wrote is in a later batch, and that is there, too.
 */
function redoAllBatches({ disk, meta, buckets }: FolderReading, dir: string): void {
  const salt = saltOf(meta);
  const places: { read: ReadJournal; place: BatchPlace }[] = [];
  const files: DiskFile[] = [];
  for (const name of JOURNAL_FILES) {
    const path = `${dir}/journal/${name}`;
    if (!disk.exists(path)) continue;
    const file = disk.open(path, "read");
    files.push(file);
    const read: ReadJournal = (offset, length) => {
      const bytes = new Uint8Array(length);
      return bytes.subarray(0, file.read(bytes, offset));
    };
    for (const place of batchesIn(read, file.size(), salt)) places.push({ read, place });
  }
  for (const { read, place } of places.sort((one, other) => one.place.number - other.place.number)) {
    for (const record of recordsOf(read, place)) {
      const { bucket, segment, offset } = record;
      const found = buckets[bucket];
      if (found === undefined) continue;
      const path = segmentPath(dir, bucket, segment);
      if (record.kind === RECORD_TRUNCATION) {
        cut(disk, path, offset);
        continue;
      }
      if (record.kind !== RECORD_FRAMES) continue;
      if (!disk.exists(path)) disk.makeFolder(segmentFolder(dir, bucket, segment));
      mend(disk, path, offset, record.bytes);
      if (offset === SEGMENT_HEADER_BYTES) mend(disk, path, 0, headerOf(record));
    }
  }
  for (const file of files) file.close();
}

/** The header of a segment follows from its first frame. */
function headerOf({ bucket, segment, bytes }: JournalRecord): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const frame = Frame.decode(bytes, view, 0, frameBytesAt(view, 0));
  if (typeof frame === "string") return new Uint8Array(0);
  const prevChain = new Chain(frame.prevChainLow, frame.prevChainHigh);
  return encodeSegmentHeader({ bucket, segment, firstLogIndex: frame.logIndex, prevChain });
}

/** What a later batch has cut off was never committed. */
function cut(disk: Disk, path: string, offset: number): void {
  if (!disk.exists(path)) return;
  const file = disk.open(path, "write");
  if (file.size() > offset) file.truncate(offset);
  file.close();
}

function mend(disk: Disk, path: string, offset: number, bytes: Uint8Array): void {
  if (disk.exists(path)) {
    const file = disk.open(path, "read");
    const had = new Uint8Array(bytes.length);
    const isThere = file.read(had, offset) === bytes.length && equalBytes(had, bytes);
    file.close();
    if (isThere) return;
  }
  const file = disk.open(path, disk.exists(path) ? "write" : "create");
  file.write(bytes, offset);
  file.close();
}

function problemOf({ file, offset, reason }: FoundProblem): FoundProblem {
  return { file, offset, reason };
}
