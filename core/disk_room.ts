/**
 * Whether the disk has room for more events: a state that begins and ends, and no error.
 *
 * Problem: on a disk that is full to its last byte no index file can be written either, and all that is not indexed
 * stays in memory.
 *
 * Idea: a part of the disk is kept in reserve. Index files may use it, appends may not.
 *
 * Rule: when less than the reserve is free, appends are refused. They are taken again as soon as a quarter more than
 * the reserve is free, so that a disk on the brink does not change its mind with every file. What was refused for want
 * of room left no trace, and reads do not care.
 *
 * The system is asked once in a while, not for each batch: in between, what the appends take is counted. Where it does
 * not tell, or has a quota that it does not tell of, a write that finds no room is refused all the same: see
 * append_queue.ts.
 *
 * @module
 */
import type { Environment, Log } from "./environment.ts";
import { DiskFull } from "./errors.ts";
import type { Disk } from "./log/disk.ts";

/** To ask takes some 6 µs, and nobody fills the usual reserve in so short a time. */
const LOOK_MS = 100;

export interface DiskRoomOptions {
  disk: Disk;
  /** The data folder. */
  dir: string;
  environment: Environment;
  log: Log;
  /** 0: nothing is kept. */
  reserveBytes: number;
}

export class DiskRoom {
  readonly #options: DiskRoomOptions;
  #reserveBytes: number;
  #freeBytes: number | null = null;
  /** What appends may still take before the next look. */
  #spareBytes = Infinity;
  #lookedAt = -Infinity;
  #full = false;
  #lastWriteRefused = false;

  constructor(options: DiskRoomOptions) {
    this.#options = options;
    this.#reserveBytes = options.reserveBytes;
    this.beforeBatch(0);
  }

  /** Looks, unless that was a moment ago and had so many bytes to spare. */
  beforeBatch(bytes: number): void {
    if (this.#reserveBytes > 0 && this.#isDue(bytes)) this.#look();
  }

  /** Takes bytes of the room for an append, at most as many as it may need. @throws {DiskFull} */
  take(bytes: number): void {
    if (this.#full || bytes > this.#spareBytes) throw this.#refusal(bytes);
    this.#spareBytes -= bytes;
  }

  /** Whether the reserve is left when so many bytes more are written. */
  leavesReserve(bytes: number): boolean {
    if (this.#isDue(bytes)) this.#look();
    return this.#freeBytes === null || this.#freeBytes - bytes >= this.#reserveBytes;
  }

  /** A write found no room, whatever was known of it before. */
  refused(): void {
    this.#lastWriteRefused = true;
    if (this.#reserveBytes > 0) this.#look();
  }

  /** A batch was stored. */
  stored(): void {
    this.#lastWriteRefused = false;
  }

  /** How full the disk is now. Null where the system does not tell. */
  status(): { freeBytes: number; reserveBytes: number; full: boolean } | null {
    if (this.#isDue(0)) this.#look();
    if (this.#freeBytes === null) return null;
    return {
      freeBytes: this.#freeBytes,
      reserveBytes: this.#reserveBytes,
      full: this.#full || this.#lastWriteRefused,
    };
  }

  #isDue(bytes: number): boolean {
    return this.#full || bytes > this.#spareBytes ||
      this.#options.environment.monotonic() - this.#lookedAt >= LOOK_MS;
  }

  #look(): void {
    const { disk, dir, environment, log } = this.#options;
    this.#lookedAt = environment.monotonic();
    try {
      this.#freeBytes = disk.freeBytes(dir);
    } catch (error) {
      // An embedded program may lack the permission to ask: it is no worse off than without a reserve.
      if (this.#reserveBytes > 0) log("warn", "It cannot be asked how full the disk is: no reserve is kept", { error });
      this.#freeBytes = null;
      this.#reserveBytes = 0;
      this.#full = false;
    }
    if (this.#reserveBytes === 0) {
      this.#spareBytes = Infinity;
      return;
    }
    const freeBytes = this.#freeBytes!;
    this.#spareBytes = freeBytes - this.#reserveBytes;
    const facts = { freeBytes, reserveBytes: this.#reserveBytes };
    if (!this.#full && this.#spareBytes < 0) {
      this.#full = true;
      log("warn", "The disk is full but for its reserve: appends are refused until there is room", facts);
    } else if (this.#full && freeBytes >= this.#resumeBytes) {
      this.#full = false;
      this.#lastWriteRefused = false;
      log("info", "The disk has room again: appends are taken", facts);
    }
  }

  get #resumeBytes(): number {
    return Math.ceil(1.25 * this.#reserveBytes);
  }

  #refusal(bytes: number): DiskFull {
    const found = `The disk has ${this.#freeBytes} bytes free, ${this.#reserveBytes} of them are kept in reserve`;
    return new DiskFull(
      this.#full
        ? `${found}: nothing was stored. Appends are taken again when ${this.#resumeBytes} bytes are free`
        : `${found}, and these events may need ${bytes}: nothing was stored`,
    );
  }
}
