import assert from "node:assert/strict";
import { Turns } from "./turns.ts";

/** A clock that a test moves. */
function clock() {
  return { time: 0, monotonic: () => 0 };
}

Deno.test("steps are carried out in order, in a later turn than they were queued in", async () => {
  const turns = new Turns(clock());
  const done: number[] = [];
  const steps = [1, 2, 3].map((number) => turns.take(() => Promise.resolve(void done.push(number))));
  for (let i = 0; i < 100; i++) await Promise.resolve();
  assert.deepEqual(done, [], "a step was carried out in the turn of its caller");
  await Promise.all(steps);
  assert.deepEqual(done, [1, 2, 3]);
});

Deno.test("a step's result and its failure are its caller's, and the next one is carried out", async () => {
  const turns = new Turns(clock());
  const failing = turns.take(() => Promise.reject(new Error("no")));
  const next = turns.take(() => Promise.resolve(7));
  await assert.rejects(failing, /^Error: no$/);
  assert.equal(await next, 7);
});

Deno.test("after some milliseconds the event loop turns before the line goes on", async () => {
  const time = clock();
  let now = 0;
  time.monotonic = () => now;
  const turns = new Turns(time);
  const seen: string[] = [];
  const steps = Array.from({ length: 6 }, (_, i) =>
    turns.take(() => {
      now += 1;
      if (i === 0) setTimeout(() => seen.push("timer"), 0);
      // Past the timer's time, so that it is due as soon as the event loop turns.
      for (const end = performance.now() + 2; performance.now() < end;);
      return Promise.resolve(void seen.push(`step ${i}`));
    }));
  await Promise.all(steps);
  assert.deepEqual(seen.slice(0, 2), ["step 0", "step 1"]);
  assert.ok(seen.indexOf("timer") < seen.indexOf("step 4"), seen.join(", "));
});

Deno.test("a step that waits for long does not stop the others", async () => {
  const turns = new Turns(clock());
  const gate = Promise.withResolvers<string>();
  const slow = turns.take(() => gate.promise);
  assert.equal(await turns.take(() => Promise.resolve("quick")), "quick");
  assert.equal(await turns.take(() => Promise.resolve("quick too")), "quick too");
  gate.resolve("slow");
  assert.equal(await slow, "slow");
});
