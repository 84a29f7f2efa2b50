/**
 * The heads of streams: the version and the partition sequence of each stream's last event.
 *
 * Every append needs the head of its stream. Two tables stand before the index files: `pending`, which is here, holds
 * the heads that the batch in progress has given out, which no reader may see; head_cache.ts the committed heads used
 * lately.
 *
 * A stream is known by 96 bits of its stream key.
 *
 * @module
 */

export interface Head {
  version: number;
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
    for (let slot = k2 & mask;; slot = slot + 1 & mask) {
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

// Bytes 6 to 9 of a stream key, a version 5 UUID, hold its version and variant, and the bits that chose its bucket.
export function word0(key: Uint8Array): number {
  return (key[0]! | key[1]! << 8 | key[2]! << 16 | key[3]! << 24) >>> 0;
}
export function word1(key: Uint8Array): number {
  return (key[4]! | key[5]! << 8 | key[14]! << 16 | key[15]! << 24) >>> 0;
}
export function word2(key: Uint8Array): number {
  return (key[11]! | key[12]! << 8 | key[13]! << 16 | key[10]! << 24) >>> 0;
}
