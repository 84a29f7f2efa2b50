import assert from "node:assert/strict";
import { hash as systemHash } from "node:crypto";
import { Chance } from "./chance.ts";
import { sha1, SHA1_PADDING_BYTES } from "./sha1.ts";

Deno.test("sha1() agrees with the system's, for every length up to 1100 bytes", () => {
  const chance = new Chance(1);
  const hash = new Int32Array(4);
  for (let length = 0; length <= 1100; length++) {
    const buffer = new Uint8Array(length + SHA1_PADDING_BYTES);
    chance.fill(buffer); // What is behind the message does not count.
    const expected = systemHash("sha1", buffer.slice(0, length), "hex").slice(0, 32);
    sha1(buffer, length, hash);
    assert.equal([...hash].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join(""), expected);
  }
});
