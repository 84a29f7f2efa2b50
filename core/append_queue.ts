/**
 * The single writer of a node: the only place that gives out versions and sequences.
 *
 * While one batch is being synced, appends wait here. When the sync returns, all that waited are taken together: for
 * each the heads decide whether it is accepted, a retry, or refused; the accepted are encoded, bucket by bucket,
 * straight into the journal's batch, and from there written to their segments; then one write and one sync of the
 * journal make all of them durable, and only then are they published and answered.
 *
 * A refusal leaves no trace. One that was decided on what the same batch had given out is told only when that batch is
 * durable; if the disk had no room after all, it is decided again. While the disk is full (disk_room.ts) nothing new is
 * accepted, but a retry is answered, and a wrong version is told as such.
 *
 * @module
 */
import type { Bucket } from "./bucket.ts";
import { equalBytes } from "./bytes.ts";
import type { DiskRoom } from "./disk_room.ts";
import { endProcess, type Environment } from "./environment.ts";
import { EventIdTable } from "./event_ids.ts";
import { Damaged, DiskFull, DuplicateEventId, LimitExceeded, StoreClosed, WrongExpectedVersion } from "./errors.ts";
import {
  type AdmittedEvent,
  type AdmittedTransaction,
  type Appended,
  type AppendReceiver,
  TRANSACTION_BYTES_MAX,
} from "./event.ts";
import { IndexDamaged } from "./index/segment_index.ts";
import { HeadTable } from "./index/heads.ts";
import { TERM_ALONE } from "./log/bucket_log.ts";
import { NoSpace } from "./log/disk.ts";
import { encodeFrame, type Frame, frameBytesBound, VERSION_MAX } from "./log/format.ts";
import type { Journal } from "./log/journal.ts";
import type { LogEnd } from "./log/journal_format.ts";
import { bucketOf, partitionOf } from "./placement.ts";
import { formatUuid } from "./uuid.ts";
import { meets } from "./version.ts";

/** A batch takes no more appends beyond this: the first of them should not wait for ever. */
export const BATCH_BYTES_MAX = 8 * 1024 * 1024;

/** A batch of so many appends, and so many bytes, is synced without leaving the thread, if the disk is quick. */
const FEW = 64;
const FEW_BYTES = 32 * 1024;

/** An append that waits; and what the batch in progress gave it, once that has accepted it. */
class Append implements Appended {
  segment = 0;
  offset = 0;
  firstSequence = 0;
  versions: number[] = NO_VERSIONS;
  /** Retries of it that came within the same batch, and their answers; null, as a rule. */
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

  /** Tells who waits: once. When the process is to end, all of a batch are told so who were told nothing yet. */
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

/** What a bucket has in the batch in progress. */
interface BucketBatch {
  bucket: Bucket;
  /** The end of its log before the batch. */
  logMark: LogEnd;
  accepted: Append[];
  /** Told when the batch is durable: answers that rest on what the batch gave out. */
  held: { waiting: Append; error: Error }[];
}

export class AppendQueue {
  readonly #buckets: readonly Bucket[];
  readonly #partitionCount: number;
  readonly #journal: Journal;
  readonly #room: DiskRoom;
  readonly #environment: Environment;
  #waiting: Append[] = [];
  #inFlight: Append[] = [];
  #failure: Error | null = null;
  #running: Promise<void> | null = null;
  #closed = false;
  /** Of the append that is being decided, when it has one event. */
  readonly #onePrev: number[] = [0];
  /** Heads that a transaction of several events has given itself. */
  readonly #own = new HeadTable();
  /** Event ids given in the batch in progress. */
  readonly #givenIds: EventIdTable<Append>;

  appendedTransactions = 0;

  /** `idSeed`: of the table of event ids. */
  constructor(
    buckets: readonly Bucket[],
    partitionCount: number,
    journal: Journal,
    room: DiskRoom,
    environment: Environment,
    idSeed: number,
  ) {
    this.#givenIds = new EventIdTable(idSeed);
    this.#buckets = buckets;
    this.#partitionCount = partitionCount;
    this.#journal = journal;
    this.#room = room;
    this.#environment = environment;
  }

  /** The receiver is told when the transaction is durable and published. */
  append(transaction: AdmittedTransaction, receiver: AppendReceiver): void {
    if (this.#failure !== null) return receiver.refused(this.#failure);
    if (this.#closed) return receiver.refused(new StoreClosed());
    const partition = partitionOf(transaction.partitionHash, this.#partitionCount);
    const bytes = frameBytesBound(transaction);
    const bytesMax = Math.min(TRANSACTION_BYTES_MAX, this.#bucketOf(partition).log.frameBytesMax);
    if (bytes > bytesMax) return receiver.refused(new LimitExceeded("The transaction", bytes, bytesMax));
    this.#waiting.push(new Append(transaction, partition, bytes, receiver));
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
    while (this.#waiting.length > 0) {
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
      const written: BucketBatch[] = [];
      for (const [bucket, waiting] of batches) {
        const batch = this.#write(bucket, waiting, again, damaged);
        if (batch !== null) written.push(batch);
      }
      await this.#commit(written, again);
      this.#givenIds.clear();
      for (const { bucket, error } of damaged) await rebuild(bucket, error);
      const inOrder = again.size === 0 ? [] : this.#inFlight.filter((one) => again.has(one));
      this.#inFlight = [];
      this.#waiting.unshift(...inOrder);
    }
    this.#running = null; // In the same step as the look at what waits, or an append in between waits for ever.
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
    const failed = [...this.#inFlight, ...this.#waiting];
    this.#inFlight = [];
    this.#waiting = [];
    const failure = this.#failure;
    // Not before the process is asked to end: what they do, or throw, must not stand in the way.
    for (const one of failed) queueMicrotask(() => one.refused(failure));
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

  /** Decides, encodes and writes what waits for one bucket. Null when nothing of it is in the batch. */
  #write(
    bucket: Bucket,
    waiting: Append[],
    again: Set<Append>,
    damaged: { bucket: Bucket; error: IndexDamaged }[],
  ): BucketBatch | null {
    const journal = this.#journal;
    const journalMark = journal.mark();
    const batch: BucketBatch = { bucket, logMark: bucket.log.mark(), accepted: [], held: [] };
    let recordOffset = bucket.log.end.offset;
    journal.beginRecord();
    const endRecord = () => {
      const frames = journal.recordBytes();
      if (frames.length > 0) bucket.log.write(frames, recordOffset);
      journal.endRecord(bucket.number, bucket.log.end.segment, recordOffset, bucket.log.end.logIndex);
    };
    let rolling = false;
    const roll = () => {
      rolling = true;
      endRecord();
      const previous = bucket.log.mark();
      bucket.log.roll();
      bucket.rolled(previous);
      recordOffset = bucket.log.end.offset;
      journal.beginRecord();
      rolling = false;
    };
    try {
      for (const one of waiting) {
        if (damaged.some((other) => other.bucket === bucket)) {
          again.add(one); // After the one that waits for its index: who sent both expects them in that order.
          continue;
        }
        try {
          this.#decide(one, batch, roll);
        } catch (error) {
          // A write that failed is no refusal: nobody can say what stands there now.
          if (rolling || error instanceof NoSpace) throw error;
          if (error instanceof IndexDamaged) {
            again.add(one);
            damaged.push({ bucket, error });
          } else if (batch.accepted.length > 0) {
            batch.held.push({ waiting: one, error: error as Error });
          } else {
            one.refused(error);
          }
        }
      }
      endRecord();
    } catch (error) {
      if (!(error instanceof NoSpace)) throw error;
      journal.revert(journalMark);
      this.#room.refused();
      this.#takeBack(batch, again, error);
      for (const one of waiting) if (!again.has(one)) one.refused(diskFull(error)); // No effect on what was answered.
      return null;
    }
    return batch.accepted.length === 0 && batch.held.length === 0 ? null : batch;
  }

  #decide(waiting: Append, batch: BucketBatch, roll: () => void): void {
    const { bucket } = batch;
    const { transaction, partition } = waiting;
    const { events } = transaction;
    if (bucket.damage !== null) throw bucket.damage;
    if (this.#isRetry(waiting, bucket)) return;

    const firstSequence = bucket.pendingSequence(partition);
    // As long as it will be: an array that is pushed to begins with 17 places, and all of these outlive the batch.
    const versions = new Array<number>(events.length);
    const prevs = events.length === 1 ? this.#onePrev : new Array<number>(events.length);
    this.#own.clear();
    for (let i = 0; i < events.length; i++) {
      const event = events[i]!;
      const head = this.#own.get(event.streamKey) ?? bucket.pendingHead(event.streamKey) ?? bucket.streamHead({
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
    this.#encode(waiting, bucket, prevs, roll);
    batch.accepted.push(waiting);
    bucket.setPendingSequence(partition, firstSequence + events.length);
    for (let i = 0; i < events.length; i++) {
      const event = events[i]!;
      bucket.setPendingHead(event.streamKey, versions[i]!, firstSequence + i);
      if (event.eventIdGiven) this.#givenIds.set(event.eventId, waiting);
    }
  }

  /** Puts the frame at the end of the journal's batch, in a new segment if it does not fit the active one. */
  #encode(append: Append, { log }: Bucket, prevs: number[], roll: () => void): void {
    const { transaction, partition, firstSequence, versions } = append;
    const journal = this.#journal;
    for (;;) {
      journal.reserve(append.frameBytesBound);
      const start = journal.length;
      const { segment, offset, logIndex } = log.end;
      const frame = encodeFrame(journal.bytes, journal.view, start, transaction, {
        logIndex,
        term: TERM_ALONE,
        partition,
        firstSequence,
        prevChain: log.end.chain,
        versions,
        prevs,
      });
      const frameBytes = frame.end - start;
      if (log.fits(frameBytes)) {
        journal.length = frame.end;
        log.advance(frameBytes, TERM_ALONE, frame.crc);
        append.segment = segment;
        append.offset = offset;
        return;
      }
      roll();
    }
  }

  /**
   * Whether an append repeats one that is stored, or accepted in this batch: then it is answered, or will be, as that one.
   * @throws {DuplicateEventId} an id is there with other content
   */
  #isRetry(waiting: Append, bucket: Bucket): boolean {
    const { transaction } = waiting;
    for (const { eventId, eventIdGiven } of transaction.events) {
      if (!eventIdGiven) continue;
      const pending = this.#givenIds.get(eventId);
      if (pending !== undefined) {
        const appended = answerRetry(transaction, storedPending(pending), eventId);
        (pending.retries ??= []).push({ waiting, appended });
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

  async #commit(batches: BucketBatch[], again: Set<Append>): Promise<void> {
    const journal = this.#journal;
    if (!journal.isEmpty) {
      try {
        await journal.prepare();
      } catch (error) {
        if (!(error instanceof NoSpace)) throw error;
        for (const batch of batches) this.#takeBack(batch, again, error);
        journal.abandon();
        this.#room.refused();
        return;
      }
      const few = this.#inFlight.length <= FEW && journal.length <= FEW_BYTES;
      await journal.commit(few); // Only now may anyone be told that these events exist.
      if (this.#failure !== null) throw this.#failure; // But not when another part of the store has asked for the end.
      this.#room.stored();
    }
    for (const { bucket, accepted } of batches) {
      for (const one of accepted) bucket.publish(one.transaction, one);
      bucket.clearPending();
      bucket.afterBatch();
      this.appendedTransactions += accepted.length;
    }
    for (const { accepted, held } of batches) {
      // Who came too late hears it first: of many writers to one stream the one who won would else win each time.
      for (const { waiting, error } of held) waiting.refused(error);
      for (const one of accepted) {
        one.stored(one);
        if (one.retries !== null) { for (const { waiting, appended } of one.retries) waiting.stored(appended); }
      }
    }
  }

  /** The disk had no room for a bucket's part of the batch: as if it had never been. What was decided on it is decided again. */
  #takeBack({ bucket, logMark, accepted, held }: BucketBatch, again: Set<Append>, reason: NoSpace): void {
    bucket.takeBack(logMark);
    for (const one of accepted) {
      one.refused(diskFull(reason));
      for (const { waiting } of one.retries ?? []) waiting.refused(diskFull(reason));
    }
    for (const { waiting } of held) again.add(waiting);
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
