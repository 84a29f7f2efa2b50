/**
 * How fast the transport is between two processes on loopback:
 *
 *     deno run --allow-net --allow-read --allow-write --allow-run net/libp2p_transport_bench.ts
 *
 * @module
 */
import type { Lane } from "./transport.ts";
import { Cluster, type ClusterNode, NodeProcess } from "./transport_cluster.ts";
import { SWALLOW } from "./transport_process.ts";

const MESSAGE_BYTES = 300;
const ROUND_TRIPS = 3000;
const IN_FLIGHT = 256;
const FLIGHTS = 100_000;
const BULK_BYTES = 256 * 1024;
const BULKS = 600;

/** Resolves when the peer has answered so many messages in a lane. */
async function answers(node: ClusterNode, lane: Lane, count: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  node.onMessage = (_from, on) => void (on === lane && --count === 0 && resolve());
  await promise;
}

async function roundTrips(node: ClusterNode, count: number): Promise<string> {
  const waits = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const began = performance.now();
    const answered = answers(node, "replication", 1);
    node.transport.send(1, "replication", new Uint8Array(MESSAGE_BYTES));
    await answered;
    waits[i] = performance.now() - began;
  }
  waits.sort();
  const micros = (part: number) => `${(waits[Math.floor(count * part)]! * 1000).toFixed(0)} µs`;
  return `p50 ${micros(0.5)}, p99 ${micros(0.99)}`;
}

async function inFlight(node: ClusterNode): Promise<string> {
  const began = performance.now();
  let sent = 0;
  let came = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  const send = () => void (sent++ < FLIGHTS && node.transport.send(1, "replication", new Uint8Array(MESSAGE_BYTES)));
  node.onMessage = () => {
    if (++came === FLIGHTS) resolve();
    send();
  };
  while (sent < IN_FLIGHT) send();
  await promise;
  return `${Math.round(FLIGHTS / (performance.now() - began))} k messages/s`;
}

/** Keeps the bulk lane full until it is told to stop. */
function fill(node: ClusterNode, bulk: Uint8Array): { sent: number; stop(): void } {
  const filling = {
    sent: 0,
    stop: () => void (node.onWritable = null),
  };
  node.onWritable = () => {
    while (node.transport.send(1, "bulk", bulk)) filling.sent++;
  };
  node.onWritable(1, "bulk");
  return filling;
}

async function bulk(node: ClusterNode): Promise<string> {
  const began = performance.now();
  const bulk = new Uint8Array(BULK_BYTES).fill(SWALLOW);
  let sent = 0;
  await new Promise<void>((resolve) => {
    node.onWritable = () => {
      while (sent < BULKS && node.transport.send(1, "bulk", bulk)) sent++;
      if (sent === BULKS) resolve();
    };
    node.onWritable(1, "bulk");
  });
  node.onWritable = null;
  const last = answers(node, "bulk", 1);
  await node.until(() => node.transport.send(1, "bulk", new Uint8Array(1)));
  await last;
  return `${((BULKS * BULK_BYTES) / 1000 / (performance.now() - began)).toFixed(0)} MB/s`;
}

if (import.meta.main) {
  const began = performance.now();
  await using cluster = await Cluster.prepared(2);
  const node = await cluster.start(0);
  console.log(
    `started in ${(performance.now() - began).toFixed(0)} ms, RSS ${(Deno.memoryUsage().rss / 1e6).toFixed(0)} MB`,
  );
  const peer = new NodeProcess(cluster, 1);
  await node.until(() => node.ups === 1);
  for (let round = 1; round <= 2; round++) {
    console.log(`round trip, ${MESSAGE_BYTES} bytes:       ${await roundTrips(node, ROUND_TRIPS)}`);
    console.log(`${IN_FLIGHT} in flight:               ${await inFlight(node)}`);
    console.log(`bulk, ${BULK_BYTES / 1024} KiB messages:     ${await bulk(node)}`);
    const filling = fill(node, new Uint8Array(BULK_BYTES).fill(SWALLOW));
    const start = performance.now();
    const beside = await roundTrips(node, 300);
    filling.stop();
    const rate = filling.sent * BULK_BYTES / 1000 / (performance.now() - start);
    console.log(`round trip beside full bulk: ${beside}; bulk ${rate.toFixed(0)} MB/s`);
  }
  console.log(`RSS ${(Deno.memoryUsage().rss / 1e6).toFixed(0)} MB`);
  peer.kill();
  await peer.ended;
  await node.transport.close();
  Deno.exit();
}
