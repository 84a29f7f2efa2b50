/**
 * The port: what every event store can do, whoever stands behind it. One node on a disk (`database.ts`), a list in
 * memory (`memory_store.ts`), later many nodes; the listener and users of `mod.ts` know only this.
 *
 * Ranges are half open, `[from, end)`. Versions and sequences count from 0 without gaps, so that what a range holds is
 * known from the head alone: a stream whose last version is 9 has exactly five events in `[5, 100)`.
 *
 * @module
 */
import { InvalidArgument } from "./errors.ts";
import type { AppendReceiver, AppendResult, EventRecord, StoredEvent, Transaction } from "./event.ts";

/**
 * How new what is read must be. A lone node has all that there is; a replica may be behind. Who cannot give it, or not
 * soon, refuses the read with `TryAgain`: a scan when it is iterated.
 */
export interface Freshness {
  /** The sequence of the partition that must be readable first: what an append has told its writer, at whatever node. */
  atLeast?: number;
  /** All that was acknowledged before this call, at whatever node, must be seen. */
  fromLeader?: boolean;
}

export interface ReadOptions extends Freshness {
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
  /**
   * Room on the disk. `full`: appends are refused, because less than the reserve is free or the last write found no
   * room. Null for a store in memory, or where the system does not tell.
   */
  disk: { freeBytes: number; reserveBytes: number; full: boolean } | null;
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

/** What a node of a cluster knows of itself and the others, for people and their tools. */
export interface ClusterStatus {
  /** The index of this node. */
  node: number;
  clusterId: string;
  configHash: string;
  replicationFactor: number;
  /** By index. `seenMs`: since its last sign of life, null when there was none, 0 for this node. */
  nodes: { peerId: string; addresses: readonly string[]; linked: boolean; suspected: boolean; seenMs: number | null }[];
  /** By number. Ends are counts of entries. `own` is this node's replica, null where it has none. */
  buckets: {
    /** The nodes that hold it, by slot. */
    replicas: readonly number[];
    term: number;
    /** The node that leads, as far as is known here. */
    leader: number | null;
    own: { role: string; logEnd: number; durableEnd: number; commitEnd: number; chain: string } | null;
    /** What others said last of their committed ends, by node. */
    commitEnds: ReadonlyMap<number, number>;
  }[];
}

/** Takes the events of a scan from where they lie, page by page, each page in one step of the event loop. */
export interface EventSink {
  /** A page begins. */
  begin(): void;
  take(event: StoredEvent): void;
  /** One that does not lie here. */
  takeRecord(event: EventRecord): void;
  /** What came since `begin` is no page: it comes again, or an error does. In the same step. */
  takeBack(): void;
}

/** Events in order. Iterate it for events one by one, or `pages()` for arrays of at most 256 events, which is faster. It reads as it is iterated, and may be iterated once. */
export class Scan implements AsyncIterable<EventRecord> {
  constructor(
    readonly pages: () => AsyncIterable<EventRecord[]>,
    /** The pages into a sink, of each its number of events. A store that can makes no object of any. */
    readonly pagesInto: (sink: EventSink) => AsyncIterable<number> = (sink) => recordsInto(sink, pages()),
  ) {}

  async *[Symbol.asyncIterator](): AsyncGenerator<EventRecord> {
    for await (const page of this.pages()) yield* page;
  }
}

/** Pages of records into a sink, of each its number of events. */
export async function* recordsInto(sink: EventSink, pages: AsyncIterable<EventRecord[]>): AsyncGenerator<number> {
  for await (const page of pages) {
    sink.begin();
    for (const record of page) sink.takeRecord(record);
    yield page.length;
  }
}

/** Where a subscription begins: a number is the first version or sequence wanted, which may lie ahead; `latest` is what is appended from now on. */
export type Start = number | "latest";

/** @throws {InvalidArgument} it is no number of an event, and not `latest` */
export function requireStart(start: Start): Start {
  if (start === "latest" || (Number.isSafeInteger(start) && start >= 0)) return start;
  throw new InvalidArgument(`A subscription starts at a whole number from 0, or at latest: found ${start}`);
}

/** Events of partitions. A number that the store has no partition for is accepted, and never has events. */
export interface PartitionSelection {
  partitions: "all" | readonly number[];
  /** For each partition that is not in `starts`; `latest` when left out. */
  from?: Start;
  /** By partition. */
  starts?: ReadonlyMap<number, Start>;
}

/** Events of streams. One that is named twice counts once, with its first start. */
export interface StreamSelection {
  streams: readonly (StreamOptions & {
    streamId: string;
    /** `latest` when left out. */
    from?: Start;
  })[];
}

/** What a subscription gives. */
export type Selection = PartitionSelection | StreamSelection;

/**
 * A reader that follows: first what is stored, then what is appended, with nothing left out and nothing twice.
 *
 * Events of one partition come in the order of their sequences, and those of one transaction one after another; events
 * of different partitions in any order. It holds numbers and hardly any events, so one that is slow costs nothing.
 *
 * Iterate it for events, or `pages()` for arrays of them; either ends when the subscription is closed. Or take them
 * when it suits you: `ready`, then `read`. One reader at a time. Events may be shared with other subscriptions: their
 * bytes are not to be changed.
 */
export abstract class Subscription implements AsyncIterable<EventRecord>, Disposable {
  abstract readonly closed: boolean;

  /** Whether it is known, without a look, that all there was has been read. */
  get atEnd(): boolean {
    return false;
  }

  /**
   * The next events: at most `limit`, at most 256 and some 256 KiB; none when there is nothing new. Of what is listed
   * each gets its turn: of a hundred partitions none waits for another that has more to tell. `all` may come in the
   * order in which it was appended.
   * @throws {Damaged} | {StoreClosed}
   */
  abstract read(limit?: number): Promise<EventRecord[]>;

  /**
   * Resolves with true when there is something to read, at once if there is already; with false when it is closed.
   * @throws {Damaged} | {StoreClosed} the store closes
   */
  abstract ready(): Promise<boolean>;

  /** How many events there are for it to read. @throws {Damaged} | {StoreClosed} */
  abstract lag(): Promise<number>;

  /** Ends it; a wait in `ready` ends with false. May be called at any time, also twice. */
  abstract close(): void;

  /** Arrays of one to 256 events. */
  async *pages(): AsyncGenerator<EventRecord[]> {
    try {
      while (await this.ready()) {
        const page = await this.read();
        if (page.length > 0) yield page;
      }
    } finally {
      this.close();
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<EventRecord> {
    for await (const page of this.pages()) yield* page;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export interface EventStore extends AsyncDisposable {
  readonly partitionCount: number;

  /**
   * Appends the events of a transaction, all or none. When the promise resolves they are durable and readable.
   * @throws {InvalidArgument} | {LimitExceeded} | {WrongExpectedVersion} | {DuplicateEventId} | {DiskFull} | {Damaged} | {StoreClosed}
   */
  append(transaction: Transaction): Promise<AppendResult>;

  /**
   * As `append`, for a listener: all that a batch decided is told in one step, without a promise and without text that
   * would only be written out as bytes. A store may lack it.
   */
  appendFor?(transaction: Transaction, receiver: AppendReceiver): void;

  /**
   * The event of this id, null if there is none. Its partition is that of the hash in the id.
   * @throws {InvalidArgument} not a UUID
   */
  event(eventId: string | Uint8Array, freshness?: Freshness): Promise<EventRecord | null>;

  /** Events of a stream between two versions. @throws {InvalidArgument} a bad stream id or partition key */
  readStream(streamId: string, options?: ReadOptions & StreamOptions): Scan;

  /** Events of a partition between two sequences. @throws {NoSuchPartition} */
  readPartition(partition: number, options?: ReadOptions): Scan;

  /**
   * Follows partitions or streams. What is appended after the promise has resolved is after its `latest`.
   * @throws {InvalidArgument} a bad stream id, partition key or start; `atLeast` for what is not of one partition
   */
  subscribe(selection: Selection, freshness?: Freshness): Promise<Subscription>;

  /** The version of the stream's last event, null while it has none. */
  streamVersion(streamId: string, options?: StreamOptions & Freshness): Promise<number | null>;

  /** The sequence of the partition's last event, null while it has none. @throws {NoSuchPartition} */
  partitionSequence(partition: number, freshness?: Freshness): Promise<number | null>;

  /** The partition of a key. @throws {InvalidArgument} not a UUID */
  partitionOfKey(partitionKey: string): number;

  status(): StoreStatus;

  /** Of a store that has others beside it. */
  cluster?(): ClusterStatus;

  /** Waits for appends in flight, then closes. Later calls are refused with `StoreClosed`. */
  close(): Promise<void>;
}
