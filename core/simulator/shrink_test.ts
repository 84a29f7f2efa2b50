import assert from "node:assert/strict";
import { shrink } from "./shrink.ts";

Deno.test("shrink() leaves only what a failure takes, in its order", async () => {
  const list = Array.from({ length: 100 }, (_, i) => i);
  const failure = (list: readonly number[]) => {
    const [a, b, c] = [3, 41, 97].map((wanted) => list.indexOf(wanted));
    return Promise.resolve(a! >= 0 && a! < b! && b! < c! ? "three" : null);
  };
  assert.deepEqual(await shrink(list, failure), [3, 41, 97]);
});

Deno.test("shrink() does not take another failure for the same", async () => {
  const failure = (list: readonly number[]) =>
    Promise.resolve(list.includes(5) ? "five" : list.length < 8 ? "few" : null);
  assert.deepEqual(await shrink([1, 2, 3, 4, 5, 6, 7, 8], failure), [5]);
});

Deno.test("shrink() gives up after so many tries, with what it has", async () => {
  let tries = 0;
  const failure = (list: readonly number[]) => {
    tries++;
    return Promise.resolve(list.length > 10 ? "long" : null);
  };
  const shrunk = await shrink(Array.from({ length: 64 }, (_, i) => i), failure, 5);
  assert.equal(tries, 6, "five, and the look at the whole list");
  assert.ok(shrunk.length > 10 && shrunk.length < 64);
});

Deno.test("shrink() refuses a list that does not fail", async () => {
  await assert.rejects(shrink([1], () => Promise.resolve(null)), /Only a list that fails/);
});
