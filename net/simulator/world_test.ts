import assert from "node:assert/strict";
import { storyOf } from "./story.ts";
import { play } from "./world.ts";

const SEEDS = 20;
/** The real thing takes longer. */
const ENGINE_SEEDS = 4;

Deno.test("a cluster keeps its promises under all faults, for some seeds", async () => {
  let wired = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    if ((await play(storyOf(seed))).counts.get("packets through bytes")! > 0) wired++;
  }
  assert.ok(wired > 0 && wired < SEEDS, `in ${wired} of ${SEEDS} stories packets went through bytes`);
});

Deno.test("the same seed gives the same run", async () => {
  assert.deepEqual(await play(storyOf(4)), await play(storyOf(4)));
});

Deno.test("engine and driver keep the same promises, for some seeds", async () => {
  let truncations = 0;
  for (let seed = 1; seed <= ENGINE_SEEDS; seed++) {
    truncations += (await play(storyOf(seed, true), "engine")).counts.get("truncations") ?? 0;
  }
  assert.ok(truncations > 0);
});

Deno.test("whole nodes keep them, too, to clients that ask and follow at any node, for some seeds", async () => {
  for (let seed = 1; seed <= 8; seed++) await play(storyOf(seed), "node");
});

Deno.test("the same seed gives the same run of whole nodes", async () => {
  assert.deepEqual(await play(storyOf(4), "node"), await play(storyOf(4), "node"));
});

Deno.test("the same seed gives the same run of engine and driver", async () => {
  assert.deepEqual(await play(storyOf(4, true), "engine"), await play(storyOf(4, true), "engine"));
});
