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
  const path = metaPath(dir);
  if (!disk.exists(path)) return null;
  const file = disk.open(path, "read");
  const bytes = new Uint8Array(file.size());
  file.read(bytes, 0);
  file.close();
  let parsed: Meta & { crc32: number };
  try {
    parsed = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw Object.assign(new Damaged(path, 0, "it is not JSON"), { cause });
  }
  const { crc32: sum, ...meta } = parsed;
  if (sum !== sumOf(meta)) throw new Damaged(path, 0, "it fails its checksum");
  if (meta.format !== FORMAT_VERSION) throw new FolderMismatch(dir, "format version", meta.format, FORMAT_VERSION);
  return meta;
}

/** Writes the meta file of a new data folder: with it the folder exists, without it it does not. */
export async function writeMeta(disk: Disk, dir: string, meta: Meta): Promise<void> {
  const path = metaPath(dir);
  const file = disk.open(`${path}.tmp`, "create");
  file.write(new TextEncoder().encode(JSON.stringify({ ...meta, crc32: sumOf(meta) }) + "\n"), 0);
  await file.sync();
  file.close();
  disk.rename(`${path}.tmp`, path);
  await disk.syncFolder(dir);
}

export function saltOf(meta: Meta): Uint8Array {
  return Uint8Array.from({ length: SALT_BYTES }, (_, i) => parseInt(meta.salt.slice(2 * i, 2 * i + 2), 16));
}

export function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function sumOf(meta: object): number {
  return crc32(JSON.stringify(meta));
}
