/**
 * Events of a stream or a partition between two numbers, forward or back, in pages.
 *
 * A page is at most 256 events or some 256 KiB, and is read when it is asked for: a reader that is slow slows the disk
 * and not the memory. Versions and sequences have no gaps, so one that cannot be found below the head is damage, and is
 * told as such.
 *
 * @module
 */
import { type Bucket, moveTo, type Segment } from "./bucket.ts";
import { Damaged } from "./errors.ts";
import type { EventRecord, StreamIdentity } from "./event.ts";
import type { Frame, FramePlace } from "./log/format.ts";
import { FrameReader, LOOKUP_BYTES, SCAN_BYTES } from "./log/segment_reader.ts";
import type { FilePool } from "./log/file_pool.ts";
import type { EventSink } from "./store.ts";
import type { CachedFrame } from "./tail_cache.ts";
import { textOf } from "./text.ts";
import { formatUuid } from "./uuid.ts";

export const PAGE_EVENTS_MAX = 256;
export const PAGE_BYTES_MAX = 256 * 1024;
/** From segment to segment, for one page: each takes two reads, which may have to wait for the disk. */
const HOPS_MAX = 16;
/** So many events are not worth reading a stretch. */
export const FEW = 8;

/** What to read: numbers in `[from, end)`, at most `limit` of them. */
export interface Range {
  from: number;
  end: number;
  backward: boolean;
  limit: number;
  /** Only events of this transaction, which is the one at `from`, or else nothing. */
  transactionId?: string | null;
}

/** Where the events of a page go. */
export interface PageTaker {
  /** Events taken since `begin`. */
  readonly count: number;
  begin(): void;
  /** The event under the frame's cursor. */
  take(frame: Frame): void;
  /** What came since `begin` is no page. */
  takeBack(): void;
  /** An event that is a record already. Null where the frames are read in any case. */
  readonly takeRecord: ((record: EventRecord) => void) | null;
}

/** A page of records. */
export class RecordPage implements PageTaker {
  records: EventRecord[] = [];

  get count(): number {
    return this.records.length;
  }

  begin(): void {
    this.records = [];
  }

  take(frame: Frame): void {
    this.records.push(frame.record());
  }

  takeBack(): void {
    this.records = [];
  }

  readonly takeRecord = (record: EventRecord): void => void this.records.push(record);
}

/** A page that goes into a sink from where it lies. To copy an event that is a record already would cost as much. */
export class SunkPage implements PageTaker {
  count = 0;
  readonly takeRecord = null;

  constructor(readonly sink: EventSink) {}

  begin(): void {
    this.count = 0;
    this.sink.begin();
  }

  take(frame: Frame): void {
    this.count++;
    this.sink.take(frame);
  }

  takeBack(): void {
    this.count = 0;
    this.sink.takeBack();
  }
}

/** Pages of a stream, into `page`; of each the number of its events. Nothing beyond the head as it is when the scan begins. */
export async function* scanStream(
  bucket: Bucket,
  pool: FilePool,
  partition: number,
  stream: StreamIdentity,
  range: Range,
  page: PageTaker,
): AsyncGenerator<number> {
  const head = await bucket.lookUp(() => bucket.streamHead(stream));
  if (head === null) return;
  // Events of one stream lie far apart as a rule: reading much around each is waste.
  const reader = new FrameReader(pool, LOOKUP_BYTES);
  const at: StreamPlace = { segment: null };
  if (range.backward && range.end > head.version) at.before = { partition, sequence: head.sequence };
  const next = (from: number, end: number, wanted: number) =>
    takeStream(bucket, reader, stream, at, { from, end, backward: range.backward, limit: wanted }, page);
  yield* pages(
    bucket,
    range,
    page,
    head.version + 1,
    next,
    () => `stream ${JSON.stringify(textOf(stream.streamIdBytes, 0, stream.streamIdBytes.length))}`,
  );
}

/** Where a reader of a stream has got to: in which segment the next version lies, or after it in its direction. */
export interface StreamPlace {
  segment: number | null;
  /** Reading back: where in its partition the next event is, as the event after it says. Left out, or null: nobody has said. */
  before?: { partition: number; sequence: number } | null;
}

/** The first events of a range of a stream, at most a page; none when they cannot be found. @throws {Damaged} | {IndexDamaged} */
export function streamPage(
  bucket: Bucket,
  reader: FrameReader,
  stream: StreamIdentity,
  at: StreamPlace,
  range: Range,
): EventRecord[] {
  const page = new RecordPage();
  takeStream(bucket, reader, stream, at, range, page);
  return page.records;
}

function takeStream(
  bucket: Bucket,
  reader: FrameReader,
  stream: StreamIdentity,
  at: StreamPlace,
  range: Range,
  page: PageTaker,
): void {
  const place = { ...at }; // Should it fail, the reader is where it was.
  let bytes = 0;
  for (let hops = 0; hops < HOPS_MAX && bytes < PAGE_BYTES_MAX; hops++) {
    const taken = page.count;
    const rest = { ...range, limit: range.limit - taken };
    if (range.backward) rest.end -= taken;
    else rest.from += taken;
    if (rest.limit === 0 || rest.from >= rest.end) break;
    const found = range.backward
      ? placesBefore(bucket, rest, place) ?? placesBackward(bucket, stream, rest, place.segment)
      : placesForward(bucket, stream, rest, place.segment);
    if (found === null) break;
    bytes = takeEvents(bucket, reader, stream, place, rest, found, bytes, page);
    if (page.count === taken) {
      if (!found.hop) break;
      Object.assign(place, { segment: null, before: null }); // It is not where it was said to be: it is looked for.
    } else if (place.before == null) {
      break; // What is not a hop away is the next page.
    }
  }
  Object.assign(at, place);
}

/** Takes the events at places in a segment, until the page has `bytes` enough; says how many it has then. */
function takeEvents(
  bucket: Bucket,
  reader: FrameReader,
  stream: StreamIdentity,
  at: StreamPlace,
  { from, end, backward }: Range,
  { segment, places }: Found,
  bytes: number,
  page: PageTaker,
): number {
  at.segment = segment.number;
  let next = backward ? end - 1 : from;
  for (let first = 0, last; first < places.length && bytes < PAGE_BYTES_MAX; first = last) {
    const { offset } = places[first]!;
    for (last = first + 1; last < places.length && places[last]!.offset === offset; last++);
    const inFrame = places.slice(first, last);
    // Whoever reads back does not follow, and goes where the frame says that the event before is.
    const live = backward || page.takeRecord === null ? null : bucket.liveFrame(segment, offset);
    const frame = live === null ? bucket.frame(reader, segment, offset) : null;
    const records = live === null ? null : liveEventsOfStream(live, stream);
    const placed = frame === null ? null : placesOfStream(frame, stream, inFrame, backward);
    for (const { version } of inFrame) {
      if (bytes >= PAGE_BYTES_MAX) break;
      // Of two candidates for one version the other is of a foreign stream with the same hash.
      if (version !== next) continue;
      const event = records?.get(version);
      const place = placed?.get(version);
      if (event !== undefined) {
        page.takeRecord!(event.record);
        bytes += event.bytes;
      } else if (place !== undefined) {
        bytes += takeAt(frame!, place, page);
        const { partition, sequence, prev } = frame!;
        if (backward) at.before = prev === 0 ? null : { partition, sequence: sequence - prev };
      } else {
        continue;
      }
      next += backward ? -1 : 1;
    }
  }
  return bytes;
}

/** Pages of a partition, into `page`; of each the number of its events. Nothing beyond the head as it is when the scan begins. */
export async function* scanPartition(
  bucket: Bucket,
  pool: FilePool,
  partition: number,
  range: Range,
  page: PageTaker,
): AsyncGenerator<number> {
  const head = bucket.partitionHead(partition);
  if (head === null) return;
  const reader = new FrameReader(pool, range.backward || range.limit <= FEW ? LOOKUP_BYTES : SCAN_BYTES);
  const next = (from: number, end: number, wanted: number) =>
    takePartition(bucket, reader, partition, { from, end, backward: range.backward, limit: wanted }, page);
  yield* pages(bucket, range, page, head + 1, next, () => `partition ${partition}`);
}

/** The first events of a range of a partition, at most a page; none when they cannot be found. @throws {Damaged} | {IndexDamaged} */
export function partitionPage(
  bucket: Bucket,
  reader: FrameReader,
  partition: number,
  range: Range,
): EventRecord[] {
  const page = new RecordPage();
  takePartition(bucket, reader, partition, range, page);
  return page.records;
}

function takePartition(
  bucket: Bucket,
  reader: FrameReader,
  partition: number,
  { from, end, backward, limit, transactionId = null }: Range,
  page: PageTaker,
): void {
  const segment = segmentOfSequence(bucket, partition, backward ? end - 1 : from);
  if (segment === null) return;
  const held = segment.index.partitionRange(partition)!;
  const start = backward ? Math.max(from, held.first, end - limit) : from;
  const stop = backward ? end : Math.min(end, held.end, from + limit);
  const offsets = segment.index.partitionOffsets(partition, start, stop);
  let bytes = 0;
  for (let first = start, last = stop - 1; first <= last && bytes < PAGE_BYTES_MAX;) {
    const low = backward ? startOfRun(offsets, last - start) + start : first;
    const high = backward ? last : endOfRun(offsets, first - start) + start;
    const offset = offsets[low - start]!;
    const live = page.takeRecord === null ? null : bucket.liveFrame(segment, offset);
    if (live === null) {
      const frame = bucket.frame(reader, segment, offset);
      if (transactionId !== null && frame.transactionId !== transactionId) break;
      bytes = takeBetween(frame, segment, offset, low, high, backward, bytes, page);
    } else {
      const events = liveEventsBetween(live, low, high);
      if (events === null) throw new Damaged(segment.path, offset, `sequence ${high} is not in its frame`);
      if (transactionId !== null && events[0]!.record.transactionId !== transactionId) break;
      if (backward) events.reverse();
      for (const event of events) {
        if (bytes >= PAGE_BYTES_MAX) break;
        page.takeRecord!(event.record);
        bytes += event.bytes;
      }
    }
    if (backward) last = low - 1;
    else first = high + 1;
  }
}

async function* pages(
  bucket: Bucket,
  range: Range,
  page: PageTaker,
  headEnd: number,
  next: (from: number, end: number, wanted: number) => void,
  what: () => string,
): AsyncGenerator<number> {
  let { from } = range;
  let end = Math.min(range.end, headEnd);
  let left = Math.min(range.limit, end - from);
  while (left > 0) {
    const count = await bucket.lookUp(() => {
      page.begin();
      try {
        next(from, end, Math.min(left, PAGE_EVENTS_MAX));
      } catch (error) {
        page.takeBack(); // In the same step: what was begun is never seen.
        throw error;
      }
      if (page.count === 0) page.takeBack();
      return page.count;
    });
    if (count === 0) {
      throw bucket.damage ??
        new Damaged(
          `bucket ${bucket.number}`,
          0,
          `event ${range.backward ? end - 1 : from} of ${what()} cannot be found`,
        );
    }
    left -= count;
    if (range.backward) end -= count;
    else from += count;
    yield count;
  }
}

// A frame may hold a hundred thousand events. Its events are found by walking it, so all that a page takes from it is
// taken in one walk, whichever way the scan goes: a walk for each would take the square of their number.

interface FoundEvent {
  record: EventRecord;
  bytes: number;
}

/** Takes the events of a frame with sequences from `low` to `high`, until the page has `bytes` enough; says how many it has then. @throws {Damaged} */
function takeBetween(
  frame: Frame,
  { path }: Segment,
  offset: number,
  low: number,
  high: number,
  backward: boolean,
  bytes: number,
  page: PageTaker,
): number {
  const turned: FramePlace[] | null = backward && low < high ? [] : null;
  let next = low;
  while (next <= high && frame.next()) {
    if (frame.sequence < low) continue;
    if (frame.sequence !== next) break;
    next++;
    if (turned !== null) turned.push(frame.placeOfEvent);
    else if (bytes < PAGE_BYTES_MAX) {
      page.take(frame);
      bytes += frame.eventBytes;
    }
  }
  if (next <= high) throw new Damaged(path, offset, `sequence ${next} is not in its frame`);
  if (turned === null) return bytes;
  for (let i = turned.length - 1; i >= 0 && bytes < PAGE_BYTES_MAX; i--) bytes += takeAt(frame, turned[i]!, page);
  return bytes;
}

/** Takes the event at its place; says how many bytes it has. */
function takeAt(frame: Frame, place: FramePlace, page: PageTaker): number {
  frame.goTo(place);
  frame.next();
  page.take(frame);
  return frame.eventBytes;
}

/** Where the events of a stream are in a frame, by version, as far as they are among `places`. */
function placesOfStream(
  frame: Frame,
  stream: StreamIdentity,
  places: readonly { version: number }[],
  descending: boolean,
): Map<number, FramePlace> {
  const found = new Map<number, FramePlace>();
  // In the frame versions rise.
  for (const { version } of descending ? places.toReversed() : places) {
    if (moveTo(frame, stream, version)) found.set(version, frame.placeOfEvent);
    else frame.rewind(); // It is of a foreign stream with the same hash: the cursor has passed ours.
  }
  return found;
}

function liveEventsBetween({ firstSequence, events, eventBytes }: CachedFrame, low: number, high: number) {
  const from = low - firstSequence;
  const end = high + 1 - firstSequence;
  if (from < 0 || end > events.length) return null;
  return events.slice(from, end).map((record, i): FoundEvent => ({ record, bytes: eventBytes[from + i]! }));
}

function liveEventsOfStream(frame: CachedFrame, { streamIdBytes, partitionKey }: StreamIdentity) {
  const streamId = textOf(streamIdBytes, 0, streamIdBytes.length);
  const key = formatUuid(partitionKey);
  const found = new Map<number, FoundEvent>();
  frame.events.forEach((record, i) => {
    if (record.streamId !== streamId || record.partitionKey !== key) return;
    found.set(record.version, { record, bytes: frame.eventBytes[i]! });
  });
  return found;
}

/** The first place of the run of equal offsets that ends at `at`; and the last of the one that begins there. */
function startOfRun(offsets: ArrayLike<number>, at: number): number {
  while (at > 0 && offsets[at - 1] === offsets[at]) at--;
  return at;
}

function endOfRun(offsets: ArrayLike<number>, at: number): number {
  while (at + 1 < offsets.length && offsets[at + 1] === offsets[at]) at++;
  return at;
}

interface Found {
  segment: Segment;
  /** Whether the reader was told of the place, and did not look for it. */
  hop: boolean;
  places: { version: number; offset: number }[];
}

function placesBackward(
  bucket: Bucket,
  { streamKey }: StreamIdentity,
  { from, end, limit }: Range,
  at: number | null,
): Found | null {
  for (let i = at ?? bucket.segments.length - 1; i >= 0; i--) {
    const segment = bucket.segments[i]!;
    const places = segment.index.streamPlaces(streamKey, from, end, limit, "backward");
    if (places.length > 0 && places[0]!.version === end - 1) return { segment, places, hop: false };
  }
  return null;
}

/**
 * As placesBackward, when the event after it has said where the newest of them is; null when it lies in the segment in
 * which the reader is, or nobody has said. It is a hop to its own place only, by the partition's index, which is one
 * block: a stream that comes from another segment has few events in each.
 */
function placesBefore(bucket: Bucket, { end }: Range, { segment: at, before }: StreamPlace): Found | null {
  if (before == null) return null;
  const segment = segmentOfSequence(bucket, before.partition, before.sequence);
  if (segment === null || segment.number === at) return null;
  const [offset] = segment.index.partitionOffsets(before.partition, before.sequence, before.sequence + 1);
  return { segment, places: [{ version: end - 1, offset: offset! }], hop: true };
}

function placesForward(
  bucket: Bucket,
  { streamKey }: StreamIdentity,
  { from, end, limit }: Range,
  at: number | null,
): Found | null {
  let start = at;
  if (start === null) {
    // Versions rise from segment to segment: the newest that has any up to `from` is the one to begin with.
    start = bucket.segments.length - 1;
    while (
      start > 0 && bucket.segments[start]!.index.streamPlaces(streamKey, 0, from + 1, 1, "backward").length === 0
    ) start--;
  }
  for (let i = start; i < bucket.segments.length; i++) {
    const segment = bucket.segments[i]!;
    const places = segment.index.streamPlaces(streamKey, from, end, limit, "forward");
    if (places.length > 0 && places[0]!.version === from) return { segment, places, hop: false };
  }
  return null;
}

function segmentOfSequence(bucket: Bucket, partition: number, sequence: number): Segment | null {
  for (let i = bucket.segments.length - 1; i >= 0; i--) {
    const range = bucket.segments[i]!.index.partitionRange(partition);
    if (range === null) continue;
    if (sequence >= range.first && sequence < range.end) return bucket.segments[i]!;
    if (sequence >= range.end) return null;
  }
  return null;
}
