import assert from "node:assert/strict";
import { Chance } from "./chance.ts";
import { formatUuid, isMadeFromName, transactionIdOf, uuidV5, writeTransactionId, writeUuid } from "./uuid.ts";

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
