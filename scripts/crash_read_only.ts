/**
 * A folder that cannot be written: a start says so and ends, a check and a dump read it all the same, and no byte of it
 * is touched.
 *
 * Once by the rights of a user, once by a disk that is mounted to be read only; for a store that is there, which a
 * kill -9 has left with something to redo, and for one that is to be made. When it can be written again, all is there.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../core/chance.ts";
import { EXIT_CODES } from "../program/exit_codes.ts";
import { SMALL_FILES } from "./crash_kill.ts";
import { Ledger } from "./crash_ledger.ts";
import { write } from "./crash_writer.ts";
import { Client } from "./resp_client.ts";
import { freePort, ServerProcess } from "./server_process.ts";
import { SmallDisk } from "./small_disk.ts";
import type { Tally } from "./tally.ts";

const DISK_BYTES = 32 * 1024 * 1024;
const ACKS = 300;
const FLAGS = [...SMALL_FILES, "--disk-reserve-bytes=0"];
/** "nobody", who has a right to nothing. */
const AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
/** Paths, sizes, times and checksums of all that is below a folder. */
const LOOK = 'find "$1" -printf "%P %s %T@\\n" | sort && find "$1" -type f -exec cksum {} + | sort';

/** A folder, and how to make it one that cannot be written. */
interface Place {
  /** The data folder is made in it. */
  above: string;
  /** A command that can write there as long as anybody can. */
  command(words: string[]): string[];
  /** A command that cannot, once it is read only. */
  refused(words: string[]): string[];
  setReadOnly(readOnly: boolean): Promise<unknown>;
}

export async function checkReadOnly(tally: Tally, command: string[], chance: Chance): Promise<void> {
  await checkRights(tally, command, chance);
  const name = "a disk that is read only";
  const disk = await SmallDisk.make(DISK_BYTES);
  if (typeof disk === "string") return tally.skip(name, disk);
  await using _ = disk;
  const within = (words: string[]) => disk.command(words);
  const setReadOnly = (readOnly: boolean) => disk.setReadOnly(readOnly);
  const place = { above: disk.folder, command: within, refused: within, setReadOnly };
  await tally.check(name, () => story(place, command, chance));
}

async function checkRights(tally: Tally, command: string[], chance: Chance): Promise<void> {
  const name = "a folder that its user may not write";
  const asUser = Deno.uid() === 0 ? AS_NOBODY : []; // Rights do not bind root.
  if (asUser.length > 0) {
    if (command[0] === Deno.execPath()) {
      return tally.skip(name, "we are root, and nobody else has what the source needs");
    }
    const { code, stderr } = await output([...asUser, ...command, "--version"]);
    if (code !== 0) return tally.skip(name, `we are root, and the program cannot be run as nobody: ${stderr.trim()}`);
  }
  const above = await Deno.makeTempDir({ prefix: "esker-rights-" });
  const setReadOnly = (readOnly: boolean) => run(["chmod", "-R", readOnly ? "a+rX,a-w" : "u+w", above]);
  try {
    const place: Place = { above, command: (words) => words, refused: (words) => [...asUser, ...words], setReadOnly };
    await tally.check(name, () => story(place, command, chance));
  } finally {
    await setReadOnly(false);
    await Deno.remove(above, { recursive: true });
  }
}

async function story(
  { above, command, refused, setReadOnly }: Place,
  words: string[],
  chance: Chance,
): Promise<string> {
  const folder = `${above}/data`;
  const ledger = new Ledger();
  const start = () => ServerProcess.start({ command: command(words), folder, flags: FLAGS });
  {
    await using server = await start();
    using client = await Client.connect(server.address);
    const own = new Chance(chance.below(2 ** 31));
    await write({ client, writer: "w", own: "own", chance: own, ledger, acknowledged: () => ledger.acks < ACKS });
    await server.kill();
  }
  await setReadOnly(true);
  const look = command(["sh", "-c", LOOK, "sh", above]);
  const before = await run(look);
  const serve = (dir: string) => ["serve", "-d", dir, "--client-address", `127.0.0.1:${freePort()}`, ...FLAGS];
  const said: string[] = [];
  for (const args of [["check", folder], ["dump", folder]]) {
    const { code, stdout, stderr } = await output(refused([...words, ...args]));
    assert.equal(code, EXIT_CODES.done.code, stderr);
    assert(stdout !== "", `${args[0]} of what can be read only says nothing`);
  }
  for (const args of [serve(folder), serve(`${above}/new`)]) {
    const { code, stderr } = await output(refused([...words, ...args]));
    assert.equal(code, EXIT_CODES.cannotCreate.code, stderr);
    said.push(/"message":"(The data folder [^"]* cannot be (?:written|made): [^"]*)"/.exec(stderr)?.[1] ?? "");
    assert(said.at(-1) !== "", stderr);
  }
  assert.equal(await run(look), before, "The folder was written to");
  await setReadOnly(false);
  await using server = await start();
  using client = await Client.connect(server.address);
  await ledger.verifyAll(client, chance);
  assert.equal(await server.stop(), 0, server.output);
  return `it ends with ${EXIT_CODES.cannotCreate.code}: ${said[0]}`;
}

async function output([program, ...args]: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await new Deno.Command(program!, { args, stdin: "null" }).output();
  return { code, stdout: new TextDecoder().decode(stdout), stderr: new TextDecoder().decode(stderr) };
}

/** What a command says that ends well. */
async function run(words: string[]): Promise<string> {
  const { code, stdout, stderr } = await output(words);
  if (code !== 0) throw new Error(`${words[0]} ended with ${code}: ${stderr.trim()}`);
  return stdout;
}
