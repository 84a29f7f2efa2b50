/**
 * A bucket as its replica sees it: a log that is appended to, cut and read by log index, and what must not be forgotten
 * beside it. Everything but `sync` and `cutDamage` is done when the call returns, though not durable: the group is told by
 * `sealed` and `synced` when it is (group.ts).
 *
 * @module
 */
import type { AppendQueue } from "./append_queue.ts";
import type { Bucket } from "./bucket.ts";
import type { Damaged } from "./errors.ts";
import type { EventRecord } from "./event.ts";
import type { FilePool } from "./log/file_pool.ts";
import { LogReader } from "./log_reader.ts";
import { PartitionSource } from "./source.ts";

export class ReplicatedBucket {
  #bucket: Bucket;
  #reader: LogReader;

  constructor(
    bucket: Bucket,
    private readonly queue: AppendQueue,
    private readonly pool: FilePool,
    /** As the last start found it; null when nobody ever stored one. */
    readonly hardState: Uint8Array | null,
    /** The largest committed end that the last start found. More than the log has: it lost some. */
    readonly commitFloor: number,
    private readonly cut: (number: number) => Promise<Bucket>,
  ) {
    this.#bucket = bucket;
    this.#reader = new LogReader(bucket, pool);
  }

  get number(): number {
    return this.#bucket.number;
  }

  /** Why the log cannot be believed; null when all is well. */
  get damage(): Damaged | null {
    return this.#bucket.damage;
  }

  /** What was read of the log is not what was written. Returns it, to be thrown. */
  noteDamage(reason: string): Damaged {
    return this.#bucket.noteLogDamage(reason);
  }

  /** One past the last entry. */
  get end(): number {
    return this.#bucket.log.end.logIndex;
  }

  /** One past the last entry that may be read. */
  get committedEnd(): number {
    return this.#bucket.watermark.end.logIndex;
  }

  /** @throws {Damaged} */
  chainAt(end: number): { low: number; high: number } {
    return this.#reader.chainAt(end);
  }

  /** As LogReader.read. @throws {Damaged} */
  read(from: number, bytesMax: number): Uint8Array {
    return this.#reader.read(from, bytesMax);
  }

  /** @throws {Damaged} */
  termStarts(): { term: number; from: number }[] {
    return this.#reader.termStarts();
  }

  /** One past the last sequence of a partition that may be read. @throws {Damaged} */
  nextSequence(partition: number): number {
    return this.#bucket.nextSequence(partition);
  }

  /** Committed events of a partition from a sequence on, at most a page of them. @throws {Damaged} | {IndexDamaged} */
  events(partition: number, from: number, limit: number): EventRecord[] {
    return new PartitionSource(this.#bucket, partition, from).read(limit, null);
  }

  /** Frames that follow from the end of the log. @throws {NoSpace} | {DiskFull} nothing was appended */
  append(frames: Uint8Array): void {
    this.queue.receive(this.number, frames);
  }

  /** An entry without events; the group is told as of any other. @throws {NoSpace} nothing was appended */
  openTerm(term: number): void {
    this.queue.openTerm(this.number, term);
  }

  /** Of entries that are not committed. @throws {NoSpace} nothing was cut */
  truncate(end: number): void {
    this.queue.truncate(this.number, end);
    this.#reader.forget();
  }

  /** @throws {NoSpace} nothing was stored */
  persist(hardState: Uint8Array): void {
    this.queue.persist(this.number, hardState);
  }

  /** Entries below `end`, which are durable here, are committed. */
  commitTo(end: number): void {
    this.queue.commitTo(this.number, end);
  }

  /** Whoever waits is told that nobody knows; nothing more is decided here. */
  stepDown(): void {
    this.queue.stepDown(this.number);
  }

  sync(): void {
    this.queue.sync();
  }

  /**
   * Of a damaged bucket, while nothing else is done to it: cuts the log where it cannot be proved any more, committed
   * entries among the rest, so that they can be fetched again. The hard state must say before, and durably, that this
   * replica recovers.
   */
  async cutDamage(): Promise<void> {
    this.#bucket = await this.cut(this.number);
    this.#reader = new LogReader(this.#bucket, this.pool);
  }
}
