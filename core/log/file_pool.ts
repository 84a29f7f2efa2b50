/**
 * Files open for reading, at most so many: a store has more segments than a process may hold files open. Where the
 * system gives fewer, half of them are closed, for good: the sockets of clients want some as well.
 *
 * Reads are synchronous, so a file that is closed to make room is never one in use. A file that was replaced or
 * removed must be forgotten first, else the old one goes on being read.
 *
 * @module
 */
import type { Disk, DiskFile } from "./disk.ts";

/** Enough for the newest segments of many buckets with their index files, far below the usual limit of 1024. */
const OPEN_FILES_MAX = 256;
/** A read may go to a segment and its index files in turn. So many are left of those that the disk keeps back. */
const OPEN_FILES_MIN = 8;

export class FilePool {
  /** In order of use, the least recent first. */
  readonly #open = new Map<string, DiskFile>();

  /** Counts how often bytes that could have been read were taken back: what was read before is not to be trusted. */
  generation = 0;

  #openFilesMax: number;

  constructor(readonly disk: Disk, openFilesMax = OPEN_FILES_MAX) {
    this.#openFilesMax = openFilesMax;
  }

  /** Reads into all of `into`; returns how many bytes there were, fewer only at the end of the file. */
  read(path: string, into: Uint8Array, offset: number): number {
    return this.#file(path).read(into, offset);
  }

  size(path: string): number {
    return this.#file(path).size();
  }

  /** The next read opens `path` anew. */
  forget(path: string): void {
    const file = this.#open.get(path);
    if (file === undefined) return;
    this.#open.delete(path);
    file.close();
  }

  close(): void {
    for (const path of [...this.#open.keys()]) this.forget(path);
  }

  #file(path: string): DiskFile {
    let file = this.#open.get(path);
    if (file !== undefined) {
      this.#open.delete(path);
    } else {
      file = this.disk.open(path, "read");
      if (this.disk.filesAreShort?.()) this.#openFilesMax = Math.max(OPEN_FILES_MIN, Math.floor(this.#open.size / 2));
      while (this.#open.size >= this.#openFilesMax) this.forget(this.#open.keys().next().value!);
    }
    this.#open.set(path, file);
    return file;
  }
}
