import assert from "node:assert/strict";
import { EventIdTable } from "./event_ids.ts";
import { Chance } from "./chance.ts";
import { formatUuid } from "./uuid.ts";

Deno.test("a table of event ids keeps what a map by their text keeps, through growing and clearing", () => {
  const chance = new Chance(7);
  const table = new EventIdTable<number>(chance.below(0x1_0000_0000));
  const id = () => {
    const bytes = new Uint8Array(16);
    for (let i = 0; i < 16; i++) bytes[i] = i % 4 === 0 ? chance.below(8) : 0; // So few that they come again.
    return bytes;
  };
  for (const size of [0, 1, 40, 5000, 3, 300]) {
    const map = new Map<string, number>();
    for (let i = 0; i < size; i++) {
      const one = id();
      table.set(one, i);
      map.set(formatUuid(one), i);
      const other = id();
      assert.equal(table.get(other), map.get(formatUuid(other)));
    }
    for (let i = 0; i < 4096; i++) {
      const one = new Uint8Array(16);
      for (let word = 0; word < 4; word++) one[4 * word] = i >> 3 * word & 7;
      assert.equal(table.get(one), map.get(formatUuid(one)));
    }
    table.clear();
    assert.equal(table.get(new Uint8Array(16)), undefined);
  }
});
