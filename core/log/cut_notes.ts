/**
 * Notes of cuts, beside the journal: that the log of a bucket ends earlier than the segments and the journal say.
 *
 *     DIR/journal/cuts      for each bucket two blocks of 4 KiB, written in turn
 *
 *     block   0       4       8      16       24      32        36       40          48
 *             crc32   magic   salt   number   batch   segment   offset   log index   chain 8
 *
 * Problem: when a replica cuts off what was never committed, other frames take its place in the segment at once, and the
 * record of that comes into the journal with the next batch. A crash in between would find frames that were synced once,
 * are in no batch that is redone, and have been written over: damage.
 *
 * Rule: before anything durable is cut, a note is written and synced. It counts until the batch that has the record is
 * there: it says which number that will have. That the log is cut although the record was lost takes nothing from
 * anybody: the entries were found to be uncommitted, and that is true for ever.
 *
 * Of a cut of what is not durable there is no note: the batch that brings it may be lost, and then the note would tell of
 * an end that the log never had. If it is not lost, it is redone.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import type { Disk, DiskFile } from "./disk.ts";
import { Chain, getUint53, setUint53 } from "./format.ts";
import { BLOCK_BYTES, type LogEnd, SALT_BYTES } from "./journal_format.ts";

const MAGIC = 0x54554345; // "ECUT"
const NOTE_BYTES = 56;

export interface CutNote {
  /** Of two notes the larger is the later. */
  number: number;
  /** Of the journal's batch that has the record. */
  batch: number;
  end: LogEnd;
}

export function cutNotesPath(journalFolder: string): string {
  return `${journalFolder}/cuts`;
}

/** The newest note of each bucket; null where there is none. */
export function readCutNotes(
  disk: Disk,
  journalFolder: string,
  salt: Uint8Array,
  bucketCount: number,
): (CutNote | null)[] {
  const path = cutNotesPath(journalFolder);
  const notes = new Array<CutNote | null>(bucketCount).fill(null);
  if (!disk.exists(path)) return notes;
  const file = disk.open(path, "read");
  const bytes = new Uint8Array(NOTE_BYTES);
  for (let block = 0; block < 2 * bucketCount; block++) {
    if (file.read(bytes, block * BLOCK_BYTES) < NOTE_BYTES) continue;
    const note = decode(bytes, salt);
    const bucket = block >> 1;
    if (note !== null && note.number > (notes[bucket]?.number ?? 0)) notes[bucket] = note;
  }
  file.close();
  return notes;
}

export class CutNotes {
  readonly #file: DiskFile;
  readonly #salt: Uint8Array;
  /** By bucket: how many notes it ever had. */
  readonly #numbers: number[];

  private constructor(file: DiskFile, salt: Uint8Array, numbers: number[]) {
    this.#file = file;
    this.#salt = salt;
    this.#numbers = numbers;
  }

  /** After recovery has read them, and what it made of them is durable: none of them counts any more. */
  static async open(disk: Disk, journalFolder: string, salt: Uint8Array, bucketCount: number): Promise<CutNotes> {
    const numbers = readCutNotes(disk, journalFolder, salt, bucketCount).map((note) => note?.number ?? 0);
    const path = cutNotesPath(journalFolder);
    const isNew = !disk.exists(path);
    const file = disk.open(path, isNew ? "create" : "write");
    const length = 2 * bucketCount * BLOCK_BYTES;
    if (file.size() < length) file.write(new Uint8Array(length - file.size()), file.size());
    const notes = new CutNotes(file, salt, numbers);
    const nothing: LogEnd = { segment: 0, offset: 0, logIndex: 0, chain: new Chain(0, 0), lost: false };
    for (let bucket = 0; bucket < bucketCount; bucket++) if (numbers[bucket]! > 0) notes.#write(bucket, 0, nothing);
    await file.sync();
    if (isNew) await disk.syncFolder(journalFolder);
    return notes;
  }

  /** Durable when it returns. */
  note(bucket: number, batch: number, end: LogEnd): void {
    this.#write(bucket, batch, end);
    this.#file.syncHere();
  }

  close(): void {
    this.#file.close();
  }

  #write(bucket: number, batch: number, { segment, offset, logIndex, chain }: LogEnd): void {
    const number = ++this.#numbers[bucket]!;
    const bytes = new Uint8Array(NOTE_BYTES);
    const view = new DataView(bytes.buffer);
    view.setUint32(4, MAGIC, true);
    bytes.set(this.#salt, 8);
    setUint53(view, 16, number);
    setUint53(view, 24, batch);
    view.setUint32(32, segment, true);
    view.setUint32(36, offset, true);
    setUint53(view, 40, logIndex);
    view.setUint32(48, chain.low, true);
    view.setUint32(52, chain.high, true);
    view.setUint32(0, crc32(bytes.subarray(4)), true);
    this.#file.write(bytes, (2 * bucket + number % 2) * BLOCK_BYTES);
  }
}

function decode(bytes: Uint8Array, salt: Uint8Array): CutNote | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(4, true) !== MAGIC || view.getUint32(0, true) !== crc32(bytes.subarray(4))) return null;
  for (let i = 0; i < SALT_BYTES; i++) if (bytes[8 + i] !== salt[i]) return null;
  return {
    number: getUint53(view, 16),
    batch: getUint53(view, 24),
    end: {
      segment: view.getUint32(32, true),
      offset: view.getUint32(36, true),
      logIndex: getUint53(view, 40),
      chain: new Chain(view.getUint32(48, true), view.getUint32(52, true)),
      lost: false,
    },
  };
}
