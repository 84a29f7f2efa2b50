/**
 * `deno task fuzz [NAME [SEED [ROUNDS]]]`: throws chance at a part, or at all parts.
 *
 * NAME is the x of an `x_fuzz.ts`, which exports `fuzz(seed, rounds)`: round i plays what seed + i makes up. One whose
 * rounds take long exports how many are enough, `ROUNDS`. Seeds
 * that once failed are in testdata/seeds.txt and go first, for ever. Without SEED it draws one. A failure names the
 * seed that repeats it.
 *
 * @module
 */
import { Tally } from "./tally.ts";

const ROOT = new URL("../", import.meta.url);
const FOLDERS = ["core/", "net/", "resp/"];
const SUFFIX = "_fuzz.ts";
const ROUNDS = 100;

/** A seed that once failed. */
export interface KnownSeed {
  name: string;
  seed: number;
  /** What it taught. */
  lesson: string;
}

/**
 * Reads the lines of testdata/seeds.txt: `NAME SEED  what it taught`. Empty lines and those after `#` are for readers.
 * @throws {SyntaxError} a line has another form
 */
export function parseSeeds(text: string): KnownSeed[] {
  const seeds: KnownSeed[] = [];
  for (const [i, line] of text.split("\n").entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const match = /^(\w+)\s+(\d+)\s+(\S.*)$/.exec(line);
    if (match === null) {
      throw new SyntaxError(`testdata/seeds.txt, line ${i + 1}: needed NAME SEED and what it taught, found ${line}`);
    }
    seeds.push({ name: match[1]!, seed: Number(match[2]), lesson: match[3]! });
  }
  return seeds;
}

export async function knownSeeds(): Promise<KnownSeed[]> {
  return parseSeeds(await Deno.readTextFile(new URL("testdata/seeds.txt", ROOT)));
}

/** All fuzzers by name. */
export async function findFuzzers(): Promise<Map<string, URL>> {
  const found = new Map<string, URL>();
  const walk = async (folder: URL) => {
    const entries = [];
    for await (const entry of Deno.readDir(folder)) entries.push(entry);
    for (const { name, isDirectory } of entries.toSorted((a, b) => a.name < b.name ? -1 : 1)) {
      if (isDirectory) await walk(new URL(`${name}/`, folder));
      else if (name.endsWith(SUFFIX)) found.set(name.slice(0, -SUFFIX.length), new URL(name, folder));
    }
  };
  for (const folder of FOLDERS) {
    try {
      await walk(new URL(folder, ROOT));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return found;
}

/** What an `x_fuzz.ts` exports. */
export type Fuzz = (seed: number, rounds: number) => void | Promise<void>;

export async function loadFuzzer(url: URL): Promise<{ fuzz: Fuzz; rounds: number }> {
  const { fuzz, ROUNDS: rounds = ROUNDS } = await import(url.href);
  if (typeof fuzz !== "function") throw new Error(`${url.pathname} exports no function fuzz`);
  return { fuzz, rounds };
}

/** Runs a fuzzer round by round, so that a failure names its seed. Returns how many rounds it ran. */
async function run(fuzz: Fuzz, seed: number, rounds: number): Promise<string> {
  const start = performance.now();
  for (let round = 0; round < rounds; round++) {
    try {
      await fuzz(seed + round, 1);
    } catch (error) {
      throw new Error(`seed ${seed + round} fails:\n${error instanceof Error ? stackOf(error) : error}`);
    }
  }
  return `${rounds} rounds from seed ${seed}, ${((performance.now() - start) / 1000).toFixed(1)} s`;
}

function stackOf(error: Error): string {
  return error.cause instanceof Error ? `${error.message}\n${stackOf(error.cause)}` : error.stack ?? error.message;
}

async function main([wanted, seedText, roundsText]: string[]): Promise<number> {
  const fuzzers = await findFuzzers();
  if (wanted !== undefined && !fuzzers.has(wanted)) {
    console.error(`There is no fuzzer ${wanted}: there are ${[...fuzzers.keys()].join(", ")}`);
    return 2;
  }
  const seed = seedText === undefined ? crypto.getRandomValues(new Uint32Array(1))[0]! % 1_000_000 : Number(seedText);
  const asked = roundsText === undefined ? null : Number(roundsText);
  if (!Number.isSafeInteger(seed) || seed < 0 || asked !== null && !(Number.isSafeInteger(asked) && asked >= 1)) {
    console.error(`SEED and ROUNDS are whole numbers: found ${seedText} ${roundsText ?? ""}`);
    return 2;
  }
  const tally = new Tally();
  const seeds = await knownSeeds();
  for (const [name, url] of fuzzers) {
    if (wanted !== undefined && name !== wanted) continue;
    const { fuzz, rounds } = await loadFuzzer(url);
    for (const known of seeds.filter((known) => known.name === name)) {
      await tally.check(`${name} ${known.seed} (${known.lesson})`, async () => void await run(fuzz, known.seed, 1));
    }
    await tally.check(name, () => run(fuzz, seed, asked ?? rounds));
  }
  return tally.end();
}

if (import.meta.main) Deno.exit(await main(Deno.args));
