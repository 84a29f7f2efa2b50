import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { connect, typed } from "../resp/client/mod.ts";
import { serverCommand, ServerProcess } from "./server_process.ts";

const PERMISSIONS = ["--no-prompt", "--allow-net=127.0.0.1", "--allow-read", "--allow-write"];

/** An example as its user starts it. */
function example(name: string, ...args: string[]): Deno.Command {
  const script = fileURLToPath(new URL(`examples/${name}`, import.meta.url));
  return new Deno.Command(Deno.execPath(), {
    args: ["run", ...PERMISSIONS, script, ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  });
}

async function outputOf(command: Deno.Command): Promise<string> {
  const { success, stdout } = await command.output();
  const text = new TextDecoder().decode(stdout);
  assert.ok(success, text);
  return text;
}

Deno.test("the bank account serves ten at once and is not overdrawn, embedded and at a server", async () => {
  await using server = await ServerProcess.start({ command: serverCommand() });
  for (const args of [[], [`esker://127.0.0.1:${server.address.port}`]]) {
    const said = /^Alice has 0 cents at version 6: 5 of 10 withdrawals, (\d+) conflicts\n$/;
    assert.ok(Number(said.exec(await outputOf(example("bank_account.ts", ...args)))?.[1]) > 0);
  }
});

Deno.test("the projection that is killed goes on where its rows are, and has missed and doubled nothing", async () => {
  await using server = await ServerProcess.start({ command: serverCommand() });
  const target = `esker://127.0.0.1:${server.address.port}`;
  const folder = await Deno.makeTempDir({ prefix: "esker-projection-" });
  const file = `${folder}/balances.sqlite`;
  await using store = await connect(target);
  const accounts = typed<{ name: string; data: unknown }>(store);
  const append = async (from: number, to: number) => {
    for (let i = from; i < to; i++) {
      const deposits = Array.from({ length: 10 }, (_, j) => ({ name: "Deposited", data: { cents: i + j } }));
      const events = [...deposits, { name: "Withdrawn", data: { cents: i } }, { name: "Renamed", data: "no money" }];
      await accounts.append(`account-${i % 17}`, events);
    }
  };
  await append(0, 100);
  {
    const projection = example("projection.ts", file, target).spawn();
    const lines = projection.stdout.pipeThrough(new TextDecoderStream()).values();
    // It has rows, and live ones arrive while it dies.
    for (let output = ""; !output.includes("Has taken");) {
      output += (await lines.next()).value ?? assert.fail("it ended");
    }
    const appending = append(100, 150);
    projection.kill("SIGKILL");
    await Promise.all([appending, projection.status, lines.return?.()]);
  }
  const resumed = await outputOf(example("projection.ts", file, target, "--until-caught-up"));
  const behind = Number(/^Goes on behind (\d+) events/.exec(resumed)![1]);
  assert.ok(behind > 0 && behind < 1800, resumed);
  assert.match(resumed, /Has taken 1800 events\nThe balances of 17 accounts are those of the store\n$/);
  const again = await outputOf(example("projection.ts", file, target, "--until-caught-up"));
  assert.equal(again, "Goes on behind 1800 events\nThe balances of 17 accounts are those of the store\n");
  await Deno.remove(folder, { recursive: true });
});
