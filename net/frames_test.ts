import assert from "node:assert/strict";
import { Chance } from "../core/chance.ts";
import { BadFrame, FrameDecoder, FrameQueue } from "./frames.ts";

Deno.test("frames: bodies come back in order, however the stream is cut, for a hundred seeds", () => {
  for (let seed = 0; seed < 100; seed++) {
    const chance = new Chance(seed);
    const queue = new FrameQueue();
    const decoder = new FrameDecoder(5000);
    const sent: [Uint8Array, boolean][] = [];
    const came: [Uint8Array, boolean][] = [];
    let waiting = 0;
    const collect = () => {
      for (let body = decoder.next(); body !== null; body = decoder.next()) came.push([body, decoder.isControl]);
    };
    for (let step = 0; step < 300; step++) {
      if (chance.oneIn(2)) {
        const body = chance.bytes(chance.oneIn(10) ? 5000 : chance.oneIn(4) ? 0 : chance.below(40));
        const control = chance.oneIn(5);
        queue.push(body, control);
        sent.push([body, control]);
        waiting += 4 + body.length;
      } else {
        const slice = queue.take(chance.oneIn(3) ? chance.below(5) : chance.below(4000));
        waiting -= slice.length;
        const cut = chance.below(slice.length + 1);
        decoder.push(slice.subarray(0, cut));
        if (chance.oneIn(2)) collect();
        decoder.push(slice.subarray(cut));
        collect();
      }
      assert.equal(queue.bytes, waiting);
    }
    decoder.push(queue.take(Infinity));
    collect();
    assert.deepEqual(came, sent);
    assert.equal(queue.bytes, 0);
  }
});

Deno.test("frames: a body over the limit is an error before it has come, and one at the limit is none", () => {
  const queue = new FrameQueue();
  queue.push(new Uint8Array(10));
  queue.push(new Uint8Array(11));
  const decoder = new FrameDecoder(10);
  decoder.push(queue.take(14 + 4));
  assert.equal(decoder.next()!.length, 10);
  assert.throws(() => decoder.next(), new BadFrame("A frame of 11 bytes comes, and 10 is the limit"));
});

Deno.test("frames: a body in one piece is a view, and not a copy", () => {
  const queue = new FrameQueue();
  queue.push(Uint8Array.of(1, 2, 3));
  const piece = queue.take(100);
  const decoder = new FrameDecoder(10);
  decoder.push(piece);
  assert.equal(decoder.next()!.buffer, piece.buffer);
});
