import assert from "node:assert/strict";
import { Group } from "../simulator/group.ts";
import type { Append } from "./message.ts";
import { InvariantBroken } from "./replica_state.ts";
import { refusal } from "./replication.ts";

function served(replicationFactor = 3, limits = {}): { group: Group; leader: number } {
  const group = new Group(replicationFactor, limits);
  const leader = group.untilServed();
  group.settle();
  return { group, leader };
}

function appendsTo(group: Group, to: number): Append[] {
  return group.mail.filter((mail) => mail.to === to).map(({ message }) => message).filter((message) =>
    message.kind === "append"
  );
}

Deno.test("slot 0 leads first, and one append goes to a majority before it is committed", () => {
  for (const replicationFactor of [2, 3, 5]) {
    const { group, leader } = served(replicationFactor);
    assert.equal(leader, 0);
    const before = group.members[0]!.shown;
    group.append(0, "a");
    group.sync(0);
    assert.equal(group.members[0]!.shown, before, "its own sync is not a majority");
    group.settle();
    assert.equal(group.members[0]!.shown, before + 1);
    group.pass(300);
    for (const { slot, shown } of group.members) {
      assert.equal(shown, before + 1, `slot ${slot}`);
      assert.deepEqual(group.names(slot), ["a"]);
    }
  }
});

Deno.test("the leader sends before its own sync, and does not wait for answers", () => {
  const { group } = served();
  group.append(0, "a");
  group.append(0, "b", "c");
  group.append(0, "d");
  assert.deepEqual(appendsTo(group, 1).map(({ from, entries }) => entries.end - from), [1, 2, 1]);
  assert.equal(group.members[0]!.syncs.length, 3);
  assert.equal(appendsTo(group, 1)[0], appendsTo(group, 2)[0], "the same message for all");
});

Deno.test("a leader does not count itself before its own sync, nor shows what is not durable here", () => {
  const { group } = served();
  const before = group.members[0]!.shown;
  group.append(0, "a");
  group.take(() => true).forEach((mail) => group.deliver(mail));
  group.sync(1);
  group.sync(2);
  group.take(({ to }) => to === 0).forEach((mail) => group.deliver(mail));
  assert.equal(group.members[0]!.shown, before);
  group.sync(0);
  assert.equal(group.members[0]!.shown, before + 1);
});

Deno.test("H15: a follower acknowledges an entry when the sync is done that was asked for after it, and not before", () => {
  const { group } = served();
  group.append(0, "a");
  group.take(({ to }) => to === 1).forEach((mail) => group.deliver(mail));
  group.append(0, "b");
  group.take(({ to }) => to === 1).forEach((mail) => group.deliver(mail));
  assert.equal(group.take(({ from }) => from === 1).length, 0, "nothing is said before a sync");
  const member = group.members[1]!;
  const { number } = member.syncs.shift()!;
  group.input(1, { kind: "synced", number });
  const [ack] = group.take(({ from }) => from === 1);
  assert.equal(ack!.message.kind === "ack" && ack!.message.end, member.log.end - 1);
});

Deno.test("with one replica nothing is sent, what is durable is committed, and there is no first entry", () => {
  const group = new Group(1);
  assert.equal(group.state(0).role, "serving");
  group.append(0, "a", "b");
  assert.equal(group.members[0]!.shown, 0);
  group.sync(0);
  assert.equal(group.members[0]!.shown, 2);
  group.pass(5000);
  assert.equal(group.mail.length, 0);
  assert.deepEqual(group.names(0), ["a", "b"]);
  group.crash(0);
  group.start(0);
  assert.equal(group.state(0).role, "serving");
  assert.equal(group.members[0]!.shown, 2);
});

Deno.test("H2: an acknowledged entry whose commit nobody heard of is shown by the next leader", () => {
  const { group } = served();
  group.append(0, "a");
  group.settle();
  assert.ok(group.members[0]!.shown > group.members[1]!.shown, "the followers have not heard yet");
  group.crash(0);
  const leader = group.untilServed([0]);
  assert.notEqual(leader, 0);
  group.pass(300, [0]);
  for (const slot of [1, 2]) {
    assert.deepEqual(group.names(slot), ["a"]);
    assert.equal(group.members[slot]!.shown, group.state(slot).logEnd);
  }
});

Deno.test("H2, H22: a lost word of a commit is made good by the next heartbeat, and whoever follows is told", () => {
  const { group } = served();
  group.append(0, "a");
  group.settle();
  const before = group.members[1]!.shown;
  assert.equal(group.state(1).logEnd, before + 1);
  group.pass(250);
  assert.equal(group.members[1]!.shown, before + 1);
});

Deno.test("a commit note of anybody raises the commit where the chain is the same, and only there", () => {
  const { group } = served();
  group.append(0, "a");
  group.settle();
  const { logEnd: end, lastChain: chain } = group.state(0);
  const before = group.members[1]!.shown;
  const note = (message: { kind: "commitNote"; end: number; chain: { low: number; high: number } }) =>
    group.deliver({ from: 2, to: 1, dataId: 1002, boot: group.members[2]!.boot, message });
  note({ kind: "commitNote", end, chain: { low: chain.low ^ 1, high: chain.high } });
  note({ kind: "commitNote", end: end + 5, chain });
  assert.equal(group.members[1]!.shown, before);
  note({ kind: "commitNote", end, chain });
  assert.equal(group.members[1]!.shown, end);
});

Deno.test("H3: a write that no majority got is not in the way of the next, and all get it later", () => {
  const { group } = served();
  group.append(0, "a");
  group.settle([1, 2]);
  group.append(0, "b");
  group.settle([1, 2]);
  group.pass(400, [1, 2]);
  const { shown } = group.members[0]!;
  group.pass(1000);
  assert.equal(group.members[0]!.shown, shown + 2);
  for (const { slot } of group.members) assert.deepEqual(group.names(slot), ["a", "b"]);
});

Deno.test("H9: an entry larger than a message goes alone, and everything behind it goes on", () => {
  const { group } = served(3, { messageBytesMax: 50, windowBytesMax: 60 });
  group.append(0, "large", "large too");
  group.append(0, "b");
  group.pass(500);
  for (const { slot } of group.members) assert.deepEqual(group.names(slot), ["large", "large too", "b"]);
});

Deno.test("H10: a replica that is far behind catches up in pieces, as far as its window goes, without any new append", () => {
  const { group } = served(3, { messageBytesMax: 300, windowBytesMax: 600, windowMessagesMax: 4 });
  group.crash(2);
  const names = Array.from({ length: 100 }, (_, i) => `${i}`);
  for (const name of names) {
    group.append(0, name);
    group.settle([2]);
  }
  group.start(2);
  let most = 0;
  for (let rounds = 0; rounds < 200; rounds++) {
    group.nowMs += 50;
    for (const { slot } of group.members) {
      group.input(slot, { kind: "tick" });
      group.sync(slot);
    }
    most = Math.max(most, appendsTo(group, 2).length);
    for (const mail of group.take(() => true)) group.deliver(mail);
  }
  assert.deepEqual(group.names(2), names);
  assert.ok(most > 1 && most <= 4, `${most} messages at a time`);
  assert.equal(group.members[2]!.shown, group.members[0]!.shown);
});

Deno.test("an append that is lost on the way is sent again after the next heartbeat", () => {
  const { group } = served();
  group.append(0, "a");
  assert.equal(group.drop("append"), 2);
  group.pass(500);
  assert.deepEqual(group.names(2), ["a"]);
  assert.equal(group.members[0]!.shown, group.state(0).logEnd);
});

Deno.test("H7: what a leader says whose term is over changes nothing, and it learns of it", () => {
  const { group } = served();
  group.append(0, "a");
  group.settle([1, 2]);
  const late = group.take(({ message }) => message.kind === "append");
  group.append(0, "b");
  late.push(...group.take(({ message }) => message.kind === "append"));
  const leader = group.untilServed([0]);
  group.append(leader, "c");
  group.settle([0]);
  for (const mail of late) group.deliver(mail);
  assert.equal(group.take(({ message, to }) => message.kind === "stale" && to === 0).length, late.length);
  group.pass(3000);
  for (const { slot } of group.members) assert.deepEqual(group.names(slot), ["c"]);
});

Deno.test("H7: nobody but the owner of a term is followed in it", () => {
  const { group } = served();
  group.append(0, "a");
  const [mail] = group.take(({ message, to }) => message.kind === "append" && to === 1);
  const before = group.state(1).logEnd;
  group.deliver({ ...mail!, from: 2, dataId: 1002, boot: group.members[2]!.boot });
  assert.equal(group.state(1).logEnd, before);
  group.deliver({ ...mail!, boot: 999 });
  assert.equal(group.state(1).logEnd, before, "an earlier or later life of the leader");
  group.deliver(mail!);
  assert.equal(group.state(1).logEnd, before + 1);
});

Deno.test("H14: a log that is shorter than what was committed of it is not opened", () => {
  const { group } = served();
  group.append(0, "a");
  group.settle();
  group.crash(1);
  assert.throws(() => group.start(1, 10), InvariantBroken);
});

Deno.test("H17: refusal() says why nothing is appended: no leader, no majority, too much under way", () => {
  const { group } = served(3, { uncommittedBytesMax: 150 });
  assert.equal(refusal(group.state(1), group.nowMs), "not leader");
  assert.equal(refusal(group.state(0), group.nowMs), null);
  group.append(0, "a", "b");
  assert.equal(refusal(group.state(0), group.nowMs), "full");
  group.settle();
  assert.equal(refusal(group.state(0), group.nowMs), null);
  assert.equal(refusal(group.state(0), group.nowMs + 2500), "no majority");
  group.pass(3000, [1, 2]);
  assert.equal(refusal(group.state(0), group.nowMs), "not leader");
  assert.ok(group.members[0]!.told.some(({ kind }) => kind === "stepDown"));
});

Deno.test("a linearizable read waits for a majority, and is refused by who does not lead", () => {
  const { group } = served();
  const ends = (slot: number) =>
    group.members[slot]!.told.flatMap((effect) => effect.kind === "readEnd" ? [effect.end] : []);
  group.input(1, { kind: "readEnd", token: 1 });
  assert.deepEqual(ends(1), [null]);
  group.input(0, { kind: "readEnd", token: 2 });
  assert.deepEqual(ends(0), []);
  group.settle([1, 2]);
  assert.deepEqual(ends(0), []);
  group.pass(400);
  assert.deepEqual(ends(0), [group.members[0]!.shown]);
  group.input(0, { kind: "readEnd", token: 3 });
  group.pass(3000, [1, 2]);
  assert.deepEqual(ends(0).slice(1), [null]);
});

Deno.test("a log is never cut below what is committed, whatever anybody says", () => {
  const { group } = served();
  group.append(0, "a");
  group.pass(500);
  assert.throws(() => group.state(1).truncate(group.state(1).commitEnd - 1), InvariantBroken);
  assert.throws(() => group.state(0).truncate(group.state(0).logEnd), InvariantBroken);
});

Deno.test("a sync that was asked for before entries were cut off does not make durable what took their place", () => {
  const { group } = served();
  group.append(0, "a", "b");
  group.take(({ to }) => to === 1).forEach((mail) => group.deliver(mail));
  const state = group.state(1);
  const { number } = group.members[1]!.syncs.shift()!;
  const cutTo = state.logEnd - 2;
  state.effects = [];
  state.truncate(cutTo);
  state.noteSynced(number);
  assert.equal(state.durableEnd, cutTo);
});

Deno.test("what may be overtaken is not taken for lost because a heartbeat was answered before it came, but when nothing comes for long", () => {
  const { group } = served(3, { bulkBytes: 0 });
  group.append(0, "a");
  assert.ok(appendsTo(group, 1)[0]!.bulk);
  const lost = group.take(({ to, message }) => to === 1 && message.kind === "append");
  assert.equal(lost.length, 1);
  group.pass(1800);
  assert.deepEqual(group.names(1), []);
  assert.deepEqual(group.names(2), ["a"]);
  group.pass(600);
  assert.deepEqual(group.names(1), ["a"], "it was sent again");
});

Deno.test("who is told what was lost on the way sends it again at once, from there on", () => {
  const { group } = served(3, { bulkBytes: 0 });
  const from = group.state(0).logEnd;
  for (const name of ["a", "b", "c"]) group.append(0, name);
  const sent = group.take(({ to, message }) => to === 1 && message.kind === "append");
  group.input(0, { kind: "lost", slot: 1, from: from + 1 });
  assert.equal(appendsTo(group, 1)[0]!.from, from + 1, "the first is on its way");
  group.deliver(sent[0]!);
  group.settle();
  assert.deepEqual(group.names(1), ["a", "b", "c"]);
  group.input(0, { kind: "lost", slot: 1, from });
  assert.equal(group.mail.length, 0, "it has said that it has it");
  group.input(1, { kind: "lost", slot: 0, from });
  assert.equal(group.mail.length, 0, "it does not lead");
});
