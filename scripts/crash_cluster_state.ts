/**
 * What the nodes of a cluster say of themselves, and waits for a state of it.
 *
 * @module
 */
import type { ClusterProcesses } from "./cluster_processes.ts";
import { NodeLink, pass } from "./crash_cluster_load.ts";
import { ConnectionLost, type Plain, ReplyError } from "./resp_client.ts";

/** A node is asked again after so long. */
const AGAIN_MS = 10;
const ANSWER_MS_MAX = 2000;
/** Under load nobody is level for long. */
const NEAR_ENTRIES = 20;

export interface BucketState {
  bucket: number;
  replicas: number[];
  term: number;
  leader: number | null;
  role: string | null;
  log_end: number | null;
  durable_end: number | null;
  commit_end: number | null;
  chain: string | null;
}

interface LagState {
  bucket: number;
  replicas: { node: number; lag: number | null }[];
}

export class ClusterState implements Disposable {
  readonly links: NodeLink[];

  constructor(readonly cluster: ClusterProcesses) {
    this.links = cluster.nodes.map(({ address }) => new NodeLink(address));
  }

  async ask(node: number, ...words: string[]): Promise<Plain> {
    return await this.links[node]!.call(words, ANSWER_MS_MAX);
  }

  async buckets(node: number): Promise<BucketState[]> {
    const buckets = await this.ask(node, "ECLUSTER", "BUCKETS") as { [key: string]: Plain }[];
    for (const bucket of buckets) {
      for (const [name, value] of Object.entries(bucket)) {
        if (value instanceof Uint8Array) bucket[name] = new TextDecoder().decode(value);
      }
    }
    return buckets as unknown as BucketState[];
  }

  /** A field of INFO REPLICATION. */
  async info(node: number, field: string): Promise<number> {
    const text = new TextDecoder().decode(await this.ask(node, "INFO", "REPLICATION") as Uint8Array);
    return Number(new RegExp(`^${field}:(.*)$`, "m").exec(text)?.[1]);
  }

  /** Resolves when it holds, with how long that took. What nodes do not answer does not hold. */
  async until(what: string, holds: () => boolean | Promise<boolean>, msMax: number): Promise<number> {
    const began = performance.now();
    let last: unknown = "";
    for (;;) {
      try {
        if (await holds()) return performance.now() - began;
      } catch (error) {
        const isAbsent = error instanceof ConnectionLost || error instanceof ReplyError ||
          (error as Error).name === "Unreachable";
        if (!isAbsent) throw error;
        last = `; last ${error}`;
      }
      if (performance.now() - began > msMax) {
        throw new Error(`Not within ${msMax} ms: ${what}${last}\n${await this.describe()}`);
      }
      await pass(AGAIN_MS);
    }
  }

  /** The leader of a bucket, on which these nodes agree, and which serves; null if there is none. */
  async leaderOf(bucket: number, ...among: number[]): Promise<number | null> {
    const states = await Promise.all(among.map(async (node) => (await this.buckets(node))[bucket]!));
    const { leader, term } = states[0]!;
    if (leader === null || states.some((one) => one.leader !== leader || one.term !== term)) return null;
    const at = among.indexOf(leader);
    return at < 0 || states[at]!.role === "serving" ? leader : null;
  }

  /** All buckets have a leader that serves, on which all nodes agree. */
  async settledLeaders(msMax: number): Promise<number> {
    const nodes = this.links.map((_, node) => node);
    return await this.until("all buckets are led", async () => {
      for (const { bucket } of await this.buckets(0)) {
        if (await this.leaderOf(bucket, ...nodes) === null) return false;
      }
      return true;
    }, msMax);
  }

  /** All buckets have a leader, on which all nodes agree, and no replica is behind. */
  async settled(msMax: number): Promise<number> {
    const nodes = this.links.map((_, node) => node);
    return await this.until("all serve, and no lag", async () => {
      const all = await Promise.all(nodes.map((node) => this.buckets(node)));
      for (const { bucket, leader, replicas } of all[0]!) {
        if (leader === null || all.some((one) => one[bucket]!.leader !== leader)) return false;
        const held = replicas.map((node) => all[node]![bucket]!);
        if (all[leader]![bucket]!.role !== "serving") return false;
        const [first] = held;
        for (const { log_end, commit_end, chain } of held) {
          if (log_end !== commit_end || commit_end !== first!.commit_end || chain !== first!.chain) return false;
        }
      }
      const lags = await Promise.all(nodes.map((node) => this.ask(node, "ECLUSTER", "LAG"))) as unknown as LagState[][];
      return lags.flat().every(({ replicas }) => replicas.every(({ lag }) => lag === 0));
    }, msMax);
  }

  /** All replicas of a node count, and it has all that is committed: of what is appended meanwhile it may lack the last. */
  async caughtUp(node: number, msMax: number): Promise<number> {
    return await this.until(`node ${node} has caught up`, async () => {
      const running = this.cluster.nodes.filter(({ isRunning }) => isRunning).map(({ index }) => index);
      const all = await Promise.all(running.map((one) => this.buckets(one)));
      for (const own of await this.buckets(node)) {
        if (!own.replicas.includes(node)) continue;
        if (own.role !== "follower" && own.role !== "serving") return false;
        if (own.commit_end! + NEAR_ENTRIES < Math.max(...all.map((one) => one[own.bucket]!.commit_end ?? 0))) {
          return false;
        }
      }
      return await this.info(node, "nodes_linked") === running.length;
    }, msMax);
  }

  /** For a failure: how the nodes stand, and what they said last. */
  async describe(): Promise<string> {
    const lines: string[] = [];
    for (const { index, isRunning } of this.cluster.nodes) {
      if (!isRunning) lines.push(`node ${index}: does not run`);
      else {
        const state = await this.buckets(index).then(
          (buckets) =>
            buckets.map(({ bucket, term, leader, role, log_end, durable_end, commit_end }) =>
              `${bucket}: term ${term}, led by ${leader}, ${role}, ${log_end}/${durable_end}/${commit_end}`
            ).join("; "),
          (error) => String(error),
        );
        lines.push(`node ${index}: ${state}`, this.cluster.nodes[index]!.process.output.slice(-1500));
      }
    }
    return lines.join("\n");
  }

  [Symbol.dispose](): void {
    for (const link of this.links) link[Symbol.dispose]();
  }
}
