/**
 * The heads of streams: the version and the partition sequence of each stream's last event.
 *
 * Every append needs the head of its stream. Two tables stand before the index files: `pending`, which is here, holds
 * the heads that the batch in progress has given out, which no reader may see; head_cache.ts the committed heads used
 * lately.
 *
 * A stream is known by 92 bits of its stream key: its hash, which is all that the index of a segment keeps of it, and
 * four bytes more.
 *
 * @module
 */

export interface Head {
  version: number;
  sequence: number;
}

/** A head that was found by the hash of its stream: which stream it is of, as far as four more bytes say, and its sequence. */
export interface HeadOfHash {
  more: number;
  sequence: number;
}

/** Words of a slot: three of the key, version + 1 (0: the slot is empty), sequence in two. */
export const SLOT_WORDS = 6;
const SLOTS_MIN = 64;

/** Heads by stream key: open addressing in one typed array, 24 bytes a slot. */
export class HeadTable {
  #slots = new Uint32Array(SLOTS_MIN * SLOT_WORDS);
  #mask = SLOTS_MIN - 1;
  #count = 0;

  get size(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#slots.byteLength;
  }

  get(key: Uint8Array): Head | null {
    const at = this.#find(word0(key), word1(key), word2(key));
    const slots = this.#slots;
    if (slots[at + 3] === 0) return null;
    return { version: slots[at + 3]! - 1, sequence: slots[at + 4]! + slots[at + 5]! * 0x1_0000_0000 };
  }

  set(key: Uint8Array, version: number, sequence: number): void {
    if (2 * this.#count > this.#mask) this.#grow();
    const at = this.#find(word0(key), word1(key), word2(key));
    const slots = this.#slots;
    if (slots[at + 3] === 0) {
      this.#count++;
      slots[at] = word0(key);
      slots[at + 1] = word1(key);
      slots[at + 2] = word2(key);
    }
    slots[at + 3] = version + 1;
    slots[at + 4] = sequence % 0x1_0000_0000;
    slots[at + 5] = Math.floor(sequence / 0x1_0000_0000);
  }

  /** The head of the only stream with the hash (a, b), if it is at `version`; else null. */
  ofHash(a: number, b: number, version: number): HeadOfHash | null {
    const slots = this.#slots;
    const mask = this.#mask;
    let found = -1;
    for (let slot = a & mask;; slot = slot + 1 & mask) {
      const at = slot * SLOT_WORDS;
      if (slots[at + 3] === 0) break;
      if (slots[at] !== a || slots[at + 1] !== b) continue;
      if (found >= 0) return null;
      found = at;
    }
    if (found < 0 || slots[found + 3] !== version + 1) return null;
    return { more: slots[found + 2]!, sequence: slots[found + 4]! + slots[found + 5]! * 0x1_0000_0000 };
  }

  clear(): void {
    if (this.#count === 0) return;
    if (this.#slots.length > 64 * SLOTS_MIN * SLOT_WORDS) {
      this.#slots = new Uint32Array(SLOTS_MIN * SLOT_WORDS);
      this.#mask = SLOTS_MIN - 1;
    } else {
      this.#slots.fill(0);
    }
    this.#count = 0;
  }

  #find(k0: number, k1: number, k2: number): number {
    const slots = this.#slots;
    const mask = this.#mask;
    for (let slot = k0 & mask;; slot = slot + 1 & mask) {
      const at = slot * SLOT_WORDS;
      if (slots[at + 3] === 0) return at;
      if (slots[at] === k0 && slots[at + 1] === k1 && slots[at + 2] === k2) return at;
    }
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Uint32Array(2 * old.length);
    this.#mask = 2 * this.#mask + 1;
    for (let from = 0; from < old.length; from += SLOT_WORDS) {
      if (old[from + 3] === 0) continue;
      const at = this.#find(old[from]!, old[from + 1]!, old[from + 2]!);
      this.#slots.set(old.subarray(from, from + SLOT_WORDS), at);
    }
  }
}

// The hash of a stream is the first 8 bytes of its key, of which 4 bits say that it is a version 5 UUID; what is more of
// the key is its end.
export function word0(key: Uint8Array): number {
  return (key[0]! << 24 | key[1]! << 16 | key[2]! << 8 | key[3]!) >>> 0;
}
export function word1(key: Uint8Array): number {
  return (key[4]! << 24 | key[5]! << 16 | key[6]! << 8 | key[7]!) >>> 0;
}
export function word2(key: Uint8Array): number {
  return (key[12]! << 24 | key[13]! << 16 | key[14]! << 8 | key[15]!) >>> 0;
}
