import assert from "node:assert/strict";
import { emptyLogEnd } from "./log/journal_format.ts";
import { type Followed, Watermark } from "./watermark.ts";

function streamKey(...bytes: number[]): Uint8Array {
  const key = new Uint8Array(16);
  key.set(bytes);
  return key;
}

class Counter {
  wakes = 0;
  woken(): void {
    this.wakes++;
  }
}

Deno.test("an append wakes those who follow its bucket, its partition or its streams, and nobody else", () => {
  const watermark = new Watermark(emptyLogEnd(0));
  const followed: Followed[] = ["all", 3, 4, streamKey(1), streamKey(2)];
  const followers = followed.map((one) => {
    const counter = new Counter();
    watermark.follow(one, counter);
    return counter;
  });
  const wakes = () => followers.map((follower) => follower.wakes);
  watermark.wake(3, [{ streamKey: streamKey(1) }]);
  assert.deepEqual(wakes(), [1, 1, 0, 1, 0]);
  watermark.wake(4, [{ streamKey: streamKey(9) }, { streamKey: streamKey(2) }]);
  assert.deepEqual(wakes(), [2, 1, 1, 1, 1]);
});

Deno.test("who left is not woken, and others of the same key still are", () => {
  const watermark = new Watermark(emptyLogEnd(0));
  for (const followed of ["all", 3, streamKey(1)] as Followed[]) {
    const left = new Counter(), stayed = new Counter();
    watermark.follow(followed, left);
    watermark.follow(followed, stayed);
    watermark.leave(followed, left);
    watermark.wake(3, [{ streamKey: streamKey(1) }]);
    assert.deepEqual([left.wakes, stayed.wakes], [0, 1]);
    watermark.leave(followed, stayed);
    assert.equal(watermark.followers, 0);
  }
});

Deno.test("a transaction wakes a follower once, however many of its events are of the stream", () => {
  const watermark = new Watermark(emptyLogEnd(0));
  const follower = new Counter();
  watermark.follow(streamKey(1), follower);
  watermark.wake(3, [1, 2, 1, 1].map((first) => ({ streamKey: streamKey(first) })));
  assert.equal(follower.wakes, 1);
});
