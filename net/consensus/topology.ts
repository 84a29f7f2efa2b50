/**
 * Where the replicas of a bucket are, and who leads it in a term. One function for storage, routing and replication.
 *
 *     partition ──► bucket ──► nodes, by slot            3 nodes, replication factor 2
 *                                                        bucket 0   node 0  node 1
 *                   leader of a term: the node in        bucket 1   node 1  node 2
 *                   slot (term mod replication factor)   bucket 2   node 2  node 0
 *
 * Leadership is arithmetic: two leaders of one term cannot exist. Slot 0 leads first, and a bucket's slot 0 moves on
 * with its number, so that leaders are spread over the nodes.
 *
 * The shape of a cluster never changes while it lives. All that a node must agree on with the others is in one text,
 * whose hash is stored with the data and sent with every message.
 *
 * @module
 */
import { bucketOf } from "../../core/placement.ts";

export interface ClusterShape {
  clusterId: string;
  nodeCount: number;
  partitionCount: number;
  bucketCount: number;
  replicationFactor: number;
  /** Where a log rolls follows from it, and sealed segments are the same files everywhere. */
  segmentBytes: number;
}

/** How a partition key becomes a partition. A node that counts otherwise must not take part. */
const PLACEMENT_VERSION = 1;

/** @throws {RangeError} no cluster can have this shape */
export function checkShape(shape: ClusterShape): void {
  const { clusterId, nodeCount, partitionCount, bucketCount, replicationFactor, segmentBytes } = shape;
  for (
    const [name, value] of Object.entries({ nodeCount, partitionCount, bucketCount, replicationFactor, segmentBytes })
  ) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new RangeError(`${name} must be a whole number from 1: ${value}`);
    }
  }
  if (clusterId === "" || clusterId.includes("\n")) throw new RangeError("A cluster needs an id of one line");
  if (replicationFactor > nodeCount) {
    throw new RangeError(`${replicationFactor} replicas need as many nodes: there are ${nodeCount}`);
  }
  if (bucketCount > partitionCount) {
    throw new RangeError(`${bucketCount} buckets need as many partitions: there are ${partitionCount}`);
  }
}

/** The nodes that hold a bucket, by slot. */
export function replicasOf(bucket: number, { nodeCount, replicationFactor }: ClusterShape): number[] {
  return Array.from({ length: replicationFactor }, (_, slot) => nodeOf(bucket, slot, nodeCount));
}

export function nodeOf(bucket: number, slot: number, nodeCount: number): number {
  return (bucket + slot) % nodeCount;
}

/** The slot of a node among the replicas of a bucket; null when it holds none. */
export function slotOf(bucket: number, node: number, { nodeCount, replicationFactor }: ClusterShape): number | null {
  const slot = (node - bucket % nodeCount + nodeCount) % nodeCount;
  return slot < replicationFactor ? slot : null;
}

/** The nodes that hold a partition, by slot. */
export function replicasOfPartition(partition: number, shape: ClusterShape): number[] {
  return replicasOf(bucketOf(partition, shape.bucketCount), shape);
}

/** The slot that leads in a term. */
export function leaderSlot(term: number, replicationFactor: number): number {
  return term % replicationFactor;
}

/** The node that leads a bucket in a term. */
export function leaderOf(bucket: number, term: number, shape: ClusterShape): number {
  return nodeOf(bucket, leaderSlot(term, shape.replicationFactor), shape.nodeCount);
}

/** The first term above `term` that a slot leads. */
export function nextTermOf(slot: number, term: number, replicationFactor: number): number {
  const next = term + 1;
  return next + (slot - next % replicationFactor + replicationFactor) % replicationFactor;
}

/** The term of a log that nobody has led yet: the first that is begun belongs to slot 0. */
export function termBeforeAll(replicationFactor: number): number {
  return replicationFactor - 1;
}

/** 64 bits, as 16 hex digits, that differ between clusters whose nodes would place or count otherwise. */
export function configHash(shape: ClusterShape): string {
  const text = configText(shape);
  // FNV-1a in two lanes, mixed with each other: it guards against mistakes, not against an enemy.
  let a = 0x811c9dc5;
  let b = 0x9dc5811c;
  for (let i = 0; i < text.length; i++) {
    a = Math.imul(a ^ text.charCodeAt(i), 0x01000193);
    b = Math.imul(b ^ text.charCodeAt(i) ^ a >>> 15, 0x85ebca6b);
  }
  return hex(a ^ b >>> 13) + hex(b ^ a >>> 16);
}

/** What the hash is made from, for a message that says in what two nodes differ. */
export function configText(shape: ClusterShape): string {
  const { clusterId, nodeCount, partitionCount, bucketCount, replicationFactor, segmentBytes } = shape;
  return [
    `cluster ${clusterId}`,
    `nodes ${nodeCount}`,
    `partitions ${partitionCount}`,
    `buckets ${bucketCount}`,
    `replicas ${replicationFactor}`,
    `segment ${segmentBytes}`,
    `placement ${PLACEMENT_VERSION}`,
  ].join("\n");
}

function hex(word: number): string {
  return (word >>> 0).toString(16).padStart(8, "0");
}
