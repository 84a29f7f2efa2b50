/**
 * The program: options in, a store that serves, and a clean end.
 *
 * This thread reads flags, environment and file, and hears the signals. All work is done by `server.ts` in a Worker
 * that holds only the permissions which these options need; when it is ready, this thread gives up its own. From then
 * on it watches: it writes what the Worker logs, and ends the program when the Worker is done, fails or falls silent.
 *
 * @module
 */
import { resolve } from "node:path";
import { Damaged, FolderInUse, FolderMismatch, InvalidArgument, makeDataFolder, systemDisk } from "./core/mod.ts";
import { type Exit, EXIT_CODES } from "./program/exit_codes.ts";
import { type Level, LogBound, type LogOutput, openLog } from "./program/log.ts";
import type { ClusterConfig } from "./net/cluster_config.ts";
import { type ClusterInit, formatAddress, helpText, type Options, type Reading, readOptions } from "./options.ts";
import { flagsOf, programPermissions, workerPermissions } from "./program/permissions.ts";
import { readFolderOptions } from "./program/folder_options.ts";
import type { Progress } from "./program/progress.ts";
import type { FromWorker, ToWorker, WorkerCommand } from "./server.ts";

export const VERSION = "0.1.0";

/** The Worker says every second that it lives. So many seconds of silence are no pause of the collector any more. */
const SILENT_SECONDS_MAX = 10;
/** How Deno is told to run this program, before permissions. */
const RUN = ["run", "--no-prompt", "--unstable-worker-options"];
/** How long the last lines of the log may take, should nobody read them. */
const FLUSH_MS_MAX = 1000;

const SOURCE = new URL(import.meta.url);

/** How this program starts itself: the permission to run names this path, wherever the file is. */
const OWN_PROGRAM = Deno.build.os === "linux" ? "/proc/self/exe" : Deno.execPath();

async function main(): Promise<void> {
  const reading = readOptions({ args: Deno.args, env: readVariable, file: readSettingsFile });
  const { command, options, problems } = reading;
  if (problems.length > 0) {
    for (const problem of problems) console.error(`esker: ${problem}`);
    console.error("esker: --help tells all flags and settings");
    Deno.exit(EXIT_CODES.usage.code);
  }
  // Only the demo starts programs. The store's own thread never could.
  if (command.name !== "cluster demo") Deno.permissions.revokeSync({ name: "run" });
  switch (command.name) {
    case "help":
      return await print(helpText(VERSION) + "\n");
    case "version":
      return await print(`esker ${VERSION}\n`);
    case "permissions":
      try {
        return await print(describePermissions(reading, command.dir));
      } catch (error) {
        return endFor(error);
      }
    case "cluster init":
      return await initCluster(command, options);
    case "cluster demo":
      return await runDemo(command.dir, reading);
    default:
      await new Program(command, options).start(reading.warnings);
  }
}

/** A command that a Worker carries out, from its start to the end of the process. */
class Program {
  readonly #command: WorkerCommand;
  #options: Options;
  #cluster: ClusterConfig | null = null;
  readonly #bound = new LogBound();
  readonly #output: LogOutput;
  #dir = "";
  /** The folder that a repair makes. */
  #to: string | undefined;
  #worker: Worker | null = null;
  #draining = false;
  #ending = false;
  /** Ticks since the Worker was last heard. */
  #silence = 0;
  #progress: Promise<Progress> | null = null;

  constructor(command: WorkerCommand, options: Options) {
    this.#command = command;
    this.#options = options;
    const style = !Deno.stderr.isTerminal() ? "json" : Deno.noColor ? "plain" : "color";
    this.#output = openLog(options.values.log, style, this.#bound, (line) => writeAll(Deno.stderr, line));
  }

  async start(warnings: readonly string[]): Promise<void> {
    for (const warning of warnings) this.#log("warn", warning);
    if (!await this.#findFolder() || !this.#readFolder()) return;
    const permissions = workerPermissions(this.#command.name, this.#options, this.#dir, SOURCE, {
      ...{ to: this.#to, cluster: this.#cluster },
    });
    const worker = new Worker(new URL("./server.ts", import.meta.url), {
      type: "module",
      name: "server",
      deno: { permissions },
    });
    this.#worker = worker;
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#hear(data);
    worker.onerror = (event) => {
      event.preventDefault(); // Else Deno would end the process here and now, with 1.
      this.#end("internal", `The server failed: ${event.message}`);
    };
    this.#tell({
      type: "start",
      command: { ...this.#command, dir: this.#dir, ...(this.#to !== undefined && { to: this.#to }) },
      options: this.#options,
      cluster: this.#cluster,
      version: VERSION,
      logBound: this.#bound.shared,
    });
    this.#listenToSignals();
  }

  /** Makes the folder if it is for `serve`, and finds where it really is: permissions go by that. */
  async #findFolder(): Promise<boolean> {
    const { name, dir } = this.#command;
    try {
      // Here, because the Worker may not touch the folder above.
      if (name === "serve") await makeDataFolder(systemDisk, dir);
      this.#dir = Deno.realPathSync(dir);
      if (!Deno.statSync(this.#dir).isDirectory) throw new Deno.errors.NotADirectory("It is not a folder");
      return this.#command.name !== "repair" || await this.#makeNewFolder(this.#command.to);
    } catch (error) {
      const why = (error as Error).message;
      if (error instanceof Deno.errors.NotCapable) this.#end("denied", `Deno refuses: ${why}`);
      else if (name === "serve") this.#end("cannotCreate", `The data folder ${dir} cannot be made: ${why}`);
      else this.#end("notFound", `There is no data folder ${dir}: ${why}`);
      return false;
    }
  }

  /** What the folder says of a cluster, and so of settings: permissions go by that as well. */
  #readFolder(): boolean {
    if (this.#command.name !== "serve") return true;
    try {
      const { cluster, options, problems, warnings } = readFolderOptions(this.#dir, this.#options);
      for (const warning of warnings) this.#log("warn", warning);
      if (problems.length > 0) this.#end("mismatch", problems.join("; "));
      this.#cluster = cluster;
      this.#options = options;
      return problems.length === 0;
    } catch (error) {
      this.#end(error instanceof InvalidArgument ? "usage" : "cannotCreate", (error as Error).message);
      return false;
    }
  }

  /** Makes the folder that a repair writes, unless it is there. What may not be in it is for the Worker to say. */
  async #makeNewFolder(to: string): Promise<boolean> {
    try {
      if (`${resolve(to)}/`.startsWith(`${this.#dir}/`)) {
        this.#end("usage", `The new folder ${to} must not lie in the damaged one, ${this.#dir}: that is not touched`);
        return false;
      }
      await makeDataFolder(systemDisk, to);
      this.#to = Deno.realPathSync(to);
      return true;
    } catch (error) {
      const exit = error instanceof Deno.errors.NotCapable ? "denied" : "cannotCreate";
      this.#end(exit, `The new folder ${to} cannot be made: ${(error as Error).message}`);
      return false;
    }
  }

  #hear(message: FromWorker): void {
    this.#silence = 0;
    switch (message.type) {
      case "alive":
        return;
      case "log":
        return this.#output.log(message.level, message.message, message.facts);
      case "progress":
        return this.#showProgress(message.doneBytes, message.totalBytes);
      case "ready":
        return void this.#ready(message);
      case "shutdown":
        this.#log("info", "A client asks for the shutdown");
        return this.#drain();
      case "fatal":
        return this.#end("disk", message.message);
      case "ended":
        if (message.exit === "done" && this.#command.name === "serve") this.#log("info", "Stopped");
        return this.#end(message.exit, message.message);
    }
  }

  async #ready({ address, created, partitions, buckets, events }: FromWorker & { type: "ready" }): Promise<void> {
    // Not before: until now the Worker's own imports were read with the permissions of this thread.
    for (const name of ["read", "write", "net", "env", "sys", "run", "ffi", "import"] as const) {
      await Deno.permissions.revoke({ name } as Deno.PermissionDescriptor);
    }
    setInterval(() => {
      // Counted in ticks and not by the clock: a machine that was asleep has not been silent.
      if (++this.#silence > SILENT_SECONDS_MAX) this.#end("internal", "The server stopped answering");
    }, 1000);
    if (created) await print(greeting(this.#dir, address, partitions, buckets)).catch(() => {}); // Nobody listens.
    const node = this.#cluster === null ? {} : { node: this.#cluster.node, nodes: this.#cluster.nodes.length };
    this.#log("info", "Ready", { address, dir: this.#dir, ...node, partitions, buckets, events });
  }

  #listenToSignals(): void {
    const codes = Deno.build.os === "windows"
      ? { SIGINT: 130, SIGBREAK: 131 }
      : { SIGINT: 130, SIGQUIT: 131, SIGTERM: 143 };
    for (const [signal, code] of Object.entries(codes)) {
      Deno.addSignalListener(signal as Deno.Signal, () => {
        // A second one waits for nothing, whatever the Worker does.
        if (this.#draining || this.#command.name !== "serve") Deno.exit(code);
        this.#log("info", `${signal}: stopping`);
        this.#drain(signal !== "SIGQUIT");
      });
    }
  }

  /** Without handing over what other nodes would lead, where these stop as well. */
  #drain(handOver = true): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#tell({ type: "drain", handOver });
    const msMax = this.#options.values["shutdown.timeout_ms"];
    setTimeout(() => this.#end("internal", `The server did not stop within ${msMax} ms`), msMax);
  }

  /** Says why, and ends the process. */
  #end(exit: Exit, message?: string): void {
    if (this.#ending) return;
    this.#ending = true;
    if (message !== undefined) this.#log("error", message);
    // Whatever happens meanwhile: nobody may be reading.
    setTimeout(() => Deno.exit(EXIT_CODES[exit].code), FLUSH_MS_MAX);
    Promise.resolve(this.#progress).then((bar) => bar?.end()).then(() => this.#output.flush()).then(() =>
      Deno.exit(EXIT_CODES[exit].code)
    );
  }

  #showProgress(doneBytes: number, totalBytes: number): void {
    if (!Deno.stderr.isTerminal()) return;
    this.#progress ??= import("./program/progress.ts").then(({ showProgress }) => showProgress());
    this.#progress.then((bar) => bar.update(doneBytes, totalBytes));
  }

  #log(level: Level, message: string, facts?: Record<string, unknown>): void {
    if (this.#bound.enter()) this.#output.log(level, message, facts);
  }

  #tell(message: ToWorker): void {
    this.#worker!.postMessage(message);
  }
}

/** What the first start made, and what to do now. */
function greeting(dir: string, address: string, partitions: number, buckets: number): string {
  const [, host, port] = /^\[?(.*?)\]?:(\d+)$/.exec(address)!;
  const redisCli = `redis-cli${host === "127.0.0.1" ? "" : ` -h ${host}`} -p ${port}`;
  return `Esker ${VERSION} made a new store in ${dir}: ${partitions} partitions in ${buckets} buckets.\n` +
    `It listens on ${address}. Try it:\n\n` +
    `  ${redisCli} EAPPEND user-123 UserCreated '{"name": "Alice"}'\n` +
    `  ${redisCli} ESCAN user-123 - +\n\n`;
}

async function initCluster(command: ClusterInit, options: Options): Promise<void> {
  // libp2p is about to be loaded, and makes keys in this thread. How full the disk is must be known for copies.
  for (const name of ["net", "env", "run", "ffi"] as const) await Deno.permissions.revoke({ name });
  const { describeCluster, initCluster } = await import("./program/cluster_init.ts");
  const { identityIn } = await import("./net/libp2p_transport.ts");
  try {
    const say = (line: string) => console.error(line);
    await print(describeCluster(await initCluster(command, options, identityIn, say), VERSION));
  } catch (error) {
    endFor(error);
  }
}

/** Starts three nodes, and stops them when it is told to. */
async function runDemo(asked: string | undefined, reading: Reading): Promise<void> {
  for (const name of ["env", "ffi", "sys"] as const) Deno.permissions.revokeSync({ name });
  if (Deno.permissions.querySync({ name: "run", command: OWN_PROGRAM }).state !== "granted") {
    console.error(`esker: cluster demo starts its nodes as processes: that needs --allow-run=${OWN_PROGRAM}`);
    Deno.exit(EXIT_CODES.denied.code);
  }
  const { Demo, demoNodes } = await import("./program/cluster_demo.ts");
  const { identityIn } = await import("./net/libp2p_transport.ts");
  const { connect } = await import("./resp/client/mod.ts");
  const above = asked ?? await Deno.makeTempDir({ prefix: "esker-demo-" });
  const own = Deno.build.standalone ? null : { run: RUN, program: programPath() };
  const removeOurs = () => asked === undefined && systemDisk.remove(above);
  const nodes = await demoNodes(above, reading, { path: OWN_PROGRAM, source: SOURCE, own }, identityIn).catch(
    (error) => {
      removeOurs();
      return endFor(error);
    },
  );
  const [first, second] = nodes.map(({ client }) => client.port);
  const demo = new Demo({
    nodes,
    async probe(client) {
      await using store = await connect(`esker://${formatAddress(client)}`, { reconnectMs: 0 });
      await store.append({ events: [{ streamId: "demo", name: "Served", payload: `{"port": ${client.port}}` }] });
    },
    print: (line) => console.log(line),
    advice: [
      "Try it:",
      "",
      `  redis-cli -p ${first} EAPPEND user-123 UserCreated '{"name": "Alice"}'`,
      `  redis-cli -p ${second} ESCAN user-123 - +`,
      "  kill -9 one of the processes: the others go on, and it starts again in 10 s",
      "  kill -STOP one of them, and kill -CONT it later: so does one that hangs",
      "",
      asked === undefined
        ? "Ctrl-C stops all of them, and removes their folders."
        : `Ctrl-C stops all of them; esker cluster demo --dir ${asked} goes on with what they hold.`,
    ],
  });
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT", "SIGBREAK"] : ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) Deno.addSignalListener(signal, () => void demo.stop());
  const end = await demo.run();
  removeOurs();
  Deno.exit(end.stopped ? EXIT_CODES.done.code : end.code);
}

/** Says why a command of this thread cannot be carried out, and ends the process. */
function endFor(error: unknown): never {
  const { message } = error as Error;
  console.error(`esker: ${message}`);
  const exit = error instanceof FolderInUse
    ? "inUse"
    : error instanceof FolderMismatch
    ? "mismatch"
    : error instanceof Damaged
    ? "damaged"
    : error instanceof InvalidArgument
    ? "usage"
    : error instanceof Deno.errors.NotCapable
    ? "denied"
    : "cannotCreate";
  Deno.exit(EXIT_CODES[exit].code);
}

function describePermissions(reading: Reading, dir: string): string {
  let folder = dir;
  let missing = false;
  try {
    folder = Deno.realPathSync(dir);
  } catch (error) {
    missing = error instanceof Deno.errors.NotFound;
  }
  const { cluster, options } = readFolderOptions(folder, reading.options);
  const worker = workerPermissions("serve", options, folder, SOURCE, { cluster });
  const least = programPermissions(worker, reading.configFile, SOURCE).map((flag) =>
    /[*\s]/.test(flag) ? `'${flag}'` : flag
  );
  const lines = [
    `With the data folder ${folder} and clients at ${formatAddress(options.values["network.client_address"])},`,
    "the thread that does the work holds these permissions and no others:",
    "",
    ...flagsOf(worker).map((flag) => `  ${flag}`),
    "",
  ];
  if (Deno.build.standalone) {
    lines.push("This program was compiled with more; it gives up the rest when it is ready.");
  } else {
    lines.push("The least that Deno must be given:", "");
    lines.push([`  deno ${RUN.join(" ")}`, ...least, programPath()].join(" \\\n    "));
    if (missing) lines.push("", "The folder must be there: to make it, more is needed, the folder above it.");
  }
  return lines.join("\n") + "\n";
}

function programPath(): string {
  return SOURCE.protocol === "file:" ? decodeURIComponent(SOURCE.pathname) : SOURCE.href;
}

/** What this program may not read, nobody has set for it. */
function readVariable(name: string): string | undefined {
  try {
    return Deno.env.get(name);
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return undefined;
    throw error;
  }
}

/** Null if there is no such file. The one that nobody named may also be forbidden: then it is not meant for us. */
function readSettingsFile(path: string, named: boolean): string | null {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    if (error instanceof Deno.errors.NotCapable && !named) return null;
    throw error;
  }
}

async function print(text: string): Promise<void> {
  await writeAll(Deno.stdout, new TextEncoder().encode(text));
}

async function writeAll(to: { write(bytes: Uint8Array): Promise<number> }, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await to.write(bytes.subarray(done));
}

if (import.meta.main) await main();
