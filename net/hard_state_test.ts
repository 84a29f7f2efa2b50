import assert from "node:assert/strict";
import { crc32 } from "node:zlib";
import { Chance } from "../core/chance.ts";
import type { HardState } from "./consensus/effect.ts";
import { ID_MAX } from "./consensus/message.ts";
import { newHardState } from "./consensus/replica_state.ts";
import { decodeHardState, encodeHardState } from "./hard_state.ts";

/** Any hard state that there can be. */
function someHardState(chance: Chance): HardState {
  const number = () => chance.pick([0, 1, 127, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER - 1, chance.below(1000)]);
  const idOrNone = () => Math.min(number(), ID_MAX);
  const id = () => Math.max(1, idOrNone());
  const term = number();
  const heard = chance.oneIn(2);
  return {
    term,
    startedTerm: Math.min(term, number()),
    leaderDataId: heard ? id() : 0,
    leaderBoot: heard ? id() : 0,
    dataId: id(),
    mode: chance.pick(["normal", "recovering"]),
    founder: chance.oneIn(2),
    dataIds: Array.from({ length: chance.between(1, 7) }, () => chance.pick([-1, 0, idOrNone()])),
    retired: Array.from({ length: chance.below(33) }, id),
  };
}

function withCrc(bytes: Uint8Array): Uint8Array {
  const end = bytes.length - 4;
  new DataView(bytes.buffer).setUint32(end, crc32(bytes.subarray(0, end)), true);
  return bytes;
}

Deno.test("a hard state reads as it was written, and equal states are equal bytes", () => {
  for (let seed = 0; seed < 500; seed++) {
    const hard = someHardState(new Chance(seed));
    const bytes = encodeHardState(hard);
    assert.deepEqual(decodeHardState(bytes), hard);
    assert.deepEqual(encodeHardState(structuredClone(hard)), bytes);
    assert.deepEqual(decodeHardState(Uint8Array.of(0, ...bytes).subarray(1)), hard, "wherever it lies");
  }
});

Deno.test("the hard state of a new replica has these bytes", () => {
  const hard: HardState = { ...newHardState(3, 0x0102_0304_0506, "normal"), dataIds: [-1, 0, 1] };
  const words = [2, 0, 0, 0, 0x0102_0304_0506, 0, 1, 2];
  const expected = new Uint8Array(4 + 8 * words.length + 4);
  expected.set([1, 2, 3, 0]);
  const view = new DataView(expected.buffer);
  words.forEach((word, i) => view.setBigUint64(4 + 8 * i, BigInt(word), true));
  assert.deepEqual(encodeHardState(hard), withCrc(expected));
});

Deno.test("a hard state that is torn at any byte, or has any bit flipped, is refused", () => {
  const bytes = encodeHardState(someHardState(new Chance(1)));
  for (let end = 0; end < bytes.length; end++) assert.equal(typeof decodeHardState(bytes.subarray(0, end)), "string");
  assert.equal(typeof decodeHardState(Uint8Array.of(...bytes, 0)), "string");
  for (let bit = 0; bit < 8 * bytes.length; bit++) {
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    assert.equal(typeof decodeHardState(bytes), "string", `bit ${bit}`);
    bytes[bit >> 3]! ^= 1 << (bit & 7);
  }
});

Deno.test("a right checksum over what no replica wrote is refused, or it is a state that would be written so", () => {
  for (let seed = 0; seed < 3000; seed++) {
    const chance = new Chance(seed);
    const bytes = encodeHardState(someHardState(chance));
    for (let i = chance.between(1, 3); i > 0; i--) bytes[chance.below(bytes.length - 4)] = chance.below(256);
    const hard = decodeHardState(withCrc(bytes));
    if (typeof hard !== "string") assert.deepEqual(encodeHardState(hard), bytes);
  }
  const hard = newHardState(3, 5, "normal");
  const encoded = encodeHardState(hard);
  const refusal = (at: number, byte: number) => decodeHardState(withCrc(encoded.with(at, byte)));
  assert.equal(refusal(0, 2), "the hard state has version 2: this program reads 1");
  assert.equal(refusal(1, 4), "the hard state has unknown flags 4");
  assert.equal(refusal(2, 4), "the hard state has another layout");
  assert.equal(refusal(4 + 7, 1), "the hard state is none: term is NaN");
  assert.equal(refusal(4 + 8, 3), "the hard state is none: term 3 was started in term 2");
  assert.equal(refusal(4 + 16, 1), "the hard state is none: half a leader is known");
});

Deno.test("a state that no replica has is not encoded", () => {
  const hard = newHardState(3, 5, "normal");
  const bad: Partial<HardState>[] = [
    { term: NaN },
    { term: -1 },
    { term: 1.5 },
    { term: 2 ** 53 },
    { startedTerm: 3 },
    { leaderBoot: 1 },
    { dataId: 0 },
    { dataIds: [] },
    { dataIds: [-2, 0, 0] },
    { dataId: ID_MAX + 1 },
    { leaderDataId: 1, leaderBoot: ID_MAX + 1 },
    { leaderDataId: ID_MAX + 1, leaderBoot: 1 },
    { dataIds: [ID_MAX + 1, 0, 0] },
    { retired: [ID_MAX + 1] },
    { retired: [0] },
    { retired: new Array(256).fill(1) },
  ];
  for (const change of bad) assert.throws(() => encodeHardState({ ...hard, ...change }), RangeError);
});
