/**
 * Makes `dist/esker-client.mjs`: the client of `resp/client/` as one file for Node, Bun and Deno.
 *
 *     deno run -A scripts/bundle_client.ts [--out FILE]
 *
 * `deno bundle` does it, with the esbuild that it fetches from npm. It must come out with nothing but `node:net` to
 * import and no word of Deno's own, or it would not run elsewhere: that is looked at here.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const ROOT = new URL("../", import.meta.url);
const OUT = "dist/esker-client.mjs";

/** Bundles the client into `out`, and returns how many bytes it has. */
export async function bundleClient(out: string): Promise<number> {
  const entry = fileURLToPath(new URL("resp/client/mod.ts", ROOT));
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--quiet", "--no-lock", "--platform", "deno", "--output", out, entry],
    cwd: ROOT,
  }).output();
  if (!success) throw new Error(`deno bundle: ${new TextDecoder().decode(stderr)}`);
  const code = await Deno.readTextFile(out);
  const foreign = foreignTo(code);
  if (foreign.length > 0) {
    throw new Error(`The bundle runs on Deno alone, or needs what is not there: ${foreign.join(", ")}`);
  }
  return code.length;
}

/** What is in a bundle that not every runtime has. */
export function foreignTo(code: string): string[] {
  const imports = [...code.matchAll(/^\s*(?:import|export)\s[^"'\n]*["']([^"']+)["']/gm)].map((match) => match[1]!);
  return [
    ...imports.filter((specifier) => specifier !== "node:net"),
    ...[...code.matchAll(/\bDeno\.\w+|\brequire\(|\bimport\(/g)].map((match) => match[0]),
  ];
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { out: { type: "string", default: fileURLToPath(new URL(OUT, ROOT)) } } });
  await Deno.mkdir(new URL("dist/", ROOT), { recursive: true });
  console.log(`${values.out}: ${await bundleClient(values.out)} bytes`);
}
