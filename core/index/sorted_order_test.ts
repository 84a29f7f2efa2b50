/**
 * The radix sort against the sort of the language.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../chance.ts";
import { sortedOrder } from "./sorted_order.ts";

Deno.test("sortedOrder() agrees with a comparing sort, equal rows in the order in which they came", () => {
  for (let seed = 1; seed <= 30; seed++) {
    const chance = new Chance(seed);
    const count = seed === 1 ? 70_000 : chance.pick([0, 1, 2, 50, 3000]);
    const bound = chance.pick([1, 3, 300, 2 ** 32]);
    const columns = [
      Uint32Array.from({ length: count + 5 }, () => chance.below(bound)),
      Uint16Array.from({ length: count + 5 }, () => chance.below(bound)),
      Uint32Array.from({ length: count + 5 }, () => chance.below(bound)),
    ];
    const byHand = Array.from({ length: count }, (_, row) => row).sort((a, b) => {
      const column = columns.find((column) => column[a] !== column[b]);
      return column === undefined ? a - b : column[a]! - column[b]!;
    });
    const work = sortedOrder(columns, count);
    let step = work.next();
    while (!step.done) step = work.next();
    assert.deepEqual([...step.value], byHand);
  }
});
