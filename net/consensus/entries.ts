/**
 * What a replica sees of a log. An entry is a log index, a term, a chain, and bytes that concern only whoever stores them.
 *
 * A chain at an end stands for all entries below it: equal chains at an equal end are equal logs up to there. Of two
 * logs that differ, chains are equal up to one end and different from there on.
 *
 * @module
 */

/** 64 bits in two halves. Not changed by whoever gets it. */
export interface Chain {
  readonly low: number;
  readonly high: number;
}

export function equalChains(a: Chain, b: Chain): boolean {
  return a.low === b.low && a.high === b.high;
}

/** Entries in a row, [from, end), at least one. They were verified when they were read or received. */
export interface Entries {
  readonly from: number;
  readonly end: number;
  readonly byteLength: number;
  /** Of the entry at `logIndex`, which is one of these. */
  termAt(logIndex: number): number;
  /** The chain of all entries below `end`, for every end from `from` to `end`. */
  chainAt(end: number): Chain;
  /** The same entries without those below `logIndex`. Copies no bytes. */
  since(logIndex: number): Entries;
}

/** A log as its replica may read it. It shows what was written, synced or not, as soon as an effect was carried out. */
export interface Log {
  /** One past the last entry. */
  readonly end: number;
  /** The chain of all entries below `end`, which is at most the end of the log. */
  chainAt(end: number): Chain;
  /** Entries from `from`, which is below the log's end, up to so many bytes; at least one. */
  entries(from: number, bytesMax: number): Entries;
}

/** From which entry on a term's entries stand in a log. */
export interface TermStart {
  readonly term: number;
  readonly from: number;
}

/** The terms of a log's entries. They only rise along a log, so that it is enough to know where each begins. */
export class TermTable {
  readonly #terms: number[] = [];
  readonly #starts: number[] = [];

  constructor(starts: readonly TermStart[] = []) {
    for (const { term, from } of starts) this.add(term, from);
  }

  /** The term of the last entry, 0 while there is none. */
  get lastTerm(): number {
    return this.#terms.length === 0 ? 0 : this.#terms[this.#terms.length - 1]!;
  }

  /** Entries from `from` on, which is the end of the log, have this term. */
  add(term: number, from: number): void {
    if (term === this.lastTerm) return;
    if (term < this.lastTerm) throw new RangeError(`term ${term} after term ${this.lastTerm} in a log`);
    this.#terms.push(term);
    this.#starts.push(from);
  }

  /** The log ends at `end` now. */
  cut(end: number): void {
    while (this.#starts.length > 0 && this.#starts[this.#starts.length - 1]! >= end) {
      this.#starts.pop();
      this.#terms.pop();
    }
  }

  /** The term of the last entry below `end`, 0 when there is none. `end` is at most the end of the log. */
  before(end: number): number {
    let i = this.#starts.length - 1;
    while (i >= 0 && this.#starts[i]! >= end) i--; // What is asked for is nearly always near the end.
    return i < 0 ? 0 : this.#terms[i]!;
  }

  /** Where the entries of a term begin; null when there are none. */
  startOf(term: number): number | null {
    const i = this.#terms.lastIndexOf(term);
    return i < 0 ? null : this.#starts[i]!;
  }

  /** One past the last entry of a term, in a log that ends at `logEnd`; null when there are none. */
  endOf(term: number, logEnd: number): number | null {
    const i = this.#terms.lastIndexOf(term);
    return i < 0 ? null : this.#starts[i + 1] ?? logEnd;
  }

  /** The newest terms, at most so many, in the order of the log. */
  newest(count: number): TermStart[] {
    const first = Math.max(0, this.#terms.length - count);
    return this.#terms.slice(first).map((term, i) => ({ term, from: this.#starts[first + i]! }));
  }
}

/**
 * Up to where two logs are equal for certain, by their terms alone: a term has one leader, which only appends, so two
 * logs that both have entries of it agree in the shorter one. Null when these terms do not say.
 */
export function agreedEnd(a: TermTable, aEnd: number, b: readonly TermStart[], bEnd: number): number | null {
  for (let i = b.length - 1; i >= 0; i--) {
    const end = a.endOf(b[i]!.term, aEnd);
    if (end !== null) return Math.min(end, b[i + 1]?.from ?? bEnd);
  }
  return null;
}
