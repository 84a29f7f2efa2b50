/**
 * `deno task sim [--seed N] [--rounds N] [--minutes M] [--no-shrink]`: tells the store stories from seeds, with every
 * fault that a disk, a clock and a process can have, and holds it to what it promises.
 *
 * With a seed it plays that story, and with `--rounds` as many from it on. Without, the seeds of testdata/seeds.txt go
 * first, and then new ones for as long as it may take. A failure is told with its seed, the shortest story that fails
 * in the same way, and the command that repeats it.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { describe, type Story, storyOf } from "../core/simulator/operation.ts";
import { shrink } from "../core/simulator/shrink.ts";
import { Broken, play } from "../core/simulator/world.ts";
import { knownSeeds } from "./fuzz.ts";
import { Tally } from "./tally.ts";

const MINUTES = 1;
/** A failure is looked into at once: the seeds after it most likely fail of the same. */
const FAILURES_MAX = 1;

/** What all stories together came to. */
class Sums {
  readonly began = performance.now();
  readonly faults = new Map<string, number>();
  seeds = 0;
  operations = 0;
  calls = 0;

  get seconds(): number {
    return (performance.now() - this.began) / 1000;
  }

  toString(): string {
    const faults = [...this.faults].sort(([a], [b]) => a < b ? -1 : 1);
    const width = Math.max(0, ...faults.map(([name]) => name.length));
    return [
      `${this.operations} operations, ${this.calls} calls of the store, ${this.seeds} seeds, ` +
      `${(this.seeds / this.seconds).toFixed(1)} seeds a second`,
      ...faults.map(([name, count]) => `    ${name.padEnd(width)} ${String(count).padStart(8)}`),
    ].join("\n");
  }
}

/** Plays the story of a seed. @throws what went wrong, for readers */
async function check(seed: number, sums: Sums, shrinks: boolean): Promise<void> {
  const story = storyOf(seed);
  sums.seeds++;
  try {
    const played = await play(story);
    sums.operations += played.operations;
    sums.calls += played.calls;
    for (const [fault, count] of played.faults) sums.faults.set(fault, (sums.faults.get(fault) ?? 0) + count);
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    throw new Error(await tell(error, story, shrinks));
  }
}

async function tell(broken: Broken, story: Story, shrinks: boolean): Promise<string> {
  const lines = [stackOf(broken)];
  if (shrinks) {
    const shortest = await shrink(story.operations, (operations) => failureOf({ ...story, operations }));
    lines.push(`The shortest of its stories, ${shortest.length} of ${story.operations.length} operations:`);
    lines.push(`    a store of ${JSON.stringify(story.sizes)}, ${story.lookMs} ms a look at the clock`);
    for (const operation of shortest) lines.push(`    ${describe(operation)}`);
  }
  lines.push(`Repeat it with: scripts/deno task sim --seed ${story.seed}`);
  return lines.join("\n");
}

/** How a story fails: its message without the numbers and ids, which change with the story. */
async function failureOf(story: Story): Promise<string | null> {
  try {
    await play(story);
    return null;
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    const { cause } = error;
    const message = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
    return message.split("\n")[0]!.replace(/[0-9a-f]{4,}|\d+/g, "#").slice(0, 80);
  }
}

function stackOf(error: Error): string {
  return error.cause instanceof Error ? `${error.message}\n${stackOf(error.cause)}` : error.stack ?? error.message;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seed: { type: "string" },
      rounds: { type: "string" },
      minutes: { type: "string" },
      "no-shrink": { type: "boolean" },
    },
  });
  const [seed, rounds, minutes] = [numberOf(values.seed), numberOf(values.rounds), numberOf(values.minutes)];
  if ([seed, rounds, minutes].some(Number.isNaN)) {
    console.error("--seed, --rounds and --minutes are numbers");
    return 2;
  }
  const tally = new Tally();
  const sums = new Sums();
  const shrinks = !values["no-shrink"];
  if (seed === undefined) {
    for (const known of (await knownSeeds()).filter(({ name }) => name === "sim")) {
      await tally.check(`sim ${known.seed} (${known.lesson})`, () => check(known.seed, sums, shrinks));
    }
  }
  const first = seed ?? crypto.getRandomValues(new Uint32Array(1))[0]! % 1_000_000_000;
  const secondsMax = 60 * (minutes ?? (seed === undefined && rounds === undefined ? MINUTES : Infinity));
  const roundsMax = rounds ?? (seed !== undefined && minutes === undefined ? 1 : Infinity);
  let failures = 0;
  let round = 0;
  for (; round < roundsMax && sums.seconds < secondsMax && failures < FAILURES_MAX; round++) {
    try {
      await check(first + round, sums, shrinks);
    } catch (error) {
      failures++;
      tally.fail(`sim ${first + round}`, error);
    }
  }
  if (failures === 0) tally.pass(`${round} seeds from ${first}`);
  console.log(String(sums));
  return tally.end();
}

function numberOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Number(text);
}

if (import.meta.main) Deno.exit(await main());
