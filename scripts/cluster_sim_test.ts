import assert from "node:assert/strict";
import { storyOf } from "../net/simulator/story.ts";
import { play } from "../net/simulator/world.ts";
import { readClusterMutations } from "./cluster_mutations.ts";
import { parseClusterSeeds } from "./cluster_sim.ts";
import { mutate, readSource } from "./mutations.ts";

Deno.test("seeds of the cluster's simulator that once failed pass", async () => {
  const text = await Deno.readTextFile(new URL("../testdata/cluster_seeds.txt", import.meta.url));
  for (const { seed } of parseClusterSeeds(text)) play(storyOf(seed));
});

Deno.test("parseClusterSeeds() reads a seed and its lesson, and refuses anything else", () => {
  assert.deepEqual(parseClusterSeeds("# For readers.\n\n12  It was late.\n"), [{ seed: 12, lesson: "It was late." }]);
  assert.throws(() => parseClusterSeeds("twelve  It was late.\n"), SyntaxError);
});

Deno.test("every mutation of the cluster applies to the source as it is", async () => {
  const mutations = await readClusterMutations();
  assert.ok(mutations.length >= 15);
  for (const mutation of mutations) {
    const source = await readSource(mutation);
    assert.doesNotThrow(() => mutate(source, mutation), mutation.name);
  }
});
