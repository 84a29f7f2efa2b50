/**
 * The heads of all streams in the sealed segments of a bucket: version and sequence of the newest event of each, in one
 * file, `heads.hidx`.
 *
 *     heads.hidx | segment | segment | segment | active        a lookup goes from right to left, and ends in the file
 *     └ covers the segments 0 to `end` - 1
 *
 * Problem: an append needs the head of its stream, and a stream that rests, or is new, was looked for in the filter of
 * every segment: with the segments the cost of each append grew.
 *
 * Idea: one filter and one sorted list for all sealed segments. A new stream ends at the filter; any other takes one
 * block of the list, however many segments there are, and no frame.
 *
 * Rule: it is merged from the file before it and the stream indexes of the segments that it did not cover yet, in
 * slices. It is tied to the log by its identity, whose chain covers all entries before, and is only believed where the
 * log says the same: it cannot lag. A stream is known here as it is in heads.ts. The indexes of segments know less of it,
 * and no sequences: what they lack is taken from the heads in memory, where nearly all that were appended lately are, or
 * else from the frame. Of streams whose hashes are equal one has the place; who asks for another has to ask the
 * segments, as while there is no such file.
 *
 * @module
 */
import { type Head, type HeadOfHash, word0, word1, word2 } from "./heads.ts";
import { IDENTITY_FIELDS, type IndexContext, IndexDamaged, IndexFile, type SegmentIdentity } from "./index_file.ts";
import type { Sliced } from "./sliced.ts";
import { type Cursor, SortedFile, writeSortedFile } from "./sorted_file.ts";

export const HEADS_NAME = "heads.hidx";

const TEMPORARY = ".tmp";

/** A sealed segment to be merged in. */
export interface NewSegment {
  /** The last event of each stream, in order of their hashes. */
  lastEvents(): Cursor;
  /** What the segment's index does not say of the event at `version` of a stream with the hash (a, b), whose frame is at `offset`. */
  headOf(a: number, b: number, version: number, offset: number): HeadOfHash;
}

export class HeadsFile {
  readonly path: string;
  readonly identity: SegmentIdentity;
  /** Segments from this number on are not in it. */
  readonly end: number;
  readonly streams: number;
  readonly #file: IndexFile;
  readonly #sorted: SortedFile;

  /** @throws {IndexDamaged} missing, or not whole */
  constructor(context: IndexContext, path: string) {
    this.#file = new IndexFile(context, path, "heads");
    this.#sorted = new SortedFile(this.#file, context.filters ?? null);
    this.path = path;
    this.identity = this.#file.header.identity;
    this.end = this.identity.segment + 1;
    this.streams = this.#file.header.entries;
  }

  /** @throws {IndexDamaged} it is not of the log that ends, with the last of its segments, as `end` says */
  requireOf(end: SegmentIdentity | null | undefined): void {
    const wanted = end == null ? null : headsIdentity(end);
    for (const field of IDENTITY_FIELDS) {
      if (wanted !== null && wanted[field] === this.identity[field]) continue;
      throw new IndexDamaged(this.path, 0, `it is of another log: its ${field} is ${this.identity[field]}`);
    }
  }

  /** The head of a stream; null: no segment that it covers has an event of it; "unknown": its place is another's. @throws {IndexDamaged} */
  find(streamKey: Uint8Array): Head | null | "unknown" {
    const high = word0(streamKey);
    const low = word1(streamKey);
    if (!this.#sorted.mayHold(high, low, 0)) return null;
    const found = this.#sorted.headOf(high, low);
    if (found === null) return null;
    return found.more === word2(streamKey) ? { version: found.version, sequence: found.sequence } : "unknown";
  }

  cursor(): Cursor {
    return this.#sorted.cursor();
  }

  close(): void {
    this.#sorted.close();
    this.#file.close();
  }
}

/**
 * Writes and names the file that has what `previous` has and `segments`, which follow it in order, the last of them
 * ending as `end` says. Whoever runs it puts the new file in the place of `previous` in the same step: what is read by
 * this name is the new one from then on. Then the folder is to be synced. Stopped before, it leaves nothing behind.
 */
export function* writeHeadsFile(
  context: IndexContext,
  path: string,
  end: SegmentIdentity,
  previous: HeadsFile | null,
  segments: readonly NewSegment[],
): Sliced<HeadsFile> {
  const { disk } = context.pool;
  const temporary = path + TEMPORARY;
  let named = false;
  try {
    yield* writeSortedFile(disk, temporary, "heads", headsIdentity(end), [new NewestOfEach(previous, segments)]);
    context.pool.forget(path);
    disk.rename(temporary, path);
    named = true;
    return new HeadsFile(context, path);
  } finally {
    if (!named) disk.remove(temporary);
  }
}

/** Removes what a process that was killed left unfinished. */
export function removeUnfinishedHeads(context: IndexContext, path: string): void {
  if (context.pool.disk.exists(path + TEMPORARY)) context.pool.disk.remove(path + TEMPORARY);
}

/** It begins where the log begins. */
function headsIdentity(end: SegmentIdentity): SegmentIdentity {
  return { ...end, firstLogIndex: 0 };
}

/** Each hash once, with the newest of its heads. */
class NewestOfEach implements Cursor {
  a = 0;
  b = 0;
  c = 0;
  offset = 0;
  sequence = 0;
  /** Those that have entries left, the older before the newer. */
  readonly #sources: { cursor: Cursor; segment: NewSegment | null }[] = [];

  constructor(previous: HeadsFile | null, segments: readonly NewSegment[]) {
    if (previous !== null) this.#add(previous.cursor(), null);
    for (const segment of segments) this.#add(segment.lastEvents(), segment);
  }

  #add(cursor: Cursor, segment: NewSegment | null): void {
    if (cursor.next()) this.#sources.push({ cursor, segment });
  }

  next(): boolean {
    const sources = this.#sources;
    if (sources.length === 0) return false;
    let { a, b } = sources[0]!.cursor;
    for (let i = 1; i < sources.length; i++) {
      const { cursor } = sources[i]!;
      if (cursor.a > a || cursor.a === a && cursor.b >= b) continue;
      a = cursor.a;
      b = cursor.b;
    }
    let newest: NewSegment | null = null;
    for (let i = 0; i < sources.length; i++) {
      const { cursor, segment } = sources[i]!;
      if (cursor.a !== a || cursor.b !== b) continue;
      newest = segment;
      this.c = cursor.c;
      this.offset = cursor.offset;
      this.sequence = cursor.sequence;
      if (!cursor.next()) sources.splice(i--, 1);
    }
    this.a = a;
    this.b = b;
    if (newest !== null) {
      const { more, sequence } = newest.headOf(a, b, this.c, this.offset);
      this.offset = more;
      this.sequence = sequence;
    }
    return true;
  }
}
