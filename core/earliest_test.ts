import assert from "node:assert/strict";
import { Chance } from "./chance.ts";
import { Earliest } from "./earliest.ts";

Deno.test("the first is always the earliest, as sorting says it, for a thousand seeds", () => {
  for (let seed = 1; seed <= 1000; seed++) {
    const chance = new Chance(seed);
    const earliest = new Earliest<{ sequence: number }>();
    const sorted: { sequence: number }[] = [];
    for (let step = 0; step < 60; step++) {
      const first = sorted[0];
      if (first === undefined || chance.below(3) > 0) {
        const thing = { sequence: chance.below(100) };
        earliest.add(thing);
        sorted.push(thing);
      } else if (chance.below(2) === 0) {
        assert.equal(earliest.first!.sequence, first.sequence);
        sorted.splice(sorted.indexOf(earliest.first!), 1);
        earliest.removeFirst();
      } else {
        earliest.first!.sequence += chance.below(50);
        earliest.firstMoved();
      }
      sorted.sort((one, other) => one.sequence - other.sequence);
      assert.equal(earliest.size, sorted.length);
      assert.equal(earliest.first?.sequence, sorted[0]?.sequence);
      assert.equal(earliest.secondSequence, sorted[1]?.sequence ?? Infinity);
    }
  }
});
