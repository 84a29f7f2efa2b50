/**
 * Whether a data folder is what was written: every frame, the chain that ties them, every version and sequence, and
 * every index file, those of segments and that of heads, byte for byte against one made anew. Nothing in the folder is
 * touched.
 *
 * It goes on behind damage, as far as what stands there can be proved (proved_log.ts): so it also says what is missing,
 * which entries of a bucket's log, which sequences of a partition, which versions of a stream.
 *
 * What the journal still has to say to the segments is taken into account, as the next start would.
 *
 * @module
 */
import { headOfHash, identityOf } from "./bucket.ts";
import { systemEnvironment } from "./environment.ts";
import { Damaged } from "./errors.ts";
import { type FolderReading, openReading, segmentSizes } from "./folder_reading.ts";
import { BlockCache } from "./index/block_cache.ts";
import { HEADS_NAME, HeadsFile, type NewSegment, writeHeadsFile } from "./index/heads_file.ts";
import {
  type IndexContext,
  IndexDamaged,
  runSliced,
  type SegmentIdentity,
  SegmentIndex,
} from "./index/segment_index.ts";
import { type Disk, systemDisk } from "./log/disk.ts";
import { FilePool } from "./log/file_pool.ts";
import type { Frame } from "./log/format.ts";
import { bucketFolder, segmentFolder, segmentPath } from "./log/layout.ts";
import { FrameReader, LOOKUP_BYTES } from "./log/segment_reader.ts";
import type { OverlayDisk } from "./log/overlay_disk.ts";
import { bucketOf, partitionHash, partitionOf } from "./placement.ts";
import { ProvedLog } from "./proved_log.ts";
import { type Break, rangeText, Succession } from "./succession.ts";
import { textOf } from "./text.ts";
import { formatUuid } from "./uuid.ts";

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
  let folder: FolderReading;
  try {
    folder = await openReading(below, dir);
  } catch (error) {
    if (!(error instanceof Damaged)) throw error;
    report.problems.push(problemOf(error));
    return report;
  }
  try {
    const { disk, meta, buckets, redoneBytes } = folder;
    if (redoneBytes > 0) {
      report.notes.push(`The journal has ${redoneBytes} bytes that the next start writes to segments`);
    }
    const totalBytes = segmentSizes(disk, dir, meta.bucketCount).reduce((sum, bytes) => sum + bytes, 0);
    let doneBytes = 0;
    const progress = (bytes: number) => options.onProgress?.(doneBytes += bytes, totalBytes);
    // One loss in the journal is the damage of each bucket that it may have cost something: it is told once.
    for (const damage of new Set(buckets.map(({ damage }) => damage))) {
      if (damage !== null) report.problems.push(problemOf(damage));
    }
    for (const [bucket, recovered] of buckets.entries()) {
      await new BucketCheck(below, disk, dir, bucket, meta, report, progress).run(recovered);
    }
  } finally {
    folder.release();
  }
  return report;
}

class BucketCheck {
  readonly #environment = systemEnvironment();
  readonly #pool: FilePool;
  readonly #cache = new BlockCache(CACHE_BYTES);
  readonly #succession = new Succession();
  /** The heads file that is there, until it is compared or cannot be; and the one that is made beside it, segment by segment. */
  #heads: HeadsFile | null = null;
  #madeHeads: HeadsFile | null = null;

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
  }

  async run({ end, damage }: FolderReading["buckets"][number]): Promise<void> {
    const { dir, bucket, meta: { partitionCount, bucketCount } } = this;
    const log = new ProvedLog({
      ...{ pool: this.#pool, cache: this.#cache, environment: this.#environment, dir, bucket },
      ...{ partitionCount, bucketCount, end, open: damage !== null },
    });
    this.#openHeads();
    for (let number = 0; number <= log.lastSegment; number++) {
      await this.#segment(log, number);
      this.#pool.forget(segmentPath(dir, bucket, number));
    }
    if (this.#heads !== null) {
      const reason = `it is of ${this.#heads.end} whole segments: the log has ${log.lastSegment}`;
      this.#problem({ file: this.#headsPath, offset: 0, reason });
    }
    this.#letGoOfHeads();
    for (const [partition, promised] of log.promised) {
      const next = this.#succession.nextSequence(partition);
      if (promised <= next) continue;
      this.#problem({
        file: segmentPath(dir, bucket, log.position.segment),
        offset: log.position.offset,
        reason: `sequences ${
          rangeText(next, promised)
        } of partition ${partition} are missing, and what came after them`,
      });
    }
    this.#pool.close();
  }

  async #segment(log: ProvedLog, number: number): Promise<void> {
    const path = segmentPath(this.dir, this.bucket, number);
    if (this.disk.exists(path)) this.report.segments++;
    const rebuilt = `${segmentFolder(this.dir, this.bucket, number)}/check`;
    this.disk.makeFolder(rebuilt);
    const index = SegmentIndex.open(
      { pool: this.#pool, cache: new BlockCache(CACHE_BYTES), environment: this.#environment },
      rebuilt,
    );
    let firstLogIndex: number | null = null;
    let isWhole = true;
    let told = 0;
    for (const found of log.segment(number)) {
      if (found.kind === "damage") {
        isWhole = false;
        this.#problem(found.damage);
        continue;
      }
      const { offset } = found;
      if (found.kind === "lost") {
        const { from, end } = found;
        const reason = `entries ${rangeText(from, end)} of the log of bucket ${this.bucket} are missing`;
        this.#problem({ file: found.path, offset, reason });
        continue;
      }
      const { frame } = found;
      firstLogIndex ??= frame.logIndex;
      this.report.frames++;
      while (frame.next()) {
        this.report.events++;
        const streamKey = frame.streamKey();
        if (!this.#follows(frame, streamKey, path, offset)) isWhole = false;
        if (isWhole) {
          index.add(frame.eventId, streamKey, frame.version, frame.partition, frame.sequence, offset);
        }
      }
      if (offset - told >= PROGRESS_BYTES) {
        this.progress(offset - told);
        told = offset;
        await this.#environment.pause();
      }
    }
    if (this.disk.exists(path)) this.progress(log.position.offset - told);
    if (isWhole && firstLogIndex !== null && number < log.lastSegment) {
      const identity = identityOf(this.bucket, firstLogIndex, log.position);
      await runSliced(index.seal(identity), this.#environment);
      this.#compareIndexes(segmentFolder(this.dir, this.bucket, number), rebuilt);
      await this.#addToHeads(index, identity);
    } else if (number < log.lastSegment) {
      this.#letGoOfHeads(); // What it should say cannot be known.
    }
    index.close();
    this.disk.remove(rebuilt);
  }

  /** Whether the event under the cursor has the numbers that it must have. */
  #follows(frame: Frame, streamKey: Uint8Array, file: string, offset: number): boolean {
    const { partition } = frame;
    const expected = partitionOf(partitionHash(frame.partitionKeyBytes()), this.meta.partitionCount);
    if (partition !== expected || bucketOf(partition, this.meta.bucketCount) !== this.bucket) {
      const reason =
        `an event of partition ${partition} stands in bucket ${this.bucket}: its key belongs to partition ${expected}`;
      this.#problem({ file, offset, reason });
    }
    const breaks = this.#succession.take(frame, streamKey);
    for (const one of breaks) this.#problem({ file, offset, reason: this.#describe(one, frame) });
    return breaks.length === 0;
  }

  #describe({ of, found, expected }: Break, frame: Frame): string {
    if (of === "previous event") return `the event before is ${found} sequences back: ${expected} is right`;
    const what = of === "partition"
      ? `partition ${frame.partition}`
      : `stream ${JSON.stringify(textOf(frame.bytes, frame.streamIdAt, frame.streamIdEnd))} of partition key ${
        formatUuid(frame.partitionKeyBytes())
      }`;
    const number = of === "partition" ? "sequence" : "version";
    if (found < expected) return `${number} ${found} of ${what}: ${expected} is next`;
    return `${number}s ${rangeText(expected, found)} of ${what} are missing before this`;
  }

  #problem({ file, offset, reason }: FoundProblem): void {
    this.report.problems.push({ file, offset, reason });
  }

  #compareIndexes(folder: string, rebuilt: string): void {
    const missing = INDEX_NAMES.filter((name) => !this.below.exists(`${folder}/${name}`));
    if (missing.length > 0) this.report.notes.push(`${folder}: ${missing.join(", ")} missing, the next start makes it`);
    for (const name of INDEX_NAMES) {
      if (missing.includes(name)) continue;
      this.#compare(`${folder}/${name}`, `${rebuilt}/${name}`);
    }
  }

  #compare(file: string, made: string): void {
    const at = firstDifference(readAll(this.below, file), readAll(this.disk, made));
    if (at === null) return;
    const reason = "the index differs from one made anew: delete it, and the next start makes it again";
    this.#problem({ file, offset: at, reason });
  }

  // The heads file.

  get #headsPath(): string {
    return `${bucketFolder(this.dir, this.bucket)}/${HEADS_NAME}`;
  }

  get #indexContext(): IndexContext {
    return { pool: this.#pool, cache: this.#cache, environment: this.#environment };
  }

  /** That there is none is nothing to be told: it is made beside the writers, in its time. */
  #openHeads(): void {
    if (!this.below.exists(this.#headsPath)) return;
    try {
      this.#heads = new HeadsFile(this.#indexContext, this.#headsPath);
    } catch (error) {
      if (!(error instanceof IndexDamaged)) throw error;
      this.#problem(error);
    }
  }

  /** Takes the next segment into the file that is made beside it; with the last that it covers they are compared. */
  async #addToHeads(index: SegmentIndex, identity: SegmentIdentity): Promise<void> {
    if (this.#heads === null) return;
    const made = `${this.#headsPath}-check`;
    const { segment: number } = identity;
    const path = segmentPath(this.dir, this.bucket, number);
    const reader = new FrameReader(this.#pool, LOOKUP_BYTES);
    const added: NewSegment[] = [{
      lastEvents: () => index.lastEvents(),
      headOf: (a, b, version, offset) =>
        this.#succession.headOfHash(a, b, version) ?? headOfHash(reader.frame(path, offset), a, b, version)!,
    }];
    const before = this.#madeHeads;
    const writing = writeHeadsFile(this.#indexContext, made, identity, before, added);
    this.#madeHeads = await runSliced(writing, this.#environment);
    before?.close();
    if (number < this.#heads.end - 1) return;
    this.#compare(this.#headsPath, made);
    this.#letGoOfHeads();
  }

  #letGoOfHeads(): void {
    this.#heads?.close();
    this.#heads = null;
    this.#madeHeads?.close();
    this.#madeHeads = null;
    this.disk.remove(`${this.#headsPath}-check`);
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

function problemOf({ file, offset, reason }: Damaged): FoundProblem {
  return { file, offset, reason };
}
