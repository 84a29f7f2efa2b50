/**
 * What a bucket's log has and nobody may read yet: entries that are written, perhaps durable, and not committed.
 *
 * Alone an entry is committed when it is durable, and all of this is empty after each batch. In a group of replicas it
 * takes a majority, while more is appended: so the heads, sequences and ids that the entries gave out must be known until
 * then, because what comes next follows from them.
 *
 * These are kept in two generations, the younger of which takes what is new. When all that is in the older is committed
 * it is dropped, and the younger becomes the older: so nothing is ever taken out of a table.
 *
 * Entries that came from a leader give nothing out: who becomes leader has committed all that it has before it decides.
 *
 * @module
 */
import { EventIdTable } from "./event_ids.ts";
import { type Head, HeadTable } from "./index/heads.ts";

/** Where an entry stands in the log. */
export interface Entry {
  logIndex: number;
  segment: number;
  offset: number;
}

/** What this node's writer gave out with an entry. */
export interface OwnEntry extends Entry {
  partition: number;
  firstSequence: number;
  versions: number[];
  readonly events: readonly { streamKey: Uint8Array; eventId: Uint8Array; eventIdGiven: boolean }[];
}

class Generation {
  readonly heads = new HeadTable();
  readonly sequences = new Map<number, number>();
  readonly ids: EventIdTable<OwnEntry>;
  /** One past the last entry that gave something to it. */
  end = 0;

  constructor(idSeed: number) {
    this.ids = new EventIdTable(idSeed);
  }

  clear(): void {
    this.heads.clear();
    this.sequences.clear();
    this.ids.clear();
    this.end = 0;
  }
}

const NONE: readonly never[] = [];

export class Uncommitted {
  /** In the order of the log. */
  #entries: Entry[] = [];
  #younger: Generation;
  #older: Generation;

  /** `idSeed`: of the tables of event ids. */
  constructor(idSeed: number) {
    this.#younger = new Generation(idSeed);
    this.#older = new Generation(idSeed);
  }

  get entries(): readonly Entry[] {
    return this.#entries;
  }

  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  /** The head of a stream that the next event follows, null if none of these entries has it. */
  head(streamKey: Uint8Array): Head | null {
    return this.#younger.heads.get(streamKey) ?? (this.#older.end === 0 ? null : this.#older.heads.get(streamKey));
  }

  /** The next sequence of a partition, undefined if none of these entries has it. */
  nextSequence(partition: number): number | undefined {
    return this.#younger.sequences.get(partition) ?? this.#older.sequences.get(partition);
  }

  /** The entry that has this event id, as far as its writer gave it. */
  given(eventId: Uint8Array): OwnEntry | undefined {
    return this.#younger.ids.get(eventId) ?? (this.#older.end === 0 ? undefined : this.#older.ids.get(eventId));
  }

  /** The next entry of the log, which another node decided about. */
  push(entry: Entry): void {
    this.#entries.push(entry);
  }

  /** The next entry of the log, which gave out heads, sequences and ids. */
  pushOwn(entry: OwnEntry): void {
    this.#entries.push(entry);
    this.#give(entry);
  }

  #give(entry: OwnEntry): void {
    const { heads, sequences, ids } = this.#younger;
    const { events, versions, firstSequence } = entry;
    for (let i = 0; i < events.length; i++) {
      const { streamKey, eventId, eventIdGiven } = events[i]!;
      heads.set(streamKey, versions[i]!, firstSequence + i);
      if (eventIdGiven) ids.set(eventId, entry);
    }
    sequences.set(entry.partition, firstSequence + events.length);
    this.#younger.end = entry.logIndex + 1;
  }

  /** Entries below `end` are committed: returns them. What they gave out must be known elsewhere now. */
  commitTo(end: number): readonly Entry[] {
    const entries = this.#entries;
    if (entries.length === 0 || entries[0]!.logIndex >= end) return NONE;
    let committed = entries;
    if (entries[entries.length - 1]!.logIndex < end) {
      this.#entries = [];
      this.#younger.clear();
      this.#older.clear();
    } else {
      committed = entries.splice(0, end - entries[0]!.logIndex);
      if (this.#older.end <= end) {
        this.#older.clear();
        [this.#younger, this.#older] = [this.#older, this.#younger];
      }
    }
    return committed;
  }

  /** The log ends at `end` now: returns the entries that are gone. What the others gave out is still known. */
  cut(end: number): readonly Entry[] {
    const first = this.#entries.findIndex(({ logIndex }) => logIndex >= end);
    if (first < 0) return NONE;
    const gone = this.#entries.splice(first);
    this.forget();
    for (const entry of this.#entries) if (isOwn(entry)) this.#give(entry);
    return gone;
  }

  /** Nobody decides here any more: what was given out is of no use. The entries stay. */
  forget(): void {
    this.#younger.clear();
    this.#older.clear();
  }
}

function isOwn(entry: Entry): entry is OwnEntry {
  return "versions" in entry;
}
