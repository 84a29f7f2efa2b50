/**
 * Who leads which bucket, as far as this node has heard, and whom to ask first. All of it are hints: whoever is asked
 * says himself whether he leads, and in which term.
 *
 * Of a bucket it is enough to know a term and whether somebody serves in it: who that is follows (topology.ts). What is
 * heard of an older term is old. This node's own replica is asked each time, and knows it best.
 *
 * @module
 */
import { type ClusterShape, leaderOf, replicasOf } from "./consensus/topology.ts";
import type { LocalNode } from "./local.ts";
import type { Transport } from "./transport.ts";

export interface Leader {
  readonly node: number;
  readonly term: number;
}

interface Known {
  term: number;
  /** The leader of this term has said that it serves, or another that it does. */
  serves: boolean;
}

export class Routes {
  readonly #shape: ClusterShape;
  readonly #local: LocalNode;
  readonly #transport: Pick<Transport, "node" | "peers" | "isLinked">;
  readonly #isSuspected: (node: number) => boolean;
  readonly #known: Known[];

  constructor(
    shape: ClusterShape,
    local: LocalNode,
    transport: Pick<Transport, "node" | "peers" | "isLinked">,
    isSuspected: (node: number) => boolean,
  ) {
    this.#shape = shape;
    this.#local = local;
    this.#transport = transport;
    this.#isSuspected = isSuspected;
    this.#known = Array.from({ length: shape.bucketCount }, () => ({ term: 0, serves: false }));
  }

  /** Whether this node has a replica that may be read. One that recovers lacks what it once acknowledged. */
  holds(bucket: number): boolean {
    const replica = this.#local.replica(bucket);
    return replica !== null && replica.role !== "recovering";
  }

  /** Who serves the bucket, as far as is known here. */
  leaderOf(bucket: number): Leader | null {
    const own = this.#local.leaderOf(bucket);
    if (own !== null) this.learn(bucket, own.term, own.node, this.#transport.node);
    const { term, serves } = this.#known[bucket]!;
    return serves ? { node: leaderOf(bucket, term, this.#shape), term } : null;
  }

  leads(bucket: number): boolean {
    return this.#local.leaderOf(bucket)?.node === this.#transport.node;
  }

  /** The newest term that was heard of. */
  termOf(bucket: number): number {
    return Math.max(this.#known[bucket]!.term, this.#local.replica(bucket)?.term ?? 0);
  }

  /** What `from` has said of a bucket. Returns whether another leader is known from now on. */
  learn(bucket: number, term: number, leader: number | null, from: number): boolean {
    const known = this.#known[bucket]!;
    const owner = leaderOf(bucket, term, this.#shape);
    if (term < known.term || leader !== null && leader !== owner) return false;
    if (leader === null && term === known.term) {
      // Nobody knows better than the owner itself whether it serves.
      if (from === owner) known.serves = false;
      return false;
    }
    const isNews = leader !== null && (term > known.term || !known.serves);
    known.term = term;
    known.serves = leader !== null;
    return isNews;
  }

  /** The other nodes with a replica to which there is a link: the leader first, those that seem to be down last. */
  replicas(bucket: number): number[] {
    const leader = this.leaderOf(bucket)?.node ?? null;
    const rank = (node: number) => node === leader ? 0 : this.#isSuspected(node) ? 2 : 1;
    return replicasOf(bucket, this.#shape)
      .filter((node) => node !== this.#transport.node && this.#transport.isLinked(node))
      .sort((a, b) => rank(a) - rank(b));
  }

  /** Linked nodes that may reach whom this one does not: those with a replica first. */
  relays(bucket: number, except: number | null): number[] {
    const replicas = this.replicas(bucket);
    const others = this.#transport.peers.filter((peer) =>
      !replicas.includes(peer) && this.#transport.isLinked(peer) && !this.#isSuspected(peer)
    );
    return [...replicas, ...others].filter((node) => node !== except);
  }
}
