import assert from "node:assert/strict";
import { findFuzzers, knownSeeds, loadFuzzer, parseSeeds } from "./fuzz.ts";

Deno.test("parseSeeds() reads names, seeds and lessons, and refuses other lines", () => {
  const text = "# for readers\n\nfolder 12  A cut journal is damage.\ndatabase 0 x\n";
  assert.deepEqual(parseSeeds(text), [
    { name: "folder", seed: 12, lesson: "A cut journal is damage." },
    { name: "database", seed: 0, lesson: "x" },
  ]);
  for (const line of ["folder 12", "folder twelve x", "12 folder x"]) {
    assert.throws(() => parseSeeds(`# ok\n${line}`), /line 2/);
  }
});

Deno.test("no seed that once failed fails again", async () => {
  const fuzzers = await findFuzzers();
  for (const { name, seed } of await knownSeeds()) {
    const url = fuzzers.get(name);
    assert.ok(url !== undefined, `testdata/seeds.txt names ${name}: there is no such fuzzer`);
    await (await loadFuzzer(url)).fuzz(seed, 1);
  }
});

Deno.test("every fuzzer is found", async () => {
  const names = [...(await findFuzzers()).keys()];
  for (const name of ["sim", "folder"]) assert.ok(names.includes(name), `${name} is not among ${names}`);
});
