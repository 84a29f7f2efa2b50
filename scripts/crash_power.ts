/**
 * A power cut on real files: what was not synced is gone, or there in part, and what was acknowledged is there.
 *
 * A process with the store in it runs on a disk whose files get only what was synced (crash_power_store.ts). It is killed
 * while it appends, or while it opens what the round before left; its acknowledgements have come through a pipe. Then
 * the server is started on the files, and what is there is looked at (crash_ledger.ts). At the end the same is done on a
 * disk that only says that it has synced: what is missing then must be seen, or this check sees nothing.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Chance } from "../core/chance.ts";
import { Ledger } from "./crash_ledger.ts";
import { SMALL_BYTES, SMALL_FILES } from "./crash_kill.ts";
import type { PowerStory, Told } from "./crash_power_store.ts";
import { Client } from "./resp_client.ts";
import { ServerProcess } from "./server_process.ts";
import type { Tally } from "./tally.ts";

const WRITERS = 20;
const ACKS_MAX = 1500;
/** How long an opening may go on until the power is cut: as long as it takes, as a rule. */
const OPENING_MS_MAX = 60;
/** A lie that took nothing from anybody proves nothing: then it is told again. */
const LIES_MAX = 5;

export async function checkPowerCuts(tally: Tally, command: string[], rounds: number, chance: Chance): Promise<void> {
  const folder = await newFolder();
  const ledger = new Ledger();
  let sound = true;
  for (let round = 1; sound && round <= rounds; round++) {
    sound = await tally.check(`power cut number ${round}`, async () => {
      const wanted = chance.oneIn(4) ? 0 : chance.between(1, ACKS_MAX);
      const acks = await cut(folder, `p${round}`, wanted, ledger, chance);
      const unanswered = await look(command, folder, ledger, chance);
      const when = wanted === 0 ? "while it opened" : `after ${acks} acknowledgements`;
      return `${when}; ${ledger.events} events are there, ${unanswered} of them new and without an answer`;
    });
  }
  // No two runs are cut at the same moment: what failed is kept.
  if (sound) await Deno.remove(folder, { recursive: true });
  else console.log(`        the folder is kept: ${folder}/disk/data`);
  await tally.check("power cut, on a disk that only says that it has synced: the loss is seen", async () => {
    for (let lie = 1; lie <= LIES_MAX; lie++) {
      const folder = await newFolder();
      const ledger = new Ledger();
      await cut(folder, `p${lie}`, 300, ledger, chance, true);
      const failure = await look(command, folder, ledger, chance).then(() => null, (error) => error as Error);
      await Deno.remove(folder, { recursive: true });
      if (failure === null) continue;
      return failure.message.split("\n")[0]!.slice(0, 100);
    }
    assert.fail(`Of ${LIES_MAX} that lost acknowledged events none was seen`);
  });
}

/** Runs the store until so many acknowledgements, or into its opening, and cuts its power. How many there were. */
async function cut(
  folder: string,
  writer: string,
  wanted: number,
  ledger: Ledger,
  chance: Chance,
  lies = false,
): Promise<number> {
  const before = ledger.acks;
  for (let i = 0; i < WRITERS; i++) ledger.begins(`${writer}-${i}`);
  const script = new URL("crash_power_store.ts", import.meta.url).pathname;
  const seed = chance.below(2 ** 31);
  const story: PowerStory = { folder, seed, writer, writers: WRITERS, fileBytes: SMALL_BYTES, lies };
  const flags = ["--no-prompt", `--allow-read=${folder}`, `--allow-write=${folder}`, "--allow-sys=statfs"];
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", ...flags, script, JSON.stringify(story)],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let killed = false;
  const kill = () => {
    if (!killed) process.kill("SIGKILL");
    killed = true;
  };
  // To its end: what was acknowledged before the power was cut may still be on its way through the pipe.
  for await (const line of lines(process.stdout)) {
    const told = JSON.parse(line) as Told;
    if (!("opens" in told)) ledger.acknowledged(told.names, told.placed);
    else if (wanted === 0) setTimeout(kill, chance.below(OPENING_MS_MAX));
    if (wanted > 0 && ledger.acks - before >= wanted) kill();
  }
  assert((await process.status).signal === "SIGKILL" && killed, "The store ended by itself");
  return ledger.acks - before;
}

async function look(command: string[], folder: string, ledger: Ledger, chance: Chance): Promise<number> {
  await using server = await ServerProcess.start({ command, folder: `${folder}/disk/data`, flags: SMALL_FILES });
  using client = await Client.connect(server.address);
  return await ledger.verifyAll(client, chance);
}

async function newFolder(): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "esker-power-" });
  await Deno.mkdir(`${folder}/disk`);
  return folder;
}

/** The whole lines of a stream: what is killed in the middle of one has not said it. */
async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    const found = (rest + chunk).split("\n");
    rest = found.pop()!;
    yield* found;
  }
}
