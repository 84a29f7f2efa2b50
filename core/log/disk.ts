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
 * @module
 */
import * as fs from "node:fs";

/** The disk, or the quota, is full. The file may have taken part of the bytes. */
export class NoSpace extends Error {
  override readonly name = "NoSpace";
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
  /** Takes the lock file `path` for this process, or returns null when another holder has it. It goes with the process. */
  lock(path: string): Promise<{ release(): void } | null>;
  /** Bytes that may still be written below `folder`. */
  freeBytes(folder: string): number;
}

/** The files of this machine. */
export const systemDisk: Disk = {
  open(path, mode) {
    if (mode === "read") return new SystemReader(path, Deno.openSync(path));
    const flags = mode === "write" ? "r+" : "w+";
    return new SystemFile(path, attempt(() => fs.openSync(path, flags, 0o640)));
  },
  exists: (path) => fs.existsSync(path),
  list(folder) {
    return fs.existsSync(folder) ? fs.readdirSync(folder).sort() : [];
  },
  makeFolder: (folder) => void attempt(() => fs.mkdirSync(folder, { recursive: true, mode: 0o750 })),
  remove: (path) => fs.rmSync(path, { recursive: true, force: true }),
  rename: (from, to) => attempt(() => fs.renameSync(from, to)),
  async syncFolder(folder) {
    if (Deno.build.os === "windows") return; // A folder cannot be opened there; NTFS journals its names.
    const descriptor = fs.openSync(folder, "r");
    try {
      await new Promise<void>((resolve, reject) => fs.fsync(descriptor, (error) => error ? reject(error) : resolve()));
    } finally {
      fs.closeSync(descriptor);
    }
  },
  async lock(path) {
    const file = Deno.openSync(path, { read: true, write: true, create: true, mode: 0o640 });
    // There is no way to only try: ask, and when nothing was said in time, somebody else has it.
    const taken = file.lock(true).then(() => true);
    let timer: number | undefined;
    const late = new Promise<boolean>((resolve) => timer = setTimeout(() => resolve(false), LOCK_WAIT_MS));
    const held = await Promise.race([taken, late]);
    clearTimeout(timer);
    if (held) return { release: () => file.close() };
    taken.then(() => file.close()); // Should it come after all, it is not ours any more.
    return null;
  },
  freeBytes(folder) {
    const { bavail, bsize } = fs.statfsSync(folder);
    return bavail * bsize;
  },
};

/** How long a lock is asked for. A process that was just killed gives it back within milliseconds. */
const LOCK_WAIT_MS = 500;

class SystemFile implements DiskFile {
  readonly #descriptor: number;

  constructor(readonly path: string, descriptor: number) {
    this.#descriptor = descriptor;
  }

  size(): number {
    return fs.fstatSync(this.#descriptor).size;
  }

  read(into: Uint8Array, offset: number): number {
    let done = 0;
    while (done < into.length) {
      const count = fs.readSync(this.#descriptor, into, done, into.length - done, offset + done);
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  write(bytes: Uint8Array, offset: number): void {
    let done = 0;
    while (done < bytes.length) {
      done += attempt(() => fs.writeSync(this.#descriptor, bytes, done, bytes.length - done, offset + done));
    }
  }

  truncate(bytes: number): void {
    attempt(() => fs.ftruncateSync(this.#descriptor, bytes));
  }

  sync(): Promise<void> {
    return new Promise((resolve, reject) =>
      fs.fdatasync(this.#descriptor, (error) => error ? reject(error) : resolve())
    );
  }

  syncHere(): void {
    fs.fdatasyncSync(this.#descriptor);
  }

  close(): void {
    fs.closeSync(this.#descriptor);
  }
}

/**
 * A file that is only read. Through Deno's own interface, because `node:fs` asks the system where the file stands before
 * each read at an offset and puts it back after it: 2.7 µs a read of 4 KiB against 1.5.
 */
class SystemReader implements DiskFile {
  readonly #file: Deno.FsFile;

  constructor(readonly path: string, file: Deno.FsFile) {
    this.#file = file;
  }

  size(): number {
    return this.#file.statSync().size;
  }

  read(into: Uint8Array, offset: number): number {
    this.#file.seekSync(offset, Deno.SeekMode.Start);
    let done = this.#file.readSync(into) ?? 0;
    while (done < into.length) {
      const count = this.#file.readSync(into.subarray(done)) ?? 0;
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  write(): never {
    throw this.#notWritable();
  }

  truncate(): never {
    throw this.#notWritable();
  }

  sync(): Promise<never> {
    return Promise.reject(this.#notWritable());
  }

  syncHere(): never {
    throw this.#notWritable();
  }

  close(): void {
    this.#file.close();
  }

  #notWritable(): Error {
    return new Error(`${this.path} was opened for reading only`);
  }
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
