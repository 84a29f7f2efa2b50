/**
 * The replicas of one bucket in the hand of a test, which decides what arrives, what is synced, who dies and when.
 *
 * Nothing happens by itself: messages lie in `mail` until they are delivered or dropped, syncs wait until they are done.
 *
 * @module
 */
import type { Effect, HardState, Input } from "../consensus/effect.ts";
import { TermTable } from "../consensus/entries.ts";
import type { Message } from "../consensus/message.ts";
import { start, step } from "../consensus/replica.ts";
import { type Limits, newHardState, ReplicaState } from "../consensus/replica_state.ts";
import { type Entry, makeEntry, ModelEntries, ModelLog } from "./model_log.ts";

export interface Mail {
  from: number;
  to: number;
  dataId: number;
  boot: number;
  message: Message;
}

interface Written {
  hard: HardState;
  list: readonly Entry[];
}

export class Member {
  state!: ReplicaState;
  log!: ModelLog;
  boot = 0;
  isUp = false;
  /** What is on its disk. */
  durable: Written & { commitEnd: number };
  /** What each sync that was asked for will make durable. */
  syncs: { number: number; written: Written }[] = [];
  hard: HardState;
  shown = 0;
  /** Effects of other kinds than those that are carried out here. */
  readonly told: Effect[] = [];

  constructor(readonly slot: number, replicationFactor: number, readonly limits: Partial<Limits>) {
    this.hard = newHardState(replicationFactor, 1000 + slot, "normal");
    this.durable = { hard: this.hard, list: [], commitEnd: 0 };
  }
}

export class Group {
  nowMs = 10_000;
  mail: Mail[] = [];
  readonly members: Member[];
  #boots = 0;

  constructor(readonly replicationFactor: number, limits: Partial<Limits> = {}) {
    this.members = Array.from({ length: replicationFactor }, (_, slot) => new Member(slot, replicationFactor, limits));
    for (const { slot } of this.members) this.start(slot);
  }

  start(slot: number, commitFloor?: number): void {
    const member = this.members[slot]!;
    const { durable } = member;
    member.log = new ModelLog(0, durable.list.slice());
    const terms = new TermTable();
    for (const { term, logIndex } of durable.list) terms.add(term, logIndex);
    member.hard = durable.hard;
    member.boot = ++this.#boots;
    member.syncs = [];
    member.shown = 0;
    member.state = new ReplicaState({
      ...{ replicationFactor: this.replicationFactor, slot, log: member.log, terms, hard: durable.hard },
      ...{ commitFloor: commitFloor ?? durable.commitEnd, boot: member.boot, now: this.nowMs },
      ...{ limits: member.limits, timing: { suspectJitterMs: 0 } },
    });
    member.isUp = true;
    this.#carryOut(member, start(member.state, this.nowMs));
  }

  /** The power is gone: what was not synced is lost. */
  crash(slot: number): void {
    this.members[slot]!.isUp = false;
  }

  /** Another disk, and a process on it that says so. */
  wipe(slot: number, dataId: number, mode: HardState["mode"] = "recovering"): void {
    const member = this.members[slot]!;
    member.durable = { hard: newHardState(this.replicationFactor, dataId, mode), list: [], commitEnd: 0 };
    this.start(slot);
  }

  input(slot: number, input: Input): void {
    const member = this.members[slot]!;
    if (member.isUp) this.#carryOut(member, step(member.state, input, this.nowMs));
  }

  /** Entries of a client, at the leader. */
  append(slot: number, ...names: string[]): void {
    const { log, state } = this.members[slot]!;
    const list: Entry[] = [];
    for (const id of names) {
      const logIndex = log.end + list.length;
      const content = { partition: 0, firstSequence: logIndex, events: [{ id, stream: "s", version: logIndex }] };
      list.push(makeEntry(list.at(-1)?.chain ?? log.chainAt(log.end), logIndex, state.term, content));
    }
    this.#appended(this.members[slot]!, list);
  }

  #appended(member: Member, list: Entry[]): void {
    const entries = new ModelEntries(list, member.log.chainAt(member.log.end));
    member.log.list.push(...list);
    this.input(member.slot, { kind: "appended", entries });
  }

  #carryOut(member: Member, effects: Effect[]): void {
    for (const effect of effects) {
      switch (effect.kind) {
        case "persist":
          member.hard = effect.hard;
          break;
        case "append":
          member.log.list.push(...(effect.entries as ModelEntries).list);
          break;
        case "truncate":
          member.log.list.length = effect.end;
          break;
        case "noop":
          this.#appended(member, [
            makeEntry(member.log.chainAt(member.log.end), member.log.end, effect.term, {
              partition: 0,
              firstSequence: 0,
              events: [],
            }),
          ]);
          break;
        case "sync":
          member.syncs.push({ number: effect.number, written: { hard: member.hard, list: member.log.list.slice() } });
          break;
        case "send":
          this.mail.push({
            ...{ from: member.slot, to: effect.to, message: effect.message },
            ...{ dataId: member.state.hard.dataId, boot: member.boot },
          });
          break;
        case "commit":
          member.shown = effect.end;
          break;
        default:
          member.told.push(effect);
      }
    }
  }

  /** The next sync of a replica is done; all of them. */
  sync(slot: number): void {
    const member = this.members[slot]!;
    while (member.isUp && member.syncs.length > 0) {
      const { number, written } = member.syncs.shift()!;
      member.durable = { ...written, commitEnd: Math.min(member.shown, written.list.length) };
      this.input(slot, { kind: "synced", number });
    }
  }

  deliver(mail: Mail): void {
    const { from, to, dataId, boot, message } = mail;
    this.input(to, { kind: "message", from: { slot: from, dataId, boot }, message });
  }

  /** Takes out of the mail what fits. */
  take(fits: (mail: Mail) => boolean): Mail[] {
    const taken = this.mail.filter(fits);
    this.mail = this.mail.filter((mail) => !taken.includes(mail));
    return taken;
  }

  drop(kind: Message["kind"]): number {
    return this.take(({ message }) => message.kind === kind).length;
  }

  /** All mail arrives and all syncs are done, until nothing is left; but nothing to or from the slots in `cut`. */
  settle(cut: readonly number[] = []): void {
    for (let rounds = 0; rounds < 1000; rounds++) {
      for (const { slot } of this.members) this.sync(slot);
      const mail = this.take(() => true);
      if (mail.length === 0) return;
      for (const one of mail) if (!cut.includes(one.from) && !cut.includes(one.to)) this.deliver(one);
    }
    throw new Error("it goes round and round");
  }

  /** Time passes, in steps, and all that comes of it is settled. */
  pass(milliseconds: number, cut: readonly number[] = []): void {
    for (const end = this.nowMs + milliseconds; this.nowMs < end;) {
      this.nowMs += 50;
      for (const { slot } of this.members) this.input(slot, { kind: "tick" });
      this.settle(cut);
    }
  }

  /** Until somebody serves. */
  untilServed(cut: readonly number[] = []): number {
    for (let waited = 0; waited < 20_000; waited += 50) {
      this.pass(50, cut);
      const leader = this.members.find(({ state, isUp, slot }) =>
        isUp && state.role === "serving" && !cut.includes(slot)
      );
      if (leader !== undefined) return leader.slot;
    }
    throw new Error("nobody serves");
  }

  names(slot: number): string[] {
    return this.members[slot]!.log.list.flatMap(({ content }) => content.events.map(({ id }) => id));
  }

  state(slot: number): ReplicaState {
    return this.members[slot]!.state;
  }
}
