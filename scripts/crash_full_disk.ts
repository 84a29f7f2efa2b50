/**
 * A full disk: a state, and no crash.
 *
 * On a small disk clients append while somebody else fills it. Then appends are refused with DISKFULL and nothing else
 * changes: reads answer, a subscriber gets all that was acknowledged, the process lives; when there is room again,
 * appends are taken without a word from anybody. The same again with kill -9 and with a stop and a start on the full
 * disk. Once with a reserve and once without one, where the disk is full to its last byte.
 *
 * @module
 */
import assert from "node:assert/strict";
import { EXIT_CODES } from "../program/exit_codes.ts";
import { Chance } from "../core/chance.ts";
import { Ledger } from "./crash_ledger.ts";
import { write } from "./crash_writer.ts";
import { type Address, Client } from "./resp_client.ts";
import { freePort, ServerProcess } from "./server_process.ts";
import { SmallDisk } from "./small_disk.ts";
import type { Tally } from "./tally.ts";

const MIB = 1024 * 1024;
const DISK_BYTES = 48 * MIB;
const WRITERS = 10;
/** What is left when the clients begin to append, so that it is they who meet the end. */
const ROOM_BYTES = 4 * MIB;
const KILL_AFTER_REFUSALS = 500;
/** How long appends may still be refused when there is room, and a subscriber may be behind. */
const LATE_MS_MAX = 10_000;

export async function checkFullDisk(tally: Tally, command: string[], chance: Chance): Promise<void> {
  for (const reserveBytes of [4 * MIB, 0]) {
    const name = `full disk, ${reserveBytes === 0 ? "without a reserve" : `${reserveBytes / MIB} MiB in reserve`}`;
    const disk = await SmallDisk.make(DISK_BYTES);
    if (typeof disk === "string") {
      tally.skip(name, disk);
      continue;
    }
    await using _ = disk;
    await tally.check(name, () => story(disk, command, reserveBytes, chance));
  }
}

async function story(disk: SmallDisk, words: string[], reserveBytes: number, chance: Chance): Promise<string> {
  const command = disk.command(words), folder = `${disk.folder}/data`;
  const sizes = [`--segment-size-bytes=${MIB}`, `--journal-size-bytes=${MIB}`];
  const start = () =>
    ServerProcess.start({ command, folder, flags: [...sizes, `--disk-reserve-bytes=${reserveBytes}`] });
  const ledger = new Ledger();
  const refusals: string[] = [];
  let fills = 0;
  /** Clients append until all have been refused, or, with `refused`, until the connection is lost. */
  const fill = async (address: Address, refused?: () => void) => {
    fills++;
    const clients = await Promise.all(Array.from({ length: WRITERS }, () => Client.connect(address)));
    try {
      await Promise.all(clients.map((client, i) =>
        write({
          client,
          writer: `f${fills}-${i}`,
          own: `own-${i}`,
          chance: new Chance(chance.below(2 ** 31)),
          ledger,
          acknowledged: () => true,
          refused(error) {
            assert.equal(error.code, "DISKFULL", error.message);
            refusals.push(error.message);
            refused?.();
            return refused !== undefined;
          },
        })
      ));
    } finally {
      for (const client of clients) client[Symbol.dispose]();
    }
  };
  {
    await using server = await start();
    using client = await Client.connect(server.address);
    using follower = await Follower.start(server.address);
    await disk.fill("ballast", reserveBytes + ROOM_BYTES);
    await fill(server.address);
    await requireRefusal(client, ledger);
    await ledger.verifyAll(client, chance);
    await follower.has(ledger.events);

    await disk.run("rm", "-f", `${disk.folder}/ballast`);
    await appendWhenThereIsRoom(client, ledger);
    await disk.fill("ballast", reserveBytes + ROOM_BYTES);
    await fill(server.address);
    await disk.fill("more ballast", 0);
    await requireRefusal(client, ledger);
    await follower.has(ledger.events + ledger.acknowledgedEvents);
    const before = refusals.length;
    let killing: Promise<void> | null = null;
    await fill(server.address, () => {
      if (refusals.length - before >= KILL_AFTER_REFUSALS) killing ??= server.kill();
    });
    await killing;
  }
  assert.equal(await disk.freeBytes(), 0);
  {
    await using server = await start();
    using client = await Client.connect(server.address);
    await ledger.verifyAll(client, chance);
    await requireRefusal(client, ledger);
    assert.equal(await server.stop(), 0, server.output);
  }
  await requireNoNewFolder(disk, command, sizes);
  {
    await using server = await start();
    using client = await Client.connect(server.address);
    await ledger.verifyAll(client, chance);
    await disk.run("rm", "-f", `${disk.folder}/ballast`, `${disk.folder}/more ballast`);
    await appendWhenThereIsRoom(client, ledger);
    await ledger.verifyAll(client, chance);
    assert.equal(await server.stop(), 0, server.output);
  }
  await disk.run(...words, "check", folder);
  return `${ledger.events} events, ${refusals.length} refusals such as: ${refusals[0]}`;
}

/** A new store asks for room, says so, and is made when there is some. */
async function requireNoNewFolder(disk: SmallDisk, [program, ...words]: string[], sizes: string[]): Promise<void> {
  const folder = `${disk.folder}/new`;
  const args = [...words, "serve", "-d", folder, "--client-address", `127.0.0.1:${freePort()}`, ...sizes];
  const { code, stderr } = await new Deno.Command(program!, { args, stdin: "null" }).output();
  const said = new TextDecoder().decode(stderr);
  assert.equal(code, EXIT_CODES.cannotCreate.code, said);
  assert.match(said, /has no room|cannot be made/);
  await disk.run("rm", "-rf", folder);
}

async function requireRefusal(client: Client, ledger: Ledger): Promise<void> {
  // Larger than what the last page of a file may have left.
  const words = ["refused", "Happened", "PAYLOAD", new Uint8Array(128 * 1024)] as const;
  await assert.rejects(client.call("EAPPEND", ...words), (error: Error) => error.message.startsWith("DISKFULL "));
  assert.equal(await client.call("PING"), "PONG");
  assert.equal(await client.call("ESVER", "refused"), null);
  assert(ledger.acks > 0);
}

/** Goes on to append until it is taken. */
async function appendWhenThereIsRoom(client: Client, ledger: Ledger): Promise<void> {
  const deadline = performance.now() + LATE_MS_MAX;
  await write({
    client,
    writer: `again-${ledger.acks}`,
    own: "again",
    chance: new Chance(1),
    ledger,
    acknowledged: () => false,
    async refused({ message }) {
      assert(performance.now() < deadline, `There is room, and still: ${message}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
      return true;
    },
  });
}

/** Somebody who subscribes to all. */
class Follower implements Disposable {
  readonly #places = new Set<string>();
  #client: Client | null = null;
  #came = () => {};

  static async start(address: Address): Promise<Follower> {
    const follower = new Follower();
    follower.#client = await Client.connect(address, {
      onPush(items) {
        if (items[0] !== "message") return;
        const { partition_id, partition_sequence } = items[3] as Record<string, number>;
        follower.#places.add(`${partition_id}/${partition_sequence}`);
        follower.#came();
      },
    });
    await follower.#client.call("EPSUB", "*", "FROM", 0, "WINDOW", 1_000_000);
    return follower;
  }

  /** Resolves when so many events have come. */
  async has(events: number): Promise<void> {
    let timer: number | undefined;
    const late = new Promise<never>((_, reject) => {
      const say = () => reject(new Error(`A subscriber has ${this.#places.size} of ${events} events`));
      timer = setTimeout(say, LATE_MS_MAX);
    });
    const come = async () => {
      while (this.#places.size < events) await new Promise<void>((resolve) => this.#came = resolve);
    };
    await Promise.race([come(), late]).finally(() => clearTimeout(timer));
    assert.equal(this.#places.size, events, "A subscriber has more than was acknowledged");
  }

  [Symbol.dispose](): void {
    this.#client?.[Symbol.dispose]();
  }
}
