import assert from "node:assert/strict";
import { storyOf } from "./story.ts";
import { play } from "./world.ts";

const SEEDS = 20;

Deno.test("a cluster keeps its promises under all faults, for some seeds", () => {
  for (let seed = 1; seed <= SEEDS; seed++) play(storyOf(seed));
});

Deno.test("the same seed gives the same run", () => {
  assert.deepEqual(play(storyOf(4)), play(storyOf(4)));
});
