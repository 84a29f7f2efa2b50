/**
 * The cache against what it promises: bounded, counted, and nothing of a dropped file.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../chance.ts";
import { BlockCache, CachedFile } from "./block_cache.ts";

Deno.test("BlockCache keeps within its bound, and answers with what was put last or with nothing", () => {
  const chance = new Chance(1);
  const cache = new BlockCache(50_000);
  const files = Array.from({ length: 4 }, () => new CachedFile());
  const truth = new Map<CachedFile, Map<number, DataView>>(files.map((file) => [file, new Map()]));
  let [asked, found] = [0, 0];
  for (let round = 0; round < 5000; round++) {
    const file = chance.pick(files);
    const block = chance.below(6);
    if (chance.oneIn(200)) {
      cache.drop(file);
      truth.get(file)!.clear();
    }
    asked++;
    const view = cache.get(file, block);
    if (view === null) {
      const read = new DataView(new ArrayBuffer(8));
      truth.get(file)!.set(block, read);
      cache.put(file, block, read);
    } else {
      found++;
      assert.equal(view, truth.get(file)!.get(block));
    }
    assert.ok(cache.memoryBytes <= 50_000);
    assert.equal(cache.entries, files.reduce((sum, { blocks }) => sum + blocks.size, 0));
  }
  assert.deepEqual([cache.hits, cache.misses], [found, asked - found]);
  assert.ok(found > 500 && cache.evictions > 500);
  for (const file of files) cache.drop(file);
  assert.deepEqual([cache.entries, cache.memoryBytes], [0, 0]);
});

Deno.test("BlockCache keeps a block that is used all the time", () => {
  const cache = new BlockCache(20_000);
  const file = new CachedFile();
  const kept = new DataView(new ArrayBuffer(8));
  cache.put(file, 0, kept);
  for (let block = 1; block < 100; block++) {
    assert.equal(cache.get(file, 0), kept);
    cache.put(file, block, new DataView(new ArrayBuffer(8)));
  }
  assert.equal(cache.evictions, 100 - cache.entries);
});
