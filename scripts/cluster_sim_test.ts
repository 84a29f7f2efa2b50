import assert from "node:assert/strict";
import { storyOf } from "../net/simulator/story.ts";
import { play } from "../net/simulator/world.ts";
import { parseClusterSeeds } from "./cluster_sim.ts";

Deno.test("seeds of the cluster's simulator that once failed pass", async () => {
  const text = await Deno.readTextFile(new URL("../testdata/cluster_seeds.txt", import.meta.url));
  for (const { seed } of parseClusterSeeds(text)) play(storyOf(seed));
});

Deno.test("parseClusterSeeds() reads a seed and its lesson, and refuses anything else", () => {
  assert.deepEqual(parseClusterSeeds("# For readers.\n\n12  It was late.\n"), [{ seed: 12, lesson: "It was late." }]);
  assert.throws(() => parseClusterSeeds("twelve  It was late.\n"), SyntaxError);
});
