/**
 * The meta file of a data folder: what was chosen when it was made and can never change.
 *
 *     DIR/meta.json    {"format":1,"partitionCount":32,"bucketCount":4,"segmentBytes":268435456,"salt":"…","crc32":…}
 *
 * It is text, so that a person can read it. The checksum is over the line without it.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { Damaged, FolderMismatch } from "./errors.ts";
import type { Disk } from "./log/disk.ts";
import { FORMAT_VERSION } from "./log/format.ts";
import { SALT_BYTES } from "./log/journal_format.ts";

export interface Meta {
  format: number;
  partitionCount: number;
  bucketCount: number;
  segmentBytes: number;
  /** Hex: what the journal's batches carry. */
  salt: string;
}

export function metaPath(dir: string): string {
  return `${dir}/meta.json`;
}

/** The meta file, null when there is none. @throws {Damaged} | {FolderMismatch} of another format version */
export function readMeta(disk: Disk, dir: string): Meta | null {
  const meta = readSummed(disk, metaPath(dir)) as Meta | null;
  if (meta !== null && meta.format !== FORMAT_VERSION) {
    throw new FolderMismatch(dir, "format version", meta.format, FORMAT_VERSION);
  }
  return meta;
}

/** Writes the meta file of a new data folder: with it the folder exists, without it it does not. */
export function writeMeta(disk: Disk, dir: string, meta: Meta): Promise<void> {
  return writeSummed(disk, dir, metaPath(dir), meta);
}

/** What a file holds that `writeSummed` wrote, null when there is none. @throws {Damaged} */
export function readSummed(disk: Disk, path: string): unknown {
  if (!disk.exists(path)) return null;
  let parsed: { crc32: number };
  try {
    parsed = JSON.parse(readText(disk, path));
  } catch (cause) {
    throw Object.assign(new Damaged(path, 0, "it is not JSON"), { cause });
  }
  const { crc32: sum, ...value } = parsed;
  if (sum !== sumOf(value)) throw new Damaged(path, 0, "it fails its checksum");
  return value;
}

/** Writes a value as a line of JSON with its checksum, in place of the file that was there: durable as a whole, or not there. */
export async function writeSummed(disk: Disk, dir: string, path: string, value: object): Promise<void> {
  const file = disk.open(`${path}.tmp`, "create");
  file.write(new TextEncoder().encode(JSON.stringify({ ...value, crc32: sumOf(value) }) + "\n"), 0);
  await file.sync();
  file.close();
  disk.rename(`${path}.tmp`, path);
  await disk.syncFolder(dir);
}

export function readText(disk: Disk, path: string): string {
  const file = disk.open(path, "read");
  const bytes = new Uint8Array(file.size());
  file.read(bytes, 0);
  file.close();
  return new TextDecoder().decode(bytes);
}

export function saltOf(meta: Meta): Uint8Array {
  return Uint8Array.from({ length: SALT_BYTES }, (_, i) => parseInt(meta.salt.slice(2 * i, 2 * i + 2), 16));
}

export function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function sumOf(value: object): number {
  return crc32(JSON.stringify(value));
}
