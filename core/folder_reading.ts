/**
 * A data folder, opened to be looked at by `check` and `repair`: as the next start would find it, and without a byte of
 * it being touched. Also one that no start would open any more.
 *
 * @module
 */
import { Damaged, FolderInUse, FolderMismatch } from "./errors.ts";
import type { Disk } from "./log/disk.ts";
import { FORMAT_VERSION } from "./log/format.ts";
import { soundHeaders } from "./log/journal.ts";
import type { LogEnd } from "./log/journal_format.ts";
import { segmentPath, segmentsFolder } from "./log/layout.ts";
import { OverlayDisk } from "./log/overlay_disk.ts";
import { recover } from "./log/recovery.ts";
import { hexOf, type Meta, metaPath, readMeta, saltOf } from "./meta.ts";

/** The usual size of a segment: that of a folder whose meta file is lost may have been another, which harms nobody. */
const SEGMENT_BYTES = 256 * 1024 * 1024;

export interface FolderReading {
  /** The folder, with what the journal has to say to it. */
  disk: OverlayDisk;
  meta: Meta;
  /** Set when the meta file is damaged: then `meta` is from the journal and what was given. */
  metaDamage: Damaged | null;
  /** Of each bucket: where its log ends, null if the journal does not say; and why that is not to be relied on. */
  buckets: { end: LogEnd | null; damage: Damaged | null }[];
  /** What the next start would write to segments. */
  redoneBytes: number;
  release(): void;
}

/**
 * Opens a data folder that no store has open. A `partitionCount` that is given takes the place of a damaged meta file:
 * the rest of that file is also in the journal.
 * @throws {Damaged} its meta file is missing or not what was written, and there is nothing in its place
 * @throws {FolderInUse} a store has it open
 * @throws {FolderMismatch} it has another format version, or another partition count than was given
 */
export async function openReading(below: Disk, dir: string, partitionCount?: number): Promise<FolderReading> {
  const lock = await below.lock(`${dir}/lock`, true);
  if (lock === null) throw new FolderInUse(dir);
  try {
    const { meta, metaDamage } = metaOf(below, dir, partitionCount);
    const reading = await recovered(below, dir, meta);
    const release = () => {
      reading.disk.close();
      lock.release();
    };
    return { ...reading, meta, metaDamage, release };
  } catch (error) {
    lock.release();
    throw error;
  }
}

function metaOf(disk: Disk, dir: string, partitionCount?: number): { meta: Meta; metaDamage: Damaged | null } {
  try {
    const meta = readMeta(disk, dir);
    if (meta === null) throw new Damaged(metaPath(dir), 0, "it is missing: this is not a data folder");
    if (partitionCount === undefined || partitionCount === meta.partitionCount) return { meta, metaDamage: null };
    throw new FolderMismatch(dir, "partition count", meta.partitionCount, partitionCount);
  } catch (error) {
    if (!(error instanceof Damaged)) throw error;
    const found = partitionCount === undefined ? null : journalMeta(disk, dir);
    if (found === null) throw error;
    const segmentBytes = Math.max(SEGMENT_BYTES, ...segmentSizes(disk, dir, found.bucketCount));
    return {
      meta: { format: FORMAT_VERSION, partitionCount: partitionCount!, segmentBytes, ...found },
      metaDamage: error,
    };
  }
}

/** What the journal's headers also know of the meta file; null if both are damaged. */
function journalMeta(disk: Disk, dir: string): { bucketCount: number; salt: string } | null {
  const sound = soundHeaders(disk, `${dir}/journal`).find((found) => found !== null);
  return sound == null ? null : { bucketCount: sound.header.ends.length, salt: hexOf(sound.salt) };
}

async function recovered(below: Disk, dir: string, meta: Meta) {
  const disk = new OverlayDisk(below);
  try {
    return { disk, ...await recover(disk, dir, saltOf(meta)) };
  } catch (error) {
    disk.close();
    if (!(error instanceof Damaged)) throw error;
    // Of the journal nothing is to be relied on. What it began to do was done to a disk that is dropped.
    const buckets = Array.from({ length: meta.bucketCount }, () => ({ end: null, damage: error }));
    return { disk: new OverlayDisk(below), buckets, redoneBytes: 0 };
  }
}

/** Bytes of each segment file. */
export function segmentSizes(disk: Disk, dir: string, bucketCount: number): number[] {
  const sizes: number[] = [];
  for (let bucket = 0; bucket < bucketCount; bucket++) {
    for (const name of disk.list(segmentsFolder(dir, bucket))) {
      const path = segmentPath(dir, bucket, Number(name));
      if (!disk.exists(path)) continue;
      const file = disk.open(path, "read");
      sizes.push(file.size());
      file.close();
    }
  }
  return sizes;
}
