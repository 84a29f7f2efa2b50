/**
 * The log of one bucket: the end of its chain of segments, where frames are added.
 *
 * It gives an entry its log index and its place, and rolls to a new segment when the next frame does not fit: a pure
 * function of the log, so that every replica rolls at the same entry. It writes, and never syncs before an
 * acknowledgement: durability is the journal's. What it wrote since the last `dirt()` it remembers, so that the journal
 * can have it synced behind the writers' backs.
 *
 * @module
 */
import type { Disk, DiskFile } from "./disk.ts";
import { encodeSegmentHeader, SEGMENT_HEADER_BYTES } from "./format.ts";
import type { LogEnd } from "./journal_format.ts";
import { foldersUpTo, segmentFolder, segmentPath, segmentsFolder } from "./layout.ts";

/** Files whose bytes, and folders whose names, are not durable yet. */
export interface Dirt {
  files: Set<string>;
  folders: Set<string>;
}

export class BucketLog {
  /** Where the next frame goes. */
  readonly end: LogEnd;
  /** Null: the bucket is damaged, and its files are left as they are. */
  #file: DiskFile | null;
  #dirt: Dirt = { files: new Set(), folders: new Set() };

  private constructor(
    readonly disk: Disk,
    readonly dir: string,
    readonly bucket: number,
    readonly segmentBytes: number,
    end: LogEnd,
    file: DiskFile | null,
  ) {
    this.end = end;
    this.#file = file;
  }

  get #writer(): DiskFile {
    if (this.#file === null) throw new Error(`The log of bucket ${this.bucket} is not open for writing`);
    return this.#file;
  }

  /** A log that is known to be damaged: it has an end, and takes nothing. */
  static closed(disk: Disk, dir: string, bucket: number, segmentBytes: number, end: LogEnd): BucketLog {
    return new BucketLog(disk, dir, bucket, segmentBytes, end, null);
  }

  /** Goes on at `end`. The first segment is made anew when nothing was ever in it. */
  static open(disk: Disk, dir: string, bucket: number, segmentBytes: number, end: LogEnd): BucketLog {
    const path = segmentPath(dir, bucket, end.segment);
    if (end.logIndex > 0 && disk.exists(path)) {
      return new BucketLog(disk, dir, bucket, segmentBytes, end, disk.open(path, "write"));
    }
    disk.makeFolder(segmentFolder(dir, bucket, end.segment));
    const log = new BucketLog(disk, dir, bucket, segmentBytes, end, disk.open(path, "create"));
    log.#begin();
    // Its folders are new as well, up to the data folder.
    const folders = log.#dirt.folders;
    for (const up of foldersUpTo(dir, segmentsFolder(dir, bucket))) folders.add(up);
    return log;
  }

  get path(): string {
    return segmentPath(this.dir, this.bucket, this.end.segment);
  }

  fits(frameBytes: number): boolean {
    return this.end.offset + frameBytes <= this.segmentBytes;
  }

  /** The largest frame that fits an empty segment. */
  get frameBytesMax(): number {
    return this.segmentBytes - SEGMENT_HEADER_BYTES;
  }

  /** Takes the entry just encoded as the next one. It is written with those around it by `write`. */
  advance(frameBytes: number, term: number, crc: number): void {
    this.end.chain.step(term, this.end.logIndex, crc);
    this.end.logIndex++;
    this.end.offset += frameBytes;
  }

  /** Writes frames that were advanced over. @throws {NoSpace} */
  write(frames: Uint8Array, offset: number): void {
    this.#dirt.files.add(this.path);
    this.#writer.write(frames, offset);
  }

  /** Begins the next segment. What was advanced over is written. @throws {NoSpace} */
  roll(): void {
    const segment = this.end.segment + 1;
    this.disk.makeFolder(segmentFolder(this.dir, this.bucket, segment));
    const next = this.disk.open(segmentPath(this.dir, this.bucket, segment), "create");
    this.#writer.close();
    this.#file = next;
    this.end.segment = segment;
    this.end.offset = SEGMENT_HEADER_BYTES;
    this.#begin();
  }

  mark(): LogEnd {
    return { ...this.end, chain: this.end.chain.copy() };
  }

  /** Goes back to a mark: the frames since then found no room and were refused, or are cut off. */
  restore(mark: LogEnd): void {
    for (let segment = this.end.segment; segment > mark.segment; segment--) {
      this.disk.remove(segmentFolder(this.dir, this.bucket, segment));
      this.#dirt.folders.add(segmentsFolder(this.dir, this.bucket));
    }
    if (this.end.segment !== mark.segment) {
      this.#writer.close();
      this.#file = this.disk.open(segmentPath(this.dir, this.bucket, mark.segment), "write");
    }
    Object.assign(this.end, mark);
    this.end.chain = mark.chain.copy();
    this.#dirt.files.add(this.path);
    // Left in place they would look like entries when this segment is the last one.
    this.#writer.truncate(mark.offset);
  }

  /** What is not durable yet, and forgets it: the caller syncs it, or ends the process. */
  dirt(): Dirt {
    const dirt = this.#dirt;
    this.#dirt = { files: new Set(), folders: new Set() };
    return dirt;
  }

  close(): void {
    this.#file?.close();
  }

  #begin(): void {
    const { segment, logIndex, chain } = this.end;
    const header = encodeSegmentHeader({ bucket: this.bucket, segment, firstLogIndex: logIndex, prevChain: chain });
    this.#dirt.files.add(this.path);
    this.#dirt.folders.add(segmentFolder(this.dir, this.bucket, segment));
    this.#dirt.folders.add(segmentsFolder(this.dir, this.bucket));
    this.#writer.write(header, 0);
  }
}

/** Syncs files and folders, on handles of their own so that nobody waits behind it. */
export async function syncDirt(disk: Disk, dirts: Dirt[]): Promise<void> {
  for (const { files, folders } of dirts) {
    for (const path of files) {
      if (!disk.exists(path)) continue; // It was rolled to in a batch that then found no room.
      const file = disk.open(path, "write");
      try {
        await file.sync();
      } finally {
        file.close();
      }
    }
    for (const folder of folders) if (disk.exists(folder)) await disk.syncFolder(folder);
  }
}
