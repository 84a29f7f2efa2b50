/**
 * Appends into stores that begin empty: one event, with ids of each kind, transactions, and expected versions.
 *
 * @module
 */
import { type Address, Client } from "../resp_client.ts";
import { ServerProcess } from "../server_process.ts";
import { type Bench, countedLoad, measure, scaled, scaledSeconds, startOurs, type Turn } from "./bench.ts";
import { load, type LoaderOptions } from "./loader.ts";
import type { PostgresPeer } from "./peers/postgres.ts";
import type { RespPeer } from "./peers/peer.ts";
import { redisBenchmark } from "./redis_benchmark.ts";
import {
  appendsByChance,
  eappend,
  type Ids,
  payloadOf,
  type Requests,
  STREAM,
  streamName,
  Template,
  transactions,
  VERSION,
} from "./requests.ts";

const PAYLOAD = payloadOf(250);
const SMALL_PAYLOAD = payloadOf(100);
const STREAMS = 10_000;
const STREAM_RAND = STREAM.replace(/#+/, "__rand_int__");

/** Requests so that a turn takes some seconds. */
export const LOADS = [
  { name: "1 client", clients: 1, pipeline: 1, requests: 12_000 },
  { name: "50 clients", clients: 50, pipeline: 1, requests: 150_000 },
  { name: "200 clients", clients: 200, pipeline: 1, requests: 250_000 },
  { name: "50 clients × 16", clients: 50, pipeline: 16, requests: 800_000 },
];

/** How a load is told what share of it to do: a warm-up does less. */
export function sized(bench: Bench, { clients, pipeline, requests }: (typeof LOADS)[number], share: number) {
  return { clients, pipeline, requests: scaled(bench, share * requests, clients * pipeline) };
}

/** The same with no ids, by redis-benchmark, which is nobody's own; then by our loader with no ids and with both kinds. */
export async function measureAppends(bench: Bench): Promise<void> {
  const peer = respPeer(bench);
  await using servers = await Servers.start(bench, "appends", peer);
  const { ours, theirs } = servers;
  for (const one of LOADS) {
    const by = (server: ServerProcess, words: string[]): Turn => (share) =>
      redisBenchmark(server.address.port, { ...sized(bench, one, share), randomBelow: STREAMS, command: words });
    const words = (words: string[]) => words.map((word) => word.replace(STREAM, STREAM_RAND));
    await measure(bench, {
      name: `append, ${one.name}, redis-benchmark`,
      unit: "events/s",
      ours: countedAtLeast(ours, by(ours, words(eappend(PAYLOAD, "no"))), (share) => sized(bench, one, share).requests),
      beside: theirs && { name: peer!.name, turn: by(theirs, words(peer!.append(PAYLOAD, "no"))) },
    });
    for (const ids of ["no", "time-ordered", "random"] as Ids[]) {
      const turn = (count: Counted, words: string[]): Turn => (share) =>
        count((address) => load(address, appendsByChance(words, STREAMS, ids), sized(bench, one, share)), 1);
      await measure(bench, {
        name: `append, ${one.name}, ${ids} ids`,
        unit: "events/s",
        ours: turn(servers.countOurs, eappend(PAYLOAD, ids)),
        beside: theirs && { name: peer!.name, turn: turn(servers.countTheirs, peer!.append(PAYLOAD, ids)) },
      });
    }
  }
}

/** redis-benchmark may send a few more than it was told to. */
function countedAtLeast(server: ServerProcess, turn: Turn, events: (share: number) => number): Turn {
  return async (share) => {
    using client = await Client.connect(server.address);
    const before = await client.call("DBSIZE") as number;
    const measured = await turn(share);
    const stored = await client.call("DBSIZE") as number - before;
    if (stored < events(share)) throw new Error(`${events(share)} events were acknowledged and ${stored} are stored`);
    return measured;
  };
}

const TRANSACTION_CLIENTS = 8;
const TRANSACTION_EVENTS = 300_000;

export async function measureTransactions(bench: Bench): Promise<void> {
  const peer = respPeer(bench);
  await using servers = await Servers.start(bench, "transactions", peer);
  for (const events of [10, 100, 1000]) {
    const turn = (count: Counted, requests: Requests): Turn => (share) => {
      const size = scaled(bench, share * TRANSACTION_EVENTS / events, TRANSACTION_CLIENTS);
      return count(
        (address) => load(address, requests, { clients: TRANSACTION_CLIENTS, pipeline: 1, requests: size }),
        events,
      );
    };
    await measure(bench, {
      name: `EMAPPEND of ${events} events, ${TRANSACTION_CLIENTS} clients`,
      unit: "events/s",
      each: events,
      ours: turn(servers.countOurs, transactions(SMALL_PAYLOAD, events)),
      beside: servers.theirs && {
        name: `${peer!.name}, all or none`,
        turn: turn(servers.countTheirs, peer!.transaction(SMALL_PAYLOAD, events)),
      },
    });
  }
}

const VERSION_SECONDS = 5;
const VERSION_CLIENTS = [1, 50, 64, 200];
const HOT_CLIENTS = 64;

/** Appends that say at which version the stream must be. */
export async function measureVersions(bench: Bench): Promise<void> {
  await using ours = await startOurs(bench, "versions");
  await using postgres = bench.peer?.kind === "postgres" ? await bench.peer.start(`${bench.folder}/postgres`) : null;
  for (const clients of VERSION_CLIENTS) {
    const seconds = (share: number) => scaledSeconds(bench, share * VERSION_SECONDS);
    await measure(bench, {
      name: `append at an expected version, ${clients} clients, a stream each`,
      unit: "events/s",
      ours: (share) => versioned(ours, { clients, pipeline: 1, seconds: seconds(share) }, "each"),
      beside: postgres === null ? undefined : {
        name: (bench.peer as PostgresPeer).name,
        turn: (share) => postgres.insert(clients, SMALL_PAYLOAD, seconds(share)),
      },
    });
  }
  const options = { clients: HOT_CLIENTS, pipeline: 1, seconds: scaledSeconds(bench, VERSION_SECONDS * bench.rounds) };
  const name = `append at an expected version, ${HOT_CLIENTS} clients, one stream`;
  const { perSecond, msP50, msP95, msP99, msMax, refused, requests, byClient } = await versioned(ours, options, "one");
  bench.add({
    name,
    value: perSecond,
    unit: "events/s",
    ms: { msP50, msP95, msP99, msMax },
    note: "who is refused takes the version from the error and tries again; its time runs from the first try",
  });
  bench.add({ name: `${name}: refusals`, value: refused / requests, unit: "an append" });
  bench.add({ name: `${name}: appends of the client with the least`, value: Math.min(...byClient), unit: "events" });
  bench.add({ name: `${name}: appends of the client with the most`, value: Math.max(...byClient), unit: "events" });
}

let nextStream = 0;

function versioned(server: ServerProcess, options: LoaderOptions, streams: "each" | "one") {
  const stream = nextStream;
  nextStream += options.clients;
  const words = ["EAPPEND", STREAM, "Happened", "PAYLOAD", SMALL_PAYLOAD, "EXPECTED_VERSION"];
  const first = new Template([...words, "EMPTY"]), next = new Template([...words, VERSION]);
  /** What each client believes its stream's version to be. */
  const believed = Array(options.clients).fill(-1);
  const requests: Requests = {
    bytesMax: next.bytes.length,
    write(into, at, client) {
      const mine = streams === "each" ? stream + client : stream;
      const version = believed[client]!;
      return version < 0 ? first.write(into, at, mine) : next.write(into, at, mine, undefined, version);
    },
    accepted: (client) => void believed[client]!++,
    ...(streams === "one" && {
      refused(error, client) {
        const found = /^WRONGVER .*current version (\d+|empty)/.exec(error);
        if (found === null) throw new Error(`Expected WRONGVER and a version, found ${error}`);
        believed[client] = found[1] === "empty" ? -1 : Number(found[1]);
      },
    }),
  };
  return countedLoad(server, ({ requests }) => requests, async () => {
    const loaded = await load(server.address, requests, options);
    using client = await Client.connect(server.address);
    const version = await client.call("ESVER", streamName(stream)) as number;
    const expected = (streams === "each" ? loaded.byClient[0]! : loaded.requests) - 1;
    if (version !== expected) throw new Error(`Version ${expected} was acknowledged, the stream is at ${version}`);
    return loaded;
  });
}

/** A load of one side, after which as many more events are stored as were acknowledged. */
type Counted = (by: (address: Address) => ReturnType<typeof load>, events: number) => ReturnType<typeof load>;

/** Ours and the peer's, both up all the time, their folders side by side. */
class Servers implements AsyncDisposable {
  private constructor(
    readonly ours: ServerProcess,
    readonly theirs: ServerProcess | undefined,
    readonly peer: RespPeer | undefined,
  ) {}

  static async start(bench: Bench, name: string, peer: RespPeer | undefined): Promise<Servers> {
    const ours = await startOurs(bench, `${name}-esker`);
    try {
      const folder = `${bench.folder}/${name}-peer`;
      await Deno.mkdir(folder);
      return new Servers(ours, await peer?.start(folder), peer);
    } catch (cause) {
      await ours[Symbol.asyncDispose]();
      throw cause;
    }
  }

  readonly countOurs: Counted = (by, events) =>
    countedLoad(this.ours, ({ requests }) => events * requests, () => by(this.ours.address));

  readonly countTheirs: Counted = async (by, events) => {
    const { theirs, peer } = this;
    if (theirs === undefined || peer === undefined) throw new Error("There is no peer");
    if (peer.appended === undefined) return await by(theirs.address);
    using client = await Client.connect(theirs.address, { protocol: 2 });
    const before = await peer.appended(client);
    const loaded = await by(theirs.address);
    const stored = await peer.appended(client) - before;
    if (stored !== events * loaded.requests) {
      throw new Error(`${peer.name} acknowledged ${events * loaded.requests} events and stored ${stored}`);
    }
    return loaded;
  };

  async [Symbol.asyncDispose](): Promise<void> {
    await this.theirs?.[Symbol.asyncDispose]();
    await this.ours[Symbol.asyncDispose]();
  }
}

/** The peer, if it speaks RESP. */
export function respPeer(bench: Bench): RespPeer | undefined {
  return bench.peer?.kind === "resp" ? bench.peer : undefined;
}
