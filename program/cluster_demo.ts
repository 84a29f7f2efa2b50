/**
 * A cluster to try: its nodes as processes of this same program, on this machine, until it is told to stop.
 *
 * What they log is shown with their number before it. One that somebody kills is started again after a while, long
 * enough to see how the others go on without it. Each is a group of its own, so that Ctrl-C reaches this process alone,
 * which then tells them to stop; it ends no process that it did not start.
 *
 * @module
 */
import { InvalidArgument, systemDisk } from "../core/mod.ts";
import { type Address, formatAddress, type Reading } from "../options.ts";
import { initCluster } from "./cluster_init.ts";
import { readFolderOptions } from "./folder_options.ts";
import { programPermissions, workerPermissions } from "./permissions.ts";

export interface DemoNode {
  readonly dir: string;
  readonly client: Address;
  /** The program and the words that start it. */
  readonly command: readonly string[];
}

export interface DemoOptions {
  readonly nodes: readonly DemoNode[];
  /** Asks a node to store something: once, and throws if it cannot yet. */
  readonly probe: (client: Address) => Promise<void>;
  readonly print: (line: string) => void;
  /** What to say when all serve, below the list of nodes. */
  readonly advice: readonly string[];
  readonly restartMs?: number;
  readonly stopMsMax?: number;
}

/** The fewest of which one may be missing. */
const NODES = 3;
/** Three nodes on one disk need not take room as three machines would. */
const JOURNAL_BYTES = 8 * 1024 * 1024;
/** How long a killed node stays away. */
const RESTART_MS = 10_000;
const SERVE_MS_MAX = 60_000;
const ASK_AGAIN_MS = 100;
/** More than a node itself waits for what is in flight. */
const STOP_MS_MAX = 15_000;

/** How it ended: `stopped` as it was told to, or by a node that ended by itself. */
export type DemoEnd = { stopped: true } | { stopped: false; node: number; code: number };

export class Demo {
  readonly #options: DemoOptions;
  readonly #processes: (Deno.ChildProcess | null)[];
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  /** Of every process that was started: it has ended, and all that it wrote is shown. */
  readonly #watches = new Set<Promise<void>>();
  readonly #over = Promise.withResolvers<DemoEnd>();
  #stopping: Promise<void> | null = null;

  constructor(options: DemoOptions) {
    this.#options = options;
    this.#processes = options.nodes.map(() => null);
  }

  /** Starts all, waits until each of them stores what it is given, and then for the end. */
  async run(): Promise<DemoEnd> {
    for (const index of this.#options.nodes.keys()) this.#start(index);
    void this.#serves();
    const end = await this.#over.promise;
    await this.stop();
    return end;
  }

  /** Tells all nodes to stop, and waits for their end; the second time ends them at once. */
  async stop(): Promise<void> {
    if (this.#stopping !== null) this.#signal("SIGKILL");
    this.#stopping ??= this.#stop();
    await this.#stopping;
  }

  async #stop(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    // Nobody stays who could lead in their place.
    this.#signal(Deno.build.os === "windows" ? "SIGTERM" : "SIGQUIT");
    const late = setTimeout(() => this.#signal("SIGKILL"), this.#options.stopMsMax ?? STOP_MS_MAX);
    await Promise.all(this.#watches);
    clearTimeout(late);
    this.#over.resolve({ stopped: true });
  }

  #signal(signal: Deno.Signal): void {
    for (const process of this.#processes) {
      try {
        process?.kill(signal);
      } catch {
        // It ended just now.
      }
    }
  }

  #start(index: number): void {
    const [program, ...args] = this.#options.nodes[index]!.command;
    const process = new Deno.Command(program!, {
      args,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      detached: Deno.build.os !== "windows",
    }).spawn();
    this.#processes[index] = process;
    const watch = this.#watch(index, process).finally(() => this.#watches.delete(watch));
    this.#watches.add(watch);
  }

  async #watch(index: number, process: Deno.ChildProcess): Promise<void> {
    const [{ code, signal }] = await Promise.all([
      process.status,
      this.#show(index, process.stderr),
      // What it greets with is for one who started it by hand.
      process.stdout.pipeTo(new WritableStream()),
    ]);
    this.#processes[index] = null;
    if (this.#stopping !== null) return;
    if (signal === null) {
      this.#say(index, `ended with code ${code}`);
      this.#over.resolve({ stopped: false, node: index, code });
      return;
    }
    const restartMs = this.#options.restartMs ?? RESTART_MS;
    this.#say(index, `was ended by ${signal}, and starts again in ${restartMs / 1000} s`);
    this.#after(restartMs, () => {
      this.#start(index);
      this.#say(index, `starts again, as process ${this.#processes[index]!.pid}`);
    });
  }

  /** Unless it is stopped meanwhile. */
  #after(ms: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, ms);
    this.#timers.add(timer);
  }

  async #show(index: number, stderr: ReadableStream<Uint8Array>): Promise<void> {
    let rest = "";
    for await (const text of stderr.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const line of lines) this.#say(index, readable(line));
    }
    if (rest !== "") this.#say(index, readable(rest));
  }

  #say(index: number, line: string): void {
    this.#options.print(`node ${index} | ${line}`);
  }

  async #serves(): Promise<void> {
    const { nodes, probe, print, advice } = this.#options;
    const deadline = performance.now() + SERVE_MS_MAX;
    for (const { client } of nodes) {
      for (;;) {
        try {
          await probe(client);
          if (this.#stopping !== null) return;
          break;
        } catch (error) {
          if (this.#stopping !== null) return;
          if (performance.now() > deadline) {
            print(`The cluster does not serve yet, after ${SERVE_MS_MAX / 1000} s: ${(error as Error).message}`);
            return;
          }
        }
        // A node that does not listen yet can only be asked again.
        await new Promise<void>((resolve) => this.#after(ASK_AGAIN_MS, resolve));
      }
    }
    const rows = nodes.map(({ client, dir }, index) =>
      `  node ${index}  clients at ${formatAddress(client)}  process ${this.#processes[index]?.pid}  ${dir}`
    );
    for (const line of ["", "The cluster serves:", "", ...rows, "", ...advice, ""]) print(line);
  }
}

/** How this program is started once more. */
export interface OwnProgram {
  /** The executable. */
  readonly path: string;
  /** Where this program was loaded from. */
  readonly source: URL;
  /** When the executable is Deno: how it is told to run, before permissions, and what. */
  readonly own: { readonly run: readonly string[]; readonly program: string } | null;
}

/** The nodes of a demo, made if the folder has none. Each is started with no permission that it does not need. */
export async function demoNodes(
  above: string,
  { options, configFile }: Pick<Reading, "options" | "configFile">,
  { path, source, own }: OwnProgram,
  identityIn: (dir: string) => Promise<{ peerId: string }>,
): Promise<DemoNode[]> {
  const folderOf = (index: number) => `${above}/node-${index}`;
  if (!systemDisk.exists(folderOf(0))) {
    const places = freePorts(2 * NODES).map((port) => ({ hostname: "127.0.0.1", port }));
    const [nodes, clients] = [places.slice(0, NODES), places.slice(NODES)];
    await initCluster({ name: "cluster init", dir: above, nodes, clients }, options, identityIn);
  }
  const nodes: DemoNode[] = [];
  for (let index = 0; systemDisk.exists(folderOf(index)); index++) {
    const dir = Deno.realPathSync(folderOf(index));
    const { cluster, problems, ...folder } = readFolderOptions(dir, options);
    if (cluster === null) throw new InvalidArgument(`${dir} is no folder of a node: it has no cluster.json`);
    if (problems.length > 0) throw new InvalidArgument(problems.join("; "));
    const { values, given } = folder.options;
    const client = values["network.client_address"];
    const worker = workerPermissions("serve", folder.options, dir, source, { cluster });
    const start = own === null ? [] : [...own.run, ...programPermissions(worker, configFile, source), own.program];
    const journalBytes = given.has("journal.size_bytes") ? values["journal.size_bytes"] : JOURNAL_BYTES;
    const flags = ["--dir", dir, "--client-address", formatAddress(client), "--log", values.log];
    if (configFile !== undefined) flags.push("--config", configFile);
    flags.push("--journal-size-bytes", String(journalBytes));
    nodes.push({ dir, client, command: [path, ...start, "serve", ...flags] });
  }
  return nodes;
}

/** Ports of this machine that were free just now. */
export function freePorts(count: number): number[] {
  const listeners = Array.from({ length: count }, () => Deno.listen({ hostname: "127.0.0.1", port: 0 }));
  const ports = listeners.map(({ addr }) => addr.port);
  for (const listener of listeners) listener.close();
  return ports;
}

/** A record of the log, which comes as JSON, as people read it. */
function readable(line: string): string {
  let record: Record<string, unknown>;
  try {
    record = JSON.parse(line);
  } catch {
    return line;
  }
  const { "@timestamp": timestamp, level, message, logger: _, ...facts } = record;
  const texts = Object.entries(facts).map(([name, value]) => `  ${name}=${value}`);
  return `${String(timestamp).slice(11, 23)} ${String(level).toLowerCase().padEnd(5)} ${message}${texts.join("")}`;
}
