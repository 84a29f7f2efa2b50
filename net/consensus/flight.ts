/**
 * What is under way and not yet answered: ends, and the bytes before each, in the order in which they went. A ring of
 * numbers: nothing is allocated for a message.
 *
 * @module
 */
export class Flight {
  readonly #ends: Float64Array;
  readonly #sizes: Float64Array;
  #head = 0;
  count = 0;
  bytes = 0;

  constructor(countMax: number) {
    this.#ends = new Float64Array(countMax);
    this.#sizes = new Float64Array(countMax);
  }

  get isFull(): boolean {
    return this.count === this.#ends.length;
  }

  /** All up to `end` went, with so many bytes since the last. When it is full, they count as one with the last. */
  push(end: number, bytes: number): void {
    this.bytes += bytes;
    if (this.isFull) bytes += this.#sizes[(this.#head + --this.count) % this.#ends.length]!;
    const at = (this.#head + this.count++) % this.#ends.length;
    this.#ends[at] = end;
    this.#sizes[at] = bytes;
  }

  /** All up to `end` arrived. */
  arrived(end: number): void {
    while (this.count > 0 && this.#ends[this.#head]! <= end) {
      this.bytes -= this.#sizes[this.#head]!;
      this.#head = (this.#head + 1) % this.#ends.length;
      this.count--;
    }
  }

  clear(): void {
    this.count = 0;
    this.bytes = 0;
  }
}
