/**
 * Things in the order of their sequences: the earliest is at hand, whatever their number. A heap.
 *
 *            0          nobody is earlier than the one above it:
 *         1     2       those of place i stand at 2i + 1 and 2i + 2
 *        3 4   5 6
 *
 * @module
 */
export class Earliest<T extends { readonly sequence: number }> {
  readonly #heap: T[] = [];

  get size(): number {
    return this.#heap.length;
  }

  get first(): T | undefined {
    return this.#heap[0];
  }

  /** The sequence of whoever comes after the first; Infinity when that is nobody. */
  get secondSequence(): number {
    return Math.min(this.#heap[1]?.sequence ?? Infinity, this.#heap[2]?.sequence ?? Infinity);
  }

  add(thing: T): void {
    const heap = this.#heap;
    let at = heap.length;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (heap[above]!.sequence <= thing.sequence) break;
      heap[at] = heap[above]!;
      at = above;
    }
    heap[at] = thing;
  }

  removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    heap[0] = last;
    this.firstMoved();
  }

  /** The first has a later sequence than it had. */
  firstMoved(): void {
    const heap = this.#heap;
    const thing = heap[0]!;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && heap[below + 1]!.sequence < heap[below]!.sequence) below++;
      if (heap[below]!.sequence >= thing.sequence) break;
      heap[at] = heap[below]!;
      at = below;
    }
    heap[at] = thing;
  }
}
