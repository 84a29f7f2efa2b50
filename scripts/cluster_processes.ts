/**
 * A cluster of real processes on this machine, for tests that kill, stop, wipe and cut nodes.
 *
 * What a node knows as the address of a peer is a proxy (tcp_proxy.ts), another one for each ordered pair. So what node 0
 * sends to node 1 can be held or delayed and what node 1 sends to node 0 not, whoever of the two has dialled:
 *
 *     node 0  ──► proxy "0 to 1" ──►  node 1         from 0 to 1 go: what is sent into this proxy,
 *     node 0  ◄── proxy "1 to 0" ◄──  node 1                         and what comes back through this one
 *
 * Or each node has a network namespace of its own, and what it sends is dropped by the kernel (namespaces.ts).
 *
 * Only processes that were started here are ended, each by its own id.
 *
 * @module
 */
import { systemDisk } from "../core/mod.ts";
import { clusterConfigText, configPath, keyPath, readClusterConfig, secretPath } from "../net/cluster_config.ts";
import { identityIn } from "../net/libp2p_transport.ts";
import { placeOf } from "../net/node_address.ts";
import { readOptions } from "../options.ts";
import { initCluster } from "../program/cluster_init.ts";
import { hostOf, Namespaces, type Way } from "./namespaces.ts";
import { serverCommand, type ServerOptions, ServerProcess } from "./server_process.ts";
import { Direction, TcpProxy } from "./tcp_proxy.ts";

export interface ClusterProcessesOptions {
  /** The program. As of `serverCommand` when left out. */
  command?: string[];
  /** 3 when left out. */
  nodes?: number;
  /** Flags of `cluster init`: `--replication-factor=2`, `--bucket-count=8`, `--adopt=FOLDER`. */
  init?: string[];
  /** Flags of each node. Of the journal little is taken when left out. */
  flags?: string[];
  /** Nodes reach each other without proxies between them, for who measures: then nothing can be held, delayed or cut. */
  direct?: boolean;
  /** Each node in a network namespace of its own, and the lines between them are the kernel's. */
  namespaces?: boolean;
  /** Where the cluster's folder is made; among those of the system when left out. */
  dir?: string;
}

const HOST = "127.0.0.1";
/** In namespaces, where each node is alone. */
const PORTS = { node: 7400, client: 7401 };
const FLAGS = ["--journal-size-bytes=1MiB"];

/** A node and its process, which may come and go. */
export class NodeProcess {
  #process: ServerProcess | null = null;

  constructor(
    readonly index: number,
    readonly dir: string,
    readonly address: { hostname: string; port: number },
    readonly options: Omit<ServerOptions, "folder" | "hostname" | "port">,
  ) {}

  /** The process, while there is one. */
  get process(): ServerProcess {
    if (this.#process === null) throw new Error(`Node ${this.index} has no process`);
    return this.#process;
  }

  get isRunning(): boolean {
    return this.#process !== null;
  }

  /** Starts it, and does not wait. */
  spawn(): ServerProcess {
    if (this.#process !== null) throw new Error(`Node ${this.index} runs as process ${this.#process.pid}`);
    return this.#process = ServerProcess.spawn({ ...this.options, folder: this.dir, ...this.address });
  }

  /** Starts it, and waits for its first answer to a client. */
  async start(): Promise<void> {
    await this.spawn().answers();
  }

  /** SIGTERM; returns the exit code. */
  async stop(): Promise<number> {
    const code = await this.process.stop();
    this.#process = null;
    return code;
  }

  /** The exit code of one that ends by itself. */
  async ended(): Promise<number> {
    const code = await this.process.ended();
    this.#process = null;
    return code;
  }

  /** SIGKILL. One that is paused ends as well. */
  async kill(): Promise<void> {
    await this.process.kill();
    this.#process = null;
  }

  /** SIGSTOP: it hangs, with all of its sockets open. */
  pause(): void {
    this.process.process.kill("SIGSTOP");
  }

  resume(): void {
    this.process.process.kill("SIGCONT");
  }

  /** The disk is lost: what is left is what `cluster init` had made. */
  wipe(): void {
    if (this.#process !== null) throw new Error(`Node ${this.index} still runs`);
    const kept = [configPath, secretPath, keyPath].map((path) => path(this.dir));
    for (const { name } of Deno.readDirSync(this.dir)) {
      const path = `${this.dir}/${name}`;
      if (!kept.includes(path)) systemDisk.remove(path);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process !== null) await this.kill();
  }
}

export class ClusterProcesses implements AsyncDisposable {
  readonly #strangers: NodeProcess[] = [];

  private constructor(
    readonly nodes: readonly NodeProcess[],
    readonly folder: string,
    /** `[from][to]`; null for a node and itself. */
    readonly directions: readonly (readonly (Way | null)[])[],
    readonly proxies: readonly TcpProxy[],
    readonly namespaces: Namespaces | null,
  ) {}

  /** Makes the folders of a cluster and the lines between its nodes, and starts none of them. */
  static async make(options: ClusterProcessesOptions = {}): Promise<ClusterProcesses> {
    const { nodes: count = 3, init = [], dir } = options;
    const indexes = Array.from({ length: count }, (_, index) => index);
    const namespaces = options.namespaces ? new Namespaces(count) : null;
    const folder = await Deno.makeTempDir({ prefix: "esker-cluster-", ...(dir !== undefined && { dir }) });
    // Until the proxies have theirs: else one of them might get one of these.
    const held = namespaces === null ? holdPorts(2 * count) : [];
    const ports = held.map(({ addr }) => addr.port);
    const place = (node: number, use: "node" | "client") =>
      namespaces === null
        ? { hostname: HOST, port: ports[use === "node" ? node : count + node]! }
        : { hostname: hostOf(node), port: PORTS[use] };
    const list = (use: "node" | "client") =>
      indexes.map((node) => place(node, use)).map(({ hostname, port }) => `${hostname}:${port}`).join(",");
    const proxies: TcpProxy[] = [];
    try {
      const reading = readOptions({
        args: [
          ...["cluster", "init", `--dir=${folder}/nodes`, `--nodes=${list("node")}`],
          ...[`--clients=${list("client")}`, ...init],
        ],
        env: () => undefined,
        file: () => null,
      });
      const { command, problems } = reading;
      if (command.name !== "cluster init" || problems.length > 0) throw new Error(problems.join("; "));
      const { folders } = await initCluster(command, reading.options, identityIn);
      let directions: (Way | null)[][];
      if (namespaces !== null) {
        directions = indexes.map((from) => indexes.map((to) => from === to ? null : namespaces.way(from, to)));
      } else if (options.direct) {
        directions = indexes.map(() => indexes.map(() => null));
      } else {
        const lines = indexes.map((from) => indexes.map((to) => from === to ? null : new Direction()));
        directions = lines;
        for (const [from, dir] of folders.entries()) {
          const config = readClusterConfig(systemDisk, dir)!;
          const entries = config.nodes.map((entry, to) => {
            if (to === from) return entry;
            const proxy = new TcpProxy(place(to, "node"), lines[from]![to]!, lines[to]![from]!);
            proxies.push(proxy);
            return { ...entry, addresses: [placeOf({ hostname: HOST, port: proxy.port })] };
          });
          Deno.writeTextFileSync(configPath(dir), clusterConfigText({ ...config, nodes: entries }));
        }
      }
      const program = options.command ?? serverCommand();
      const processes = folders.map((dir, index) =>
        new NodeProcess(index, dir, place(index, "client"), {
          command: [...namespaces?.commandAt(index) ?? [], ...program],
          // Its network is reached by this process alone.
          flags: [...options.flags ?? FLAGS, ...namespaces === null ? [] : ["--network-protected-mode=false"]],
        })
      );
      return new ClusterProcesses(processes, folder, directions, proxies, namespaces);
    } catch (error) {
      for (const proxy of proxies) await proxy[Symbol.asyncDispose]();
      namespaces?.[Symbol.dispose]();
      await Deno.remove(folder, { recursive: true });
      throw error;
    } finally {
      for (const listener of held) listener.close();
    }
  }

  /** Makes a cluster, and starts all of its nodes. */
  static async start(options: ClusterProcessesOptions = {}): Promise<ClusterProcesses> {
    const cluster = await ClusterProcesses.make(options);
    try {
      await cluster.start();
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
    return cluster;
  }

  /** Starts the nodes that do not run, all at once. */
  async start(): Promise<void> {
    const started = await Promise.allSettled(
      this.nodes.filter(({ isRunning }) => !isRunning).map((node) => node.start()),
    );
    for (const one of started) if (one.status === "rejected") throw one.reason;
  }

  /** A process with a folder of its own that takes itself for one of the nodes. It ends with the cluster. */
  addStranger(dir: string): NodeProcess {
    const [{ options }] = this.nodes as [NodeProcess];
    const stranger = new NodeProcess(-1, dir, { hostname: HOST, port: freePorts(1)[0]! }, options);
    this.#strangers.push(stranger);
    return stranger;
  }

  /** What `from` sends to `to`. */
  direction(from: number, to: number): Way {
    const direction = this.directions[from]?.[to];
    if (direction === null || direction === undefined) throw new Error(`There is no way from node ${from} to ${to}`);
    return direction;
  }

  /** Nothing passes between these nodes and the others, and nobody is told. */
  cutOff(...nodes: number[]): void {
    for (const direction of this.#across(nodes)) direction.hold();
  }

  /** Lets everything pass again. What proxies held comes; what the kernel dropped is sent again in a while. */
  heal(): void {
    for (const row of this.directions) for (const direction of row) direction?.letGo();
  }

  /** Breaks every connection that there is, between proxies. New ones can be made at once. */
  sever(): void {
    if (this.proxies.length === 0) throw new Error("There are no proxies");
    for (const proxy of this.proxies) proxy.sever();
  }

  *#across(nodes: number[]): Generator<Way> {
    for (const [from, row] of this.directions.entries()) {
      for (const [to, direction] of row.entries()) {
        if (direction !== null && nodes.includes(from) !== nodes.includes(to)) yield direction;
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of [...this.nodes, ...this.#strangers]) await node[Symbol.asyncDispose]();
    for (const proxy of this.proxies) await proxy[Symbol.asyncDispose]();
    this.heal(); // The kernel's rules would hold for the next cluster as well.
    this.namespaces?.[Symbol.dispose]();
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** Ports that were free just now, all different. */
export function freePorts(count: number): number[] {
  const held = holdPorts(count);
  for (const listener of held) listener.close();
  return held.map(({ addr }) => addr.port);
}

function holdPorts(count: number): Deno.TcpListener[] {
  return Array.from({ length: count }, () => Deno.listen({ hostname: HOST, port: 0 }));
}
