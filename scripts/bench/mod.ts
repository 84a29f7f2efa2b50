/**
 * How fast, beside Redis, on the same disk in the same run.
 *
 *     appends    EAPPEND by redis-benchmark at 1, 50 and 200 clients and 50 × 16 pipelined, beside XADD of the same
 *                payload in `redis-server --appendonly yes --appendfsync always`: both answer when the disk has it
 *     scans      pages of a long stream and of a partition, beside XRANGE of the same events
 *     readers    catching up with history by EPSUB and EREAD, beside XREAD; and how late 1, 100 and 1,000 subscribers
 *                hear of an append, beside XREAD BLOCK: see subscriptions.ts
 *     start      from the start of the process to its first PONG: an empty folder, a million events after a clean stop
 *                and after kill -9
 *     memory     resident at rest and after a million events
 *
 * Appends and scans are paired: the two servers take turns, who begins changes, and the ratio is the median of the
 * ratios of the pairs. Both servers are up all the time, each with its default settings, and their folders lie side
 * by side. redis-benchmark uses one core; on a machine with two, the client and one server fill it.
 *
 *     deno task bench [--server "COMMAND"] [--only PART] [--scale 0.001] [--rounds N] [--folder FOLDER] [--json FILE]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { Client, encodeCommand, pipelined } from "../resp_client.ts";
import { serverCommand, ServerProcess } from "../server_process.ts";
import { describeMachine, type Machine } from "./machine.ts";
import { type Load, type Measured, redisBenchmark } from "./redis_benchmark.ts";
import { type CatchUp, type Latency, measureCatchUp, measureLive } from "./subscriptions.ts";

const PAYLOAD = "x".repeat(250);
const STREAMS = 10_000;
const PAGE = 1000;
const KEY = "c0ffee00-0000-4000-8005-400000000000";
const STARTS = 5;
const ROOT = new URL("../../", import.meta.url).pathname;

/** Requests so that a turn takes some seconds. */
const APPENDS = [
  { name: "1 client", clients: 1, pipeline: 1, requests: 12_000 },
  { name: "50 clients", clients: 50, pipeline: 1, requests: 150_000 },
  { name: "200 clients", clients: 200, pipeline: 1, requests: 250_000 },
  { name: "50 clients × 16", clients: 50, pipeline: 16, requests: 800_000 },
];
const SCAN_EVENTS = 200_000;
const SCAN_REQUESTS = 1000;
const CATCH_UP_EVENTS = 500_000;
const LIVE_APPENDS = 1000;
const MANY_EVENTS = 1_000_000;

interface Pair {
  ours: Measured;
  redis: Measured;
}

interface Compared {
  name: string;
  /** What is counted a second. */
  unit: string;
  perSecondOurs: number;
  perSecondRedis: number;
  /** The median of the ratios of the pairs, ours to Redis. */
  ratio: number;
  ratios: number[];
  ours: Measured;
  redis: Measured;
}

interface Single {
  name: string;
  value: number;
  unit: string;
}

interface Report {
  machine: Machine;
  server: string;
  scale: number;
  compared: Compared[];
  catchUp: CatchUp[];
  live: Latency[];
  single: Single[];
}

function redisServer(folder: string): Promise<ServerProcess> {
  return ServerProcess.start({
    command: ["redis-server"],
    folder,
    arguments: (folder, { hostname, port }) => [
      ...["--bind", hostname, "--port", String(port), "--dir", folder],
      ...["--appendonly", "yes", "--appendfsync", "always"],
      // No snapshots and no rewrite of the log in between: Redis does nothing here but what is measured.
      ...["--save", "", "--auto-aof-rewrite-percentage", "0"],
    ],
  });
}

/** Measures two loads in turns. Requests of the warm-up are not counted. */
async function pairs(
  rounds: number,
  ours: { port: number; load: Load },
  redis: { port: number; load: Load },
): Promise<Pair[]> {
  const warm = (load: Load) => ({ ...load, requests: Math.max(load.clients * load.pipeline, load.requests / 10 | 0) });
  await redisBenchmark(ours.port, warm(ours.load));
  await redisBenchmark(redis.port, warm(redis.load));
  const measured: Pair[] = [];
  for (let round = 0; round < rounds; round++) {
    const pair: Partial<Pair> = {};
    for (const who of round % 2 === 0 ? ["ours", "redis"] as const : ["redis", "ours"] as const) {
      const { port, load } = who === "ours" ? ours : redis;
      pair[who] = await redisBenchmark(port, load);
    }
    measured.push(pair as Pair);
  }
  return measured;
}

function compare(name: string, unit: string, measured: Pair[], perRequest: number): Compared {
  const ratios = measured.map(({ ours, redis }) => ours.requestsPerSecond / redis.requestsPerSecond);
  const middle = <T>(values: T[], of: (value: T) => number) =>
    values.toSorted((a, b) => of(a) - of(b))[values.length >> 1]!;
  const ours = middle(measured.map((pair) => pair.ours), (one) => one.requestsPerSecond);
  const redis = middle(measured.map((pair) => pair.redis), (one) => one.requestsPerSecond);
  return {
    name,
    unit,
    perSecondOurs: ours.requestsPerSecond * perRequest,
    perSecondRedis: redis.requestsPerSecond * perRequest,
    ratio: middle(ratios, (ratio) => ratio),
    ratios,
    ours,
    redis,
  };
}

async function measureAppends(
  esker: ServerProcess,
  redis: ServerProcess,
  rounds: number,
  scale: number,
): Promise<Compared[]> {
  const compared: Compared[] = [];
  using client = await Client.connect(esker.address);
  for (const { name, clients, pipeline, requests } of APPENDS) {
    const load = {
      clients,
      pipeline,
      requests: Math.max(clients * pipeline, Math.round(requests * scale)),
      randomBelow: STREAMS,
    };
    const before = await client.call("DBSIZE") as number;
    const measured = await pairs(
      rounds,
      { port: esker.address.port, load: { ...load, command: eappend("stream:__rand_int__") } },
      {
        port: redis.address.port,
        load: { ...load, command: ["XADD", "stream:__rand_int__", "*", "name", "Happened", "payload", PAYLOAD] },
      },
    );
    const stored = await client.call("DBSIZE") as number - before;
    if (stored < rounds * load.requests) throw new Error(`${rounds * load.requests} appends left ${stored} events`);
    compared.push(compare(`append, ${name}`, "appends/s", measured, 1));
    console.error(line(compared.at(-1)!));
  }
  return compared;
}

function eappend(stream: string): string[] {
  return ["EAPPEND", stream, "Happened", "PAYLOAD", PAYLOAD];
}

async function measureScans(
  esker: ServerProcess,
  redis: ServerProcess,
  rounds: number,
  scale: number,
): Promise<Compared[]> {
  const events = Math.max(2 * PAGE, Math.round(SCAN_EVENTS * scale));
  {
    using client = await Client.connect(esker.address);
    const command = encodeCommand([...eappend("long"), "PARTITION_KEY", KEY]);
    await pipelined(Array(events).keys(), PAGE, async () => void await client.callEncoded(command));
  }
  {
    using client = await Client.connect(redis.address);
    await pipelined(Array(events).keys(), PAGE, async (id) => {
      await client.call("XADD", "long", `1-${id + 1}`, "name", "Happened", "payload", PAYLOAD);
    });
  }
  const load = {
    clients: 4,
    pipeline: 1,
    requests: Math.max(8, Math.round(SCAN_REQUESTS * scale)),
    randomBelow: events - PAGE + 1,
  };
  const count = ["COUNT", String(PAGE)];
  const xrange = {
    port: redis.address.port,
    load: { ...load, command: ["XRANGE", "long", "1-__rand_int__", "+", ...count] },
  };
  const compared: Compared[] = [];
  for (
    const [name, command] of [
      ["scan of a stream", ["ESCAN", "long", "__rand_int__", "+", ...count, "PARTITION_KEY", KEY]],
      ["scan of a partition", ["EPSCAN", KEY, "__rand_int__", "+", ...count]],
    ] as const
  ) {
    const measured = await pairs(
      rounds,
      { port: esker.address.port, load: { ...load, command: [...command] } },
      xrange,
    );
    compared.push(compare(`${name}, pages of ${PAGE}`, "events/s", measured, PAGE));
    console.error(line(compared.at(-1)!));
  }
  return compared;
}

async function measureStarts(command: string[], folder: string, scale: number): Promise<Single[]> {
  const single: Single[] = [];
  const report = (name: string, value: number, unit: string) => {
    single.push({ name, value, unit });
    console.error(`${name}: ${value.toFixed(0)} ${unit}`);
  };
  const empty: number[] = [];
  for (let i = 0; i < (scale < 0.1 ? 1 : STARTS); i++) {
    await using server = await ServerProcess.start({ command });
    empty.push(server.readyMs);
    if (i === 0) report("resident memory at rest, empty", server.residentBytes() / 1024 / 1024, "MiB");
    await server.stop();
  }
  report("start to first PONG, empty folder", median(empty), "ms");

  const events = Math.max(1000, Math.round(MANY_EVENTS * scale));
  const data = `${folder}/many`;
  await Deno.mkdir(data);
  const named = `${events.toLocaleString("en")} events`;
  const load = {
    clients: 50,
    pipeline: 16,
    requests: events,
    randomBelow: STREAMS,
    command: eappend("stream:__rand_int__"),
  };
  {
    await using server = await ServerProcess.start({ command, folder: data });
    await redisBenchmark(server.address.port, load);
    report(`resident memory after ${named}`, server.residentBytes() / 1024 / 1024, "MiB");
    await server.stop();
  }
  {
    await using server = await ServerProcess.start({ command, folder: data });
    report(`start to first PONG, ${named}, after a clean stop`, server.readyMs, "ms");
    report(`resident memory after that start`, server.residentBytes() / 1024 / 1024, "MiB");
    await server.kill();
  }
  {
    await using server = await ServerProcess.start({ command, folder: data });
    report(`start to first PONG, ${named}, after kill -9 at rest`, server.readyMs, "ms");
    // The worst case: everything that the indexes do not have yet lies in the open part of the log.
    await redisBenchmark(server.address.port, { ...load, requests: Math.max(1000, Math.round(events / 10)) });
    await server.kill();
  }
  {
    await using server = await ServerProcess.start({ command, folder: data });
    report(`start to first PONG, a tenth more, after kill -9 right behind it`, server.readyMs, "ms");
    await server.stop();
  }
  return single;
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

function thousands(value: number): string {
  return value >= 100_000 ? `${(value / 1000).toFixed(0)} k` : `${(value / 1000).toFixed(1)} k`;
}

function line(one: Compared): string {
  return `${one.name}: ${thousands(one.perSecondOurs)} ${one.unit}, Redis ${thousands(one.perSecondRedis)}, ` +
    `ratio ${one.ratio.toFixed(2)}`;
}

function latencyLine({ name, subscribers, msP50, msP99, msMax }: Latency): string {
  return `live by ${name}, ${subscribers} subscribers: ` +
    `${msP50.toFixed(2)} ms 50 %, ${msP99.toFixed(2)} ms 99 %, ${msMax.toFixed(2)} ms at most`;
}

function print(report: Report): void {
  const { machine } = report;
  console.log(
    `\n${machine.cpu}, ${machine.cores} cores, ${machine.memoryMib} MiB, ${machine.kernel}, ${machine.fileSystem}`,
  );
  console.log(
    `write of 4 KiB and fdatasync: median ${machine.fdatasyncMsP50.toFixed(2)} ms, 99 % ${
      machine.fdatasyncMsP99.toFixed(2)
    } ms`,
  );
  console.log(`Deno ${machine.deno}: ${report.server}`);
  console.log(`Redis ${machine.redis}: --appendonly yes --appendfsync always`);
  console.log(
    `both sync before they answer; payload ${PAYLOAD.length} bytes, ${STREAMS} streams, scale ${report.scale}\n`,
  );
  const rows = [
    ["", "Esker /s", "Redis /s", "ratio", "(of each pair)", "ms 50 %", "95 %", "99 %", "Redis 50 %", "95 %", "99 %"],
    ...report.compared.map((one) => [
      one.name,
      thousands(one.perSecondOurs),
      thousands(one.perSecondRedis),
      one.ratio.toFixed(2),
      one.ratios.map((ratio) => ratio.toFixed(2)).join(" "),
      ...[one.ours, one.redis].flatMap(({ msP50, msP95, msP99 }) => [msP50, msP95, msP99].map((ms) => ms.toFixed(2))),
    ]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const row of rows) {
    console.log(row.map((cell, i) => i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)).join("  "));
  }
  console.log();
  for (const { name, eventsPerSecond } of report.catchUp) {
    console.log(`catch-up by ${name}, 100 bytes: ${thousands(eventsPerSecond)} events/s`);
  }
  console.log();
  for (const one of report.live) console.log(latencyLine(one));
  console.log();
  const width = Math.max(0, ...report.single.map((one) => one.name.length));
  for (const { name, value, unit } of report.single) {
    console.log(`${name.padEnd(width)}  ${value.toFixed(0).padStart(6)} ${unit}`);
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      server: { type: "string" },
      only: { type: "string" },
      scale: { type: "string", default: "1" },
      rounds: { type: "string" },
      folder: { type: "string" },
      json: { type: "string" },
    },
  });
  const scale = Number(values.scale);
  if (!(scale > 0)) throw new Error(`--scale is a number above 0: found ${values.scale}`);
  const parts = ["appends", "scans", "readers", "starts"];
  if (values.only !== undefined && !parts.includes(values.only)) {
    throw new Error(`--only is one of ${parts.join(", ")}`);
  }
  const wanted = (part: string) => values.only === undefined || values.only === part;
  const rounds = Number(values.rounds ?? (scale < 0.1 ? 1 : 3));
  const command = serverCommand(values.server);
  const folder = await Deno.makeTempDir({ prefix: "esker-bench-", ...(values.folder && { dir: values.folder }) });
  try {
    const machine = await describeMachine(folder);
    for (const name of ["esker", "redis"]) await Deno.mkdir(`${folder}/${name}`);
    const compared: Compared[] = [];
    let catchUp: CatchUp[] = [];
    let live: Latency[] = [];
    {
      await using esker = await ServerProcess.start({ command, folder: `${folder}/esker` });
      await using redis = await redisServer(`${folder}/redis`);
      if (wanted("appends")) compared.push(...await measureAppends(esker, redis, rounds, scale));
      if (wanted("scans")) compared.push(...await measureScans(esker, redis, rounds, scale));
      if (wanted("readers")) {
        const events = Math.max(5000, Math.round(CATCH_UP_EVENTS * scale));
        catchUp = await measureCatchUp(esker.address, redis.address, rounds, events);
        live = await measureLive(esker.address, redis.address, Math.max(5, Math.round(LIVE_APPENDS * scale)));
      }
    }
    const report: Report = {
      machine,
      server: command.join(" ").replace(Deno.execPath(), "deno").replaceAll(ROOT, ""),
      scale,
      compared,
      catchUp,
      live,
      single: wanted("starts") ? await measureStarts(command, folder, scale) : [],
    };
    print(report);
    if (values.json !== undefined) await Deno.writeTextFile(values.json, JSON.stringify(report, null, 2) + "\n");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
