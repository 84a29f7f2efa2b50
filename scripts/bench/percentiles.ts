/**
 * How long many things took: a histogram with steps of one percent, so that it stays small however many there are.
 *
 * @module
 */

/** One microsecond; what took less counts as this. */
const MS_MIN = 0.001;
const STEP = Math.log(1.01);
/** Up to some 20 minutes. */
const BUCKETS = 2100;

export interface Percentiles {
  msP50: number;
  msP95: number;
  msP99: number;
  msMax: number;
}

/** What one load came to. */
export interface Measured extends Percentiles {
  perSecond: number;
}

export class Latencies {
  readonly #counts = new Uint32Array(BUCKETS);
  #total = 0;
  #max = 0;

  get count(): number {
    return this.#total;
  }

  add(ms: number): void {
    const bucket = ms <= MS_MIN ? 0 : Math.ceil(Math.log(ms / MS_MIN) / STEP);
    this.#counts[Math.min(bucket, BUCKETS - 1)]!++;
    this.#total++;
    if (ms > this.#max) this.#max = ms;
  }

  /** What this part of all did not exceed, at most one percent too high. */
  at(part: number): number {
    const wanted = Math.ceil(part * this.#total);
    let seen = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      seen += this.#counts[bucket]!;
      if (seen >= wanted && seen > 0) return Math.min(this.#max, MS_MIN * Math.exp(bucket * STEP));
    }
    return this.#max;
  }

  percentiles(): Percentiles {
    return { msP50: this.at(0.5), msP95: this.at(0.95), msP99: this.at(0.99), msMax: this.#max };
  }

  clear(): void {
    this.#counts.fill(0);
    this.#total = 0;
    this.#max = 0;
  }
}

/** The one in the middle; of an even number, the upper of the two. */
export function medianBy<T>(values: readonly T[], of: (value: T) => number): T {
  return values.toSorted((a, b) => of(a) - of(b))[values.length >> 1]!;
}

export function median(values: readonly number[]): number {
  return medianBy(values, (value) => value);
}
