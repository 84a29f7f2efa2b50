/**
 * What a majority is, and the end of what a majority holds. A majority is always one of the replicas that the cluster
 * was made with, never of those that happen to be up.
 *
 * @module
 */

export function majority(replicationFactor: number): number {
  return Math.floor(replicationFactor / 2) + 1;
}

/**
 * The largest number that a majority of `values` reaches: of the ends that replicas hold the committed end, of the
 * times at which they were heard the last at which a majority was. What does not count is given as -Infinity or 0.
 *
 * Sorts `values` in place: the caller has one array for it, and nothing is allocated on the way of an append.
 */
export function reachedByMajority(values: Float64Array): number {
  for (let i = 1; i < values.length; i++) {
    const value = values[i]!;
    let k = i;
    for (; k > 0 && values[k - 1]! < value; k--) values[k] = values[k - 1]!;
    values[k] = value;
  }
  return values[majority(values.length) - 1]!;
}
