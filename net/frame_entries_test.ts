import assert from "node:assert/strict";
import { crc32 } from "node:zlib";
import { Chance } from "../core/chance.ts";
import { Chain as ChainSum, frameBytesAt } from "../core/log/format.ts";
import { FrameEntries } from "./frame_entries.ts";
import { emptyFrame, golden, SHAPE, someFrames } from "./messages_fuzz.ts";

const FROM = 7;
const PREV_CHAIN = { low: 1, high: 2 };
const MUST = { bucket: 1, bucketCount: SHAPE.bucketCount, from: FROM, prevChain: PREV_CHAIN, prevTerm: 3, term: 5 };

/** Four entries without events, whose facts are changed before their checksums and chains are made. */
function fourFrames(change: (i: number, facts: { logIndex: number; term: number; bucket: number }) => void) {
  const chain = new ChainSum(PREV_CHAIN.low, PREV_CHAIN.high);
  const frames: Uint8Array[] = [];
  for (let i = 0; i < 4; i++) {
    const facts = { logIndex: FROM + i, term: 3 + (i >> 1), bucket: 1 };
    change(i, facts);
    const frame = emptyFrame(facts.bucket, facts.logIndex, facts.term, chain);
    chain.step(facts.term, facts.logIndex, crc32(frame.subarray(8)));
    frames.push(frame);
  }
  return frames;
}

function joined(frames: Uint8Array[]): Uint8Array {
  return Uint8Array.from(frames.flatMap((frame) => [...frame]));
}

Deno.test("entries are refused by the name of what is wrong with them", () => {
  const right = fourFrames(() => {});
  const verify = (frames: Uint8Array, must: Partial<typeof MUST> = {}) =>
    FrameEntries.verify(frames, { ...MUST, ...must });
  const bytes = joined(right);
  assert.ok(verify(bytes) instanceof FrameEntries);

  assert.equal(verify(bytes.subarray(0, 0)), "there is no entry");
  assert.equal(verify(bytes.subarray(0, bytes.length - 1)), "entry 10 is cut off");
  assert.equal(verify(Uint8Array.of(...bytes, 0, 0, 0, 0)), "entry 11 is shorter than any frame");
  const flipped = bytes.slice();
  flipped[right[0]!.length + 20]! ^= 1;
  assert.equal(verify(flipped), "entry 8: a frame fails its checksum");
  assert.equal(verify(joined(right.toSpliced(1, 1))), "entry 8 has log index 9");
  assert.equal(verify(joined([right[0]!, right[0]!])), "entry 8 has log index 7");
  assert.equal(verify(bytes, { from: 8 }), "entry 8 has log index 7");
  const other = fourFrames((i, facts) => facts.term += i === 0 ? 1 : 0);
  assert.equal(
    verify(joined([other[0]!, ...right.slice(1)])),
    "entry 8 does not follow from the one before it: its chain is another",
  );
  assert.equal(
    verify(bytes, { prevChain: { low: 1, high: 3 } }),
    "entry 7 does not follow from the one before it: its chain is another",
  );
  assert.equal(verify(bytes, { prevTerm: 4 }), "entry 7 has term 3: one before it has 4");
  assert.equal(verify(bytes, { term: 3 }), "entry 9 has term 4: it comes in 3");
  const falls = fourFrames((i, facts) => facts.term = 5 - i % 2);
  assert.equal(verify(joined(falls)), "entry 8 has term 4: one before it has 5");
  const foreign = fourFrames((i, facts) => facts.bucket += i === 2 ? 1 : 0);
  assert.equal(verify(joined(foreign)), "entry 9 is of partition 2, which is not in bucket 1");
  const single = golden("segments/single_event.hex");
  assert.equal(
    verify(single, { bucket: 2, from: 300, prevChain: ChainSum.ofBucket(1), prevTerm: 1 }),
    "entry 300 is of partition 25, which is not in bucket 2",
  );
});

Deno.test("a frame whose checksum is right over what no node wrote is refused", () => {
  const seal = (frame: Uint8Array) => {
    const view = new DataView(frame.buffer);
    view.setUint32(0, frame.length - 8, true);
    view.setUint32(4, crc32(frame.subarray(8)), true);
    return FrameEntries.verify(frame, { ...MUST, bucket: 1, from: 300, prevChain: null, prevTerm: 1 });
  };
  const single = golden("segments/single_event.hex");
  assert.ok(seal(single) instanceof FrameEntries);
  assert.equal(seal(Uint8Array.of(...single, 0)), "entry 300: its events do not end where it ends");
  assert.equal(seal(single.slice(0, -1)), "entry 300: an event ends beyond its frame");
  assert.equal(seal(single.with(19, 0x80)), "entry 300: unknown flags 128");
  const endless = Uint8Array.of(...single.subarray(0, 16), ...new Array(30).fill(0xff));
  assert.match(String(seal(endless)), /^entry 300: /);
});

Deno.test("entries say of each its term, chain and bytes, also without those that are left out", () => {
  for (let seed = 0; seed < 50; seed++) {
    const chance = new Chance(seed);
    const count = chance.between(1, 8);
    const { frames, lastTerm } = someFrames(chance, 1, { logIndex: FROM, prevChain: PREV_CHAIN, term: 3 }, count);
    const all = FrameEntries.verify(frames, { ...MUST, term: lastTerm });
    assert.ok(typeof all !== "string", String(all));
    assert.deepEqual([all.from, all.end, all.byteLength], [FROM, FROM + count, frames.length]);
    assert.deepEqual(all.chainAt(FROM), PREV_CHAIN);
    const from = FROM + chance.below(count);
    const end = chance.between(from + 1, all.end);
    const some = all.since(from).until(end).since(from);
    assert.equal(some.frames.buffer, frames.buffer, "nothing is copied");
    const chain = new ChainSum(PREV_CHAIN.low, PREV_CHAIN.high);
    let bytes = 0;
    for (let i = FROM; i < all.end; i++) {
      const frame = all.frameAt(i);
      const view = new DataView(frame.buffer, frame.byteOffset);
      assert.equal(frameBytesAt(view, 0), frame.length);
      const isOne = i >= from && i < end;
      if (isOne) {
        assert.deepEqual(some.frameAt(i), frame);
        assert.equal(some.termAt(i), all.termAt(i));
        assert.deepEqual(some.chainAt(i), { low: chain.low, high: chain.high });
        bytes += frame.length;
      }
      chain.step(all.termAt(i), i, view.getUint32(4, true));
      assert.deepEqual(all.chainAt(i + 1), { low: chain.low, high: chain.high });
      if (isOne) assert.deepEqual(some.chainAt(i + 1), all.chainAt(i + 1));
    }
    assert.deepEqual([some.from, some.end, some.byteLength], [from, end, bytes]);
    const again = FrameEntries.verify(some.frames, { ...MUST, from, prevChain: null, term: lastTerm });
    assert.ok(again instanceof FrameEntries, String(again));
  }
});

Deno.test("entries that were just encoded are those that would be verified", () => {
  const frames = fourFrames((_, facts) => facts.term = 3);
  const ends: number[] = [];
  for (const frame of frames) ends.push((ends.at(-1) ?? 0) + frame.length);
  const crcs = frames.map((frame) => crc32(frame.subarray(8)));
  const bytes = joined(frames);
  const first = { logIndex: FROM, prevChain: PREV_CHAIN, term: 3 };
  assert.deepEqual(FrameEntries.encoded(bytes, first, ends, crcs), FrameEntries.verify(bytes, MUST));
});
