/**
 * `deno run scripts/cluster_mutations.ts [--only NAME] [--from NAME] [--rounds N] [--seconds S]`: puts bugs into the
 * consensus, one at a time, and sees whether the cluster's simulator catches them. As mutations.ts does for the engine,
 * with the files of testdata/cluster_mutations, which have the same form.
 *
 * All happens in a copy of core, net and scripts in a temporary folder.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { judge, mutate, type Mutation, parseMutation, type Verdict } from "./mutations.ts";
import { Tally } from "./tally.ts";

const ROOT = new URL("../", import.meta.url);
const MUTATIONS = new URL("testdata/cluster_mutations/", ROOT);
const COPIED = ["core", "net", "scripts"];
const SUFFIX = ".txt";
/** Seeds that each mutation has to be caught within. */
const ROUNDS = 1000;
/** A mutation that goes round for ever is ended. */
const SECONDS_MAX = 60;

export async function readClusterMutations(): Promise<Mutation[]> {
  const mutations: Mutation[] = [];
  for await (const { name } of Deno.readDir(MUTATIONS)) {
    mutations.push(parseMutation(name.slice(0, -SUFFIX.length), await Deno.readTextFile(new URL(name, MUTATIONS))));
  }
  return mutations.sort((a, b) => a.name < b.name ? -1 : 1);
}

async function copyFolder(from: URL, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (isDirectory) await copyFolder(new URL(`${name}/`, from), `${to}/${name}`);
    else if (name.endsWith(".ts")) await Deno.copyFile(new URL(name, from), `${to}/${name}`);
  }
}

async function simulate(folder: string, seed: number, rounds: number): Promise<Verdict> {
  const signal = AbortSignal.timeout(SECONDS_MAX * 1000);
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-check", "--no-config", "--no-prompt", "--allow-read", "scripts/cluster_sim.ts"],
      ...["--seed", String(seed), "--rounds", String(rounds), "--no-shrink"],
    ],
    cwd: folder,
    env: { NO_COLOR: "1", DENO_DIR: `${folder}/.deno` },
    stdin: "null",
    signal,
  }).output();
  if (signal.aborted) return { kind: "broken", why: `it did not end within ${SECONDS_MAX} seconds` };
  const decoder = new TextDecoder();
  return judge(code, decoder.decode(stdout) + decoder.decode(stderr));
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: "string" },
      from: { type: "string" },
      rounds: { type: "string", default: String(ROUNDS) },
      seconds: { type: "string", default: "Infinity" },
    },
  });
  const chosen = (await readClusterMutations()).filter(({ name }) =>
    (values.only === undefined || name === values.only) && (values.from === undefined || name >= values.from)
  );
  const width = Math.max(...chosen.map(({ name }) => name.length));
  const tally = new Tally();
  const began = performance.now();
  const folder = await Deno.makeTempDir({ prefix: "esker-cluster-mutations-" });
  try {
    for (const name of COPIED) await copyFolder(new URL(`${name}/`, ROOT), `${folder}/${name}`);
    for (const mutation of chosen) {
      const { name, breaks, file, seed } = mutation;
      if (performance.now() - began > 1000 * Number(values.seconds)) {
        tally.skip(name, "the time is over: go on from here");
        break;
      }
      const path = `${folder}/${file}`;
      const source = await Deno.readTextFile(path);
      try {
        await Deno.writeTextFile(path, mutate(source, mutation));
        const known = seed === null ? null : await simulate(folder, seed, 1);
        const verdict = known === null || known.kind === "missed"
          ? await simulate(folder, 1, Number(values.rounds))
          : known;
        if (verdict.kind === "caught") {
          tally.pass(`${name.padEnd(width)} seed ${verdict.seed}  ${verdict.promise.slice(0, 110)}`);
        } else {tally.fail(
            name,
            verdict.kind === "missed" ? `not caught within ${values.rounds} seeds\n${breaks}` : verdict.why,
          );}
      } catch (error) {
        tally.fail(name, error);
      } finally {
        await Deno.writeTextFile(path, source);
      }
    }
    return tally.end();
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) Deno.exit(await main());
