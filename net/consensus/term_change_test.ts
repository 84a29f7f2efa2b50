import assert from "node:assert/strict";
import { Group } from "../simulator/group.ts";
import { TIMING } from "./replica_state.ts";

function served(replicationFactor = 3): Group {
  const group = new Group(replicationFactor);
  group.untilServed();
  group.settle();
  return group;
}

Deno.test("H4: a new leader that has less adopts what another one has, and nothing acknowledged is lost", () => {
  const group = served();
  group.append(0, "a");
  group.settle([1]); // Acknowledged by 0 and 2.
  assert.equal(group.members[0]!.shown, group.state(0).logEnd);
  group.crash(0);
  const leader = group.untilServed([0]);
  assert.equal(leader, 1, "the owner of the next term leads, though it has less");
  group.append(1, "b");
  group.pass(500, [0]);
  for (const slot of [1, 2]) assert.deepEqual(group.names(slot), ["a", "b"]);
});

Deno.test("H5: a leader that comes back does not lead by itself, drops what nobody got, and takes what it missed", () => {
  const group = served();
  group.append(0, "lost");
  group.settle([1, 2]);
  const leader = group.untilServed([0]);
  for (const name of ["b", "c", "d"]) group.append(leader, name);
  group.settle([0]);
  const { shown } = group.members[leader]!;
  group.pass(1000);
  assert.equal(group.state(0).role, "follower");
  assert.deepEqual(group.names(0), ["b", "c", "d"]);
  assert.ok(group.members[0]!.shown >= shown);
});

Deno.test("H6: whoever led takes part as a follower from the next append on", () => {
  const group = served();
  group.append(0, "a");
  group.pass(300);
  group.input(0, { kind: "handOver" });
  const leader = group.untilServed([]);
  group.pass(300);
  const next = group.members.find(({ state }) => state.role === "serving")!.slot;
  assert.notEqual(next, 0, `${leader}`);
  group.append(next, "b");
  group.settle([[1, 2].find((slot) => slot !== next)!]); // Only with the former leader there is a majority.
  assert.equal(group.members[next]!.shown, group.state(next).logEnd);
  assert.deepEqual(group.names(0), ["a", "b"]);
});

Deno.test("H8: a clock that jumps makes nobody a leader without a majority", () => {
  const group = served();
  const { term } = group.state(0);
  group.pass(1500);
  group.members[1]!.state.leaderHeardAt = -1e9; // As after a jump of its clock.
  group.input(1, { kind: "tick" });
  group.settle();
  assert.equal(group.state(1).role, "asking");
  group.pass(300);
  for (const { state } of group.members) assert.equal(state.term, term);
  assert.equal(group.state(0).role, "serving");
});

Deno.test("a replica that hears nobody asks in vain and raises no term", () => {
  const group = served();
  const { term } = group.state(0);
  group.pass(20_000, [2]);
  assert.equal(group.state(2).term, term);
  group.pass(500);
  assert.equal(group.state(0).role, "serving");
  assert.equal(group.state(0).term, term);
});

Deno.test("a term is durable before anything is said in it, and so is a promise with its log", () => {
  const group = served();
  group.append(0, "a");
  group.take(({ to, message }) => to === 2 && message.kind === "append").forEach((mail) => group.deliver(mail));
  group.mail = [];
  group.crash(0);
  group.nowMs += 1300;
  group.input(1, { kind: "tick" });
  for (const mail of group.take(({ to }) => to === 2)) group.deliver(mail);
  group.sync(2);
  for (const mail of group.take(({ to, message }) => to === 1 && message.kind === "preVoteReply")) group.deliver(mail);
  group.mail = [];
  assert.equal(group.state(1).role, "collecting");
  assert.equal(group.mail.length, 0, "its new term is not durable yet");
  group.sync(1);
  const [newTerm] = group.take(({ to, message }) => to === 2 && message.kind === "newTerm");
  group.deliver(newTerm!);
  assert.equal(group.take(({ from }) => from === 2).length, 0, "no promise before the sync");
  group.sync(2);
  const said = group.take(({ from }) => from === 2).map(({ message }) => message);
  const promise = said.find((message) => message.kind === "promise")!;
  assert.equal(promise.end, group.state(2).logEnd);
  assert.equal(group.members[2]!.durable.list.length, promise.end);
  assert.equal(group.members[2]!.durable.hard.term, promise.term);
});

Deno.test("R3: a process that was started again does not lead the term that it began before", () => {
  const group = served();
  const { term } = group.state(0);
  group.crash(0);
  group.start(0);
  assert.equal(group.state(0).role, "follower");
  assert.equal(group.state(0).term, term);
  group.untilServed();
  assert.ok(group.state(0).term > term);
});

Deno.test("R6: entries of an earlier term are not committed by their number, but with the first of the new term", () => {
  const group = served();
  const before = group.members[0]!.shown;
  group.append(0, "inherited");
  const state = group.state(0);
  state.termFrom = state.logEnd; // As if all up to here had been adopted.
  group.settle();
  assert.ok(state.peers.every((peer) => peer === null || peer.match === state.logEnd), "all have it");
  assert.equal(group.members[0]!.shown, before);
  group.append(0, "first of its term");
  group.settle();
  assert.equal(group.members[0]!.shown, state.logEnd);
});

Deno.test("all power is lost at once: what was acknowledged is there, and the group serves again by itself", () => {
  for (const replicationFactor of [2, 3, 5]) {
    const group = served(replicationFactor);
    group.append(0, "a", "b");
    group.settle();
    group.append(0, "c"); // Never synced by anybody.
    for (const { slot } of group.members) group.crash(slot);
    group.mail = [];
    for (const { slot } of group.members) group.start(slot);
    group.untilServed();
    group.pass(500);
    for (const { slot } of group.members) assert.deepEqual(group.names(slot), ["a", "b"]);
  }
});

Deno.test("leadership goes to another one before a node stops, without a term in which nobody serves for long", () => {
  const group = served();
  group.append(0, "a");
  group.pass(300);
  group.input(0, { kind: "handOver" });
  group.settle();
  const leader = group.members.find(({ state }) => state.role === "serving");
  assert.ok(leader !== undefined && leader.slot !== 0);
});

Deno.test("slot 0 leads again when it has kept up for a while", () => {
  const group = served();
  group.crash(0);
  const leader = group.untilServed([0]);
  assert.notEqual(leader, 0);
  group.start(0);
  group.pass(8000);
  assert.equal(group.state(0).role, "serving");
});

Deno.test("a leader that is heard and hears nobody leads no longer, and asks another one to: nobody waits for its silence", () => {
  const group = served();
  const until = (ms: number, holds: () => boolean) => {
    for (let waited = 0; waited <= ms; waited += 50) {
      if (holds()) return true;
      group.nowMs += 50;
      for (const { slot } of group.members) group.input(slot, { kind: "tick" });
      for (let i = 0; i < 10; i++) {
        for (const { slot } of group.members) group.sync(slot);
        group.take(({ to }) => to === 0);
        for (const mail of group.take(() => true)) group.deliver(mail);
      }
    }
    return false;
  };
  assert.ok(until(3000, () => group.state(0).role !== "serving"));
  assert.ok(until(0.2 * TIMING.suspectMs, () => [1, 2].some((slot) => group.state(slot).role === "serving")));
});

Deno.test("H18: a hint shortens the wait, and decides nothing", () => {
  const group = served();
  for (const { slot } of group.members) group.input(slot, { kind: "suspected", slots: 0b001 });
  group.pass(2000);
  assert.equal(group.state(0).role, "serving", "it is heard, whatever is hinted");
  group.crash(0);
  group.pass(700, [0]);
  assert.ok([1, 2].some((slot) => group.state(slot).role === "serving"));
});

Deno.test("who lost the leader first asks again until the others have lost it too", () => {
  for (const hinted of [1, 2]) { // The owner of the next term, and the one that nudges it.
    const group = served();
    group.pass(2000);
    group.crash(0);
    group.input(hinted, { kind: "suspected", slots: 0b001 });
    group.pass(0.8 * TIMING.suspectMs + TIMING.heartbeatMs); // From then on the other one says yes.
    assert.equal(group.state(1).role, "serving", `slot ${hinted} was told`);
  }
});
