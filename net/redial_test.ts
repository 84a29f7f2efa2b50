import assert from "node:assert/strict";
import { Redial } from "./redial.ts";

/** A clock that stands until it is told to go, and the chance in the middle. */
class Clock {
  nowMs = 0;
  monotonic = () => this.nowMs;
  random = (bytes: Uint8Array) => void bytes.fill(255);

  /** How long until it is due, in steps of 10 ms. */
  waitFor(redial: Redial): number {
    const began = this.nowMs;
    while (!redial.isDue) this.nowMs += 10;
    return this.nowMs - began;
  }
}

Deno.test("redial: the first dials at once, the other leaves it some time", () => {
  const clock = new Clock();
  assert.equal(clock.waitFor(new Redial(true, clock)), 0);
  assert.equal(clock.waitFor(new Redial(false, clock)), 600);
});

Deno.test("redial: pauses double up to a second, and are short again after a link", () => {
  const clock = new Clock();
  const redial = new Redial(true, clock);
  const pauses = Array.from({ length: 5 }, () => {
    redial.failed();
    return clock.waitFor(redial);
  });
  assert.deepEqual(pauses, [200, 400, 800, 1000, 1000]);
  redial.lost();
  assert.equal(clock.waitFor(redial), 200);
});

Deno.test("redial: chance makes a pause shorter, at most by half", () => {
  const clock = new Clock();
  clock.random = (bytes) => void bytes.fill(0);
  const redial = new Redial(true, clock);
  redial.failed();
  assert.equal(clock.waitFor(redial), 100);
});
