/**
 * The single writer of a node: the only place that gives out versions and sequences.
 *
 * While one batch is being synced, appends wait here. When the sync returns, all that waited are taken together: for
 * each the heads decide whether it is accepted, a retry, or refused; the accepted are encoded, bucket by bucket,
 * straight into the journal's batch, and from there written to their segments; then one write and one sync of the
 * journal make all of them durable. They are published and answered when they are committed: alone, that is then; in a
 * group of replicas, when the group says so (group.ts), while more is decided, written and synced.
 *
 * What replicas have to store comes in between, into the batch that is synced next: frames that a leader decided about,
 * the cut of a log, hard states.
 *
 * A refusal leaves no trace. One that was decided on what is not committed is told only when that is; if the disk had no
 * room after all, it is decided again. While the disk is full (disk_room.ts) nothing new is accepted, but a retry is
 * answered, and a wrong version is told as such.
 *
 * @module
 */
import type { Bucket } from "./bucket.ts";
import { equalBytes } from "./bytes.ts";
import type { DiskRoom } from "./disk_room.ts";
import { endProcess, type Environment } from "./environment.ts";
import {
  Damaged,
  DiskFull,
  DuplicateEventId,
  LimitExceeded,
  OutcomeUnknown,
  StoreClosed,
  TryAgain,
  WrongExpectedVersion,
} from "./errors.ts";
import {
  type AdmittedEvent,
  type AdmittedTransaction,
  type Appended,
  type AppendReceiver,
  TRANSACTION_BYTES_MAX,
} from "./event.ts";
import { IndexDamaged } from "./index/segment_index.ts";
import { HeadTable } from "./index/heads.ts";
import { type Group, type WrittenFrames } from "./group.ts";
import { LogRun } from "./log_run.ts";
import { NoSpace } from "./log/disk.ts";
import {
  EMPTY_FRAME_BYTES_MAX,
  encodeEmptyFrame,
  encodeFrame,
  type Frame,
  frameBytesBound,
  frameHeadAt,
  VERSION_MAX,
} from "./log/format.ts";
import type { Journal } from "./log/journal.ts";
import { bucketOf, partitionOf } from "./placement.ts";
import type { Entry, OwnEntry } from "./uncommitted.ts";
import { formatUuid } from "./uuid.ts";
import { meets } from "./version.ts";

/** A batch takes no more appends beyond this: the first of them should not wait for ever. */
export const BATCH_BYTES_MAX = 8 * 1024 * 1024;

/** A batch of so many appends, and so many bytes, is synced without leaving the thread, if the disk is quick. */
const FEW = 64;
const FEW_BYTES = 32 * 1024;

/** An append that waits; and what it was given, once it was accepted. */
class Append implements Appended, OwnEntry {
  logIndex = 0;
  segment = 0;
  offset = 0;
  firstSequence = 0;
  versions: number[] = NO_VERSIONS;
  /** Retries of it that came before it was committed, and their answers; null, as a rule. */
  retries: { waiting: Append; appended: Appended }[] | null = null;
  #receiver: AppendReceiver | null;

  constructor(
    readonly transaction: AdmittedTransaction,
    readonly partition: number,
    readonly frameBytesBound: number,
    receiver: AppendReceiver,
  ) {
    this.#receiver = receiver;
  }

  /** Tells who waits: once. When the process is to end, all are told so who were told nothing yet. */
  stored(appended: Appended): void {
    const receiver = this.#receiver;
    this.#receiver = null;
    receiver?.stored(appended);
  }

  refused(error: unknown): void {
    const receiver = this.#receiver;
    this.#receiver = null;
    receiver?.refused(error);
  }

  get partitionKey(): Uint8Array {
    return this.transaction.partitionKey;
  }

  get events(): readonly AdmittedEvent[] {
    return this.transaction.events;
  }
}

const NO_VERSIONS: number[] = [];

/** An answer that rests on entries which are not committed: told when all below `end` are. */
interface Held {
  waiting: Append;
  error: Error;
  end: number;
}

/** What a bucket has in the batch that is put together. */
interface BucketBatch {
  bucket: Bucket;
  run: LogRun;
  term: number;
  accepted: Append[];
  held: Held[];
  /** Retries of entries before the batch: whatever becomes of it, they are answered with those. */
  attached: Append[];
}

export class AppendQueue {
  readonly #buckets: readonly Bucket[];
  readonly #partitionCount: number;
  readonly #journal: Journal;
  readonly #room: DiskRoom;
  readonly #environment: Environment;
  readonly #group: Group;
  #waiting: Append[] = [];
  #inFlight: Append[] = [];
  /** By bucket, in the order in which they were decided. */
  readonly #held: Held[][];
  #failure: Error | null = null;
  #running: Promise<void> | null = null;
  #closed = false;
  /** Something waits for a sync: what was written since the last one was begun, or only the word that all is durable. */
  #syncWanted = false;
  /** Buckets that have something in the batch that is put together. */
  #touched = new Set<Bucket>();
  /** Of the append that is being decided, when it has one event. */
  readonly #onePrev: number[] = [0];
  /** Heads that a transaction of several events has given itself. */
  readonly #own = new HeadTable();

  appendedTransactions = 0;

  constructor(
    buckets: readonly Bucket[],
    partitionCount: number,
    journal: Journal,
    room: DiskRoom,
    environment: Environment,
    group: Group,
  ) {
    this.#buckets = buckets;
    this.#held = buckets.map(() => []);
    this.#partitionCount = partitionCount;
    this.#journal = journal;
    this.#room = room;
    this.#environment = environment;
    this.#group = group;
  }

  /** The receiver is told when the transaction is committed and published. */
  append(transaction: AdmittedTransaction, receiver: AppendReceiver): void {
    if (this.#failure !== null) return receiver.refused(this.#failure);
    if (this.#closed) return receiver.refused(new StoreClosed());
    const partition = partitionOf(transaction.partitionHash, this.#partitionCount);
    const bytes = frameBytesBound(transaction);
    const bytesMax = Math.min(TRANSACTION_BYTES_MAX, this.#bucketOf(partition).log.frameBytesMax);
    if (bytes > bytesMax) return receiver.refused(new LimitExceeded("The transaction", bytes, bytesMax));
    this.#waiting.push(new Append(transaction, partition, bytes, receiver));
    this.#start();
  }

  #start(): void {
    // Not at once: what else arrived in this turn belongs to the same batch.
    this.#running ??= Promise.resolve().then(() => this.#run()).catch((cause) => this.#fail(cause));
  }

  /** Whether it ended with an error: what is durable then is for recovery to say. */
  get failed(): boolean {
    return this.#failure !== null;
  }

  /** Refuses new appends and waits for those in flight. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0 || this.#syncWanted) {
      const batches = this.#takeBatch();
      const again = new Set<Append>();
      const damaged: { bucket: Bucket; error: IndexDamaged }[] = [];
      for (const [bucket, waiting] of batches) {
        if (await bucket.roomForSegments()) continue;
        batches.delete(bucket);
        this.#room.refused();
        const full = "The disk is too full to index what is already stored";
        for (const one of waiting) one.refused(new DiskFull(full));
      }
      for (const [bucket, waiting] of batches) this.#write(bucket, waiting, again, damaged);
      await this.#sync();
      for (const { bucket, error } of damaged) await rebuild(bucket, error);
      const inOrder = again.size === 0 ? [] : this.#inFlight.filter((one) => again.has(one));
      this.#inFlight = [];
      this.#waiting.unshift(...inOrder);
    }
    this.#running = null; // In the same step as the look at what waits, or an append in between waits for ever.
  }

  /** Makes durable what was written, and tells the group. */
  async #sync(): Promise<void> {
    const journal = this.#journal;
    if (!journal.isEmpty) await journal.prepare();
    // What is written from here on belongs to the next batch.
    const touched = this.#touched;
    this.#touched = new Set();
    this.#syncWanted = false;
    for (const bucket of touched) bucket.sealed();
    this.#group.sealed();
    if (!journal.isEmpty) {
      // A group's frames leave while this waits.
      const few = !this.#group.isReplicated && this.#inFlight.length <= FEW && journal.length <= FEW_BYTES;
      await journal.commit(few); // Only now may anyone be told that these events exist.
      if (this.#failure !== null) throw this.#failure; // But not when another part of the store has asked for the end.
      this.#room.stored();
    }
    for (const bucket of touched) bucket.synced();
    this.#group.synced();
  }

  /** Nobody can say what is durable: the process ends. */
  #fail(cause: unknown): void {
    const reason = cause instanceof Error ? cause : new Error(String(cause));
    if (this.#failure === null) endProcess(this.#environment, reason);
    this.end(reason);
  }

  /** The process is to end for `reason`, and nothing is acknowledged any more: whoever waits is told. */
  end(reason: Error): void {
    this.#failure ??= reason;
    const failed = [...this.#inFlight, ...this.#waiting, ...this.#buckets.flatMap((bucket) => this.#untold(bucket))];
    this.#inFlight = [];
    this.#waiting = [];
    const failure = this.#failure;
    // Not before the process is asked to end: what they do, or throw, must not stand in the way.
    for (const one of failed) queueMicrotask(() => one.refused(failure));
  }

  /** Who waits for entries of a bucket to be committed. Who was told already is told nothing again. */
  #untold(bucket: Bucket): Append[] {
    const own = bucket.uncommitted.entries.filter((entry) => entry instanceof Append);
    const retries = own.flatMap(({ retries }) => retries ?? []);
    return [
      ...own,
      ...retries.map(({ waiting }) => waiting),
      ...this.#held[bucket.number]!.map(({ waiting }) => waiting),
    ];
  }

  /** What waits, as much as one batch carries, by bucket. */
  #takeBatch(): Map<Bucket, Append[]> {
    let bytes = 0;
    let count = 0;
    while (count < this.#waiting.length && bytes < BATCH_BYTES_MAX) bytes += this.#waiting[count++]!.frameBytesBound;
    const taken = count === this.#waiting.length ? this.#waiting : this.#waiting.slice(0, count);
    this.#waiting = count === this.#waiting.length ? [] : this.#waiting.slice(count);
    this.#inFlight = taken;
    this.#room.beforeBatch(bytes);
    const batches = new Map<Bucket, Append[]>();
    for (const waiting of taken) {
      const bucket = this.#bucketOf(waiting.partition);
      const list = batches.get(bucket);
      if (list === undefined) batches.set(bucket, [waiting]);
      else list.push(waiting);
    }
    return batches;
  }

  /** Decides, encodes and writes what waits for one bucket. */
  #write(
    bucket: Bucket,
    waiting: Append[],
    again: Set<Append>,
    damaged: { bucket: Bucket; error: IndexDamaged }[],
  ): void {
    const term = this.#group.admission(bucket.number);
    if (typeof term !== "number") {
      // Those as well that came after them: they may follow from these, and be admitted by the time of the next batch.
      const after = this.#waiting.filter(({ partition }) => this.#bucketOf(partition) === bucket);
      this.#waiting = this.#waiting.filter(({ partition }) => this.#bucketOf(partition) !== bucket);
      for (const one of [...waiting, ...after]) one.refused(term);
      return;
    }
    const run = new LogRun(bucket, this.#journal, this.#group.isReplicated);
    const batch: BucketBatch = { bucket, run, term, accepted: [], held: [], attached: [] };
    let written: readonly WrittenFrames[];
    try {
      for (const one of waiting) {
        if (damaged.some((other) => other.bucket === bucket)) {
          again.add(one); // After the one that waits for its index: who sent both expects them in that order.
          continue;
        }
        let prevs: number[] | null;
        try {
          prevs = this.#decide(one, batch);
        } catch (error) {
          if (error instanceof IndexDamaged) {
            again.add(one);
            damaged.push({ bucket, error });
          } else if (bucket.uncommitted.isEmpty) {
            one.refused(error);
          } else {
            batch.held.push({ waiting: one, error: error as Error, end: bucket.log.end.logIndex });
          }
          continue;
        }
        // What fails in here is no refusal: nobody can say what stands there now.
        if (prevs !== null) this.#accept(one, batch, prevs);
      }
      written = run.end(this.#committedWith(bucket));
    } catch (error) {
      if (!(error instanceof NoSpace)) throw error;
      this.#room.refused();
      this.#takeBack(batch, again, error);
      for (const one of waiting) {
        if (again.has(one) || batch.attached.includes(one)) continue;
        one.refused(diskFull(error)); // No effect on what was answered.
      }
      return;
    }
    if (batch.held.length > 0) this.#held[bucket.number]!.push(...batch.held);
    if (batch.accepted.length > 0) this.#wrote(bucket);
    for (const frames of written) this.#group.appended(bucket.number, frames);
  }

  /** What a record says to be committed once its batch is durable. */
  #committedWith(bucket: Bucket): number {
    return this.#group.isReplicated ? bucket.watermark.end.logIndex : bucket.log.end.logIndex;
  }

  #wrote(bucket: Bucket): void {
    this.#touched.add(bucket);
    this.#syncWanted = true;
  }

  /**
   * Gives an append its versions and its place in the partition. Nothing is written yet.
   * @returns for each event, how many sequences before it the one before in its stream is; null when there is nothing to write
   * @throws {Error} the append is refused
   */
  #decide(waiting: Append, batch: BucketBatch): number[] | null {
    const { bucket } = batch;
    const { transaction, partition } = waiting;
    const { events } = transaction;
    if (bucket.damage !== null) throw bucket.damage;
    if (this.#isRetry(waiting, batch)) return null;

    const { uncommitted } = bucket;
    const firstSequence = uncommitted.nextSequence(partition) ?? bucket.nextSequence(partition);
    // As long as it will be: an array that is pushed to begins with 17 places, and all of these outlive the batch.
    const versions = new Array<number>(events.length);
    const prevs = events.length === 1 ? this.#onePrev : new Array<number>(events.length);
    this.#own.clear();
    for (let i = 0; i < events.length; i++) {
      const event = events[i]!;
      const head = this.#own.get(event.streamKey) ?? uncommitted.head(event.streamKey) ?? bucket.streamHead({
        streamIdBytes: event.streamIdBytes,
        partitionKey: transaction.partitionKey,
        streamKey: event.streamKey,
      });
      const current = head === null ? null : head.version;
      if (!meets(event.expectedVersion, current)) {
        const key = formatUuid(transaction.partitionKey);
        throw new WrongExpectedVersion(event.streamId, key, event.expectedVersion, current);
      }
      const version = current === null ? 0 : current + 1;
      if (version > VERSION_MAX) throw new LimitExceeded("The stream", version, VERSION_MAX, "events");
      const sequence = firstSequence + i;
      versions[i] = version;
      prevs[i] = head === null ? 0 : sequence - head.sequence;
      if (events.length > 1) this.#own.set(event.streamKey, version, sequence);
    }

    this.#room.take(waiting.frameBytesBound);
    waiting.firstSequence = firstSequence;
    waiting.versions = versions;
    return prevs;
  }

  /** Puts the frame at the end of the journal's batch, in a new segment if it does not fit the active one. @throws {NoSpace} */
  #accept(append: Append, batch: BucketBatch, prevs: number[]): void {
    const { bucket: { log, uncommitted }, run, term } = batch;
    const { transaction, partition, firstSequence, versions } = append;
    const journal = this.#journal;
    for (;;) {
      journal.reserve(append.frameBytesBound);
      const start = journal.length;
      const { segment, offset, logIndex } = log.end;
      const frame = encodeFrame(journal.bytes, journal.view, start, transaction, {
        logIndex,
        term,
        partition,
        firstSequence,
        prevChain: log.end.chain,
        versions,
        prevs,
      });
      if (!run.take(start, frame.end, term, frame.crc)) continue;
      append.logIndex = logIndex;
      append.segment = segment;
      append.offset = offset;
      batch.accepted.push(append);
      uncommitted.pushOwn(append);
      return;
    }
  }

  /**
   * Whether an append repeats one that is stored, or accepted and not committed: then it is answered, or will be, as that one.
   * @throws {DuplicateEventId} an id is there with other content
   */
  #isRetry(waiting: Append, { bucket, run, attached }: BucketBatch): boolean {
    const { transaction } = waiting;
    for (const { eventId, eventIdGiven } of transaction.events) {
      if (!eventIdGiven) continue;
      const pending = bucket.uncommitted.given(eventId) as Append | undefined;
      if (pending !== undefined) {
        const appended = answerRetry(transaction, storedPending(pending), eventId);
        if (pending.logIndex < bucket.watermark.end.logIndex) {
          waiting.stored(appended); // It is still remembered, and was answered: nobody would ask for its retries again.
          return true;
        }
        (pending.retries ??= []).push({ waiting, appended });
        if (pending.logIndex < run.from.logIndex) attached.push(waiting);
        return true;
      }
      const frame = bucket.findEvent(eventId);
      if (frame !== null) {
        waiting.stored(answerRetry(transaction, storedFrame(frame), eventId));
        return true;
      }
    }
    return false;
  }

  /** The disk had no room for a bucket's part of the batch: as if it had never been. What was decided on it is decided again. */
  #takeBack({ bucket, run, accepted, held }: BucketBatch, again: Set<Append>, reason: NoSpace): void {
    run.takeBack();
    for (const one of accepted) {
      one.refused(diskFull(reason));
      for (const { waiting } of one.retries ?? []) waiting.refused(diskFull(reason));
    }
    for (const { waiting } of held) again.add(waiting);
    bucket.uncommitted.cut(run.from.logIndex);
  }

  // ---- What is committed -----------------------------------------------------------------------------------------

  /** All that is durable is committed: alone. */
  commitAll(): void {
    const answers = this.#buckets.map((bucket) => this.#publish(bucket, bucket.durableEnd.logIndex));
    for (const [bucket, entries] of answers.entries()) this.#answer(bucket, entries);
  }

  /** Entries of a bucket below `end`, which are durable here, are committed: they are published, and their writers told. */
  commitTo(bucket: number, end: number): void {
    this.#answer(bucket, this.#publish(this.#buckets[bucket]!, end));
  }

  #publish(bucket: Bucket, end: number): readonly Entry[] {
    const entries = bucket.uncommitted.commitTo(end);
    if (entries.length === 0) return entries;
    for (const entry of entries) {
      if (entry instanceof Append) {
        bucket.publish(entry.transaction, entry);
        this.appendedTransactions++;
      } else {
        bucket.publishFrame(entry);
      }
    }
    bucket.committedTo(end);
    return entries;
  }

  #answer(bucket: number, entries: readonly Entry[]): void {
    const held = this.#held[bucket]!;
    if (held.length > 0) {
      // Who came too late hears it first: of many writers to one stream the one who won would else win each time.
      const end = this.#buckets[bucket]!.watermark.end.logIndex;
      const first = held.findIndex((one) => one.end > end);
      for (const { waiting, error } of held.splice(0, first < 0 ? held.length : first)) waiting.refused(error);
    }
    for (const entry of entries) {
      if (!(entry instanceof Append)) continue;
      entry.stored(entry);
      if (entry.retries !== null) { for (const { waiting, appended } of entry.retries) waiting.stored(appended); }
    }
  }

  // ---- What replicas have to store -------------------------------------------------------------------------------

  /** Asks the group to be told, by `sealed` and `synced`, when all that was written is durable. */
  sync(): void {
    if (this.#failure !== null) return;
    this.#syncWanted = true;
    this.#start();
  }

  /**
   * Appends frames that another node decided about, and that were verified to follow from the log's end.
   * @throws {NoSpace} | {DiskFull} nothing was appended
   */
  receive(number: number, frames: Uint8Array): void {
    const bucket = this.#buckets[number]!;
    const journal = this.#journal;
    this.#room.beforeBatch(frames.length);
    this.#room.take(frames.length);
    const view = new DataView(frames.buffer, frames.byteOffset, frames.length);
    this.#append(bucket, false, (run) => {
      for (let at = 0; at < frames.length;) {
        const { frameBytes, term, crc } = frameHeadAt(frames, view, at)!;
        journal.reserve(frameBytes);
        journal.bytes.set(frames.subarray(at, at + frameBytes), journal.length);
        const { segment, offset, logIndex } = bucket.log.end;
        if (!run.take(journal.length, journal.length + frameBytes, term, crc)) continue;
        bucket.uncommitted.push({ logIndex, segment, offset });
        at += frameBytes;
      }
    });
  }

  /** Appends an entry without events, which opens a term, and tells the group as of any other. @throws {NoSpace} nothing was appended */
  openTerm(number: number, term: number): void {
    const bucket = this.#buckets[number]!;
    const journal = this.#journal;
    const written = this.#append(bucket, true, (run) => {
      for (;;) {
        journal.reserve(EMPTY_FRAME_BYTES_MAX);
        const { segment, offset, logIndex, chain: prevChain } = bucket.log.end;
        const facts = { bucket: number, logIndex, term, prevChain };
        const frame = encodeEmptyFrame(journal.bytes, journal.view, journal.length, facts);
        if (!run.take(journal.length, frame.end, term, frame.crc)) continue;
        bucket.uncommitted.push({ logIndex, segment, offset });
        return;
      }
    });
    for (const frames of written) this.#group.appended(number, frames);
  }

  /** Appends what `put` puts into the log, all or nothing. @throws {NoSpace} nothing was appended */
  #append(bucket: Bucket, keepsFrames: boolean, put: (run: LogRun) => void): readonly WrittenFrames[] {
    const run = new LogRun(bucket, this.#journal, keepsFrames);
    let written: readonly WrittenFrames[];
    try {
      put(run);
      written = run.end(bucket.watermark.end.logIndex);
    } catch (error) {
      if (!(error instanceof NoSpace)) throw error;
      this.#room.refused();
      run.takeBack();
      bucket.uncommitted.cut(run.from.logIndex);
      throw error;
    }
    this.#wrote(bucket);
    return written;
  }

  /** The log of a bucket ends at `end` now: what is cut off was never committed. @throws {NoSpace} nothing was cut */
  truncate(number: number, end: number): void {
    const bucket = this.#buckets[number]!;
    const place = bucket.uncommittedEnd(end);
    const isDurable = end < bucket.durableEnd.logIndex;
    this.#journal.putTruncation(number, place, bucket.watermark.end.logIndex, isDurable);
    bucket.uncommitted.cut(end);
    bucket.takeBack(place);
    this.#wrote(bucket);
  }

  /** Stores the hard state of a bucket's replica. @throws {NoSpace} */
  persist(number: number, hard: Uint8Array): void {
    const bucket = this.#buckets[number]!;
    this.#journal.putHardState(number, hard, bucket.watermark.end.logIndex);
    this.#wrote(bucket);
  }

  /** Nothing is decided here any more: whoever waits is told what is known. The entries stay in the log. */
  stepDown(number: number): void {
    const bucket = this.#buckets[number]!;
    const held = this.#held[number]!.splice(0);
    for (const { waiting } of held) {
      waiting.refused(new TryAgain(`Bucket ${number} has another leader: nothing was stored`));
    }
    for (const one of this.#untold(bucket)) {
      one.refused(new OutcomeUnknown(`The leader of bucket ${number} changed before these events were committed`));
    }
    bucket.uncommitted.forget();
  }

  #bucketOf(partition: number): Bucket {
    return this.#buckets[bucketOf(partition, this.#buckets.length)]!;
  }
}

function diskFull(reason: NoSpace): DiskFull {
  return new DiskFull("The disk has no room for these events: nothing was stored", { cause: reason });
}

/** Makes the index of a segment again. If its segment is damaged as well, the appends that come back are told so. */
async function rebuild(bucket: Bucket, error: IndexDamaged): Promise<void> {
  try {
    await bucket.rebuild(error);
  } catch (damage) {
    if (!(damage instanceof Damaged)) throw damage; // Noted by the bucket, which now refuses.
  }
}

/** An event that is stored, or about to be: what a retry is compared with, and answered from. */
interface StoredEvent {
  eventId: Uint8Array;
  streamIdBytes: Uint8Array;
  nameBytes: Uint8Array;
  metadata: Uint8Array;
  payload: Uint8Array;
  version: number;
  sequence: number;
  timestamp: number;
}

interface StoredTransaction {
  partitionKey: Uint8Array;
  partition: number;
  events: StoredEvent[];
}

function storedFrame(frame: Frame): StoredTransaction {
  const events: StoredEvent[] = [];
  frame.rewind();
  while (frame.next()) {
    const { eventId, streamIdBytes, nameBytes, metadata, payload, version, sequence, timestamp } = frame;
    events.push({ eventId, streamIdBytes, nameBytes, metadata, payload, version, sequence, timestamp });
  }
  return { partitionKey: frame.partitionKeyBytes(), partition: frame.partition, events };
}

function storedPending({ transaction, partition, firstSequence, versions }: Append): StoredTransaction {
  const events = transaction.events.map((event, i) => ({
    ...event,
    version: versions[i]!,
    sequence: firstSequence + i,
  }));
  return { partitionKey: transaction.partitionKey, partition, events };
}

/**
 * The answer to an append with an id that is stored: that of the first time. A single event is compared with the stored
 * one, several must equal the whole transaction.
 * @throws {DuplicateEventId}
 */
function answerRetry(transaction: AdmittedTransaction, stored: StoredTransaction, eventId: Uint8Array): Appended {
  const refuse = (why: string) => new DuplicateEventId(formatUuid(eventId), why);
  const { events } = transaction;
  if (!equalBytes(transaction.partitionKey, stored.partitionKey)) throw refuse("under another partition key");
  const compared = events.length === 1
    ? stored.events.filter((event) => equalBytes(event.eventId, events[0]!.eventId))
    : stored.events;
  if (compared.length !== events.length) {
    throw refuse(`in a transaction of ${stored.events.length} events, this one has ${events.length}`);
  }
  for (let i = 0; i < events.length; i++) {
    const [given, had] = [events[i]!, compared[i]!];
    if (given.eventIdGiven && !equalBytes(given.eventId, had.eventId)) throw refuse(`event ${i} had another id`);
    if (!equalBytes(given.streamIdBytes, had.streamIdBytes)) throw refuse(`event ${i} was of another stream`);
    if (!equalBytes(given.nameBytes, had.nameBytes)) throw refuse(`event ${i} had another name`);
    if (!equalBytes(given.payload, had.payload)) throw refuse(`event ${i} had another payload`);
    if (!equalBytes(given.metadata, had.metadata)) throw refuse(`event ${i} had other metadata`);
  }
  return {
    // A copy: of a frame that was found the next lookup uses the memory.
    partitionKey: stored.partitionKey.slice(),
    partition: stored.partition,
    firstSequence: compared[0]!.sequence,
    versions: compared.map(({ version }) => version),
    events: compared.map((event, i) => ({
      eventId: event.eventId.slice(),
      streamId: events[i]!.streamId,
      timestamp: event.timestamp,
    })),
  };
}
