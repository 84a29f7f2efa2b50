import assert from "node:assert/strict";
import { foreignTo } from "./bundle_client.ts";

Deno.test("what does not run outside of Deno is found in a bundle, and node:net is not", () => {
  assert.deepEqual(foreignTo('import { connect } from "node:net";\nexport { connect };\n'), []);
  const planted = [
    'import { open } from "node:fs";',
    'import "npm:redis";',
    'const disk = await import("./disk.mjs");',
    "Deno.open(path);",
  ];
  assert.deepEqual(foreignTo(planted.join("\n")), ["node:fs", "npm:redis", "import(", "Deno.open"]);
});
