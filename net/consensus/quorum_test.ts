import assert from "node:assert/strict";
import { Chance } from "../../core/chance.ts";
import { majority, reachedByMajority } from "./quorum.ts";

Deno.test("two majorities always share a replica, and no fewer would", () => {
  for (let replicas = 1; replicas < 10; replicas++) {
    assert.ok(2 * majority(replicas) > replicas);
    assert.ok(2 * (majority(replicas) - 1) <= replicas);
  }
});

Deno.test("reachedByMajority() agrees with counting by hand, for a thousand seeds", () => {
  for (let seed = 0; seed < 1000; seed++) {
    const chance = new Chance(seed);
    const values = Array.from({ length: chance.between(1, 7) }, () => chance.below(10));
    const reached = Math.max(
      ...values.filter((value) => values.filter((other) => other >= value).length >= majority(values.length)),
    );
    assert.equal(reachedByMajority(Float64Array.from(values)), reached, `${values}`);
  }
});
