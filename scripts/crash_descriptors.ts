/**
 * Too few file descriptors: with hardly enough the store works, with fewer it says so and does not begin.
 *
 * Files and sockets count together. Here so many clients connect that the process has none left, to a store with more
 * segments than it may hold open: those that are served are served as ever, through rolls, seals and changes of the
 * journal; the others wait, and are served when there is room.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../core/chance.ts";
import { EXIT_CODES } from "../program/exit_codes.ts";
import { Ledger } from "./crash_ledger.ts";
import { write } from "./crash_writer.ts";
import { Client, encodeCommand, Link, plain } from "./resp_client.ts";
import { freePort, ServerProcess } from "./server_process.ts";
import type { Tally } from "./tally.ts";

/** What the runtime and an idle store have open is some thirty. */
const HARDLY_ENOUGH = 80;
const TOO_FEW = 32;
const WRITERS = 5;
const ACKS = 1200;
/** Beside the writers: more than are left. */
const CROWD = 40;
const CROWDED_MS_MAX = 10_000;
const FLAGS = ["--segment-size-bytes=128KiB", "--journal-size-bytes=128KiB"];

export async function checkDescriptors(tally: Tally, command: string[], chance: Chance): Promise<void> {
  if (Deno.build.os === "windows") return tally.skip("few file descriptors", "the system has no ulimit");
  const folder = await Deno.makeTempDir({ prefix: "esker-files-" });
  const ledger = new Ledger();
  try {
    await tally.check(`${HARDLY_ENOUGH} file descriptors and ${CROWD} clients more`, async () => {
      await using server = await ServerProcess.start({
        command: limited(HARDLY_ENOUGH, command),
        folder,
        flags: FLAGS,
      });
      const clients = await Promise.all(Array.from({ length: WRITERS }, () => Client.connect(server.address)));
      try {
        await load(clients, "before", ledger, chance);
        const crowd = await Crowd.gather(server);
        await load(clients, "crowded", ledger, chance);
        await ledger.verifyAll(clients[0]!, chance);
        const served = await crowd.leave();
        await load(clients, "after", ledger, chance);
        await ledger.verifyAll(clients[0]!, chance);
        const files = filesIn(folder);
        assert(files > 2 * HARDLY_ENOUGH, `${files} files are too few to show anything`);
        assert.equal(await server.stop(), 0, server.output);
        return `${served} of them were served, the others waited; ${ledger.acks} acknowledgements, ${files} files`;
      } finally {
        for (const client of clients) client[Symbol.dispose]();
      }
    });
    await tally.check(`${TOO_FEW} file descriptors: it says so, and the store is as it was`, async () => {
      const [program, ...words] = limited(TOO_FEW, command);
      const args = [...words, "serve", "-d", folder, "--client-address", `127.0.0.1:${freePort()}`, ...FLAGS];
      const { code, stderr } = await new Deno.Command(program!, { args, stdin: "null" }).output();
      const said = new TextDecoder().decode(stderr);
      assert.equal(code, EXIT_CODES.tooFewFiles.code, said);
      assert.match(said, /"message":"Too few files may be open/);
      await using server = await ServerProcess.start({ command, folder, flags: FLAGS });
      using client = await Client.connect(server.address);
      await ledger.verifyAll(client, chance);
      return `it ends with ${code}`;
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function filesIn(folder: string): number {
  let files = 0;
  for (const { name, isDirectory } of Deno.readDirSync(folder)) files += isDirectory ? filesIn(`${folder}/${name}`) : 1;
  return files;
}

/** A command whose process may have so many files and sockets open. */
function limited(files: number, command: string[]): string[] {
  return ["sh", "-c", `ulimit -n ${files} && exec "$@"`, "sh", ...command];
}

/** Appends through clients that are connected. */
async function load(clients: Client[], name: string, ledger: Ledger, chance: Chance): Promise<void> {
  const wanted = ledger.acks + ACKS;
  await Promise.all(clients.map((client, i) =>
    write({
      client,
      writer: `${name}-${i}`,
      own: `own-${i}`,
      chance: new Chance(chance.below(2 ** 31)),
      ledger,
      acknowledged: () => ledger.acks < wanted,
    })
  ));
  assert(ledger.acks >= wanted, "A connection was lost");
}

/** Clients that connect, ask whether somebody is there, and stay. */
class Crowd {
  #answered = 0;
  #leaving = false;

  private constructor(readonly links: Link<unknown>[], readonly answers: Promise<Error | null>[]) {}

  /** Resolves when the server can take no more of them. */
  static async gather(server: ServerProcess): Promise<Crowd> {
    const crowd = new Crowd([], []);
    for (let i = 0; i < CROWD; i++) crowd.#join(await Link.open(server.address, plain));
    const deadline = performance.now() + CROWDED_MS_MAX;
    while (!server.output.includes("Could not accept a connection")) {
      assert(performance.now() < deadline, `Nothing is said of ${CROWD} clients too many:\n${server.output}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return crowd;
  }

  #join(link: Link<unknown>): void {
    this.links.push(link);
    const answer = async () => {
      await link.write(encodeCommand(["PING"]));
      assert.equal(await link.read(2), "PONG");
      this.#answered++;
      if (this.#leaving) link[Symbol.dispose]();
    };
    this.answers.push(answer().then(() => null, (error) => error)); // Told when all are asked for.
  }

  /** Those that were served leave, so that the others are, who then leave as well. How many were served at first. */
  async leave(): Promise<number> {
    const served = this.#answered;
    assert(served > 0 && served < CROWD, `${served} of ${CROWD} were served`);
    this.#leaving = true;
    for (const link of this.links.slice(0, served)) link[Symbol.dispose]();
    for (const failure of await Promise.all(this.answers)) if (failure !== null) throw failure;
    return served;
  }
}
