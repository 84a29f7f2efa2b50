import assert from "node:assert/strict";
import { runFromUrl } from "./from_url.ts";
import { OWN_PROGRAM_FLAG, PINNED_PROGRAM_FLAGS, PROGRAM_FLAGS, typed } from "./program_flags.ts";

const ROOT = new URL("../", import.meta.url);

Deno.test("from a URL: starts, stores, reads and stops with the flags that the README names", async () => {
  assert.ok(await runFromUrl(Deno.execPath()) > 20);
});

Deno.test("the README and the tasks name the flags that are tested", () => {
  const { tasks } = JSON.parse(Deno.readTextFileSync(new URL("deno.json", ROOT)));
  assert.equal(tasks.start.command, `deno run ${typed(PINNED_PROGRAM_FLAGS)} main.ts`);
  assert.equal(tasks.demo.command, `deno run ${typed(PINNED_PROGRAM_FLAGS)} ${OWN_PROGRAM_FLAG} main.ts cluster demo`);
  assert.ok(Deno.readTextFileSync(new URL("README.md", ROOT)).includes(`deno run ${typed(PROGRAM_FLAGS)} https`));
});
