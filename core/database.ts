/**
 * The store on one node: opens and locks the data folder, owns the buckets, and gives each call to the right one.
 *
 * A folder without a meta file is a new one. What a meta file says is for ever: another partition count would look for
 * every key in the wrong place.
 *
 * @module
 */
import { AppendQueue, BATCH_BYTES_MAX } from "./append_queue.ts";
import { Bucket, OPEN_INDEX_BYTES } from "./bucket.ts";
import { DiskRoom } from "./disk_room.ts";
import { type Environment, type Log, systemEnvironment, withEnding } from "./environment.ts";
import {
  Damaged,
  FolderInUse,
  FolderMismatch,
  InvalidArgument,
  LimitExceeded,
  NoSuchPartition,
  StoreClosed,
} from "./errors.ts";
import {
  admit,
  type AdmittedTransaction,
  type AppendReceiver,
  type AppendResult,
  type EventRecord,
  identify,
  requireUuid,
  resultOf,
  type StreamIdentity,
  type Transaction,
} from "./event.ts";
import { onlyPartition, requireReadable } from "./freshness.ts";
import { BlockCache } from "./index/block_cache.ts";
import { absentGroup, aloneGroup, type Group } from "./group.ts";
import { FilterMemory } from "./index/filter_memory.ts";
import { BLOCK_BYTES } from "./index/index_file.ts";
import { syncDirt } from "./log/bucket_log.ts";
import { type Disk, systemDisk } from "./log/disk.ts";
import { FilePool } from "./log/file_pool.ts";
import { SEGMENT_BYTES_MAX } from "./log/format.ts";
import { FIRST_HEADER, Journal, soundHeaders } from "./log/journal.ts";
import { emptyLogEnd } from "./log/journal_format.ts";
import { recover, type Recovered } from "./log/recovery.ts";
import { hexOf, type Meta, metaPath, readMeta, saltOf, writeMeta } from "./meta.ts";
import { bucketOf, partitionHash, partitionOf } from "./placement.ts";
import { ReplicatedBucket } from "./replicated_bucket.ts";
import { type PageTaker, type Range, RecordPage, scanPartition, scanStream, SunkPage } from "./scan.ts";
import { BucketSource, PartitionSource, type Source, StreamsSource } from "./source.ts";
import {
  type EventStore,
  type Freshness,
  type PartitionSelection,
  type ReadOptions,
  requireStart,
  Scan,
  type Selection,
  type Start,
  type StoreStatus,
  type StreamOptions,
  type StreamSelection,
  type Subscription,
} from "./store.ts";
import { DatabaseSubscription } from "./subscription.ts";
import { formatUuid } from "./uuid.ts";

export interface DatabaseOptions {
  /** The data folder; made if it is missing. */
  dir: string;
  /** 1 to 65535. Left out: as the folder was made, 32 for a new one. */
  partitionCount?: number | undefined;
  /** 1 to the partition count. Left out: as the folder was made, 4 for a new one. */
  bucketCount?: number | undefined;
  /** Bytes of a segment file, at most 4 GiB − 1. Left out: as the folder was made, 256 MiB for a new one. */
  segmentBytes?: number | undefined;
  /** Bytes of each of the journal's two files, 64 MiB when left out. */
  journalBytes?: number | undefined;
  /** Bound of the cache of index blocks, 64 MiB when left out. */
  cacheBytes?: number | undefined;
  /** Bound of the cache of the newest events, which live subscribers share; 16 MiB when left out. */
  tailBytes?: number | undefined;
  /** Bound of the cache of streams' heads, 24 bytes each, 96 MiB when left out. */
  headBytes?: number | undefined;
  /** Bound of the filters kept in memory, 12 bits a stream and 10 an event whose id is chance; 64 MiB when left out. */
  filterBytes?: number | undefined;
  /**
   * Bytes of the disk that appends may not touch, so that index files always find room; 0 for none. Left out: 64 MiB,
   * or a quarter of a segment if that is less. It takes the permission to ask how full the disk is (`statfs`).
   */
  reserveBytes?: number | undefined;
  disk?: Disk;
  environment?: Environment;
  log?: Log;
  /** Who says what is committed; the store itself when left out. */
  group?: Group | undefined;
}

/** What a part of the store holds in memory at most. */
export interface Bound {
  of: string;
  bytes: number;
}

/** Why the process is to end, once the engine has asked for it, and what is to be done then. */
interface Ending {
  reason: Error | null;
  act(): void;
}

const PARTITION_COUNT = 32;
const BUCKET_COUNT = 4;
const SEGMENT_BYTES = 256 * 1024 * 1024;
const JOURNAL_BYTES = 64 * 1024 * 1024;
const CACHE_BYTES = 32 * 1024 * 1024;
const TAIL_BYTES = 16 * 1024 * 1024;
const HEAD_BYTES = 96 * 1024 * 1024;
const FILTER_BYTES = 64 * 1024 * 1024;
/** The index files of a segment are rarely larger than a quarter of it. */
const RESERVE_BYTES_MAX = 64 * 1024 * 1024;
const PARTITION_COUNT_MAX = 65_535;
/** Of many streams that are subscribed to, others have their turn after so many. */
const PAUSE_STREAMS = 256;

/**
 * Opens a data folder, or makes it.
 * @throws {FolderInUse} another process has it
 * @throws {FolderMismatch} it was made with another partition count, bucket count, segment size or format version
 * @throws {Damaged} the meta file or both journal headers are not what was written
 */
export function openDatabase(options: DatabaseOptions): Promise<Database> {
  return Database.open(options);
}

export class Database implements EventStore {
  readonly partitionCount: number;
  readonly bucketCount: number;
  readonly segmentBytes: number;
  /** Whether this call made the folder. */
  readonly created: boolean;
  readonly #environment: Environment;
  readonly #lock: { release(): void };
  readonly #pool: FilePool;
  readonly #cache: BlockCache;
  readonly #buckets: Bucket[];
  readonly #journal: Journal;
  readonly #room: DiskRoom;
  readonly #queue: AppendQueue;
  /** What the store holds in memory at most, part by part, whatever is stored. */
  readonly bounds: readonly Bound[];
  readonly #subscriptions = new Set<DatabaseSubscription>();
  readonly #replicated: ReplicatedBucket[];
  #closing: Promise<void> | null = null;
  readonly #ending: Ending;

  private constructor(parts: {
    meta: Meta;
    created: boolean;
    environment: Environment;
    lock: { release(): void };
    pool: FilePool;
    cache: BlockCache;
    buckets: Bucket[];
    journal: Journal;
    room: DiskRoom;
    ending: Ending;
    bounds: Bound[];
    group: Group | undefined;
    recovered: Recovered;
    cutDamage: (number: number) => Promise<Bucket>;
  }) {
    // Replicas of a cluster have stored something here.
    const ofCluster = parts.recovered.buckets.some(({ hard }) => hard !== null);
    this.bounds = parts.bounds;
    this.partitionCount = parts.meta.partitionCount;
    this.bucketCount = parts.meta.bucketCount;
    this.segmentBytes = parts.meta.segmentBytes;
    this.created = parts.created;
    this.#environment = parts.environment;
    this.#lock = parts.lock;
    this.#pool = parts.pool;
    this.#cache = parts.cache;
    this.#buckets = parts.buckets;
    this.#journal = parts.journal;
    this.#room = parts.room;
    this.#ending = parts.ending;
    this.#queue = new AppendQueue(
      parts.buckets,
      this.partitionCount,
      parts.journal,
      parts.room,
      parts.environment,
      parts.group ?? (ofCluster ? absentGroup() : aloneGroup(() => this.#queue.commitAll())),
    );
    this.#replicated = parts.buckets.map((bucket, number) => {
      const { hard, committed } = parts.recovered.buckets[number]!;
      return new ReplicatedBucket(bucket, this.#queue, parts.pool, hard, committed, parts.cutDamage);
    });
    parts.ending.act = () => this.#end(parts.ending.reason!);
    if (parts.ending.reason !== null) parts.ending.act(); // The upkeep of a bucket has failed while others were opened.
  }

  static async open(options: DatabaseOptions): Promise<Database> {
    const disk = options.disk ?? systemDisk;
    const ending: Ending = { reason: null, act: () => {} };
    const environment = withEnding(options.environment ?? systemEnvironment(), (reason) => {
      ending.reason ??= reason;
      ending.act();
    });
    const log = options.log ?? (() => {});
    const dir = options.dir.replace(/(?<=.)\/+$/, "");
    await makeDataFolder(disk, dir);
    const lock = await disk.lock(`${dir}/lock`);
    if (lock === null) throw new FolderInUse(dir);
    const pool = new FilePool(disk);
    const buckets: Bucket[] = [];
    try {
      const found = readMeta(disk, dir);
      const meta = found ?? await makeFolder(disk, dir, environment, options);
      requireSame(dir, meta, options);
      await disk.syncFolder(dir); // A process that was killed may have left the meta file's name unsynced.
      const salt = saltOf(meta);
      const cache = new BlockCache(options.cacheBytes ?? CACHE_BYTES);
      const recovered = await recover(disk, dir, salt);
      if (recovered.redoneBytes > 0) log("info", "The journal was redone", { bytes: recovered.redoneBytes });
      const tailBytes = (options.tailBytes ?? TAIL_BYTES) / meta.bucketCount;
      const heads = options.headBytes ?? HEAD_BYTES;
      const headBytes = heads / meta.bucketCount;
      const filters = new FilterMemory(options.filterBytes ?? FILTER_BYTES);
      const bounds = [
        { of: "blocks of index files", bytes: cache.maxBytes },
        { of: "filters", bytes: filters.maxBytes },
        { of: "heads of streams", bytes: heads },
        { of: "newest events", bytes: options.tailBytes ?? TAIL_BYTES },
        { of: "indexes of open segments", bytes: meta.bucketCount * OPEN_INDEX_BYTES },
        { of: "batch of appends", bytes: BATCH_BYTES_MAX },
      ];
      const { segmentBytes } = meta;
      const reserveBytes = options.reserveBytes ?? Math.min(RESERVE_BYTES_MAX, Math.floor(segmentBytes / 4));
      const room = new DiskRoom({ disk, dir, environment, log, reserveBytes });
      const context = {
        ...{ disk, dir, environment, log, pool, room, segmentBytes },
        ...{ cache, filters, tailBytes, headBytes, spareRuns: [] },
        idSeed: new DataView(salt.buffer).getUint32(0),
        damaged: (bucket: number) => options.group?.damaged(bucket),
      };
      for (let number = 0; number < meta.bucketCount; number++) {
        buckets.push(await Bucket.open(context, number, recovered.buckets[number]!));
      }
      const journal = await Journal.open(
        {
          ...{ disk, environment, folder: `${dir}/journal`, salt, fileBytes: options.journalBytes ?? JOURNAL_BYTES },
          hasReplicas: options.group?.isReplicated ?? false,
        },
        {
          ends: () => buckets.map(({ durableEnd }) => ({ ...durableEnd, chain: durableEnd.chain.copy() })),
          committed: () => buckets.map(({ watermark }) => watermark.end.logIndex),
          syncSegments: () => syncDirt(disk, buckets.map((bucket) => bucket.log.dirt())),
        },
        recovered,
      );
      return new Database({
        meta,
        created: found === null,
        environment,
        lock,
        pool,
        cache,
        buckets,
        journal,
        room,
        ending,
        bounds,
        group: options.group,
        recovered,
        cutDamage: async (number) => {
          const damaged = buckets[number]!;
          const { hard } = recovered.buckets[number]!;
          const committed = Math.max(recovered.buckets[number]!.committed, damaged.watermark.end.logIndex);
          const end = await damaged.cutDamage();
          // What is proved need not be committed: others may have decided otherwise.
          const cut = { base: end, end, committed, hard, damage: null, suspect: false };
          journal.putTruncation(number, end, committed, true);
          return buckets[number] = await Bucket.open(context, number, cut);
        },
      });
    } catch (error) {
      // Their maintenance goes on in the folder: not after the lock is given back. This error is the one to tell.
      await Promise.allSettled(buckets.map((bucket) => bucket.close()));
      pool.close();
      lock.release();
      throw error;
    }
  }

  append(transaction: Transaction): Promise<AppendResult> {
    return new Promise((resolve, refused) => {
      this.appendFor(transaction, { stored: (appended) => resolve(resultOf(appended)), refused });
    });
  }

  appendFor(transaction: Transaction, receiver: AppendReceiver): void {
    let admitted: AdmittedTransaction;
    try {
      admitted = admit(transaction, this.#environment);
    } catch (error) {
      return receiver.refused(error);
    }
    this.#queue.append(admitted, receiver);
  }

  async event(eventId: string | Uint8Array, freshness: Freshness = {}): Promise<EventRecord | null> {
    this.#requireOpen();
    const id = requireUuid(eventId, "event id");
    const partition = partitionOf(partitionHash(id), this.partitionCount);
    this.#requireReadable(partition, freshness);
    const bucket = this.#bucketOf(partition);
    return await bucket.lookUp(() => bucket.findEvent(id)?.record() ?? null);
  }

  readStream(streamId: string, options: ReadOptions & StreamOptions = {}): Scan {
    this.#requireOpen();
    const stream = this.#identify(streamId, options);
    const range = rangeOf(options);
    const partition = this.#partitionOf(stream.partitionKey);
    const bucket = this.#bucketOf(partition);
    return this.#scan(partition, options, (page) => scanStream(bucket, this.#pool, partition, stream, range, page));
  }

  readPartition(partition: number, options: ReadOptions = {}): Scan {
    this.#requireOpen();
    this.#requirePartition(partition);
    const range = rangeOf(options);
    const bucket = this.#bucketOf(partition);
    return this.#scan(partition, options, (page) => scanPartition(bucket, this.#pool, partition, range, page));
  }

  async subscribe(selection: Selection, freshness: Freshness = {}): Promise<Subscription> {
    this.#requireOpen();
    if (freshness.atLeast !== undefined) {
      this.#requireReadable(onlyPartition(selection, this.partitionCount), freshness);
    }
    const sources = "partitions" in selection
      ? this.#partitionSources(selection)
      : await this.#streamSources(selection);
    this.#requireOpen();
    const subscription = new DatabaseSubscription(
      sources,
      () => this.#environment.pause(),
      () => this.#subscriptions.delete(subscription),
    );
    this.#subscriptions.add(subscription);
    return subscription;
  }

  #partitionSources({ partitions, from = "latest", starts = new Map<number, Start>() }: PartitionSelection): Source[] {
    for (const start of [from, ...starts.values()]) requireStart(start);
    const numbers = partitions === "all" ? Array(this.partitionCount).keys() : new Set(partitions);
    const startOf = new Map<number, number>();
    for (const partition of numbers) {
      if (!this.#hasPartition(partition)) continue;
      const start = starts.get(partition) ?? from;
      const next = this.#bucketOf(partition).nextSequence(partition);
      startOf.set(partition, start === "latest" ? next : start);
    }
    if (partitions !== "all") {
      return Array.from(
        startOf,
        ([partition, next]) => new PartitionSource(this.#bucketOf(partition), partition, next),
      );
    }
    return this.#buckets.map((bucket) => {
      const ofBucket = [...startOf].filter(([partition]) => this.#bucketOf(partition) === bucket);
      return new BucketSource(bucket, new Map(ofBucket));
    });
  }

  async #streamSources({ streams }: StreamSelection): Promise<Source[]> {
    const byPartition = new Map<number, Map<string, { identity: StreamIdentity; next: number }>>();
    let count = 0;
    for (const { streamId, partitionKey, from = "latest" } of streams) {
      if (++count % PAUSE_STREAMS === 0) await this.#environment.pause();
      const identity = this.#identify(streamId, { partitionKey });
      const start = requireStart(from);
      const partition = this.#partitionOf(identity.partitionKey);
      let followed = byPartition.get(partition);
      if (followed === undefined) byPartition.set(partition, followed = new Map());
      const key = formatUuid(identity.streamKey);
      if (followed.has(key)) continue;
      const bucket = this.#bucketOf(partition);
      const next = start === "latest"
        ? await bucket.lookUp(() => (bucket.streamHead(identity)?.version ?? -1) + 1)
        : start;
      followed.set(key, { identity, next });
    }
    return Array.from(
      byPartition,
      ([partition, followed]) => new StreamsSource(this.#bucketOf(partition), [...followed.values()]),
    );
  }

  async streamVersion(streamId: string, options: StreamOptions & Freshness = {}): Promise<number | null> {
    this.#requireOpen();
    const stream = this.#identify(streamId, options);
    const partition = this.#partitionOf(stream.partitionKey);
    this.#requireReadable(partition, options);
    const bucket = this.#bucketOf(partition);
    const head = await bucket.lookUp(() => bucket.streamHead(stream));
    return head === null ? null : head.version;
  }

  // deno-lint-ignore require-await -- an error must be a rejection
  async partitionSequence(partition: number, freshness: Freshness = {}): Promise<number | null> {
    this.#requireOpen();
    this.#requirePartition(partition);
    this.#requireReadable(partition, freshness);
    return this.#bucketOf(partition).partitionHead(partition);
  }

  partitionOfKey(partitionKey: string): number {
    return this.#partitionOf(requireUuid(partitionKey, "partition key"));
  }

  /** A bucket for its replica. Only with a group. */
  replicated(number: number): ReplicatedBucket {
    return this.#replicated[number]!;
  }

  status(): StoreStatus {
    const buckets = this.#buckets;
    return {
      events: buckets.reduce((sum, { events }) => sum + events, 0),
      partitionCount: this.partitionCount,
      bucketCount: this.bucketCount,
      dataBytes: buckets.reduce((sum, { dataBytes }) => sum + dataBytes, 0),
      segments: buckets.reduce((sum, { segments }) => sum + segments.length, 0),
      appendedTransactions: this.#queue.appendedTransactions,
      syncs: this.#journal.syncs,
      damage: buckets.flatMap(({ number, damage }) =>
        damage === null ? [] : [{ bucket: number, file: damage.file, offset: damage.offset, reason: damage.reason }]
      ),
      disk: this.#room.status(),
      cache: {
        hits: this.#cache.hits,
        misses: this.#cache.misses,
        entries: this.#cache.entries,
        memoryBytes: this.#cache.memoryBytes,
        maxBytes: this.#cache.maxBytes,
        blockBytes: BLOCK_BYTES,
        evictions: this.#cache.evictions,
      },
    };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    for (const subscription of this.#subscriptions) subscription.storeCloses();
    await this.#queue.close();
    for (const bucket of this.#buckets) await bucket.close();
    await this.#journal.close(this.#queue.failed);
    this.#pool.close();
    this.#lock.release();
  }

  /** The process is to end: nothing is answered any more. */
  #end(reason: Error): void {
    this.#queue.end(reason);
    for (const subscription of this.#subscriptions) subscription.storeCloses();
  }

  #requireOpen(): void {
    if (this.#ending.reason !== null) throw this.#ending.reason;
    if (this.#closing !== null) throw new StoreClosed();
  }

  #scan(partition: number, freshness: Freshness, pagesInto: (page: PageTaker) => AsyncGenerator<number>): Scan {
    return new Scan(
      () => this.#records(partition, freshness, pagesInto),
      (sink) => this.#whileOpen(partition, freshness, pagesInto(new SunkPage(sink))),
    );
  }

  async *#records(
    partition: number,
    freshness: Freshness,
    pagesInto: (page: PageTaker) => AsyncGenerator<number>,
  ): AsyncGenerator<EventRecord[]> {
    const page = new RecordPage();
    for await (const _ of this.#whileOpen(partition, freshness, pagesInto(page))) yield page.records;
  }

  async *#whileOpen(
    partition: number,
    freshness: Freshness,
    pages: AsyncGenerator<number>,
  ): AsyncGenerator<number> {
    this.#requireOpen();
    this.#requireReadable(partition, freshness);
    for (;;) {
      this.#requireOpen();
      const { done, value } = await pages.next();
      if (done) return;
      yield value;
    }
  }

  /** `fromLeader` asks for nothing more: what this store does not have was acknowledged by nobody. */
  #requireReadable(partition: number, { atLeast }: Freshness): void {
    if (atLeast !== undefined) requireReadable(partition, this.#bucketOf(partition).partitionHead(partition), atLeast);
  }

  #identify(streamId: string, { partitionKey }: StreamOptions) {
    return identify(streamId, partitionKey === undefined ? null : requireUuid(partitionKey, "partition key"));
  }

  #partitionOf(partitionKey: Uint8Array): number {
    return partitionOf(partitionHash(partitionKey), this.partitionCount);
  }

  #bucketOf(partition: number): Bucket {
    return this.#buckets[bucketOf(partition, this.bucketCount)]!;
  }

  #hasPartition(partition: number): boolean {
    return Number.isInteger(partition) && partition >= 0 && partition < this.partitionCount;
  }

  #requirePartition(partition: number): void {
    if (!this.#hasPartition(partition)) throw new NoSuchPartition(partition, this.partitionCount);
  }
}

/**
 * Makes the data folder, with the folders above it, so that a power cut cannot take it away again. Needs to read the
 * folder above the first that is new: a program that narrows its permissions does this before.
 */
export async function makeDataFolder(disk: Disk, dir: string): Promise<void> {
  if (disk.exists(metaPath(dir))) return;
  const isNew = !disk.exists(dir);
  const made: string[] = [];
  // One that is there and has no meta file may have been made by a process that was killed before it synced any name.
  for (let path = dir; path !== "" && path !== "." && path !== "/"; path = parentOf(path)) {
    if (isNew && disk.exists(path)) break;
    made.push(path);
  }
  disk.makeFolder(dir);
  try {
    for (const path of made) await disk.syncFolder(parentOf(path));
  } catch (error) {
    const { name, code } = error as { name?: string; code?: string };
    const isForbidden = name === "NotCapable" || name === "PermissionDenied" || code === "EACCES";
    if (isNew || !isForbidden) throw error; // Else the folders above are not ours to read, and hardly ours by making.
  }
}

function parentOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "." : slash === 0 ? "/" : path.slice(0, slash);
}

async function makeFolder(disk: Disk, dir: string, environment: Environment, options: DatabaseOptions): Promise<Meta> {
  // What a process left that was killed while it made the folder is made again.
  const headers = soundHeaders(disk, `${dir}/journal`);
  const wasOpened = headers.some((found) => found === null || found.header.number > FIRST_HEADER);
  if (wasOpened || disk.exists(`${dir}/buckets`)) {
    throw new Damaged(metaPath(dir), 0, "it is missing, and the folder has data");
  }
  const salt = new Uint8Array(8);
  environment.random(salt);
  const meta: Meta = {
    format: 1,
    partitionCount: requireRange("partition count", options.partitionCount ?? PARTITION_COUNT, 1, PARTITION_COUNT_MAX),
    bucketCount: 0,
    segmentBytes: requireRange("segment size", options.segmentBytes ?? SEGMENT_BYTES, 1024, SEGMENT_BYTES_MAX),
    salt: hexOf(salt),
  };
  const bucketCount = options.bucketCount ?? Math.min(BUCKET_COUNT, meta.partitionCount);
  meta.bucketCount = requireRange("bucket count", bucketCount, 1, meta.partitionCount);
  const ends = Array.from({ length: meta.bucketCount }, (_, bucket) => emptyLogEnd(bucket));
  const fileBytes = options.journalBytes ?? JOURNAL_BYTES;
  await Journal.create({ disk, folder: `${dir}/journal`, salt, fileBytes }, ends);
  await disk.syncFolder(dir); // The journal's name must not be lost when that of the meta file is there.
  await writeMeta(disk, dir, meta);
  return meta;
}

function requireSame(dir: string, meta: Meta, options: DatabaseOptions): void {
  const asked: [string, number, number | undefined][] = [
    ["partition count", meta.partitionCount, options.partitionCount],
    ["bucket count", meta.bucketCount, options.bucketCount],
    ["segment size", meta.segmentBytes, options.segmentBytes],
  ];
  for (const [setting, stored, given] of asked) {
    if (given !== undefined && given !== stored) throw new FolderMismatch(dir, setting, stored, given);
  }
}

function requireRange(what: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min) {
    throw new InvalidArgument(`The ${what} is at least ${min}: found ${value}`);
  }
  if (value > max) throw new LimitExceeded(`The ${what}`, value, max, "");
  return value;
}

function rangeOf({ from = 0, end = Infinity, direction = "forward", limit = Infinity }: ReadOptions): Range {
  for (const [what, value] of [["start", from], ["end", end], ["limit", limit]] as const) {
    if (value === Infinity || (Number.isSafeInteger(value) && value >= 0)) continue;
    throw new InvalidArgument(`The ${what} of a read is a whole number from 0: found ${value}`);
  }
  return { from, end, backward: direction === "backward", limit };
}
