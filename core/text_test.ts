import assert from "node:assert/strict";
import { textOf } from "./text.ts";

const encoder = new TextEncoder();

Deno.test("textOf() says what a TextDecoder says, wherever the text lies and whatever follows it", () => {
  const text =
    "The quick brown fox, and then the lazy dog: 0123456789 times; over and over, until it has 128 characters. ~"
      .repeat(2);
  for (let length = 0; length < 130; length++) {
    for (const after of [[], [0xff, 0xff], new Array<number>(40).fill(0xc3)]) {
      for (
        const said of [text.slice(0, length), text.slice(0, length >> 1) + "é" + text.slice(0, length >> 2), "\ufeff"]
      ) {
        const inside = encoder.encode(said);
        const bytes = Uint8Array.from([0xff, ...inside, ...after]);
        assert.equal(textOf(bytes, 1, 1 + inside.length), said);
      }
    }
  }
});

Deno.test("textOf() refuses what is not UTF-8", () => {
  for (const bytes of [[0x61, 0xff], [0xc3], [0xed, 0xa0, 0x80]]) {
    assert.throws(() => textOf(Uint8Array.from(bytes), 0, bytes.length), TypeError);
  }
});
