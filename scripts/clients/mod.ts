/**
 * The client matrix: real clients of six languages, each with its default settings and, where it has one, RESP3,
 * against a real server. The list of checks is here, by name; every client answers to every name of it, if only with
 * the reason why it cannot.
 *
 * All clients stay connected until the end, when the server is stopped under them, and then killed.
 *
 *     deno run -A scripts/clients/mod.ts [--server "COMMAND"] [--only NAME]…
 *
 * Prints a table, the reason of everything that did not pass, and a last line that a machine can read.
 *
 * @module
 */
import assert from "node:assert/strict";
import { parseArgs } from "node:util";
import { type Address, Client } from "../resp_client.ts";
import { serverCommand, ServerProcess } from "../server_process.ts";
import { type Outcome, Program, type Subject } from "./program.ts";
import { type Check, rawChecks } from "./raw.ts";
import { RedisCli } from "./redis_cli.ts";
import { cached, here, missing, NPM_PINS, pinned, PYPI_PIN, type Toolchain, TOOLCHAINS } from "./toolchains.ts";

const CHECKS = [
  "connect",
  "append",
  "WRONGVER",
  "scan",
  "EMAPPEND",
  "1 MiB binary",
  "pipeline of 1,000",
  "MULTI refused",
  "EREAD woken",
  "EREAD null",
  "push",
];
/** After the others: the server was stopped and started again, with the same folder and port. */
const STOPPED = "after a stop";
const KILLED = "after kill -9";
const COLUMNS = [...CHECKS, STOPPED, KILLED];

interface Candidate {
  /** As the table has it. */
  client: string;
  toolchain: Toolchain;
  /** `name` is the beginning of the client's streams: all use one server. */
  start: (name: string, port: number) => Subject;
  /** What only this client has. */
  extras?: string[];
}

const version = (pin: string) => /[\d.]+$/.exec(pin)![0];
const LETTUCE = `Lettuce ${pinned("java/pom.xml", /lettuce-core<.artifactId>\s*<version>([\d.]+)\.RELEASE/)} (Java)`;
const JEDIS = `Jedis ${pinned("java/pom.xml", /jedis<.artifactId>\s*<version>([\d.]+)/)} (Java)`;
const REDIS_RS = `redis-rs ${pinned("rust/Cargo.toml", /redis = { version = "=([\d.]+)/)} (Rust)`;

const CANDIDATES: Candidate[] = [
  {
    client: "redis-cli",
    toolchain: TOOLCHAINS.redisCli,
    start: (name, port) => new RedisCli(name, port, []),
    extras: ["help and hints"],
  },
  {
    client: "redis-cli -3",
    toolchain: TOOLCHAINS.redisCli,
    start: (name, port) => new RedisCli(name, port, ["-3"]),
    extras: ["help and hints"],
  },
  ...([["ioredis5"], ["ioredis6"], ["redis5"], ["redis5", "3"], ["redis6"]] as const).map((
    [alias, protocol],
  ): Candidate => ({
    client: `${alias.slice(0, -1)} ${version(NPM_PINS[alias])} (npm)${protocol === undefined ? "" : " RESP3"}`,
    toolchain: TOOLCHAINS.node,
    start: (name, port) => {
      const program = here(alias.startsWith("ioredis") ? "ioredis.mjs" : "node_redis.mjs");
      return new Program("node", program, cached(`node_modules/${alias}`), protocol ?? "default", name, String(port));
    },
  })),
  {
    client: `redis ${version(PYPI_PIN)} (PyPI)`,
    toolchain: TOOLCHAINS.python,
    start: (name, port) => new Program("python3", here("redis_py.py"), cached("python"), name, String(port)),
  },
  {
    client: `go-redis ${pinned("go/go.mod", /go-redis\/v9 v([\d.]+)/)} (Go)`,
    toolchain: TOOLCHAINS.go,
    start: (name, port) => new Program(cached("go/go_redis"), name, String(port)),
  },
  ...[LETTUCE, JEDIS, `${JEDIS} RESP3`].map((client): Candidate => ({
    client,
    toolchain: TOOLCHAINS.java,
    start: (name, port) => {
      const program = client === LETTUCE ? "Lettuce" : "JedisProgram";
      const protocol = client.endsWith("RESP3") ? "3" : "default";
      const classes = `${cached("java/classes")}:${cached("java/jars/*")}`;
      return new Program("java", "-XX:TieredStopAtLevel=1", "-cp", classes, program, protocol, name, String(port));
    },
  })),
  ...[REDIS_RS, `${REDIS_RS} RESP3`].map((client): Candidate => ({
    client,
    toolchain: TOOLCHAINS.rust,
    start: (name, port) =>
      new Program(cached("rust/debug/redis_rs"), client.endsWith("RESP3") ? "3" : "default", name, String(port)),
  })),
  {
    client: `sierradb-client ${pinned("rust/Cargo.toml", /sierradb-client = "=([\d.]+)/)} (Rust)`,
    toolchain: TOOLCHAINS.rust,
    start: (name, port) => new Program(cached("rust/debug/sierradb"), name, String(port)),
    extras: ["typed commands", "subscribe to streams", "subscribe to partitions", "subscribe to all"],
  },
];

type Row = { client: string; outcomes: Map<string, Outcome> };

/** Asks a client for a check, and does what the check needs from outside. */
async function ask(subject: Subject, check: string, name: string, address: Address): Promise<Outcome> {
  if (check !== "EREAD woken") return await subject.ask(check);
  using client = await Client.connect(address);
  const asked = subject.ask(check);
  let answered = false;
  asked.then(() => answered = true);
  // Nothing tells that somebody waits but to look. A client whose BLOCK ran out, or that failed, has answered.
  while (!answered && !await somebodyWaits(client)) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  if (!answered) await client.call("EAPPEND", `${name}-woken`, "Woken");
  return await asked;
}

async function somebodyWaits(client: Client): Promise<boolean> {
  const info = new TextDecoder().decode(await client.call("INFO", "clients") as Uint8Array);
  return /^blocked_clients:[1-9]/m.test(info);
}

async function runChecks(client: string, checks: Check[]): Promise<Row> {
  const outcomes = new Map<string, Outcome>();
  for (const [name, body] of checks) {
    try {
      outcomes.set(name, { verdict: "ok", text: await body() ?? "" });
    } catch (cause) {
      outcomes.set(name, { verdict: "failed", text: (cause as Error).stack ?? String(cause) });
    }
  }
  return { client, outcomes };
}

function printTable(rows: Row[]): void {
  const width = Math.max(...rows.map((row) => row.client.length));
  console.log([" ".repeat(width), ...COLUMNS].join("  "));
  for (const row of rows) {
    const cells = COLUMNS.map((check) =>
      row.outcomes.get(check)!.verdict.replace("failed", "FAILED").padEnd(check.length)
    );
    console.log([row.client.padEnd(width), ...cells].join("  ").trimEnd());
  }
  console.log();
}

/**
 * A port that the system gives to nobody who connects. While the server is away, a client that tries and tries to
 * connect to a port that it may be given itself can meet itself there, and the server could not come back.
 */
function quietPort(): number {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (cause) {
      if (!(cause instanceof Deno.errors.AddrInUse)) throw cause;
    }
  }
}

async function runMatrix(
  candidates: Candidate[],
  server: ServerProcess,
  restart: (how: "stop" | "kill") => Promise<void>,
) {
  const { address } = server;
  // They are fetched and built beside each other, and beside the first clients.
  const toolchains = new Map<Toolchain, Promise<string | undefined>>();
  for (const { toolchain } of candidates) {
    if (toolchains.has(toolchain)) continue;
    const ready = missing(toolchain).then(async (why) => {
      if (why === undefined) await toolchain.prepare();
      return why;
    });
    ready.catch(() => {}); // It is awaited later, where its failure is the client's.
    toolchains.set(toolchain, ready);
  }
  const running: { row: Row; subject: Subject; name: string }[] = [];
  const rows: Row[] = [];
  for (const { client, toolchain, start, extras = [] } of candidates) {
    const row: Row = { client, outcomes: new Map() };
    rows.push(row);
    const all = (verdict: "skipped" | "failed", text: string) => {
      for (const check of [...COLUMNS, ...extras]) row.outcomes.set(check, { verdict, text });
    };
    try {
      const why = await toolchains.get(toolchain);
      if (why !== undefined) {
        all("skipped", why);
        continue;
      }
    } catch (cause) {
      all("failed", String(cause));
      continue;
    }
    const name = client.replace(/\W+/g, "-").replace(/-$/, "");
    const subject = start(name, address.port);
    running.push({ row, subject, name });
    for (const check of [...CHECKS, ...extras]) row.outcomes.set(check, await ask(subject, check, name, address));
  }
  for (const [check, how] of [[STOPPED, "stop"], [KILLED, "kill"]] as const) {
    await restart(how);
    for (const { row, subject } of running) row.outcomes.set(check, await subject.ask(check));
  }
  for (const { row, subject } of running) {
    try {
      await subject.close();
    } catch (cause) {
      row.outcomes.set("end", { verdict: "failed", text: String(cause) });
    }
  }
  return rows;
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { server: { type: "string" }, only: { type: "string", multiple: true, default: [] } },
  });
  const wanted = (client: string) => values.only.length === 0 || values.only.some((name) => client.includes(name));
  const folder = await Deno.makeTempDir({ prefix: "esker-clients-" });
  const options = { command: serverCommand(values.server), folder, port: quietPort() };
  let server = await ServerProcess.start(options);
  const rows: Row[] = [];
  try {
    const candidates = CANDIDATES.filter(({ client }) => wanted(client));
    if (candidates.length > 0) {
      rows.push(
        ...await runMatrix(candidates, server, async (how) => {
          if (how === "kill") await server.kill();
          else assert.equal(await server.stop(), 0, server.output);
          server = await ServerProcess.start(options);
        }),
      );
      printTable(rows);
    }
    if (wanted("raw sockets")) rows.push(await runChecks("raw sockets", rawChecks(server)));
  } finally {
    await server.kill();
    await Deno.remove(folder, { recursive: true });
  }
  const count = { ok: 0, failed: 0, skipped: 0 };
  for (const { client, outcomes } of rows) {
    // One reason, one line, however many checks it stands for.
    const grouped = Map.groupBy(outcomes, ([check, { verdict, text }]) => {
      return verdict === "ok" ? check : `${verdict}: ${text}`;
    });
    for (const group of grouped.values()) {
      const { verdict, text } = group[0]![1];
      count[verdict] += group.length;
      const checks = group.map(([check]) => check).join(", ");
      if (verdict === "ok" && text === "" && COLUMNS.includes(checks)) continue;
      const reason = text === "" ? "" : `: ${text.trim().replaceAll("\n", "\n        ")}`;
      console.log(`${verdict.replace("failed", "FAILED").padEnd(7)} ${client}: ${checks}${reason}`);
    }
  }
  console.log(`${count.ok} passed, ${count.failed} failed, ${count.skipped} skipped`);
  Deno.exit(count.failed === 0 ? 0 : 1);
}
