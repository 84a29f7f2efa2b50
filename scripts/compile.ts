/**
 * Makes `dist/esker`: Deno, the program and its packages in one file, which starts in an empty folder without a network
 * or a cache.
 *
 * Deno fetches the stub that it puts in front of a program, `denort`, from its own site. Where that is out of reach,
 * the environment variable DENORT_BIN names a local one, of exactly the version of Deno that compiles.
 *
 * @module
 */
import { PROGRAM_FLAGS } from "./program_flags.ts";

const ROOT = new URL("../", import.meta.url);
/** A Worker's URL is not part of the graph of main. */
const WORKERS = ["server.ts"];

if (import.meta.main) {
  Deno.mkdirSync(new URL("dist", ROOT), { recursive: true });
  const output = Deno.build.os === "windows" ? "dist/esker.exe" : "dist/esker";
  const { success, code } = await new Deno.Command(Deno.execPath(), {
    args: [
      "compile",
      ...PROGRAM_FLAGS,
      "--no-code-cache",
      ...WORKERS.flatMap((worker) => ["--include", worker]),
      ...["--output", output],
      "main.ts",
    ],
    cwd: ROOT,
  }).spawn().status;
  if (!success) {
    console.error("If denort could not be fetched: set DENORT_BIN to a local one of the same version.");
    Deno.exit(code);
  }
  const { size } = Deno.statSync(new URL(output, ROOT));
  console.log(`${output}: ${Math.round(size / 1e6)} MB`);
}
