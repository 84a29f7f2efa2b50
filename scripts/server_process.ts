/**
 * A server under test, as a process of its own: on a free port, with a data folder of its own, ready when it answers,
 * gone when the test is over.
 *
 * The command is `--server "COMMAND"` of the script, else the environment variable `ESKER_SERVER`, else this checkout
 * as `deno task start` runs it. To it are added `serve -d FOLDER --client-address HOST:PORT` and the flags of
 * the test.
 *
 * @module
 */
import { type Address, encodeCommand, exact, Link } from "./resp_client.ts";

const READY_MS_MAX = 60_000;
const STOP_MS_MAX = 30_000;
const OUTPUT_CHARS_MAX = 16_384;

/** The words of the command that starts the server. */
export function serverCommand(given?: string): string[] {
  const command = given ?? Deno.env.get("ESKER_SERVER") ?? "";
  if (command.trim() !== "") return command.trim().split(/\s+/);
  const root = new URL("../", import.meta.url);
  const tasks = JSON.parse(Deno.readTextFileSync(new URL("deno.json", root))).tasks;
  const start: string = typeof tasks.start === "string" ? tasks.start : tasks.start.command;
  const words = start.match(/"[^"]*"|'[^']*'|\S+/g)!.map((word) => word.replace(/^["']|["']$/g, ""));
  const program = words.findIndex((word) => word.endsWith("main.ts"));
  if (words[0] !== "deno" || program < 0) throw new Error(`The task start is not "deno run … main.ts …": ${start}`);
  // What follows the program in the task is left out: every test says itself what is to be served.
  const flags = words.slice(1, program);
  return [
    Deno.execPath(),
    ...flags,
    ...(flags.includes("--config") ? [] : [`--config=${new URL("deno.json", root).pathname}`]),
    new URL("main.ts", root).pathname,
  ];
}

/** A port that was free a moment ago. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

export interface ServerOptions {
  command: string[];
  /** Kept when the server stops. Left out, a temporary folder is made, and removed with the server. */
  folder?: string;
  /** 127.0.0.1 when left out. */
  hostname?: string;
  /** A free one when left out. */
  port?: number;
  flags?: string[];
  /** What follows the command instead, for a server that is not ours. */
  arguments?: (folder: string, address: Address) => string[];
}

function esker(folder: string, { hostname, port }: Address): string[] {
  return ["serve", "-d", folder, "--client-address", `${hostname}:${port}`];
}

export class ServerProcess implements AsyncDisposable {
  /** From the start of the process to its first answer. */
  readyMs = 0;
  #output = "";
  #over: Promise<Deno.CommandStatus>;
  #status: Deno.CommandStatus | null = null;
  readonly #pumps: Promise<void>[];

  private constructor(
    readonly process: Deno.ChildProcess,
    readonly address: Address,
    readonly folder: string,
    readonly ownsFolder: boolean,
    readonly began: number,
  ) {
    this.#over = process.status.then((status) => this.#status = status);
    // A pipe that nobody reads would stop the server when it is full.
    this.#pumps = [this.#collect(process.stdout), this.#collect(process.stderr)];
  }

  /** Starts a server and waits for its first PONG. */
  static async start(options: ServerOptions): Promise<ServerProcess> {
    const server = ServerProcess.spawn(options);
    try {
      await server.answers();
    } catch (cause) {
      await server[Symbol.asyncDispose]();
      throw cause;
    }
    return server;
  }

  /** Starts a server, and does not wait. */
  static spawn(options: ServerOptions): ServerProcess {
    const folder = options.folder ?? Deno.makeTempDirSync({ prefix: "esker-" });
    const address = { hostname: options.hostname ?? "127.0.0.1", port: options.port ?? freePort() };
    const [program, ...words] = options.command;
    const began = performance.now();
    const process = new Deno.Command(program!, {
      args: [...words, ...(options.arguments ?? esker)(folder, address), ...options.flags ?? []],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    return new ServerProcess(process, address, folder, options.folder === undefined, began);
  }

  get pid(): number {
    return this.process.pid;
  }

  /** What the server wrote to stdout and stderr, its last part. */
  get output(): string {
    return this.#output;
  }

  /** Memory of the process, in bytes, as the kernel counts it: now, or the most there ever was. */
  residentBytes(when: "now" | "highest" = "now"): number {
    const name = when === "now" ? "VmRSS" : "VmHWM";
    const found = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(readProc(`/proc/${this.pid}/status`));
    if (found === null) throw new Error(`No ${name} of process ${this.pid}`);
    return 1024 * Number(found[1]);
  }

  /** SIGTERM, and the exit code. */
  async stop(): Promise<number> {
    if (this.#status === null) this.process.kill("SIGTERM");
    return await this.ended();
  }

  /** The exit code of a server that ends by itself. */
  async ended(): Promise<number> {
    return await this.#ended(STOP_MS_MAX);
  }

  /** SIGKILL: the server has no time for anything. */
  async kill(): Promise<void> {
    if (this.#status === null) this.process.kill("SIGKILL");
    await this.ended();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    if (this.ownsFolder) await Deno.remove(this.folder, { recursive: true });
  }

  /** Waits for the first PONG. @throws the server has ended, or does not answer in time */
  async answers(): Promise<void> {
    const deadline = performance.now() + READY_MS_MAX;
    for (;;) {
      if (this.#status !== null) {
        await Promise.all(this.#pumps);
        throw new Error(`The server ended with code ${this.#status.code} before it answered:\n${this.#output}`);
      }
      try {
        using link = await Link.open(this.address, exact);
        await link.write(encodeCommand(["PING"]));
        const reply = await link.read(2);
        if (reply?.type === "simple" && reply.text === "PONG") {
          this.readyMs = performance.now() - this.began;
          return;
        }
        throw new Error(`The server answered PING with ${JSON.stringify(reply)}`);
      } catch (cause) {
        if (!(cause instanceof Deno.errors.ConnectionRefused)) throw cause;
      }
      if (performance.now() > deadline) {
        throw new Error(`The server did not answer within ${READY_MS_MAX} ms:\n${this.#output}`);
      }
      // Nobody listens yet: there is nothing to wait on but to ask again, or for the process to end.
      let timer: ReturnType<typeof setTimeout>;
      await Promise.race([new Promise((resolve) => timer = setTimeout(resolve, 5)), this.#over]);
      clearTimeout(timer!);
    }
  }

  async #ended(msMax: number): Promise<number> {
    let timer: ReturnType<typeof setTimeout>;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`The server did not end within ${msMax} ms:\n${this.#output}`)), msMax);
    });
    try {
      const status = await Promise.race([this.#over, late]);
      await Promise.all(this.#pumps);
      return status.code;
    } finally {
      clearTimeout(timer!);
    }
  }

  async #collect(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const bytes of stream) {
      this.#output = (this.#output + decoder.decode(bytes, { stream: true })).slice(-OUTPUT_CHARS_MAX);
    }
  }
}

/** A file of /proc. Deno itself reads there only with all permissions at once, so another program does it. */
export function readProc(path: string): string {
  const { code, stdout } = new Deno.Command("cat", { args: [path], stdin: "null", stderr: "null" }).outputSync();
  if (code !== 0) throw new Error(`Cannot read ${path}`);
  return new TextDecoder().decode(stdout);
}
