/**
 * A disk in memory, for tests: the twin of `systemDisk` that can lose its power.
 *
 * It keeps apart what was written and what is durable, for the bytes of files and for the names in folders alike:
 *
 *     write, truncate            →  current, and pending  ─ sync ───────→  durable
 *     create, rename, remove     →  current, and pending  ─ syncFolder ─→  durable
 *
 * Readers see the current. A killed process (`afterKill`) leaves the current behind. A power cut (`afterPowerCut`)
 * leaves the durable, and of the pending whatever a seed says: each sector of 512 bytes as it was at some moment since
 * the last sync, in no order; sizes and names of some moment as well. Never something that was at no moment.
 *
 * Every change and every sync counts as one effect, so that a test can run a story once, count its effects, and then
 * cut the power at each of them. Copies share their pages until one of them writes: making one is cheap.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { Chance } from "../chance.ts";
import { type Disk, type DiskFile, NoSpace, type OpenMode, readWhole, writeWhole } from "./disk.ts";

const PAGE_BYTES = 4096;
const SECTOR_BYTES = 512;

/** The machine has no power, or the process is killed: nothing can be asked of this disk any more. */
export class PowerCut extends Error {
  override readonly name = "PowerCut";
}

/** What a test wants to happen before a call takes effect: throw to make it fail, or (syncs) wait to make it slow. */
export interface MemoryDiskHooks {
  read?: (path: string, offset: number, length: number) => void;
  write?: (path: string, offset: number, length: number) => void;
  /** How many bytes, at least one, a call that wants `length` of them moves: a system may move fewer, and is asked again. */
  shorten?: (path: string, length: number) => number;
  sync?: (path: string) => void | Promise<void>;
  /** How many turns of the event loop a sync of this file or folder takes. One on the spot holds them all up. */
  slow?: (path: string) => number;
  syncFolder?: (path: string) => void | Promise<void>;
}

export interface MemoryDiskOptions {
  /** How long syncs take, and what a failing sync or a power cut leaves behind. */
  seed?: number;
  /** No bound when left out. */
  capacityBytes?: number;
}

/** How often a write was left in part, and a later write came through where an earlier one did not. */
export interface Wounds {
  tornWrites: number;
  writesOutOfOrder: number;
}

/** What decides about changes that are not durable, and what counts it. */
interface Fate {
  chance: Chance;
  wounds: Wounds;
}

export class MemoryDisk implements Disk {
  /** What was done so far: every write, truncate, sync, made folder, new name, rename, remove, syncFolder. */
  effects = 0;
  /** Syncs of files that failed, of those that `failSync` chose. */
  failedSyncs = 0;
  /** Bytes that all files together may have. May be changed at any time, as a disk that others fill. */
  capacityBytes: number;
  hooks: MemoryDiskHooks = {};
  /** What the power cut that this disk was found after did to writes that were under way. */
  readonly wounds: Wounds = { tornWrites: 0, writesOutOfOrder: 0 };
  readonly seed: number;
  #root = new Folder();
  #chance: Chance;
  #cutAt = Infinity;
  /** Until a sync fails, of those that are meant. */
  #syncsLeft = Infinity;
  #syncMeant: (path: string) => boolean = () => true;
  #gone: PowerCut | null = null;
  readonly #locks = new Set<string>();

  constructor(options: MemoryDiskOptions = {}) {
    this.seed = options.seed ?? 1;
    this.capacityBytes = options.capacityBytes ?? Infinity;
    this.#chance = new Chance(this.seed);
  }

  // What a test does to it.

  /** The power goes at the `n`-th effect, counted from the first ever: it happens in part, and everything after throws `PowerCut`. */
  powerCutAt(n: number): void {
    this.#cutAt = n;
  }

  /** Whether the power is cut, or the process killed. */
  get isGone(): boolean {
    return this.#gone !== null;
  }

  /**
   * The `n`-th sync from now fails (1 is the next), of all files or of those that are meant. What it should have made
   * durable is lost in part, and later syncs do not mend that.
   */
  failSync(n: number, isMeant: (path: string) => boolean = () => true): void {
    this.#syncsLeft = n;
    this.#syncMeant = isMeant;
  }

  /** What the machine finds when its power returns. This disk is gone. */
  afterPowerCut(seed: number): MemoryDisk {
    this.#gone ??= new PowerCut("The power is cut");
    const chance = new Chance(seed);
    const disk = new MemoryDisk({ seed, capacityBytes: this.capacityBytes });
    disk.#root = this.#root.afterPowerCut({ chance, wounds: disk.wounds }, new Map());
    return disk;
  }

  /** What the next process finds after `kill -9`: all that was written, durable or not, and no locks. This disk is gone. */
  afterKill(): MemoryDisk {
    const disk = this.clone();
    this.#gone ??= new PowerCut("The process is killed");
    return disk;
  }

  /** The same disk again, without locks, hooks or planned faults. */
  clone(): MemoryDisk {
    const disk = new MemoryDisk({ seed: this.seed, capacityBytes: this.capacityBytes });
    disk.#root = this.#root.clone(new Map());
    return disk;
  }

  /** Flips the bits of `mask` in a byte, as a bad disk does: nobody wrote that, and no sync mends it. */
  flip(path: string, offset: number, mask: number): void {
    this.#spoil(path, offset, 1, (bytes) => bytes[0]! ^= mask);
  }

  /** Puts other bytes into a file, as a disk does that writes in the wrong place: no sync mends it. */
  spoil(path: string, offset: number, bytes: Uint8Array): void {
    this.#spoil(path, offset, bytes.length, (had) => had.set(bytes.subarray(0, had.length)));
  }

  #spoil(path: string, offset: number, length: number, change: (bytes: Uint8Array) => void): void {
    const file = this.#file(path);
    for (const content of [file.current, file.durable]) {
      const bytes = new Uint8Array(Math.max(0, Math.min(length, content.size - offset)));
      if (bytes.length === 0) continue;
      content.read(bytes, offset);
      change(bytes);
      content.write(bytes, offset);
    }
  }

  /** Cuts a file to `bytes`, durably. */
  cut(path: string, bytes: number): void {
    const file = this.#file(path);
    file.current.resize(bytes);
    file.durable = file.current.clone();
    file.pending = [];
  }

  /** Takes a file away, durably. */
  lose(path: string): void {
    this.#parent(path).forget(nameOf(path));
  }

  /** All files below a folder, sorted. */
  files(folder = ""): string[] {
    const found = this.#find(folder);
    const prefix = folder === "" || folder.endsWith("/") ? folder : folder + "/";
    if (!(found instanceof Folder)) return [];
    return [...found.current].flatMap(([name, node]) =>
      node instanceof Folder ? this.files(prefix + name) : [prefix + name]
    ).sort();
  }

  /** All bytes of a file. */
  contentOf(path: string): Uint8Array {
    const { current } = this.#file(path);
    const bytes = new Uint8Array(current.size);
    current.read(bytes, 0);
    return bytes;
  }

  /** Bytes of all files together. */
  get usedBytes(): number {
    return this.#root.bytes();
  }

  // What the engine does with it.

  open(path: string, mode: OpenMode): DiskFile {
    this.#assertPower();
    let node = this.#find(path);
    if (node instanceof Folder) throw systemError("EISDIR", `open '${path}'`);
    if (node === undefined && mode !== "create") throw notFound("open", path);
    if (node === undefined) {
      const made = new File();
      this.#change(() => this.#parent(path).set([[nameOf(path), made]]));
      node = made;
    } else if (mode === "create") {
      this.#truncate(node, 0);
    }
    return new MemoryFile(path, mode, node, this.#actions);
  }

  exists(path: string): boolean {
    this.#assertPower();
    return this.#find(path) !== undefined;
  }

  list(folder: string): string[] {
    this.#assertPower();
    const found = this.#find(folder);
    return found instanceof Folder ? [...found.current.keys()].sort() : [];
  }

  makeFolder(path: string): void {
    this.#assertPower();
    let folder = this.#root;
    for (const part of partsOf(path)) {
      const known = folder.current.get(part);
      if (known instanceof File) throw systemError("EEXIST", `mkdir '${path}'`);
      const next = known ?? new Folder();
      if (known === undefined) {
        const above = folder;
        this.#change(() => above.set([[part, next]]));
      }
      folder = next;
    }
  }

  remove(path: string): void {
    this.#assertPower();
    const node = this.#find(path);
    if (node === undefined) return;
    // What is in a folder goes first, each name by itself: a power cut may leave a folder that is half empty.
    if (node instanceof Folder) { for (const name of [...node.current.keys()]) this.remove(`${path}/${name}`); }
    this.#change(() => this.#parent(path).set([[nameOf(path), null]]));
  }

  rename(from: string, to: string): void {
    this.#assertPower();
    const node = this.#find(from);
    if (node === undefined) throw notFound("rename", from);
    const source = this.#parent(from);
    const target = this.#parent(to);
    this.#change(() => {
      if (source === target) return source.set([[nameOf(from), null], [nameOf(to), node]]);
      target.set([[nameOf(to), node]]);
      source.set([[nameOf(from), null]]);
    });
  }

  async syncFolder(path: string): Promise<void> {
    this.#assertPower();
    const folder = this.#find(path);
    if (!(folder instanceof Folder)) throw notFound("open", path);
    const last = folder.pending.at(-1);
    await this.hooks.syncFolder?.(path);
    await this.#someTurns(path);
    this.#assertPower();
    this.#change(() => folder.sync(last), () => {
      if (this.#chance.oneIn(2)) folder.sync(last);
    });
  }

  lock(path: string, toRead = false): Promise<{ release(): void } | null> {
    return new Promise((resolve) => {
      if (!this.exists(path)) {
        if (toRead) return resolve({ release: () => {} });
        this.open(path, "create").close();
      }
      const key = partsOf(path).join("/");
      if (this.#locks.has(key)) return resolve(null);
      this.#locks.add(key);
      resolve({ release: () => void this.#locks.delete(key) });
    });
  }

  /** Whether somebody holds the lock of a file. */
  isLocked(path: string): boolean {
    return this.#locks.has(partsOf(path).join("/"));
  }

  freeBytes(_folder: string): number {
    return this.capacityBytes === Infinity ? Number.MAX_SAFE_INTEGER : Math.max(0, this.capacityBytes - this.usedBytes);
  }

  /** What an open file may ask of its disk. */
  readonly #actions: FileActions = {
    read: (path, file, into, offset) => {
      this.#assertPower();
      this.hooks.read?.(path, offset, into.length);
      const wanted = this.hooks.shorten?.(path, into.length) ?? into.length;
      return file.current.read(into.subarray(0, wanted), offset);
    },
    size: (file) => {
      this.#assertPower();
      return file.current.size;
    },
    write: (path, file, bytes, offset) => {
      this.#assertPower();
      this.hooks.write?.(path, offset, bytes.length);
      const wanted = this.hooks.shorten?.(path, bytes.length) ?? bytes.length;
      const growth = offset + wanted - file.current.size;
      const room = growth <= 0 ? Infinity : this.freeBytes(path);
      const taken = growth <= room ? wanted : Math.max(0, wanted - (growth - room));
      if (taken > 0) this.#change(() => file.write(bytes.subarray(0, taken), offset));
      if (taken === 0 && wanted > 0) throw new NoSpace(`ENOSPC: no space left on device, write '${path}'`);
      return taken;
    },
    truncate: (path, file, size) => {
      this.#assertPower();
      if (size - file.current.size > this.freeBytes(path)) {
        throw new NoSpace(`ENOSPC: no space left on device, ftruncate '${path}'`);
      }
      this.#truncate(file, size);
    },
    sync: async (path, file) => {
      this.#assertPower();
      const fails = this.#syncMeant(path) && --this.#syncsLeft === 0;
      const last = file.pending.at(-1); // What is written while the sync runs is not covered by it.
      await this.hooks.sync?.(path);
      await this.#someTurns(path);
      this.#assertPower();
      this.#endSync(path, file, last, fails);
    },
    syncHere: (path, file) => {
      this.#assertPower();
      if (this.hooks.sync?.(path) instanceof Promise) {
        throw new Error(`A sync on the spot cannot wait for a hook: ${path}`);
      }
      this.hooks.slow?.(path);
      this.#endSync(path, file, file.pending.at(-1), this.#syncMeant(path) && --this.#syncsLeft === 0);
    },
  };

  #endSync(path: string, file: File, last: FileChange | undefined, fails: boolean): void {
    if (fails) {
      this.failedSyncs++;
      // The system marks the pages clean although the disk did not take them: no later sync writes them again.
      this.#change(() => file.lose(last, { chance: this.#chance, wounds: this.wounds }));
      throw systemError("EIO", `fdatasync '${path}'`);
    }
    this.#change(() => file.sync(last), () => {
      if (this.#chance.oneIn(2)) file.sync(last);
    });
  }

  #truncate(file: File, size: number): void {
    this.#change(() => file.truncate(size));
  }

  /** Does one effect, or the part of it (all, when left out: it stays pending) that the power lasts for. */
  #change(act: () => void, actInPart = act): void {
    this.effects++;
    if (this.effects < this.#cutAt) return act();
    actInPart();
    this.#gone = new PowerCut(`The power is cut at effect ${this.effects}`);
    throw this.#gone;
  }

  /** A sync takes some turns of the microtask queue, so that others run meanwhile; how many, the seed says. */
  async #someTurns(path: string): Promise<void> {
    for (let turns = this.#chance.between(1, 8); turns > 0; turns--) await null;
    for (let turns = this.hooks.slow?.(path) ?? 0; turns > 0; turns--) {
      await new Promise((resolve) => void setImmediate(resolve));
    }
  }

  #assertPower(): void {
    if (this.#gone !== null) throw this.#gone;
  }

  #find(path: string): File | Folder | undefined {
    let node: File | Folder | undefined = this.#root;
    for (const part of partsOf(path)) {
      if (!(node instanceof Folder)) return undefined;
      node = node.current.get(part);
    }
    return node;
  }

  #file(path: string): File {
    const node = this.#find(path);
    if (node instanceof File) return node;
    throw notFound("open", path);
  }

  #parent(path: string): Folder {
    const node = this.#find(partsOf(path).slice(0, -1).join("/"));
    if (node instanceof Folder) return node;
    throw notFound("open", path);
  }
}

interface FileActions {
  read(path: string, file: File, into: Uint8Array, offset: number): number;
  size(file: File): number;
  write(path: string, file: File, bytes: Uint8Array, offset: number): number;
  truncate(path: string, file: File, size: number): void;
  sync(path: string, file: File): Promise<void>;
  syncHere(path: string, file: File): void;
}

class MemoryFile implements DiskFile {
  readonly #mode: OpenMode;
  readonly #file: File;
  readonly #disk: FileActions;
  #closed = false;

  constructor(readonly path: string, mode: OpenMode, file: File, disk: FileActions) {
    this.#mode = mode;
    this.#file = file;
    this.#disk = disk;
  }

  size(): number {
    this.#assertOpen(false);
    return this.#disk.size(this.#file);
  }

  read(into: Uint8Array, offset: number): number {
    this.#assertOpen(false);
    return readWhole(into, (part, done) => this.#disk.read(this.path, this.#file, part, offset + done));
  }

  write(bytes: Uint8Array, offset: number): void {
    this.#assertOpen(true);
    writeWhole(bytes, (part, done) => this.#disk.write(this.path, this.#file, part, offset + done));
  }

  truncate(bytes: number): void {
    this.#assertOpen(true);
    this.#disk.truncate(this.path, this.#file, bytes);
  }

  async sync(): Promise<void> {
    this.#assertOpen(false);
    await this.#disk.sync(this.path, this.#file);
  }

  syncHere(): void {
    this.#assertOpen(false);
    this.#disk.syncHere(this.path, this.#file);
  }

  close(): void {
    this.#assertOpen(false);
    this.#closed = true;
  }

  #assertOpen(toWrite: boolean): void {
    if (this.#closed || toWrite && this.#mode === "read") throw systemError("EBADF", `'${this.path}'`);
  }
}

/** What happened to a file since its last sync. */
type FileChange = { kind: "write"; offset: number; bytes: Uint8Array } | { kind: "truncate"; size: number };

class File {
  current = new Content();
  durable = new Content();
  pending: FileChange[] = [];

  write(bytes: Uint8Array, offset: number): void {
    this.#change({ kind: "write", offset, bytes: bytes.slice() });
  }

  truncate(size: number): void {
    this.#change({ kind: "truncate", size });
  }

  /** Makes the pending changes durable, up to and with the `last`. */
  sync(last: FileChange | undefined): void {
    for (const change of takeUpTo(last, this.pending)) this.durable.apply(change);
  }

  /** Makes the pending changes up to `last` durable in part. The rest of them will never be. */
  lose(last: FileChange | undefined, fate: Fate): void {
    this.durable = remainder(this.durable, takeUpTo(last, this.pending), fate);
  }

  clone(): File {
    const file = new File();
    file.current = this.current.clone();
    file.durable = this.durable.clone();
    file.pending = [...this.pending];
    return file;
  }

  afterPowerCut(fate: Fate): File {
    const file = new File();
    file.durable = remainder(this.durable, this.pending, fate);
    file.current = file.durable.clone();
    return file;
  }

  #change(change: FileChange): void {
    this.current.apply(change);
    this.pending.push(change);
  }
}

/**
 * What a disk holds that held `durable` and was on its way to take `changes`. Each sector is as it was at one moment,
 * the size as at one moment, and a write after a truncate that did not come through went into blocks that nobody finds.
 */
function remainder(durable: Content, changes: FileChange[], { chance, wounds }: Fate): Content {
  const found = durable.clone();
  const last = changes.length;
  if (last === 0) return found;
  // Nothing, all, all with the last change torn, or anything: so that the usual endings are as frequent as the wild.
  const ending = chance.pick(["nothing", "all", "torn", "anything"] as const);
  const earliest = ending === "anything" ? 0 : ending === "torn" ? last - 1 : ending === "all" ? last : 0;
  const moment = () => ending === "nothing" ? 0 : chance.between(earliest, last);
  const sizeMoment = moment();
  const sectorMoments = new Map<number, number>();
  let bound = Infinity;
  let size = durable.size;
  let anyIsIncomplete = false;
  changes.forEach((change, i) => {
    if (change.kind === "truncate") {
      if (i < sizeMoment) found.resize(size = change.size);
      else bound = Math.min(bound, change.size);
      return;
    }
    const { offset, bytes } = change;
    const end = offset + bytes.length;
    if (i < sizeMoment) size = Math.max(size, end);
    // A write moves the end of the file in steps.
    if (i === sizeMoment && ending !== "nothing") {
      size = Math.max(size, Math.min(bound, offset + chance.below(bytes.length)));
    }
    let sectors = 0;
    let came = 0;
    for (let at = offset; at < Math.min(end, bound);) {
      const sector = Math.floor(at / SECTOR_BYTES);
      const next = Math.min((sector + 1) * SECTOR_BYTES, end, bound);
      if (!sectorMoments.has(sector)) sectorMoments.set(sector, moment());
      if (i < sectorMoments.get(sector)!) {
        found.write(bytes.subarray(at - offset, next - offset), at);
        came++;
      }
      sectors++;
      at = next;
    }
    if (came > 0 && came < sectors) wounds.tornWrites++;
    if (came > 0 && anyIsIncomplete) wounds.writesOutOfOrder++;
    anyIsIncomplete ||= came < sectors;
  });
  found.resize(size);
  return found;
}

/** Names that were given or (null) taken away in one go. */
type NameChange = [name: string, node: File | Folder | null][];

class Folder {
  current = new Map<string, File | Folder>();
  durable = new Map<string, File | Folder>();
  pending: NameChange[] = [];

  set(change: NameChange): void {
    applyNames(this.current, change);
    this.pending.push(change);
  }

  forget(name: string): void {
    this.current.delete(name);
    this.durable.delete(name);
    this.pending = this.pending.map((change) => change.filter(([other]) => other !== name));
  }

  sync(last: NameChange | undefined): void {
    for (const change of takeUpTo(last, this.pending)) applyNames(this.durable, change);
  }

  bytes(): number {
    let sum = 0;
    for (const node of this.current.values()) sum += node instanceof Folder ? node.bytes() : node.current.size;
    return sum;
  }

  clone(copies: Map<File | Folder, File | Folder>): Folder {
    const folder = new Folder();
    const copyOf = (node: File | Folder) => once(copies, node, () => node.clone(copies));
    for (const [name, node] of this.current) folder.current.set(name, copyOf(node));
    for (const [name, node] of this.durable) folder.durable.set(name, copyOf(node));
    folder.pending = this.pending.map((change) => change.map(([name, node]) => [name, node && copyOf(node)]));
    return folder;
  }

  /** Each pending change of names came through or did not. */
  afterPowerCut(fate: Fate, copies: Map<File | Folder, File | Folder>): Folder {
    const { chance } = fate;
    const names = new Map(this.durable);
    const ending = chance.pick(["nothing", "all", "anything"] as const);
    for (const change of this.pending) {
      if (ending === "all" || ending === "anything" && chance.oneIn(2)) applyNames(names, change);
    }
    const folder = new Folder();
    for (const [name, node] of names) {
      const copy = once(copies, node, () => node.afterPowerCut(fate, copies));
      folder.current.set(name, copy);
      folder.durable.set(name, copy);
    }
    return folder;
  }
}

/** Takes the changes up to and with `last` out of `pending`; none, when another sync was faster. */
function takeUpTo<T>(last: T | undefined, pending: T[]): T[] {
  return last === undefined ? [] : pending.splice(0, pending.indexOf(last) + 1);
}

function applyNames(names: Map<string, File | Folder>, change: NameChange): void {
  for (const [name, node] of change) {
    if (node === null) names.delete(name);
    else names.set(name, node);
  }
}

/** A file with two names, an old and a new one, stays one file. */
function once<K, V>(made: Map<K, V>, key: K, make: () => V): V {
  let value = made.get(key);
  if (value === undefined) made.set(key, value = make());
  return value;
}

/** Bytes in pages, which are shared with copies until one of them writes. A page that is missing is zeros. */
class Content {
  size = 0;
  #pages: (Uint8Array | undefined)[] = [];
  /** Pages that no copy shares. */
  #own = new Set<number>();

  clone(): Content {
    const content = new Content();
    content.size = this.size;
    content.#pages = this.#pages.slice();
    this.#own.clear();
    return content;
  }

  read(into: Uint8Array, offset: number): number {
    const count = Math.max(0, Math.min(into.length, this.size - offset));
    for (let done = 0; done < count;) {
      const within = (offset + done) % PAGE_BYTES;
      const length = Math.min(PAGE_BYTES - within, count - done);
      const page = this.#pages[Math.floor((offset + done) / PAGE_BYTES)];
      if (page === undefined) into.fill(0, done, done + length);
      else into.set(page.subarray(within, within + length), done);
      done += length;
    }
    return count;
  }

  write(bytes: Uint8Array, offset: number): void {
    for (let done = 0; done < bytes.length;) {
      const within = (offset + done) % PAGE_BYTES;
      const length = Math.min(PAGE_BYTES - within, bytes.length - done);
      this.#ownPage(Math.floor((offset + done) / PAGE_BYTES)).set(bytes.subarray(done, done + length), within);
      done += length;
    }
    this.size = Math.max(this.size, offset + bytes.length);
  }

  resize(size: number): void {
    if (size < this.size) {
      const kept = Math.ceil(size / PAGE_BYTES);
      this.#pages.length = Math.min(this.#pages.length, kept);
      for (const page of [...this.#own]) if (page >= kept) this.#own.delete(page);
      if (size % PAGE_BYTES !== 0) this.#ownPage(kept - 1).fill(0, size % PAGE_BYTES);
    }
    this.size = size;
  }

  apply(change: FileChange): void {
    if (change.kind === "write") this.write(change.bytes, change.offset);
    else this.resize(change.size);
  }

  #ownPage(index: number): Uint8Array {
    let page = this.#pages[index];
    if (page === undefined) page = new Uint8Array(PAGE_BYTES);
    else if (!this.#own.has(index)) page = page.slice();
    this.#own.add(index);
    return this.#pages[index] = page;
  }
}

function partsOf(path: string): string[] {
  return path.split("/").filter((part) => part !== "" && part !== ".");
}

function nameOf(path: string): string {
  return partsOf(path).at(-1)!;
}

function notFound(call: string, path: string): Error {
  return Object.assign(new Deno.errors.NotFound(`ENOENT: no such file or directory, ${call} '${path}'`), {
    code: "ENOENT",
  });
}

function systemError(code: string, what: string): Error {
  return Object.assign(new Error(`${code}: ${what}`), { code });
}
