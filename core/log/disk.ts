/**
 * The seam between the engine and the system: the only file of core that touches files.
 *
 * Reads and writes are positional and synchronous: they meet the page cache (2 µs against 12 to 37 µs for an
 * asynchronous read) and cannot queue behind a sync. Only a sync waits for the disk, so only a sync is asynchronous.
 * Nothing is durable before `sync` returned, a new name in a folder not before `syncFolder` returned.
 *
 * Errors come as the system gave them, but for a full disk, which is always `NoSpace`. `memory_disk.ts` is the twin
 * for tests.
 *
 * A process may have so many files and sockets open and no more. Sockets take what they get, and a store that cannot
 * open a segment to sync it must end: so some descriptors are kept back, and lent to files when there is no other.
 *
 * @module
 */
import * as fs from "node:fs";

/** The disk, or the quota, is full. The file may have taken part of the bytes. */
export class NoSpace extends Error {
  override readonly name = "NoSpace";
}

/** The system lets this process open too few files. */
export class TooFewFiles extends Error {
  override readonly name = "TooFewFiles";
}

export interface DiskFile {
  readonly path: string;
  /** Bytes of the file as it is now. */
  size(): number;
  /** Reads into all of `into` from `offset`; returns how many bytes there were, fewer only at the end of the file. */
  read(into: Uint8Array, offset: number): number;
  /** Writes all of `bytes` at `offset`. A gap before it reads as zeros. @throws {NoSpace} */
  write(bytes: Uint8Array, offset: number): void;
  /** Cuts the file, or extends it with zeros. @throws {NoSpace} */
  truncate(bytes: number): void;
  /** Makes durable what was written through any handle of this file. */
  sync(): Promise<void>;
  /** The same, and keeps the thread until it is done: for a sync that is short, when nobody else is to be served. */
  syncHere(): void;
  close(): void;
}

/** `read`: it must exist. `write`: it must exist. `create`: made if missing, emptied if not. */
export type OpenMode = "read" | "write" | "create";

export interface Disk {
  /** @throws {Deno.errors.NotFound} for `read` and `write`, when there is no such file */
  open(path: string, mode: OpenMode): DiskFile;
  exists(path: string): boolean;
  /** Names in a folder, sorted; none when it is missing. */
  list(folder: string): string[];
  /** Makes a folder and those above it. */
  makeFolder(folder: string): void;
  /** Removes a file, or a folder with all in it. Nothing to do when it is missing. */
  remove(path: string): void;
  /** Replaces `to`. */
  rename(from: string, to: string): void;
  /** Makes names durable that were added to, removed from or changed in a folder. */
  syncFolder(folder: string): Promise<void>;
  /**
   * Takes the lock file `path` for this process, or returns null when another holder has it. It goes with the process.
   * Who only looks (`toRead`) writes nothing: where there is no file he makes none, and nobody has the lock.
   */
  lock(path: string, toRead?: boolean): Promise<{ release(): void } | null>;
  /** Bytes that may still be written below `folder`. */
  freeBytes(folder: string): number;
  /** Whether the process has hardly a file left to open: what need not stay open should be closed. Left out: never. */
  filesAreShort?(): boolean;
}

/** More than the files that are read (file_pool.ts), and beside them a new segment, those synced and index files. */
const SPARE_FILES = 24;

/** Descriptors that are kept back for files: those of the folder of each store. */
class SpareFiles {
  readonly #folders: string[] = [];
  readonly #kept: number[] = [];

  /** Keeps some for a store. @throws {TooFewFiles} */
  keep(folder: string): void {
    if (Deno.build.os === "windows") return; // A folder cannot be opened there, and files are not counted with sockets.
    this.#folders.push(folder);
    this.refill();
    if (!this.areLent) return;
    this.release(folder);
    throw new TooFewFiles(`A store takes ${SPARE_FILES} files and more: the system lets this process open no more`);
  }

  release(folder: string): void {
    const at = this.#folders.lastIndexOf(folder);
    if (at >= 0) this.#folders.splice(at, 1);
    while (this.#kept.length > this.#wanted) fs.closeSync(this.#kept.pop()!);
  }

  get areLent(): boolean {
    return this.#kept.length < this.#wanted;
  }

  /** Does what takes a descriptor, with a spare one if there is no other. */
  lend<T>(act: () => T): T {
    try {
      return act();
    } catch (error) {
      if (!isOutOfFiles(error) || this.#kept.length === 0) throw error;
      fs.closeSync(this.#kept.pop()!);
      return act();
    } finally {
      this.refill();
    }
  }

  /** To be called whenever a file was closed: before a socket takes its descriptor. */
  refill(): void {
    try {
      while (this.areLent) this.#kept.push(fs.openSync(this.#folders.at(-1)!, "r"));
    } catch (error) {
      if (!isOutOfFiles(error)) throw error; // Else they stay lent.
    }
  }

  get #wanted(): number {
    return SPARE_FILES * this.#folders.length;
  }
}

function isOutOfFiles(error: unknown): boolean {
  return ["EMFILE", "ENFILE"].includes((error as { code?: string }).code ?? "");
}

const spareFiles = new SpareFiles();

/** The files of this machine. */
export const systemDisk: Disk = {
  open(path, mode) {
    const created = mode === "create";
    const options = mode === "read"
      ? { read: true }
      : { read: true, write: true, create: created, truncate: created, mode: 0o640 };
    return new SystemFile(path, attempt(() => spareFiles.lend(() => Deno.openSync(path, options))));
  },
  exists: (path) => fs.existsSync(path),
  list(folder) {
    return fs.existsSync(folder) ? spareFiles.lend(() => fs.readdirSync(folder)).sort() : [];
  },
  makeFolder: (folder) => void attempt(() => fs.mkdirSync(folder, { recursive: true, mode: 0o750 })),
  remove: (path) => spareFiles.lend(() => fs.rmSync(path, { recursive: true, force: true })),
  rename: (from, to) => attempt(() => fs.renameSync(from, to)),
  async syncFolder(folder) {
    if (Deno.build.os === "windows") return; // A folder cannot be opened there; NTFS journals its names.
    const descriptor = spareFiles.lend(() => fs.openSync(folder, "r"));
    try {
      await new Promise<void>((resolve, reject) => fs.fsync(descriptor, (error) => error ? reject(error) : resolve()));
    } finally {
      fs.closeSync(descriptor);
      spareFiles.refill();
    }
  },
  async lock(path, toRead = false) {
    if (toRead && !systemDisk.exists(path)) return { release: () => {} };
    const file = Deno.openSync(path, toRead ? { read: true } : { read: true, write: true, create: true, mode: 0o640 });
    // There is no way to only try: ask, and when nothing was said in time, somebody else has it.
    const taken = file.lock(true).then(() => true);
    let timer: number | undefined;
    const late = new Promise<boolean>((resolve) => timer = setTimeout(() => resolve(false), LOCK_WAIT_MS));
    const held = await Promise.race([taken, late]);
    clearTimeout(timer);
    if (held) {
      const folder = path.slice(0, path.lastIndexOf("/"));
      const release = () => {
        spareFiles.release(folder);
        file.close();
      };
      try {
        spareFiles.keep(folder);
      } catch (error) {
        file.close();
        throw error;
      }
      return { release };
    }
    taken.then(() => file.close()); // Should it come after all, it is not ours any more.
    return null;
  },
  freeBytes(folder) {
    const { bavail, bsize } = fs.statfsSync(folder);
    return bavail * bsize;
  },
  filesAreShort: () => spareFiles.areLent,
};

/** How long a lock is asked for. A process that was just killed gives it back within milliseconds. */
const LOCK_WAIT_MS = 500;

/**
 * A file, through Deno's own interface: `node:fs` asks the system where the file stands before each read and write at an
 * offset and puts it back after it, 2.7 µs a read of 4 KiB against 1.5. Where it stands is remembered, so that one write
 * behind another, as nearly all are, asks nothing of the system but the write.
 */
class SystemFile implements DiskFile {
  readonly #file: Deno.FsFile;
  /** Where the system has the file stand; -1 when that is not known. */
  #position = 0;

  constructor(readonly path: string, file: Deno.FsFile) {
    this.#file = file;
  }

  size(): number {
    return this.#file.statSync().size;
  }

  read(into: Uint8Array, offset: number): number {
    this.#goTo(offset);
    const done = readWhole(into, (part) => this.#file.readSync(part) ?? 0);
    this.#position = offset + done;
    return done;
  }

  write(bytes: Uint8Array, offset: number): void {
    attempt(() => {
      this.#goTo(offset);
      writeWhole(bytes, (part) => this.#file.writeSync(part));
    });
    this.#position = offset + bytes.length;
  }

  truncate(bytes: number): void {
    attempt(() => this.#file.truncateSync(bytes));
  }

  sync(): Promise<void> {
    return this.#file.syncData();
  }

  syncHere(): void {
    this.#file.syncDataSync();
  }

  close(): void {
    this.#file.close();
    spareFiles.refill();
  }

  /** What is done there may fail halfway: until it is done, nobody knows where the file stands. */
  #goTo(offset: number): void {
    if (this.#position !== offset) this.#file.seekSync(offset, Deno.SeekMode.Start);
    this.#position = -1;
  }
}

/** Reads on until `into` is full or the file ends: a system may give fewer bytes than were asked for, 0 only at the end. */
export function readWhole(into: Uint8Array, read: (part: Uint8Array, done: number) => number): number {
  let done = 0;
  while (done < into.length) {
    const count = read(done === 0 ? into : into.subarray(done), done);
    if (count === 0) break;
    done += count;
  }
  return done;
}

/** Writes on until all is written: a system may take fewer bytes than it was given. */
export function writeWhole(bytes: Uint8Array, write: (part: Uint8Array, done: number) => number): void {
  for (let done = 0; done < bytes.length;) done += write(done === 0 ? bytes : bytes.subarray(done), done);
}

/** Whether a read failed because the medium does not give the bytes back: they are as lost as wrong ones. */
export function isUnreadable(error: unknown): boolean {
  return (error as { code?: string }).code === "EIO";
}

function attempt<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    const code = (error as { code?: string }).code;
    if (code === "ENOENT") throw new Deno.errors.NotFound((error as Error).message, { cause: error });
    if (code === "ENOSPC" || code === "EDQUOT") throw new NoSpace((error as Error).message, { cause: error });
    throw error;
  }
}
