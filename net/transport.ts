/**
 * The port between the nodes of a cluster: bytes to a peer, bytes from a peer, and whether there is a link to it.
 *
 * A node knows its peers by their index in the configuration, 0 to N - 1. A message is opaque bytes, and comes as it
 * was sent. What holds:
 *
 * - Between two nodes there is one link or none; both ends agree on which. It is up from `linkUp` to `linkDown`, and
 *   outside of these nothing of a peer is delivered.
 * - Messages of one lane come in the order in which they were sent, without a gap and none twice. Lanes do not wait for
 *   each other: what is sent as `replication` overtakes any amount of `bulk`.
 * - What was sent and has not come when the link goes is lost, and nobody says which messages these are. The sender is
 *   told once, by `linkDown`. A new link starts with nothing.
 * - Nothing waits in memory without a bound: each lane has room for so many bytes, and beyond it `send`
 *   refuses, until `writable` says that there is room again.
 * - A broadcast is a rumour: it may be lost, come twice, late or in another order, also from a peer without a link.
 *
 * A link that is up is a hint that its peer lives, and never more: a process that is stopped, a machine without power
 * and a cut line are noticed by silence, after seconds (libp2p_transport.ts says how many). Whoever must know sooner
 * has to send something of its own and wait for an answer.
 *
 * @module
 */

/**
 * The lanes of a link. `replication`: small and urgent, between replicas. `forward`: commands of clients, and their answers (requests.ts).
 * `bulk`: catching up, as much as the link takes, and always behind the others.
 */
export type Lane = "replication" | "forward" | "bulk";

/** All lanes, the most urgent first. */
export const LANES: readonly Lane[] = ["replication", "forward", "bulk"];

/** The lanes whose receiver may hold them up. Not `replication`: that must be taken as it comes. */
export type PausableLane = Exclude<Lane, "replication">;

/**
 * Who is told. Called from the transport's own turn, one after the other: an error that one of them throws is logged,
 * and ends the link that it is about, so that one bad message costs a link and not the process. They may call any method
 * of the transport.
 */
export interface TransportHandlers {
  /** The bytes belong to the receiver: they are not written again. They may be a view into a larger buffer. */
  message(from: number, lane: Lane, bytes: Uint8Array): void;
  /** There is a link to this peer. It is new: nothing that was sent before comes over it. */
  linkUp(peer: number): void;
  /** The link is gone, and with it all that was on its way. `reason` is for the log. */
  linkDown(peer: number, reason: Error): void;
  /** A lane that refused has room again. */
  writable(peer: number, lane: Lane): void;
  /** A peer's broadcast. */
  broadcast(from: number, bytes: Uint8Array): void;
}

export interface Transport {
  /** The index of this node. */
  readonly node: number;
  /** The indexes of all others. */
  readonly peers: readonly number[];
  /** The largest message. */
  readonly messageBytesMax: number;

  /** Listens, and makes links from now on and until it is closed. To be called once; nobody is told before. */
  start(handlers: TransportHandlers): Promise<void>;

  /** Whether there is a link to this peer. */
  isLinked(peer: number): boolean;

  /**
   * Sends a message. The bytes belong to the transport from now on and must not change any more. All that is sent in
   * one turn of the event loop leaves in one write.
   *
   * Returns whether it was taken: not without a link, and not when the lane is full. What was refused leaves no trace.
   *
   * @throws {LimitExceeded} when the message is larger than `messageBytesMax`
   */
  send(peer: number, lane: Lane, bytes: Uint8Array): boolean;

  /** Bytes that were taken and have not left this process. 0 without a link. */
  queuedBytes(peer: number, lane: Lane): number;

  /** Whether a message of `bytes` would be taken now. One is always taken when nothing else waits. */
  isWritable(peer: number, lane: Lane, bytes?: number): boolean;

  /**
   * Stops to deliver what this peer sends in a lane, until `resume`. The peer can send until its room and this node's
   * are full, and is then refused. Ends with the link: a new one delivers.
   */
  pause(peer: number, lane: PausableLane): void;
  resume(peer: number, lane: PausableLane): void;

  /**
   * Tells all peers, those as well that can be reached only over others.
   *
   * @throws {LimitExceeded} when it is larger than `BROADCAST_BYTES_MAX`
   */
  broadcast(bytes: Uint8Array): void;

  /** Ends all links and stops to listen. The handlers hear of it: `linkDown` for each link. */
  close(): Promise<void>;
}

/** The largest broadcast: it goes to every node once and more, so it should be small. */
export const BROADCAST_BYTES_MAX = 1024 * 1024;
