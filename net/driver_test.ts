/** Drivers of two or three nodes in one process: what one says the others hear at once, on a clock of the test. */
import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { Chance } from "../core/chance.ts";
import { openDatabase } from "../core/database.ts";
import type { Environment } from "../core/environment.ts";
import { segmentPath } from "../core/log/layout.ts";
import { MemoryDisk } from "../core/log/memory_disk.ts";
import { streamOf } from "../core/made_log.ts";
import { read } from "../core/store_suite.ts";
import type { ClusterShape } from "./consensus/topology.ts";
import { Driver } from "./driver.ts";
import type { Packet } from "./messages.ts";

const DIR = "/data";
const TICK_MS = 50;
const SHAPE: ClusterShape = {
  ...{ clusterId: "tested", nodeCount: 3, replicationFactor: 3 },
  ...{ partitionCount: 2, bucketCount: 1, segmentBytes: 4096 },
};
const BUCKET = 0;

interface Place {
  disk: MemoryDisk;
  /** Null while the node is down. */
  driver: Driver | null;
  /** Of its first start. */
  founding: boolean;
  starts: number;
}

/** Nodes that hear each other, and a clock that moves in `until` only. */
class Nodes {
  nowMs = 1000;
  readonly places: Place[];
  readonly warnings: string[] = [];
  readonly fatal: Error[] = [];
  #packets: { to: number; packet: Packet }[] = [];
  #timers: { at: number; action: () => void }[] = [];

  private constructor(readonly shape: ClusterShape) {
    this.places = Array.from({ length: shape.nodeCount }, (_, i) => ({
      ...{ disk: new MemoryDisk({ seed: i + 1 }), driver: null, founding: true, starts: 0 },
    }));
  }

  static async start(shape = SHAPE): Promise<Nodes> {
    const nodes = new Nodes(shape);
    for (const node of nodes.places.keys()) await nodes.start(node);
    await nodes.until(() => nodes.leader !== null);
    return nodes;
  }

  async start(node: number, forcesRecovery = false, onWhole?: () => void): Promise<void> {
    const place = this.places[node]!;
    const { disk, founding } = place;
    const chance = new Chance(100 * node + place.starts++);
    const environment: Environment = {
      now: () => 1_700_000_000_000 + this.nowMs,
      monotonic: () => this.nowMs,
      random: (bytes) => chance.fill(bytes),
      pause: settled,
      fatal: (reason) => {
        this.fatal.push(reason);
        throw reason;
      },
    };
    const { partitionCount, bucketCount, segmentBytes } = this.shape;
    place.driver = await Driver.open(
      {
        ...{ shape: this.shape, node, founding, environment, forcesRecovery, onWhole },
        log: (level, message) => level === "info" || this.warnings.push(`node ${node}: ${message}`),
        send: (to, packet) => this.#packets.push({ to, packet }),
        timers: {
          after: (milliseconds, action) => {
            const timer = { at: this.nowMs + milliseconds, action };
            this.#timers.push(timer);
            return () => this.#timers = this.#timers.filter((one) => one !== timer);
          },
        },
      },
      (group) =>
        openDatabase({
          ...{ dir: DIR, disk, environment, group, partitionCount, bucketCount, segmentBytes },
          ...{ journalBytes: 32 * 1024, reserveBytes: 0, cacheBytes: 64 * 1024, tailBytes: 4000, headBytes: 16 * 1024 },
        }),
    );
    place.founding = false;
  }

  async stop(node: number): Promise<void> {
    const { driver } = this.places[node]!;
    this.places[node]!.driver = null;
    driver!.close();
    await driver!.store.close();
  }

  async stopAll(): Promise<void> {
    for (const [node, { driver }] of this.places.entries()) if (driver !== null) await this.stop(node);
    assert.deepEqual(this.fatal, []);
  }

  driver(node: number): Driver {
    return this.places[node]!.driver!;
  }

  /** Who serves the bucket, in the newest term. */
  get leader(): number | null {
    const views = this.places.map(({ driver }) => driver?.replica(BUCKET) ?? null);
    const term = Math.max(...views.map((view) => view?.term ?? 0));
    const leader = views.findIndex((view) => view?.role === "serving" && view.term === term);
    return leader < 0 ? null : leader;
  }

  /** Whether all that run have all that is in the leader's log, committed. */
  get areEqual(): boolean {
    const running = this.places.filter(({ driver }) => driver !== null).map(({ driver }) => driver!.replica(BUCKET)!);
    return running.every(({ logEnd, commitEnd }) => logEnd === commitEnd && logEnd === running[0]!.logEnd);
  }

  /** Lets time pass until it is so. */
  async until(holds: () => boolean, msMax = 30_000): Promise<void> {
    for (const end = this.nowMs + msMax;;) {
      await this.#hear();
      if (holds()) return;
      assert.ok(this.nowMs < end, `not within ${msMax} ms: ${this.warnings.join("; ")}`);
      this.nowMs += TICK_MS;
      const due = this.#timers.filter(({ at }) => at <= this.nowMs);
      this.#timers = this.#timers.filter(({ at }) => at > this.nowMs);
      for (const { action } of due) action();
      for (const { driver } of this.places) driver?.tick();
    }
  }

  pass(milliseconds: number): Promise<void> {
    const end = this.nowMs + milliseconds;
    return this.until(() => this.nowMs >= end);
  }

  /** Delivers what was said, and what is said to that, and waits for what has to become durable. */
  async #hear(): Promise<void> {
    for (let quiet = 0; quiet < 10;) {
      const packets = this.#packets.splice(0);
      quiet = packets.length === 0 ? quiet + 1 : 0;
      for (const { to, packet } of packets) this.places[to]!.driver?.receive(packet);
      await settled();
    }
  }

  /** Appends at a node. Null while it is not answered. */
  append(node: number, payload = "", partition = 0): { outcome: string | null } {
    const told: { outcome: string | null } = { outcome: null };
    const streamId = streamOf(partition, this.shape.partitionCount);
    this.driver(node).store.appendFor({ events: [{ streamId, name: "E", payload }] }, {
      stored: ({ firstSequence }) => told.outcome = `stored at ${firstSequence}`,
      refused: (error) => told.outcome = (error as Error).name,
    });
    return told;
  }

  /** Appends at the leader, and waits for the answer. */
  async stored(payload = "", partition = 0): Promise<void> {
    const told = this.append(this.leader!, payload, partition);
    await this.until(() => told.outcome !== null);
    assert.match(told.outcome!, /stored/);
  }

  async payloads(node: number, partition = 0): Promise<string[]> {
    const events = await read(this.driver(node).store.readPartition(partition));
    return events.map(({ payload }) => new TextDecoder().decode(payload));
  }

  /** That all have the same, and what. */
  async hold(payloads: string[]): Promise<void> {
    await this.until(() => this.areEqual);
    for (const [node, { driver }] of this.places.entries()) {
      if (driver !== null) assert.deepEqual(await this.payloads(node), payloads, `node ${node}`);
    }
  }
}

function settled(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => `${i}`);

Deno.test("driver: nodes that are founded together have a leader, and what it takes is on all of them", async () => {
  const nodes = await Nodes.start();
  const leader = nodes.leader!;
  for (const number of numbers(30)) await nodes.stored(number);
  await nodes.hold(numbers(30));
  for (const node of nodes.places.keys()) {
    assert.deepEqual(nodes.driver(node).leaderOf(BUCKET)?.node, leader);
    assert.ok(nodes.driver(node).isWhole);
    if (node === leader) continue;
    const told = nodes.append(node, "elsewhere");
    await nodes.until(() => told.outcome !== null);
    assert.equal(told.outcome, "NotLeader");
  }
  assert.deepEqual(nodes.warnings, []);
  await nodes.stopAll();
});

Deno.test("driver: an append is answered when two of three have it, and not by one alone", async () => {
  const nodes = await Nodes.start();
  const leader = nodes.leader!;
  const [one, other] = [...nodes.places.keys()].filter((node) => node !== leader);
  await nodes.stop(one!);
  await nodes.stored("with two");
  await nodes.stop(other!);
  const alone = nodes.append(leader, "alone");
  await nodes.pass(500);
  assert.equal(alone.outcome, null);
  assert.deepEqual(await nodes.payloads(leader), ["with two"]);
  await nodes.pass(5000);
  assert.equal(alone.outcome, "OutcomeUnknown");
  const late = nodes.append(leader, "late");
  await nodes.until(() => late.outcome !== null);
  assert.match(late.outcome!, /NotLeader|TooFewReplicas|TryAgain/);
  await nodes.stopAll();
});

Deno.test("driver: when the leader stops another one leads, and the first one catches up when it comes back", async () => {
  const nodes = await Nodes.start();
  for (const number of numbers(10)) await nodes.stored(number);
  const first = nodes.leader!;
  await nodes.stop(first);
  await nodes.until(() => nodes.leader !== null && nodes.leader !== first);
  for (const number of numbers(20).slice(10)) await nodes.stored(number);
  await nodes.start(first);
  await nodes.hold(numbers(20));
  await nodes.stored("20");
  await nodes.hold(numbers(21));
  await nodes.stopAll();
});

Deno.test("driver: a leader that was alone with an append gives it up for what the others decided", async () => {
  const nodes = await Nodes.start();
  await nodes.stored("0");
  const first = nodes.leader!;
  const others = [...nodes.places.keys()].filter((node) => node !== first);
  for (const node of others) await nodes.stop(node);
  const lost = nodes.append(first, "lost");
  await nodes.pass(100);
  await nodes.stop(first);
  assert.equal(lost.outcome, "OutcomeUnknown");
  for (const node of others) await nodes.start(node);
  await nodes.until(() => nodes.leader !== null);
  await nodes.stored("1");
  await nodes.start(first);
  await nodes.hold(["0", "1"]);
  await nodes.stopAll();
});

Deno.test("driver: a follower without room stops, begins anew when there is room, and catches up", async () => {
  const nodes = await Nodes.start();
  await nodes.stored("0");
  const follower = [0, 1, 2].find((node) => node !== nodes.leader)!;
  const { disk } = nodes.places[follower]!;
  disk.capacityBytes = disk.usedBytes;
  for (let i = 1; i < 30; i++) await nodes.stored(`${i}`);
  await nodes.pass(3000);
  assert.ok(nodes.warnings.some((text) => text.startsWith(`node ${follower}: A replica stopped, and begins anew`)));
  assert.ok(nodes.driver(follower).replica(BUCKET)!.commitEnd < nodes.driver(nodes.leader!).replica(BUCKET)!.commitEnd);
  disk.capacityBytes = Infinity;
  await nodes.hold(numbers(30));
  assert.ok(nodes.driver(follower).isWhole);
  await nodes.stopAll();
});

for (const whenFound of ["by its start", "while it runs"]) {
  Deno.test(`H13, driver: a follower whose log is damaged recovers under a new data id, found ${whenFound}`, async () => {
    const nodes = await Nodes.start();
    for (const number of numbers(40)) await nodes.stored(number);
    await nodes.hold(numbers(40));
    const follower = [0, 1, 2].find((node) => node !== nodes.leader)!;
    const dataId = nodes.driver(follower).dataId(BUCKET);
    const { disk } = nodes.places[follower]!;
    if (whenFound === "by its start") {
      await nodes.stop(follower);
      for (const path of disk.files(DIR)) if (path.endsWith("idx")) disk.remove(path); // Else not all of it is read.
      disk.flip(segmentPath(DIR, BUCKET, 0), 300, 1);
      await nodes.start(follower);
    } else {
      disk.flip(segmentPath(DIR, BUCKET, 0), 300, 1);
      await assert.rejects(nodes.payloads(follower), { name: "Damaged" });
    }
    await nodes.until(() => nodes.driver(follower).isWhole && nodes.driver(follower).dataId(BUCKET) !== dataId);
    await nodes.hold(numbers(40));
    await nodes.stored("40");
    await nodes.hold(numbers(41));
    assert.deepEqual(nodes.driver(follower).store.status().damage, []);
    await nodes.stopAll();
  });
}

Deno.test("driver: a node without a hard state that was not there at the founding recovers before it counts", async () => {
  const nodes = await Nodes.start();
  for (const number of numbers(5)) await nodes.stored(number);
  const follower = [0, 1, 2].find((node) => node !== nodes.leader)!;
  await nodes.stop(follower);
  nodes.places[follower]!.disk = new MemoryDisk({ seed: 99 });
  await nodes.start(follower);
  assert.equal(nodes.driver(follower).isWhole, false);
  await nodes.until(() => nodes.driver(follower).isWhole);
  await nodes.hold(numbers(5));
  await nodes.stopAll();
});

Deno.test("driver: handOver() resolves when another one leads, and after its time when nobody can", async () => {
  const nodes = await Nodes.start();
  await nodes.stored("0");
  const first = nodes.leader!;
  let isOver = false;
  void nodes.driver(first).handOver(10_000).then(() => isOver = true);
  const began = nodes.nowMs;
  await nodes.until(() => isOver);
  assert.ok(nodes.nowMs - began < 2000, `${nodes.nowMs - began} ms`);
  await nodes.until(() => nodes.leader !== null);
  assert.notEqual(nodes.leader, first);
  await nodes.stored("1");

  const second = nodes.leader!;
  for (const node of nodes.places.keys()) if (node !== second) await nodes.stop(node);
  isOver = false;
  void nodes.driver(second).handOver(1000).then(() => isOver = true);
  await nodes.pass(1100);
  assert.ok(isOver);
  await nodes.stopAll();
});

Deno.test("driver: readEnd() is at the leader what was acknowledged, and null elsewhere and for one that is alone", async () => {
  const nodes = await Nodes.start();
  await nodes.stored("0");
  const leader = nodes.leader!;
  const endOf = async (node: number) => {
    let end: number | null | undefined;
    void nodes.driver(node).readEnd(BUCKET).then((told) => end = told);
    await nodes.until(() => end !== undefined);
    return end!;
  };
  assert.equal(await endOf(leader), nodes.driver(leader).replica(BUCKET)!.commitEnd);
  const others = [...nodes.places.keys()].filter((node) => node !== leader);
  for (const node of others) assert.equal(await endOf(node), null);
  for (const node of others) await nodes.stop(node);
  assert.equal(await endOf(leader), null);
  await nodes.stopAll();
});

Deno.test("driver: who waits for what is committed is told when it is, when its time is over, and when the node stops", async () => {
  const nodes = await Nodes.start();
  await nodes.until(() => nodes.areEqual);
  const follower = [0, 1, 2].find((node) => node !== nodes.leader)!;
  const driver = nodes.driver(follower);
  const { commitEnd } = driver.replica(BUCKET)!;
  const told = new Map<string, boolean>();
  const wait = (name: string, promise: Promise<boolean>) => void promise.then((held) => told.set(name, held));
  wait("there", driver.committed(BUCKET, commitEnd, 10));
  wait("soon", driver.committed(BUCKET, commitEnd + 1, 5000));
  wait("soon, by a test", driver.whenCommitted(BUCKET, () => driver.replica(BUCKET)!.commitEnd > commitEnd, 5000));
  wait("never", driver.committed(BUCKET, commitEnd + 100, 1000));
  wait("stopped", driver.committed(BUCKET, commitEnd + 100, 1e9));
  wait("no bucket", driver.committed(7, 0, 10));
  await nodes.pass(200);
  assert.deepEqual([...told], [["there", true], ["no bucket", false]]);
  await nodes.stored("0");
  await nodes.until(() => told.size === 4, 500);
  assert.deepEqual([told.get("soon"), told.get("soon, by a test")], [true, true]);
  await nodes.pass(1000);
  assert.equal(told.get("never"), false);
  assert.equal(told.has("stopped"), false);
  await nodes.stop(follower);
  await settled();
  assert.equal(told.get("stopped"), false);
  assert.equal(await driver.committed(BUCKET, commitEnd + 100, 10), false);
  await nodes.stopAll();
});

Deno.test("driver: two nodes go on when one is back, and not before", async () => {
  const nodes = await Nodes.start({ ...SHAPE, nodeCount: 2, replicationFactor: 2 });
  await nodes.stored("0");
  const other = 1 - nodes.leader!;
  await nodes.stop(other);
  const told = nodes.append(nodes.leader!, "1");
  await nodes.pass(1000);
  assert.equal(told.outcome, null);
  await nodes.start(other);
  await nodes.until(() => told.outcome !== null);
  assert.equal(told.outcome, "stored at 1");
  await nodes.hold(["0", "1"]);
  await nodes.stopAll();
});

Deno.test("H19, driver: however much was refused for want of a majority, appends are taken when there is one", async () => {
  const nodes = await Nodes.start({ ...SHAPE, nodeCount: 2, replicationFactor: 2 });
  await nodes.stored("0");
  const leader = nodes.leader!;
  await nodes.stop(1 - leader);
  await nodes.pass(5000);
  const outcomes = new Set<string | null>();
  for (let i = 0; i < 100; i++) {
    const told = nodes.append(leader, "refused");
    await nodes.pass(50);
    outcomes.add(told.outcome);
  }
  assert.deepEqual([...outcomes], ["NotLeader"]); // It has stepped down: nobody leads.
  await nodes.start(1 - leader);
  await nodes.until(() => nodes.leader !== null);
  await nodes.stored("1");
  await nodes.hold(["0", "1"]);
  await nodes.stopAll();
});

Deno.test("driver: of two replicas one that lost all counts again by an operator's word, which holds until it does", async () => {
  const nodes = await Nodes.start({ ...SHAPE, nodeCount: 2, replicationFactor: 2 });
  for (const number of numbers(5)) await nodes.stored(number);
  await nodes.hold(numbers(5));
  await nodes.stop(1);
  nodes.places[1]!.disk = new MemoryDisk({ seed: 99 });
  await nodes.start(1);
  await nodes.pass(20_000);
  assert.equal(nodes.driver(1).isWhole, false);
  assert.match(nodes.warnings.join("\n"), /node 1: Of two replicas one that lost what it had .* waits for a word/);
  await nodes.stop(1);
  let whole = 0;
  await nodes.start(1, true, () => whole++);
  assert.ok(nodes.driver(1).forcesRecovery);
  await nodes.until(() => whole === 1);
  assert.equal(nodes.driver(1).forcesRecovery, false);
  await nodes.until(() => nodes.leader !== null);
  await nodes.stored("5");
  await nodes.hold(numbers(6));
  assert.equal(whole, 1);
  await nodes.stopAll();
});
