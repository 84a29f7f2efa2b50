/**
 * Nodes whose replicas are behind, out of reach, or gone: what a reader is told is what is so, and who follows misses
 * nothing and sees nothing twice.
 *
 * @module
 */
import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { Chance } from "../core/chance.ts";
import { Damaged, InvalidArgument, NoReplica, StoreClosed, TooFewReplicas, TryAgain } from "../core/errors.ts";
import {
  appendedOf,
  type AppendReceiver,
  type AppendResult,
  type EventRecord,
  type Transaction,
} from "../core/event.ts";
import { MemoryStore } from "../core/memory_store.ts";
import { bucketOf } from "../core/placement.ts";
import { Scan, type Selection } from "../core/store.ts";
import { ClusterStore } from "./cluster.ts";
import type { Chain } from "./consensus/entries.ts";
import { type ClusterShape, leaderOf, replicasOf, slotOf } from "./consensus/topology.ts";
import { dispatched } from "./dispatcher.ts";
import { type LocalNode, type LocalReplica, NotLeader } from "./local.ts";
import { MemoryNetwork, type MemoryTransport } from "./memory_transport.ts";
import type { RouterSettings } from "./router.ts";

/** Node 3 holds bucket 1 only, node 0 bucket 0 only: nodes 1 and 2 hold both. */
const SHAPE: ClusterShape = {
  clusterId: "tested",
  nodeCount: 4,
  partitionCount: 8,
  bucketCount: 2,
  replicationFactor: 3,
  segmentBytes: 1024 * 1024,
};

/** A stream id whose default partition is of bucket 0 and of bucket 1. */
const STREAMS = ["user-1", "scan-a"];
const PARTITIONS = [0, 1];

/** A node with copies of what the leaders store, which come when a test says so. */
class CopyingNode implements LocalNode {
  readonly boot = 7;
  readonly store: MemoryStore;
  /** Of each bucket, how much of its log is here. */
  readonly ends: number[];
  readonly notes: string[] = [];
  readonly suspicions: string[] = [];
  door: Error | null = null;

  constructor(readonly node: number, readonly nodes: Nodes) {
    const { partitionCount, bucketCount } = nodes.shape;
    this.store = new MemoryStore({ partitionCount });
    this.ends = new Array(bucketCount).fill(0);
  }

  replica(bucket: number): LocalReplica | null {
    if (slotOf(bucket, this.node, this.nodes.shape) === null) return null;
    const commitEnd = this.ends[bucket]!;
    const role = this.nodes.leader(bucket) === this.node ? "serving" : "follower";
    const commitChain = { low: commitEnd, high: 1 };
    const term = this.nodes.terms[bucket]!;
    return { role, dataId: 1, term, logEnd: commitEnd, durableEnd: commitEnd, commitEnd, commitChain };
  }

  leaderOf(bucket: number): { node: number; term: number } | null {
    const node = this.nodes.leader(bucket);
    return this.replica(bucket) === null || node === null ? null : { node, term: this.nodes.terms[bucket]! };
  }

  append(transaction: Transaction, receiver: AppendReceiver): void {
    const key = transaction.partitionKey;
    const partition = key === undefined
      ? partitionOf(this.store, transaction)
      : this.store.partitionOfKey(key as string);
    const bucket = bucketOf(partition, this.nodes.shape.bucketCount);
    if (this.nodes.leader(bucket) !== this.node) {
      return receiver.refused(new NotLeader(bucket, this.nodes.terms[bucket]!, this.nodes.leader(bucket)));
    }
    if (this.door !== null) return receiver.refused(this.door);
    const appended = this.store.append(transaction).then((result) => {
      this.nodes.keep(bucket, transaction, result);
      this.ends[bucket]!++;
      receiver.stored(appendedOf(result));
    }, (error) => receiver.refused(error));
    this.nodes.appending.push(appended);
  }

  readEnd(bucket: number): Promise<number | null> {
    return Promise.resolve(this.nodes.leader(bucket) === this.node ? this.ends[bucket]! : null);
  }

  committed(bucket: number, end: number): Promise<boolean> {
    return Promise.resolve(this.ends[bucket]! >= end);
  }

  async readable(partition: number, sequence: number): Promise<boolean> {
    return (await this.store.partitionSequence(partition) ?? -1) >= sequence;
  }

  commitNote(bucket: number, end: number, { low, high }: Chain): void {
    this.notes.push(`${bucket} ${end} ${low} ${high}`);
  }

  suspected(bucket: number, slots: number): void {
    this.suspicions.push(`${bucket} ${slots}`);
  }
}

function partitionOf(store: MemoryStore, { events }: Transaction): number {
  return events[0]!.streamId === STREAMS[0] ? 16 % store.partitionCount : 9 % store.partitionCount;
}

class Nodes {
  readonly network: MemoryNetwork;
  readonly locals: CopyingNode[];
  readonly transports: MemoryTransport[] = [];
  readonly stores: ClusterStore[] = [];
  /** Of each bucket, the term in which somebody leads: slot 0 at first. */
  readonly terms = [3, 3];
  /** Of each bucket, what its leaders have stored. */
  readonly logs: Transaction[][] = [[], []];
  /** Appends that are on their way into the log. */
  appending: Promise<void>[] = [];
  readonly logged: string[] = [];
  /** A bucket without a leader. */
  #changing: number | null = null;

  constructor(readonly shape: ClusterShape) {
    this.network = new MemoryNetwork(shape.nodeCount);
    this.locals = Array.from({ length: shape.nodeCount }, (_, node) => new CopyingNode(node, this));
  }

  static async started(settings: Partial<RouterSettings> = {}, shape = SHAPE): Promise<Nodes> {
    const all = new Nodes(shape);
    const nodes = Array.from({ length: shape.nodeCount }, (_, node) => ({ peerId: `peer ${node}`, addresses: [] }));
    for (const local of all.locals) {
      const transport = all.network.transport(local.node);
      all.transports.push(transport);
      const store = new ClusterStore({
        shape,
        local,
        transport,
        nodes,
        log: (level, message) => level === "debug" ? undefined : void all.logged.push(message),
        settings: { commandMs: 400, retryMs: 5, unreachableMs: 50, freshMs: 20, answerMs: 100, ...settings },
        followMs: 200,
      });
      await transport.start(dispatched({ message() {}, linkUp() {}, linkDown() {}, writable() {} }, store.handlers));
      all.stores.push(store);
    }
    return all;
  }

  leader(bucket: number): number | null {
    return bucket === this.#changing ? null : leaderOf(bucket, this.terms[bucket]!, this.shape);
  }

  keep(bucket: number, transaction: Transaction, { events, partitionKey }: AppendResult): void {
    const copies = transaction.events.map((event, i) => {
      const { eventId, timestamp } = events[i]!;
      return { ...event, eventId, timestamp, expectedVersion: "any" as const };
    });
    this.logs[bucket]!.push({ partitionKey, events: copies });
  }

  /** A replica takes what it lacks, or some of it. */
  async bulk(node: number, bucket: number, most = Infinity): Promise<void> {
    const local = this.locals[node]!;
    const lacking = this.logs[bucket]!.slice(local.ends[bucket]!, local.ends[bucket]! + most);
    local.ends[bucket]! += lacking.length;
    await Promise.all(lacking.map((transaction) => local.store.append(transaction)));
  }

  async catchUpAll(): Promise<void> {
    for (let bucket = 0; bucket < this.shape.bucketCount; bucket++) {
      for (const node of replicasOf(bucket, this.shape)) await this.bulk(node, bucket);
    }
  }

  /** The next slot leads, which has all. */
  async handOver(bucket: number): Promise<void> {
    this.#changing = bucket;
    this.terms[bucket]!++;
    await Promise.all(this.appending);
    this.appending = [];
    await this.bulk(leaderOf(bucket, this.terms[bucket]!, this.shape), bucket);
    this.#changing = null;
  }

  isolate(node: number): void {
    for (let other = 0; other < this.shape.nodeCount; other++) if (other !== node) this.network.cut(node, other);
  }

  heal(): void {
    for (let a = 0; a < this.shape.nodeCount; a++) {
      for (let b = 0; b < this.shape.nodeCount; b++) this.network.release(a, b);
    }
    for (let a = 0; a < this.shape.nodeCount; a++) {
      for (let b = a + 1; b < this.shape.nodeCount; b++) this.network.heal(a, b);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const store of this.stores) await store.close();
  }
}

function one(bucket: number, name = "Happened") {
  return { events: [{ streamId: STREAMS[bucket]!, name }] };
}

async function read(scan: Scan): Promise<EventRecord[]> {
  const events: EventRecord[] = [];
  for await (const event of scan) events.push(event);
  return events;
}

Deno.test("what a follower does not have yet is seen by who asks for it: by its sequence, or of the leader", async () => {
  await using nodes = await Nodes.started();
  const follower = nodes.stores[1]!; // Of bucket 0, which node 0 leads.
  const { events, lastSequence, partition } = await follower.append(one(0));
  assert.equal(partition, PARTITIONS[0]);
  const { eventId } = events[0]!;
  assert.equal(await follower.event(eventId), null);
  for (const freshness of [{ atLeast: lastSequence }, { fromLeader: true }]) {
    assert.equal((await follower.event(eventId, freshness))!.eventId, eventId);
    assert.equal(await follower.streamVersion(STREAMS[0]!, freshness), 0);
    assert.equal(await follower.partitionSequence(partition, freshness), 0);
    assert.equal((await read(follower.readStream(STREAMS[0]!, freshness))).length, 1);
    assert.equal((await read(follower.readPartition(partition, freshness))).length, 1);
  }
  await nodes.bulk(1, 0);
  assert.equal((await follower.event(eventId))!.eventId, eventId);
});

Deno.test("who follows sees what it asked to see at once, from whoever has it", async () => {
  await using nodes = await Nodes.started({ commandMs: 2000 });
  const { partition } = await nodes.stores[0]!.append(one(0));
  nodes.network.cut(3, 0);
  for (const freshness of [{ atLeast: 0 }, { fromLeader: true }]) {
    const asked = nodes.stores[3]!.subscribe({ partitions: [partition], from: 0 }, freshness)
      .then(async (subscription) => (await subscription.read()).length);
    setTimeout(() => nodes.network.heal(3, 0), 30); // Until then only replicas that are behind can be asked.
    assert.equal(await asked, 1);
    nodes.network.cut(3, 0);
  }
  const ofFollower = nodes.stores[1]!.subscribe({ partitions: [partition], from: 0 }, { atLeast: 0 });
  setTimeout(() => nodes.bulk(1, 0), 30);
  assert.equal((await (await ofFollower).read()).length, 1);
  const several = { partitions: [0, 1], from: 0 };
  for (const store of nodes.stores) await assert.rejects(store.subscribe(several, { atLeast: 0 }), InvalidArgument);
});

Deno.test("a node that answers with other events than were asked for is not believed, and somebody is told", async () => {
  await using nodes = await Nodes.started({ commandMs: 2000 });
  for (let i = 0; i < 3; i++) await nodes.stores[0]!.append(one(0, `${i}`));
  await nodes.catchUpAll();
  const { store } = nodes.locals[0]!;
  store.subscribe = () => MemoryStore.prototype.subscribe.call(store, { partitions: [PARTITIONS[0]!], from: 0 });
  const subscription = await nodes.stores[3]!.subscribe({ partitions: [PARTITIONS[0]!], from: 1 });
  assert.deepEqual((await subscription.read()).map(({ name }) => name), ["1", "2"]);
  assert.deepEqual(nodes.logged, ["A node has answered with other events"]);
});

Deno.test("H25: what cannot be known is an error, and never null", async () => {
  await using nodes = await Nodes.started();
  const { events, partition } = await nodes.stores[0]!.append(one(0));
  const { eventId } = events[0]!;
  nodes.isolate(1);
  const follower = nodes.stores[1]!;
  await assert.rejects(follower.event(eventId, { fromLeader: true }), TryAgain);
  await assert.rejects(follower.event(eventId, { atLeast: 0 }), TryAgain);
  await assert.rejects(read(follower.readPartition(partition, { atLeast: 0 })), TryAgain);
  await assert.rejects(follower.subscribe({ partitions: [partition] }, { atLeast: 0 }), TryAgain);
  nodes.isolate(3);
  const without = nodes.stores[3]!;
  await assert.rejects(without.event(eventId), NoReplica);
  await assert.rejects(without.streamVersion(STREAMS[0]!), NoReplica);
  await assert.rejects(read(without.readStream(STREAMS[0]!)), NoReplica);
  await assert.rejects(without.append(one(0)), NoReplica);
  await assert.rejects(without.subscribe({ partitions: [partition] }), NoReplica);
  const subscription = await without.subscribe({ partitions: [partition], from: 0 });
  await assert.rejects(subscription.read(), TryAgain);
  nodes.heal();
  assert.equal((await subscription.read()).length, 1);
  assert.equal((await without.event(eventId))!.eventId, eventId);
  // The leader itself knows what is not there yet.
  await assert.rejects(nodes.stores[0]!.partitionSequence(partition, { atLeast: 1 }), TryAgain);
});

Deno.test("a node without a link to the leader reaches it over another one", async () => {
  await using nodes = await Nodes.started({ commandMs: 5000 });
  nodes.network.cut(3, 0);
  const far = nodes.stores[3]!;
  const results = await Promise.all([1, 2, 3].map((i) => far.append(one(0, `${i}`))));
  assert.deepEqual(results.map(({ lastSequence }) => lastSequence), [0, 1, 2]);
  assert.equal(await far.streamVersion(STREAMS[0]!, { fromLeader: true }), 2);
});

Deno.test("H16: nodes that have lost the leader do not hand appends on for ever, and do not wait for each other to do so", async () => {
  await using nodes = await Nodes.started({ commandMs: 10_000 });
  nodes.isolate(0);
  const { network, transports } = nodes;
  const payload = new Uint8Array(10_000);
  const sent = await Promise.all([[1, 2], [2, 1]].map(async ([from, to]) => {
    network.hold(from!, to!);
    const append = nodes.stores[from!]!.append({ events: [{ ...one(0).events[0]!, payload }] });
    // Until it is on its way to the other one, who has one on its way to this one.
    while (transports[from!]!.queuedBytes(to!, "forward") < payload.length) {
      await new Promise((next) => setTimeout(next, 1));
    }
    return { append };
  }));
  network.release(1, 2);
  network.release(2, 1);
  for (let turn = 0; turn < 300; turn++) { // They ask each other again and again, and neither keeps what it was asked for.
    for (const node of [1, 2]) assert.equal(nodes.stores[node]!.underWay.appends, 1, "its own");
    await new Promise((next) => setTimeout(next, 0));
  }
  await nodes.handOver(0);
  const stored = await Promise.all(sent.map(({ append }) => append));
  assert.deepEqual(stored.map(({ lastSequence }) => lastSequence).sort(), [0, 1]);
});

Deno.test("what no linked node holds is read and followed over one that reaches it", async () => {
  // Bucket 0 is on node 0, bucket 1 on node 1, and node 2 has none.
  const shape = { ...SHAPE, nodeCount: 3, replicationFactor: 1 };
  await using nodes = await Nodes.started({ commandMs: 1000 }, shape);
  nodes.network.cut(2, 0);
  const far = nodes.stores[2]!;
  const latest = await far.subscribe({ partitions: "all" });
  const ofStream = await far.subscribe({ streams: [{ streamId: STREAMS[0]!, from: 0 }] });
  const ready = latest.ready();
  for (let i = 0; i < 3; i++) await far.append(one(0));
  assert.equal(await far.streamVersion(STREAMS[0]!), 2);
  assert.equal((await read(far.readStream(STREAMS[0]!))).length, 3);
  assert.ok(await ready);
  for (const subscription of [latest, ofStream]) {
    const found: EventRecord[] = [];
    while (found.length < 3 && await subscription.ready()) found.push(...await subscription.read());
    assert.deepEqual(found.map(({ sequence }) => sequence), [0, 1, 2]);
    assert.equal(await subscription.lag(), 0);
  }
  // Over one, and not over others in their turn: nobody asks in a circle.
  nodes.network.cut(1, 0);
  await assert.rejects(far.subscribe({ partitions: [0] }), NoReplica);
  await assert.rejects(
    far.streamVersion(STREAMS[0]!),
    (error) => error instanceof NoReplica || error instanceof TryAgain,
  );
});

Deno.test("a writer sees no error while leaders change, and the error of a leader as the leader gave it", async () => {
  await using nodes = await Nodes.started({ commandMs: 5000 });
  const writer = nodes.stores[3]!;
  for (let i = 0; i < 6; i++) {
    const appends = Array.from({ length: 5 }, () => writer.append(one(0)));
    await nodes.handOver(0);
    const sequences = (await Promise.all(appends)).map(({ lastSequence }) => lastSequence);
    assert.deepEqual(sequences, [0, 1, 2, 3, 4].map((j) => 5 * i + j));
  }
  nodes.locals[nodes.leader(0)!]!.door = new TooFewReplicas("One of three");
  await assert.rejects(writer.append(one(0)), new TooFewReplicas("One of three"));
  nodes.locals[nodes.leader(0)!]!.door = new TryAgain("Much to do");
  const later = writer.append(one(0));
  await new Promise((resolve) => setTimeout(resolve, 20));
  nodes.locals[nodes.leader(0)!]!.door = null;
  assert.equal((await later).lastSequence, 30);
});

Deno.test("a scan goes on at its position with another replica, and waits for one that is behind", async () => {
  await using nodes = await Nodes.started({ commandMs: 5000 });
  const events = Array.from({ length: 100 }, () => ({ streamId: STREAMS[0]!, name: "Happened" }));
  for (let i = 0; i < 7; i++) await nodes.stores[0]!.append({ events });
  await nodes.bulk(1, 0, 4);
  const ascending = Array.from({ length: 700 }, (_, i) => i);
  for (const direction of ["forward", "backward"] as const) {
    const versions: number[] = [];
    for await (const page of nodes.stores[3]!.readStream(STREAMS[0]!, { direction }).pages()) {
      if (versions.length === 256) {
        // From now on only node 1 can be asked, and lacks 300.
        nodes.network.cut(3, 0);
        nodes.network.cut(3, 2);
        if (direction === "forward") setTimeout(() => nodes.bulk(1, 0), 50);
      }
      versions.push(...page.map(({ version }) => version));
    }
    assert.deepEqual(versions, direction === "forward" ? ascending : ascending.toReversed());
    nodes.heal();
  }
});

Deno.test("H23: latest is what comes after the call, on a node that holds nothing of it too", async () => {
  await using nodes = await Nodes.started();
  for (let i = 0; i < 3; i++) await nodes.stores[0]!.append(one(0, "before"));
  const selections: Selection[] = [{ partitions: "all" }, { streams: STREAMS.map((streamId) => ({ streamId })) }];
  for (const selection of selections) {
    const subscription = await nodes.stores[3]!.subscribe(selection);
    nodes.network.cut(3, 0); // Who was asked is gone; the next one is behind.
    const waits = subscription.ready();
    await nodes.stores[0]!.append(one(0, "after"));
    await nodes.catchUpAll();
    assert.ok(await waits);
    assert.deepEqual((await subscription.read()).map(({ name }) => name), ["after"]);
    assert.equal(await subscription.lag(), 0);
    subscription.close();
    nodes.heal();
  }
});

Deno.test("a transaction of our own store that a read ends within goes on before all others, and is over when it is", async () => {
  await using nodes = await Nodes.started();
  const store = nodes.stores[0]!; // It leads bucket 0, and has nothing of bucket 1.
  const names = ["1", "2", "3"];
  const transaction = { events: names.map((name) => ({ streamId: STREAMS[0]!, name })) };
  const subscription = await store.subscribe({ partitions: "all", from: 0 });
  await store.append(transaction);
  await store.append(one(1, "other"));
  await nodes.catchUpAll();
  const found: string[] = [];
  while (found.length < 4) {
    assert.ok(await subscription.ready());
    const page = await subscription.read(2);
    found.push(...page.map(({ name }) => name));
  }
  assert.ok(["1 2 3 other", "other 1 2 3"].includes(found.join(" ")), found.join(" "));
  await store.append(transaction);
  assert.ok(await subscription.ready());
  assert.deepEqual((await subscription.read()).map(({ name }) => name), names);
  let isReady = false;
  const waits = subscription.ready().finally(() => isReady = true);
  for (let i = 0; i < 10; i++) await new Promise((resolve) => void setImmediate(resolve));
  assert.equal(isReady, false);
  await store.append(one(1, "last"));
  assert.ok(await waits);
  assert.deepEqual((await subscription.read()).map(({ name }) => name), ["last"]);
});

/** From now on a node meets damage in what it has: in a scan, after so many pages of ten events. */
function damage({ store }: CopyingNode, pagesWhole: number): void {
  const damaged = () => new Damaged("segment 0", 0, "flipped");
  const readPartition = store.readPartition.bind(store);
  const readStream = store.readStream.bind(store);
  async function* pages(scan: Scan): AsyncGenerator<EventRecord[]> {
    const events = await read(scan);
    for (let page = 0; page < pagesWhole; page++) yield events.slice(10 * page, 10 * page + 10);
    throw damaged();
  }
  const broken = (scan: Scan) => new Scan(() => pages(scan));
  store.readPartition = (partition, options) => broken(readPartition(partition, options));
  store.readStream = (streamId, options) => broken(readStream(streamId, options));
  store.event = store.streamVersion = store.partitionSequence = (): Promise<never> => Promise.reject(damaged());
}

Deno.test("what is damaged here is read from the leader: one event, and the rest of a scan", async () => {
  await using nodes = await Nodes.started();
  const ids: string[] = [];
  for (let i = 0; i < 45; i++) ids.push((await nodes.stores[0]!.append(one(0, `E${i}`))).events[0]!.eventId);
  await nodes.catchUpAll();
  const last = (await nodes.stores[0]!.append(one(0, "E45"))).events[0]!.eventId;
  await nodes.bulk(1, 0); // Node 2 is behind.
  damage(nodes.locals[1]!, 2);
  const damaged = nodes.stores[1]!;
  assert.equal((await damaged.event(last))!.name, "E45");
  assert.equal(await damaged.streamVersion(STREAMS[0]!), 45);
  assert.equal(await damaged.partitionSequence(PARTITIONS[0]!), 45);
  const names = async (scan: Scan) => (await read(scan)).map(({ name }) => name).join();
  const sunk = async (scan: Scan) => {
    const names: string[] = [];
    const sink = { begin() {}, take() {}, takeBack() {}, takeRecord: ({ name }: EventRecord) => void names.push(name) };
    let count = 0;
    for await (const page of scan.pagesInto(sink)) count += page;
    assert.equal(count, names.length);
    return names.join();
  };
  for (const range of [{}, { from: 3 }, { limit: 30 }, { from: 5, end: 33 }, { from: 5, end: 100, limit: 40 }]) {
    for (const direction of ["forward", "backward"] as const) {
      const options = { ...range, direction };
      const expected = await names(nodes.stores[0]!.readStream(STREAMS[0]!, options));
      assert.equal(await names(damaged.readStream(STREAMS[0]!, options)), expected);
      assert.equal(await names(damaged.readPartition(PARTITIONS[0]!, options)), expected);
      const intoSink = sunk(damaged.readPartition(PARTITIONS[0]!, options));
      if (direction === "forward") assert.equal(await intoSink, expected);
      else await assert.rejects(intoSink, Damaged); // From where it would go on, nobody has said.
    }
  }
  // The leader is damaged itself, until another one leads.
  damage(nodes.locals[0]!, 0);
  await assert.rejects(nodes.stores[0]!.event(last), Damaged);
  const found = nodes.stores[0]!.event(last);
  for (const _ of [1, 2]) await nodes.handOver(0); // Node 1 is damaged as well.
  assert.equal((await found)!.name, "E45");
});

Deno.test("when a node closes, the others ask elsewhere", async () => {
  await using nodes = await Nodes.started();
  await nodes.stores[0]!.append(one(0));
  await nodes.catchUpAll();
  await nodes.stores[0]!.close();
  assert.equal(await nodes.stores[3]!.streamVersion(STREAMS[0]!), 0);
  await nodes.handOver(0);
  assert.equal((await nodes.stores[3]!.append(one(0))).lastSequence, 1);
  await assert.rejects(nodes.stores[0]!.append(one(0)), StoreClosed);
});

Deno.test("beacons tell who leads, what is committed and who lives; a node that is silent is suspected, to its replicas", async () => {
  await using nodes = await Nodes.started();
  for (const store of nodes.stores) store.start();
  await nodes.stores[0]!.append(one(0));
  await nodes.handOver(0);
  const [, , , far] = nodes.stores;
  // The next beacons, a second later.
  while ((far!.cluster().buckets[0]!.commitEnds.get(1) ?? 0) < 1) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const { node, clusterId, buckets, nodes: others } = far!.cluster();
  assert.deepEqual([node, clusterId], [3, SHAPE.clusterId]);
  const { replicas, term, leader, own, commitEnds } = buckets[0]!;
  assert.deepEqual({ replicas, term, leader, own }, { replicas: [0, 1, 2], term: 4, leader: 1, own: null });
  assert.deepEqual([...commitEnds].toSorted(), [[0, 1], [1, 1], [2, 0]]);
  assert.equal(buckets[1]!.own!.role, "follower");
  assert.equal(buckets[1]!.own!.chain, "0000000100000000");
  assert.ok(others.every(({ linked, suspected, seenMs }) => linked && !suspected && seenMs !== null));
  assert.ok(nodes.locals[2]!.notes.includes("0 1 1 1"));
  assert.deepEqual(nodes.locals[2]!.suspicions, []);
  nodes.network.cut(1, 2);
  assert.ok(nodes.stores[2]!.cluster().nodes[1]!.suspected);
  assert.deepEqual(nodes.locals[2]!.suspicions, ["0 2", "1 1"]); // Node 1 is slot 1 of bucket 0, and slot 0 of bucket 1.
  assert.deepEqual(nodes.locals[0]!.suspicions, []);
});

// ---- By chance ---------------------------------------------------------------------------------------------------------

/** Follows through faults, and holds what comes to the promise. */
async function follow(seed: number): Promise<void> {
  const chance = new Chance(seed);
  await using nodes = await Nodes.started({ commandMs: 20_000 });
  const streamIds = Array.from({ length: 6 }, (_, i) => `s${i}`);
  const keys = ["00000000-0000-4000-8000-000000000000", "00000000-0000-4000-8000-400000000000"];
  const streams = keys.flatMap((partitionKey) =>
    streamIds.slice(0, 4).map((streamId) => ({ streamId, partitionKey, from: chance.below(3) }))
  );
  const reader = chance.pick([0, 1, 3]);
  const selection: Selection = chance.pick<Selection>([
    { partitions: "all", from: 0 },
    { partitions: [1, 0, 5], from: chance.below(3) },
    { streams },
  ]);
  const subscription = await nodes.stores[reader]!.subscribe(selection);
  const found: EventRecord[] = [];
  let isOver = false;
  const following = (async () => {
    while (await subscription.ready()) {
      found.push(...await subscription.read(chance.oneIn(2) ? undefined : chance.between(1, 9)));
      if (isOver) await Promise.resolve();
    }
  })();
  for (let i = 0; i < 60; i++) {
    const bucket = chance.below(2);
    const partitionKey = keys[bucket]!;
    const events = Array.from(
      { length: chance.oneIn(8) ? chance.between(100, 400) : chance.between(1, 6) },
      (_, j) => ({ streamId: chance.pick(streamIds), name: `${i}.${j}` }),
    );
    await nodes.stores[nodes.leader(bucket)!]!.append({ partitionKey, events });
    const replica = chance.pick(replicasOf(bucket, SHAPE));
    if (chance.oneIn(2)) await nodes.bulk(replica, bucket, chance.between(1, 5));
    const [a, b] = [chance.below(SHAPE.nodeCount), chance.below(SHAPE.nodeCount)];
    const fault = chance.below(40);
    if (fault < 10) nodes.network.cut(a, b);
    else if (fault < 18) nodes.network.heal(a, b);
    else if (fault < 20) nodes.network.hold(a, b); // It is there, and says nothing.
    else if (fault < 28) nodes.network.release(a, b);
    if (chance.oneIn(10)) await nodes.handOver(bucket);
    if (chance.oneIn(3)) await new Promise((resolve) => setTimeout(resolve, chance.below(6)));
  }
  nodes.heal();
  await nodes.catchUpAll();
  const expected: EventRecord[] = [];
  for (const partition of Array(SHAPE.partitionCount).keys()) {
    const leader = nodes.locals[nodes.leader(bucketOf(partition, SHAPE.bucketCount))!]!.store;
    expected.push(...(await read(leader.readPartition(partition))).filter((event) => isSelected(selection, event)));
  }
  while (found.length < expected.length) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.equal(await subscription.lag(), 0);
  isOver = true;
  subscription.close();
  await following;
  const numbers = (events: EventRecord[]) => events.map(({ partition, sequence }) => `${partition} ${sequence}`);
  for (const partition of Array(SHAPE.partitionCount).keys()) {
    const isOfPartition = (event: EventRecord) => event.partition === partition;
    assert.deepEqual(numbers(found.filter(isOfPartition)), numbers(expected.filter(isOfPartition)));
  }
  const ended = new Set<string>();
  for (const [i, { transactionId }] of found.entries()) {
    assert.ok(!ended.has(transactionId), `a transaction goes on behind others, at ${i}`);
    if (found[i + 1]?.transactionId !== transactionId) ended.add(transactionId);
  }
}

function isSelected(
  selection: Selection,
  { partition, partitionKey, streamId, sequence, version }: EventRecord,
): boolean {
  if ("streams" in selection) {
    return selection.streams.some((stream) =>
      stream.streamId === streamId && stream.partitionKey === partitionKey && version >= (stream.from as number)
    );
  }
  const { partitions, from } = selection;
  return (partitions === "all" || partitions.includes(partition)) && sequence >= (from as number);
}

Deno.test("H24: a subscriber misses nothing and sees nothing twice, whoever is gone, behind, or leads", async () => {
  for (let seed = 0; seed < 15; seed++) {
    try {
      await follow(seed);
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
});
