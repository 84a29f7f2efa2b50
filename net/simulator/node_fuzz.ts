/**
 * The simulator of a cluster of whole nodes as a fuzzer: `deno task fuzz node SEED [ROUNDS]`.
 *
 * @module
 */
import { storyOf } from "./story.ts";
import { play } from "./world.ts";

/** Each takes some tenths of a second. */
export const ROUNDS = 5;

/** Plays one story a round: of `seed`, of `seed + 1`, and so on. */
export async function fuzz(seed: number, rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round++) await play(storyOf(seed + round), "node");
}
