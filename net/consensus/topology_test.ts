import assert from "node:assert/strict";
import { bucketOf } from "../../core/placement.ts";
import {
  checkShape,
  type ClusterShape,
  configHash,
  leaderOf,
  leaderSlot,
  nextTermOf,
  nodeOf,
  replicasOf,
  replicasOfPartition,
  slotOf,
  termBeforeAll,
} from "./topology.ts";

function shapeOf(nodeCount: number, replicationFactor: number, bucketCount = 16): ClusterShape {
  return { clusterId: "c", nodeCount, replicationFactor, bucketCount, partitionCount: 64, segmentBytes: 1 << 26 };
}

const SHAPES = [1, 2, 3, 5, 7].flatMap((nodes) =>
  [1, 2, 3, 5].filter((rf) => rf <= nodes).map((rf) => shapeOf(nodes, rf))
);

Deno.test("H1: storage, routing and replication agree about who holds a bucket, with fewer replicas than nodes, too", () => {
  for (const shape of SHAPES) {
    for (let bucket = 0; bucket < shape.bucketCount; bucket++) {
      const nodes = replicasOf(bucket, shape);
      assert.equal(new Set(nodes).size, shape.replicationFactor);
      for (let node = 0; node < shape.nodeCount; node++) {
        const slot = slotOf(bucket, node, shape);
        assert.equal(slot, nodes.includes(node) ? nodes.indexOf(node) : null);
        if (slot !== null) assert.equal(nodeOf(bucket, slot, shape.nodeCount), node);
      }
    }
    for (let partition = 0; partition < shape.partitionCount; partition++) {
      assert.deepEqual(
        replicasOfPartition(partition, shape),
        replicasOf(bucketOf(partition, shape.bucketCount), shape),
      );
    }
  }
});

Deno.test("H26: the leaders of the first terms are spread over all nodes", () => {
  for (const shape of SHAPES) {
    const led = new Array<number>(shape.nodeCount).fill(0);
    const term = nextTermOf(0, termBeforeAll(shape.replicationFactor), shape.replicationFactor);
    for (let bucket = 0; bucket < shape.bucketCount; bucket++) led[leaderOf(bucket, term, shape)]!++;
    assert.ok(Math.max(...led) - Math.min(...led) <= 1, `${led}`);
  }
});

Deno.test("H7: a term has one leader, and every slot has the next term of its own", () => {
  for (const replicationFactor of [1, 2, 3, 5]) {
    for (let term = 0; term < 40; term++) {
      for (let slot = 0; slot < replicationFactor; slot++) {
        const next = nextTermOf(slot, term, replicationFactor);
        assert.equal(leaderSlot(next, replicationFactor), slot);
        assert.ok(next > term && next <= term + replicationFactor);
      }
    }
  }
});

Deno.test("the first term that is begun belongs to slot 0", () => {
  for (const replicationFactor of [1, 2, 3, 5]) {
    assert.equal(leaderSlot(termBeforeAll(replicationFactor) + 1, replicationFactor), 0);
  }
});

Deno.test("configHash() differs with every part of the shape", () => {
  const shape = shapeOf(5, 3);
  const others: Partial<ClusterShape>[] = [
    ...[{ clusterId: "d" }, { nodeCount: 6 }, { replicationFactor: 2 }, { bucketCount: 8 }],
    ...[{ partitionCount: 32 }, { segmentBytes: 1 << 20 }],
  ];
  const hashes = [shape, ...others.map((other) => ({ ...shape, ...other }))].map(configHash);
  assert.equal(new Set(hashes).size, hashes.length);
  for (const hash of hashes) assert.match(hash, /^[0-9a-f]{16}$/);
  assert.equal(configHash({ ...shape }), configHash(shape));
});

Deno.test("checkShape() refuses what no cluster can be", () => {
  checkShape(shapeOf(3, 3));
  const refused: Partial<ClusterShape>[] = [
    ...[{ replicationFactor: 6 }, { replicationFactor: 0 }, { nodeCount: 1.5 }, { bucketCount: 65 }, { clusterId: "" }],
  ];
  for (const change of refused) assert.throws(() => checkShape({ ...shapeOf(5, 3), ...change }), RangeError);
});
