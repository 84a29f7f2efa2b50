/**
 * `ECLUSTER`: the cluster as this node knows it: its nodes, where each bucket is, who leads it, and who is behind.
 *
 *     NODES                   each node: whether it is there, and how many buckets it leads and holds
 *     BUCKETS [bucket …]      each bucket: its replicas, its leader, and how far the log of this node's replica has come
 *     LEADERS [bucket …]      each node with the buckets that it leads; last, with leader null, those that nobody leads
 *     LAG [bucket …]          each bucket: how many committed entries each replica has still to hear of
 *
 * Numbers of other nodes are what they said last, so a lag may be told that is none any more. Null is what is not known.
 * A lone node answers as a cluster of one. It leads all, and its log is told without its ends: it does not count them.
 *
 * @module
 */
import { InvalidArgument } from "../../core/errors.ts";
import { TERM_ALONE } from "../../core/group.ts";
import type { ClusterStatus } from "../../core/store.ts";
import type { Arguments } from "../arguments.ts";
import type { Value } from "../value.ts";
import { unknownSubcommand } from "./client.ts";
import type { AnsweringCommand, Context } from "./command.ts";
import { type Bucket, commitEndAt, highestCommitEnd } from "./commit_ends.ts";

export const ecluster: AnsweringCommand = {
  name: "ECLUSTER",
  does: "answers",
  summary: "Tells about the nodes of the cluster, its buckets, their leaders, and replicas that are behind",
  syntax: "<NODES | BUCKETS [bucket:integer ...] | LEADERS [bucket:integer ...] | LAG [bucket:integer ...]>",
  group: "server",
  since: "0.1.0",
  prepare(args, context) {
    const subcommand = args.text("subcommand").toUpperCase();
    if (subcommand === "NODES") {
      args.end();
      return (reply) => reply.value(nodesOf(statusOf(context)));
    }
    const view = VIEWS.get(subcommand);
    if (view === undefined) throw unknownSubcommand(ecluster, subcommand);
    const asked = readBuckets(args, context);
    return (reply) => {
      const status = statusOf(context);
      const buckets = status.buckets.map((bucket, number) => ({ ...bucket, number }));
      reply.value(view(asked === null ? buckets : asked.map((number) => buckets[number]!), status));
    };
  },
};

type Numbered = Bucket & { number: number };

const VIEWS = new Map<string, (buckets: Numbered[], status: ClusterStatus) => Value>([
  ["BUCKETS", bucketsOf],
  ["LEADERS", leadersOf],
  ["LAG", lagsOf],
]);

/** The buckets that are named; null when none is, which is all of them. */
function readBuckets(args: Arguments, context: Context): number[] | null {
  if (args.left === 0) return null;
  const bucketCount = statusOf(context).buckets.length;
  const asked = new Set<number>();
  while (args.left > 0) {
    const bucket = args.number("bucket");
    if (bucket >= bucketCount) {
      throw new InvalidArgument(
        `There is no bucket ${bucket}: this store has ${bucketCount}, from 0 to ${bucketCount - 1}`,
      );
    }
    if (asked.has(bucket)) throw new InvalidArgument(`Bucket ${bucket} is named twice`);
    asked.add(bucket);
  }
  return [...asked];
}

/** What the store says of its cluster; of a lone node, the same of a cluster of one. */
function statusOf({ store, server }: Context): ClusterStatus {
  if (store.cluster !== undefined) return store.cluster();
  const bucket = { replicas: [0], term: TERM_ALONE, leader: 0, own: null, commitEnds: new Map<number, number>() };
  return {
    node: 0,
    clusterId: "",
    configHash: "",
    replicationFactor: 1,
    nodes: [{ peerId: server.peerId, addresses: [], linked: true, suspected: false, seenMs: 0 }],
    buckets: Array.from({ length: store.status().bucketCount }, () => bucket),
  };
}

function nodesOf({ node: self, nodes, buckets }: ClusterStatus): Value {
  return nodes.map(({ peerId, addresses, linked, suspected, seenMs }, node) =>
    new Map<string, Value>([
      ["node", node],
      ["peer_id", peerId],
      ["self", node === self],
      ["linked", node === self || linked], // Nobody needs a link to itself.
      ["suspected", suspected],
      ["seen_ms", seenMs],
      ["buckets_led", buckets.filter(({ leader }) => leader === node).length],
      ["buckets_held", buckets.filter(({ replicas }) => replicas.includes(node)).length],
      ["addresses", addresses],
    ])
  );
}

function bucketsOf(buckets: Numbered[], { node: self }: ClusterStatus): Value {
  return buckets.map(({ number, replicas, term, leader, own }) =>
    new Map<string, Value>([
      ["bucket", number],
      ["replicas", replicas],
      ["term", term],
      ["leader", leader],
      ["role", own?.role ?? (leader === self ? "serving" : null)], // A lone node leads, and tells nothing of its own.
      ["log_end", own?.logEnd ?? null],
      ["durable_end", own?.durableEnd ?? null],
      ["commit_end", own?.commitEnd ?? null],
      ["chain", own?.chain ?? null],
    ])
  );
}

function leadersOf(buckets: Numbered[], { nodes }: ClusterStatus): Value {
  const ledBy = (leader: number | null) =>
    new Map<string, Value>([
      ["leader", leader],
      ["buckets", buckets.filter((bucket) => bucket.leader === leader).map(({ number }) => number)],
    ]);
  const unled = buckets.some(({ leader }) => leader === null);
  return [...nodes.map((_, node) => ledBy(node)), ...unled ? [ledBy(null)] : []];
}

function lagsOf(buckets: Numbered[], { node: self }: ClusterStatus): Value {
  return buckets.map((bucket) => {
    const end = highestCommitEnd(bucket, self);
    const replicas = bucket.replicas.map((node) => {
      const commitEnd = commitEndAt(node, bucket, self);
      const known = end !== null && commitEnd !== null;
      // One that is the only one has no other to be behind.
      const lag = known ? end - commitEnd : bucket.replicas.length === 1 ? 0 : null;
      return new Map<string, Value>([["node", node], ["commit_end", commitEnd], ["lag", lag]]);
    });
    return new Map<string, Value>([["bucket", bucket.number], ["commit_end", end], ["replicas", replicas]]);
  });
}
