/**
 * Real files that lose what was not synced: a disk on which kill -9 is a power cut.
 *
 *     write, truncate            →  memory  ─ sync ───────→  the file
 *     create, rename, remove     →  memory  ─ syncFolder ─→  the name
 *
 * The process reads what it wrote; the files below `root` have only what was synced, and, as the system may write
 * whatever it likes before it is asked to, any sectors and names besides, by a seed, in no order. So when the process
 * is killed, `root` is what a machine finds after its power was cut.
 *
 * A file or folder whose name is not synced yet lies in the folder `aside` on the same file system, which nobody looks
 * into again. It is `memory_disk.ts` for those who must leave the process; that one knows more about failing.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../core/chance.ts";
import { type Disk, type DiskFile, type OpenMode, systemDisk } from "../core/log/disk.ts";

const SECTOR_BYTES = 512;
/** Once in so many writes, and changes of names, some of what is not synced is written all the same. */
const EARLY_ONE_IN = 6;

export interface UnsyncedDiskOptions {
  /** The folder that this disk is. */
  root: string;
  aside: string;
  seed: number;
  /** A sync takes up to so long, so that there is something unsynced as a rule. */
  syncMsMax: number;
}

type Node = File | Folder;

/** Where a node really is: under a name in a folder, or aside. Null: another took its name. */
type Place = { folder: Folder; name: string } | { aside: string } | null;

export class UnsyncedDisk implements Disk {
  /** Syncs are answered, and nothing is written: a disk that cannot be trusted. */
  lies = false;
  readonly #options: UnsyncedDiskOptions;
  readonly #chance: Chance;
  readonly #root: Folder;
  #made = 0;

  constructor(options: UnsyncedDiskOptions) {
    this.#options = options;
    this.#chance = new Chance(options.seed);
    systemDisk.makeFolder(options.aside);
    this.#root = new Folder({ aside: options.root });
    this.#root.readNames();
  }

  open(path: string, mode: OpenMode): DiskFile {
    const { folder, name } = this.#placeOf(path);
    let file = folder.names.get(name);
    if (file === undefined) {
      if (mode !== "create") throw new Deno.errors.NotFound(path);
      file = new File(this.#newPlace());
      systemDisk.open(file.path, "create").close();
      this.#name(folder, name, file);
    }
    assert(file instanceof File, `${path} is a folder`);
    const handle = new Handle(path, file, this);
    if (mode === "create") handle.truncate(0);
    return handle;
  }

  exists(path: string): boolean {
    return this.#find(path) !== undefined;
  }

  list(path: string): string[] {
    const folder = this.#find(path);
    return folder instanceof Folder ? [...folder.names.keys()].sort() : [];
  }

  makeFolder(path: string): void {
    if (this.exists(path)) return;
    const { folder, name } = this.#placeOf(path, true);
    const made = new Folder(this.#newPlace());
    systemDisk.makeFolder(made.path);
    this.#name(folder, name, made);
  }

  remove(path: string): void {
    if (!this.exists(path)) return;
    const { folder, name } = this.#placeOf(path);
    folder.names.delete(name);
    if (this.#early()) this.#syncName(folder, name);
  }

  rename(from: string, to: string): void {
    const { folder, name } = this.#placeOf(from);
    const target = this.#placeOf(to);
    const node = folder.names.get(name);
    if (node === undefined) throw new Deno.errors.NotFound(from);
    assert(target.folder === folder, "A name moves within its folder");
    folder.names.delete(name);
    this.#name(folder, target.name, node);
  }

  async syncFolder(path: string): Promise<void> {
    await this.syncTakes();
    const folder = this.#find(path);
    if (!(folder instanceof Folder) || this.lies) return; // One above the root is not of this disk.
    for (const name of [...folder.synced.keys(), ...folder.names.keys()]) this.#syncName(folder, name);
  }

  /** A lock is of the processes and not of the disk: it is taken at once. */
  lock(path: string): Promise<{ release(): void } | null> {
    const { folder, name } = this.#placeOf(path);
    return systemDisk.lock(`${folder.path}/${name}`);
  }

  freeBytes(_folder: string): number {
    return systemDisk.freeBytes(this.#options.root);
  }

  // For the handles.

  /** Writes some of what is not synced, now and then. */
  afterWrite(file: File): void {
    if (!this.#early()) return;
    const one = 2 + this.#chance.below(4);
    file.write([...file.unsynced].filter(() => this.#chance.oneIn(one)));
  }

  syncFile(file: File): void {
    if (this.lies) return;
    const sectors = [...file.unsynced];
    for (let i = sectors.length - 1; i > 0; i--) {
      const j = this.#chance.below(i + 1);
      [sectors[i], sectors[j]] = [sectors[j]!, sectors[i]!];
    }
    file.write(sectors);
    file.unsynced.clear();
    file.cut();
  }

  syncTakes(): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, this.#chance.below(this.#options.syncMsMax + 1)));
  }

  #early(): boolean {
    return this.#chance.oneIn(EARLY_ONE_IN);
  }

  #name(folder: Folder, name: string, node: Node): void {
    folder.names.set(name, node);
    if (this.#early()) this.#syncName(folder, name);
  }

  /** Makes a name on the disk what it is here. */
  #syncName(folder: Folder, name: string): void {
    const now = folder.names.get(name), before = folder.synced.get(name);
    if (now === before) return;
    // A rename is one step: the old name cannot be gone while the new one is not there.
    const renamed = now !== undefined ? undefined : nameOf(folder.names, before!);
    if (renamed !== undefined) return this.#syncName(folder, renamed);
    if (before !== undefined) {
      // Replaced in one step, if it is a file that has no other name by now.
      const replaced = now !== undefined && before instanceof File && nameOf(folder.names, before) === undefined;
      if (replaced) before.place = null;
      else before.move(this.#newPlace());
    }
    folder.synced.delete(name);
    if (now === undefined) return;
    const oldName = nameOf(folder.synced, now);
    now.move({ folder, name });
    if (oldName !== undefined) folder.synced.delete(oldName);
    folder.synced.set(name, now);
  }

  #newPlace(): Place {
    return { aside: `${this.#options.aside}/${this.#made++}` };
  }

  #find(path: string): Node | undefined {
    const { root } = this.#options;
    if (path === root) return this.#root;
    if (!path.startsWith(`${root}/`)) return undefined;
    let node: Node | undefined = this.#root;
    for (const name of path.slice(root.length + 1).split("/")) {
      node = node instanceof Folder ? node.names.get(name) : undefined;
    }
    return node;
  }

  #placeOf(path: string, make = false): { folder: Folder; name: string } {
    const above = path.slice(0, path.lastIndexOf("/"));
    if (make) this.makeFolder(above);
    const folder = this.#find(above);
    if (!(folder instanceof Folder)) throw new Deno.errors.NotFound(path);
    return { folder, name: path.slice(above.length + 1) };
  }
}

function nameOf(names: Map<string, Node>, node: Node): string | undefined {
  for (const [name, one] of names) if (one === node) return name;
  return undefined;
}

/** What can have a name. */
abstract class Named {
  constructor(public place: Place) {}

  /** Where it really is. */
  get path(): string {
    assert(this.place !== null, "Another has its name");
    return "aside" in this.place ? this.place.aside : `${this.place.folder.path}/${this.place.name}`;
  }

  move(to: Place): void {
    const from = this.path;
    this.place = to;
    systemDisk.rename(from, this.path);
  }
}

class Folder extends Named {
  readonly names = new Map<string, Node>();
  /** What a power cut leaves of `names`. */
  readonly synced = new Map<string, Node>();

  /** Takes what is there as synced. */
  readNames(): void {
    for (const { name, isDirectory } of Deno.readDirSync(this.path)) {
      const node = isDirectory ? new Folder({ folder: this, name }) : new File({ folder: this, name });
      this.names.set(name, node);
      this.synced.set(name, node);
      if (node instanceof Folder) node.readNames();
    }
  }
}

class File extends Named {
  size = 0;
  /** Numbers of sectors of which the real file may have other bytes. */
  readonly unsynced = new Set<number>();
  #bytes: Uint8Array | null = null;

  /** All that it has, and room for more. */
  bytes(size: number): Uint8Array {
    if (this.#bytes === null) {
      this.#bytes = Deno.readFileSync(this.path);
      this.size = this.#bytes.length;
    }
    if (size > this.#bytes.length) {
      const larger = new Uint8Array(2 * size);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    return this.#bytes;
  }

  touched(from: number, end: number): void {
    for (let sector = Math.floor(from / SECTOR_BYTES); sector * SECTOR_BYTES < end; sector++) this.unsynced.add(sector);
  }

  /** Writes sectors to the real file. */
  write(sectors: number[]): void {
    this.#real((file) => {
      for (const sector of sectors) {
        const bytes = this.bytes(0).subarray(sector * SECTOR_BYTES, Math.min((sector + 1) * SECTOR_BYTES, this.size));
        if (bytes.length > 0) file.write(bytes, sector * SECTOR_BYTES);
      }
    });
  }

  /** Gives the real file its size. */
  cut(): void {
    this.#real((file) => file.truncate(this.size));
  }

  #real(act: (file: DiskFile) => void): void {
    if (this.place === null) return; // Nobody can find it any more.
    const file = systemDisk.open(this.path, "write");
    try {
      act(file);
    } finally {
      file.close();
    }
  }
}

class Handle implements DiskFile {
  readonly #file: File;
  readonly #disk: UnsyncedDisk;

  constructor(readonly path: string, file: File, disk: UnsyncedDisk) {
    this.#file = file;
    this.#disk = disk;
    file.bytes(0);
  }

  size(): number {
    return this.#file.size;
  }

  read(into: Uint8Array, offset: number): number {
    const found = this.#file.bytes(0).subarray(offset, Math.min(offset + into.length, this.#file.size));
    into.set(found);
    return found.length;
  }

  write(bytes: Uint8Array, offset: number): void {
    const file = this.#file, end = offset + bytes.length;
    file.bytes(end).set(bytes, offset);
    file.touched(Math.min(offset, file.size), end); // The gap as well: the real file may have something else there.
    file.size = Math.max(file.size, end);
    this.#disk.afterWrite(file);
  }

  truncate(size: number): void {
    const file = this.#file;
    const bytes = file.bytes(size);
    if (size > file.size) file.touched(file.size, size);
    else bytes.fill(0, size, file.size);
    file.size = size;
    this.#disk.afterWrite(file);
  }

  async sync(): Promise<void> {
    await this.#disk.syncTakes();
    this.#disk.syncFile(this.#file);
  }

  syncHere(): void {
    this.#disk.syncFile(this.#file);
  }

  close(): void {}
}
