import assert from "node:assert/strict";
import { Chance } from "../core/chance.ts";
import { Encoder, reuse } from "./encoder.ts";
import { Double, type Protocol, ReplyError, Simple, type Value } from "./value.ts";

function encoded(protocol: Protocol, write: (encoder: Encoder) => void): string {
  const encoder = new Encoder(protocol);
  write(encoder);
  return new TextDecoder().decode(encoder.take());
}

Deno.test("every kind of value has its form on RESP3", () => {
  const forms: [Value, string][] = [
    [null, "_\r\n"],
    [true, "#t\r\n"],
    [false, "#f\r\n"],
    [-3, ":-3\r\n"],
    ["", "$0\r\n\r\n"],
    ["€", "$3\r\n€\r\n"],
    [new Uint8Array([0x61, 0x0d, 0x0a]), "$3\r\na\r\n\r\n"],
    [new Simple("OK"), "+OK\r\n"],
    [new Double(0.125), ",0.125\r\n"],
    [new Double(0), ",0\r\n"],
    [new ReplyError("ERR", "no"), "-ERR no\r\n"],
    [["a", [1]], "*2\r\n$1\r\na\r\n*1\r\n:1\r\n"],
    [new Map([["a", true]]), "%1\r\n$1\r\na\r\n#t\r\n"],
    [new Set([1, 2]), "~2\r\n:1\r\n:2\r\n"],
  ];
  for (const [value, form] of forms) assert.equal(encoded(3, (encoder) => encoder.value(value)), form);
});

Deno.test("a RESP2 link never sees a RESP3 type", () => {
  const forms: [Value, string][] = [
    [null, "$-1\r\n"],
    [true, ":1\r\n"],
    [false, ":0\r\n"],
    [new Double(0.125), "$5\r\n0.125\r\n"],
    [new Map<string, Value>([["a", null]]), "*2\r\n$1\r\na\r\n$-1\r\n"],
    [new Set([new Simple("x")]), "*1\r\n+x\r\n"],
  ];
  for (const [value, form] of forms) assert.equal(encoded(2, (encoder) => encoder.value(value)), form);
});

Deno.test("numbers are written as they are, up to 2^53 - 1", () => {
  const numbers = [0, 9, 10, 99, 100, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 99_999_999, 100_000_000, 1_795_398_332_151];
  numbers.push(999_999_999_999_999, 1e15, Number.MAX_SAFE_INTEGER, -1, Number.MIN_SAFE_INTEGER);
  const chance = new Chance(1);
  for (let i = 0; i < 1000; i++) numbers.push(Math.floor(10 ** (chance.below(1600) / 100)));
  for (const number of numbers) assert.equal(encoded(3, (encoder) => encoder.number(number)), `:${number}\r\n`);
});

Deno.test("a line break in a simple string or an error becomes a blank", () => {
  assert.equal(encoded(2, (encoder) => encoder.simple("a\r\nb\x1b")), "+a  b \r\n");
  assert.equal(encoded(2, (encoder) => encoder.error("ERR", "a\r\n+OK")), "-ERR a  +OK\r\n");
});

Deno.test("text of every length and alphabet is a bulk string of its bytes", () => {
  for (let length = 0; length < 200; length++) {
    for (const char of ["a", "é", "😀"]) {
      const text = "x".repeat(length) + char;
      const bytes = new TextEncoder().encode(text).length;
      assert.equal(encoded(3, (encoder) => encoder.text(text)), `$${bytes}\r\n${text}\r\n`);
    }
  }
});

Deno.test("the buffer grows, is handed over whole, and is used again", () => {
  const encoder = new Encoder(3);
  const payload = new Uint8Array(100_000).fill(0x61);
  let expected = "";
  for (let i = 0; i < 50; i++) {
    encoder.number(i);
    encoder.bulk(payload.subarray(0, i * 1000));
    expected += `:${i}\r\n$${i * 1000}\r\n${"a".repeat(i * 1000)}\r\n`;
  }
  assert.equal(encoder.length, expected.length);
  const taken = encoder.take();
  assert.equal(new TextDecoder().decode(taken), expected);
  assert.equal(encoder.length, 0);
  assert.equal(encoder.written, expected.length);
  encoder.simple("OK");
  const small = encoder.take();
  reuse(small);
  const other = new Encoder(3);
  other.simple("again");
  assert.equal(other.take().buffer, small.buffer);
});
