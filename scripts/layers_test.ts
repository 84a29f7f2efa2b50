import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";
import { importsOf, layerProblems } from "./layers.ts";

Deno.test("layers: what may be imported is left alone", () => {
  const allowed = [
    { from: "main.ts", to: "options.ts" },
    { from: "server.ts", to: "resp/mod.ts" },
    { from: "resp/mod.ts", to: "core/mod.ts" },
    { from: "resp/commands/a.ts", to: "resp/value.ts" },
    { from: "core/index/a.ts", to: "core/log/b.ts" },
    { from: "core/log/disk.ts", to: "node:fs" },
    { from: "core/a.ts", to: "node:crypto" },
    { from: "net/a.ts", to: "core/mod.ts" },
    { from: "net/consensus/a.ts", to: "core/placement.ts" },
    { from: "options.ts", to: "npm:smol-toml@1.9.1" },
    { from: "program/permissions.ts", to: "options.ts" },
    { from: "program/permissions.ts", to: "net/cluster_config.ts" },
    { from: "program/log.ts", to: "npm:@logtape/logtape@2.4.2" },
  ];
  assert.deepEqual(layerProblems(allowed), []);
});

Deno.test("layers: each way up is named", () => {
  const ways: [string, string, RegExp][] = [
    ["core/a.ts", "resp/b.ts", /core must not/],
    ["core/a.ts", "options.ts", /core must not/],
    ["resp/a.ts", "net/b.ts", /resp must not/],
    ["net/a.ts", "resp/b.ts", /net must not/],
    ["net/consensus/a.ts", "net/b.ts", /consensus may know/],
    ["net/consensus/a.ts", "core/environment.ts", /consensus may know/],
    ["resp/a.ts", "server.ts", /resp must not/],
    ["program/a.ts", "server.ts", /program must not/],
    ["net/a.ts", "program/b.ts", /net must not/],
    ["program/a.ts", "resp/b.ts", /program must not/],
    ["server.ts", "scripts/b.ts", /script or test/],
    ["core/a.ts", "core/b_test.ts", /script or test/],
    ["server.ts", "main.ts", /nobody knows it/],
    ["core/a.ts", "node:fs", /only core\/log\/disk.ts/],
    ["core/a.ts", "jsr:@std/assert", /only npm: and node:/],
    ["log.ts", "npm:uuid", /without its full version/],
    ["log.ts", "npm:uuid@^1.2.3", /without its full version/],
  ];
  for (const [from, to, why] of ways) {
    const problems = layerProblems([{ from, to }]);
    assert.equal(problems.length, 1, `${from} → ${to}`);
    assert.match(problems[0]!, why);
  }
  const twice = layerProblems([{ from: "a.ts", to: "npm:x@1.0.0" }, { from: "b.ts", to: "npm:x@1.0.0" }]);
  assert.deepEqual(twice, ["npm:x is imported in a.ts and b.ts: one file is enough"]);
});

Deno.test("layers: a planted import is found in Deno's graph, a type's too", async () => {
  const folder = await Deno.makeTempDir({ prefix: "esker-layers-" });
  try {
    const root = pathToFileURL(folder + "/");
    for (const name of ["core", "resp"]) Deno.mkdirSync(`${folder}/${name}`);
    Deno.writeTextFileSync(`${folder}/resp/b.ts`, "export type B = number;\nexport const b = 1;\n");
    Deno.writeTextFileSync(`${folder}/resp/c.ts`, "export type C = number;\n");
    Deno.writeTextFileSync(
      `${folder}/core/a.ts`,
      `import type { C } from "../resp/c.ts";\nexport const a: C = (await import("../resp/b.ts")).b;\n`,
    );
    Deno.writeTextFileSync(`${folder}/server.ts`, `import { a } from "./core/a.ts";\nconsole.log(a);\n`);
    assert.deepEqual(layerProblems(await importsOf(root, ["server.ts"])), [
      "core/a.ts imports resp/b.ts: core must not",
      "core/a.ts imports resp/c.ts: core must not",
    ]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
