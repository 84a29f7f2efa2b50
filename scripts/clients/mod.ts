/**
 * The client matrix: real clients, each with its default settings, against a real server.
 *
 *     redis-cli           over RESP2, and with -3; also that it completes and hints our commands
 *     npm ioredis 5, 6    npm redis 5, 6        PyPI redis 8
 *     raw sockets         what clients cannot show
 *
 * The npm and PyPI packages are installed, as pinned here, into `.cache/clients` of the checkout, once.
 *
 *     deno run -A scripts/clients/mod.ts [--server "COMMAND"] [--only NAME]…
 *
 * Prints a table, the reason of everything that did not pass, and a last line that a machine can read.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { serverCommand, ServerProcess } from "../server_process.ts";
import { rawChecks } from "./raw.ts";
import { type Check, redisCliChecks } from "./redis_cli.ts";

const NPM_PINS = {
  "ioredis5": "npm:ioredis@5.11.1",
  "ioredis6": "npm:ioredis@6.0.0",
  "redis5": "npm:redis@5.12.1",
  "redis6": "npm:redis@6.3.1",
};
const PYPI_PIN = "redis==8.1.0";

const CHECKS = [
  "connect",
  "append",
  "WRONGVER",
  "scan",
  "EMAPPEND",
  "1 MiB binary",
  "pipeline of 1,000",
  "MULTI refused",
];
const PROGRAM_MS_MAX = 60_000;

const HERE = new URL(".", import.meta.url);
const CACHE = new URL("../../.cache/clients/", import.meta.url);

type Outcome = { ok: true; note?: string } | { ok: false; why: string } | { skipped: string };
type Row = { client: string; outcomes: Map<string, Outcome> };

/** A client that is a program of its own, which tells its checks a line each. */
interface Program {
  client: string;
  command: string;
  args: (port: number) => string[];
  prepare: () => Promise<void>;
}

const PROGRAMS: Program[] = [
  ...Object.keys(NPM_PINS).map((alias): Program => ({
    client: `${alias.slice(0, -1)} ${NPM_PINS[alias as keyof typeof NPM_PINS].split("@")[1]} (npm)`,
    command: "node",
    args: (port) => [
      new URL(alias.startsWith("ioredis") ? "ioredis.mjs" : "node_redis.mjs", HERE).pathname,
      alias,
      new URL(`node_modules/${alias}`, CACHE).pathname,
      String(port),
    ],
    prepare: installNpm,
  })),
  {
    client: `redis ${PYPI_PIN.split("==")[1]} (PyPI)`,
    command: "python3",
    args: (port) => [
      new URL("redis_py.py", HERE).pathname,
      "redis-py",
      new URL("python", CACHE).pathname,
      String(port),
    ],
    prepare: installPython,
  },
];

async function installNpm(): Promise<void> {
  const packages = Object.entries(NPM_PINS).map(([alias, pin]) => `${alias}@${pin}`);
  await installOnce("npm", packages.join(" "), [
    "install",
    "--prefix",
    CACHE.pathname,
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--no-package-lock",
    "--save-exact",
    ...packages,
  ]);
}

async function installPython(): Promise<void> {
  await installOnce("python3", PYPI_PIN, [
    "-m",
    "pip",
    "install",
    "--quiet",
    "--upgrade",
    "--disable-pip-version-check",
    "--root-user-action=ignore",
    "--target",
    new URL("python", CACHE).pathname,
    PYPI_PIN,
  ]);
}

/** Runs an installer, unless it has run to its end for the same pins before. */
async function installOnce(command: string, pins: string, args: string[]): Promise<void> {
  await Deno.mkdir(CACHE, { recursive: true });
  const mark = new URL(`${command}.installed`, CACHE);
  if (await Deno.readTextFile(mark).catch(() => "") === pins) return;
  const { code, stdout, stderr } = await new Deno.Command(command, {
    args,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = new TextDecoder();
  if (code !== 0) throw new Error(`${command} ${args.join(" ")}: ${text.decode(stdout)}${text.decode(stderr)}`);
  await Deno.writeTextFile(mark, pins);
}

/** Whether a program can be started at all. */
async function found(command: string): Promise<boolean> {
  try {
    await new Deno.Command(command, { args: ["--version"], stdin: "null", stdout: "null", stderr: "null" }).output();
    return true;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return false;
    throw cause;
  }
}

async function runProgram(program: Program, port: number): Promise<Row> {
  const outcomes = new Map<string, Outcome>();
  if (!await found(program.command)) {
    for (const check of CHECKS) outcomes.set(check, { skipped: `there is no ${program.command} on this machine` });
    return { client: program.client, outcomes };
  }
  await program.prepare();
  const { stdout, stderr, signal } = await new Deno.Command(program.command, {
    args: program.args(port),
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(PROGRAM_MS_MAX),
  }).output();
  const text = new TextDecoder();
  for (const line of text.decode(stdout).split("\n").filter((line) => line.startsWith("{"))) {
    const { check, error } = JSON.parse(line) as { check: string; error?: string };
    outcomes.set(check, error === undefined ? { ok: true } : { ok: false, why: error });
  }
  const why = signal === null
    ? `the program ended before this check: ${text.decode(stderr).slice(-2000)}`
    : `the program did not come to this check within ${PROGRAM_MS_MAX} ms`;
  for (const check of CHECKS) if (!outcomes.has(check)) outcomes.set(check, { ok: false, why });
  return { client: program.client, outcomes };
}

async function runChecks(client: string, checks: Check[]): Promise<Row> {
  const outcomes = new Map<string, Outcome>();
  for (const [name, body] of checks) {
    try {
      const note = await body();
      outcomes.set(name, note === undefined ? { ok: true } : { ok: true, note });
    } catch (cause) {
      outcomes.set(name, { ok: false, why: (cause as Error).stack ?? String(cause) });
    }
  }
  return { client, outcomes };
}

function printTable(rows: Row[]): void {
  const width = Math.max(...rows.map((row) => row.client.length));
  console.log([" ".repeat(width), ...CHECKS].join("  "));
  for (const row of rows) {
    const cells = CHECKS.map((check) => {
      const outcome = row.outcomes.get(check);
      return (outcome === undefined ? "" : "skipped" in outcome ? "skipped" : outcome.ok ? "ok" : "FAILED")
        .padEnd(check.length);
    });
    console.log([row.client.padEnd(width), ...cells].join("  ").trimEnd());
  }
  console.log();
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { server: { type: "string" }, only: { type: "string", multiple: true, default: [] } },
  });
  const wanted = (client: string) => values.only.length === 0 || values.only.some((name) => client.includes(name));
  const rows: Row[] = [];
  await using server = await ServerProcess.start({ command: serverCommand(values.server) });
  const { port } = server.address;
  for (const [client, flags] of [["redis-cli", []], ["redis-cli -3", ["-3"]]] as [string, string[]][]) {
    if (!wanted(client)) continue;
    rows.push(
      await found("redis-cli")
        ? await runChecks(client, redisCliChecks(port, client.replace(" ", ""), flags))
        : { client, outcomes: new Map(CHECKS.map((check) => [check, { skipped: "there is no redis-cli" }])) },
    );
  }
  for (const program of PROGRAMS) if (wanted(program.client)) rows.push(await runProgram(program, port));
  if (rows.length > 0) printTable(rows);
  if (wanted("raw sockets")) rows.push(await runChecks("raw sockets", rawChecks(server)));
  let passed = 0, failed = 0, skipped = 0;
  for (const { client, outcomes } of rows) {
    for (const [check, outcome] of outcomes) {
      if ("skipped" in outcome) {
        skipped++;
        console.log(`skipped ${client}: ${check}: ${outcome.skipped}`);
      } else if (outcome.ok) {
        passed++;
        if (outcome.note !== undefined || !CHECKS.includes(check)) {
          console.log(`ok      ${client}: ${check}${outcome.note === undefined ? "" : `: ${outcome.note}`}`);
        }
      } else {
        failed++;
        console.log(`FAILED  ${client}: ${check}\n${outcome.why.replace(/^/gm, "        ")}`);
      }
    }
  }
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  await server[Symbol.asyncDispose]();
  Deno.exit(failed === 0 ? 0 : 1);
}
