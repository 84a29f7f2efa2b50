/**
 * The port of transport.ts in virtual time: links over lines that are cut and slow, between processes that die and sleep.
 *
 *     one end        down ──► up ──► down …        each end has its own; a new link begins when both are down
 *     a lane         in order, none lost while the link is up; what is on its way goes with the link
 *
 * A line that is cut holds what is sent, and so does a process that is paused. Who hears nothing for so long ends the
 * link. The end of a killed process is noticed at once, as its machine tells; that of a machine without power, or of a
 * process that is paused, by silence.
 *
 * Loss and doubles of the weather are late here: the line sends again.
 *
 * @module
 */
import type { Chance } from "../../core/chance.ts";
import { LimitExceeded } from "../../core/errors.ts";
import {
  BROADCAST_BYTES_MAX,
  type Lane,
  LANES,
  type PausableLane,
  type Transport,
  type TransportHandlers,
} from "../transport.ts";
import type { Network } from "./network.ts";

const MESSAGE_BYTES_MAX = 65 * 1024 * 1024;
/** Room of a lane: small ones are full now and then. */
const LANE_BYTES = [3000, 30_000, 1_000_000];
const SILENCE_MS = 5000;
const LOOK_EVERY_MS = 250;
const REDIAL_MS = 400;
const NOTICED_MS = 10;
/** What was lost is sent again after so long. */
const AGAIN_MS = 200;
/** While a line holds what is sent, it is looked at so often. */
const HELD_MS = 40;
const RUMOUR_LOST_ONE_IN = 20;
const RUMOUR_TWICE_ONE_IN = 20;
const RUMOUR_LATE_ONE_IN = 20;
const RUMOUR_LATE_MS_MAX = 6000;

/** A process as its links see it. */
export interface Process {
  /** Calls it back: when it goes on, if it is paused, and never, if it is dead. */
  reach(action: () => void): void;
  isPaused(): boolean;
  /** Something that was told has thrown. */
  broke(reason: Error): void;
}

/** What one end sends in a lane and has not come. */
interface Queue {
  readonly messages: { bytes: Uint8Array; at: number }[];
  bytes: number;
  isFull: boolean;
  isHeldUp: boolean;
  isRunning: boolean;
}

class End {
  isUp = false;
  /** Since when nothing can come from the other end. */
  silentSince: number | null = null;
  readonly queues = new Map<Lane, Queue>(
    LANES.map((lane) => [lane, { messages: [], bytes: 0, isFull: false, isHeldUp: false, isRunning: false }]),
  );
  constructor(readonly owner: SimulatedTransport) {}
}

/** Between two processes; a process that starts again has other links. */
interface Link {
  readonly ends: readonly [End, End];
}

export class Links {
  readonly #nodes = new Map<number, SimulatedTransport>();
  /** Machines without power do not tell of the end of their processes. */
  readonly #links = new Map<string, Link>();
  readonly laneBytesMax: number;
  readonly counts = { linksUp: 0, linksDown: 0, refused: 0, messages: 0, broadcasts: 0 };

  constructor(
    readonly nodeCount: number,
    readonly network: Network,
    readonly chance: Chance,
    readonly now: () => number,
    readonly after: (milliseconds: number, action: () => void) => void,
  ) {
    this.laneBytesMax = chance.pick(LANE_BYTES);
  }

  transport(node: number, process: Process): Transport {
    return new SimulatedTransport(this, node, process);
  }

  /** The process is gone. `isTold`: its machine lives, and tells the others. */
  died(node: number, isTold: boolean): void {
    const transport = this.#nodes.get(node);
    if (transport === undefined) return;
    this.#nodes.delete(node);
    for (const [key, link] of this.#links) {
      const own = link.ends.find(({ owner }) => owner === transport);
      if (own === undefined) continue;
      own.isUp = false;
      const other = link.ends.find((end) => end !== own)!;
      if (!other.isUp) this.#links.delete(key);
      else if (isTold) this.#notice(link, other, "its process has ended");
    }
  }

  // ---- For the transports ----------------------------------------------------------------------------------------------

  joined(transport: SimulatedTransport): void {
    this.#nodes.set(transport.node, transport);
    this.#look(transport);
  }

  isThere(transport: SimulatedTransport): boolean {
    return this.#nodes.get(transport.node) === transport;
  }

  left(transport: SimulatedTransport): void {
    for (const link of [...this.#links.values()]) {
      const own = link.ends.find(({ owner }) => owner === transport);
      if (own !== undefined) this.#end(link, own, "this node has closed");
    }
    if (this.isThere(transport)) this.died(transport.node, true);
  }

  endOf(transport: SimulatedTransport, peer: number): End | null {
    const link = this.#links.get(keyOf(transport.node, peer));
    const end = link?.ends.find(({ owner }) => owner === transport);
    return end?.isUp ? end : null;
  }

  otherEnd(transport: SimulatedTransport, peer: number): End {
    return this.#links.get(keyOf(transport.node, peer))!.ends.find(({ owner }) => owner.node === peer)!;
  }

  /** One process looks after its links, for as long as it lives. */
  #look(transport: SimulatedTransport): void {
    if (!this.isThere(transport)) return;
    for (const peer of transport.peers) {
      const link = this.#links.get(keyOf(transport.node, peer));
      if (link === undefined) this.#dial(transport, peer);
      else this.#listen(transport, link);
    }
    this.after(LOOK_EVERY_MS, () => this.#look(transport));
  }

  #dial(transport: SimulatedTransport, peer: number): void {
    const other = this.#nodes.get(peer);
    if (other === undefined || transport.dialing.has(peer)) return;
    transport.dialing.add(peer);
    this.after(this.chance.between(1, REDIAL_MS), () => {
      transport.dialing.delete(peer);
      if (!this.isThere(transport) || !this.isThere(other)) return;
      const key = keyOf(transport.node, peer);
      if (this.#links.has(key) || !this.#isWhole(transport, other)) return;
      const link: Link = { ends: [new End(transport), new End(other)] };
      this.#links.set(key, link);
      this.counts.linksUp++;
      for (const [i, end] of link.ends.entries()) {
        end.isUp = true; // What comes before it is told, waits for its turn behind that.
        end.owner.tell((handlers) => handlers.linkUp(link.ends[1 - i]!.owner.node), end);
      }
    });
  }

  #isWhole(a: SimulatedTransport, b: SimulatedTransport): boolean {
    return !this.network.isCut(a.node, b.node) && !this.network.isCut(b.node, a.node) &&
      !a.process.isPaused() && !b.process.isPaused();
  }

  /** Whether something can come to an end, and if not, for how long. */
  #listen(transport: SimulatedTransport, link: Link): void {
    const own = link.ends.find(({ owner }) => owner === transport);
    if (own === undefined || !own.isUp || transport.process.isPaused()) return;
    const other = link.ends.find((end) => end !== own)!;
    const { node } = other.owner;
    const isCut = this.network.isCut(node, transport.node);
    const isGone = !this.isThere(other.owner);
    // The machine answers for a process that is not there any more, or for a link that it has ended.
    if (!isCut && (isGone ? this.#nodes.has(node) : !other.isUp)) {
      return this.#notice(link, own, "the other end is gone");
    }
    if (!isCut && !isGone && !other.owner.process.isPaused()) own.silentSince = null;
    else if (own.silentSince === null) own.silentSince = this.now();
    else if (this.now() - own.silentSince >= SILENCE_MS) this.#end(link, own, "it is silent");
  }

  #notice(link: Link, end: End, why: string): void {
    const other = link.ends.find((one) => one !== end)!;
    this.after(this.chance.between(1, NOTICED_MS), () => {
      // Who cannot be told has to notice it himself.
      if (!this.network.isCut(other.owner.node, end.owner.node)) this.#end(link, end, why);
    });
  }

  #end(link: Link, own: End, why: string): void {
    if (!own.isUp) return;
    const other = link.ends.find((end) => end !== own)!;
    const { node, peer } = { node: own.owner.node, peer: other.owner.node };
    own.isUp = false;
    this.counts.linksDown++;
    if (other.isUp && this.isThere(other.owner)) this.#notice(link, other, `node ${node} has ended the link`);
    else this.#links.delete(keyOf(node, peer));
    own.owner.tell((handlers) => handlers.linkDown(peer, new Error(`The link to node ${peer} is gone: ${why}`)), null);
  }

  /** Delivers what is on its way from an end, in its order. */
  run(from: SimulatedTransport, peer: number, lane: Lane, own: End, queue: Queue): void {
    if (queue.isRunning || queue.messages.length === 0) return;
    queue.isRunning = true;
    this.after(Math.max(0, queue.messages[0]!.at - this.now()), () => this.#step(from, peer, lane, own, queue));
  }

  #step(from: SimulatedTransport, peer: number, lane: Lane, own: End, queue: Queue): void {
    queue.isRunning = false;
    const link = this.#links.get(keyOf(from.node, peer));
    if (!own.isUp || link === undefined || !link.ends.includes(own)) return;
    const other = link.ends.find((end) => end !== own)!;
    if (!other.isUp) return; // It is lost, and this end hears of it.
    if (this.network.isCut(from.node, peer) || other.owner.process.isPaused() || queue.isHeldUp) {
      queue.isRunning = true;
      this.after(HELD_MS, () => this.#step(from, peer, lane, own, queue));
      return;
    }
    while (queue.messages.length > 0 && queue.messages[0]!.at <= this.now()) {
      const { bytes } = queue.messages.shift()!;
      queue.bytes -= bytes.length;
      this.counts.messages++;
      other.owner.tell((handlers) => handlers.message(from.node, lane, bytes), other);
    }
    if (queue.isFull && queue.bytes <= this.laneBytesMax / 2) {
      queue.isFull = false;
      from.tell((handlers) => handlers.writable(peer, lane), own);
    }
    this.run(from, peer, lane, own, queue);
  }

  /** How long a message takes now. */
  delayMs(): number {
    const { lossPercent, delayMsMax } = this.network.weather;
    let delay = 1 + this.chance.below(delayMsMax);
    while (this.chance.below(100) < lossPercent) delay += AGAIN_MS;
    return delay;
  }

  broadcast(from: SimulatedTransport, bytes: Uint8Array): void {
    for (const peer of from.peers) {
      this.counts.broadcasts++;
      const times = this.chance.oneIn(RUMOUR_TWICE_ONE_IN) ? 2 : 1;
      for (let i = 0; i < times; i++) {
        if (this.chance.oneIn(RUMOUR_LOST_ONE_IN)) continue;
        const isLate = this.chance.oneIn(RUMOUR_LATE_ONE_IN);
        const late = isLate ? this.chance.below(RUMOUR_LATE_MS_MAX) : 0;
        this.after(late + this.delayMs(), () => {
          if (this.network.isCut(from.node, peer) && !isLate) return; // Others may have passed it on.
          this.#nodes.get(peer)?.tell((handlers) => handlers.broadcast(from.node, bytes), null);
        });
      }
    }
  }
}

function keyOf(a: number, b: number): string {
  return `${Math.min(a, b)} ${Math.max(a, b)}`;
}

class SimulatedTransport implements Transport {
  readonly messageBytesMax = MESSAGE_BYTES_MAX;
  readonly peers: readonly number[];
  readonly dialing = new Set<number>();
  readonly #links: Links;
  #handlers: TransportHandlers | null = null;

  constructor(links: Links, readonly node: number, readonly process: Process) {
    this.#links = links;
    this.peers = Array.from({ length: links.nodeCount }, (_, peer) => peer).filter((peer) => peer !== node);
  }

  start(handlers: TransportHandlers): Promise<void> {
    this.#handlers = handlers;
    this.#links.joined(this);
    return Promise.resolve();
  }

  /** In its own turn. `end`: only while the link is up. */
  tell(told: (handlers: TransportHandlers) => void, end: End | null): void {
    this.process.reach(() => {
      if (!this.#links.isThere(this) || end !== null && !end.isUp) return;
      try {
        told(this.#handlers!);
      } catch (error) {
        // A transport logs it and ends the link. Here nobody sends what may not be understood.
        this.process.broke(error instanceof Error ? error : new Error(String(error)));
      }
    });
  }

  isLinked(peer: number): boolean {
    return this.#links.endOf(this, peer) !== null;
  }

  send(peer: number, lane: Lane, bytes: Uint8Array): boolean {
    if (bytes.length > this.messageBytesMax) throw new LimitExceeded("A message", bytes.length, this.messageBytesMax);
    const end = this.#links.endOf(this, peer);
    if (end === null) return false;
    const queue = end.queues.get(lane)!;
    if (!this.#hasRoom(queue, bytes.length)) {
      queue.isFull = true;
      this.#links.counts.refused++;
      return false;
    }
    const at = Math.max(this.#links.now() + this.#links.delayMs(), queue.messages.at(-1)?.at ?? 0);
    queue.messages.push({ bytes, at });
    queue.bytes += bytes.length;
    this.#links.run(this, peer, lane, end, queue);
    return true;
  }

  queuedBytes(peer: number, lane: Lane): number {
    return this.#links.endOf(this, peer)?.queues.get(lane)?.bytes ?? 0;
  }

  isWritable(peer: number, lane: Lane, bytes = 0): boolean {
    const end = this.#links.endOf(this, peer);
    return end !== null && this.#hasRoom(end.queues.get(lane)!, bytes);
  }

  #hasRoom(queue: Queue, bytes: number): boolean {
    return queue.bytes === 0 || queue.bytes + bytes <= this.#links.laneBytesMax;
  }

  pause(peer: number, lane: PausableLane): void {
    if (this.isLinked(peer)) this.#links.otherEnd(this, peer).queues.get(lane)!.isHeldUp = true;
  }

  resume(peer: number, lane: PausableLane): void {
    if (this.isLinked(peer)) this.#links.otherEnd(this, peer).queues.get(lane)!.isHeldUp = false;
  }

  broadcast(bytes: Uint8Array): void {
    if (bytes.length > BROADCAST_BYTES_MAX) throw new LimitExceeded("A broadcast", bytes.length, BROADCAST_BYTES_MAX);
    this.#links.broadcast(this, bytes);
  }

  close(): Promise<void> {
    this.#links.left(this);
    return Promise.resolve();
  }
}
