import assert from "node:assert/strict";
import { type CachedFrame, TailCache } from "./tail_cache.ts";

function frame(frameBytes: number): CachedFrame {
  return { partition: 0, firstSequence: 0, events: [], eventBytes: [], frameBytes };
}

Deno.test("the tail cache keeps the newest frames, within its bound", () => {
  const cache = new TailCache(1000);
  for (let i = 0; i < 100; i++) cache.put(7, i, frame(100));
  const kept = Array.from({ length: 100 }, (_, i) => i).filter((i) => cache.get(7, i) !== undefined);
  assert.deepEqual(kept, [90, 91, 92, 93, 94, 95, 96, 97, 98, 99]);
  cache.put(8, 0, frame(950));
  assert.equal(cache.get(7, 99), undefined);
  assert.equal(cache.get(8, 0)?.frameBytes, 950);
});

Deno.test("offsets of different segments are different places", () => {
  const cache = new TailCache(1000);
  cache.put(0, 2 ** 32 - 1, frame(1));
  cache.put(1, 0, frame(2));
  cache.put(2_000_000, 2 ** 32 - 1, frame(3));
  const places: [number, number][] = [[0, 2 ** 32 - 1], [1, 0], [2_000_000, 2 ** 32 - 1], [1, 1]];
  assert.deepEqual(places.map(([segment, offset]) => cache.get(segment, offset)?.frameBytes), [1, 2, 3, undefined]);
});
