/**
 * Three nodes on this machine, each a process of its own, with three replicas of everything: beside one node that is
 * alone, and beside NATS JetStream with three replicas.
 *
 *     at the leader   all clients at one node, which leads the bucket of all their streams
 *     spread          clients over all three nodes, streams over all partitions: two of three appends are handed on
 *     reads           EGET and EPSCAN, with the readers at one, two and three of the nodes
 *     failover        from kill -9 of a leader under load until all of its buckets take appends again
 *
 * All servers are up all the time and share the machine's cores with the client, so what the nodes take of each other here
 * they would not on machines of their own. After each load all three nodes must have as many events as were acknowledged.
 *
 * @module
 */
import { bucketOf, partitionOf } from "../../core/placement.ts";
import { ClusterProcesses } from "../cluster_processes.ts";
import { ClusterState } from "../crash_cluster_state.ts";
import { type Address, Client, pipelined, type Plain, ReplyError } from "../resp_client.ts";
import { type ServerProcess } from "../server_process.ts";
import { type Bench, countedLoad, measure, scaled, startOurs, type Turn } from "./bench.ts";
import { load, type Loaded } from "./loader.ts";
import { ABOUT, NatsCluster, natsServer, publishes } from "./peers/nats.ts";
import { median } from "./percentiles.ts";
import { eappend, ID, newId, payloadOf, type Requests, streamHash, streamName, Template, VERSION } from "./requests.ts";

const SHAPES = [
  { partitions: 32, buckets: 4 },
  { partitions: 1024, buckets: 16 },
];
type Shape = (typeof SHAPES)[number];

const PAYLOAD = payloadOf(250);
const STREAMS = 10_000;
interface Load {
  clients: number;
  requests: number;
}
/** Before what is measured: servers run for days, and by then all of their code is compiled. */
const LONG_RUN: Load = { clients: 50, requests: 60_000 };
const LOADS: Load[] = [
  { clients: 1, requests: 2000 },
  { clients: 50, requests: 30_000 },
  { clients: 200, requests: 40_000 },
];
const SETTLED_MS_MAX = 60_000;

export async function measureCluster(bench: Bench): Promise<void> {
  // A smoke run sees each part once.
  for (const shape of bench.scale < 0.1 ? SHAPES.slice(0, 1) : SHAPES) await measureShape(bench, shape);
}

async function measureShape(bench: Bench, shape: Shape): Promise<void> {
  const { partitions, buckets } = shape;
  const flags = [`--partition-count=${partitions}`, `--bucket-count=${buckets}`];
  const name = `${partitions} partitions in ${buckets} buckets`;
  await using cluster = await ClusterProcesses.start({
    command: bench.command,
    init: flags,
    flags: [],
    direct: true,
    dir: bench.folder,
  });
  using state = new ClusterState(cluster);
  await state.settledLeaders(SETTLED_MS_MAX);
  {
    await using alone = await startOurs(bench, `alone-${buckets}`, flags);
    const found = await natsServer(bench.scale >= 0.1);
    if ("why" in found) bench.skip(`NATS beside ${name}`, found.why);
    await using nats = "why" in found ? null : await NatsCluster.start(found.path, `${bench.folder}/nats-${buckets}`);
    await measureAppends(bench, shape, name, cluster, state, alone, nats);
    await measureReads(bench, shape, name, cluster, alone);
  }
  await measureFailover(bench, shape, name, cluster, state);
}

// ---- Appends -----------------------------------------------------------------------------------------------------------

async function measureAppends(
  bench: Bench,
  shape: Shape,
  name: string,
  cluster: ClusterProcesses,
  state: ClusterState,
  alone: ServerProcess,
  nats: NatsCluster | null,
): Promise<void> {
  const leader = cluster.nodes[(await state.leaderOf(0, 0, 1, 2))!]!.address;
  const everywhere = cluster.nodes.map(({ address }) => address);
  const places = [
    { where: "at the leader", at: [leader], streams: streamsOf(shape, 0), natsStreams: 1 },
    { where: "spread", at: everywhere, streams: streamsOf(shape), natsStreams: shape.buckets },
  ];
  for (const { where, at, streams, natsStreams } of places) {
    const names = Array.from({ length: natsStreams }, (_, i) => `${where === "spread" ? "s" : "l"}${i}`);
    const natsLeaders: Address[] = [];
    for (const stream of nats === null ? [] : names) natsLeaders.push(await nats!.addStream(stream));
    const turnsOf = ({ clients, requests }: Load) => {
      const sized = (share: number) => ({ clients, pipeline: 1, requests: scaled(bench, share * requests, clients) });
      const natsAt = where === "spread" ? nats?.addresses : natsLeaders;
      const ours: Turn = (share) => countedEverywhere(everywhere, () => load(at, appendsTo(streams), sized(share)));
      const beside: { name: string; turn: Turn }[] = [{
        name: "one node",
        turn: (share) =>
          countedLoad(alone, (loaded) => loaded.requests, () => load(alone.address, appendsTo(streams), sized(share))),
      }];
      if (nats !== null) {
        const turn: Turn = (share) =>
          countedNats(nats, names, () => load(natsAt!, publishes(names, STREAMS, PAYLOAD), sized(share)));
        beside.push({ name: "NATS", turn });
      }
      return { ours, beside };
    };
    const long = turnsOf(LONG_RUN);
    for (const turn of [long.ours, ...long.beside.map(({ turn }) => turn)]) await turn(1);
    for (const sizes of LOADS) {
      const { clients } = sizes;
      const { ours, beside } = turnsOf(sizes);
      const [row] = await measure(bench, {
        name: `cluster, append ${where}, ${clients} clients, ${name}`,
        unit: "events/s",
        ours,
        beside,
        ...(nats !== null && { note: ABOUT }),
      });
      if (clients === 50) {
        const value = row!.ms!.msP50 / row!.beside!.ms!.msP50;
        bench.add({
          name: `cluster, append ${where}, 50 clients, ${name}: p50`,
          value,
          unit: "times that of one node",
        });
      }
    }
  }
}

/** Streams by number, of one bucket or of all. */
function streamsOf({ partitions, buckets }: Shape, bucket?: number): number[] {
  const streams: number[] = [];
  for (let stream = 0; streams.length < STREAMS; stream++) {
    const found = bucketOf(partitionOf(streamHash(stream), partitions), buckets);
    if (bucket === undefined || found === bucket) streams.push(stream);
  }
  return streams;
}

function appendsTo(streams: readonly number[]): Requests {
  const template = new Template(eappend(PAYLOAD, "no"));
  return {
    bytesMax: template.bytes.length,
    write: (into, at) => template.write(into, at, streams[Math.floor(Math.random() * streams.length)]!),
  };
}

/** After the load every node has as many more events as were acknowledged. */
async function countedEverywhere(addresses: readonly Address[], by: () => Promise<Loaded>): Promise<Loaded> {
  const before = await Promise.all(addresses.map(countOf));
  const loaded = await by();
  await allHave(addresses, before.map((count) => count + loaded.requests));
  return loaded;
}

async function countOf(address: Address): Promise<number> {
  using client = await Client.connect(address);
  return await client.call("DBSIZE") as number;
}

/** Followers hear a little later what is committed. */
async function allHave(addresses: readonly Address[], expected: readonly number[]): Promise<void> {
  const until = performance.now() + SETTLED_MS_MAX;
  for (;;) {
    const counts = await Promise.all(addresses.map(countOf));
    if (counts.every((count, i) => count === expected[i])) return;
    if (counts.some((count, i) => count > expected[i]!) || performance.now() > until) {
      throw new Error(`Acknowledged were ${expected.join(", ")} events, and ${counts.join(", ")} are stored`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function countedNats(nats: NatsCluster, names: readonly string[], by: () => Promise<Loaded>): Promise<Loaded> {
  const count = async () => (await Promise.all(names.map((name) => nats.messages(name)))).reduce((a, b) => a + b);
  const before = await count();
  const loaded = await by();
  const stored = await count() - before;
  if (stored !== loaded.requests) throw new Error(`NATS acknowledged ${loaded.requests} messages and stored ${stored}`);
  return loaded;
}

// ---- Reads -------------------------------------------------------------------------------------------------------------

const READ_EVENTS = 20_000;
const READERS = 24;
const GETS = 40_000;
const SCANS = 3000;
const PAGE = 100;
const PIPELINED = 500;

async function measureReads(
  bench: Bench,
  { partitions }: Shape,
  name: string,
  cluster: ClusterProcesses,
  alone: ServerProcess,
): Promise<void> {
  const ids: Uint8Array[] = [];
  const sequences = new Array<number>(partitions).fill(0);
  const everywhere = cluster.nodes.map(({ address }) => address);
  {
    using ours = await Client.connect(everywhere[0]!);
    using other = await Client.connect(alone.address);
    const before = await Promise.all(everywhere.map(countOf));
    const events = scaled(bench, READ_EVENTS, 500);
    await pipelined(Array(events).keys(), PIPELINED, async (i) => {
      const stream = i % STREAMS;
      const id = newId("random", stream).slice();
      ids.push(id);
      const words = ["EAPPEND", streamName(stream), "Happened", "EVENT_ID", textOf(id), "PAYLOAD", PAYLOAD];
      await Promise.all([ours.call(...words), other.call(...words)]);
    });
    await allHave(everywhere, before.map((count) => count + events));
    // What both have: the load before was by chance, and each had its own.
    for (let partition = 0; partition < partitions; partition++) {
      const ends = await Promise.all([ours, other].map((client) => client.call("EPSEQ", partition)));
      sequences[partition] = 1 + Math.min(...ends.map((end) => end as number | null ?? -1));
    }
    for (const address of [...everywhere, alone.address]) {
      using client = await Client.connect(address);
      const id = ids.at(-1)!;
      const found = await client.call("EGET", textOf(id)) as { [key: string]: Plain } | null;
      if (found === null) throw new Error(`An event that every node has is not found at ${address.port}`);
    }
  }
  const full = sequences.flatMap((end, partition) => end >= PAGE ? [partition] : []);
  const kinds = [{ what: "EGET", unit: "reads/s", each: 1, requests: GETS, by: gets(ids) }];
  if (full.length > 0) {
    const by = scans(full, sequences);
    kinds.push({ what: `EPSCAN, pages of ${PAGE}`, unit: "events/s", each: PAGE, requests: SCANS, by });
  }
  for (const { what, unit, each, requests, by } of kinds) {
    for (const nodes of [1, 2, 3]) {
      const turn = (at: readonly Address[]): Turn => (share) =>
        load(at, by, { clients: READERS, pipeline: 1, requests: scaled(bench, share * requests, READERS) });
      await measure(bench, {
        name: `cluster, ${what}, ${READERS} readers at ${nodes} of 3 nodes, ${name}`,
        ...{ unit, each },
        ours: turn(everywhere.slice(0, nodes)),
        beside: { name: "one node", turn: turn([alone.address]) },
      });
    }
  }
}

function textOf(id: Uint8Array): string {
  return id.toHex().replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function gets(ids: readonly Uint8Array[]): Requests {
  const template = new Template(["EGET", ID]);
  return {
    bytesMax: template.bytes.length,
    write: (into, at) => template.write(into, at, 0, ids[Math.floor(Math.random() * ids.length)]!),
  };
}

function scans(partitions: readonly number[], ends: readonly number[]): Requests {
  const templates = partitions.map((partition) =>
    new Template(["EPSCAN", String(partition), VERSION, "+", "COUNT", String(PAGE)])
  );
  return {
    bytesMax: Math.max(...templates.map(({ bytes }) => bytes.length)),
    write(into, at) {
      const i = Math.floor(Math.random() * partitions.length);
      const from = Math.floor(Math.random() * (ends[partitions[i]!]! - PAGE + 1));
      return templates[i]!.write(into, at, 0, undefined, from);
    },
  };
}

// ---- Failover ----------------------------------------------------------------------------------------------------------

const FAILOVERS = 5;
const WRITERS = 16;
const WARM_MS = 1000;
const AGAIN_MS = 5;

async function measureFailover(
  bench: Bench,
  { partitions, buckets }: Shape,
  name: string,
  cluster: ClusterProcesses,
  state: ClusterState,
): Promise<void> {
  const streams = Array.from({ length: buckets }, (_, bucket) => {
    let stream = 0;
    while (bucketOf(partitionOf(streamHash(stream), partitions), buckets) !== bucket) stream++;
    return streamName(stream);
  });
  const took: number[] = [];
  for (let round = 0; round < (bench.scale < 0.1 ? 1 : FAILOVERS); round++) {
    const victim = (await state.leaderOf(round % buckets, 0, 1, 2))!;
    const led = (await state.buckets(victim)).filter(({ leader }) => leader === victim).map(({ bucket }) => bucket);
    const others = cluster.nodes.filter(({ index }) => index !== victim).map(({ address }) => address);
    const before = await countOf(others[0]!);
    const writers = await Promise.all(
      Array.from({ length: WRITERS }, (_, i) => Writer.start(others[i % others.length]!, streams, i)),
    );
    await new Promise((resolve) => setTimeout(resolve, scaled(bench, WARM_MS, 200)));
    await cluster.nodes[victim]!.kill();
    const killed = performance.now();
    const again = await Promise.all(led.map((bucket, i) => served(others[i % others.length]!, streams[bucket]!)));
    took.push(performance.now() - killed);
    for (const writer of writers) await writer.stop();
    await cluster.nodes[victim]!.start();
    await state.settled(SETTLED_MS_MAX);
    const sum = (of: (writer: { stored: number; unknown: number }) => number) =>
      [...writers, ...again].map(of).reduce((a, b) => a + b);
    const stored = await countOf(others[0]!) - before;
    const [least, most] = [sum(({ stored }) => stored), sum(({ stored, unknown }) => stored + unknown)];
    if (stored < least || stored > most) {
      throw new Error(`${least} events were acknowledged, of ${most - least} nothing is known, ${stored} are stored`);
    }
  }
  bench.add({
    name: `cluster, kill -9 of a leader under load, ${name}: until all its buckets take appends`,
    value: median(took),
    unit: "ms, median",
    note: `from the kill to the first answer from each bucket; in each round ${
      took.map((ms) => ms.toFixed(0)).join(", ")
    }`,
  });
}

/** Appends one event after the other, and counts. */
class Writer {
  stored = 0;
  unknown = 0;
  #stops = false;
  #over!: Promise<void>;

  static async start(address: Address, streams: readonly string[], first: number): Promise<Writer> {
    const writer = new Writer();
    const client = await Client.connect(address);
    writer.#over = writer.#write(client, streams, first).finally(() => client[Symbol.dispose]());
    writer.#over.catch(() => {}); // `stop` tells.
    return writer;
  }

  async stop(): Promise<void> {
    this.#stops = true;
    await this.#over;
  }

  async #write(client: Client, streams: readonly string[], first: number): Promise<void> {
    for (let i = first; !this.#stops; i++) await append(client, streams[i % streams.length]!, this);
  }
}

/** Until an append to a stream that begins now is acknowledged. */
async function served(address: Address, stream: string): Promise<{ stored: number; unknown: number }> {
  using client = await Client.connect(address);
  const counts = { stored: 0, unknown: 0 };
  while (counts.stored === 0) await append(client, stream, counts);
  return counts;
}

async function append(client: Client, stream: string, counts: { stored: number; unknown: number }): Promise<void> {
  try {
    await client.call("EAPPEND", stream, "Happened", "PAYLOAD", PAYLOAD);
    counts.stored++;
  } catch (error) {
    if (!(error instanceof ReplyError)) throw error;
    if (error.message.startsWith("UNKNOWN")) counts.unknown++;
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}
