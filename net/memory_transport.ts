/**
 * Transports of one process, joined by memory: the port of transport.ts without sockets, for tests of what stands on it.
 *
 * A message comes in a later step than it was sent, those of a lane in their order. `cut` takes a link away as a broken
 * line would, with all that is on its way. `hold` keeps what one node sends another from coming until `release`: a peer
 * that is stopped, or a slow line.
 *
 * @module
 */
import { LimitExceeded } from "../core/errors.ts";
import {
  BROADCAST_BYTES_MAX,
  type Lane,
  type PausableLane,
  type Transport,
  type TransportHandlers,
} from "./transport.ts";

const MESSAGE_BYTES_MAX = 65 * 1024 * 1024;
const LANE_BYTES_MAX = 32 * 1024 * 1024;

/** What one node sends another in a lane. */
interface Queue {
  readonly messages: Uint8Array[];
  bytes: number;
  /** Somebody was refused, and is to be told of room. */
  isFull: boolean;
  running: boolean;
  paused: boolean;
}

/** The lines between the nodes. All are whole at first; a node is on them from its `start` to its `close`. */
export class MemoryNetwork {
  readonly #nodes: (MemoryTransport | null)[];
  readonly #cuts = new Set<string>();
  readonly #held = new Set<string>();
  /** Room of a lane. */
  laneBytesMax = LANE_BYTES_MAX;

  constructor(readonly nodeCount: number) {
    this.#nodes = new Array(nodeCount).fill(null);
  }

  transport(node: number): MemoryTransport {
    return new MemoryTransport(this, node);
  }

  /** Takes the link between two nodes away until `heal`. */
  cut(a: number, b: number): void {
    if (this.#cuts.has(line(a, b))) return;
    this.#unlink(a, b, "the line is cut");
    this.#cuts.add(line(a, b));
  }

  heal(a: number, b: number): void {
    if (this.#cuts.delete(line(a, b))) this.#link(a, b);
  }

  /** What `from` sends does not come, and the link stays. */
  hold(from: number, to: number): void {
    this.#held.add(`${from} ${to}`);
  }

  release(from: number, to: number): void {
    this.#held.delete(`${from} ${to}`);
    this.#nodes[from]?.run(to);
  }

  isHeld(from: number, to: number): boolean {
    return this.#held.has(`${from} ${to}`);
  }

  /** The other end of a link, if there is one. */
  linked(a: number, b: number): MemoryTransport | null {
    const ends = [this.#nodes[a], this.#nodes[b]];
    return a === b || ends.includes(null) || this.#cuts.has(line(a, b)) ? null : ends[1]!;
  }

  join(transport: MemoryTransport): void {
    const { node } = transport;
    if (this.#nodes[node] !== null) throw new Error(`Node ${node} is there already`);
    this.#nodes[node] = transport;
    for (const peer of transport.peers) this.#link(node, peer);
  }

  leave(transport: MemoryTransport): void {
    const { node, peers } = transport;
    if (this.#nodes[node] !== transport) return;
    for (const peer of peers) this.#unlink(node, peer, `node ${node} has closed`);
    this.#nodes[node] = null;
  }

  #link(a: number, b: number): void {
    if (this.linked(a, b) === null) return;
    this.#nodes[a]!.linkUp(b);
    this.#nodes[b]!.linkUp(a);
  }

  #unlink(a: number, b: number, why: string): void {
    if (this.linked(a, b) === null) return;
    const ends = [this.#nodes[a]!, this.#nodes[b]!];
    const told = [ends[0]!.linkGone(b), ends[1]!.linkGone(a)];
    this.#cuts.add(line(a, b)); // Those who are told find no link any more.
    for (const [i, tell] of told.entries()) tell(new Error(`${why}: node ${[b, a][i]} is gone`));
    this.#cuts.delete(line(a, b));
  }
}

function line(a: number, b: number): string {
  return `${Math.min(a, b)} ${Math.max(a, b)}`;
}

export class MemoryTransport implements Transport {
  readonly messageBytesMax = MESSAGE_BYTES_MAX;
  readonly peers: readonly number[];
  readonly #network: MemoryNetwork;
  #handlers: TransportHandlers | null = null;
  /** By peer and lane: what this node has sent and has not come. */
  readonly #queues = new Map<string, Queue>();

  constructor(network: MemoryNetwork, readonly node: number) {
    this.#network = network;
    this.peers = Array.from({ length: network.nodeCount }, (_, peer) => peer).filter((peer) => peer !== node);
  }

  start(handlers: TransportHandlers): Promise<void> {
    this.#handlers = handlers;
    this.#network.join(this);
    return Promise.resolve();
  }

  isLinked(peer: number): boolean {
    return this.#network.linked(this.node, peer) !== null;
  }

  send(peer: number, lane: Lane, bytes: Uint8Array): boolean {
    if (bytes.length > this.messageBytesMax) throw new LimitExceeded("A message", bytes.length, this.messageBytesMax);
    if (!this.isLinked(peer)) return false;
    const queue = this.#queue(peer, lane);
    if (!this.isWritable(peer, lane, bytes.length)) {
      queue.isFull = true;
      return false;
    }
    queue.messages.push(bytes);
    queue.bytes += bytes.length;
    this.#run(peer, lane, queue);
    return true;
  }

  queuedBytes(peer: number, lane: Lane): number {
    return this.isLinked(peer) ? this.#queue(peer, lane).bytes : 0;
  }

  isWritable(peer: number, lane: Lane, bytes = 0): boolean {
    if (!this.isLinked(peer)) return false;
    const queue = this.#queue(peer, lane);
    return queue.bytes === 0 || queue.bytes + bytes <= this.#network.laneBytesMax;
  }

  pause(peer: number, lane: PausableLane): void {
    const sender = this.#network.linked(this.node, peer);
    if (sender !== null) sender.#queue(this.node, lane).paused = true;
  }

  resume(peer: number, lane: PausableLane): void {
    const sender = this.#network.linked(this.node, peer);
    if (sender === null) return;
    const queue = sender.#queue(this.node, lane);
    queue.paused = false;
    sender.#run(this.node, lane, queue);
  }

  broadcast(bytes: Uint8Array): void {
    if (bytes.length > BROADCAST_BYTES_MAX) throw new LimitExceeded("A broadcast", bytes.length, BROADCAST_BYTES_MAX);
    for (const peer of this.peers) {
      queueMicrotask(() => {
        if (this.#network.isHeld(this.node, peer)) return;
        const receiver = this.#network.linked(this.node, peer);
        if (receiver !== null) receiver.#handlers?.broadcast(this.node, bytes);
      });
    }
  }

  close(): Promise<void> {
    this.#network.leave(this);
    return Promise.resolve();
  }

  // For the network.

  linkUp(peer: number): void {
    this.#handlers?.linkUp(peer);
  }

  /** All that is on its way is lost. Returns how to tell of it, when both ends have lost theirs. */
  linkGone(peer: number): (reason: Error) => void {
    for (const lane of ["replication", "forward", "bulk"]) this.#queues.delete(`${peer} ${lane}`);
    return (reason) => this.#handlers?.linkDown(peer, reason);
  }

  run(peer: number): void {
    for (const lane of ["replication", "forward", "bulk"] as const) this.#run(peer, lane, this.#queue(peer, lane));
  }

  #queue(peer: number, lane: Lane): Queue {
    const key = `${peer} ${lane}`;
    let queue = this.#queues.get(key);
    if (queue === undefined) {
      queue = { messages: [], bytes: 0, isFull: false, running: false, paused: false };
      this.#queues.set(key, queue);
    }
    return queue;
  }

  /** Delivers what waits, in a later step. Each of a link of its own: a queue that is forgotten delivers no more. */
  #run(peer: number, lane: Lane, queue: Queue): void {
    if (queue.running) return;
    queue.running = true;
    queueMicrotask(() => {
      queue.running = false;
      const wanted = () =>
        this.#queues.get(`${peer} ${lane}`) === queue && !queue.paused && !this.#network.isHeld(this.node, peer);
      while (wanted() && queue.messages.length > 0) {
        const bytes = queue.messages.shift()!;
        queue.bytes -= bytes.length;
        this.#network.linked(this.node, peer)!.#handlers?.message(this.node, lane, bytes);
      }
      if (!wanted() || !queue.isFull) return;
      queue.isFull = false;
      this.#handlers?.writable(peer, lane);
    });
  }
}
