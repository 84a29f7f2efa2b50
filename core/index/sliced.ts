/**
 * Long work in short slices, on the engine's own thread: a generator that yields often, and the loop that runs it.
 *
 * A slice that is too long delays every append and read of the node, so the loop gives the thread away after a
 * millisecond. A yielded promise is something on its way (a sync): the work goes on when it is there.
 *
 * @module
 */
import type { Environment } from "../environment.ts";

/** Work that yields at least every few hundred microseconds. */
export type Sliced<T = void> = Generator<Promise<void> | void, T>;

/** How long the thread is kept at a stretch. */
const SLICE_MS_MAX = 1;

/**
 * Runs `work` to its end and returns its result. When `signal` is aborted the work is stopped where it yielded, its
 * own cleaning up is done, and the promise is rejected with the signal's reason.
 */
export async function runSliced<T>(
  work: Sliced<T>,
  environment: Pick<Environment, "monotonic" | "pause">,
  signal?: AbortSignal,
): Promise<T> {
  let started = environment.monotonic();
  try {
    while (true) {
      signal?.throwIfAborted();
      const step = work.next();
      if (step.done) return step.value;
      if (step.value !== undefined) {
        await step.value;
      } else if (environment.monotonic() - started >= SLICE_MS_MAX) {
        await environment.pause();
      } else {
        continue;
      }
      started = environment.monotonic();
    }
  } finally {
    // Nothing to do for work that came to its end; for the rest this runs its `finally` blocks.
    work.return(undefined as T);
  }
}
