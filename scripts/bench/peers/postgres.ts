/**
 * PostgreSQL as an event store: a table of events in which stream and version are unique, one INSERT an append, synced
 * before it answers. Driven by pgbench, its own client, over TCP with prepared statements.
 *
 * The server refuses to run as root; then it and its folder belong to the user that its package has made.
 *
 * @module
 */
import { freePort } from "../../server_process.ts";
import { Latencies, type Measured } from "../percentiles.ts";
import { firstLine } from "./peer.ts";

const BINARIES = "/usr/lib/postgresql/15/bin";
const USER = "postgres";
/** pgbench's clients connect within its time. */
const CONNECTED_A_SECOND = 100;
const HOST = "127.0.0.1";

const TABLE = `CREATE TABLE events (
  sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  stream text NOT NULL,
  version bigint NOT NULL,
  name text NOT NULL,
  payload text NOT NULL,
  UNIQUE (stream, version)
)`;

export interface PostgresPeer {
  kind: "postgres";
  name: string;
  about: string;
  start(folder: string): Promise<PostgresServer>;
}

export async function openPostgres(): Promise<PostgresPeer | string> {
  const version = await firstLine(`${BINARIES}/postgres`, "--version");
  if (version === null) return `PostgreSQL 15 is not installed: there is no ${BINARIES}/postgres`;
  return {
    kind: "postgres",
    name: "PostgreSQL",
    about: `${version}: fsync=on, synchronous_commit=on, synced before it answers; driven by pgbench, prepared`,
    start: (folder) => PostgresServer.start(folder),
  };
}

export class PostgresServer implements AsyncDisposable {
  #stream = 0;

  private constructor(readonly folder: string, readonly port: number, readonly asUser: string[]) {}

  static async start(folder: string): Promise<PostgresServer> {
    const root = Deno.uid() === 0;
    const asUser = root ? ["setpriv", `--reuid=${USER}`, `--regid=${USER}`, "--clear-groups", "--"] : [];
    await Deno.mkdir(folder);
    if (root) {
      await run(["chown", `${USER}:`, folder]);
      // Its user has to get there. Names in the folder above stay hidden.
      await run(["chmod", "o+x", `${folder}/..`]);
    }
    const server = new PostgresServer(folder, freePort(), asUser);
    await server.#program("initdb", "-D", `${folder}/data`, "-U", USER, "--auth=trust", "--no-locale", "-E", "UTF8");
    const settings = [
      ...[`-p ${server.port}`, `-k ${folder}`, `-h ${HOST}`],
      ...["-c fsync=on", "-c synchronous_commit=on", "-c max_connections=300"],
    ];
    await server.#program(
      "pg_ctl",
      "-D",
      `${folder}/data`,
      "-l",
      `${folder}/log`,
      "-o",
      settings.join(" "),
      "-w",
      "start",
    );
    try {
      await server.#query(TABLE);
    } catch (cause) {
      await server[Symbol.asyncDispose]();
      throw cause;
    }
    return server;
  }

  /** Each client appends to a stream of its own, at the version that follows. Every event is counted. */
  async insert(clients: number, payload: string, seconds: number): Promise<Measured> {
    const stream = this.#stream += clients;
    const before = Number(await this.#query("SELECT count(*) FROM events"));
    const { measured, transactions } = await this.#pgbench(
      clients,
      ["-T", wholeSeconds(seconds, clients), "-D", "version=-1", "-D", `first=${stream}`],
      "\\set version :version + 1\n\\set stream :first + :client_id\n" +
        "INSERT INTO events (stream, version, name, payload) VALUES " +
        `('stream:' || :stream, :version, 'Happened', '${payload}');\n`,
    );
    const stored = Number(await this.#query("SELECT count(*) FROM events")) - before;
    if (stored !== transactions) throw new Error(`PostgreSQL acknowledged ${transactions} events and stored ${stored}`);
    return measured;
  }

  /** As many events as the large store has, ten a stream, in the order in which they would have come. */
  async fill(events: number, streams: number, payload: string): Promise<void> {
    await this.#query(
      "INSERT INTO events (stream, version, name, payload) " +
        `SELECT 'filled:' || n % ${streams}, n / ${streams}, 'Happened', '${payload}' FROM generate_series(0, ${events} - 1) n`,
    );
    await this.#query("VACUUM ANALYZE events");
  }

  lastOfStream(streams: number, seconds: number): Promise<Measured> {
    return this.#read(
      seconds,
      `\\set stream random(0, ${streams} - 1)\n` +
        "SELECT * FROM events WHERE stream = 'filled:' || :stream ORDER BY version DESC LIMIT 10;\n",
    );
  }

  oneEvent(events: number, seconds: number): Promise<Measured> {
    return this.#read(
      seconds,
      `\\set sequence random(1, ${events})\nSELECT * FROM events WHERE sequence = :sequence;\n`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program("pg_ctl", "-D", `${this.folder}/data`, "-m", "fast", "-w", "stop");
  }

  async #read(seconds: number, script: string): Promise<Measured> {
    return (await this.#pgbench(1, ["-T", wholeSeconds(seconds, 1)], script)).measured;
  }

  /** Its log has a line for each transaction; from it come the percentiles. */
  async #pgbench(clients: number, options: string[], script: string) {
    const own = await Deno.makeTempDir({ prefix: "pgbench-" });
    try {
      await Deno.writeTextFile(`${own}/script.sql`, script);
      const output = await run([
        ...["pgbench", "-h", HOST, "-p", String(this.port), "-U", USER, "-n", "-M", "prepared"],
        ...["-c", String(clients), "-l", `--log-prefix=${own}/log`, "-f", `${own}/script.sql`, ...options, "postgres"],
      ]);
      const found = (pattern: RegExp) => Number(pattern.exec(output)?.[1] ?? NaN);
      const transactions = found(/number of transactions actually processed: (\d+)/);
      const perSecond = found(/tps = ([\d.]+)/);
      const failed = found(/number of failed transactions: (\d+)/);
      if (!(perSecond > 0) || failed !== 0) throw new Error(`pgbench failed:\n${output}`);
      const latencies = new Latencies();
      for await (const entry of Deno.readDir(own)) {
        if (!entry.name.startsWith("log")) continue;
        for (const line of (await Deno.readTextFile(`${own}/${entry.name}`)).split("\n")) {
          if (line !== "") latencies.add(Number(line.split(" ")[2]) / 1000);
        }
      }
      return { measured: { ...latencies.percentiles(), perSecond }, transactions };
    } finally {
      await Deno.remove(own, { recursive: true });
    }
  }

  async #program(name: string, ...args: string[]): Promise<void> {
    await run([...this.asUser, `${BINARIES}/${name}`, ...args], this.folder);
  }

  async #query(sql: string): Promise<string> {
    const connection = ["-h", HOST, "-p", String(this.port), "-U", USER, "-d", "postgres"];
    return (await run(["psql", ...connection, "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-c", sql])).trim();
  }
}

function wholeSeconds(seconds: number, clients: number): string {
  return String(Math.max(Math.round(seconds), 1 + Math.ceil(clients / CONNECTED_A_SECOND)));
}

/** What a program prints. Into a file, because a server that pg_ctl starts would keep a pipe open. */
async function run(command: string[], cwd?: string): Promise<string> {
  const [program, ...args] = command;
  const log = await Deno.makeTempFile({ prefix: "output-" });
  try {
    const { code } = await new Deno.Command("sh", {
      args: ["-c", 'log=$1; shift; exec "$@" >"$log" 2>&1', "sh", log, program!, ...args],
      ...(cwd !== undefined && { cwd }),
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).output();
    const output = await Deno.readTextFile(log);
    if (code !== 0) throw new Error(`${program} ended with code ${code}:\n${output}`);
    return output;
  } finally {
    await Deno.remove(log);
  }
}
