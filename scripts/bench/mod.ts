/**
 * How fast, beside others, on the same disk in the same run.
 *
 *     appends       EAPPEND at 1, 50 and 200 clients and 50 × 16 pipelined, with no, time-ordered and random ids
 *     transactions  EMAPPEND of 10, 100 and 1,000 events
 *     versions      appends at an expected version: a stream for each client, and one for all
 *     scans         pages of a long stream and of a partition
 *     readers       catching up with history, and how late 1, 100 and 1,000 subscribers hear of an append
 *     starts        from the start of the process to its first PONG, and its memory, up to a million events
 *     big-reads     a store of --events events: reads, cold and warm, scans, starts, memory, bytes on disk
 *     big-appends   the same store: appends, beside an empty one; with ids and retries, beside those without
 *     cluster       three nodes on this machine: appends beside one node and beside NATS JetStream with three replicas,
 *                   reads at one, two and three nodes, and how long a killed leader is missed
 *     postgres-reads  PostgreSQL's reads of as many events
 *
 * What has a counterpart is paired: the two servers take turns, who begins changes, and the ratio is the median of the
 * ratios of the pairs. Both are up all the time, each with its default settings but what its line above the table says,
 * and their folders lie side by side. The client uses one core; on a machine with two, it and one server fill it.
 *
 * Milliseconds run from the sending of a request, or of the first of those that are pipelined with it, to its answer.
 * Each turn is warmed up by one of a tenth of its length. After every load it is checked that as many events more are
 * stored as were acknowledged; a refusal that is not measured ends the run.
 *
 *     deno task bench [--server "COMMAND"] [--peer redis|postgres|sierradb|none] [--sierradb PATH] [--only PART,PART]
 *                     [--events N] [--store FOLDER] [--scale 0.001] [--rounds N] [--folder FOLDER]
 *                     [--json FILE] [--compare FILE]
 *     deno task bench --soak N [--svg FILE] [--server "COMMAND"] [--folder FOLDER] [--json FILE]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { serverCommand } from "../server_process.ts";
import { measureAppends, measureTransactions, measureVersions } from "./appends.ts";
import type { Bench } from "./bench.ts";
import { measureBigAppends } from "./big_appends.ts";
import { measureBigReads } from "./big_reads.ts";
import { bigStore, clone, fillingOf } from "./big_store.ts";
import { measureCluster } from "./cluster.ts";
import { describeMachine, machineLines } from "./machine.ts";
import { openPeer, PEERS } from "./peers/peer.ts";
import { measurePostgresReads } from "./peers/postgres_reads.ts";
import { comparison, type Report, reportTable, rowLine } from "./report.ts";
import { measureScans } from "./scans.ts";
import { soak } from "./soak.ts";
import { measureStarts } from "./starts.ts";
import { measureReaders } from "./subscriptions.ts";

const EVENTS = 1_000_000;
const EVENTS_MIN = 1000;
const ROOT = new URL("../../", import.meta.url).pathname;

const PARTS: Record<string, (bench: Bench) => Promise<void>> = {
  "appends": measureAppends,
  "transactions": measureTransactions,
  "versions": measureVersions,
  "scans": measureScans,
  "readers": measureReaders,
  "starts": measureStarts,
  "big-reads": (bench) => onBigStore(bench, measureBigReads),
  "big-appends": (bench) => onBigStore(bench, measureBigAppends),
  "cluster": measureCluster,
  "postgres-reads": measurePostgresReads,
};

async function onBigStore(bench: Bench, part: typeof measureBigReads): Promise<void> {
  const filling = fillingOf(bench.events);
  await using copy = await clone(await bigStore(bench, filling));
  await part(bench, filling, copy);
}

function read() {
  const { values } = parseArgs({
    options: {
      server: { type: "string" },
      peer: { type: "string", default: "redis" },
      sierradb: { type: "string" },
      only: { type: "string" },
      events: { type: "string" },
      store: { type: "string" },
      scale: { type: "string", default: "1" },
      rounds: { type: "string" },
      folder: { type: "string" },
      json: { type: "string" },
      compare: { type: "string" },
      soak: { type: "string" },
      svg: { type: "string", default: "soak.svg" },
    },
  });
  const number = (name: "scale" | "events" | "rounds" | "soak", standard: number) => {
    const value = Number(values[name] ?? standard);
    if (!(value > 0)) throw new Error(`--${name} is a number above 0: found ${values[name]}`);
    return value;
  };
  const oneOf = (flag: string, names: readonly string[], given: string) => {
    if (!names.includes(given)) throw new Error(`--${flag} is one of ${names.join(", ")}: found ${given}`);
  };
  const parts = values.only?.split(",") ?? Object.keys(PARTS);
  for (const part of parts) oneOf("only", Object.keys(PARTS), part);
  oneOf("peer", PEERS, values.peer);
  const scale = number("scale", 1);
  return {
    ...values,
    parts,
    scale,
    rounds: Math.ceil(number("rounds", scale < 0.1 ? 1 : 3)),
    events: Math.max(EVENTS_MIN, Math.round(values.events === undefined ? EVENTS * scale : number("events", EVENTS))),
    soakEvents: values.soak === undefined ? null : Math.round(number("soak", EVENTS)),
  };
}

if (import.meta.main) {
  const flags = read();
  const command = serverCommand(flags.server);
  const earlier: Report | null = flags.compare === undefined
    ? null
    : JSON.parse(await Deno.readTextFile(flags.compare));
  const folder = await Deno.makeTempDir({ prefix: "esker-bench-", ...(flags.folder && { dir: flags.folder }) });
  try {
    const machine = await describeMachine(folder);
    const server = command.join(" ").replace(Deno.execPath(), "deno").replaceAll(ROOT, "");
    for (const line of machineLines(machine)) console.log(line);
    console.log(`Esker: ${server}, synced before it answers`);
    if (flags.soakEvents !== null) {
      await soak({ command, folder, events: flags.soakEvents, svg: flags.svg, json: flags.json, machine });
    } else {
      const peer = await openPeer(flags.peer, { sierradb: flags.sierradb });
      const about = typeof peer === "string" ? `nobody beside it: ${peer}` : peer.about;
      console.log(about);
      console.log(`scale ${flags.scale}, ${flags.rounds} rounds, a large store of ${flags.events} events\n`);
      const report: Report = {
        ...{ machine, server, peer: about, scale: flags.scale, events: flags.events },
        rows: [],
        skipped: [],
      };
      const bench: Bench = {
        ...{ command, folder, scale: flags.scale, rounds: flags.rounds, events: flags.events },
        ...(flags.store !== undefined && { store: flags.store }),
        peer: typeof peer === "string" ? null : peer,
        add(row) {
          report.rows.push(row);
          console.error(rowLine(row));
        },
        skip(name, why) {
          report.skipped.push({ name, why });
          console.error(`skipped ${name}: ${why}`);
        },
      };
      if (typeof peer === "string") bench.skip(`what is beside us by --peer ${flags.peer}`, peer);
      for (const part of flags.parts) await PARTS[part]!(bench);
      console.log(`\n${reportTable(report.rows)}`);
      for (const { name, why } of report.skipped) console.log(`skipped ${name}: ${why}`);
      if (earlier !== null) {
        console.log(`\nbeside ${flags.compare}: ${earlier.server}, ${earlier.machine.cpu}`);
        if (earlier.scale !== flags.scale) console.log(`measured at scale ${earlier.scale}, this at ${flags.scale}`);
        console.log(comparison(report.rows, earlier.rows));
      }
      if (flags.json !== undefined) await Deno.writeTextFile(flags.json, JSON.stringify(report, null, 2) + "\n");
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
