import assert from "node:assert/strict";
import { isUnread, type Lock, lockOf } from "./compile.ts";

const LOCK: Lock = {
  version: "5",
  specifiers: { "npm:@a/a@1.0.0": "1.0.0", "npm:b@2.0.0": "2.0.0_c@1.0.0", "npm:d@1.0.0": "1.0.0" },
  npm: {
    "@a/a@1.0.0": { integrity: "1", dependencies: ["c@2.0.0"] },
    "b@2.0.0_c@1.0.0": { integrity: "2", dependencies: ["c@1.0.0", "e"] },
    "c@1.0.0": { integrity: "3" },
    "c@2.0.0": { integrity: "4", dependencies: ["@a/a"] },
    "d@1.0.0": { integrity: "5" },
    "e@3.0.0": { integrity: "6" },
  },
};

Deno.test("lockOf() keeps what a specifier needs, directly or not, and nothing else", () => {
  const kept = (specifiers: string[]) => Object.keys(lockOf(LOCK, specifiers).npm).sort();
  assert.deepEqual(kept(["npm:@a/a@1.0.0"]), ["@a/a@1.0.0", "c@2.0.0"]);
  assert.deepEqual(kept(["npm:b@2.0.0"]), ["b@2.0.0_c@1.0.0", "c@1.0.0", "e@3.0.0"]);
  assert.deepEqual(kept(["npm:d@1.0.0"]), ["d@1.0.0"]);
  assert.deepEqual(lockOf(LOCK, ["npm:b@2.0.0"]).specifiers, { "npm:b@2.0.0": "2.0.0_c@1.0.0" });
  assert.throws(() => lockOf(LOCK, ["npm:f@1.0.0"]), /does not know npm:f@1\.0\.0/);
});

Deno.test("isUnread() leaves out what nobody runs, and keeps code, its kind, and licences", () => {
  for (const name of ["a.js.map", "a.ts", "a.d.ts", "index.min.js", "a.d.mts", "a.wat"]) {
    assert.ok(isUnread(name), name);
  }
  for (
    const name of ["a.js", "min.js", "a.mjs", "a.cjs", "package.json", "a.wasm", "LICENSE", "LICENSE.md", "maps.js"]
  ) {
    assert.ok(!isUnread(name), name);
  }
});
