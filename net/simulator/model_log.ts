/**
 * A log in memory, and a disk that keeps apart what was written and what is durable: the model of what the engine does.
 *
 * All buckets of a machine write to one disk in one order, as the journal of a node does. What is written becomes
 * durable in that order; a power cut keeps some beginning of what was not, and perhaps half of one write.
 *
 * @module
 */
import type { Chance } from "../../core/chance.ts";
import { Chain as ChainSum } from "../../core/log/format.ts";
import type { Chain, Entries, Log } from "../consensus/entries.ts";
import type { HardState } from "../consensus/effect.ts";

export interface StoredEvent {
  readonly id: string;
  readonly stream: string;
  readonly version: number;
}

export interface Content {
  readonly partition: number;
  readonly firstSequence: number;
  /** None: the first entry of a term. */
  readonly events: readonly StoredEvent[];
}

export interface Entry {
  readonly logIndex: number;
  readonly term: number;
  /** Of all up to this one. */
  readonly chain: Chain;
  readonly content: Content;
}

/** Bytes of an entry, of which only the sizes are modelled. */
const ENTRY_BYTES = 100;

export function makeEntry(prevChain: Chain, logIndex: number, term: number, content: Content): Entry {
  const sum = new ChainSum(prevChain.low, prevChain.high);
  let check = 0x811c9dc5;
  const text = `${content.partition} ${content.firstSequence} ${
    content.events.map(({ id, stream, version }) => `${id} ${stream} ${version}`)
  }`;
  for (let i = 0; i < text.length; i++) check = Math.imul(check ^ text.charCodeAt(i), 0x01000193);
  sum.step(term, logIndex, check >>> 0);
  return { logIndex, term, chain: sum, content };
}

export class ModelEntries implements Entries {
  constructor(readonly list: readonly Entry[], readonly prevChain: Chain) {}

  get from(): number {
    return this.list[0]!.logIndex;
  }

  get end(): number {
    return this.from + this.list.length;
  }

  get byteLength(): number {
    return this.list.length * ENTRY_BYTES;
  }

  termAt(logIndex: number): number {
    return this.list[logIndex - this.from]!.term;
  }

  chainAt(end: number): Chain {
    return end === this.from ? this.prevChain : this.list[end - 1 - this.from]!.chain;
  }

  since(logIndex: number): ModelEntries {
    return new ModelEntries(this.list.slice(logIndex - this.from), this.chainAt(logIndex));
  }
}

export class ModelLog implements Log {
  constructor(readonly bucket: number, readonly list: Entry[] = []) {}

  get end(): number {
    return this.list.length;
  }

  chainAt(end: number): Chain {
    if (end > this.list.length) throw new RangeError(`the chain at ${end} of a log that ends at ${this.list.length}`);
    return end === 0 ? ChainSum.ofBucket(this.bucket) : this.list[end - 1]!.chain;
  }

  entries(from: number, bytesMax: number): ModelEntries {
    const count = Math.max(1, Math.floor(bytesMax / ENTRY_BYTES));
    return new ModelEntries(this.list.slice(from, from + count), this.chainAt(from));
  }
}

/** What is on a disk of one bucket. */
export interface Image {
  hard: HardState;
  list: Entry[];
  commitFloor: number;
}

export type Write =
  | { readonly kind: "hard"; readonly bucket: number; readonly hard: HardState }
  | { readonly kind: "append"; readonly bucket: number; readonly entries: readonly Entry[] }
  | { readonly kind: "truncate"; readonly bucket: number; readonly end: number }
  | { readonly kind: "commit"; readonly bucket: number; readonly end: number };

export class ModelDisk {
  images = new Map<number, Image>();
  #writes: Write[] = [];
  /** Of all that was ever written: how much is durable. */
  #durable = 0;

  /** One past the last write: for `sync`. */
  get mark(): number {
    return this.#durable + this.#writes.length;
  }

  write(write: Write): void {
    this.#writes.push(write);
  }

  /** All before `mark` is durable now. */
  sync(mark: number, told: (bucket: number, entry: Entry) => void): void {
    const count = mark - this.#durable;
    for (const write of this.#writes.slice(0, count)) {
      this.#apply(write);
      if (write.kind === "append") { for (const entry of write.entries) told(write.bucket, entry); }
    }
    this.#writes = this.#writes.slice(count);
    this.#durable = mark;
  }

  /** The process is gone. What it wrote is in the system's hands, or some of it is lost with the power. */
  crash(keepsAll: boolean, chance: Chance): void {
    const kept = keepsAll ? this.#writes.length : chance.below(this.#writes.length + 1);
    for (const write of this.#writes.slice(0, kept)) this.#apply(write);
    const torn = this.#writes[kept];
    if (torn?.kind === "append") {
      this.#apply({ ...torn, entries: torn.entries.slice(0, chance.below(torn.entries.length + 1)) });
    }
    this.#durable += this.#writes.length;
    this.#writes = [];
  }

  #apply(write: Write): void {
    const image = this.images.get(write.bucket)!;
    switch (write.kind) {
      case "hard":
        image.hard = write.hard;
        return;
      case "append":
        image.list.push(...write.entries);
        return;
      case "truncate":
        image.list.length = write.end;
        return;
      case "commit":
        image.commitFloor = Math.max(image.commitFloor, Math.min(write.end, image.list.length));
        return;
    }
  }

  copyImages(): Map<number, Image> {
    return new Map([...this.images].map(([bucket, image]) => [bucket, { ...image, list: image.list.slice() }]));
  }
}
