import assert from "node:assert/strict";
import { ID_MAX } from "./message.ts";
import { InvariantBroken, ReplicaState } from "./replica_state.ts";
import { Group } from "../simulator/group.ts";

function served(replicationFactor = 3): Group {
  const group = new Group(replicationFactor);
  group.untilServed();
  group.append(0, "a", "b");
  group.pass(500);
  return group;
}

Deno.test("H20: a blank disk does not vote, does not count, and counts again when it has all that it could have said", () => {
  const group = served();
  group.crash(2);
  group.wipe(2, 2002);
  assert.equal(group.state(2).role, "recovering");
  // With the leader alone it does not get far: both others are needed.
  group.pass(1500, [1]);
  assert.equal(group.state(2).role, "recovering");
  group.pass(3000);
  assert.equal(group.state(2).role, "follower");
  assert.equal(group.members[2]!.hard.mode, "normal");
  assert.deepEqual(group.names(2), ["a", "b"]);
  assert.deepEqual(group.members[0]!.hard.dataIds[2], 2002);
  assert.ok(group.members[0]!.hard.retired.includes(1002));
});

Deno.test("H20: two blank disks do not make a majority that forgets", () => {
  const group = served();
  for (const slot of [1, 2]) group.crash(slot);
  for (const slot of [1, 2]) group.wipe(slot, 2000 + slot);
  group.pass(20_000);
  assert.ok(group.members.every(({ state }) => state.role !== "serving" && state.role !== "opening"));
  assert.deepEqual(group.names(0), ["a", "b"]);
});

Deno.test("H20: a disk that was made as if the cluster were new is known to be another one, and must recover", () => {
  const group = served();
  group.crash(1);
  group.wipe(1, 2001, "normal");
  group.pass(500);
  assert.ok(group.members[1]!.told.some(({ kind }) => kind === "quarantined"));
  assert.equal(group.state(1).role, "recovering");
  group.input(1, { kind: "recover", dataId: 3001, forced: false });
  group.pass(3000);
  assert.equal(group.state(1).role, "follower");
  assert.deepEqual(group.names(1), ["a", "b"]);
});

Deno.test("H20: an old copy of a disk under its old id is found out by who knows what it had", () => {
  const group = served();
  const copy = group.members[2]!.durable;
  group.append(0, "c", "d");
  group.pass(500);
  group.crash(2);
  group.members[2]!.durable = copy;
  group.start(2);
  group.pass(600);
  assert.ok(group.members[2]!.told.some(({ kind }) => kind === "quarantined"));
  group.input(2, { kind: "recover", dataId: 2002, forced: false });
  group.pass(3000);
  assert.equal(group.state(2).role, "follower");
  assert.deepEqual(group.names(2), ["a", "b", "c", "d"]);
});

Deno.test("H20: an old copy is found out by a new leader too, and its promise is not counted", () => {
  const group = served();
  const copy = group.members[2]!.durable;
  group.append(0, "c", "d");
  group.pass(1000);
  group.crash(0);
  group.crash(2);
  group.members[2]!.durable = copy;
  group.start(2);
  group.pass(10_000, [0]);
  assert.ok(group.members[2]!.told.some(({ kind }) => kind === "quarantined"));
  assert.notEqual(group.state(1).role, "serving");
});

Deno.test("H20: an old copy that would lead is found out by who is asked to follow", () => {
  const group = served();
  const copy = group.members[1]!.durable;
  group.append(0, "c", "d");
  group.pass(1000);
  group.crash(0);
  group.crash(1);
  group.members[1]!.durable = copy;
  group.start(1);
  group.pass(10_000, [0]);
  assert.ok(group.members[1]!.told.some(({ kind }) => kind === "quarantined"));
  for (const slot of [1, 2]) assert.notEqual(group.state(slot).role, "serving");
});

Deno.test("a request of a disk that came and went does not bring it back", () => {
  const group = served();
  group.crash(2);
  group.wipe(2, 2002);
  const late = group.take(({ message, from }) => message.kind === "recoverRequest" && from === 2);
  group.crash(2);
  group.wipe(2, 3002);
  group.pass(3000);
  assert.equal(group.state(2).role, "follower");
  for (const mail of late) group.deliver(mail);
  group.settle();
  for (const slot of [0, 1]) assert.equal(group.members[slot]!.hard.dataIds[2], 3002);
  group.pass(3000);
  assert.equal(group.state(2).role, "follower");
});

Deno.test("a replica that recovers waits for the leader of the highest term that anybody knows", () => {
  const group = served();
  group.crash(2);
  group.wipe(2, 2002);
  group.mail = [];
  const state = group.state(2);
  const nonce = state.recovery!.nonce + state.boot;
  const reply = (from: number, term: number, serving: boolean) =>
    group.deliver({
      ...{ from, to: 2, dataId: 1000 + from, boot: group.members[from]!.boot },
      message: { kind: "recoverReply", nonce, term, serving, end: 3, lastTerm: 3 },
    });
  reply(0, 3, true);
  assert.equal(state.recovery!.known, false, "one answer is not a majority");
  reply(1, 4, false); // Somebody begins term 4, perhaps with a promise of the disk that is gone.
  assert.equal(state.recovery!.known, false);
  reply(1, 4, true);
  assert.equal(state.recovery!.known, true);
  assert.equal(state.term, 4);
});

Deno.test("what the disk before said does not count any more, whenever it comes", () => {
  const group = served();
  group.append(0, "c");
  for (const mail of group.take(({ to, message }) => to === 2 && message.kind === "append")) group.deliver(mail);
  group.sync(2);
  const late = group.take(({ from }) => from === 2);
  assert.ok(late.some(({ message }) => message.kind === "ack"));
  group.mail = [];
  group.crash(2);
  group.wipe(2, 2002);
  for (let i = 0; i < 4; i++) {
    for (const slot of [0, 2]) group.sync(slot);
    for (const mail of group.take(({ from, to }) => from + to === 2)) group.deliver(mail);
  }
  assert.equal(group.members[0]!.hard.dataIds[2], 2002);
  const { shown } = group.members[0]!;
  for (const mail of late) group.deliver(mail);
  assert.equal(group.members[0]!.shown, shown);
  assert.equal(group.state(0).peers[2]!.match, 0);
});

Deno.test("two replicas: what one lost it gets back only by the word of an operator", () => {
  const group = served(2);
  group.crash(1);
  group.wipe(1, 2001);
  group.pass(10_000);
  assert.equal(group.state(1).role, "recovering");
  group.input(1, { kind: "recover", dataId: 3001, forced: true });
  group.pass(5000);
  assert.equal(group.state(1).role === "recovering", false);
  assert.deepEqual(group.names(1), ["a", "b"]);
  assert.ok(group.members.some(({ state }) => state.role === "serving"));
});

Deno.test("a diverged log is found in steps of whole terms, not of entries", () => {
  const group = served();
  group.append(0, ...Array.from({ length: 50 }, (_, i) => `lost ${i}`));
  group.settle([1, 2]);
  const leader = group.untilServed([0]);
  group.append(leader, ...Array.from({ length: 50 }, (_, i) => `kept ${i}`));
  group.settle([0]);
  let nacks = 0;
  for (let rounds = 0; rounds < 60; rounds++) {
    group.nowMs += 50;
    for (const { slot } of group.members) {
      group.input(slot, { kind: "tick" });
      group.sync(slot);
    }
    const mail = group.take(() => true);
    nacks += mail.filter(({ message }) => message.kind === "nack").length;
    for (const one of mail) group.deliver(one);
  }
  assert.deepEqual(group.names(0), group.names(leader));
  assert.ok(nacks <= 4, `${nacks} nacks`);
});

Deno.test("an id that is none, or so large that a sum with it is no safe integer, is refused by its name", () => {
  const group = served();
  const why = (id: number) => `the data id is ${id}: ids go from 1 to ${ID_MAX}`;
  for (const id of [0, -1, 0.5, NaN, ID_MAX + 1]) {
    assert.throws(() => group.wipe(2, id), new InvariantBroken(why(id)));
    assert.throws(() => group.input(1, { kind: "recover", dataId: id, forced: false }), new InvariantBroken(why(id)));
  }
  group.input(1, { kind: "recover", dataId: ID_MAX, forced: false });
  assert.equal(group.state(1).hard.dataId, ID_MAX);
  const { replicationFactor, slot, log, terms, hard } = group.state(0);
  const options = { replicationFactor, slot, log, terms, hard, commitFloor: 0, now: 0 };
  assert.throws(
    () => new ReplicaState({ ...options, boot: ID_MAX + 1 }),
    new InvariantBroken(`the boot is ${ID_MAX + 1}: ids go from 1 to ${ID_MAX}`),
  );
});
