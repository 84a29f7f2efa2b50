/**
 * Runs the bundled client under Node, Bun and Deno against a real server: `client_check.mjs` is what they run.
 *
 *     deno run -A scripts/client_runtimes.ts [--server "COMMAND"]
 *
 * Bun comes from npm, pinned, into `.cache` of the checkout, once. What cannot be run here is told with its reason.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { bundleClient } from "./bundle_client.ts";
import { serverCommand, ServerProcess } from "./server_process.ts";
import { Tally } from "./tally.ts";

const NODE_MAJOR_MIN = 20;
const BUN_VERSION = "1.4.5";
/** The package that holds Bun's binary, by our own platform. */
const BUN_PACKAGES: Record<string, string> = {
  "linux x86_64": "@oven/bun-linux-x64",
  "linux aarch64": "@oven/bun-linux-aarch64",
  "darwin x86_64": "@oven/bun-darwin-x64",
  "darwin aarch64": "@oven/bun-darwin-aarch64",
};
const PROGRAM_MS_MAX = 60_000;
const CHECK = fileURLToPath(new URL("client_check.mjs", import.meta.url));
const CACHE = new URL("../.cache/bun/", import.meta.url);

/** A runtime: what starts it, and what stands before the script. Or why it is not there. */
type Runtime = { name: string; command: string; args: string[] } | { name: string; missing: string };

async function node(): Promise<Runtime> {
  const version = await output("node", ["--version"]);
  if (version === null) return { name: "node", missing: "there is no node on this machine" };
  const major = Number(/^v(\d+)/.exec(version)?.[1]);
  if (major < NODE_MAJOR_MIN) {
    return { name: "node", missing: `node is ${version.trim()}: ${NODE_MAJOR_MIN} is needed` };
  }
  return { name: `node ${version.trim()}`, command: "node", args: [] };
}

async function bun(): Promise<Runtime> {
  const name = `bun ${BUN_VERSION}`;
  const platform = `${Deno.build.os} ${Deno.build.arch}`;
  const packageName = BUN_PACKAGES[platform];
  if (packageName === undefined) return { name, missing: `npm has no Bun for ${platform}` };
  const command = fileURLToPath(new URL(`node_modules/${packageName}/bin/bun`, CACHE));
  if ((await output(command, ["--version"]))?.trim() !== BUN_VERSION) {
    await Deno.mkdir(CACHE, { recursive: true });
    const prefix = fileURLToPath(CACHE);
    const flags = ["--prefix", prefix, "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"];
    if (await output("npm", ["install", ...flags, `${packageName}@${BUN_VERSION}`]) === null) {
      return { name, missing: `npm could not install ${packageName}@${BUN_VERSION}` };
    }
    const version = await output(command, ["--version"]);
    if (version === null) return { name, missing: `${packageName}@${BUN_VERSION} does not run on this machine` };
  }
  return { name, command, args: [] };
}

function deno(): Runtime {
  const args = ["run", "--no-prompt", "--allow-read", "--allow-net=127.0.0.1"];
  return { name: `deno ${Deno.version.deno}`, command: Deno.execPath(), args };
}

/** What a command prints; null if it cannot be started or fails, which it has then said on stderr. */
async function output(command: string, args: string[]): Promise<string | null> {
  try {
    const { success, stdout } = await new Deno.Command(command, { args, stdin: "null", stderr: "inherit" }).output();
    return success ? new TextDecoder().decode(stdout) : null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

async function run(tally: Tally, runtime: Runtime, bundle: string, port: number): Promise<void> {
  if ("missing" in runtime) return tally.skip(runtime.name, runtime.missing);
  const { success, signal, stdout, stderr } = await new Deno.Command(runtime.command, {
    args: [...runtime.args, CHECK, bundle, String(port)],
    stdin: "null",
    signal: AbortSignal.timeout(PROGRAM_MS_MAX),
  }).output();
  const text = new TextDecoder();
  for (const line of text.decode(stdout).split("\n").filter((line) => line.startsWith("{"))) {
    const { check, error } = JSON.parse(line) as { check: string; error?: string };
    if (error === undefined) tally.pass(`${runtime.name}: ${check}`);
    else tally.fail(`${runtime.name}: ${check}`, error);
  }
  const how = signal === null ? text.decode(stderr) : `it did not end within ${PROGRAM_MS_MAX} ms`;
  if (success) tally.pass(`${runtime.name}: the program ends by itself`);
  else tally.fail(`${runtime.name}: the program ends by itself`, how);
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { server: { type: "string" } } });
  const tally = new Tally();
  const folder = await Deno.makeTempDir({ prefix: "esker-client-" });
  try {
    const bundle = `${folder}/esker-client.mjs`;
    const bundled = await tally.check("bundle", async () => `${await bundleClient(bundle)} bytes`);
    if (bundled) {
      await using server = await ServerProcess.start({ command: serverCommand(values.server) });
      for (const runtime of [await node(), await bun(), deno()]) await run(tally, runtime, bundle, server.address.port);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  Deno.exit(tally.end());
}
