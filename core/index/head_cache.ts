/**
 * The committed heads used lately, in bounded memory: what is found here takes no look at a file.
 *
 *     table (of 64)    set | set | set | …        a head has one table and one set in it, by its key
 *     set              8 slots of 24 bytes        as in heads.ts, word by word: the first word of each key, the others,
 *                                                 version + 1, sequence in two: most looks end in the first 32 bytes
 *
 * A table of open addressing must stay half empty, and one that is full is emptied at a stroke, so that all are looked
 * up again at once. Sets can be full: a new head takes the place of another in its set, in turn. Each table doubles by
 * itself, when a set has no room, until it has its share: a large one would keep the thread for 0.1 s.
 *
 * It holds only what the index files hold, so anything may be forgotten at any time.
 *
 * @module
 */
import { type Head, type HeadOfHash, SLOT_WORDS, word0, word1, word2 } from "./heads.ts";

const TABLES = 64;
const SLOTS = 8;
const SET_WORDS = SLOTS * SLOT_WORDS;
/** From the first word of a slot's key to its other words. */
const K1 = SLOTS, K2 = 2 * SLOTS, VERSION = 3 * SLOTS, SEQUENCE = 4 * SLOTS;
const SET_BYTES = 4 * SET_WORDS;

export class HeadCache {
  readonly #tables: Table[];

  /** At least one set a table, however small `maxBytes` is. */
  constructor(readonly maxBytes: number) {
    const sets = maxBytes / TABLES / SET_BYTES;
    const setsMax = 2 ** Math.max(0, Math.floor(Math.log2(sets)));
    this.#tables = Array.from({ length: TABLES }, () => new Table(setsMax));
  }

  get bytes(): number {
    return this.#tables.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get(key: Uint8Array): Head | null {
    return this.#tables[key[0]! % TABLES]!.get(word0(key), word1(key), word2(key));
  }

  /** The head of the only stream with the hash (a, b), if it is here and at `version`; else null. */
  ofHash(a: number, b: number, version: number): HeadOfHash | null {
    return this.#tables[(a >>> 24) % TABLES]!.ofHash(a, b, version);
  }

  set(key: Uint8Array, version: number, sequence: number): void {
    this.#tables[key[0]! % TABLES]!.set(word0(key), word1(key), word2(key), version, sequence);
  }
}

class Table {
  #words = new Uint32Array(SET_WORDS);
  #sets = 1;
  /** Which slot of a set gives way next. */
  #turn = 0;

  constructor(readonly setsMax: number) {}

  get bytes(): number {
    return this.#words.byteLength;
  }

  get(k0: number, k1: number, k2: number): Head | null {
    const at = this.#find(k0, k1, k2);
    const words = this.#words;
    if (at < 0) return null;
    return {
      version: words[at + VERSION]! - 1,
      sequence: words[at + SEQUENCE]! + words[at + SEQUENCE + SLOTS]! * 0x1_0000_0000,
    };
  }

  ofHash(k0: number, k1: number, version: number): HeadOfHash | null {
    const words = this.#words;
    const first = this.#setOf(k0);
    let found = -1;
    for (let at = first; at < first + SLOTS; at++) {
      if (words[at] !== k0 || words[at + K1] !== k1 || words[at + VERSION] === 0) continue;
      if (found >= 0) return null;
      found = at;
    }
    if (found < 0 || words[found + VERSION] !== version + 1) return null;
    return {
      more: words[found + K2]!,
      sequence: words[found + SEQUENCE]! + words[found + SEQUENCE + SLOTS]! * 0x1_0000_0000,
    };
  }

  set(k0: number, k1: number, k2: number, version: number, sequence: number): void {
    let at = this.#find(k0, k1, k2);
    if (at < 0) {
      at = this.#free(k0);
      while (at < 0 && this.#sets < this.setsMax) {
        this.#grow();
        at = this.#free(k0);
      }
      if (at < 0) {
        this.#turn = (this.#turn + 1) % SLOTS;
        at = this.#setOf(k0) + this.#turn;
      }
    }
    const words = this.#words;
    words[at] = k0;
    words[at + K1] = k1;
    words[at + K2] = k2;
    words[at + VERSION] = version + 1;
    words[at + SEQUENCE] = sequence % 0x1_0000_0000;
    words[at + SEQUENCE + SLOTS] = Math.floor(sequence / 0x1_0000_0000);
  }

  #setOf(k0: number): number {
    return (k0 & this.#sets - 1) * SET_WORDS;
  }

  /** Where a key stands, -1 if nowhere. */
  #find(k0: number, k1: number, k2: number): number {
    const words = this.#words;
    const first = this.#setOf(k0);
    for (let at = first; at < first + SLOTS; at++) {
      if (words[at] === k0 && words[at + K1] === k1 && words[at + K2] === k2 && words[at + VERSION] !== 0) return at;
    }
    return -1;
  }

  /** An empty slot in the set of a key, -1 if there is none. */
  #free(k0: number): number {
    const words = this.#words;
    const first = this.#setOf(k0);
    for (let at = first; at < first + SLOTS; at++) if (words[at + VERSION] === 0) return at;
    return -1;
  }

  #grow(): void {
    const old = this.#words;
    this.#words = new Uint32Array(2 * old.length);
    this.#sets *= 2;
    for (let set = 0; set < old.length; set += SET_WORDS) {
      for (let from = set; from < set + SLOTS; from++) {
        if (old[from + VERSION] === 0) continue;
        const to = this.#free(old[from]!); // A set is split in two, so there is room.
        for (let word = 0; word < SET_WORDS; word += SLOTS) this.#words[to + word] = old[from + word]!;
      }
    }
  }
}
