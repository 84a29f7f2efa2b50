import assert from "node:assert/strict";
import { Chance } from "../../core/chance.ts";
import { agreedEnd, TermTable } from "./entries.ts";

/** A log as a list of terms, the simple way. */
function tableOf(terms: readonly number[]): TermTable {
  const table = new TermTable();
  terms.forEach((term, i) => table.add(term, i));
  return table;
}

function randomTerms(chance: Chance): number[] {
  let term = 1;
  return Array.from({ length: chance.below(30) }, () => term += chance.oneIn(4) ? chance.between(1, 3) : 0);
}

Deno.test("TermTable answers as a list of all terms would, for a thousand seeds", () => {
  for (let seed = 0; seed < 1000; seed++) {
    const chance = new Chance(seed);
    const terms = randomTerms(chance);
    const table = tableOf(terms);
    if (chance.oneIn(2)) {
      const end = chance.below(terms.length + 1);
      terms.length = end;
      table.cut(end);
    }
    assert.equal(table.lastTerm, terms.at(-1) ?? 0);
    for (let end = 0; end <= terms.length; end++) assert.equal(table.before(end), terms[end - 1] ?? 0);
    for (let term = 0; term < 40; term++) {
      const first = terms.indexOf(term);
      assert.equal(table.startOf(term), first < 0 ? null : first);
      assert.equal(table.endOf(term, terms.length), first < 0 ? null : terms.lastIndexOf(term) + 1);
    }
    assert.deepEqual(new TermTable(table.newest(100)).newest(100), table.newest(100));
    assert.equal(table.newest(2).length, Math.min(2, new Set(terms).size));
  }
});

Deno.test("TermTable refuses a term that goes back", () => {
  const table = tableOf([3, 5]);
  assert.throws(() => table.add(4, 2), RangeError);
});

Deno.test("agreedEnd() finds where two logs part, for a thousand seeds", () => {
  for (let seed = 0; seed < 1000; seed++) {
    const chance = new Chance(seed);
    // Both are beginnings of logs of leaders: the same up to some end, and then of other terms.
    const shared = randomTerms(chance);
    const last = shared.at(-1) ?? 0;
    const a = [...shared, ...Array.from({ length: chance.below(5) }, () => last + 1)];
    const b = [...shared, ...Array.from({ length: chance.below(5) }, () => last + 2)];
    const agreed = agreedEnd(tableOf(a), a.length, tableOf(b).newest(100), b.length);
    assert.equal(agreed ?? 0, shared.length);
    const shorter = chance.below(shared.length + 1);
    const prefix = shared.slice(0, shorter);
    assert.equal(agreedEnd(tableOf(prefix), shorter, tableOf(b).newest(100), b.length) ?? 0, shorter);
  }
});
