/**
 * kill -9 at any moment: whatever was acknowledged is there after the restart, and nothing is there by half.
 *
 * A round starts the server on what the round before left, looks at what is there (crash_ledger.ts), lets many clients
 * append (crash_writer.ts), and kills the server at its moment:
 *
 *     start      anywhere from the first instruction to the first answer
 *     recovery   when it has begun to write to the folder
 *     load       after some acknowledgements
 *     roll       when a new segment is made
 *     seal       when an index file is made
 *     idle       when all is answered, with what goes on behind the writers' backs
 *     stop       while it stops, as it was told
 *
 * At the end, and after each hundred, everything is read. So a round costs a start and a part of a second.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../core/chance.ts";
import { Ledger } from "./crash_ledger.ts";
import { write } from "./crash_writer.ts";
import { Client } from "./resp_client.ts";
import { freePort, ServerProcess } from "./server_process.ts";
import type { Tally } from "./tally.ts";

/** So small that a round rolls segments and changes journal files while it is killed. */
export const SMALL_BYTES = 256 * 1024;
export const SMALL_FILES = [`--segment-size-bytes=${SMALL_BYTES}`, `--journal-size-bytes=${SMALL_BYTES}`];

/** Then another one is begun: each start looks at all segments. */
const FOLDER_ROUNDS_MAX = 100;

const MOMENTS = ["start", "recovery", "load", "load", "roll", "seal", "idle", "stop"] as const;
type Moment = typeof MOMENTS[number];

/** What is made at the moment: of a segment the folder, because what comes in it at once is not always seen. */
const MADE: Partial<Record<Moment, RegExp>> = { roll: /\/segments\/\d{10}$/, seal: /\.[esp]idx(\.tmp)?$/ };
/** How long after the moment has come the process may still live. */
const AFTER_MS_MAX = { recovery: 12, roll: 3, seal: 6, idle: 30, stop: 30 };
/** Until a round has seen the moment it waits for, should it never come. */
const ACKS_MAX = 3000;

export interface Killing {
  command: string[];
  rounds: number;
  clients: number;
  /** Acknowledgements of a round under load, at most. */
  acks: number;
  chance: Chance;
}

export async function checkKills(tally: Tally, killing: Killing): Promise<void> {
  for (let done = 0; done < killing.rounds; done += FOLDER_ROUNDS_MAX) {
    const rounds = Math.min(FOLDER_ROUNDS_MAX, killing.rounds - done);
    if (!await killAgain(tally, { ...killing, rounds }, done)) return; // What follows would only say the same again.
  }
}

/** All rounds on one folder. Whether it was sound to the end. */
async function killAgain(tally: Tally, killing: Killing, done: number): Promise<boolean> {
  const { command, rounds, chance } = killing;
  const folder = await Deno.makeTempDir({ prefix: "esker-crash-" });
  const ledger = new Ledger();
  let readyMs = 200;
  let sound = true;
  for (let round = 0; sound && round < rounds; round++) {
    // First each of them in turn, the first two while the folder is being made; then chance decides.
    const moment = MOMENTS[round] ?? chance.pick(MOMENTS);
    sound = await tally.check(`kill -9 number ${done + round + 1}, ${moment}`, async () => {
      if (moment === "start" || moment === "recovery") {
        return await killStarting(command, folder, moment, chance, readyMs);
      }
      await using server = await ServerProcess.start({ command, folder, flags: SMALL_FILES });
      readyMs = server.readyMs;
      const unanswered = await look(server, ledger, chance);
      const before = ledger.acks;
      const after = await killUnderLoad(server, moment, `r${round}`, ledger, killing);
      return `${ledger.events} events from before, ${unanswered} of them new and without an answer; ` +
        `${ledger.acks - before} acknowledgements${after}; started in ${readyMs.toFixed(0)} ms`;
    });
  }
  sound &&= await tally.check(`kill -9, ${rounds} times, then everything read`, async () => {
    await using server = await ServerProcess.start({ command, folder, flags: SMALL_FILES });
    using client = await Client.connect(server.address);
    await ledger.verifyAll(client, chance);
    assert.equal(await server.stop(), 0, server.output);
    return `${ledger.events} events, ${ledger.acks} acknowledgements`;
  });
  // No two runs kill at the same moment: what failed is kept.
  if (sound) await Deno.remove(folder, { recursive: true });
  else console.log(`        the folder is kept: ${folder}`);
  return sound;
}

async function look(server: ServerProcess, ledger: Ledger, chance: Chance): Promise<number> {
  using client = await Client.connect(server.address);
  return await ledger.verifyNew(client, chance);
}

/** Starts a process and does not wait until it answers. */
async function killStarting(
  [program, ...words]: string[],
  folder: string,
  moment: "start" | "recovery",
  chance: Chance,
  readyMs: number,
): Promise<string> {
  using written = new Watch(folder, /./);
  const address = `127.0.0.1:${freePort()}`;
  const process = new Deno.Command(program!, {
    args: [...words, "serve", "-d", folder, "--client-address", address, ...SMALL_FILES],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  const began = performance.now();
  if (moment === "start") await pass(chance.below(readyMs));
  else {
    // A start writes to its folder even when there is nothing to redo. Should it end before, it is not waited for.
    await Promise.race([written.seen, process.status]);
    await pass(chance.below(AFTER_MS_MAX.recovery));
  }
  process.kill("SIGKILL");
  const lived = performance.now() - began;
  const { signal } = await process.status;
  assert.equal(signal, "SIGKILL", "The server ended by itself");
  return `after ${lived.toFixed(0)} ms${written.came ? "" : ", before it wrote anything"}`;
}

/** Lets clients append, and kills the server at its moment. What is to be told of it. */
async function killUnderLoad(
  server: ServerProcess,
  moment: Exclude<Moment, "start" | "recovery">,
  round: string,
  ledger: Ledger,
  { clients: count, acks, chance }: Killing,
): Promise<string> {
  const before = ledger.acks;
  // Before anything is watched: index files are made behind a start as well, and who is killed then takes no link.
  const clients = await Promise.all(Array.from({ length: count }, () => Client.connect(server.address)));
  const made = MADE[moment];
  using watch = made === undefined ? null : new Watch(server.folder, made);
  const wanted = before + (watch === null ? chance.between(1, acks) : ACKS_MAX);
  let killing: Promise<void> | null = null;
  const kill = async () => {
    if (moment === "stop") server.process.kill("SIGTERM");
    if (moment !== "load") await pass(chance.below(AFTER_MS_MAX[moment]));
    await server.kill();
  };
  watch?.seen.then(() => killing ??= kill());
  try {
    await Promise.all(clients.map((client, i) =>
      write({
        client,
        writer: `${round}-${i}`,
        own: `own-${i}`,
        chance: new Chance(chance.below(2 ** 31)),
        ledger,
        acknowledged() {
          if (ledger.acks < wanted) return true;
          if (moment === "idle") return false;
          killing ??= kill();
          return true;
        },
      })
    ));
    if (moment === "idle") killing ??= kill();
  } finally {
    for (const client of clients) client[Symbol.dispose]();
  }
  assert(killing !== null, `The server ended by itself:\n${server.output}`);
  await killing;
  return watch === null || watch.came ? "" : `, and no ${moment} among them`;
}

/** Sees whether something happens to a path below a folder. */
class Watch implements Disposable {
  /** Resolves when it does. */
  readonly seen: Promise<void>;
  came = false;
  readonly #watcher: Deno.FsWatcher;

  constructor(folder: string, path: RegExp) {
    const watcher = this.#watcher = Deno.watchFs(folder);
    const seen = Promise.withResolvers<void>();
    this.seen = seen.promise;
    (async () => {
      for await (const { kind, paths } of watcher) {
        const isNew = kind !== "access" && (path.source === "." || kind === "create");
        if (!isNew || !paths.some((one) => path.test(one))) continue;
        this.came = true;
        seen.resolve();
      }
    })();
  }

  [Symbol.dispose](): void {
    this.#watcher.close();
  }
}

function pass(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
