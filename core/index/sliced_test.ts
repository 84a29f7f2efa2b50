/**
 * The loop that runs long work in slices.
 *
 * @module
 */
import assert from "node:assert/strict";
import { runSliced, type Sliced } from "./sliced.ts";

/** A clock that a step of work moves, and a count of how often the thread was given away. */
function makeClock() {
  const clock = {
    ms: 0,
    pauses: 0,
    monotonic: () => clock.ms,
    pause: () => {
      clock.pauses++;
      return Promise.resolve();
    },
  };
  return clock;
}

Deno.test("runSliced() gives the thread away after each millisecond of work, and returns the result", async () => {
  const clock = makeClock();
  function* work(): Sliced<string> {
    for (let step = 0; step < 100; step++) {
      clock.ms += 0.25;
      yield;
    }
    return "done";
  }
  assert.equal(await runSliced(work(), clock), "done");
  assert.equal(clock.pauses, 25);
});

Deno.test("runSliced() waits for what work yields, and cleans up after a failure or a stop", async () => {
  const clock = makeClock();
  const seen: string[] = [];
  function* work(wait: () => Promise<void>): Sliced {
    try {
      yield wait();
      seen.push("waited");
      yield;
      seen.push("went on");
    } finally {
      seen.push("cleaned");
    }
  }
  await runSliced(work(() => Promise.resolve().then(() => void seen.push("waiting"))), clock);
  assert.deepEqual(seen.splice(0), ["waiting", "waited", "went on", "cleaned"]);
  await assert.rejects(runSliced(work(() => Promise.reject(new Error("no sync"))), clock), /no sync/);
  assert.deepEqual(seen.splice(0), ["cleaned"]);
  const stop = new AbortController();
  const stopping = work(() => Promise.resolve(stop.abort(new Error("stop"))));
  await assert.rejects(runSliced(stopping, clock, stop.signal), /stop/);
  assert.deepEqual(seen.splice(0), ["cleaned"]);
});
