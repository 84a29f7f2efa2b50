/**
 * A disk that is only read: what is written stays in memory, over the files that are there.
 *
 * It lets `check` and `dump` open a folder just as the store does after a crash, redo and cuts and new indexes included,
 * without a byte of it being touched. Written pages are kept until it is dropped.
 *
 * @module
 */
import type { Disk, DiskFile, OpenMode } from "./disk.ts";

const PAGE_BYTES = 4096;

/** A file that was opened for writing. */
interface Overlaid {
  /** Null: nothing of it is on the disk below. */
  base: DiskFile | null;
  /** Bytes of the file below that still count. */
  baseSize: number;
  size: number;
  pages: Map<number, Uint8Array>;
}

export class OverlayDisk implements Disk {
  readonly #files = new Map<string, Overlaid>();
  readonly #folders = new Set<string>();
  readonly #removed = new Set<string>();
  /** Files below that were opened for what is written over them. */
  readonly #bases: DiskFile[] = [];

  constructor(readonly below: Disk) {}

  open(path: string, mode: OpenMode): DiskFile {
    let file = this.#files.get(path);
    if (file === undefined && mode !== "create" && this.#isRemoved(path)) throw new Deno.errors.NotFound(path);
    if (file === undefined && mode === "read") return this.below.open(path, "read");
    if (mode === "create") {
      file = { base: null, baseSize: 0, size: 0, pages: new Map() };
      this.#files.set(path, file);
    } else if (file === undefined) {
      const base = this.below.open(path, "read");
      this.#bases.push(base);
      file = { base, baseSize: base.size(), size: base.size(), pages: new Map() };
      this.#files.set(path, file);
    }
    return new OverlayFile(path, file);
  }

  exists(path: string): boolean {
    return this.#files.has(path) || this.#folders.has(path) || (!this.#isRemoved(path) && this.below.exists(path));
  }

  list(folder: string): string[] {
    const names = new Set(this.below.list(folder).filter((name) => !this.#isRemoved(`${folder}/${name}`)));
    for (const path of [...this.#files.keys(), ...this.#folders]) {
      if (path.startsWith(`${folder}/`)) names.add(path.slice(folder.length + 1).split("/")[0]!);
    }
    return [...names].sort();
  }

  makeFolder(folder: string): void {
    this.#folders.add(folder);
  }

  remove(path: string): void {
    this.#removed.add(path);
    for (const known of [...this.#files.keys()]) {
      if (known === path || known.startsWith(`${path}/`)) this.#files.delete(known);
    }
    for (const known of [...this.#folders]) {
      if (known === path || known.startsWith(`${path}/`)) this.#folders.delete(known);
    }
  }

  rename(from: string, to: string): void {
    const file = this.#files.get(from);
    if (file === undefined) throw new Error(`Only a file that was written here can be renamed: ${from}`);
    this.#files.delete(from);
    this.#files.set(to, file);
  }

  async syncFolder(_folder: string): Promise<void> {}

  lock(path: string): Promise<{ release(): void } | null> {
    return this.below.lock(path, true);
  }

  freeBytes(folder: string): number {
    return this.below.freeBytes(folder);
  }

  /** Lets go of the files below: nothing is read any more. */
  close(): void {
    for (const base of this.#bases.splice(0)) base.close();
  }

  #isRemoved(path: string): boolean {
    for (let up = path; up !== ""; up = up.slice(0, Math.max(0, up.lastIndexOf("/")))) {
      if (this.#removed.has(up)) return true;
    }
    return false;
  }
}

class OverlayFile implements DiskFile {
  readonly #file: Overlaid;

  constructor(readonly path: string, file: Overlaid) {
    this.#file = file;
  }

  size(): number {
    return this.#file.size;
  }

  read(into: Uint8Array, offset: number): number {
    const { base, baseSize, size, pages } = this.#file;
    const count = Math.max(0, Math.min(into.length, size - offset));
    const wanted = into.subarray(0, count);
    wanted.fill(0);
    if (base !== null && offset < baseSize) base.read(wanted.subarray(0, Math.min(count, baseSize - offset)), offset);
    for (let page = Math.floor(offset / PAGE_BYTES); page * PAGE_BYTES < offset + count; page++) {
      const bytes = pages.get(page);
      if (bytes === undefined) continue;
      const start = Math.max(offset, page * PAGE_BYTES);
      const end = Math.min(offset + count, (page + 1) * PAGE_BYTES);
      wanted.set(bytes.subarray(start - page * PAGE_BYTES, end - page * PAGE_BYTES), start - offset);
    }
    return count;
  }

  write(bytes: Uint8Array, offset: number): void {
    const file = this.#file;
    for (let done = 0; done < bytes.length;) {
      const page = Math.floor((offset + done) / PAGE_BYTES);
      let into = file.pages.get(page);
      if (into === undefined) {
        into = new Uint8Array(PAGE_BYTES);
        this.read(
          into.subarray(0, Math.max(0, Math.min(PAGE_BYTES, file.size - page * PAGE_BYTES))),
          page * PAGE_BYTES,
        );
        file.pages.set(page, into);
      }
      const at = offset + done - page * PAGE_BYTES;
      const part = bytes.subarray(done, done + PAGE_BYTES - at);
      into.set(part, at);
      done += part.length;
    }
    file.size = Math.max(file.size, offset + bytes.length);
  }

  truncate(bytes: number): void {
    const file = this.#file;
    file.size = bytes;
    file.baseSize = Math.min(file.baseSize, bytes);
    for (const page of [...file.pages.keys()]) {
      if (page * PAGE_BYTES >= bytes) file.pages.delete(page);
      else if ((page + 1) * PAGE_BYTES > bytes) file.pages.get(page)!.fill(0, bytes - page * PAGE_BYTES);
    }
  }

  async sync(): Promise<void> {}

  syncHere(): void {}

  close(): void {}
}
