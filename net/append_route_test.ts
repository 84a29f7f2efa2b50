import assert from "node:assert/strict";
import { DiskFull, TooFewReplicas, TryAgain, WrongExpectedVersion } from "../core/errors.ts";
import type { Appended } from "../core/event.ts";
import { Append, AppendRoute, type Outcome, type Target } from "./append_route.ts";

const LEADER: Target = { kind: "leader", node: 1, term: 3 };
const NEXT_LEADER: Target = { kind: "leader", node: 2, term: 4 };
const RELAY: Target = { kind: "relay", node: 2 };
const NOBODY: Target = { kind: "none", unreachable: false };
const LOST: Target = { kind: "none", unreachable: true };

const APPENDED: Appended = {
  partitionKey: new Uint8Array(16),
  partition: 0,
  firstSequence: 0,
  versions: [],
  events: [],
};
const STORED: Outcome = { kind: "stored", appended: APPENDED };
const UNKNOWN: Outcome = { kind: "unknown", why: new Error("the link is gone") };
const NOT_TAKEN: Outcome = { kind: "notTaken", why: new TryAgain("not the leader") };
const WRONG_VERSION: Outcome = { kind: "refused", error: new WrongExpectedVersion("s", "key", 1, 2) };
const TOO_FEW: Outcome = { kind: "refused", error: new TooFewReplicas("one of three") };

const ID = "0190c5a0-0000-7000-8000-000000000001";

/** A route whose leader, clock and answers are in the hand of a test. */
class Played {
  now = 0;
  target: Target = LEADER;
  hasRoom = true;
  sought = 0;
  ended = 0;
  /** What was sent: `order@node/run`. */
  readonly sent: string[] = [];
  /** What was told: the order and what it was. */
  readonly told: string[] = [];
  readonly messages: string[] = [];
  readonly #open = new Map<number, (outcome: Outcome) => void>();
  #order = 0;
  readonly route = new AppendRoute({
    now: () => this.now,
    target: () => this.target,
    send: (append, to, run, told) => {
      if (!this.hasRoom) return false;
      this.sent.push(`${append.order}@${to.node}/${run}`);
      this.#open.set(append.order, told);
      return true;
    },
    seek: () => this.sought++,
    ended: () => this.ended++,
  }, { retryMs: 100, unreachableMs: 3000 });

  add(count = 1): void {
    for (let i = 0; i < count; i++) {
      const order = ++this.#order;
      const receiver = {
        stored: () => void this.told.push(`${order} stored`),
        refused: (error: unknown) => {
          this.told.push(`${order} ${(error as Error).name}`);
          this.messages.push((error as Error).message);
        },
      };
      const events = [{ streamId: "s", name: "n" }, { streamId: "s", name: "n", eventId: ID }];
      this.route.add(new Append(order, { events }, 0, receiver, this.now + 10_000, 3, null));
    }
  }

  answer(order: number, outcome: Outcome): void {
    this.#open.get(order)!(outcome);
  }

  /** What was sent since the last time. */
  takeSent(): string {
    return this.sent.splice(0).join(" ");
  }
}

Deno.test("appends are sent at once, and answered in any order", () => {
  const played = new Played();
  played.add(3);
  assert.equal(played.takeSent(), "1@1/1 2@1/1 3@1/1");
  for (const order of [2, 3, 1]) played.answer(order, STORED);
  assert.deepEqual(played.told, ["2 stored", "3 stored", "1 stored"]);
  assert.equal(played.ended, 3);
  assert.ok(played.route.isEmpty);
});

Deno.test("when one was not taken, all wait until what flies has come back, and go on in their order in a new run", () => {
  const played = new Played();
  played.add(4);
  played.takeSent();
  played.answer(3, NOT_TAKEN);
  played.add();
  played.target = NEXT_LEADER;
  played.route.send();
  assert.equal(played.takeSent(), "", "2 and 4 fly still");
  played.answer(4, UNKNOWN);
  played.answer(1, STORED);
  played.answer(2, NOT_TAKEN);
  assert.equal(played.takeSent(), "2@2/2 3@2/2 4@2/2 5@2/2");
});

Deno.test("where one was not taken it is tried again after a while, and elsewhere at once", () => {
  const played = new Played();
  played.add();
  played.answer(1, NOT_TAKEN);
  assert.equal(played.takeSent(), "1@1/1");
  played.now = 99;
  played.route.send();
  assert.equal(played.takeSent(), "");
  played.now = 100;
  played.route.send();
  assert.equal(played.takeSent(), "1@1/2");
  played.target = NEXT_LEADER;
  played.answer(1, NOT_TAKEN);
  assert.equal(played.takeSent(), "1@2/3");
});

Deno.test("what flies to a leader whose term is over is asked of the next, and its late answer is for nobody", () => {
  const played = new Played();
  played.add(2);
  played.takeSent();
  played.target = NEXT_LEADER;
  played.route.leaderChanged();
  assert.equal(played.takeSent(), "1@2/2 2@2/2");
  const late = played.told.length;
  assert.equal(late, 0);
  played.answer(1, STORED);
  played.answer(2, STORED);
  assert.deepEqual(played.told, ["1 stored", "2 stored"]);
});

Deno.test("a failure is told when nothing can have been appended; else what a leader says who has looked at the ids", () => {
  for (
    const [before, outcome, told] of [
      [null, WRONG_VERSION, "1 WrongExpectedVersion"],
      [null, TOO_FEW, "1 TooFewReplicas"],
      [NOT_TAKEN, TOO_FEW, "1 TooFewReplicas"],
      [UNKNOWN, WRONG_VERSION, "1 WrongExpectedVersion"],
      [UNKNOWN, TOO_FEW, "1 OutcomeUnknown"],
      [UNKNOWN, { kind: "refused", error: new Error("damaged") }, "1 OutcomeUnknown"],
    ] as [Outcome | null, Outcome, string][]
  ) {
    const played = new Played();
    played.add();
    if (before !== null) {
      played.target = NEXT_LEADER;
      played.answer(1, before);
    }
    played.answer(1, outcome);
    played.target = NOBODY;
    played.now = 10_000;
    played.route.expire();
    assert.deepEqual(played.told, [told]);
    assert.ok(played.route.isEmpty);
  }
});

Deno.test("a refusal may rest on one before that was not taken: it is asked again after that one", () => {
  const played = new Played();
  played.add(2);
  played.target = NEXT_LEADER;
  played.answer(1, UNKNOWN);
  played.answer(2, UNKNOWN);
  played.takeSent();
  played.answer(1, { kind: "refused", error: new DiskFull("no room") });
  played.answer(2, WRONG_VERSION);
  assert.deepEqual(played.told, []);
  played.now = 200;
  played.route.send();
  assert.equal(played.takeSent(), "1@2/3 2@2/3");
  played.answer(1, STORED);
  played.answer(2, WRONG_VERSION);
  assert.deepEqual(played.told, ["1 stored", "2 WrongExpectedVersion"]);
});

Deno.test("what went over another node and was not answered may reach any leader: then no refusal is the end", () => {
  const played = new Played();
  played.target = RELAY;
  played.add();
  played.target = LEADER;
  played.answer(1, UNKNOWN);
  played.answer(1, WRONG_VERSION);
  assert.deepEqual(played.told, []);
  played.now = 100;
  played.route.send();
  played.answer(1, STORED);
  assert.deepEqual(played.told, ["1 stored"]);
});

Deno.test("when the time is up, what flies is unknown, and what does not was not stored", () => {
  const played = new Played();
  played.add();
  played.hasRoom = false;
  played.add();
  assert.equal(played.takeSent(), "1@1/1");
  played.now = 10_000;
  played.route.expire();
  assert.deepEqual(played.told, ["1 OutcomeUnknown", "2 TryAgain"]);
  assert.match(played.messages[0]!, new RegExp(`: they are if event ${ID} is there$`));
  assert.ok(played.route.isEmpty);
  played.answer(1, STORED); // For nobody.
  assert.equal(played.told.length, 2);
});

Deno.test("where there is no room, appends wait for it in their order", () => {
  const played = new Played();
  played.hasRoom = false;
  played.add(2);
  played.hasRoom = true;
  played.add();
  assert.equal(played.takeSent(), "1@1/1 2@1/1 3@1/1");
});

Deno.test("without a leader somebody is asked; out of reach of all, clients are told after a while", () => {
  const played = new Played();
  played.target = NOBODY;
  played.add();
  assert.equal(played.sought, 1);
  played.now = 5000;
  played.route.send();
  assert.deepEqual(played.told, []);
  played.target = LOST;
  played.route.send();
  played.now = 7999;
  played.route.send();
  assert.deepEqual(played.told, []);
  played.now = 8000;
  played.route.send();
  assert.deepEqual(played.told, ["1 NoReplica"]);
});

Deno.test("while some are on their way to one leader nothing goes to another, where it would overtake them", () => {
  const played = new Played();
  played.add(2);
  played.target = NEXT_LEADER;
  played.add();
  assert.equal(played.takeSent(), "1@1/1 2@1/1");
  played.answer(1, NOT_TAKEN);
  assert.equal(played.takeSent(), "");
  played.answer(2, NOT_TAKEN);
  assert.equal(played.takeSent(), "1@2/2 2@2/2 3@2/2");
  played.target = LEADER;
  played.add();
  for (const order of [1, 2, 3]) played.answer(order, STORED);
  assert.equal(played.takeSent(), "4@1/2");
});
