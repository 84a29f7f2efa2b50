import assert from "node:assert/strict";
import { Chance } from "../chance.ts";
import { HeadCache } from "./head_cache.ts";

Deno.test("HeadCache answers with what was set last or with nothing, and keeps within its bound", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const chance = new Chance(seed);
    const maxBytes = chance.pick([0, 1000, 100_000, 1_000_000]);
    const cache = new HeadCache(maxBytes);
    const keys = Array.from({ length: chance.pick([1, 10, 3000]) }, () => chance.bytes(16));
    const truth = new Map<Uint8Array, { version: number; sequence: number }>();
    let found = 0;
    for (let step = 0; step < 10_000; step++) {
      const key = chance.pick(keys);
      if (chance.oneIn(2)) {
        const head = {
          version: chance.below(2 ** 32 - 2),
          sequence: chance.below(2 ** 30) * chance.pick([1, 2 ** 20]),
        };
        cache.set(key, head.version, head.sequence);
        truth.set(key, head);
        assert.deepEqual(cache.get(key), head);
      } else {
        const head = cache.get(key);
        if (head === null) continue;
        found++;
        assert.deepEqual(head, truth.get(key), `seed ${seed}`);
      }
    }
    assert.ok(found > 0);
    assert.ok(cache.bytes <= Math.max(maxBytes, 64 * 192), `${cache.bytes} of ${maxBytes}`);
  }
});

Deno.test("HeadCache keeps all that its bound has room for, but for sets that fill early", () => {
  const chance = new Chance(1);
  const cache = new HeadCache(64 * 192 * 16);
  const keys = Array.from({ length: 64 * 8 * 16 / 2 }, () => chance.bytes(16));
  keys.forEach((key, i) => cache.set(key, i, i));
  const kept = keys.filter((key, i) => cache.get(key)?.version === i).length;
  assert.ok(kept > 0.95 * keys.length, `${kept} of ${keys.length}`);
});
