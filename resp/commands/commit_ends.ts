/**
 * How many entries of a bucket each replica knows to be committed, as far as this node has heard.
 *
 * @module
 */
import type { ClusterStatus } from "../../core/store.ts";

export type Bucket = ClusterStatus["buckets"][number];

/** What the replica at `node` said last; of this node, `self`, what is so. Null when nothing is known. */
export function commitEndAt(node: number, { own, commitEnds }: Bucket, self: number): number | null {
  return (node === self ? own?.commitEnd : undefined) ?? commitEnds.get(node) ?? null;
}

/** The most that any replica said. */
export function highestCommitEnd(bucket: Bucket, self: number): number | null {
  const ends = bucket.replicas.map((node) => commitEndAt(node, bucket, self)).filter((end) => end !== null);
  return ends.length === 0 ? null : Math.max(...ends);
}
