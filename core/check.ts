/**
 * Whether a data folder is what was written: every frame, the chain that ties them, every version and sequence, and
 * every index file, byte for byte against one made anew. Nothing in the folder is touched.
 *
 * What the journal still has to say to the segments is taken into account, as the next start would.
 *
 * @module
 */
import { identityOf, startOf } from "./bucket.ts";
import { systemEnvironment } from "./environment.ts";
import { Damaged, FolderInUse } from "./errors.ts";
import { BlockCache } from "./index/block_cache.ts";
import { HeadTable } from "./index/heads.ts";
import { runSliced, SegmentIndex } from "./index/segment_index.ts";
import { type Disk, systemDisk } from "./log/disk.ts";
import { FilePool } from "./log/file_pool.ts";
import type { Frame } from "./log/format.ts";
import { emptyLogEnd, type LogEnd } from "./log/journal_format.ts";
import { segmentFolder, segmentPath } from "./log/layout.ts";
import { OverlayDisk } from "./log/overlay_disk.ts";
import { recover, type RecoveredBucket } from "./log/recovery.ts";
import { framesInOrder, readSegmentHeader } from "./log/segment_reader.ts";
import { metaPath, readMeta, saltOf } from "./meta.ts";
import { bucketOf, partitionHash, partitionOf } from "./placement.ts";

export interface FoundProblem {
  file: string;
  offset: number;
  reason: string;
}

export interface CheckReport {
  segments: number;
  frames: number;
  events: number;
  /** What is not as it was written. Empty: the folder is sound. */
  problems: FoundProblem[];
  /** What is as it may be, and worth knowing: an index that the next start makes. */
  notes: string[];
}

export interface CheckOptions {
  dir: string;
  disk?: Disk;
  /** Called as segments are read. */
  onProgress?: (doneBytes: number, totalBytes: number) => void;
}

const INDEX_NAMES = ["index.eidx", "stream.sidx", "partition.pidx"];
const CACHE_BYTES = 4 * 1024 * 1024;
/** The thread is given away, and progress told, after so many bytes. */
const PROGRESS_BYTES = 8 * 1024 * 1024;

/**
 * Checks a data folder that no store has open.
 * @throws {FolderInUse} a store has it open
 * @throws {FolderMismatch} it has another format version
 */
export async function checkFolder(options: CheckOptions): Promise<CheckReport> {
  const below = options.disk ?? systemDisk;
  const dir = options.dir.replace(/(?<=.)\/+$/, "");
  const report: CheckReport = { segments: 0, frames: 0, events: 0, problems: [], notes: [] };
  if (!below.exists(metaPath(dir))) {
    report.problems.push({ file: metaPath(dir), offset: 0, reason: "it is missing: this is not a data folder" });
    return report;
  }
  const lock = await below.lock(`${dir}/lock`);
  if (lock === null) throw new FolderInUse(dir);
  try {
    const disk = new OverlayDisk(below);
    const meta = readMeta(disk, dir)!;
    const { buckets, redoneBytes } = await recover(disk, dir, saltOf(meta));
    if (redoneBytes > 0) {
      report.notes.push(`The journal has ${redoneBytes} bytes that the next start writes to segments`);
    }
    let totalBytes = 0;
    for (const [bucket, { end }] of buckets.entries()) {
      for (let number = 0; number <= end.segment; number++) {
        totalBytes += sizeOf(disk, segmentPath(dir, bucket, number));
      }
    }
    let doneBytes = 0;
    const progress = (bytes: number) => options.onProgress?.(doneBytes += bytes, totalBytes);
    for (const [bucket, recovered] of buckets.entries()) {
      await new BucketCheck(below, disk, dir, bucket, meta, report, progress).run(recovered);
    }
  } catch (error) {
    if (!(error instanceof Damaged)) throw error;
    report.problems.push(problemOf(error));
  } finally {
    lock.release();
  }
  return report;
}

class BucketCheck {
  readonly #environment = systemEnvironment();
  readonly #pool: FilePool;
  readonly #heads = new HeadTable();
  readonly #nextSequences = new Map<number, number>();
  /** How far the log was read. */
  #position: LogEnd;
  /** Something before could not be read: what follows cannot be compared with it. */
  #broken = false;

  constructor(
    readonly below: Disk,
    readonly disk: OverlayDisk,
    readonly dir: string,
    readonly bucket: number,
    readonly meta: { partitionCount: number; bucketCount: number },
    readonly report: CheckReport,
    readonly progress: (bytes: number) => void,
  ) {
    this.#pool = new FilePool(disk);
    this.#position = emptyLogEnd(bucket);
  }

  async run(recovered: RecoveredBucket): Promise<void> {
    if (recovered.damage !== null) this.report.problems.push(problemOf(recovered.damage));
    // Nothing was ever acknowledged in this bucket.
    const { end } = recovered;
    if (end.logIndex === 0) return;
    for (let number = 0; number <= end.segment; number++) {
      const path = segmentPath(this.dir, this.bucket, number);
      try {
        await this.#segment(number, path, number === end.segment ? end.offset : null);
      } catch (error) {
        if (!(error instanceof Damaged)) throw error;
        this.report.problems.push(problemOf(error));
        this.#broken = true;
      }
      this.#pool.forget(path);
    }
    this.#pool.close();
  }

  async #segment(number: number, path: string, activeEnd: number | null): Promise<void> {
    if (this.disk.exists(path)) this.report.segments++;
    const header = readSegmentHeader(this.#pool, path, this.bucket, number);
    if (
      !this.#broken &&
      (header.firstLogIndex !== this.#position.logIndex || !header.prevChain.equals(this.#position.chain))
    ) {
      this.report.problems.push({
        file: path,
        offset: 0,
        reason: "the segment does not follow from the one before it",
      });
    }
    this.#position = startOf(header);
    const fileBytes = this.#pool.size(path);
    const end = activeEnd ?? fileBytes;
    if (fileBytes < end) throw new Damaged(path, fileBytes, `the file ends here: acknowledged frames reach to ${end}`);

    const cache = new BlockCache(CACHE_BYTES);
    const rebuilt = `${segmentFolder(this.dir, this.bucket, number)}/check`;
    this.disk.makeFolder(rebuilt);
    const index = SegmentIndex.open({ pool: this.#pool, cache, environment: this.#environment }, rebuilt);
    let told = 0;
    for (const { frame, offset } of framesInOrder(this.#pool, path, this.#position, end)) {
      this.report.frames++;
      while (frame.next()) {
        this.report.events++;
        const streamKey = frame.streamKey();
        this.#event(frame, streamKey, path, offset);
        index.add(frame.eventId, streamKey, frame.version, frame.partition, frame.sequence, offset);
      }
      if (offset - told >= PROGRESS_BYTES) {
        this.progress(offset - told);
        told = offset;
        await this.#environment.pause();
      }
    }
    this.progress(end - told);
    if (activeEnd === null) {
      const identity = identityOf(this.bucket, header.firstLogIndex, this.#position);
      await runSliced(index.seal(identity), this.#environment);
      this.#compareIndexes(segmentFolder(this.dir, this.bucket, number), rebuilt);
    }
    index.close();
    this.disk.remove(rebuilt);
  }

  #event(frame: Frame, streamKey: Uint8Array, file: string, offset: number): void {
    const { partition, sequence, version, prev } = frame;
    const wrong = (reason: string) => this.report.problems.push({ file, offset, reason });
    const expected = partitionOf(partitionHash(frame.partitionKeyBytes()), this.meta.partitionCount);
    if (partition !== expected || bucketOf(partition, this.meta.bucketCount) !== this.bucket) {
      wrong(
        `an event of partition ${partition} stands in bucket ${this.bucket}: its key belongs to partition ${expected}`,
      );
    }
    const nextSequence = this.#nextSequences.get(partition) ?? 0;
    const head = this.#heads.get(streamKey);
    if (!this.#broken) {
      if (sequence !== nextSequence) wrong(`sequence ${sequence} of partition ${partition}: ${nextSequence} is next`);
      const nextVersion = head === null ? 0 : head.version + 1;
      if (version !== nextVersion) wrong(`version ${version} of its stream: ${nextVersion} is next`);
      const distance = head === null ? 0 : sequence - head.sequence;
      if (prev !== distance) wrong(`the event before is ${prev} sequences back: ${distance} is right`);
    }
    this.#nextSequences.set(partition, sequence + 1);
    this.#heads.set(streamKey, version, sequence);
  }

  #compareIndexes(folder: string, rebuilt: string): void {
    const missing = INDEX_NAMES.filter((name) => !this.below.exists(`${folder}/${name}`));
    if (missing.length > 0) this.report.notes.push(`${folder}: ${missing.join(", ")} missing, the next start makes it`);
    for (const name of INDEX_NAMES) {
      if (missing.includes(name)) continue;
      const path = `${folder}/${name}`;
      const had = readAll(this.below, path);
      const expected = readAll(this.disk, `${rebuilt}/${name}`);
      const at = firstDifference(had, expected);
      if (at === null) continue;
      this.report.problems.push({
        file: path,
        offset: at,
        reason: "the index differs from one made anew: delete it, and the next start makes it again",
      });
    }
  }
}

function firstDifference(a: Uint8Array, b: Uint8Array): number | null {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) if (a[i] !== b[i]) return i;
  return a.length === b.length ? null : shared;
}

function readAll(disk: Disk, path: string): Uint8Array {
  const file = disk.open(path, "read");
  const bytes = new Uint8Array(file.size());
  file.read(bytes, 0);
  file.close();
  return bytes;
}

function sizeOf(disk: Disk, path: string): number {
  if (!disk.exists(path)) return 0;
  const file = disk.open(path, "read");
  const bytes = file.size();
  file.close();
  return bytes;
}

function problemOf({ file, offset, reason }: Damaged): FoundProblem {
  return { file, offset, reason };
}
