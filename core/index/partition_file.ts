/**
 * Partition and sequence to offset, sealed: sequences of a partition in a segment are dense, so an offset is addressed
 * directly and a lookup is one block. The table of partitions is kept in memory, some 24 bytes a partition.
 *
 * @module
 */
import type { Disk } from "../log/disk.ts";
import {
  IndexDamaged,
  type IndexFile,
  IndexFileWriter,
  NO_KEY,
  OFFSETS_PER_BLOCK,
  PARTITION_ENTRY_BYTES,
  partitionRowAt,
  PARTITIONS_PER_BLOCK,
  PAYLOAD_AT,
  putPartitionRow,
  type SegmentIdentity,
} from "./index_file.ts";
import type { Sliced } from "./sliced.ts";

/** Sequences `[first, end)` of a partition. */
export interface PartitionRange {
  partition: number;
  first: number;
  end: number;
}

/** Offsets by partition and sequence, in memory or in a file. */
export interface PartitionSource {
  /** In any order. */
  partitions(): PartitionRange[];
  /** Puts the offsets of sequences `[from, end)`, which are in range, into `into` from `at`. */
  copyOffsets(partition: number, from: number, end: number, into: Uint32Array, at: number): void;
}

export class PartitionFile implements PartitionSource {
  readonly #file: IndexFile;
  readonly #offsetsBlock: number;
  /** Columns of the table, by partition. */
  readonly #partitions: Uint32Array;
  readonly #firsts: Float64Array;
  readonly #counts: Uint32Array;
  readonly #starts: Uint32Array;

  /** @throws {IndexDamaged} */
  constructor(file: IndexFile) {
    const { keys, entries } = file.header;
    this.#file = file;
    this.#offsetsBlock = file.section("offsets").firstBlock;
    this.#partitions = new Uint32Array(keys);
    this.#firsts = new Float64Array(keys);
    this.#counts = new Uint32Array(keys);
    this.#starts = new Uint32Array(keys);
    const { firstBlock } = file.section("table");
    let start = 0;
    for (let i = 0; i < keys; i++) {
      const block = firstBlock + Math.floor(i / PARTITIONS_PER_BLOCK);
      const at = PAYLOAD_AT + i % PARTITIONS_PER_BLOCK * PARTITION_ENTRY_BYTES;
      const row = partitionRowAt(file.block(block), at);
      if (row.start !== start) throw new IndexDamaged(file.path, block * 4096, "its table of partitions has a gap");
      this.#partitions[i] = row.partition;
      this.#firsts[i] = row.first;
      this.#counts[i] = row.count;
      this.#starts[i] = start;
      start += row.count;
    }
    if (start !== entries) throw new IndexDamaged(file.path, 0, "its table of partitions does not hold all its events");
  }

  get memoryBytes(): number {
    return 20 * this.#partitions.length;
  }

  partitions(): PartitionRange[] {
    return Array.from(this.#partitions, (_, i) => this.#rangeAt(i));
  }

  range(partition: number): PartitionRange | null {
    const i = this.#find(partition);
    return i < 0 ? null : this.#rangeAt(i);
  }

  copyOffsets(partition: number, from: number, end: number, into: Uint32Array, at: number): void {
    const row = this.#find(partition);
    let place = this.#starts[row]! + (from - this.#firsts[row]!);
    let left = end - from;
    while (left > 0) {
      const inBlock = place % OFFSETS_PER_BLOCK;
      const view = this.#file.block(this.#offsetsBlock + (place - inBlock) / OFFSETS_PER_BLOCK);
      const count = Math.min(left, OFFSETS_PER_BLOCK - inBlock);
      for (let i = 0; i < count; i++) into[at + i] = view.getUint32(PAYLOAD_AT + (inBlock + i) * 4, true);
      place += count;
      at += count;
      left -= count;
    }
  }

  #rangeAt(i: number): PartitionRange {
    return { partition: this.#partitions[i]!, first: this.#firsts[i]!, end: this.#firsts[i]! + this.#counts[i]! };
  }

  /** The row of a partition, -1 if it has none. */
  #find(partition: number): number {
    let low = 0;
    let high = this.#partitions.length;
    while (low < high) {
      const middle = low + high >>> 1;
      if (this.#partitions[middle]! < partition) low = middle + 1;
      else high = middle;
    }
    return this.#partitions[low] === partition ? low : -1;
  }
}

/** Offsets copied between two yields. */
const OFFSETS_A_STEP = 8 * OFFSETS_PER_BLOCK;

/** Writes and syncs a file of all that `sources` hold, which hold later sequences the later they come. */
export function* writePartitionFile(
  disk: Disk,
  path: string,
  identity: SegmentIdentity,
  sources: PartitionSource[],
): Sliced {
  const writer = new IndexFileWriter(disk, path, "partition", identity);
  try {
    const ranges = joinRanges(sources);
    let at = 0;
    let start = 0;
    for (let i = 0; i < ranges.length; i++) {
      const { partition, first, end } = ranges[i]!;
      at = i % PARTITIONS_PER_BLOCK === 0 ? writer.begin() : at + PARTITION_ENTRY_BYTES;
      putPartitionRow(writer.view, at, { partition, first, count: end - first, start });
      start += end - first;
    }
    const copied = new Uint32Array(Math.min(OFFSETS_A_STEP, start));
    let place = 0;
    let sinceYield = 0;
    for (const { partition, parts } of ranges) {
      for (const { source, first, end } of parts) {
        for (let from = first; from < end; from += copied.length) {
          const count = Math.min(copied.length, end - from);
          source.copyOffsets(partition, from, from + count, copied, 0);
          for (let i = 0; i < count; i++, place++) {
            at = place % OFFSETS_PER_BLOCK === 0 ? writer.begin() : at + 4;
            writer.view.setUint32(at, copied[i]!, true);
          }
          sinceYield += count + 16;
          if (sinceYield < OFFSETS_A_STEP) continue;
          yield;
          sinceYield = 0;
        }
      }
    }
    writer.finish(place, ranges.length, NO_KEY, NO_KEY);
    yield writer.sync();
  } finally {
    writer.close();
  }
}

interface JoinedRange extends PartitionRange {
  parts: { source: PartitionSource; first: number; end: number }[];
}

/** What all sources together hold, by partition. */
function joinRanges(sources: PartitionSource[]): JoinedRange[] {
  const joined = new Map<number, JoinedRange>();
  for (const source of sources) {
    for (const { partition, first, end } of source.partitions()) {
      const range = joined.get(partition);
      if (range === undefined) {
        joined.set(partition, { partition, first, end, parts: [{ source, first, end }] });
        continue;
      }
      if (range.end !== first) {
        throw new Error(`Sequences of partition ${partition} are not dense: ${range.end} is followed by ${first}`);
      }
      range.end = end;
      range.parts.push({ source, first, end });
    }
  }
  return [...joined.values()].sort((a, b) => a.partition - b.partition);
}
