/**
 * `deno task mutations [--only NAME] [--seed N] [--rounds N]`: puts bugs into the engine, one at a time, and sees whether
 * the simulator catches them. One that it does not catch says that it is too weak. With `--cluster` the same for the
 * consensus and the simulator of a cluster, with `--replicated` for engine and driver as its nodes.
 *
 * A mutation is a file of testdata/mutations, cluster_mutations or replicated_mutations, named after what it does:
 *
 *     Answers before the journal is synced: an acknowledged event goes with the power.
 *     core/append_queue.ts
 *
 *      the lines
 *     -that must stand there, exactly once,
 *     +and what is to stand there instead, as in a diff
 *
 * The first line says what it breaks, the second names the file. A third, `seed N`, names a seed that caught it before,
 * which is played first: a rare one would else take hundreds. When that does not catch it any more, the usual seeds are
 * played.
 *
 * Caught is a mutation when a story of one of the seeds breaks a promise. One that is no longer found in its file, that
 * does not compile, or at which the program itself stumbles (a TypeError, say), has failed and not been caught.
 *
 * All happens in copies of the sources in a temporary folder.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { Tally } from "./tally.ts";

const ROOT = new URL("../", import.meta.url);
const SUFFIX = ".txt";
const SEED = /^seed (\d+)$/;
/** As many as a small machine has cores. */
const AT_A_TIME = 2;
/** A mutation that goes round for ever is ended. */
const SECONDS_MAX = 120;
const REASON_CHARS_MAX = 110;

/** What bugs are put into, and who has to catch them. */
export interface Subject {
  /** The folder of its mutations, in testdata. */
  folder: string;
  copied: string[];
  simulator: string;
  /** What it is told beside the seeds. */
  flags: string[];
  /** Seeds that each mutation has to be caught within, and that the program as it is has to pass. */
  rounds: number;
}

export const ENGINE: Subject = {
  folder: "mutations",
  copied: ["core", "scripts"],
  simulator: "scripts/sim.ts",
  flags: [],
  rounds: 250,
};
export const CLUSTER: Subject = {
  folder: "cluster_mutations",
  copied: ["core", "net", "scripts"],
  simulator: "scripts/cluster_sim.ts",
  flags: [],
  rounds: 1000,
};
/** Engine and driver as nodes of a cluster. Slow: each of its mutations should name a seed. */
export const REPLICATED: Subject = {
  folder: "replicated_mutations",
  copied: ["core", "net", "scripts"],
  simulator: "scripts/cluster_sim.ts",
  flags: ["--engine"],
  rounds: 40,
};
/** Whole nodes, of which routes, requests, subscriptions and links are changed. Slow, as these. */
export const NODES: Subject = {
  folder: "node_mutations",
  copied: ["core", "net", "scripts"],
  simulator: "scripts/cluster_sim.ts",
  flags: ["--node"],
  rounds: 40,
};

export interface Mutation {
  name: string;
  breaks: string;
  /** From the root of the project. */
  file: string;
  before: string;
  after: string;
  /** Caught it before. Null: the usual seeds do. */
  seed: number | null;
}

/** @throws {SyntaxError} it has another form than the one above */
export function parseMutation(name: string, text: string): Mutation {
  const refuse = (why: string) => new SyntaxError(`The mutation ${name}${SUFFIX}: ${why}`);
  const [breaks, file, ...rest] = text.trimEnd().split("\n");
  if (!breaks || !file) throw refuse("it needs a line of what it breaks and a line with its file");
  const named = SEED.exec(rest[0] ?? "");
  if (named !== null) rest.shift();
  if (rest.shift() !== "") throw refuse("it needs an empty line before the change");
  const before: string[] = [];
  const after: string[] = [];
  for (const line of rest) {
    const mark = line.slice(0, 1);
    if (!["", " ", "-", "+"].includes(mark)) throw refuse(`a line of the change begins with -, + or a space: ${line}`);
    if (mark !== "+") before.push(line.slice(1));
    if (mark !== "-") after.push(line.slice(1));
  }
  if (before.length === 0) throw refuse("it needs lines that must stand there");
  if (before.join("\n") === after.join("\n")) throw refuse("it changes nothing");
  return { name, breaks, file, before: before.join("\n"), after: after.join("\n"), seed: named && Number(named[1]) };
}

/** The source with the mutation in it. @throws what it replaces is not there, or more than once */
export function mutate(source: string, { file, before, after }: Mutation): string {
  const text = `\n${source}`; // So that the first line, too, comes after the end of a line.
  const wanted = `\n${before}\n`;
  const at = text.indexOf(wanted);
  if (at < 0) throw new Error(`It does not apply any more: its lines are not in ${file}`);
  if (text.includes(wanted, at + 1)) throw new Error(`It does not apply any more: its lines are in ${file} twice`);
  return `${text.slice(0, at)}\n${after}\n${text.slice(at + wanted.length)}`.slice(1);
}

export type Verdict =
  | { kind: "caught"; seed: number; promise: string }
  | { kind: "missed" }
  | { kind: "broken"; why: string };

/** What the end of the simulator says about the program that it ran. */
export function judge(code: number, output: string): Verdict {
  const failed = /^FAILED +sim (\d+)\n([^]*)/m.exec(output);
  if (failed === null) {
    if (code === 0 && /^\d+ passed, 0 failed, 0 skipped$/m.test(output)) return { kind: "missed" };
    return { kind: "broken", why: firstLine(output.trim()) || `it ended with ${code} and said nothing` };
  }
  const [, seed, told] = failed;
  const stumbles = /^.*\b(?:SyntaxError|ReferenceError|TypeError)\b.*$/m.exec(told!);
  if (stumbles !== null) return { kind: "broken", why: stumbles[0].trim() };
  // Before it stands the operation, which may be long.
  const reason = /^ *[A-Z]\w*(?: \[\w+\])?: (.*)$/m.exec(told!);
  return { kind: "caught", seed: Number(seed), promise: reason === null ? firstLine(told!.trim()) : reason[1]! };
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0]!;
}

/** All of them by name. */
export async function readMutations({ folder }: Subject): Promise<Mutation[]> {
  const mutations: Mutation[] = [];
  const place = new URL(`testdata/${folder}/`, ROOT);
  for await (const { name } of Deno.readDir(place)) {
    const text = await Deno.readTextFile(new URL(name, place));
    mutations.push(parseMutation(name.slice(0, -SUFFIX.length), text));
  }
  return mutations.sort((a, b) => a.name < b.name ? -1 : 1);
}

export async function readSource({ file }: Mutation): Promise<string> {
  return await Deno.readTextFile(new URL(file, ROOT));
}

/** A copy of the sources, one mutation in it at a time. */
class Copy {
  private constructor(readonly subject: Subject, readonly folder: string) {}

  static async make(subject: Subject, folder: string): Promise<Copy> {
    for (const name of subject.copied) await copyFolder(new URL(`${name}/`, ROOT), `${folder}/${name}`);
    return new Copy(subject, folder);
  }

  async run(mutation: Mutation, seed: number, rounds: number): Promise<Verdict> {
    const path = `${this.folder}/${mutation.file}`;
    const source = await Deno.readTextFile(path);
    await Deno.writeTextFile(path, mutate(source, mutation));
    try {
      const verdict = mutation.seed === null ? null : await this.simulate(mutation.seed, 1);
      return verdict === null || verdict.kind === "missed" ? await this.simulate(seed, rounds) : verdict;
    } finally {
      await Deno.writeTextFile(path, source);
    }
  }

  async simulate(seed: number, rounds: number): Promise<Verdict> {
    const signal = AbortSignal.timeout(SECONDS_MAX * 1000);
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--no-check", "--no-config", "--no-prompt", "--allow-read", this.subject.simulator],
        ...this.subject.flags,
        ...["--seed", String(seed), "--rounds", String(rounds), "--no-shrink"],
      ],
      cwd: this.folder,
      env: { NO_COLOR: "1", DENO_DIR: `${this.folder}/.deno` }, // What it compiles concerns nobody else.
      stdin: "null",
      signal,
    }).output();
    if (signal.aborted) return { kind: "broken", why: `it did not end within ${SECONDS_MAX} seconds` };
    const decoder = new TextDecoder();
    return judge(code, decoder.decode(stdout) + decoder.decode(stderr));
  }
}

async function copyFolder(from: URL, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (isDirectory) await copyFolder(new URL(`${name}/`, from), `${to}/${name}`);
    else if (name.endsWith(".ts")) await Deno.copyFile(new URL(name, from), `${to}/${name}`);
  }
}

/** Runs those that have to be caught, some at a time, and tells of each as soon as it is known. */
async function runAll(
  mutations: Mutation[],
  copies: Copy[],
  seed: number,
  rounds: number,
  tally: Tally,
): Promise<void> {
  const width = Math.max(...mutations.map(({ name }) => name.length));
  const left = mutations.toReversed();
  await Promise.all(copies.map(async (copy) => {
    for (let mutation = left.pop(); mutation !== undefined; mutation = left.pop()) {
      const { name, breaks } = mutation;
      const began = performance.now();
      try {
        const verdict = await copy.run(mutation, seed, rounds);
        const seconds = ((performance.now() - began) / 1000).toFixed(1).padStart(5);
        if (verdict.kind === "caught") {
          tally.pass(
            `${name.padEnd(width)} seed ${String(verdict.seed).padStart(4)} ${seconds} s  ${
              shortened(verdict.promise)
            }`,
          );
        } else {
          const why = verdict.kind === "missed" ? `not caught within ${rounds} seeds` : `broken: ${verdict.why}`;
          tally.fail(`${name.padEnd(width)} ${seconds} s`, `${why}\n${breaks}`);
        }
      } catch (error) {
        tally.fail(name, error);
      }
    }
  }));
}

function shortened(text: string): string {
  return text.length <= REASON_CHARS_MAX ? text : `${text.slice(0, REASON_CHARS_MAX)} …`;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: "string" },
      cluster: { type: "boolean", default: false },
      replicated: { type: "boolean", default: false },
      nodes: { type: "boolean", default: false },
      seed: { type: "string", default: "1" },
      rounds: { type: "string" },
    },
  });
  const subject = values.nodes ? NODES : values.replicated ? REPLICATED : values.cluster ? CLUSTER : ENGINE;
  const [seed, rounds] = [Number(values.seed), Number(values.rounds ?? subject.rounds)];
  const all = await readMutations(subject);
  const chosen = all.filter(({ name }) => values.only === undefined || name === values.only);
  if (chosen.length === 0) {
    console.error(`There is no mutation ${values.only}: there are ${all.map(({ name }) => name).join(", ")}`);
    return 2;
  }
  const tally = new Tally();
  const folder = await Deno.makeTempDir({ prefix: "esker-mutations-" });
  try {
    const copies: Copy[] = [];
    for (let i = 0; i < AT_A_TIME; i++) copies.push(await Copy.make(subject, `${folder}/${i}`));
    const began = performance.now();
    const share = Math.ceil(rounds / AT_A_TIME);
    const unmutated = await Promise.all(copies.map((copy, i) => copy.simulate(seed + i * share, share)));
    for (const verdict of unmutated) {
      if (verdict.kind === "missed") continue;
      const why = verdict.kind === "caught" ? `seed ${verdict.seed}: ${verdict.promise}` : verdict.why;
      tally.fail("without any mutation", why);
      return tally.end();
    }
    console.log(`Without any mutation ${rounds} seeds pass, in ${((performance.now() - began) / 1000).toFixed(1)} s`);
    await runAll(chosen, copies, seed, rounds, tally);
    return tally.end();
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) Deno.exit(await main());
