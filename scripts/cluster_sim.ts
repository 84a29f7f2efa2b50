/**
 * `deno task sim:cluster [--seed N] [--rounds N] [--seconds S] [--engine | --node] [--no-shrink]`: tells a whole cluster stories
 * from seeds, with every fault that a node, a disk, a clock and a network can have, and holds it to what it promises.
 *
 * The nodes are the protocol on a modelled log; with `--engine`, the engine and its driver on disks in memory; with
 * `--node`, all that a node is but its sockets, with clients that append, read and follow at any of them.
 *
 * Without a seed those of testdata/seeds.txt go first, and then new ones for as long as it may take. A failure is
 * told with its seed and the shortest story that fails in the same way.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { shrink } from "../core/simulator/shrink.ts";
import { describe, type Story, storyOf } from "../net/simulator/story.ts";
import { Broken, type Cast, play } from "../net/simulator/world.ts";
import { knownSeeds } from "./fuzz.ts";
import { Tally } from "./tally.ts";

const SECONDS = 60;

const counts = new Map<string, number>();

function add(what: string, count: number): void {
  counts.set(what, (counts.get(what) ?? 0) + count);
}

async function check(seed: number, cast: Cast): Promise<void> {
  const played = await play(storyOf(seed, cast === "engine"), cast);
  add("steps", played.steps);
  add("acknowledged appends", played.acknowledged);
  add("reads", played.reads);
  add("virtual seconds", Math.round(played.virtualMs / 1000));
  for (const [what, count] of played.counts) add(what, count);
}

async function tell(error: Broken, shrinks: boolean, cast: Cast): Promise<string> {
  const { story } = error;
  const lines = [error.cause instanceof Error ? error.cause.stack! : String(error.cause), error.message];
  let shortest: Story = story;
  if (shrinks) {
    const faults = await shrink(story.faults, (faults) => failureOf({ ...story, faults }, cast), 200);
    shortest = { ...story, faults };
  }
  lines.push(`${shortest.faults.length} of ${story.faults.length} faults, ${JSON.stringify(story.sizes)}:`);
  for (const fault of shortest.faults) lines.push(`    ${describe(fault)}`);
  lines.push(
    `Repeat it with: scripts/deno task sim:cluster ${cast === "model" ? "" : `--${cast} `}--seed ${story.seed}`,
  );
  return lines.join("\n");
}

/** How a story fails: without the numbers, which change with the story. */
async function failureOf(story: Story, cast: Cast): Promise<string | null> {
  try {
    await play(story, cast);
    return null;
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    const message = error.cause instanceof Error ? error.cause.message : String(error.cause);
    return message.split("\n")[0]!.replace(/[0-9a-f]{4,}|[\d.,]+/g, "#").slice(0, 60);
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seed: { type: "string" },
      rounds: { type: "string" },
      seconds: { type: "string" },
      engine: { type: "boolean" },
      node: { type: "boolean" },
      "no-shrink": { type: "boolean" },
    },
  });
  const cast = values.node ? "node" : values.engine ? "engine" : "model";
  const tally = new Tally();
  const began = performance.now();
  if (values.seed === undefined) {
    for (
      const { seed, lesson } of (await knownSeeds()).filter(({ name }) =>
        name === (cast === "model" ? "cluster" : cast)
      )
    ) {
      await tally.check(`sim ${seed} (${lesson})`, () => check(seed, cast));
    }
  }
  const first = Number(values.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]! % 1_000_000_000);
  const rounds = Number(values.rounds ?? (values.seed !== undefined && values.seconds === undefined ? 1 : Infinity));
  const seconds = Number(
    values.seconds ?? (values.rounds === undefined && values.seed === undefined ? SECONDS : Infinity),
  );
  let round = 0;
  let failed = false;
  for (; round < rounds && !failed && performance.now() - began < 1000 * seconds; round++) {
    try {
      await check(first + round, cast);
    } catch (error) {
      failed = true;
      tally.fail(
        `sim ${first + round}`,
        error instanceof Broken ? await tell(error, !values["no-shrink"], cast) : error,
      );
    }
  }
  if (!failed) tally.pass(`${round} seeds from ${first}`);
  const took = (performance.now() - began) / 1000;
  console.log(`${round} seeds in ${took.toFixed(1)} s, ${(round / took).toFixed(1)} a second`);
  for (const [what, count] of [...counts].sort(([a], [b]) => a < b ? -1 : 1)) {
    console.log(`    ${what.padEnd(40)} ${count}`);
  }
  return tally.end();
}

if (import.meta.main) Deno.exit(await main());
