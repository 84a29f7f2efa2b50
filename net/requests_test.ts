import assert from "node:assert/strict";
import { AnswerFailed, NoAnswer, NotAsked, Requests } from "./requests.ts";

/** Two ends, and a wire between them that a test can cut or fill. */
class Wire {
  isUp = true;
  hasRoom = true;
  readonly ends: [Requests, Requests];

  constructor(answer: (question: string, signal: AbortSignal) => Promise<string>) {
    const end = (self: number): Requests =>
      new Requests({
        isLinked: () => this.isUp,
        send: (peer, lane, bytes) => {
          assert.equal(lane, "forward");
          if (!this.isUp || !this.hasRoom) return false;
          queueMicrotask(() => this.isUp && this.ends[peer as 0 | 1].message(self, bytes));
          return true;
        },
      }, async (_from, question, stop) => encode(await answer(decode(question), stop.signal)));
    this.ends = [end(0), end(1)];
  }

  cut(): void {
    this.isUp = false;
    this.ends[0].linkDown(1);
    this.ends[1].linkDown(0);
  }
}

const encode = (text: string) => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

Deno.test("requests: each question gets its own answer, in both directions at once", async () => {
  const wire = new Wire((question) => Promise.resolve(question.toUpperCase()));
  const answers = await Promise.all(
    Array.from(
      { length: 100 },
      async (_, i) => decode(await wire.ends[i % 2 as 0 | 1].ask(1 - i % 2, encode(`q${i}`), 5000)),
    ),
  );
  assert.deepEqual(answers, Array.from({ length: 100 }, (_, i) => `Q${i}`));
  assert.equal(wire.ends[0].pending + wire.ends[1].pending, 0);
});

Deno.test("requests: when the link goes, all that wait are told at once that nothing is known", async () => {
  const wire = new Wire(() => new Promise(() => {}));
  const asked = [1, 2, 3].map(() => wire.ends[0].ask(1, encode("?"), 60_000));
  wire.cut();
  for (const one of asked) await assert.rejects(one, new NoAnswer(1, "the link is gone"));
  await assert.rejects(wire.ends[0].ask(1, encode("?"), 60_000), new NotAsked(1, "no link"));
  assert.equal(wire.ends[0].pending, 0);
});

Deno.test("requests: an answer to a link that is gone is not sent over the next one", async () => {
  const { promise, resolve } = Promise.withResolvers<string>();
  const wire = new Wire((question) => question === "slow" ? promise : Promise.resolve(question));
  const slow = wire.ends[0].ask(1, encode("slow"), 60_000);
  await Promise.resolve().then(() => {}).then(() => {}); // It is on its way.
  wire.cut();
  await assert.rejects(slow, NoAnswer);
  wire.isUp = true;
  resolve("late");
  assert.equal(decode(await wire.ends[0].ask(1, encode("next"), 60_000)), "next");
});

Deno.test("requests: when the time is up nothing is known, and a late answer is for nobody", async () => {
  const { promise, resolve } = Promise.withResolvers<string>();
  const wire = new Wire(() => promise);
  await assert.rejects(wire.ends[0].ask(1, encode("?"), 1), new NoAnswer(1, "the time is up"));
  resolve("late");
  assert.equal(decode(await wire.ends[0].ask(1, encode("?"), 60_000)), "late");
});

Deno.test("requests: who answers is told when nobody waits any more", async () => {
  const stopped: string[] = [];
  const wire = new Wire((question, signal) =>
    new Promise((resolve) =>
      signal.addEventListener("abort", () => {
        stopped.push(question);
        resolve("for nobody");
      })
    )
  );
  const withdrawal = new AbortController();
  const first = wire.ends[0].ask(1, encode("withdrawn"), 60_000, withdrawal.signal);
  const second = wire.ends[0].ask(1, encode("cut off"), 60_000, withdrawal.signal);
  const third = wire.ends[0].ask(1, encode("cut off too"), 60_000);
  await new Promise((resolve) => setTimeout(resolve, 0)); // They are worked on.
  withdrawal.abort();
  await assert.rejects(first, new NoAnswer(1, "it was withdrawn"));
  await assert.rejects(second, new NoAnswer(1, "it was withdrawn"));
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.deepEqual(stopped, ["withdrawn", "cut off"]);
  wire.cut();
  await assert.rejects(third, new NoAnswer(1, "the link is gone"));
  assert.deepEqual(stopped, ["withdrawn", "cut off", "cut off too"]);
  assert.equal(wire.ends[0].pending, 0);
  assert.equal(withdrawal.signal.aborted, true);
});

Deno.test("requests: what the peer throws comes as a failure with its words", async () => {
  const wire = new Wire(() => Promise.reject(new Error("no such thing")));
  await assert.rejects(wire.ends[0].ask(1, encode("?"), 60_000), new AnswerFailed(1, "no such thing"));
});

Deno.test("requests: without room a question is not asked, and an answer waits for it", async () => {
  const wire = new Wire((question) => {
    wire.hasRoom = false;
    return Promise.resolve(question);
  });
  const first = wire.ends[0].ask(1, encode("first"), 60_000);
  await new Promise((resolve) => setTimeout(resolve, 0)); // Microtasks: its answer was refused.
  await assert.rejects(wire.ends[0].ask(1, encode("second"), 60_000), new NotAsked(1, "no room"));
  assert.equal(wire.ends[0].pending, 1);
  wire.hasRoom = true;
  wire.ends[1].writable(0);
  assert.equal(decode(await first), "first");
});
