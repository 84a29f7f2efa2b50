/**
 * What replicas say to replicas of other nodes, over the lanes of a transport.
 *
 * Heartbeats of all buckets to a node, and the replies to its own, go in one message: those of one turn of the event loop.
 * What a replica lacks that is far behind goes in the lane for bulk, and so does a message that is large: before it is
 * through, no heartbeat would come, and who leads would be taken for dead. So does what is appended meanwhile to the same
 * bucket, as long as some of that waits to leave, so that it does not come before what it follows from. Should it do so
 * nevertheless, it is refused and sent again.
 *
 * What finds no room is lost: a replica says all that matters until it is answered. Of entries it is told as soon as there
 * is room, or a new link: what follows after those that are lost is not sent meanwhile.
 *
 * @module
 */
import type { Log } from "../core/environment.ts";
import type { Message } from "./consensus/message.ts";
import { type ClusterShape, slotOf } from "./consensus/topology.ts";
import {
  type Beat,
  MessageDecoder,
  MessageEncoder,
  MessageRefused,
  type NodeMessage,
  type Packet,
} from "./messages.ts";
import type { Lane, Transport, TransportHandlers } from "./transport.ts";

export interface ReplicaLinksOptions {
  shape: ClusterShape;
  transport: Transport;
  log: Log;
  receive(packet: Packet): void;
  /** Of the entries that a bucket's replica sent to a node, those from `from` on may not have arrived. */
  lost(bucket: number, to: number, from: number): void;
}

export class ReplicaLinks {
  readonly #options: ReplicaLinksOptions;
  readonly #encoder: MessageEncoder;
  readonly #decoder: MessageDecoder;
  /** By node: what its next message of heartbeats has. */
  readonly #beats = new Map<number, Beat[]>();
  /** By node: buckets of which bulk is on its way. */
  readonly #inBulk = new Map<number, Set<number>>();
  /** By node: of which buckets entries found no room, and from which log index on. */
  readonly #unsent = new Map<number, Map<number, number>>();
  /** The message that was encoded last: it goes to several. */
  #last: { message: Message; bytes: Uint8Array } | null = null;

  constructor(options: ReplicaLinksOptions) {
    this.#options = options;
    this.#encoder = new MessageEncoder(options.shape);
    this.#decoder = new MessageDecoder(options.shape, options.transport.node);
  }

  send(to: number, packet: Packet): void {
    const { message } = packet;
    if (message.kind === "heartbeat" || message.kind === "heartbeatReply") {
      return this.#beat(to, { ...packet, message });
    }
    if (message.kind === "append" && this.#unsent.get(to)?.has(packet.bucket)) return;
    if (this.#last?.message !== message) {
      this.#last = { message, bytes: this.#encoded({ kind: "replica", ...packet }) };
      if (message.kind !== "append") queueMicrotask(() => this.#last = null);
    }
    const hasLeft = this.#options.transport.send(to, this.#laneOf(to, packet), this.#last.bytes);
    if (hasLeft || message.kind !== "append") return;
    let unsent = this.#unsent.get(to);
    if (unsent === undefined) this.#unsent.set(to, unsent = new Map());
    unsent.set(packet.bucket, message.from);
  }

  #beat(to: number, beat: Beat): void {
    const beats = this.#beats.get(to);
    if (beats !== undefined) return void beats.push(beat);
    if (this.#beats.size === 0) queueMicrotask(() => this.#sendBeats());
    this.#beats.set(to, [beat]);
  }

  #sendBeats(): void {
    for (const [to, beats] of this.#beats) {
      this.#options.transport.send(to, "replication", this.#encoded({ kind: "heartbeats", beats }));
    }
    this.#beats.clear();
  }

  #laneOf(to: number, { bucket, message }: Packet): Lane {
    if (message.kind !== "append" && message.kind !== "chunk") return "replication";
    let inBulk = this.#inBulk.get(to);
    if (inBulk === undefined) this.#inBulk.set(to, inBulk = new Set());
    if (inBulk.size > 0 && this.#options.transport.queuedBytes(to, "bulk") === 0) inBulk.clear();
    if (message.kind === "chunk" || message.bulk) inBulk.add(bucket);
    return inBulk.has(bucket) ? "bulk" : "replication";
  }

  #encoded(message: NodeMessage): Uint8Array {
    this.#encoder.add(message);
    return this.#encoder.take().slice();
  }

  /** For what the transport tells: of the lanes for replicas. */
  readonly handlers: Omit<TransportHandlers, "broadcast"> = {
    message: (from, _lane, bytes) => {
      const message = this.#decoder.decode(bytes);
      if (message.kind === "heartbeats") { for (const beat of message.beats) this.#receive(from, beat); }
      else if (message.kind === "replica") this.#receive(from, message);
      else throw new MessageRefused(0, `Node ${from} sent a ${message.kind} in a lane for replicas`);
    },
    linkUp: (peer) => {
      this.#unsent.delete(peer);
      for (let bucket = 0; bucket < this.#options.shape.bucketCount; bucket++) this.#options.lost(bucket, peer, 0);
    },
    linkDown: (peer) => void this.#inBulk.delete(peer),
    writable: (peer) => {
      const unsent = this.#unsent.get(peer);
      this.#unsent.delete(peer);
      for (const [bucket, from] of unsent ?? []) this.#options.lost(bucket, peer, from);
    },
  };

  #receive(from: number, packet: Packet): void {
    const { bucket } = packet;
    if (slotOf(bucket, from, this.#options.shape) !== packet.from.slot) {
      throw new MessageRefused(
        0,
        `Node ${from} speaks for slot ${packet.from.slot} of bucket ${bucket}, which is not its own`,
      );
    }
    this.#options.receive({ bucket, from: packet.from, message: packet.message });
  }
}
