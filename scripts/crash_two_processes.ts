/**
 * Two processes on one folder: the second one ends and says why, and the first goes on as if nothing had been.
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
import type { Tally } from "./tally.ts";

const WRITERS = 5;

export async function checkTwoProcesses(tally: Tally, command: string[], chance: Chance): Promise<void> {
  await tally.check("two processes on one folder", async () => {
    await using server = await ServerProcess.start({ command, flags: SMALL_FILES });
    const { folder } = server;
    const ledger = new Ledger();
    let over = false;
    const writers = Array.from({ length: WRITERS }, async (_, i) => {
      using client = await Client.connect(server.address);
      const own = new Chance(chance.below(2 ** 31));
      await write({ client, writer: `w-${i}`, own: `own-${i}`, chance: own, ledger, acknowledged: () => !over });
    });
    const [program, ...words] = command;
    const serve = () => ["serve", "-d", folder, "--client-address", `127.0.0.1:${freePort()}`, ...SMALL_FILES];
    try {
      // Beside the load, and two at a time; a check wants the folder for itself as well.
      for (const args of [[serve(), serve()], [serve(), ["check", folder]], [serve()]]) {
        const before = ledger.acks;
        const ends = args.map((more) =>
          new Deno.Command(program!, { args: [...words, ...more], stdin: "null" }).output()
        );
        for (const { code, stderr } of await Promise.all(ends)) {
          const said = new TextDecoder().decode(stderr);
          assert.equal(code, EXIT_CODES.inUse.code, said);
          assert.match(said, /is in use: another process has it open/);
        }
        assert(ledger.acks > before, "Nothing was acknowledged meanwhile");
      }
    } finally {
      over = true;
      await Promise.all(writers);
    }
    using client = await Client.connect(server.address);
    await ledger.verifyAll(client, chance);
    await server.kill();
    await using again = await ServerProcess.start({ command, folder, flags: SMALL_FILES });
    using reader = await Client.connect(again.address);
    await ledger.verifyAll(reader, chance);
    return `${ledger.acks} acknowledgements by the first; the others end with ${EXIT_CODES.inUse.code}`;
  });
}
