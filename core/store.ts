/**
 * The port: what every event store can do, whoever stands behind it. One node on a disk (`database.ts`), a list in
 * memory (`memory_store.ts`), later many nodes; the listener and users of `mod.ts` know only this.
 *
 * Ranges are half open, `[from, end)`. Versions and sequences count from 0 without gaps, so that what a range holds is
 * known from the head alone: a stream whose last version is 9 has exactly five events in `[5, 100)`.
 *
 * @module
 */
import type { AppendResult, EventRecord, Transaction } from "./event.ts";

export interface ReadOptions {
  /** First version or sequence, 0 when left out. */
  from?: number;
  /** One past the last; no bound when left out. */
  end?: number;
  /** `backward` yields the range from its end to its start. `forward` when left out. */
  direction?: "forward" | "backward";
  /** At most so many events; no bound when left out. */
  limit?: number;
}

export interface StreamOptions {
  /** A UUID. The stream's default key when left out. */
  partitionKey?: string;
}

/** What a store holds and has done, for `INFO`. Counts are since it was opened, but for `events`. */
export interface StoreStatus {
  events: number;
  partitionCount: number;
  bucketCount: number;
  /** Event bytes on disk, 0 for a store in memory. */
  dataBytes: number;
  segments: number;
  appendedTransactions: number;
  syncs: number;
  /** Buckets that refuse writes, and why. Empty when all is well. */
  damage: { bucket: number; file: string; offset: number; reason: string }[];
  /** The cache of index blocks. */
  cache: {
    hits: number;
    misses: number;
    entries: number;
    memoryBytes: number;
    maxBytes: number;
    blockBytes: number;
    evictions: number;
  };
}

/** Events in order. Iterate it for events one by one, or `pages()` for arrays of at most 256 events, which is faster. It reads as it is iterated, and may be iterated once. */
export class Scan implements AsyncIterable<EventRecord> {
  constructor(readonly pages: () => AsyncIterable<EventRecord[]>) {}

  async *[Symbol.asyncIterator](): AsyncGenerator<EventRecord> {
    for await (const page of this.pages()) yield* page;
  }
}

export interface EventStore extends AsyncDisposable {
  readonly partitionCount: number;

  /**
   * Appends the events of a transaction, all or none. When the promise resolves they are durable and readable.
   * @throws {InvalidArgument} | {LimitExceeded} | {WrongExpectedVersion} | {DuplicateEventId} | {DiskFull} | {Damaged} | {StoreClosed}
   */
  append(transaction: Transaction): Promise<AppendResult>;

  /** The event of this id, null if there is none. @throws {InvalidArgument} not a UUID */
  event(eventId: string): Promise<EventRecord | null>;

  /** Events of a stream between two versions. @throws {InvalidArgument} a bad stream id or partition key */
  readStream(streamId: string, options?: ReadOptions & StreamOptions): Scan;

  /** Events of a partition between two sequences. @throws {NoSuchPartition} */
  readPartition(partition: number, options?: ReadOptions): Scan;

  /** The version of the stream's last event, null while it has none. */
  streamVersion(streamId: string, options?: StreamOptions): Promise<number | null>;

  /** The sequence of the partition's last event, null while it has none. @throws {NoSuchPartition} */
  partitionSequence(partition: number): Promise<number | null>;

  /** The partition of a key. @throws {InvalidArgument} not a UUID */
  partitionOfKey(partitionKey: string): number;

  status(): StoreStatus;

  /** Waits for appends in flight, then closes. Later calls are refused with `StoreClosed`. */
  close(): Promise<void>;
}
