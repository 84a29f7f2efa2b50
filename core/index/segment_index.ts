/**
 * Where the events of one segment are: by event id, by stream and version, by partition and sequence.
 *
 *     an active segment     piece | piece | … | frozen run | run        on disk: pieces; in memory: runs
 *     a sealed segment      index.eidx, stream.sidx, partition.pidx
 *
 * New events go into a run in memory. When it is large enough it is frozen and written as a piece, which is the same
 * three files for a part of the segment. Sealing merges pieces and runs into the three files of the whole. Both go on
 * in slices while lookups are answered: a part is replaced only when its successor is whole, synced and named.
 *
 * It promises to find every event that was added, and to refuse (`IndexDamaged`) rather than to miss one because of
 * bad bytes. What it finds are candidates: keys are shortened, so the caller reads the frame and looks.
 *
 * It does not know frames, only their offsets, nor which events are committed: it is given only those, in log order.
 *
 * @module
 */
import type { Disk } from "../log/disk.ts";
import { word0, word1 } from "./heads.ts";
import {
  IDENTITY_FIELDS,
  type IndexContext,
  IndexDamaged,
  IndexFile,
  type SegmentIdentity,
  type SegmentKind,
} from "./index_file.ts";
import { firstVersions, inOrder, MemoryRun } from "./memory_run.ts";
import { PartitionFile, type PartitionRange, type PartitionSource, writePartitionFile } from "./partition_file.ts";
import type { Sliced } from "./sliced.ts";
import { type Cursor, type Place, SortedFile, writeSortedFile } from "./sorted_file.ts";

export { type IndexContext, IndexDamaged, type SegmentIdentity } from "./index_file.ts";
export type { PartitionRange } from "./partition_file.ts";
export type { Place } from "./sorted_file.ts";
export { runSliced, type Sliced } from "./sliced.ts";

/** Events of a run in memory: some 4 MB, and what is read again from the log after a kill. */
export const RUN_EVENTS_MAX = 65_536;

/** So many runs of a node are kept when they are written, for the next ones to have their memory. */
const SPARE_RUNS_MAX = 4;

const U32_MAX = 0xffff_ffff;
const SEALED_NAMES: FileNames = { event: "index.eidx", stream: "stream.sidx", partition: "partition.pidx" };
const PIECE_NAME = /^piece-(\d{3,})\.(eidx|sidx|pidx)$/;
const TEMPORARY = ".tmp";
const TEMPORARY_NAME = /\.[esp]idx\.tmp$/;

type FileNames = Record<SegmentKind, string>;

function pieceNames(number: number): FileNames {
  const name = `piece-${String(number).padStart(3, "0")}`;
  return { event: `${name}.eidx`, stream: `${name}.sidx`, partition: `${name}.pidx` };
}

/** Paths of unfinished files, and of pieces from number `keptPieces` on. */
function leftovers(disk: Disk, folder: string, keptPieces: number): string[] {
  return disk.list(folder).filter((name) => {
    const piece = PIECE_NAME.exec(name);
    return piece !== null ? Number(piece[1]) >= keptPieces : TEMPORARY_NAME.test(name);
  }).map((name) => `${folder}/${name}`);
}

/** A stretch of the segment's events, in memory or in files. */
interface Part extends PartitionSource {
  readonly events: number;
  readonly memoryBytes: number;
  offsetsOf(a: number, b: number, c: number, into: number[]): void;
  places(high: number, low: number, from: number, end: number, limit: number, backward: boolean): Place[];
  holdsStream(high: number, low: number): boolean;
  range(partition: number): PartitionRange | null;
  eventCursor(): Sliced<Cursor>;
  streamCursor(): Sliced<Cursor>;
}

export class SegmentIndex {
  readonly #context: IndexContext;
  readonly #folder: string;
  readonly #runEventsMax: number;
  /** In log order. Either one sealed part, or pieces. */
  #files: FilePart[] = [];
  /** In log order: runs that are being written, or could not be. Nothing is added to them. */
  #frozen: MemoryRun[] = [];
  /** Where events are added. None once the segment is sealed. */
  #run: MemoryRun | null = null;
  /** All of these, in log order. */
  #parts: Part[] = [];
  #writing = false;
  #sealed = false;
  #closed = false;

  private constructor(context: IndexContext, folder: string) {
    this.#context = context;
    this.#folder = folder;
    this.#runEventsMax = context.runEventsMax ?? RUN_EVENTS_MAX;
  }

  /** The index of a segment of which nothing is indexed yet. It touches no file before its first piece or its seal. */
  static open(context: IndexContext, folder: string): SegmentIndex {
    const index = new SegmentIndex(context, folder);
    index.#run = index.#newRun();
    index.#joinParts();
    return index;
  }

  /**
   * The index of a sealed segment. Of `identity` only what is given is compared.
   * @throws {IndexDamaged} a file is missing, not whole, of another segment, or does not fit the others
   */
  static loadSealed(
    context: IndexContext,
    folder: string,
    identity: Pick<SegmentIdentity, "bucket" | "segment"> & Partial<SegmentIdentity>,
  ): SegmentIndex {
    const index = new SegmentIndex(context, folder);
    index.#files.push(new FilePart(context, folder, SEALED_NAMES, identity));
    index.#sealed = true;
    index.#joinParts();
    return index;
  }

  /**
   * The index of an active segment as far as an earlier process left pieces of it, each beginning where the one
   * before ended; the rest of them is removed. `covered` is what the pieces know together, null if there are none:
   * the caller compares it with the segment, and adds the events from `covered.endOffset` on. If it does not fit,
   * the caller closes this index and opens an empty one.
   */
  static loadPieces(
    context: IndexContext,
    folder: string,
    bucket: number,
    segment: number,
  ): { index: SegmentIndex; covered: SegmentIdentity | null } {
    const index = new SegmentIndex(context, folder);
    const { disk } = context.pool;
    try {
      while (disk.exists(`${folder}/${pieceNames(index.#files.length).event}`)) {
        const names = pieceNames(index.#files.length);
        const firstLogIndex: number | undefined = index.#files.at(-1)?.identity.endLogIndex;
        index.#files.push(new FilePart(context, folder, names, { bucket, segment, firstLogIndex }));
      }
    } catch (error) {
      // This piece and those after it are made again from the frames.
      if (!(error instanceof IndexDamaged)) throw error;
    }
    SegmentIndex.removeLeftovers(disk, folder, index.#files.length);
    index.#run = index.#newRun();
    index.#joinParts();
    const [first, last] = [index.#files.at(0), index.#files.at(-1)];
    const covered = last === undefined ? null : { ...last.identity, firstLogIndex: first!.identity.firstLogIndex };
    return { index, covered };
  }

  /** Removes unfinished files, and pieces from number `keptPieces` on. Nobody else may be writing in the folder. */
  static removeLeftovers(disk: Disk, folder: string, keptPieces = 0): void {
    for (const path of leftovers(disk, folder, keptPieces)) disk.remove(path);
  }

  /** Events added, or loaded. */
  get events(): number {
    return this.#parts.reduce((sum, part) => sum + part.events, 0);
  }

  get memoryBytes(): number {
    return this.#parts.reduce((sum, part) => sum + part.memoryBytes, 0);
  }

  get sealed(): boolean {
    return this.#sealed;
  }

  /** What the sealed files say of their segment. */
  get sealedIdentity(): SegmentIdentity {
    if (!this.#sealed) throw new Error(`The index of ${this.#folder} is not sealed`);
    return this.#files[0]!.identity;
  }

  /** The run in memory is large enough, and none is being written: it is time for `writePiece`. */
  get pieceDue(): boolean {
    return !this.#writing && this.#run !== null && this.#run.events >= this.#runEventsMax;
  }

  /** A committed event, the next in log order. The first 8 bytes of the stream key are the stream's hash. */
  add(
    eventId: Uint8Array,
    streamKey: Uint8Array,
    version: number,
    partition: number,
    sequence: number,
    frameOffset: number,
  ): void {
    const run = this.#run;
    if (run === null) throw new Error(`Cannot add an event to the index of ${this.#folder}: it is sealed or closed`);
    if (!(version >= 0 && version < U32_MAX && frameOffset >= 0 && frameOffset <= U32_MAX)) {
      throw new RangeError(`Cannot index version ${version} at offset ${frameOffset}: both must have 32 bits`);
    }
    let next = run.nextSequence(partition);
    if (next < 0) next = this.partitionRange(partition)?.end ?? sequence;
    if (next !== sequence) {
      throw new Error(`Cannot index sequence ${sequence} of partition ${partition}: the next must be ${next}`);
    }
    run.add(
      bigEndian32(eventId, 0),
      eventId[4]! << 8 | eventId[5]!,
      bigEndian32(eventId, 12),
      word0(streamKey),
      word1(streamKey),
      version,
      partition,
      sequence,
      frameOffset,
    );
  }

  /** The first and the last of the times in the event ids, their first 6 bytes; of a segment that is not sealed, all. */
  get idTimes(): [first: number, last: number] {
    return this.#sealed ? this.#files[0]!.idTimes : [0, Infinity];
  }

  /** Offsets of the frames in which the event may be, in log order, in `into`. @throws {IndexDamaged} */
  eventOffsets(eventId: Uint8Array, into: number[] = []): number[] {
    const a = bigEndian32(eventId, 0);
    const b = eventId[4]! << 8 | eventId[5]!;
    const c = bigEndian32(eventId, 12);
    for (const file of this.#files) file.offsetsOf(a, b, c, into);
    for (const run of this.#frozen) run.offsetsOf(a, b, c, into);
    this.#run?.offsetsOf(a, b, c, into);
    return into;
  }

  /**
   * Where the versions `[from, end)` of a stream may be, ascending or descending: all candidates of the first `limit`
   * versions that have any. Another stream of the same hash has its places among them, so a version may come twice,
   * and a caller that finds none of its own in the last version goes on behind it.
   * @throws {IndexDamaged}
   */
  streamPlaces(
    streamKey: Uint8Array,
    from: number,
    end: number,
    limit: number,
    direction: "forward" | "backward",
  ): Place[] {
    const high = word0(streamKey);
    const low = word1(streamKey);
    const backward = direction === "backward";
    from = Math.max(0, from);
    end = Math.min(end, U32_MAX);
    let places: Place[] = [];
    const parts = this.#parts;
    for (let i = 0; i < parts.length && from < end && limit >= 1; i++) {
      const part = parts[backward ? parts.length - 1 - i : i]!;
      const more = part.places(high, low, from, end, limit, backward);
      if (more.length === 0) continue;
      places = firstVersions(places.length === 0 ? more : inOrder([...places, ...more], backward), limit);
      // With `limit` versions found, another part can matter only by versions among them: those of a foreign stream.
      const last = places.at(-1)!.version;
      if (countVersions(places) < limit) continue;
      if (backward) from = last;
      else end = last + 1;
    }
    return places;
  }

  /** Of a sealed segment: the last event of each stream, read past the cache. @throws {IndexDamaged} also as it goes on */
  lastEvents(): Cursor {
    if (!this.#sealed) throw new Error(`The index of ${this.#folder} is not sealed`);
    return this.#files[0]!.lastEvents();
  }

  /** False: the segment has no event of the stream. @throws {IndexDamaged} */
  mayHoldStream(streamKey: Uint8Array): boolean {
    const high = word0(streamKey);
    const low = word1(streamKey);
    return this.#parts.some((part) => part.holdsStream(high, low));
  }

  /** The partitions that have events in this segment, by number. */
  partitions(): PartitionRange[] {
    const joined = new Map<number, PartitionRange>();
    for (const part of this.#parts) {
      for (const range of part.partitions()) {
        const known = joined.get(range.partition);
        if (known === undefined) joined.set(range.partition, range);
        else known.end = range.end;
      }
    }
    return [...joined.values()].sort((one, other) => one.partition - other.partition);
  }

  /** The sequences of a partition in this segment, null if it has none. */
  partitionRange(partition: number): { first: number; end: number } | null {
    let first = -1;
    let end = -1;
    for (const part of this.#parts) {
      const range = part.range(partition);
      if (range === null) continue;
      if (first < 0) first = range.first;
      end = range.end;
    }
    return first < 0 ? null : { first, end };
  }

  /** The offsets of the frames of sequences `[from, end)`, which must be in the partition's range. @throws {IndexDamaged} */
  partitionOffsets(partition: number, from: number, end: number): Uint32Array {
    const offsets = new Uint32Array(end - from);
    let next = from;
    for (const part of this.#parts) {
      const range = part.range(partition);
      if (range === null || range.end <= next || range.first > next || next === end) continue;
      const stop = Math.min(end, range.end);
      part.copyOffsets(partition, next, stop, offsets, next - from);
      next = stop;
    }
    if (next !== end) throw new RangeError(`Sequence ${next} of partition ${partition} is not in ${this.#folder}`);
    return offsets;
  }

  /**
   * Freezes what is in memory at once, and writes it as the next piece when the generator is run. `identity` says up
   * to where in the segment the events were added; the piece begins where the one before ended. One at a time.
   * If it fails or is stopped, nothing is lost: the next piece takes these events with it.
   */
  writePiece(identity: SegmentIdentity): Sliced {
    this.#freeze();
    this.#run = this.#newRun();
    this.#joinParts();
    return this.#writePiece(identity, [...this.#frozen]);
  }

  /**
   * Freezes what is in memory at once, and makes the sealed files when the generator is run. Nothing can be added
   * any more. No piece may be in the making. If it fails or is stopped it can be tried again.
   */
  seal(identity: SegmentIdentity): Sliced {
    this.#freeze();
    return this.#seal(identity);
  }

  /** Forgets the runs, and lets go of the files. Work that is going on ends at its next step. */
  close(): void {
    this.#closed = true;
    for (const file of this.#files) file.close();
    this.#files = [];
    this.#frozen = [];
    this.#run = null;
    this.#parts = [];
  }

  *#writePiece(identity: SegmentIdentity, runs: MemoryRun[]): Sliced {
    const events = runs.reduce((sum, run) => sum + run.events, 0);
    const previous = this.#files.at(-1);
    if (events > 0) {
      // Pieces of an earlier process that were not believed would else seem to follow this one.
      SegmentIndex.removeLeftovers(this.#context.pool.disk, this.#folder, this.#files.length);
      const names = pieceNames(this.#files.length);
      const firstLogIndex = previous?.identity.endLogIndex ?? identity.firstLogIndex;
      const piece = yield* this.#writeFiles(names, { ...identity, firstLogIndex }, runs);
      if (piece === null) return;
      this.#files.push(piece);
    }
    this.#frozen = this.#frozen.filter((run) => !runs.includes(run));
    this.#joinParts();
    this.#spare(runs);
  }

  *#seal(identity: SegmentIdentity): Sliced {
    const pieces = this.#files;
    const sealed = yield* this.#writeFiles(SEALED_NAMES, identity, [...pieces, ...this.#frozen]);
    if (sealed === null) return;
    const runs = this.#frozen;
    this.#files = [sealed];
    this.#frozen = [];
    this.#sealed = true;
    this.#joinParts();
    this.#spare(runs);
    const { disk } = this.#context.pool;
    for (const piece of pieces) piece.close();
    for (const path of leftovers(disk, this.#folder, 0)) {
      disk.remove(path); // Some megabytes each: freeing them takes the system up to a millisecond.
      yield;
    }
  }

  /** Makes three files of all that `parts` hold: written and synced under another name, then named. Null when closed. */
  *#writeFiles(names: FileNames, identity: SegmentIdentity, parts: Part[]): Sliced<FilePart | null> {
    if (this.#writing) throw new Error(`Cannot write index files in ${this.#folder}: others are being written`);
    this.#writing = true;
    const { pool } = this.#context;
    const paths = Object.values(names).map((name) => `${this.#folder}/${name}`);
    let named = false;
    try {
      for (const step of this.#writeTemporary(names, identity, parts)) {
        if (this.#closed) return null;
        yield step;
      }
      if (this.#closed) return null;
      for (const path of paths) {
        pool.forget(path);
        pool.disk.rename(path + TEMPORARY, path);
      }
      named = true;
      yield pool.disk.syncFolder(this.#folder);
      return this.#closed ? null : new FilePart(this.#context, this.#folder, names, identity);
    } finally {
      this.#writing = false;
      if (!named) { for (const path of paths) pool.disk.remove(path + TEMPORARY); }
    }
  }

  *#writeTemporary(names: FileNames, identity: SegmentIdentity, parts: Part[]): Sliced {
    const { disk } = this.#context.pool;
    const path = (kind: SegmentKind) => `${this.#folder}/${names[kind]}${TEMPORARY}`;
    const eventCursors: Cursor[] = [];
    for (const part of parts) eventCursors.push(yield* part.eventCursor());
    yield* writeSortedFile(disk, path("event"), "event", identity, eventCursors);
    const streamCursors: Cursor[] = [];
    for (const part of parts) streamCursors.push(yield* part.streamCursor());
    yield* writeSortedFile(disk, path("stream"), "stream", identity, streamCursors);
    yield* writePartitionFile(disk, path("partition"), identity, parts);
  }

  #freeze(): void {
    if (this.#writing) throw new Error(`Cannot freeze the index of ${this.#folder}: files of it are being written`);
    if (this.#closed || this.#sealed) throw new Error(`The index of ${this.#folder} is sealed or closed`);
    if (this.#run !== null && this.#run.events > 0) this.#frozen.push(this.#run);
    this.#run = null;
    this.#joinParts();
  }

  /** The parts have changed. */
  #joinParts(): void {
    this.#parts = [...this.#files, ...this.#frozen];
    if (this.#run !== null) this.#parts.push(this.#run);
  }

  #newRun(): MemoryRun {
    const seed = new Uint8Array(4);
    this.#context.environment.random(seed);
    const spare = this.#context.spareRuns?.pop();
    if (spare === undefined) return new MemoryRun(bigEndian32(seed, 0));
    spare.renew(bigEndian32(seed, 0));
    return spare;
  }

  /** Nobody looks into these runs any more: the next ones may have their memory. */
  #spare(runs: MemoryRun[]): void {
    const { spareRuns } = this.#context;
    if (spareRuns === undefined) return;
    for (const run of runs) {
      if (spareRuns.length < SPARE_RUNS_MAX && run.capacity >= this.#runEventsMax) spareRuns.push(run);
    }
  }
}

/** Three files that say where the events of a stretch of the segment are. */
class FilePart implements Part {
  readonly events: number;
  readonly identity: SegmentIdentity;
  readonly #files: IndexFile[];
  readonly #event: SortedFile;
  readonly #stream: SortedFile;
  readonly #partition: PartitionFile;

  /** @throws {IndexDamaged} */
  constructor(context: IndexContext, folder: string, names: FileNames, identity: Partial<SegmentIdentity>) {
    this.#files = [];
    try {
      const open = (kind: SegmentKind) => {
        const file = new IndexFile(context, `${folder}/${names[kind]}`, kind);
        this.#files.push(file);
        return file;
      };
      const event = open("event");
      const stream = open("stream");
      const partition = open("partition");
      this.identity = event.header.identity;
      this.events = event.header.entries;
      this.#requireIdentity(identity);
      this.#event = new SortedFile(event, context.filters ?? null);
      this.#stream = new SortedFile(stream);
      this.#partition = new PartitionFile(partition);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #requireIdentity(identity: Partial<SegmentIdentity>): void {
    for (const { path, header } of this.#files) {
      for (const field of IDENTITY_FIELDS) {
        const needed = identity[field] ?? this.identity[field];
        const found = header.identity[field];
        if (found !== needed) throw new IndexDamaged(path, 0, `its ${field} must be ${needed}: it is ${found}`);
      }
      if (header.entries !== this.events) {
        throw new IndexDamaged(path, 0, `it must have ${this.events} events: it has ${header.entries}`);
      }
    }
  }

  get memoryBytes(): number {
    return this.#partition.memoryBytes + FILE_PART_BYTES;
  }

  get idTimes(): [first: number, last: number] {
    const { minKey, maxKey } = this.#event;
    return [timeOfKey(minKey[0], minKey[1]), timeOfKey(maxKey[0], maxKey[1])];
  }

  offsetsOf(a: number, b: number, c: number, into: number[]): void {
    const { minKey, maxKey } = this.#event;
    // Ids are made in order of time, so most are in no segment but one: their keys are not in its bounds.
    if (this.events === 0 || isBelow(a, b, c, minKey) || isBelow(maxKey[0], maxKey[1], maxKey[2], [a, b, c])) return;
    if (this.#event.mayHold(a, b, c)) this.#event.offsetsOf(a, b, c, into);
  }

  places(high: number, low: number, from: number, end: number, limit: number, backward: boolean): Place[] {
    if (!this.#stream.mayHold(high, low, 0)) return [];
    return this.#stream.places(high, low, from, end, limit, backward);
  }

  holdsStream(high: number, low: number): boolean {
    return this.#stream.mayHold(high, low, 0);
  }

  partitions(): PartitionRange[] {
    return this.#partition.partitions();
  }

  range(partition: number): PartitionRange | null {
    return this.#partition.range(partition);
  }

  copyOffsets(partition: number, from: number, end: number, into: Uint32Array, at: number): void {
    this.#partition.copyOffsets(partition, from, end, into, at);
  }

  lastEvents(): Cursor {
    return this.#stream.lastOfEach();
  }

  // deno-lint-ignore require-yield
  *eventCursor(): Sliced<Cursor> {
    return this.#event.cursor();
  }

  // deno-lint-ignore require-yield
  *streamCursor(): Sliced<Cursor> {
    return this.#stream.cursor();
  }

  close(): void {
    this.#event?.close(); // None yet when the constructor fails.
    for (const file of this.#files) file.close();
  }
}

/** Objects and headers of three open files, roughly. */
const FILE_PART_BYTES = 2048;

function isBelow(a: number, b: number, c: number, key: readonly [number, number, number]): boolean {
  return a !== key[0] ? a < key[0] : b !== key[1] ? b < key[1] : c < key[2];
}

function countVersions(places: readonly Place[]): number {
  let versions = 0;
  for (let i = 0; i < places.length; i++) if (i === 0 || places[i]!.version !== places[i - 1]!.version) versions++;
  return versions;
}

/** The time in an event id, in milliseconds if it has one: what `idTimes` are the bounds of. */
export function idTimeOf(eventId: Uint8Array): number {
  return timeOfKey(bigEndian32(eventId, 0), eventId[4]! << 8 | eventId[5]!);
}

function timeOfKey(a: number, b: number): number {
  return a * 0x1_0000 + b;
}

function bigEndian32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!) >>> 0;
}
