/**
 * Appends through nodes of a cluster in which leaders change, lines are cut, messages are held back and answers are lost,
 * by a seed: what a client was told is what is so.
 *
 * The replicas are a model. Of each bucket there is one log, and in each term one leader, who takes appends in their
 * order; when it is deposed, the first of those that it has taken are kept by its successor, by chance, and the others
 * are gone.
 *
 * @module
 */
import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { Chance } from "../core/chance.ts";
import { OutcomeUnknown, TooFewReplicas, TryAgain, WrongExpectedVersion } from "../core/errors.ts";
import {
  appendedOf,
  type AppendReceiver,
  type AppendResult,
  type EventRecord,
  type Transaction,
} from "../core/event.ts";
import { MemoryStore } from "../core/memory_store.ts";
import { bucketOf } from "../core/placement.ts";
import { ClusterStore } from "./cluster.ts";
import { type ClusterShape, leaderOf, slotOf } from "./consensus/topology.ts";
import { dispatched } from "./dispatcher.ts";
import { type LocalNode, type LocalReplica, NotLeader } from "./local.ts";
import { MemoryNetwork } from "./memory_transport.ts";

const SHAPE: ClusterShape = {
  clusterId: "tested",
  nodeCount: 4,
  partitionCount: 8,
  bucketCount: 2,
  replicationFactor: 3,
  segmentBytes: 1024 * 1024,
};

/** Two partition keys, of buckets 0 and 1. */
const KEYS = ["00000000-0000-4000-8000-000000000000", "00000000-0000-4000-8000-400000000000"];

interface Taken {
  readonly transaction: Transaction;
  readonly receiver: AppendReceiver;
}

/** The replicas of a bucket. */
class Group {
  term = 3;
  serves = true;
  /** What the leader has taken and not decided. */
  taken: Taken[] = [];
  #running = false;

  constructor(readonly bucket: number, readonly log: MemoryStore, readonly chance: Chance) {}

  get leader(): number {
    return leaderOf(this.bucket, this.term, SHAPE);
  }

  append(node: number, transaction: Transaction, receiver: AppendReceiver): void {
    if (node !== this.leader || !this.serves) {
      return receiver.refused(new NotLeader(this.bucket, this.term, this.serves ? this.leader : null));
    }
    if (this.taken.length === 0) {
      // Refused at the door: nothing was taken.
      if (this.chance.oneIn(40)) return receiver.refused(new TryAgain("There is much to do"));
      if (this.chance.oneIn(200)) return receiver.refused(new TooFewReplicas("One of three"));
    }
    this.taken.push({ transaction, receiver });
    if (this.#running) return;
    this.#running = true;
    setImmediate(() => this.#decide());
  }

  /** The leader is gone. The next one knows some of what it has taken. */
  depose(): void {
    const taken = this.taken;
    this.taken = [];
    this.serves = false;
    this.term++;
    const kept = this.chance.below(taken.length + 1);
    // A refusal of the old leader that nobody has heard binds nobody.
    for (const { transaction } of taken.slice(0, kept)) this.log.append(transaction).catch(() => {});
    for (const { receiver } of taken) receiver.refused(new OutcomeUnknown("The leader was deposed"));
  }

  #decide(): void {
    this.#running = false;
    // The log appends within the call.
    for (const { transaction, receiver } of this.taken.splice(0)) {
      this.log.append(transaction).then(
        (result) => receiver.stored(appendedOf(result)),
        (error) => receiver.refused(error),
      );
    }
  }
}

class ModelNode implements LocalNode {
  readonly boot = 1;

  constructor(readonly node: number, readonly store: MemoryStore, readonly groups: readonly Group[]) {}

  replica(bucket: number): LocalReplica | null {
    if (slotOf(bucket, this.node, SHAPE) === null) return null;
    const { term } = this.groups[bucket]!;
    const commitChain = { low: 0, high: 0 };
    return { role: "follower", dataId: 1, term, logEnd: 0, durableEnd: 0, commitEnd: 0, commitChain };
  }

  leaderOf(bucket: number): { node: number; term: number } | null {
    const { serves, leader, term } = this.groups[bucket]!;
    return serves && slotOf(bucket, this.node, SHAPE) !== null ? { node: leader, term } : null;
  }

  append(transaction: Transaction, receiver: AppendReceiver): void {
    const partition = this.store.partitionOfKey(transaction.partitionKey as string);
    this.groups[bucketOf(partition, SHAPE.bucketCount)]!.append(this.node, transaction, receiver);
  }

  readEnd(): Promise<number | null> {
    return Promise.resolve(0);
  }
  committed(): Promise<boolean> {
    return Promise.resolve(true);
  }
  readable(): Promise<boolean> {
    return Promise.resolve(true);
  }
  commitNote(): void {}
  suspected(): void {}
}

class Model {
  readonly network = new MemoryNetwork(SHAPE.nodeCount);
  readonly log = new MemoryStore({ partitionCount: SHAPE.partitionCount });
  readonly groups: Group[];
  readonly stores: ClusterStore[] = [];

  constructor(readonly chance: Chance) {
    this.groups = [0, 1].map((bucket) => new Group(bucket, this.log, chance));
  }

  static async started(chance: Chance, commandMs: number): Promise<Model> {
    const model = new Model(chance);
    const nodes = Array.from({ length: SHAPE.nodeCount }, () => ({ peerId: "", addresses: [] }));
    for (let node = 0; node < SHAPE.nodeCount; node++) {
      const transport = model.network.transport(node);
      const local = new ModelNode(node, model.log, model.groups);
      const settings = { commandMs, retryMs: 3, unreachableMs: 60, answerMs: 200 };
      const store = new ClusterStore({ shape: SHAPE, local, transport, nodes, settings });
      const replicas = { message() {}, linkUp() {}, linkDown() {}, writable() {} };
      await transport.start(dispatched(replicas, store.handlers));
      model.stores.push(store);
    }
    return model;
  }

  heal(): void {
    for (let a = 0; a < SHAPE.nodeCount; a++) {
      for (let b = 0; b < SHAPE.nodeCount; b++) {
        this.network.release(a, b);
        if (a < b) this.network.heal(a, b);
      }
    }
    for (const group of this.groups) group.serves = true;
  }

  /** Something goes wrong, or is well again. */
  fault(): void {
    const { chance, network } = this;
    const [a, b] = [chance.below(SHAPE.nodeCount), chance.below(SHAPE.nodeCount)];
    const group = chance.pick(this.groups);
    switch (chance.below(8)) {
      case 0:
        return network.cut(a, b);
      case 1:
      case 4:
      case 5:
        return network.hold(a, b);
      case 2:
        return group.serves ? group.depose() : void (group.serves = true);
      case 3: // Leaders come and go, and one comes back.
        for (let i = 0; i < SHAPE.replicationFactor; i++) group.depose();
        group.serves = true;
        return;
      default:
        return chance.oneIn(2) ? this.heal() : void (group.serves = true);
    }
  }

  async close(): Promise<void> {
    for (const store of this.stores) await store.close();
  }
}

interface Told {
  readonly marker: string;
  readonly key: string;
  readonly expectsExactly: boolean;
  outcome: AppendResult | Error | null;
}

/** Appends of one node to one stream, all called in their order and none waited for. */
function burst(store: ClusterStore, name: string, key: string, count: number, exact: boolean): Told[] {
  return Array.from({ length: count }, (_, i) => {
    const marker = `${name}.${i}`;
    const told: Told = { marker, key, expectsExactly: exact, outcome: null };
    const expectedVersion = !exact ? "any" : i === 0 ? "empty" : i - 1;
    const events = [{ streamId: name, name: marker, expectedVersion } as const];
    store.append({ partitionKey: key, events }).then(
      (result) => told.outcome = result,
      (error) => told.outcome = error,
    );
    return told;
  });
}

async function eventsOf(log: MemoryStore, key: string): Promise<EventRecord[]> {
  const events: EventRecord[] = [];
  for await (const event of log.readPartition(log.partitionOfKey(key))) events.push(event);
  return events;
}

/** Resolves when all were told. */
async function settled(bursts: readonly Told[][]): Promise<void> {
  while (bursts.some((burst) => burst.some(({ outcome }) => outcome === null))) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

async function play(seed: number): Promise<{ stored: number; unknown: number; failed: number }> {
  const chance = new Chance(seed);
  const model = await Model.started(chance, chance.pick([8, 25, 10_000]));
  const bursts: Told[][] = [];
  for (let i = 0; i < 40; i++) {
    for (let n = chance.below(3); n > 0; n--) {
      const name = `s${bursts.length}`;
      bursts.push(burst(chance.pick(model.stores), name, chance.pick(KEYS), chance.between(1, 8), chance.oneIn(2)));
    }
    if (chance.oneIn(2)) model.fault();
    if (chance.oneIn(2)) await new Promise((resolve) => setTimeout(resolve, chance.below(8)));
  }
  model.heal();
  await settled(bursts);
  await model.close();
  const counts = { stored: 0, unknown: 0, failed: 0 };
  for (const key of KEYS) {
    const events = await eventsOf(model.log, key);
    const places = Map.groupBy(events, ({ name }) => name);
    for (const [marker, found] of places) assert.equal(found.length, 1, `${marker} is stored ${found.length} times`);
    for (const burst of bursts) {
      let last = -1;
      for (const { marker, outcome, expectsExactly } of burst.filter((told) => told.key === key)) {
        const [record] = places.get(marker) ?? [];
        if (outcome instanceof OutcomeUnknown) {
          counts.unknown++;
        } else if (outcome instanceof Error) {
          assert.equal(record, undefined, `${marker} is stored, and its writer was told ${outcome.name}`);
          counts.failed++;
          // In their order, each finds its predecessor, if that was not refused.
          if (outcome instanceof WrongExpectedVersion) {
            const before = burst.slice(0, burst.findIndex((told) => told.marker === marker));
            const allStored = before.every(({ outcome }) => outcome !== null && !(outcome instanceof Error));
            assert.ok(expectsExactly && !allStored, `${marker} was refused behind those that were stored`);
          }
        } else {
          assert.ok(record !== undefined, `${marker} was acknowledged and is not stored`);
          assert.equal(outcome!.firstSequence, record.sequence);
          assert.equal(outcome!.events[0]!.version, record.version);
          assert.equal(outcome!.events[0]!.eventId, record.eventId);
          assert.ok(record.sequence > last, `${marker} has overtaken one that was called before it`);
          last = record.sequence;
          counts.stored++;
        }
      }
    }
  }
  return counts;
}

Deno.test("what a writer was told of an append is so, none is stored twice, and their order is kept", async () => {
  const sum = { stored: 0, unknown: 0, failed: 0 };
  for (let seed = 0; seed < 40; seed++) {
    try {
      const { stored, unknown, failed } = await play(seed);
      sum.stored += stored;
      sum.unknown += unknown;
      sum.failed += failed;
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
  // Else it would prove nothing.
  assert.ok(sum.stored > 1000 && sum.unknown > 50 && sum.failed > 50, JSON.stringify(sum));
});
