/**
 * The real thing: the program, or the binary, on real files, and what can happen to it there. Whatever was acknowledged
 * is there afterwards, and nothing is there by half.
 *
 *     kill       kill -9 at any moment, `--rounds` times
 *     power      a power cut: what was not synced never reached the files; a sixth of `--rounds`
 *     full       a full disk
 *     readonly   a folder that cannot be written
 *     two        two processes on one folder
 *     files      too few file descriptors
 *
 * With `--cluster` it is a cluster of three nodes, and what happens to that: see crash_cluster.ts. Some MiB are options of
 * it: `--behind MIB` that a replica lacks, `--seconds S` for which a node is cut off. `--only` takes several names.
 *
 *     deno task crash [--only NAME] [--server "COMMAND"] [--rounds N] [--clients N] [--acks N] [--seed N]
 *     deno task crash --cluster [--only NAME,NAME] [--server "COMMAND"] [--rounds N] [--seconds S] [--behind MIB] [--seed N]
 *     unshare --net scripts/deno task crash:namespaces [the same]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { Chance } from "../core/chance.ts";
import { checkCluster, scenariosFor } from "./crash_cluster.ts";
import { checkDescriptors } from "./crash_descriptors.ts";
import { checkFullDisk } from "./crash_full_disk.ts";
import { checkKills } from "./crash_kill.ts";
import { checkPowerCuts } from "./crash_power.ts";
import { checkReadOnly } from "./crash_read_only.ts";
import { checkTwoProcesses } from "./crash_two_processes.ts";
import { serverCommand } from "./server_process.ts";
import { Tally } from "./tally.ts";

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      server: { type: "string" },
      only: { type: "string" },
      rounds: { type: "string" },
      clients: { type: "string", default: "20" },
      acks: { type: "string", default: "600" },
      cluster: { type: "boolean", default: false },
      namespaces: { type: "boolean", default: false },
      seconds: { type: "string", default: "10" },
      behind: { type: "string", default: "64" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
    },
  });
  const command = serverCommand(values.server);
  const tally = new Tally();
  const seed = Number(values.seed), rounds = Number(values.rounds ?? (values.cluster ? 10 : 50));
  const chance = () => new Chance(seed); // Each check has its own: it draws the same when it runs alone.
  const checks: Record<string, () => Promise<void>> = {
    kill: () =>
      checkKills(tally, {
        command,
        rounds,
        clients: Number(values.clients),
        acks: Number(values.acks),
        chance: chance(),
      }),
    power: () => checkPowerCuts(tally, command, Math.ceil(rounds / 6), chance()),
    full: () => checkFullDisk(tally, command, chance()),
    readonly: () => checkReadOnly(tally, command, chance()),
    two: () => checkTwoProcesses(tally, command, chance()),
    files: () => checkDescriptors(tally, command, chance()),
  };
  const known = values.cluster ? scenariosFor(values.namespaces) : Object.keys(checks);
  const names = values.only?.split(",") ?? known;
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    console.error(`There is no check ${unknown}: there are ${known.join(", ")}`);
    Deno.exit(64);
  }
  console.log(`seed ${seed}`);
  if (values.cluster) {
    const behindBytes = Number(values.behind) * 2 ** 20;
    const { namespaces, seconds } = values;
    await checkCluster(tally, names, { command, rounds, seconds: Number(seconds), behindBytes, seed, namespaces });
  } else for (const name of names) await checks[name]!();
  Deno.exit(tally.end());
}
