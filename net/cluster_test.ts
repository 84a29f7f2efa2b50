/**
 * The suite of every store, over nodes of a cluster: one that holds nothing and forwards everything, one that holds half,
 * and one that leads all. And what only a cluster can do wrong.
 *
 * @module
 */
import { openDatabase } from "../core/database.ts";
import type { AppendReceiver, Transaction } from "../core/event.ts";
import { MemoryDisk } from "../core/log/memory_disk.ts";
import { bucketOf } from "../core/placement.ts";
import type { EventStore, StoreStatus } from "../core/store.ts";
import { storeSuite } from "../core/store_suite.ts";
import { ClusterStore } from "./cluster.ts";
import { type ClusterShape, leaderOf, nodeOf, slotOf, termBeforeAll } from "./consensus/topology.ts";
import { dispatched } from "./dispatcher.ts";
import { type LocalNode, type LocalReplica, NotLeader } from "./local.ts";
import { MemoryNetwork } from "./memory_transport.ts";

const SEGMENT_BYTES = 1.5 * 1024 * 1024;

function shapeOf(nodeCount: number, bucketCount: number, replicationFactor: number): ClusterShape {
  const clusterId = "tested";
  return { clusterId, nodeCount, partitionCount: 32, bucketCount, replicationFactor, segmentBytes: SEGMENT_BYTES };
}

/** A node whose replicas lead their buckets for ever, each alone: slot 0 of each, with a store of its own. */
class LeadingNode implements LocalNode {
  readonly boot = 1;

  constructor(readonly node: number, readonly shape: ClusterShape, readonly store: EventStore) {}

  replica(bucket: number): LocalReplica | null {
    if (slotOf(bucket, this.node, this.shape) === null) return null;
    const role = this.#leads(bucket) ? "serving" as const : "recovering" as const;
    const term = termBeforeAll(this.shape.replicationFactor) + 1;
    const commitChain = { low: 0, high: 0 };
    return { role, dataId: 1, term, logEnd: 0, durableEnd: 0, commitEnd: 0, commitChain };
  }

  leaderOf(bucket: number): { node: number; term: number } | null {
    const replica = this.replica(bucket);
    return replica === null ? null : { node: leaderOf(bucket, replica.term, this.shape), term: replica.term };
  }

  append(transaction: Transaction, receiver: AppendReceiver): void {
    this.store.appendFor!(transaction, {
      stored: (appended) => {
        const bucket = bucketOf(appended.partition, this.shape.bucketCount);
        if (this.#leads(bucket)) receiver.stored(appended);
        else receiver.refused(new NotLeader(bucket, 0, null));
      },
      refused: (error) => receiver.refused(error),
    });
  }

  readEnd(bucket: number): Promise<number | null> {
    return Promise.resolve(this.#leads(bucket) ? 0 : null);
  }

  committed(): Promise<boolean> {
    return Promise.resolve(true);
  }

  async readable(partition: number, sequence: number): Promise<boolean> {
    return (await this.store.partitionSequence(partition) ?? -1) >= sequence;
  }

  commitNote(): void {}
  suspected(): void {}

  #leads(bucket: number): boolean {
    return nodeOf(bucket, 0, this.shape.nodeCount) === this.node;
  }
}

/** A node of a cluster; what is counted is that of all nodes. */
class CountedStore extends ClusterStore {
  behind: EventStore[] = [];

  override status(): StoreStatus {
    const all = this.behind.map((store) => store.status());
    const events = all.reduce((sum, { events }) => sum + events, 0);
    const appendedTransactions = all.reduce((sum, status) => sum + status.appendedTransactions, 0);
    return { ...all[0]!, events, appendedTransactions };
  }
}

const REPLICAS = { message() {}, linkUp() {}, linkDown() {}, writable() {} };

/** Runs the suite at a node of such a cluster. */
function suiteAt(name: string, at: number, shape: ClusterShape): void {
  storeSuite(name, async () => {
    const network = new MemoryNetwork(shape.nodeCount);
    const nodes = Array.from({ length: shape.nodeCount }, () => ({ peerId: "", addresses: [] }));
    const stores: CountedStore[] = [];
    const behind: EventStore[] = [];
    for (let node = 0; node < shape.nodeCount; node++) {
      const { partitionCount, bucketCount } = shape;
      const disk = new MemoryDisk();
      const options = {
        dir: "/data",
        partitionCount,
        bucketCount,
        segmentBytes: SEGMENT_BYTES,
        journalBytes: 256 * 1024,
      };
      behind.push(await openDatabase({ ...options, disk }));
      const transport = network.transport(node);
      const local = new LeadingNode(node, shape, behind[node]!);
      const store = new CountedStore({ shape, local, transport, nodes });
      await transport.start(dispatched(REPLICAS, store.handlers));
      store.behind = behind;
      stores.push(store);
    }
    return {
      store: stores[at]!,
      end: async () => {
        for (const store of stores) await store.close();
        for (const store of behind) await store.close();
      },
    };
  });
}

suiteAt("cluster, a node that holds nothing", 2, shapeOf(3, 2, 1));
suiteAt("cluster, a node that holds half", 0, shapeOf(2, 4, 1));
suiteAt("cluster, the node that leads", 0, shapeOf(3, 1, 3));
