/**
 * What this node tells all others once a second, and what it makes of what they tell: where they serve, how far they have
 * committed, and that they live.
 *
 * All of it are hints. Who leads is a place to ask first; that an end is committed, the replica compares with its own
 * chain; that a node seems to be down makes a replica ask its majority sooner. Nothing is decided here.
 *
 * @module
 */
import type { Environment, Log } from "../core/environment.ts";
import { Membership } from "./consensus/membership.ts";
import { type ClusterShape, nodeOf, slotOf } from "./consensus/topology.ts";
import type { LocalNode } from "./local.ts";
import { type Beacon, type BucketState, MessageDecoder, MessageEncoder, MessageRefused } from "./messages.ts";
import { every, type Timers } from "./timers.ts";
import type { Transport } from "./transport.ts";

const BEACON_MS = 1000;

export interface BeaconsOptions {
  shape: ClusterShape;
  local: LocalNode;
  transport: Transport;
  environment: Environment;
  timers: Timers;
  log: Log;
  /** Of this node, by which others may reach it. */
  addresses: readonly string[];
}

export class Beacons {
  readonly #shape: ClusterShape;
  readonly #local: LocalNode;
  readonly #transport: Transport;
  readonly #environment: Environment;
  readonly #timers: Timers;
  readonly #log: Log;
  readonly #addresses: readonly string[];
  readonly #membership: Membership;
  readonly #encoder: MessageEncoder;
  readonly #decoder: MessageDecoder;
  readonly #buckets: readonly number[];
  /** By node: what it said last, and when. */
  readonly #heard = new Map<number, { beacon: Beacon; at: number }>();
  readonly #suspected = new Map<number, number>();
  #number = 0;
  #stop = () => {};

  constructor({ shape, local, transport, environment, timers, log, addresses }: BeaconsOptions) {
    this.#shape = shape;
    this.#local = local;
    this.#transport = transport;
    this.#environment = environment;
    this.#timers = timers;
    this.#log = log;
    this.#addresses = addresses;
    this.#membership = new Membership(transport.node, shape.nodeCount);
    this.#encoder = new MessageEncoder(shape);
    this.#decoder = new MessageDecoder(shape, transport.node);
    this.#buckets = Array.from({ length: shape.bucketCount }, (_, bucket) => bucket)
      .filter((bucket) => slotOf(bucket, transport.node, shape) !== null);
  }

  start(): void {
    this.#stop = every(BEACON_MS, this.#timers, () => {
      this.send();
      this.#suspect();
    });
  }

  stop(): void {
    this.#stop();
  }

  isSuspected(node: number): boolean {
    return this.#membership.isSuspected(node, this.#environment.monotonic());
  }

  /** Milliseconds since a node was heard; null when it never was. */
  silenceMs(node: number): number | null {
    const heard = this.#heard.get(node);
    return heard === undefined ? null : this.#environment.monotonic() - heard.at;
  }

  /** What the others said last of their committed ends, by node. */
  commitEnds(bucket: number): ReadonlyMap<number, number> {
    const ends = new Map<number, number>();
    for (const [node, { beacon }] of this.#heard) {
      const state = beacon.buckets.find((state) => state.bucket === bucket);
      if (state !== undefined) ends.set(node, state.commitEnd);
    }
    return ends;
  }

  send(): void {
    const { node } = this.#transport;
    const { boot } = this.#local;
    const buckets = this.#buckets.map((bucket) => this.#stateOf(bucket)).filter((state) => state !== null);
    const addresses = this.#addresses;
    this.#encoder.add({ kind: "beacon", node, boot, number: ++this.#number, addresses, buckets });
    this.#transport.broadcast(this.#encoder.take().slice());
  }

  /** What a node has broadcast; null when it is no news, or not its own. */
  take(from: number, bytes: Uint8Array): Beacon | null {
    let beacon;
    try {
      beacon = this.#decoder.decode(bytes);
    } catch (error) {
      if (!(error instanceof MessageRefused)) throw error;
      this.#log("warn", "A node has broadcast what is no beacon", { node: from, cause: error });
      return null;
    }
    if (beacon.kind !== "beacon" || beacon.node !== from) return null;
    const at = this.#environment.monotonic();
    if (!this.#membership.heard(beacon, at)) return null;
    this.#heard.set(from, { beacon, at });
    for (const { bucket, commitEnd, chain } of beacon.buckets) {
      if (this.#buckets.includes(bucket)) this.#local.commitNote(bucket, commitEnd, chain);
    }
    this.#suspect();
    return beacon;
  }

  linkUp(peer: number): void {
    this.#membership.linked(peer, this.#environment.monotonic());
    this.#suspect();
  }

  linkDown(peer: number): void {
    this.#membership.cut(peer);
    this.#suspect();
  }

  #stateOf(bucket: number): BucketState | null {
    const replica = this.#local.replica(bucket);
    if (replica === null) return null;
    const { dataId, term, commitEnd, commitChain } = replica;
    const leader = this.#local.leaderOf(bucket);
    return {
      bucket,
      dataId,
      term,
      leader: leader?.term === term ? leader.node : null,
      commitEnd,
      chain: commitChain,
    };
  }

  #suspect(): void {
    const now = this.#environment.monotonic();
    const { replicationFactor, nodeCount } = this.#shape;
    for (const bucket of this.#buckets) {
      const slots = this.#membership.suspectedSlots(bucket, replicationFactor, now);
      if (slots === (this.#suspected.get(bucket) ?? 0)) continue;
      this.#suspected.set(bucket, slots);
      this.#log("debug", "Nodes of a bucket seem to be down, or to be back", {
        bucket,
        suspected: Array.from({ length: replicationFactor }, (_, slot) => slot)
          .filter((slot) => slots >> slot & 1).map((slot) => nodeOf(bucket, slot, nodeCount)),
      });
      this.#local.suspected(bucket, slots);
    }
  }
}
