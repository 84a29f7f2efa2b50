/**
 * A cluster of real nodes, and what can happen to it: `deno task crash --cluster`. After each of these all that was
 * acknowledged is there, once, at its place, the same at each node, nobody has seen what is not, and all nodes serve.
 *
 *     kill        kill -9 of a leader in mid-pipeline, `--rounds` times, and how long nobody leads
 *     pause       SIGSTOP of a leader, until another one serves, and SIGCONT
 *     isolate     a leader that hears nobody and is heard by nobody, for `--seconds`
 *     asymmetric  a leader that is not heard by one; by nobody; that hears nobody
 *     unplugged   the cable of a leader is pulled out, for `--seconds`: clients do not reach it either
 *     lost        messages that are lost in one direction: acknowledgements, and notes of what is committed
 *     behind      a replica that lacks `--behind` MiB
 *     wiped       a disk that was replaced
 *     restored    a folder that was put back from an older copy, with and without the operator's word
 *     two         of two replicas one whose disk was replaced, without and with the operator's word
 *     strangers   another secret, another replication factor, a second process with the same folder
 *     large       events of 5 MiB, and one beyond the limit
 *     rolling     each node is stopped and started again, and no append fails
 *     power       all are killed at once
 *     follow      five nodes, three replicas: followers at nodes without the partition, while leaders die
 *
 * With `--namespaces` each node has a network of its own, and the kernel drops what is cut (namespaces.ts). Without, the
 * nodes are joined by proxies, which hold it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../core/chance.ts";
import { bucketOf } from "../core/placement.ts";
import { clusterConfigText, configPath, readClusterConfig, secretPath } from "../net/cluster_config.ts";
import { clusterMetaPath, forcedPath, restoredPath } from "../net/cluster_meta.ts";
import { systemDisk } from "../core/mod.ts";
import { EXIT_CODES } from "../program/exit_codes.ts";
import { ClusterProcesses, type ClusterProcessesOptions, freePorts } from "./cluster_processes.ts";
import {
  ClusterLoad,
  countsText,
  KEYS,
  type LoadOptions,
  NodeLink,
  partitionOfKey,
  pass,
} from "./crash_cluster_load.ts";
import { ClusterState } from "./crash_cluster_state.ts";
import { ReplyError } from "./resp_client.ts";
import type { Tally } from "./tally.ts";

/** Longer than any change of a leader, and a start beside others. */
const SERVE_MS_MAX = 30_000;
const SETTLE_MS_MAX = 60_000;
const BUCKETS = 4;

export interface ClusterCrash {
  command: string[];
  rounds: number;
  seconds: number;
  behindBytes: number;
  seed: number;
  /** Each node in a network namespace of its own. */
  namespaces: boolean;
}

/** What a scenario works with. */
interface Run extends ClusterCrash {
  cluster: ClusterProcesses;
  state: ClusterState;
  load: ClusterLoad;
  chance: Chance;
}

interface Scenario {
  options?: ClusterProcessesOptions;
  load?: Partial<LoadOptions>;
  /** It works with proxies, or without; with either when left out. */
  lines?: "proxies" | "namespaces";
  body(run: Run): Promise<string>;
}

const SCENARIOS: Record<string, Scenario> = {
  kill: { body: killLeaders },
  pause: { body: pauseLeader },
  isolate: { body: isolateLeader },
  asymmetric: { body: cutDirections },
  unplugged: { lines: "namespaces", body: unplugLeader },
  lost: { lines: "proxies", body: loseMessages },
  behind: { body: fallBehind },
  wiped: { body: wipe },
  restored: { body: restore },
  two: { options: { nodes: 2 }, body: replaceOneOfTwo },
  strangers: { lines: "proxies", body: strangers },
  large: { body: largeEvents },
  rolling: { body: restartAll },
  power: { body: killAll },
  follow: { options: { nodes: 5, init: ["--replication-factor=3"] }, load: { writers: 1 }, body: followOn },
};

/** What can be played with nodes in namespaces, or without. */
export function scenariosFor(namespaces: boolean): string[] {
  const other = namespaces ? "proxies" : "namespaces";
  return Object.keys(SCENARIOS).filter((name) => SCENARIOS[name]!.lines !== other);
}

export async function checkCluster(tally: Tally, names: readonly string[], crash: ClusterCrash): Promise<void> {
  for (const name of names) await tally.check(`cluster, ${name}`, () => play(SCENARIOS[name]!, crash));
}

/** A scenario, from a new cluster to the judgement. */
async function play({ options, load: asked, body }: Scenario, crash: ClusterCrash): Promise<string> {
  await using cluster = await ClusterProcesses.start({
    command: crash.command,
    namespaces: crash.namespaces,
    ...options,
  });
  using state = new ClusterState(cluster);
  const addresses = cluster.nodes.map(({ address }) => address);
  using load = new ClusterLoad({ addresses, seed: crash.seed, ...asked });
  load.start();
  await serves(load, SERVE_MS_MAX);
  let note: string;
  try {
    note = await body({ ...crash, cluster, state, load, chance: new Chance(crash.seed) });
  } catch (error) {
    // What happened to the data is told as well.
    if (load.problems.length > 0) {
      throw new Error(`${load.problems.slice(0, 5).join("\n")}\n${error}`, { cause: error });
    }
    throw error;
  }
  cluster.heal();
  await serves(load, SERVE_MS_MAX);
  await load.stop();
  const settledMs = await state.settled(SETTLE_MS_MAX);
  const problems = await load.judge(SERVE_MS_MAX);
  if (problems.length > 0) {
    throw new Error(`${problems.length} problems\n${problems.slice(0, 20).join("\n")}\n${await state.describe()}`);
  }
  const { operations, reads } = load.history;
  return `${note}; ${operations.length} operations, ${reads} reads, all as promised; level ${
    ms(settledMs)
  } after the load`;
}

/** Writers at these nodes, or at all, are answered. */
async function serves(load: ClusterLoad, msMax: number, nodes = [...load.acknowledgedAt.keys()]): Promise<void> {
  const wanted = nodes.map((node) => load.acknowledgedAt[node]! + 20);
  const deadline = performance.now() + msMax;
  for (;;) {
    const waiting = nodes.filter((node, i) => load.acknowledgedAt[node]! < wanted[i]!);
    if (waiting.length === 0) return;
    if (performance.now() > deadline) throw new Error(`Nodes ${waiting} have not served 20 appends in ${ms(msMax)}`);
    await pass(10);
  }
}

/** How long until a bucket takes an append again, that is asked for at one node. */
async function servedAgain({ load, cluster, chance }: Run, bucket: number, node: number): Promise<number> {
  using link = new NodeLink(cluster.nodes[node]!.address);
  const began = performance.now();
  const append = {
    ...{ key: keyOf(bucket), stream: "probe", expected: null, count: 1, bytes: 10, chance, elsewhere: false },
  };
  // One that hangs in a link to who is gone is not to hold up the measurement.
  const { operation } = await load.append(node, link, append);
  assert.equal(operation.outcome, "ok");
  return performance.now() - began;
}

function keyOf(bucket: number): string {
  return KEYS.find((key) => bucketOf(partitionOfKey(key), BUCKETS) === bucket)!;
}

/** A leader of a bucket, and two other nodes that hold it. */
async function leaderOf({ state, cluster }: Run, bucket: number): Promise<{ leader: number; others: number[] }> {
  const nodes = cluster.nodes.map(({ index }) => index);
  let leader: number | null = null;
  await state.until(
    `bucket ${bucket} has a leader`,
    async () => (leader = await state.leaderOf(bucket, ...nodes)) !== null,
    SERVE_MS_MAX,
  );
  const { replicas } = (await state.buckets(leader!))[bucket]!;
  return { leader: leader!, others: replicas.filter((node) => node !== leader) };
}

async function restart({ cluster, state, load }: Run, node: number): Promise<number> {
  load.begins(node);
  await cluster.nodes[node]!.start();
  return await state.caughtUp(node, SETTLE_MS_MAX);
}

const ms = (value: number) => value < 10_000 ? `${value.toFixed(0)} ms` : `${(value / 1000).toFixed(1)} s`;

function medianAndMost(values: number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  return `median ${ms(sorted[Math.floor(sorted.length / 2)]!)}, most ${ms(sorted.at(-1)!)}`;
}

// ---- Processes that end ----------------------------------------------------------------------------------------------

async function killLeaders(run: Run): Promise<string> {
  const { cluster, chance, rounds, load } = run;
  const failover: number[] = [];
  const caughtUp: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const bucket = round % BUCKETS;
    const { leader, others } = await leaderOf(run, bucket);
    const before = load.counts.acknowledged + chance.below(200);
    const deadline = performance.now() + SERVE_MS_MAX;
    while (load.counts.acknowledged < before && performance.now() < deadline) await pass(1); // In the middle of something.
    await cluster.nodes[leader]!.kill();
    failover.push(await servedAgain(run, bucket, chance.pick(others)));
    caughtUp.push(await restart(run, leader));
  }
  return `${rounds} leaders killed, served again: ${medianAndMost(failover)}; started and caught up: ` +
    `${medianAndMost(caughtUp)}; ${countsText(load.counts)}`;
}

async function killAll(run: Run): Promise<string> {
  const { cluster, load, rounds } = run;
  const times: number[] = [];
  for (let round = 0; round < Math.min(rounds, 5); round++) {
    await serves(load, SERVE_MS_MAX);
    await Promise.all(cluster.nodes.map((node) => node.kill()));
    for (const { index } of cluster.nodes) load.begins(index);
    await cluster.start();
    const began = performance.now();
    await serves(load, SERVE_MS_MAX);
    times.push(performance.now() - began);
  }
  return `all killed at once ${times.length} times, serving after their first PONG: ${medianAndMost(times)}`;
}

async function restartAll(run: Run): Promise<string> {
  const { cluster, state, load } = run;
  await state.settledLeaders(SERVE_MS_MAX);
  const stops: number[] = [];
  const failed: string[] = [];
  let acknowledged = 0, lost = 0, slowest = 0;
  for (const node of cluster.nodes) {
    load.mark();
    const began = performance.now();
    load.begins(node.index);
    assert.equal(await node.stop(), 0, node.index.toString());
    stops.push(performance.now() - began);
    await restart(run, node.index);
    await state.settledLeaders(SERVE_MS_MAX);
    const { counts } = load;
    for (const [code, count] of counts.later) failed.push(`${count} ${code}`);
    if (counts.unknown > 0) failed.push(`${counts.unknown} UNKNOWN`);
    for (const [at, count] of counts.lost) {
      // What a client sends into a connection that is about to be closed, nobody reads any more.
      if (at === node.index) lost += count;
      else failed.push(`${count} at node ${at} without an answer`);
    }
    acknowledged += counts.acknowledged;
    slowest = Math.max(slowest, counts.slowestMs);
  }
  assert.equal(failed.join(", "), "", `appends failed while nodes were restarted: ${failed.join(", ")}`);
  return `each stopped (${medianAndMost(stops)}) and started again: ${acknowledged} appends acknowledged meanwhile, ` +
    `slowest ${ms(slowest)}, none failed, ${lost} came too late on a connection that was closed`;
}

async function pauseLeader(run: Run): Promise<string> {
  const { cluster, state, load } = run;
  const times: number[] = [];
  const back: number[] = [];
  for (const bucket of [0, 1]) {
    const { leader, others } = await leaderOf(run, bucket);
    cluster.nodes[leader]!.pause();
    times.push(await servedAgain(run, bucket, others[0]!));
    // What it believed when it was stopped, it believes still.
    cluster.nodes[leader]!.resume();
    back.push(await state.caughtUp(leader, SETTLE_MS_MAX));
  }
  return `2 leaders stopped, served by others: ${medianAndMost(times)}; caught up when they went on: ` +
    `${medianAndMost(back)}; ${countsText(load.counts)}`;
}

// ---- Lines that fail -------------------------------------------------------------------------------------------------

async function isolateLeader(run: Run): Promise<string> {
  const { cluster, load, seconds } = run;
  const notes: string[] = [];
  for (const [bucket, secondsCut] of [1, seconds].entries()) {
    notes.push(
      `cut off ${await outFor(secondsCut, run, bucket, (leader) => cluster.cutOff(leader), () => cluster.heal())}`,
    );
  }
  return `a leader ${notes.join("; a leader ")}; ${countsText(load.counts)}`;
}

async function unplugLeader(run: Run): Promise<string> {
  const { load, seconds } = run;
  const namespaces = run.cluster.namespaces!;
  const plug = (isIn: boolean) => (leader: number) => namespaces.plug(leader, isIn);
  return `a leader unplugged ${await outFor(seconds, run, 0, plug(false), plug(true))}; ${countsText(load.counts)}`;
}

/** A bucket's leader is away for so many seconds, or until another one serves. */
async function outFor(
  seconds: number,
  run: Run,
  bucket: number,
  out: (leader: number) => void,
  back: (leader: number) => void,
): Promise<string> {
  const { leader, others } = await leaderOf(run, bucket);
  const began = performance.now();
  out(leader);
  const served = await servedAgain(run, bucket, others[0]!);
  await pass(Math.max(0, 1000 * seconds - (performance.now() - began)));
  const outMs = performance.now() - began;
  back(leader);
  const caughtUp = await run.state.caughtUp(leader, SETTLE_MS_MAX);
  return `for ${ms(outMs)}, served by others after ${ms(served)}, caught up ${ms(caughtUp)} after it`;
}

async function cutDirections(run: Run): Promise<string> {
  const { cluster, state, load } = run;
  const notes: string[] = [];
  const cuts: [string, (leader: number, others: number[]) => [number, number][]][] = [
    ["not heard by one", (leader, [one]) => [[leader, one!]]],
    ["that does not hear one", (leader, [one]) => [[one!, leader]]],
    ["heard by nobody", (leader, others) => others.map((one) => [leader, one])],
    ["that hears nobody", (leader, others) => others.map((one) => [one, leader])],
  ];
  for (const [bucket, [name, directions]] of cuts.entries()) {
    const { leader, others } = await leaderOf(run, bucket);
    for (const [from, to] of directions(leader, others)) cluster.direction(from, to).hold();
    const served = await servedAgain(run, bucket, others[1]!);
    await pass(2000);
    cluster.heal();
    const caught = await Promise.all([leader, ...others].map((node) => state.caughtUp(node, SETTLE_MS_MAX)));
    notes.push(`${name}: served after ${ms(served)}, level ${ms(Math.max(...caught))} after it`);
  }
  return `a leader ${notes.join("; a leader ")}; ${countsText(load.counts)}`;
}

/** What is held when its connection breaks never comes. */
async function loseMessages(run: Run): Promise<string> {
  const { cluster, state, chance, load, rounds } = run;
  const count = Math.max(4, rounds);
  for (let round = 0; round < count; round++) {
    const { leader, others } = await leaderOf(run, round % BUCKETS);
    // Acknowledgements are what followers send, notes of what is committed what the leader does.
    const [from, to] = round % 2 === 0 ? [chance.pick(others), leader] : [leader, chance.pick(others)];
    cluster.direction(from, to).hold();
    const before = load.counts.acknowledged + 20;
    const deadline = performance.now() + SERVE_MS_MAX;
    while (load.counts.acknowledged < before && performance.now() < deadline) await pass(1);
    cluster.sever();
    cluster.heal();
    await serves(load, SERVE_MS_MAX);
  }
  for (const { index } of cluster.nodes) await state.caughtUp(index, SETTLE_MS_MAX);
  return `${count} times what was on its way in one direction was lost; ${countsText(load.counts)}`;
}

// ---- Replicas that lack something ------------------------------------------------------------------------------------

/** Appends so many bytes, in events of 256 KiB, at a node. */
async function fill({ load, cluster, chance }: Run, node: number, bytes: number): Promise<void> {
  const each = 256 * 1024;
  using link = new NodeLink(cluster.nodes[node]!.address);
  let left = Math.ceil(bytes / each);
  await Promise.all(Array.from({ length: 8 }, async () => {
    while (left-- > 0) {
      const append = { key: chance.pick(KEYS), stream: "fill", expected: null, count: 1, bytes: each, chance };
      await load.append(node, link, append);
    }
  }));
}

async function fallBehind(run: Run): Promise<string> {
  const { cluster, load, behindBytes } = run;
  await cluster.nodes[2]!.kill();
  const began = performance.now();
  await fill(run, 0, behindBytes);
  const filled = performance.now() - began;
  load.mark();
  const caughtUp = await restart(run, 2);
  const mib = behindBytes / 2 ** 20;
  return `${mib} MiB appended in ${ms(filled)} to two of three; the third has them after ${ms(caughtUp)}, ` +
    `${(mib / caughtUp * 1000).toFixed(0)} MiB/s, while ${load.counts.acknowledged} appends went on`;
}

async function wipe(run: Run): Promise<string> {
  const { cluster, load } = run;
  await fill(run, 0, 8 * 1024 * 1024);
  const notes: string[] = [];
  for (const node of [0, 1]) {
    await cluster.nodes[node]!.kill();
    cluster.nodes[node]!.wipe();
    notes.push(`node ${node} was wiped, and counts again ${ms(await restart(run, node))} after its start`);
  }
  // Of each majority now one or both had lost everything.
  await cluster.nodes[2]!.kill();
  await Promise.all([0, 1].map((node) => servedAgain(run, node, node)));
  notes.push(`without node 2, which was not, ${countsText(load.counts)}`);
  await restart(run, 2);
  return notes.join("; ");
}

async function replaceOneOfTwo(run: Run): Promise<string> {
  const { cluster, load, state } = run;
  const node = cluster.nodes[1]!;
  await fill(run, 0, 8 * 1024 * 1024);
  await node.kill();
  node.wipe();
  load.begins(1);
  await node.start();
  await state.until("node 1 waits for a word", () => node.process.output.includes("waits for a word"), SERVE_MS_MAX);
  load.mark();
  await pass(3000);
  assert.equal(load.counts.acknowledged, 0, "a replica that lost all was counted");
  for (const { role } of await state.buckets(1)) assert.equal(role, "recovering");
  await node.kill();
  Deno.writeTextFileSync(forcedPath(node.dir), "");
  const took = await restart(run, 1);
  await state.until("the word is gone", () => !systemDisk.exists(forcedPath(node.dir)), SERVE_MS_MAX);
  await serves(load, SERVE_MS_MAX);
  return `one of two was wiped and counted for nothing; with the operator's word it had all after ${ms(took)}`;
}

async function restore(run: Run): Promise<string> {
  const { cluster, load, state } = run;
  const notes: string[] = [];
  for (const isTold of [true, false]) {
    const node = cluster.nodes[isTold ? 0 : 1]!;
    const copy = `${cluster.folder}/copy-${node.index}`;
    await node.kill();
    copyFolder(node.dir, copy);
    await restart(run, node.index);
    await serves(load, SERVE_MS_MAX);
    await fill(run, 2, 2 * 1024 * 1024);
    await state.caughtUp(node.index, SETTLE_MS_MAX);
    await node.kill();
    systemDisk.remove(node.dir);
    copyFolder(copy, node.dir);
    if (isTold) Deno.writeTextFileSync(restoredPath(node.dir), "");
    const took = await restart(run, node.index);
    assert.equal(systemDisk.exists(restoredPath(node.dir)), false);
    const said = node.process.output.match(/does not count any more|has recovered/g) ?? [];
    notes.push(`${isTold ? "told" : "not told"}: caught up after ${ms(took)} (${[...new Set(said)].join(", ")})`);
  }
  return `a folder put back from an older copy, ${notes.join("; ")}`;
}

function copyFolder(from: string, to: string): void {
  Deno.mkdirSync(to);
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    if (isDirectory) copyFolder(`${from}/${name}`, `${to}/${name}`);
    else Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
  }
}

// ---- Nodes that are none ---------------------------------------------------------------------------------------------

async function strangers(run: Run): Promise<string> {
  const { cluster, state, load } = run;
  const node = cluster.nodes[1]!;
  /** The node starts, and is nobody's replica: the others go on without it. */
  const staysOut = async (why: string, linked: number) => {
    await node.start();
    for (let i = 0; i < 3; i++) {
      await serves(load, SERVE_MS_MAX, [0, 2]);
      for (const other of [0, 2]) {
        assert.ok(await state.info(other, "nodes_linked") <= linked, `${why}: it was let in`);
        for (const { leader } of await state.buckets(other)) assert.notEqual(leader, 1, `${why}: it leads`);
      }
      for (const { bucket, role } of await state.buckets(1)) {
        assert.notEqual(role, "serving", `${why}: bucket ${bucket}`);
      }
    }
    using link = new NodeLink(node.address);
    const reply = await link.call(["EAPPEND", "s", "n"]).then(() => "stored", (error) => error);
    assert.ok(reply instanceof ReplyError, `${why}: ${reply}`);
    await node.kill();
  };
  await node.kill();
  const secret = Deno.readTextFileSync(secretPath(node.dir));
  Deno.writeTextFileSync(secretPath(node.dir), "0".repeat(64));
  await staysOut("another secret", 2);
  Deno.writeTextFileSync(secretPath(node.dir), secret);
  // With another factor it is refused by its own folder; with a new one, by the others.
  const config = readClusterConfig(systemDisk, node.dir)!;
  const text = Deno.readTextFileSync(configPath(node.dir));
  Deno.writeTextFileSync(configPath(node.dir), clusterConfigText({ ...config, replicationFactor: 2 }));
  node.spawn();
  assert.equal(await node.ended(), EXIT_CODES.mismatch.code);
  assert.ok(systemDisk.exists(clusterMetaPath(node.dir)));
  const copy = `${cluster.folder}/copy`;
  copyFolder(node.dir, copy);
  node.wipe();
  await staysOut("another replication factor", 3);
  systemDisk.remove(node.dir);
  Deno.renameSync(copy, node.dir);
  Deno.writeTextFileSync(configPath(node.dir), text);
  await restart(run, 1);
  // A second process with the folder of a node, first with the very one.
  const inUse = cluster.addStranger(node.dir);
  inUse.spawn();
  assert.equal(await inUse.ended(), EXIT_CODES.inUse.code);
  const twin = `${cluster.folder}/twin`;
  await node.kill();
  copyFolder(node.dir, twin);
  await restart(run, 1);
  // At the same address it cannot listen.
  const second = cluster.addStranger(twin);
  second.spawn();
  assert.equal(await second.ended(), EXIT_CODES.unavailable.code);
  // At another one it can, and says to be node 1 as well.
  const twinConfig = readClusterConfig(systemDisk, twin)!;
  const [port] = freePorts(1);
  Deno.writeTextFileSync(configPath(twin), clusterConfigText({ ...twinConfig, listen: `/ip4/127.0.0.1/tcp/${port}` }));
  await second.start();
  for (let i = 0; i < 5; i++) await serves(load, SERVE_MS_MAX, [0, 2]);
  await second.kill();
  await state.caughtUp(1, SETTLE_MS_MAX);
  return "another secret and another replication factor were not let in; a second process with the folder ended by " +
    `itself; one with a copy of it at another port harmed nobody; ${countsText(load.counts)}`;
}

// ---- The rest --------------------------------------------------------------------------------------------------------

async function largeEvents(run: Run): Promise<string> {
  const { cluster, load, state, chance } = run;
  const bytes = 5 * 1024 * 1024;
  const times: number[] = [];
  for (const { index, address } of cluster.nodes) {
    using link = new NodeLink(address);
    for (const bucket of [0, 1, 2, 3]) {
      const began = performance.now();
      const append = { key: keyOf(bucket), stream: "large", expected: null, count: 1, bytes, chance, elsewhere: false };
      const { operation } = await load.append(index, link, append);
      assert.equal(operation.outcome, "ok");
      times.push(performance.now() - began);
    }
  }
  const refused: string[] = [];
  for (const { address } of cluster.nodes) {
    // A command has room for so much, and must fit a transaction of the log.
    for (const over of [64 * 1024 * 1024 - 200, 64 * 1024 * 1024 + 1]) {
      using link = new NodeLink(address);
      const began = performance.now();
      const words = ["EAPPEND", "too-large", "n", "PAYLOAD", new Uint8Array(over)];
      const reply = await link.call(words, SETTLE_MS_MAX).then(
        () => "stored",
        (error) => error instanceof ReplyError ? error.message.slice(0, 100) : `${error.name}`,
      );
      refused.push(`${reply} after ${ms(performance.now() - began)}`);
    }
  }
  load.mark();
  await serves(load, SERVE_MS_MAX);
  await state.until("level", async () => await state.info(0, "lag_entries") === 0, SETTLE_MS_MAX);
  return `12 events of 5 MiB: ${
    medianAndMost(times)
  }; of 64 MiB less 200 bytes, and 1 byte more than that, at each node: ` +
    `${refused.join(", ")}; then ${countsText(load.counts)}`;
}

async function followOn(run: Run): Promise<string> {
  const { cluster, load, chance, rounds } = run;
  const failover: number[] = [];
  const count = Math.min(4, rounds);
  for (let round = 0; round < count; round++) {
    const { leader, others } = await leaderOf(run, round % BUCKETS);
    await cluster.nodes[leader]!.kill();
    failover.push(await servedAgain(run, round % BUCKETS, chance.pick(others)));
    await restart(run, leader);
  }
  const events = load.followers.reduce((sum, { seen }) => sum + [...seen.values()].flat().length, 0);
  const resumed = load.followers.reduce((sum, follower) => sum + follower.resumed, 0);
  return `${count} leaders of five nodes killed, served again: ${medianAndMost(failover)}; ${load.followers.length} ` +
    `followers (${resumed} beginnings) had ${events} events, and missed none`;
}
