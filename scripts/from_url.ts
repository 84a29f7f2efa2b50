/**
 * The program from a URL: the checkout is served over HTTP on loopback, and Deno is given nothing but its address and
 * the flags that the README names, with an empty cache for our own files. It must start, store, read and stop.
 *
 *     deno run -A scripts/from_url.ts
 *
 * runs it with the Deno that runs this script and with the newest one, npm's package `deno`.
 *
 * @module
 */
import assert from "node:assert/strict";
import { PROGRAM_FLAGS } from "./program_flags.ts";
import { Client } from "./resp_client.ts";
import { ServerProcess } from "./server_process.ts";
import { Tally } from "./tally.ts";

const ROOT = new URL("../", import.meta.url);

/** Runs the program from a URL with this Deno; returns how many of our files it asked for. */
export async function runFromUrl(deno: string): Promise<number> {
  const asked = new Set<string>();
  await using site = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const { pathname } = new URL(request.url);
    asked.add(pathname);
    try {
      const text = await Deno.readTextFile(new URL(`.${pathname}`, ROOT));
      return new Response(text, { headers: { "content-type": "application/typescript" } });
    } catch {
      return new Response("Not found", { status: 404 });
    }
  });
  const cache = await Deno.makeTempDir({ prefix: "esker-url-" });
  try {
    await Deno.symlink(await npmCache(), `${cache}/npm`);
    const main = `http://127.0.0.1:${site.addr.port}/main.ts`;
    await using server = await ServerProcess.start({
      command: ["env", `DENO_DIR=${cache}`, deno, "run", ...PROGRAM_FLAGS, main],
    });
    using client = await Client.connect(server.address);
    await client.call("EAPPEND", "user-123", "UserCreated", '{"name": "Alice"}');
    const { events } = await client.call("ESCAN", "user-123", "-", "+") as { events: unknown[] };
    assert.equal(events.length, 1);
    assert.equal(await server.stop(), 0, server.output);
    for (const file of ["/main.ts", "/server.ts", "/core/mod.ts", "/resp/mod.ts"]) assert.ok(asked.has(file), file);
    return asked.size;
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
}

/** Where this Deno keeps packages: they may be reused, our own files may not. */
async function npmCache(): Promise<string> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"], cwd: ROOT }).output();
  return JSON.parse(new TextDecoder().decode(stdout)).npmCache;
}

/** Installs the newest Deno into a folder. Throws what npm says. */
async function newestDeno(folder: string): Promise<string> {
  const { success, stderr } = await new Deno.Command("npm", {
    args: ["install", "--no-fund", "--no-audit", "--prefix", folder, "deno@latest"],
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr).trim().split("\n").slice(0, 3).join(" "));
  for (const { name } of Deno.readDirSync(`${folder}/node_modules/@deno`)) {
    return `${folder}/node_modules/@deno/${name}/deno${Deno.build.os === "windows" ? ".exe" : ""}`;
  }
  throw new Error("the package has no binary for this machine");
}

if (import.meta.main) {
  const tally = new Tally();
  await tally.check(`Deno ${Deno.version.deno}`, async () => `${await runFromUrl(Deno.execPath())} files`);
  const folder = await Deno.makeTempDir({ prefix: "esker-deno-" });
  try {
    let deno: string | null = null;
    try {
      deno = await newestDeno(folder);
    } catch (error) {
      tally.skip("the newest Deno", `it cannot be installed from npm: ${(error as Error).message}`);
    }
    if (deno !== null) {
      const { stdout } = await new Deno.Command(deno, { args: ["--version"] }).output();
      const version = new TextDecoder().decode(stdout).split(" (")[0]!;
      await tally.check(`the newest Deno, ${version}`, async () => `${await runFromUrl(deno)} files`);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  Deno.exit(tally.end());
}
