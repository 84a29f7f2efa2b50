/**
 * Nodes with real sockets, in this process or one of their own, for the tests and benches of the transport. What a node hears it keeps, and a
 * test waits for a state of it and not for a time.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import type { Environment, Log } from "../core/environment.ts";
import { type Identity, identityIn, libp2pTransport, type Libp2pTransportOptions } from "./libp2p_transport.ts";
import { netPermission, parseNodeAddress } from "./node_address.ts";
import type { Lane, Transport, TransportHandlers } from "./transport.ts";
import { CLUSTER, type ProcessOptions } from "./transport_process.ts";

export interface Received {
  from: number;
  lane: Lane;
  bytes: Uint8Array;
}

/** A state that does not come within this is a failure. */
const WAIT_MS_MAX = 20_000;

/** A node and what it has heard. */
export class ClusterNode implements TransportHandlers {
  readonly transport: Transport;
  readonly received: Received[] = [];
  readonly broadcasts: { from: number; bytes: Uint8Array }[] = [];
  readonly logged: string[] = [];
  readonly reasons: string[] = [];
  ups = 0;
  downs = 0;
  writables = 0;
  /** Called instead of keeping a message. */
  onMessage: TransportHandlers["message"] | null = null;
  onWritable: TransportHandlers["writable"] | null = null;
  onLinkDown: ((peer: number) => void) | null = null;
  #waiting: { state: () => boolean; resolve: () => void }[] = [];

  constructor(options: Libp2pTransportOptions) {
    const log: Log = (level, message, facts) => {
      this.logged.push(`${level}: ${message} ${JSON.stringify(facts ?? {})}`);
      this.#look();
    };
    this.transport = libp2pTransport({ log, ...options });
  }

  message(from: number, lane: Lane, bytes: Uint8Array): void {
    if (this.onMessage !== null) this.onMessage(from, lane, bytes);
    else this.received.push({ from, lane, bytes });
    this.#look();
  }

  linkUp(): void {
    this.ups++;
    this.#look();
  }

  linkDown(peer: number, reason: Error): void {
    this.onLinkDown?.(peer);
    this.downs++;
    this.reasons.push(reason.message);
    this.#look();
  }

  writable(peer: number, lane: Lane): void {
    this.writables++;
    this.onWritable?.(peer, lane);
    this.#look();
  }

  broadcast(from: number, bytes: Uint8Array): void {
    this.broadcasts.push({ from, bytes });
    this.#look();
  }

  /** Resolves when a state holds. It is looked at whenever this node hears something. */
  async until(state: () => boolean, what = state.toString()): Promise<void> {
    if (state()) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      reject(new Error(`Not within ${WAIT_MS_MAX} ms: ${what}\n${this.logged.slice(0, 5).join("\n")}`));
    }, WAIT_MS_MAX);
    this.#waiting.push({ state, resolve });
    try {
      await promise;
    } finally {
      clearTimeout(timer);
    }
  }

  #look(): void {
    this.#waiting = this.#waiting.filter(({ state, resolve }) => {
      if (!state()) return true;
      resolve();
      return false;
    });
  }
}

export interface ClusterOptions {
  messageBytesMax?: number;
  queueBytesMax?: Partial<Record<Lane, number>>;
  environment?: Environment;
}

/** Nodes on loopback, each with a folder and a port of its own. */
export class Cluster {
  readonly nodes: ClusterNode[] = [];
  readonly #started: ClusterNode[] = [];

  private constructor(
    readonly dir: string,
    readonly identities: readonly Identity[],
    readonly addresses: readonly (readonly string[])[],
    readonly options: ClusterOptions,
  ) {}

  /** So many nodes, all started. */
  static async of(
    count: number,
    options: ClusterOptions = {},
  ): Promise<Cluster & { nodes: [ClusterNode, ClusterNode] }> {
    const cluster = await Cluster.prepared(count, options);
    for (let node = 0; node < count; node++) cluster.nodes.push(await cluster.start(node));
    return cluster as Cluster & { nodes: [ClusterNode, ClusterNode] };
  }

  /** Folders, keys and ports for so many nodes, of which none is started. */
  static async prepared(count: number, options: ClusterOptions = {}): Promise<Cluster> {
    const dir = Deno.makeTempDirSync({ prefix: "esker-transport-" });
    const identities: Identity[] = [];
    for (let node = 0; node < count; node++) {
      Deno.mkdirSync(`${dir}/${node}`);
      identities.push(await identityIn(`${dir}/${node}`));
    }
    const addresses = freePorts(count).map((
      port,
      node,
    ) => [`/ip4/127.0.0.1/tcp/${port}/p2p/${identities[node]!.peerId}`]);
    return new Cluster(dir, identities, addresses, options);
  }

  optionsOf(node: number): Libp2pTransportOptions {
    return {
      node,
      identity: this.identities[node]!,
      nodes: this.addresses,
      ...CLUSTER,
      ...this.options,
    };
  }

  async start(node: number, options: Partial<Libp2pTransportOptions> = {}): Promise<ClusterNode> {
    const started = new ClusterNode({ ...this.optionsOf(node), ...options });
    this.#started.push(started);
    await started.transport.start(started);
    return started;
  }

  /** Resolves when each node has a link to each other one. */
  async linked(): Promise<void> {
    for (const node of this.nodes) {
      await node.until(() => node.transport.peers.every((peer) => node.transport.isLinked(peer)), "linked");
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { transport } of this.#started) await transport.close();
    Deno.removeSync(this.dir, { recursive: true });
  }
}

/** A node in a process with exactly the permissions that it needs. */
export class NodeProcess {
  readonly #process: Deno.ChildProcess;
  readonly #lines: Record<string, unknown>[] = [];
  #look = () => {};
  readonly ended: Promise<unknown>;

  constructor(cluster: Cluster, node: number, options: Partial<ProcessOptions> = {}, listen: string[] = []) {
    const dir = Deno.realPathSync(`${cluster.dir}/${node}`);
    const nodes = options.nodes ?? cluster.addresses.map((texts) => [...texts]);
    const net = [...listen, ...nodes.flat().map((text) => netPermission(parseNodeAddress(text)))];
    this.#process = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--no-prompt", "--quiet", "--no-check", `--allow-net=${net}`, `--allow-read=${dir}`],
        ...[`--allow-write=${dir}`, fileURLToPath(new URL("transport_process.ts", import.meta.url))],
        JSON.stringify({ dir, node, ...options, nodes } satisfies ProcessOptions),
      ],
      stdout: "piped",
    }).spawn();
    this.ended = Promise.all([this.#read(), this.#process.status]);
  }

  /** The first line with this fact. */
  async line(fact: string): Promise<Record<string, unknown>> {
    for (;;) {
      const line = this.#lines.find((line) => fact in line);
      if (line !== undefined) return line;
      await new Promise<void>((resolve) => this.#look = resolve);
    }
  }

  kill(): void {
    this.signal("SIGKILL");
  }

  signal(signal: Deno.Signal): void {
    this.#process.kill(signal);
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const text of this.#process.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      this.#lines.push(...lines.map((line) => JSON.parse(line)));
      this.#look();
    }
  }
}

/** Ports that were free just now. */
export function freePorts(count: number): number[] {
  const listeners = Array.from({ length: count }, () => Deno.listen({ hostname: "127.0.0.1", port: 0 }));
  const ports = listeners.map(({ addr }) => (addr as Deno.NetAddr).port);
  for (const listener of listeners) listener.close();
  return ports;
}
