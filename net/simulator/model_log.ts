/**
 * A log in memory, and a disk that keeps apart what was written and what is durable: the model of what the engine does.
 *
 * All buckets of a machine write to one disk in one order, as the journal of a node does. What is written becomes
 * durable in that order; a power cut keeps some beginning of what was not, and perhaps half of one write.
 *
 * @module
 */
import type { Chance } from "../../core/chance.ts";
import type { AdmittedTransaction } from "../../core/event.ts";
import {
  Chain as ChainSum,
  EMPTY_FRAME_BYTES_MAX,
  encodeEmptyFrame,
  encodeFrame,
  Frame,
  frameBytesBound,
} from "../../core/log/format.ts";
import { textOf } from "../../core/text.ts";
import type { Chain, Entries, Log } from "../consensus/entries.ts";
import type { HardState } from "../consensus/effect.ts";
import { FrameEntries } from "../frame_entries.ts";

export interface StoredEvent {
  readonly id: string;
  readonly stream: string;
  readonly version: number;
}

export interface Content {
  readonly partition: number;
  readonly firstSequence: number;
  /** None: the first entry of a term, in the partition that has the bucket's number. */
  readonly events: readonly StoredEvent[];
}

export interface Entry {
  readonly logIndex: number;
  readonly term: number;
  /** Of all up to this one. */
  readonly chain: Chain;
  readonly content: Content;
  /** Its bytes, as far as nodes send them to each other. */
  readonly frame: Uint8Array;
}

/** What an entry counts for where bytes are counted. */
const ENTRY_BYTES = 100;

/** What only a real event has. */
const NO_ID = new Uint8Array(16);
const NO_BYTES = new Uint8Array(0);
const utf8 = new TextEncoder();

export function makeEntry(prevChain: Chain, logIndex: number, term: number, content: Content): Entry {
  const sum = new ChainSum(prevChain.low, prevChain.high);
  const { frame, crc } = encode(sum, logIndex, term, content);
  sum.step(term, logIndex, crc);
  return { logIndex, term, chain: sum, content, frame };
}

/** The entry as the frame that it would be in a segment: an event has its id for a name. */
function encode(prevChain: ChainSum, logIndex: number, term: number, { partition, firstSequence, events }: Content) {
  if (events.length === 0) {
    const into = new Uint8Array(EMPTY_FRAME_BYTES_MAX);
    const opening = { bucket: partition, logIndex, term, prevChain };
    const { end, crc } = encodeEmptyFrame(into, new DataView(into.buffer), 0, opening);
    return { frame: into.subarray(0, end), crc };
  }
  const transaction: AdmittedTransaction = {
    ...{ partitionKey: NO_ID, partitionKeyIsDefault: true, partitionHash: 0 },
    events: events.map(({ id, stream }) => ({
      ...{
        streamId: stream,
        streamIdBytes: utf8.encode(stream),
        streamKey: NO_ID,
        name: id,
        nameBytes: utf8.encode(id),
      },
      ...{
        eventId: NO_ID,
        eventIdGiven: true,
        expectedVersion: "any",
        timestamp: 0,
        payload: NO_BYTES,
        metadata: NO_BYTES,
      },
    })),
  };
  const into = new Uint8Array(frameBytesBound(transaction));
  const { end, crc } = encodeFrame(into, new DataView(into.buffer), 0, transaction, {
    ...{ logIndex, term, partition, firstSequence, prevChain },
    ...{ versions: events.map(({ version }) => version), prevs: events.map(() => 0) },
  });
  return { frame: into.subarray(0, end), crc };
}

/** Entries as they are sent. */
export function framesOf({ list, prevChain }: ModelEntries, bucket: number, bucketCount: number): FrameEntries {
  const frames = new Uint8Array(list.reduce((sum, { frame }) => sum + frame.length, 0));
  let at = 0;
  for (const { frame } of list) {
    frames.set(frame, at);
    at += frame.length;
  }
  const must = { bucket, bucketCount, from: list[0]!.logIndex, prevChain, prevTerm: 0, term: list.at(-1)!.term };
  const entries = FrameEntries.verify(frames, must);
  if (typeof entries === "string") throw new Error(`A node sends what is no part of a log: ${entries}`);
  return entries;
}

/** Entries as they came. */
export function modelEntriesOf(entries: FrameEntries): ModelEntries {
  const list: Entry[] = [];
  for (let logIndex = entries.from; logIndex < entries.end; logIndex++) {
    const frame = entries.frameAt(logIndex);
    const read = Frame.decode(frame, new DataView(frame.buffer, frame.byteOffset, frame.length), 0, frame.length);
    if (typeof read === "string") throw new Error(`An entry that was verified cannot be read: ${read}`);
    const events: StoredEvent[] = [];
    while (read.next()) {
      events.push({
        id: textOf(frame, read.nameAt, read.nameEnd),
        stream: textOf(frame, read.streamIdAt, read.streamIdEnd),
        version: read.version,
      });
    }
    const { term, partition, firstSequence } = read;
    const chain = entries.chainAt(logIndex + 1);
    list.push({ logIndex, term, chain, content: { partition, firstSequence, events }, frame });
  }
  return new ModelEntries(list, entries.chainAt(entries.from));
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
