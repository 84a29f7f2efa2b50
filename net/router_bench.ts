/**
 * What the router adds to an append: 50 clients, each waiting for its answer, at the leader's store itself, at the node
 * that leads, and at one that forwards. All in one process, the line between the nodes and the disk in memory: what is
 * measured is the work of both nodes.
 *
 *     deno run --allow-read --allow-sys net/router_bench.ts
 *
 * @module
 */
import { openDatabase } from "../core/database.ts";
import { MemoryDisk } from "../core/log/memory_disk.ts";
import type { EventStore } from "../core/store.ts";
import { ClusterStore } from "./cluster.ts";
import type { ClusterShape } from "./consensus/topology.ts";
import type { LocalNode } from "./local.ts";
import { MemoryNetwork } from "./memory_transport.ts";

const SHAPE: ClusterShape = {
  clusterId: "bench",
  nodeCount: 2,
  partitionCount: 32,
  bucketCount: 1,
  replicationFactor: 1,
  segmentBytes: 64 * 1024 * 1024,
};
const CLIENTS = 50;
const APPENDS = 50_000;
const PAYLOAD = new Uint8Array(300);
const ROUNDS = 3;

function nodeOver(store: EventStore, leads: boolean): LocalNode {
  const commitChain = { low: 0, high: 0 };
  const ends = { logEnd: 0, durableEnd: 0, commitEnd: 0, commitChain };
  return {
    store,
    boot: 1,
    replica: () => leads ? { role: "serving", dataId: 1, term: 1, ...ends } : null,
    leaderOf: () => leads ? { node: 0, term: 1 } : null,
    append: (transaction, receiver) => store.appendFor!(transaction, receiver),
    readEnd: () => Promise.resolve(0),
    committed: () => Promise.resolve(true),
    readable: () => Promise.resolve(true),
    commitNote() {},
    suspected() {},
  };
}

async function appends(store: EventStore): Promise<string> {
  let left = APPENDS;
  const began = performance.now();
  await Promise.all(Array.from({ length: CLIENTS }, async (_, client) => {
    while (left-- > 0) {
      await store.append({ events: [{ streamId: `s-${client}`, name: "Happened", payload: PAYLOAD }] });
    }
  }));
  return `${((performance.now() - began) * 1000 / APPENDS).toFixed(1)} µs`;
}

if (import.meta.main) {
  const { partitionCount, bucketCount, segmentBytes } = SHAPE;
  const database = await openDatabase({
    dir: "/data",
    partitionCount,
    bucketCount,
    segmentBytes,
    disk: new MemoryDisk(),
  });
  const network = new MemoryNetwork(SHAPE.nodeCount);
  const nodes = [{ peerId: "0", addresses: [] }, { peerId: "1", addresses: [] }];
  const stores: ClusterStore[] = [];
  for (const node of nodes.keys()) {
    const transport = network.transport(node);
    const store = new ClusterStore({ shape: SHAPE, local: nodeOver(database, node === 0), transport, nodes });
    await transport.start(store.handlers);
    stores.push(store);
  }
  for (let round = 0; round < ROUNDS; round++) {
    console.log(
      `the store ${await appends(database)}, leading ${await appends(stores[0]!)}, forwarded ${await appends(
        stores[1]!,
      )}`,
    );
  }
  for (const store of stores) await store.close();
  await database.close();
}
