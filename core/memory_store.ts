/**
 * The store as plain lists in memory: the oracle of every property test, and a fake for the tests of users.
 *
 * It makes every promise of the port but one: nothing outlives the process. It is slow where that keeps it simple,
 * so that a reader can see that it is right; the engine is then compared with it.
 *
 * @module
 */
import { equalBytes } from "./bytes.ts";
import { type Environment, systemEnvironment } from "./environment.ts";
import { DuplicateEventId, LimitExceeded, NoSuchPartition, StoreClosed, WrongExpectedVersion } from "./errors.ts";
import {
  admit,
  type AdmittedEvent,
  type AdmittedTransaction,
  type AppendResult,
  type EventRecord,
  identify,
  requireUuid,
  type Transaction,
  TRANSACTION_BYTES_MAX,
} from "./event.ts";
import { onlyPartition, requireReadable } from "./freshness.ts";
import { partitionHash, partitionOf } from "./placement.ts";
import {
  type EventStore,
  type Freshness,
  type ReadOptions,
  requireStart,
  Scan,
  type Selection,
  type Start,
  type StoreStatus,
  type StreamOptions,
  Subscription,
} from "./store.ts";
import { formatUuid, transactionIdOf } from "./uuid.ts";
import { meets } from "./version.ts";

const PAGE_EVENTS_MAX = 256;
/** A page of a subscription ends with the event that fills it. */
const PAGE_BYTES_MAX = 256 * 1024;

export class MemoryStore implements EventStore {
  readonly partitionCount: number;
  readonly #environment: Environment;
  /** By partition, in order of sequence. */
  readonly #partitions: EventRecord[][];
  /** By partition key and stream id, in order of version. */
  readonly #streams = new Map<string, EventRecord[]>();
  /** By event id: the event, and the whole transaction that it came with. */
  readonly #stored = new Map<string, { record: EventRecord; transaction: EventRecord[] }>();
  /** Called after each append, and when the store closes. */
  readonly #watchers = new Set<() => void>();
  #appendedTransactions = 0;
  #closed = false;

  constructor(options: { partitionCount?: number; environment?: Environment } = {}) {
    this.partitionCount = options.partitionCount ?? 32;
    this.#environment = options.environment ?? systemEnvironment();
    this.#partitions = Array.from({ length: this.partitionCount }, () => []);
  }

  append(transaction: Transaction): Promise<AppendResult> {
    return promiseOf(() => {
      this.#assertOpen();
      const admitted = admit(transaction, this.#environment);
      const size = admitted.events.reduce((sum, event) => sum + event.payload.length + event.metadata.length, 0);
      if (size > TRANSACTION_BYTES_MAX) throw new LimitExceeded("The transaction", size, TRANSACTION_BYTES_MAX);
      const earlier = this.#earlier(admitted);
      if (earlier !== null) return resultOf(earlier);
      const records = this.#numbered(admitted);
      for (const record of records) {
        this.#partitions[record.partition]!.push(record);
        const key = streamKey(record.partitionKey, record.streamId);
        const stream = this.#streams.get(key);
        if (stream === undefined) this.#streams.set(key, [record]);
        else stream.push(record);
        this.#stored.set(record.eventId, { record, transaction: records });
      }
      this.#appendedTransactions++;
      for (const wake of this.#watchers) wake();
      return resultOf(records);
    });
  }

  event(eventId: string | Uint8Array, freshness: Freshness = {}): Promise<EventRecord | null> {
    return promiseOf(() => {
      this.#assertOpen();
      const id = requireUuid(eventId, "event id");
      this.#assertReadable(partitionOf(partitionHash(id), this.partitionCount), freshness);
      const stored = this.#stored.get(formatUuid(id));
      return stored === undefined ? null : copyOf(stored.record);
    });
  }

  readStream(streamId: string, options: ReadOptions & StreamOptions = {}): Scan {
    this.#assertOpen();
    const key = this.#streamKey(streamId, options);
    return this.#scan(() => this.#streams.get(key) ?? [], partitionOfStream(key, this), options);
  }

  readPartition(partition: number, options: ReadOptions = {}): Scan {
    this.#assertOpen();
    const records = this.#partition(partition);
    return this.#scan(() => records, partition, options);
  }

  streamVersion(streamId: string, options: StreamOptions & Freshness = {}): Promise<number | null> {
    return promiseOf(() => {
      this.#assertOpen();
      const key = this.#streamKey(streamId, options);
      this.#assertReadable(partitionOfStream(key, this), options);
      return lastOf(this.#streams.get(key) ?? []);
    });
  }

  partitionSequence(partition: number, freshness: Freshness = {}): Promise<number | null> {
    return promiseOf(() => {
      this.#assertOpen();
      const last = lastOf(this.#partition(partition));
      this.#assertReadable(partition, freshness);
      return last;
    });
  }

  subscribe(selection: Selection, freshness: Freshness = {}): Promise<Subscription> {
    return promiseOf(() => {
      this.#assertOpen();
      if (freshness.atLeast !== undefined) {
        this.#assertReadable(onlyPartition(selection, this.partitionCount), freshness);
      }
      return new MemorySubscription(this.#watchers, () => this.#assertOpen(), this.#followed(selection));
    });
  }

  /** What a subscription follows, by partition. */
  #followed(selection: Selection): Followed[] {
    if ("partitions" in selection) {
      const { partitions, from = "latest", starts = new Map<number, Start>() } = selection;
      for (const start of [from, ...starts.values()]) requireStart(start);
      const numbers = partitions === "all" ? this.#partitions.keys() : new Set(partitions);
      return [...numbers].flatMap((partition) => {
        const records = this.#partitions[partition];
        if (records === undefined) return [];
        const start = starts.get(partition) ?? from;
        return [{ records, next: start === "latest" ? records.length : start, transactionId: null, wants: () => true }];
      });
    }
    const starts = new Map<string, number>();
    const partitions = new Set<EventRecord[]>();
    for (const { streamId, partitionKey, from = "latest" } of selection.streams) {
      const key = this.#streamKey(streamId, { partitionKey });
      const start = requireStart(from);
      if (!starts.has(key)) starts.set(key, start === "latest" ? this.#streams.get(key)?.length ?? 0 : start);
      partitions.add(this.#partition(partitionOfStream(key, this)));
    }
    const wants = ({ partitionKey, streamId, version }: EventRecord) => {
      const start = starts.get(streamKey(partitionKey, streamId));
      return start !== undefined && version >= start;
    };
    return [...partitions].map((records) => ({ records, next: 0, transactionId: null, wants }));
  }

  partitionOfKey(partitionKey: string): number {
    return partitionOf(partitionHash(requireUuid(partitionKey, "partition key")), this.partitionCount);
  }

  status(): StoreStatus {
    return {
      events: this.#stored.size,
      partitionCount: this.partitionCount,
      bucketCount: 1,
      dataBytes: 0,
      segments: 0,
      appendedTransactions: this.#appendedTransactions,
      syncs: 0,
      damage: [],
      disk: null,
      cache: { hits: 0, misses: 0, entries: 0, memoryBytes: 0, maxBytes: 0, blockBytes: 0, evictions: 0 },
    };
  }

  close(): Promise<void> {
    this.#closed = true;
    for (const wake of this.#watchers) wake();
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** What this retries: the events as they were stored the first time, or null when no given id is stored. */
  #earlier({ partitionKey, events }: AdmittedTransaction): EventRecord[] | null {
    const known = events.find((event) => event.eventIdGiven && this.#stored.has(formatUuid(event.eventId)));
    if (known === undefined) return null;
    const eventId = formatUuid(known.eventId);
    const { record, transaction } = this.#stored.get(eventId)!;
    const earlier = events.length === 1 ? [record] : transaction;
    const key = formatUuid(partitionKey);
    if (events.length !== earlier.length || !events.every((event, i) => repeats(event, key, earlier[i]!))) {
      throw new DuplicateEventId(eventId, "with other content");
    }
    return earlier;
  }

  /** The transaction as records with their numbers. Nothing is stored yet. */
  #numbered(admitted: AdmittedTransaction): EventRecord[] {
    const partition = partitionOf(admitted.partitionHash, this.partitionCount);
    const partitionKey = formatUuid(admitted.partitionKey);
    const transactionId = formatUuid(transactionIdOf(admitted.events[0]!.eventId, admitted.events.length));
    const lastVersions = new Map<string, number>(); // Of streams that this transaction has appended to already.
    return admitted.events.map((event, i) => {
      const streamId = textOf(event.streamIdBytes);
      const key = streamKey(partitionKey, streamId);
      const current = lastVersions.get(key) ?? lastOf(this.#streams.get(key) ?? []);
      if (!meets(event.expectedVersion, current)) {
        throw new WrongExpectedVersion(streamId, partitionKey, event.expectedVersion, current);
      }
      const version = current === null ? 0 : current + 1;
      lastVersions.set(key, version);
      return {
        eventId: formatUuid(event.eventId),
        partitionKey,
        partition,
        transactionId,
        sequence: this.#partitions[partition]!.length + i,
        streamId,
        version,
        name: textOf(event.nameBytes),
        timestamp: event.timestamp,
        metadata: event.metadata.slice(), // The caller may go on to use its buffer.
        payload: event.payload.slice(),
      };
    });
  }

  #scan(list: () => EventRecord[], partition: number, options: ReadOptions): Scan {
    const { from = 0, end = Infinity, direction, limit = Infinity } = options;
    const assertOpen = () => this.#assertOpen();
    const assertReadable = () => this.#assertReadable(partition, options);
    return new Scan(async function* () {
      assertOpen();
      assertReadable();
      const range = list().slice(Math.max(0, from), Math.max(0, end));
      if (direction === "backward") range.reverse();
      const wanted = range.slice(0, Math.max(0, limit));
      for (let i = 0; i < wanted.length; i += PAGE_EVENTS_MAX) {
        assertOpen();
        yield wanted.slice(i, i + PAGE_EVENTS_MAX).map(copyOf);
      }
    });
  }

  #streamKey(streamId: string, { partitionKey }: StreamOptions): string {
    const given = partitionKey === undefined ? null : requireUuid(partitionKey, "partition key");
    const stream = identify(streamId, given);
    return streamKey(formatUuid(stream.partitionKey), textOf(stream.streamIdBytes));
  }

  #partition(partition: number): EventRecord[] {
    const records = this.#partitions[partition];
    if (records === undefined) throw new NoSuchPartition(partition, this.partitionCount);
    return records;
  }

  #assertReadable(partition: number, { atLeast }: Freshness): void {
    if (atLeast !== undefined) requireReadable(partition, lastOf(this.#partition(partition)), atLeast);
  }

  #assertOpen(): void {
    if (this.#closed) throw new StoreClosed();
  }
}

/** A partition as a subscription follows it. */
interface Followed {
  records: EventRecord[];
  /** The sequence from which on nothing was given yet. */
  next: number;
  /** The transaction of the event that was given last. */
  transactionId: string | null;
  wants(record: EventRecord): boolean;
}

class MemorySubscription extends Subscription {
  readonly #watchers: Set<() => void>;
  readonly #assertOpen: () => void;
  /** Who waited longest for its turn comes first. */
  #followed: Followed[];
  #wake = () => {};
  #closed = false;
  readonly #changed = () => this.#wake();

  constructor(watchers: Set<() => void>, assertOpen: () => void, followed: Followed[]) {
    super();
    this.#watchers = watchers;
    this.#assertOpen = assertOpen;
    this.#followed = followed;
    watchers.add(this.#changed);
  }

  get closed(): boolean {
    return this.#closed;
  }

  override read(limit = PAGE_EVENTS_MAX): Promise<EventRecord[]> {
    return promiseOf(() => {
      if (this.#closed) return [];
      this.#assertOpen();
      const page: EventRecord[] = [];
      const wanted = Math.min(limit, PAGE_EVENTS_MAX);
      const share = Math.ceil(wanted / this.#followed.length);
      let bytes = 0;
      // A transaction in whose middle the last page ended goes on before all others.
      const line = this.#followed.toSorted((a, b) => Number(isWithinTransaction(b)) - Number(isWithinTransaction(a)));
      const served = new Set<Followed>();
      for (const followed of line) {
        let taken = 0;
        for (const event of unreadOf(followed)) {
          if (page.length >= wanted || bytes >= PAGE_BYTES_MAX) break;
          if (taken >= share && event.transactionId !== followed.transactionId) break;
          page.push(copyOf(event));
          bytes += event.payload.length + event.metadata.length;
          taken++;
          followed.next = event.sequence + 1;
          followed.transactionId = event.transactionId;
          served.add(followed);
        }
      }
      this.#followed = [...line.filter((followed) => !served.has(followed)), ...served];
      return page;
    });
  }

  override async ready(): Promise<boolean> {
    for (;;) {
      if (this.#closed) return false;
      this.#assertOpen();
      if (this.#followed.some((followed) => unreadOf(followed).length > 0)) return true;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  override lag(): Promise<number> {
    return promiseOf(() => {
      if (this.#closed) return 0;
      this.#assertOpen();
      return this.#followed.reduce((sum, followed) => sum + unreadOf(followed).length, 0);
    });
  }

  override close(): void {
    this.#closed = true;
    this.#watchers.delete(this.#changed);
    this.#wake();
  }
}

function unreadOf({ records, next, wants }: Followed): EventRecord[] {
  return records.slice(next).filter(wants);
}

function isWithinTransaction(followed: Followed): boolean {
  return unreadOf(followed)[0]?.transactionId === followed.transactionId;
}

/** What `act` returns or throws, as a promise. `act` runs at once, so calls take effect in the order in which they were made. */
function promiseOf<T>(act: () => T): Promise<T> {
  return new Promise((resolve) => resolve(act()));
}

function repeats(event: AdmittedEvent, partitionKey: string, earlier: EventRecord): boolean {
  return (!event.eventIdGiven || formatUuid(event.eventId) === earlier.eventId) &&
    partitionKey === earlier.partitionKey &&
    textOf(event.streamIdBytes) === earlier.streamId &&
    textOf(event.nameBytes) === earlier.name &&
    equalBytes(event.payload, earlier.payload) &&
    equalBytes(event.metadata, earlier.metadata);
}

function resultOf(records: EventRecord[]): AppendResult {
  const first = records[0]!;
  return {
    partitionKey: first.partitionKey,
    partition: first.partition,
    firstSequence: first.sequence,
    lastSequence: records.at(-1)!.sequence,
    events: records.map(({ eventId, streamId, version, sequence, timestamp }) => (
      { eventId, streamId, version, sequence, timestamp }
    )),
  };
}

function streamKey(partitionKey: string, streamId: string): string {
  return partitionKey + streamId;
}

function partitionOfStream(key: string, store: MemoryStore): number {
  return store.partitionOfKey(key.slice(0, 36));
}

function lastOf(records: EventRecord[]): number | null {
  return records.length === 0 ? null : records.length - 1;
}

function copyOf(record: EventRecord): EventRecord {
  return { ...record, metadata: record.metadata.slice(), payload: record.payload.slice() };
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true }); // A name may begin with U+FEFF, and keeps it.

function textOf(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}
