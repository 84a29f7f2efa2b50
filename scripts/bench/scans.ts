/**
 * Pages of a long stream and of a partition, beside XRANGE of the same events; by redis-benchmark.
 *
 * @module
 */
import { Client, encodeCommand, pipelined } from "../resp_client.ts";
import { respPeer } from "./appends.ts";
import { type Bench, measure, scaled, startOurs, type Turn } from "./bench.ts";
import { redisBenchmark } from "./redis_benchmark.ts";
import { payloadOf } from "./requests.ts";

const PAYLOAD = payloadOf(250);
const PAGE = 1000;
const KEY = "c0ffee00-0000-4000-8005-400000000000";
const EVENTS = 200_000;
const REQUESTS = 1000;
const CLIENTS = 4;

export async function measureScans(bench: Bench): Promise<void> {
  const peer = bench.peer?.name === "Redis" ? respPeer(bench) : undefined;
  const events = scaled(bench, EVENTS, 2 * PAGE);
  await using ours = await startOurs(bench, "scans-esker");
  await Deno.mkdir(`${bench.folder}/scans-peer`);
  await using theirs = await peer?.start(`${bench.folder}/scans-peer`);
  {
    using client = await Client.connect(ours.address);
    const command = encodeCommand(["EAPPEND", "long", "Happened", "PAYLOAD", PAYLOAD, "PARTITION_KEY", KEY]);
    await pipelined(Array(events).keys(), PAGE, async () => void await client.callEncoded(command));
  }
  if (theirs !== undefined) {
    using client = await Client.connect(theirs.address);
    await pipelined(Array(events).keys(), PAGE, async (id) => {
      await client.call("XADD", "long", `1-${id + 1}`, "name", "Happened", "payload", PAYLOAD);
    });
  }
  const count = ["COUNT", String(PAGE)];
  const by = (port: number, command: string[]): Turn => (share) => {
    const requests = scaled(bench, share * REQUESTS, 2 * CLIENTS);
    return redisBenchmark(port, { clients: CLIENTS, pipeline: 1, requests, randomBelow: events - PAGE + 1, command });
  };
  for (
    const [name, command] of [
      ["scan of a stream", ["ESCAN", "long", "__rand_int__", "+", ...count, "PARTITION_KEY", KEY]],
      ["scan of a partition", ["EPSCAN", KEY, "__rand_int__", "+", ...count]],
    ] as const
  ) {
    await measure(bench, {
      name: `${name}, pages of ${PAGE}`,
      unit: "events/s",
      each: PAGE,
      ours: by(ours.address.port, [...command]),
      beside: theirs && {
        name: "Redis, XRANGE",
        turn: by(theirs.address.port, ["XRANGE", "long", "1-__rand_int__", "+", ...count]),
      },
    });
  }
}
