import assert from "node:assert/strict";
import { Chance } from "./chance.ts";
import {
  formatUuid,
  isMadeFromName,
  parseUuid,
  readUuid,
  transactionIdOf,
  uuidV5,
  writeTransactionId,
  writeUuid,
} from "./uuid.ts";

const text = new TextDecoder();

Deno.test("what is written of a UUID is what formatUuid() says of it, and of a transaction's id likewise", () => {
  const chance = new Chance(1);
  const into = new Uint8Array(40);
  for (let i = 0; i < 1000; i++) {
    const bytes = chance.bytes(20);
    const from = chance.below(5);
    const count = chance.between(1, 2);
    const at = chance.below(5);
    writeUuid(into, at, bytes, from);
    assert.equal(text.decode(into.subarray(at, at + 36)), formatUuid(bytes, from));
    writeTransactionId(into, at, bytes, from, count);
    assert.equal(text.decode(into.subarray(at, at + 36)), formatUuid(transactionIdOf(bytes.subarray(from), count)));
  }
});

Deno.test("isMadeFromName() holds for every UUID that was", () => {
  const chance = new Chance(2);
  for (let i = 0; i < 1000; i++) assert(isMadeFromName(uuidV5(chance.bytes(16), chance.bytes(chance.below(64)))));
  assert(!isMadeFromName(Uint8Array.from({ length: 16 }, (_, at) => at === 6 ? 0x4f : 0x55)));
});

Deno.test("a UUID is read alike by each of its forms, whatever stands in it", () => {
  const chance = new Chance(11);
  const signs = "0123456789abcdefABCDEF-g{} \u0130\u{1f600}";
  for (let i = 0; i < 20_000; i++) {
    const bytes = chance.bytes(16);
    let text = formatUuid(bytes);
    if (chance.oneIn(2)) text = text.toUpperCase();
    assert.deepEqual(parseUuid(text), bytes);
    assert.deepEqual(parseUuid(text.replaceAll("-", "")), bytes);
    assert.deepEqual(parseUuid(`{${text}}`), bytes);
    assert.deepEqual(readUuid(new TextEncoder().encode(`*${text}`), 1), bytes);
    const at = chance.below(text.length);
    const other = text.slice(0, at) + chance.pick([...signs]) + text.slice(at + 1);
    const expected = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(other);
    assert.equal(parseUuid(other) !== null, expected, other);
    if (/^[ -~]*$/.test(other)) assert.equal(readUuid(new TextEncoder().encode(other), 0) !== null, expected, other);
  }
});
