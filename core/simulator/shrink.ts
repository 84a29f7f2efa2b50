/**
 * The shortest list that still fails in the same way: delta debugging.
 *
 * It leaves out halves, then quarters, down to single operations, and begins again as long as that helps. It does not
 * know what an operation is.
 *
 * @module
 */

/** `failure` says how a list fails, null when it does not. It is asked at most `triesMax` times. */
export async function shrink<T>(
  list: readonly T[],
  failure: (list: readonly T[]) => Promise<string | null>,
  triesMax = 400,
): Promise<readonly T[]> {
  const wanted = await failure(list);
  if (wanted === null) throw new Error("Only a list that fails can be shrunk");
  let best = list;
  let tries = 0;
  for (let size = Math.ceil(best.length / 2); size >= 1 && tries < triesMax;) {
    let shorter = false;
    for (let at = 0; at < best.length && tries < triesMax;) {
      const without = [...best.slice(0, at), ...best.slice(at + size)];
      tries++;
      if (await failure(without) === wanted) {
        best = without;
        shorter = true;
      } else {
        at += size;
      }
    }
    if (size > 1) size = Math.ceil(size / 2);
    else if (!shorter) break;
  }
  return best;
}
