/**
 * All that must hold before a commit, in the order in which it fails fastest. Goes on after a failure: one run tells
 * everything.
 *
 * @module
 */
const ROOT = new URL("../", import.meta.url);

const CHECKS: Record<string, string[]> = {
  format: ["fmt", "--check", "--quiet"],
  lint: ["lint", "--quiet"],
  types: ["check", "--quiet", "."],
  layers: ["task", "--quiet", "layers"],
  tests: ["task", "--quiet", "test"],
  examples: ["task", "--quiet", "test:doc"],
};

if (import.meta.main) {
  const failed: string[] = [];
  for (const [name, args] of Object.entries(CHECKS)) {
    const began = performance.now();
    const { success } = await new Deno.Command(Deno.execPath(), { args, cwd: ROOT }).spawn().status;
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    console.log(`${success ? "ok    " : "FAILED"} ${name} (${seconds} s)`);
    if (!success) failed.push(name);
  }
  console.log(failed.length === 0 ? "All is well" : `Not well: ${failed.join(", ")}`);
  Deno.exit(failed.length === 0 ? 0 : 1);
}
