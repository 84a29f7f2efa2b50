import assert from "node:assert/strict";
import { History, type SeenEvent } from "./history_checker.ts";

function event(id: string, sequence: number, other: Partial<SeenEvent> = {}): SeenEvent {
  return { id, stream: "s", version: sequence, sequence, part: 0, parts: 1, ...other };
}

/** What is told of a history in which `a` and `b` were appended, one after the other, and all is as `final` says. */
function judged(final: SeenEvent[], change: (history: History) => void = () => {}): string {
  const history = new History();
  const a = history.ask(0, ["a"], "s", null, 0);
  history.acknowledge(a, 0, 10);
  const b = history.ask(0, ["b"], "s", 0, 20);
  history.acknowledge(b, 1, 30);
  change(history);
  return history.judge(new Map([[0, final]])).join("; ");
}

const FINE = [event("a", 0), event("b", 1)];

Deno.test("a history in which every promise was kept is not blamed", () => {
  assert.equal(judged(FINE), "");
  assert.equal(judged(FINE, (history) => history.see({ partition: 0, reader: "r", from: 0, events: FINE, at: 5 })), "");
  assert.equal(judged(FINE, (history) => void history.ask(0, ["c"], "s", null, 40)), "");
});

Deno.test("each broken promise is told by its name", () => {
  assert.match(judged([event("a", 0)]), /^lost: b/);
  assert.match(judged([...FINE, event("a", 2)]), /^duplicate: a/);
  assert.match(judged([event("a", 0), event("b", 2, { version: 1 })]), /^gap: partition 0 has 2 at 1/);
  assert.match(judged([event("a", 0), event("b", 1, { version: 4 })]), /^gap: b has version 4/);
  assert.match(judged([event("b", 0), event("a", 1)]), /moved: a/);
  const third = (outcome: (history: History) => void) => judged([...FINE, event("c", 2)], outcome);
  assert.match(third((history) => history.refuse(history.ask(0, ["c"], "s", null, 40), 50)), /^phantom: c/);
  assert.match(third((history) => void history.ask(0, ["c"], "s", 7, 40)), /^expected version: c/);
  assert.match(third((history) => void history.ask(0, ["c", "d"], "s", null, 40)), /^torn transaction: c,d/);
  assert.match(third((history) => void history.ask(0, ["d", "c"], "s", null, 40)), /^torn transaction: of d,c/);
  const late = (history: History) => history.acknowledge(history.ask(0, ["c"], "s", null, 5), 2, 8);
  assert.match(third(late), /^real-time order: b/);
  assert.match(judged(FINE, (history) => history.tellVersion(0, "s", 5)), /^uncommitted version: s/);
});

Deno.test("what a reader saw is held against the end, and against what it saw before", () => {
  const seen = (...reads: SeenEvent[][]) =>
    judged(FINE, (history) => {
      for (const events of reads) history.see({ partition: 0, reader: "r", from: 0, events, at: 5 });
    });
  assert.match(seen([event("x", 0)]), /^uncommitted read: x/);
  assert.match(seen([...FINE, event("x", 2)]), /^lost, though it was read: x/);
  assert.match(seen(FINE, FINE.slice(0, 1)), /^went back: r/);
  assert.match(seen([event("b", 1)]), /^gap/);
  assert.match(seen([event("a", 0, { parts: 2 })]), /^torn transaction/);
  assert.match(seen([event("a", 0)], [event("x", 0)]), /^other event/);
});
