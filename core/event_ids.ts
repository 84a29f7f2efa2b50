/**
 * What was kept under event ids, in one batch at a time: open addressing in one typed array, 20 bytes a slot.
 *
 * Instead of a Map by the text of the id: text that is made, hashed and forgotten for each append cost 1.6 µs, this 0.1.
 *
 * @module
 */
import { mix } from "./index/index_file.ts";

/** Words of a slot: four of the id, and one past the place of its value, 0 in an empty slot. */
const SLOT_WORDS = 5;
const SLOTS_MIN = 64;
/** A table that grew beyond this begins small again when it is cleared. */
const SLOTS_KEPT_MAX = 64 * SLOTS_MIN;

export class EventIdTable<Value> {
  readonly #seed: number;
  #slots = new Uint32Array(SLOTS_MIN * SLOT_WORDS);
  #mask = SLOTS_MIN - 1;
  #values: Value[] = [];

  /** `seed` is known to nobody who sends ids, or they could send such as fall into one slot. */
  constructor(seed: number) {
    this.#seed = seed;
  }

  get(id: Uint8Array): Value | undefined {
    const values = this.#values;
    if (values.length === 0) return undefined;
    return values[this.#slots[this.#find(word(id, 0), word(id, 4), word(id, 8), word(id, 12)) + 4]! - 1];
  }

  /** Keeps `value`, in place of what was kept under this id before. */
  set(id: Uint8Array, value: Value): void {
    if (2 * this.#values.length > this.#mask) this.#grow();
    const a = word(id, 0), b = word(id, 4), c = word(id, 8), d = word(id, 12);
    const at = this.#find(a, b, c, d);
    const slots = this.#slots;
    if (slots[at + 4] !== 0) {
      this.#values[slots[at + 4]! - 1] = value;
      return;
    }
    slots[at] = a;
    slots[at + 1] = b;
    slots[at + 2] = c;
    slots[at + 3] = d;
    slots[at + 4] = this.#values.push(value);
  }

  clear(): void {
    if (this.#values.length === 0) return;
    this.#values = [];
    if (this.#mask >= SLOTS_KEPT_MAX) {
      this.#slots = new Uint32Array(SLOTS_MIN * SLOT_WORDS);
      this.#mask = SLOTS_MIN - 1;
    } else {
      this.#slots.fill(0);
    }
  }

  /** Where an id stands, or the empty slot in which it would. */
  #find(a: number, b: number, c: number, d: number): number {
    const slots = this.#slots;
    const mask = this.#mask;
    for (let slot = mix(a, b, c ^ mix(d, 0, 0, this.#seed), this.#seed) & mask;; slot = slot + 1 & mask) {
      const at = slot * SLOT_WORDS;
      if (slots[at + 4] === 0) return at;
      if (slots[at] === a && slots[at + 1] === b && slots[at + 2] === c && slots[at + 3] === d) return at;
    }
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Uint32Array(2 * old.length);
    this.#mask = 2 * this.#mask + 1;
    for (let from = 0; from < old.length; from += SLOT_WORDS) {
      if (old[from + 4] === 0) continue;
      this.#slots.set(
        old.subarray(from, from + SLOT_WORDS),
        this.#find(old[from]!, old[from + 1]!, old[from + 2]!, old[from + 3]!),
      );
    }
  }
}

function word(id: Uint8Array, at: number): number {
  return (id[at]! | id[at + 1]! << 8 | id[at + 2]! << 16 | id[at + 3]! << 24) >>> 0;
}
