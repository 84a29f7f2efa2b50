/**
 * The faults of a disk: those that are armed and wait to be met, and what they leave in doubt.
 *
 * It knows which buckets a fault may have hurt, and so what an error may say. Whether a store was right to say it is for
 * world.ts to judge.
 *
 * @module
 */
import { Chance } from "../chance.ts";
import { Damaged } from "../errors.ts";
import { type MemoryDisk, PowerCut } from "../log/memory_disk.ts";
import { bucketOf } from "../placement.ts";
import { SeededEnvironment } from "../seeded_environment.ts";
import type { FileClass, Operation } from "./operation.ts";

export const DIR = "/data";
const LOCK = `${DIR}/lock`;
const SECTOR_BYTES = 512;
const SLOW_SYNC_MS = 5;

export const FILES: Record<FileClass, RegExp> = {
  segment: /\/data\.evts$/,
  journal: /\/journal\/[ab]$/,
  meta: /\/meta\.json$/,
  "event index": /\.eidx$/,
  "stream index": /\.sidx$/,
  "partition index": /\.pidx$/,
  heads: /\.hidx$/,
};

/** What the system says when a disk does not do what it was asked to do. */
export class DiskFault extends Error {
  override readonly name = "DiskFault";
  readonly code = "EIO";

  constructor(readonly call: "read" | "write" | "fsync", path: string) {
    super(`EIO: i/o error, ${call} '${path}'`);
  }
}

/** Knows when the engine asked for its end, and when whoever was answered before has heard of it. */
export class MortalEnvironment extends SeededEnvironment {
  ended = false;

  override fatal(reason: Error): never {
    queueMicrotask(() => queueMicrotask(() => this.ended = true));
    return super.fatal(reason);
  }
}

/** Whether an error is there because the process died, or has met what it may die of. */
export function isOfTheDead(error: unknown): boolean {
  return isOfTheDisk(error) || causesOf(error).some((cause) => SeededEnvironment.wasFatal(cause));
}

/** Whether an error comes from what was done to the disk. */
export function isOfTheDisk(error: unknown): boolean {
  return isOfSync(error) || causesOf(error).some((cause) => cause instanceof PowerCut || cause instanceof DiskFault);
}

/** Whether an error comes from a sync that `MemoryDisk.failSync` let fail. */
export function isOfSync(error: unknown): boolean {
  return causesOf(error).some(({ message }) => message.startsWith("EIO: fdatasync"));
}

function causesOf(error: unknown): Error[] {
  return error instanceof Error ? [error, ...causesOf(error.cause)] : [];
}

export function bucketOfPath(path: string): number | null {
  const match = /buckets\/(\d+)/.exec(path);
  return match === null ? null : Number(match[1]);
}

export class Faults {
  /** By class: how often a fault was met. */
  readonly met = new Map<string, number>();
  /** How many faults hit the journal since it last began anew. */
  ofJournal = 0;
  /** Buckets whose files were hit. */
  readonly #hit = new Set<number>();
  /** Buckets that met an error of the disk: they may count as damaged as long as their process lives. */
  readonly #shaken = new Set<number>();
  /** A file that this process wrote to while it did not hold the lock of the folder. */
  writtenUnlocked: string | null = null;
  /** Whether a sync of a folder failed in this process. */
  #folderSyncFailed = false;
  /** Whether a read has failed since the present operation began. */
  #readFailed = false;

  #syncFails: { left: number } | null = null;
  #readFails: { left: number; times: number; of: FileClass | "any" } | null = null;
  #writeFails: { left: number; shortened: boolean } | null = null;
  #short: { chance: Chance; calls: number } | null = null;
  #slow: { syncs: number; turns: number; of: FileClass | "any" } | null = null;
  /** The power goes so many effects after one of the journal's next headers. */
  #cutAfterHeader: { left: number; effects: number } | null = null;
  #badSectors: { path: string; from: number; end: number }[] = [];

  constructor(readonly bucketCount: number) {}

  count(fault: string, times = 1): void {
    if (times > 0) this.met.set(fault, (this.met.get(fault) ?? 0) + times);
  }

  arm(operation: Operation, disk: MemoryDisk): void {
    switch (operation.kind) {
      case "failing sync":
        if (operation.of === "folder") this.#syncFails = { left: operation.nth };
        else if (operation.of === "any") disk.failSync(operation.nth);
        else disk.failSync(operation.nth, FILES[operation.of].test.bind(FILES[operation.of]));
        break;
      case "failing read":
        this.#readFails = { left: operation.nth, times: operation.times, of: operation.of };
        break;
      case "failing write":
        this.#writeFails = { left: operation.nth, shortened: operation.shortened };
        break;
      case "short calls":
        this.#short = { chance: new Chance(operation.seed), calls: operation.calls };
        break;
      case "slow disk":
        this.#slow = { ...operation };
        break;
      case "die":
        disk.powerCutAt(disk.effects + operation.effects);
        break;
      case "die at a journal header":
        this.#cutAfterHeader = { left: operation.nth, effects: operation.effects };
        break;
      case "bad sector":
        this.#spoilSector(disk, operation.of, new Chance(operation.seed));
        break;
    }
  }

  /** What would end a process is met no more. What is slow or short stays so. */
  spare(): void {
    this.#syncFails =
      this.#readFails =
      this.#writeFails =
      this.#cutAfterHeader =
        null;
  }

  /** A process begins on this disk. */
  beset(disk: MemoryDisk, environment: SeededEnvironment): void {
    this.#shaken.clear();
    this.#folderSyncFailed = false;
    disk.hooks = {
      read: (path, offset, length) => this.#beforeRead(path, offset, length),
      write: (path, offset, length) => {
        if (!disk.isLocked(LOCK)) this.writtenUnlocked ??= path;
        const cut = this.#cutAfterHeader;
        if (cut !== null && offset === 0 && FILES.journal.test(path) && --cut.left === 0) {
          disk.powerCutAt(disk.effects + cut.effects);
          this.#cutAfterHeader = null;
          this.count("power cut at a journal header");
        }
        this.#beforeWrite(path, offset, length);
      },
      shorten: (_path, length) => this.#shorten(length),
      syncFolder: (path) => this.#beforeSyncFolder(path),
      slow: (path) => {
        if (this.#slow === null) return 0;
        const { turns, of } = this.#slow;
        if (of !== "any" && !FILES[of].test(path)) return 0;
        if (--this.#slow.syncs <= 0) this.#slow = null;
        this.count("slow sync");
        environment.pass(SLOW_SYNC_MS);
        return turns;
      },
    };
  }

  /** An operation begins. */
  begin(): void {
    this.#readFailed = false;
  }

  /** Whether a sync failed in the process that has this disk: then nobody can say what is durable. */
  syncFailed(disk: MemoryDisk): boolean {
    return this.#folderSyncFailed || disk.failedSyncs > 0;
  }

  /** Whether a file of the journal has a sector that cannot be read. */
  get journalIsUnreadable(): boolean {
    return this.#badSectors.some(({ path }) => FILES.journal.test(path));
  }

  hit(bucket: number): void {
    this.#hit.add(bucket);
  }

  /** A store that was just opened says that a bucket is damaged. What the journal has lost is never forgotten; an error of the disk goes with its process. */
  told(bucket: number): void {
    if (this.ofJournal > 0 || !this.#shaken.has(bucket)) this.#hit.add(bucket);
  }

  get none(): boolean {
    return this.#hit.size + this.#shaken.size === 0;
  }

  inDoubt(bucket: number): boolean {
    return this.#hit.has(bucket) || this.#shaken.has(bucket);
  }

  /** Whether a call that concerns a partition, or all when null, may fail so. */
  explain(error: unknown, partition: number | null): boolean {
    if (!(error instanceof Damaged)) return this.isOfRead(error);
    return partition === null ? !this.none : this.inDoubt(bucketOf(partition, this.bucketCount));
  }

  /** Whether a call failed as a read of this operation did. */
  isOfRead(error: unknown): boolean {
    const causes = causesOf(error);
    if (causes.some((cause) => SeededEnvironment.wasFatal(cause))) return false;
    return this.#readFailed && causes.some((cause) => cause instanceof DiskFault && cause.call === "read");
  }

  #spoilSector(disk: MemoryDisk, of: FileClass, chance: Chance): void {
    const files = disk.files(DIR).filter((path) => FILES[of].test(path));
    if (files.length === 0) return;
    const path = chance.pick(files);
    const sector = Math.floor(chance.below(disk.contentOf(path).length + 1) / SECTOR_BYTES);
    this.#badSectors.push({ path, from: sector * SECTOR_BYTES, end: (sector + 1) * SECTOR_BYTES });
    if (of === "segment") this.hit(bucketOfPath(path)!);
  }

  #beforeRead(path: string, offset: number, length: number): void {
    if (this.#badSectors.some((bad) => bad.path === path && bad.from < offset + length && bad.end > offset)) {
      this.count("bad sector");
      throw new DiskFault("read", path);
    }
    const fails = this.#readFails;
    if (fails === null || (fails.of !== "any" && !FILES[fails.of].test(path)) || --fails.left > 0) return;
    if (--fails.times <= 0) this.#readFails = null;
    this.#readFailed = true;
    if (FILES.segment.test(path)) this.#shaken.add(bucketOfPath(path)!);
    this.count("EIO on read");
    throw new DiskFault("read", path);
  }

  #beforeWrite(path: string, offset: number, length: number): void {
    // A sector that is written is a good one again, and a file that is made anew lies in other ones.
    this.#badSectors = this.#badSectors.filter((bad) =>
      bad.path + ".tmp" !== path && (bad.path !== path || bad.from >= offset + length || bad.end <= offset)
    );
    const fails = this.#writeFails;
    if (fails === null || --fails.left > 0) return;
    if (this.#isToBeShortened(length)) return; // The call after the short one fails.
    this.#writeFails = null;
    this.count("EIO on write");
    throw new DiskFault("write", path);
  }

  #beforeSyncFolder(path: string): void {
    if (this.#syncFails === null || --this.#syncFails.left > 0) return;
    this.#syncFails = null;
    this.#folderSyncFailed = true;
    this.count("failing sync");
    throw new DiskFault("fsync", path);
  }

  #isToBeShortened(length: number): boolean {
    return this.#writeFails !== null && this.#writeFails.shortened && this.#writeFails.left === 0 && length > 1;
  }

  #shorten(length: number): number {
    if (this.#isToBeShortened(length)) return length >> 1;
    const short = this.#short;
    if (short === null || length < 2 || !short.chance.oneIn(2)) return length;
    if (--short.calls <= 0) this.#short = null;
    this.count("short read or write");
    return short.chance.between(1, length - 1);
  }
}
