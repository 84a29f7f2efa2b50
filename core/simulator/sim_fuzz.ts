/**
 * The simulator as a fuzzer: its seeds that once failed are played with those of all others.
 *
 *     deno task fuzz sim SEED [ROUNDS]        as `deno task sim`, which also shrinks and counts
 *
 * @module
 */
import { storyOf } from "./operation.ts";
import { play } from "./world.ts";

/** Plays one story a round: of `seed`, of `seed + 1`, and so on. */
export async function fuzz(seed: number, rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round++) await play(storyOf(seed + round));
}
