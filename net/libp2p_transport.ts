/**
 * The transport over libp2p: TCP, encrypted and authenticated by Noise, streams by yamux, broadcasts by gossipsub. The
 * only file that knows libp2p.
 *
 * **Who may talk.** Each node has a key, kept in its data folder, and its peer id is made of that key. A connection is
 * refused unless its peer id stands in the configuration, and unless the other side proves in the handshake that it
 * knows the cluster's id and secret, and speaks this version of the protocol.
 *
 * **A link** is one connection with one stream for each lane. The dialler opens the streams and says hello; the one who
 * was dialled decides, alone and in one step, whether this connection becomes the link, and says so by its own hello. So
 * both ends mean the same connection, however their dials cross:
 *
 *     dialler     ── streams, hello(boot) ──►     there is none, or it is of a former life of the dialler, or I am the
 *     link up     ◄────── hello(boot) ───────     one with the higher index: link up. Else the connection is ended.
 *
 * When any part of a link fails, all of it ends. Both ends send a sign of life when they have nothing else to say; after
 * five to six seconds without any, a link is ended. So a peer that is stopped (SIGSTOP), has lost its power or is cut
 * off is noticed that late, and one that was killed at once.
 *
 * **Order of sending.** What waits is handed to libp2p in slices, the most urgent lane first, and no more than the
 * socket takes at once: what libp2p has taken cannot be overtaken any more. The windows of the streams are small and do
 * not grow, so that a bulk transfer never has more than a window of bytes in the sockets' buffers before an append. (A
 * window of our own, of a half and a quarter of that, made bulk slower by half and an append beside it hardly quicker.)
 *
 * Of libp2p's services only identify and gossipsub run; ping, the connection monitor and the reconnect queue do not.
 *
 * @module
 */
import "./libp2p_surroundings.ts";
import { createLibp2p, type Libp2p } from "npm:libp2p@3.3.11";
import { type GossipSub, gossipsub } from "npm:@libp2p/gossipsub@17.1.1";
import { type ICryptoInterface, noise, pureJsCrypto } from "npm:@libp2p/noise@17.0.3";
import sodium from "npm:libsodium-wrappers@0.8.4";
import { yamux } from "npm:@libp2p/yamux@8.0.3";
import { tcp } from "npm:@libp2p/tcp@11.0.28";
import { type Identify, identify } from "npm:@libp2p/identify@4.1.14";
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from "npm:@libp2p/crypto@5.1.23/keys";
import { peerIdFromPrivateKey } from "npm:@libp2p/peer-id@6.0.15";
import { LengthPrefixedDecoder } from "npm:@libp2p/utils@7.4.1";
import { multiaddr } from "npm:@multiformats/multiaddr@13.0.3";
import type {
  ComponentLogger,
  Connection,
  Logger,
  MultiaddrConnection,
  PeerId,
  PrivateKey,
  Stream,
} from "npm:@libp2p/interface@3.3.0";
import { createHash, getCiphers } from "node:crypto";
import type { Socket } from "node:net";
import { type Environment, type Log, systemEnvironment } from "../core/environment.ts";
import { InvalidArgument, LimitExceeded } from "../core/errors.ts";
import { TRANSACTION_BYTES_MAX } from "../core/event.ts";
import { keyPath } from "./cluster_config.ts";
import { BadFrame, FrameDecoder, FrameQueue } from "./frames.ts";
import { netPermission, type NodeAddress, parseNodeAddress } from "./node_address.ts";
import { Redial } from "./redial.ts";
import {
  BROADCAST_BYTES_MAX,
  type Lane,
  LANES,
  type PausableLane,
  type Transport,
  type TransportHandlers,
} from "./transport.ts";

/** Part of the handshake: a node that speaks otherwise is refused there. */
const PROTOCOL_VERSION = 1;
const PROTOCOL = `/esker/${PROTOCOL_VERSION}/`;
const SECRET_BYTES_MIN = 16;

/** A transaction, and what a message says about it. */
const MESSAGE_BYTES_MAX = TRANSACTION_BYTES_MAX + 1024 * 1024;
/** Room of each lane. A message that is larger than that has to wait until nothing else does. */
const QUEUE_BYTES_MAX: Record<Lane, number> = {
  replication: 32 * 1024 * 1024,
  forward: 32 * 1024 * 1024,
  bulk: 16 * 1024 * 1024,
};
/** What may wait in memory for one peer that does not take it. */
export const PEER_QUEUES_BYTES_MAX = Object.values(QUEUE_BYTES_MAX).reduce((sum, bytes) => sum + bytes);
/**
 * What is handed to libp2p at a time. It must stay below the 64 KiB of a packet of Noise; larger slices are slower, and
 * let an urgent message wait for longer.
 */
const SLICE_BYTES = 32 * 1024;
/** Bytes of a stream on their way: the least that yamux allows. */
const WINDOW_BYTES = 256 * 1024;
/** Of so many that have come the sender is told. */
const WINDOW_STEP_BYTES = WINDOW_BYTES / 4;

const TICK_MS = 100;
/** A sign of life, should nothing else have been sent meanwhile. */
const LIFE_TICKS = 10;
/** Counted in ticks and not by the clock: a process that was stopped itself finds no peer silent. */
const SILENT_TICKS_MAX = 50;
/** How long a connection may take to become a link. */
const FORMING_TICKS_MAX = 50;
const DIAL_MS_MAX = 3000;
const IDLE_MS_MAX = 30_000;
/** Dials in a row that lead to nothing, and then somebody should know. */
const FAILURES_TOLD = 4;
/** Broadcasts that gossipsub has not carried out: beyond it they are dropped. */
const BROADCASTS_MAX = 64;

/** Before each packet of Noise. */
const NOISE_LENGTH_BYTES = 2;
const NOISE_PACKET_BYTES_MAX = 65_535;

/** A state of yamux's streams. */
const YAMUX_ESTABLISHED = 3;

const HELLO = 1;
/** Before the text that says what a cluster's nodes have in common. */
const HELLO_BYTES = 13;
const ALIVE = 2;

/** A node's key, and the id that is made of it. */
export interface Identity {
  readonly peerId: string;
  readonly privateKey: PrivateKey;
}

/**
 * The identity of the node whose data folder this is: made when there is none, and then the same for ever. Only the
 * user who runs the store may read its file.
 */
export async function identityIn(dir: string): Promise<Identity> {
  const path = keyPath(dir);
  const bytes = readKey(path) ?? await makeKey(dir, path);
  let privateKey: PrivateKey;
  try {
    privateKey = privateKeyFromProtobuf(bytes);
  } catch (cause) {
    throw new InvalidArgument(`${path} holds no key of a node`, { cause });
  }
  return { peerId: peerIdFromPrivateKey(privateKey).toString(), privateKey };
}

function readKey(path: string): Uint8Array | null {
  try {
    return Deno.readFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

async function makeKey(dir: string, path: string): Promise<Uint8Array> {
  const bytes = privateKeyToProtobuf(await generateKeyPair("Ed25519"));
  const temporary = `${path}.tmp`;
  // Removed, not emptied: who could read it before could read it still.
  try {
    Deno.removeSync(temporary);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  {
    using file = Deno.openSync(temporary, { write: true, createNew: true, mode: 0o600 });
    for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
    file.syncSync();
  }
  Deno.renameSync(temporary, path);
  if (Deno.build.os !== "windows") {
    using folder = Deno.openSync(dir);
    folder.syncSync();
  }
  return bytes;
}

export interface Libp2pTransportOptions {
  /** Of the data folder, by `identityIn`. */
  identity: Identity;
  /** The index of this node in `nodes`. */
  node: number;
  /** All nodes of the cluster, this one among them: the addresses of each, all with its peer id. */
  nodes: readonly (readonly string[])[];
  /** Where to listen, without a peer id. Its own first address when left out. */
  listen?: string | undefined;
  clusterId: string;
  /** Known to all nodes of the cluster and to nobody else. It is proved in the handshake and encrypts nothing. */
  secret: Uint8Array;
  /** What nodes must have in common to be linked, line by line. Nothing when left out. */
  inCommon?: string | undefined;
  messageBytesMax?: number | undefined;
  queueBytesMax?: Partial<Record<Lane, number>> | undefined;
  environment?: Environment | undefined;
  log?: Log | undefined;
}

/** Checks the options and opens nothing: `start` does. */
export function libp2pTransport(options: Libp2pTransportOptions): Transport {
  return new Libp2pTransport(options);
}

class Libp2pTransport implements Transport {
  readonly node: number;
  readonly peers: readonly number[];
  readonly messageBytesMax: number;
  readonly queueBytesMax: Readonly<Record<Lane, number>>;
  readonly inCommon: string;
  readonly log: Log;
  readonly boot = new Uint8Array(8);
  handlers!: TransportHandlers;
  isClosed = false;
  readonly #options: Libp2pTransportOptions;
  readonly #listen: NodeAddress;
  readonly #prologue: Uint8Array;
  readonly #topic: string;
  /** By index; undefined at this node's own. */
  readonly #peers: (Peer | undefined)[];
  readonly #peersById: Map<string, Peer>;
  /** Connections that peers have dialled and that are not links yet. */
  readonly #forming = new Map<Connection, Link>();
  #libp2p: Libp2p<{ identify: Identify; pubsub: GossipSub }> | null = null;
  #timer: ReturnType<typeof setInterval> | undefined;
  #broadcasts = 0;

  constructor(options: Libp2pTransportOptions) {
    const { node, nodes, identity, secret, clusterId } = options;
    if (secret.length < SECRET_BYTES_MIN) {
      throw new InvalidArgument(
        `The secret of the cluster has ${secret.length} bytes: at least ${SECRET_BYTES_MIN} are needed`,
      );
    }
    if (nodes[node] === undefined) {
      throw new InvalidArgument(`There is no node ${node}: the cluster has ${nodes.length}`);
    }
    const environment = options.environment ?? systemEnvironment();
    environment.random(this.boot);
    this.#options = options;
    this.node = node;
    this.messageBytesMax = options.messageBytesMax ?? MESSAGE_BYTES_MAX;
    this.queueBytesMax = { ...QUEUE_BYTES_MAX, ...options.queueBytesMax };
    this.inCommon = options.inCommon ?? "";
    this.log = options.log ?? (() => {});
    this.#peers = nodes.map((texts, index) => {
      const addresses = texts.map(parseNodeAddress);
      const peerId = addresses[0]?.peerId;
      if (peerId === undefined || peerId === null || addresses.some((address) => address.peerId !== peerId)) {
        throw new InvalidArgument(`Node ${index} needs an address, and the same peer id in all of them`);
      }
      if (index !== node) return new Peer(index, peerId, addresses, new Redial(node < index, environment));
      if (peerId !== identity.peerId) {
        throw new InvalidArgument(
          `The key in this data folder is that of ${identity.peerId}, and node ${node} is configured as ${peerId}`,
        );
      }
      return undefined;
    });
    const others = this.#peers.filter((peer) => peer !== undefined);
    this.peers = others.map(({ index }) => index);
    this.#peersById = new Map(others.map((peer) => [peer.peerId, peer]));
    if (this.#peersById.size !== others.length || this.#peersById.has(identity.peerId)) {
      throw new InvalidArgument("Two nodes of the cluster have the same peer id");
    }
    this.#listen = parseNodeAddress(options.listen ?? parseNodeAddress(nodes[node]![0]!).place);
    const hash = createHash("sha256").update(`esker ${PROTOCOL_VERSION}\0${clusterId}\0`);
    this.#prologue = new Uint8Array(hash.update(secret).digest());
    this.#topic = `${PROTOCOL}${clusterId}/beacons`;
  }

  async start(handlers: TransportHandlers): Promise<void> {
    this.handlers = handlers;
    const address = netPermission(this.#listen);
    // libp2p never comes back from a listen that was denied.
    if (Deno.permissions.querySync({ name: "net", host: address }).state !== "granted") {
      throw new Deno.errors.NotCapable(`Requires net access to ${JSON.stringify(address)}, to listen for other nodes`);
    }
    spareDecodersErrors();
    const isUnknown = (peerId: PeerId) => !this.#peersById.has(peerId.toString());
    const libp2p = await createLibp2p({
      privateKey: this.#options.identity.privateKey,
      start: false,
      logger: SILENT,
      addresses: { listen: [this.#listen.place] },
      transports: [
        // Links end by their own count of silence. This is for a connection that never became one.
        tcp({ inboundSocketInactivityTimeout: IDLE_MS_MAX, outboundSocketInactivityTimeout: IDLE_MS_MAX }),
      ],
      connectionEncrypters: [noise({ prologueBytes: this.#prologue, ...await noiseCrypto() })],
      // Without its pings yamux does not know how long a round trip is, and leaves the windows as they are.
      streamMuxers: [
        yamux({
          enableKeepAlive: false,
          streamOptions: {
            initialStreamWindowSize: WINDOW_BYTES,
            maxStreamWindowSize: WINDOW_BYTES,
            // More than a window: else a stream that is paused is reset when the window is full.
            maxReadBufferLength: 8 * WINDOW_BYTES,
          },
        }),
      ],
      connectionGater: {
        denyDialMultiaddr: () => false,
        denyDialPeer: isUnknown,
        denyInboundConnection: quicken,
        denyOutboundConnection: (_peerId, connection) => quicken(connection),
        denyOutboundEncryptedConnection: isUnknown,
        denyInboundEncryptedConnection: isUnknown,
      },
      connectionManager: {
        // All peers of a small cluster may be one host, and come back at the same moment.
        inboundConnectionThreshold: 1000,
        maxIncomingPendingConnections: 100,
        dialTimeout: DIAL_MS_MAX,
        addressDialTimeout: DIAL_MS_MAX,
        reconnectRetries: 0,
      },
      connectionMonitor: { enabled: false },
      services: {
        // Not by itself: gossipsub takes the first connection that is identified, which must be the link.
        identify: identify({ runOnConnectionOpen: false }),
        pubsub: gossipsub({
          allowPublishToZeroTopicPeers: true,
          floodPublish: true,
          maxOutboundBufferSize: 16 * BROADCAST_BYTES_MAX,
          maxInboundDataLength: 4 * BROADCAST_BYTES_MAX,
          // Nobody is scored: who is in the cluster is known by name, and nodes may share a host.
          scoreParams: { IPColocationFactorWeight: 0, behaviourPenaltyWeight: 0 },
        }),
      },
    });
    for (const name of LANES) {
      await libp2p.handle(PROTOCOL + name, (stream, connection) => this.#admit(name, stream, connection));
    }
    try {
      await libp2p.start();
    } catch (cause) {
      await libp2p.stop();
      const { message } = cause as Error;
      const what = `Cannot listen for other nodes on ${address}`;
      if (/EADDRINUSE|in use/.test(message)) {
        throw new Deno.errors.AddrInUse(`${what}: another program listens there`, { cause });
      }
      throw new Error(`${what}: ${message}`, { cause });
    }
    const { pubsub } = libp2p.services;
    pubsub.addEventListener("message", ({ detail }) => {
      if (detail.topic !== this.#topic || detail.type !== "signed") return;
      const peer = this.#peersById.get(detail.from.toString());
      if (peer !== undefined) this.tell(() => this.handlers.broadcast(peer.index, plain(detail.data)));
    });
    pubsub.subscribe(this.#topic);
    this.#libp2p = libp2p;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#tick();
  }

  isLinked(peer: number): boolean {
    return this.#linkOf(peer) !== null;
  }

  send(peer: number, name: Lane, bytes: Uint8Array): boolean {
    if (bytes.length > this.messageBytesMax) {
      throw new LimitExceeded(`The message to node ${peer}`, bytes.length, this.messageBytesMax);
    }
    return this.#linkOf(peer)?.send(name, bytes) ?? false;
  }

  queuedBytes(peer: number, name: Lane): number {
    return this.#linkOf(peer)?.queuedBytes(name) ?? 0;
  }

  isWritable(peer: number, name: Lane, bytes = 0): boolean {
    return this.#linkOf(peer)?.hasRoom(name, bytes) ?? false;
  }

  pause(peer: number, name: PausableLane): void {
    this.#linkOf(peer)?.pause(name);
  }

  resume(peer: number, name: PausableLane): void {
    this.#linkOf(peer)?.resume(name);
  }

  broadcast(bytes: Uint8Array): void {
    if (bytes.length > BROADCAST_BYTES_MAX) {
      throw new LimitExceeded("The broadcast", bytes.length, BROADCAST_BYTES_MAX);
    }
    const libp2p = this.#libp2p;
    if (libp2p === null || this.#broadcasts >= BROADCASTS_MAX) return;
    this.#broadcasts++;
    libp2p.services.pubsub.publish(this.#topic, bytes).then(
      ({ recipients }) => {
        const reached = new Set(recipients.map((peerId) => peerId.toString()));
        // gossipsub opens a stream to a peer once. If it is lost and the link is not, nobody else would notice.
        for (const peer of this.#peersById.values()) if (!reached.has(peer.peerId)) this.#introduce(peer.link);
      },
      (error) => this.log("debug", "A broadcast was not sent", { error }),
    ).finally(() => this.#broadcasts--);
  }

  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    clearInterval(this.#timer);
    const reason = new Error("This node closes its links");
    for (const link of this.#forming.values()) link.end(reason);
    for (const peer of this.#peersById.values()) {
      peer.attempt?.end(reason);
      peer.link?.end(reason);
    }
    const libp2p = this.#libp2p;
    this.#libp2p = null;
    // What it leaves behind: timers of a second, and a BroadcastChannel of its peer store, which keeps the process alive.
    await libp2p?.stop();
  }

  /** A stream that a peer has opened. */
  #admit(name: Lane, stream: Stream, connection: Connection): void {
    const peer = this.#peersById.get(connection.remotePeer.toString());
    if (peer === undefined || this.isClosed || connection.direction !== "inbound") {
      connection.abort(new Error("Streams are opened by a known peer, which has dialled"));
      return;
    }
    let link = this.#forming.get(connection);
    if (link === undefined) {
      link = new Link(this, peer, connection, () => this.#forming.delete(connection));
      this.#forming.set(connection, link);
    }
    link.attach(name, stream);
  }

  async #dial(peer: Peer): Promise<void> {
    const libp2p = this.#libp2p;
    if (libp2p === null) return;
    peer.isDialling = true;
    let link: Link | null = null;
    try {
      const addresses = peer.addresses.map(({ text }) => multiaddr(text));
      // By force: libp2p would hand out a connection that the peer has dialled, and that may be about to end.
      const connection = await libp2p.dial(addresses, { force: true });
      if (this.isClosed || peer.link !== null) {
        connection.abort(new Error("There is a link already"));
        return;
      }
      link = new Link(this, peer, connection, () => peer.attempt = null);
      peer.attempt = link;
      const opened = LANES.map(async (name) => link!.attach(name, await connection.newStream(PROTOCOL + name)));
      for (const { reason } of (await Promise.allSettled(opened)) as { reason?: unknown }[]) if (reason) throw reason;
      link.sayHello();
    } catch (error) {
      if (link !== null) link.end(error as Error);
      else this.failed(peer, error as Error);
    } finally {
      peer.isDialling = false;
    }
  }

  /** A dial led to nothing, or a connection did not become a link. */
  failed(peer: Peer, cause: Error): void {
    if (this.isClosed || peer.link !== null) return;
    peer.redial.failed();
    // Once in a row, and not of the first: nodes that are started together dial before all of them listen.
    const level = ++peer.failures === FAILURES_TOLD ? "warn" : "debug";
    this.log(level, `There is no link to node ${peer.index}`, {
      reason: reasonOf(cause),
      address: peer.addresses[0]!.place,
    });
  }

  /** A peer is set up otherwise than this node, and gets no link. Returns what is to be said of it. */
  differs(peer: Peer, difference: string): string {
    const why = `It is set up otherwise: ${difference}`;
    if (peer.difference !== difference) {
      peer.difference = difference;
      this.log("warn", `Node ${peer.index} is not linked. ${why}`);
    }
    return why;
  }

  /** A connection that a peer has dialled is complete, and it has said hello: whether it becomes the link. */
  decide(link: Link): void {
    const { peer } = link;
    const current = peer.link ?? peer.attempt;
    const isOfAnotherLife = current?.peerBoot !== null && current?.peerBoot !== link.peerBoot;
    if (current !== null && peer.index > this.node && !isOfAnotherLife) {
      return link.end(new Error("There is a link, or this node makes one"));
    }
    const attempt = peer.attempt;
    peer.link?.end(new Error(`Node ${peer.index} has made a new link`));
    link.sayHello();
    this.up(link);
    attempt?.end(new Error(`Node ${peer.index} has made a link`));
  }

  /** Both ends have agreed on this connection. */
  up(link: Link): void {
    const { peer } = link;
    this.#forming.delete(link.connection);
    if (peer.attempt === link) peer.attempt = null;
    peer.link = link;
    peer.failures = 0;
    peer.difference = "";
    link.isUp = true;
    this.log("info", `There is a link to node ${peer.index}`, { address: link.connection.remoteAddr.toString() });
    this.#introduce(link);
    this.tell(() => this.handlers.linkUp(peer.index), link);
    link.deliverAll();
  }

  /** The link of a peer has ended. */
  down(link: Link, reason: Error): void {
    const { peer } = link;
    peer.link = null;
    peer.redial.lost();
    if (!this.isClosed) this.log("warn", `The link to node ${peer.index} is gone`, { reason: reasonOf(reason) });
    this.tell(() => this.handlers.linkDown(peer.index, reason));
  }

  /** Calls a handler: an error that it throws ends the link that it is about. */
  tell(act: () => void, link?: Link): void {
    try {
      act();
    } catch (error) {
      this.log("error", "What a node sent, or a change of its link, could not be handled", {
        node: link?.peer.index,
        error: (error as Error).stack ?? String(error),
      });
      link?.end(error as Error);
    }
  }

  /** Makes the services know a link. */
  #introduce(link: Link | null): void {
    if (link === null || link.isIntroducing) return;
    link.isIntroducing = true;
    this.#libp2p?.services.identify.identify(link.connection).then(
      () => {},
      (error) => this.log("debug", `Node ${link.peer.index} was not identified`, { error }),
    ).finally(() => link.isIntroducing = false);
  }

  #tick(): void {
    for (const link of this.#forming.values()) link.tick();
    for (const peer of this.#peersById.values()) {
      peer.attempt?.tick();
      peer.link?.tick();
      if (peer.link === null && peer.attempt === null && !peer.isDialling && peer.redial.isDue) this.#dial(peer);
    }
  }

  #linkOf(peer: number): Link | null {
    const found = this.#peers[peer];
    if (found === undefined) throw new RangeError(`Node ${peer} is no peer of node ${this.node}`);
    return found.link;
  }
}

/** What is known of a peer, whether there is a link or not. */
class Peer {
  link: Link | null = null;
  /** A connection that this node has dialled, until it is the link. */
  attempt: Link | null = null;
  isDialling = false;
  /** Dials in a row that led to nothing. */
  failures = 0;
  /** In what it was found to differ: told once. */
  difference = "";

  constructor(
    readonly index: number,
    readonly peerId: string,
    readonly addresses: readonly NodeAddress[],
    readonly redial: Redial,
  ) {}
}

/** One lane of a link. */
class OpenLane {
  readonly queue = new FrameQueue();
  readonly decoder: FrameDecoder;
  stream: Stream | null = null;
  isPaused = false;
  /** The largest message that was refused since there was room. */
  refusedBytes = 0;

  constructor(readonly name: Lane, messageBytesMax: number) {
    this.decoder = new FrameDecoder(Math.max(messageBytesMax, HELLO_BYTES));
  }

  /** Whether the stream takes bytes that will leave now, and not after those that it holds back. */
  get takes(): boolean {
    const { stream } = this;
    return stream !== null && stream.status === "open" && !stream.writableNeedsDrain && stream.writeBufferLength === 0;
  }
}

/** A connection that is, or wants to be, the link to a peer. It ends once, as a whole. */
class Link {
  isUp = false;
  isIntroducing = false;
  /** The life of the peer that is at the other end, null until it has said hello. */
  peerBoot: string | null = null;
  readonly #lanes: Record<Lane, OpenLane>;
  #hasEnded = false;
  #isFlushing = false;
  #ticks = 0;
  #silentTicks = 0;
  #idleTicks = 0;

  /** `forget` is called when it ends without having been the link. */
  constructor(
    private readonly transport: Libp2pTransport,
    readonly peer: Peer,
    readonly connection: Connection,
    private readonly forget: () => void,
  ) {
    const lane = (name: Lane) => new OpenLane(name, transport.messageBytesMax);
    this.#lanes = { replication: lane("replication"), forward: lane("forward"), bulk: lane("bulk") };
    connection.addEventListener(
      "close",
      ({ error }) => this.end(error ?? new Error("The peer has ended the connection")),
    );
    if (connection.status !== "open") queueMicrotask(() => this.end(new Error("The connection has ended")));
  }

  attach(name: Lane, stream: Stream): void {
    const lane = this.#lanes[name];
    if (this.#hasEnded || lane.stream !== null || stream.status !== "open") {
      stream.abort(new Error(`The stream for ${name} was not expected`));
      return this.end(new Error(`The stream for ${name} came twice, late or closed`));
    }
    lane.stream = stream;
    tellWindowInSteps(stream);
    const closed = () => this.end(new Error(`The peer has ended its stream for ${name}`));
    stream.addEventListener("close", closed);
    stream.addEventListener("remoteCloseWrite", closed);
    // After the stream's own part in it, which is to send what it has held back.
    stream.addEventListener("drain", () => this.#flushSoon());
    stream.addEventListener("message", ({ data }) => {
      this.#silentTicks = 0;
      if (data instanceof Uint8Array) lane.decoder.push(plain(data));
      else for (const piece of data) lane.decoder.push(plain(piece));
      this.#deliver(lane);
    });
    this.#decideWhenComplete();
  }

  sayHello(): void {
    const inCommon = new TextEncoder().encode(this.transport.inCommon);
    const hello = new Uint8Array(HELLO_BYTES + inCommon.length);
    hello.set(inCommon, HELLO_BYTES);
    const view = new DataView(hello.buffer);
    view.setUint8(0, HELLO);
    view.setUint16(1, this.transport.node, true);
    view.setUint16(3, this.peer.index, true);
    hello.set(this.transport.boot, 5);
    this.#lanes.replication.queue.push(hello, true);
    this.#flushSoon();
  }

  send(name: Lane, bytes: Uint8Array): boolean {
    const lane = this.#lanes[name];
    if (!this.hasRoom(name, bytes.length)) {
      lane.refusedBytes = Math.max(lane.refusedBytes, bytes.length);
      return false;
    }
    lane.queue.push(bytes);
    this.#flushSoon();
    return true;
  }

  queuedBytes(name: Lane): number {
    const { queue, stream } = this.#lanes[name];
    return queue.bytes + (stream?.writeBufferLength ?? 0);
  }

  hasRoom(name: Lane, bytes: number): boolean {
    const queued = this.#lanes[name].queue.bytes;
    return queued === 0 || queued + bytes <= this.transport.queueBytesMax[name];
  }

  pause(name: PausableLane): void {
    const lane = this.#lanes[name];
    if (lane.isPaused) return;
    lane.isPaused = true;
    // In a turn of its own: within a listener that `resume` calls, yamux would go on sending windows.
    queueMicrotask(() => this.#applyPause(lane));
  }

  resume(name: PausableLane): void {
    const lane = this.#lanes[name];
    if (!lane.isPaused) return;
    lane.isPaused = false;
    queueMicrotask(() => {
      this.#applyPause(lane);
      this.#deliver(lane);
    });
  }

  #applyPause(lane: OpenLane): void {
    const { stream, isPaused } = lane;
    if (this.#hasEnded || stream === null) return;
    try {
      if (isPaused && stream.readStatus === "readable") stream.pause();
      if (!isPaused && stream.readStatus === "paused") stream.resume();
    } catch (error) {
      this.end(error as Error);
    }
  }

  /** Ends all of it, at once and for both ends. Later calls do nothing. */
  end(reason: Error): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    try {
      this.connection.abort(reason);
    } catch { /* It has ended. */ }
    if (this.isUp) {
      this.isUp = false;
      return this.transport.down(this, reason);
    }
    this.forget();
    if (this.connection.direction === "outbound") this.transport.failed(this.peer, reason);
  }

  tick(): void {
    if (!this.isUp) {
      if (++this.#ticks > FORMING_TICKS_MAX) this.end(new Error("The peer did not say hello in time"));
      return;
    }
    if (++this.#silentTicks > SILENT_TICKS_MAX) return this.end(new Error("The peer is silent"));
    const { queue } = this.#lanes.replication;
    if (++this.#idleTicks >= LIFE_TICKS && queue.bytes === 0) queue.push(Uint8Array.of(ALIVE), true);
    this.#flushSoon(); // Also for what waits: should libp2p once not say that a stream has drained.
  }

  /** Delivers what came before both ends had agreed. */
  deliverAll(): void {
    for (const name of LANES) this.#deliver(this.#lanes[name]);
  }

  #deliver(lane: OpenLane): void {
    this.transport.tell(() => {
      // Before the link is up only the hello is looked at; what is behind it waits here.
      while (
        !this.#hasEnded && !lane.isPaused && (this.isUp || lane.name === "replication" && this.peerBoot === null)
      ) {
        const body = lane.decoder.next();
        if (body === null) return;
        if (lane.decoder.isControl) this.#hear(body);
        else if (this.isUp) this.transport.handlers.message(this.peer.index, lane.name, body);
        else throw new BadFrame("A message came before the hello");
      }
    }, this);
  }

  #hear(control: Uint8Array): void {
    if (control[0] === ALIVE) return;
    if (control[0] !== HELLO || control.length < HELLO_BYTES || this.peerBoot !== null) {
      throw new BadFrame("A control frame came that this version does not know");
    }
    const view = new DataView(control.buffer, control.byteOffset);
    const [from, to] = [view.getUint16(1, true), view.getUint16(3, true)];
    if (from !== this.peer.index || to !== this.transport.node) {
      throw new BadFrame(
        `${this.peer.peerId} takes itself for node ${from} and this one for node ${to}; ` +
          `here they are ${this.peer.index} and ${this.transport.node}`,
      );
    }
    const inCommon = new TextDecoder().decode(control.subarray(HELLO_BYTES));
    if (inCommon !== this.transport.inCommon) {
      const why = this.transport.differs(this.peer, differenceBetween(inCommon, this.transport.inCommon));
      return this.end(new Error(why));
    }
    this.peerBoot = control.subarray(5, HELLO_BYTES).join();
    if (this.connection.direction === "outbound") this.transport.up(this);
    else this.#decideWhenComplete();
  }

  #decideWhenComplete(): void {
    if (this.connection.direction === "outbound" || this.peerBoot === null || this.#hasEnded) return;
    if (LANES.every((name) => this.#lanes[name].stream !== null)) this.transport.decide(this);
  }

  #flushSoon(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    queueMicrotask(() => this.#flush());
  }

  /** Hands libp2p what it takes, the most urgent first. */
  #flush(): void {
    this.#isFlushing = false;
    if (this.#hasEnded) return;
    try {
      for (;;) {
        const name = LANES.find((name) => this.#lanes[name].queue.bytes > 0 && this.#lanes[name].takes);
        if (name === undefined) break;
        const { stream, queue } = this.#lanes[name];
        stream!.send(queue.take(SLICE_BYTES));
        this.#idleTicks = 0;
      }
    } catch (error) {
      return this.end(error as Error); // A stream may end between its last word and ours.
    }
    for (const name of LANES) {
      const lane = this.#lanes[name];
      // Half empty, so that a sender who fills it is not woken for each slice.
      if (lane.refusedBytes === 0 || lane.queue.bytes > this.transport.queueBytesMax[name] / 2) continue;
      if (!this.hasRoom(name, lane.refusedBytes)) continue;
      lane.refusedBytes = 0;
      if (this.isUp) this.transport.tell(() => this.transport.handlers.writable(this.peer.index, name), this);
    }
  }
}

/**
 * Noise's cipher, of libsodium in WebAssembly. By itself libp2p takes that of `node:crypto` for all that is not small,
 * which is quicker still and which Deno 2.6 does not have: the first large message would end the connection. That in
 * WebAssembly which libp2p brings for small messages takes nearly three times as long.
 */
async function noiseCrypto(): Promise<Partial<{ crypto: ICryptoInterface }>> {
  if (getCiphers().includes("chacha20-poly1305")) return {};
  await sodium.ready;
  return {
    crypto: {
      ...pureJsCrypto,
      chaCha20Poly1305Encrypt: (plain, nonce, data, key) =>
        sodium.crypto_aead_chacha20poly1305_ietf_encrypt(plain.subarray(), data, null, nonce, key),
      chaCha20Poly1305Decrypt(sealed, nonce, data, key) {
        try {
          return sodium.crypto_aead_chacha20poly1305_ietf_decrypt(null, sealed.subarray(), data, nonce, key);
        } catch (cause) {
          throw new BadFrame("Bytes came that the peer of this connection has not sealed", { cause });
        }
      },
    },
  };
}

interface Decoder {
  isSpared?: boolean;
  lengthDecoder(bytes: { readonly byteLength: number }): number;
  decode(bytes: unknown): Generator<unknown>;
}

/**
 * Of Noise: after each packet its decoder looks for another one, throws an error as there is none, and catches it. That
 * took a fifth of the time of a message. Here it finds one that has not come as a whole, which it waits for as well.
 */
function spareDecodersErrors(): void {
  const prototype = LengthPrefixedDecoder.prototype as unknown as Decoder;
  if (prototype.isSpared) return;
  prototype.isSpared = true;
  const { decode } = prototype;
  prototype.decode = function (bytes) {
    if (!Object.hasOwn(this, "isSpared")) {
      this.isSpared = true;
      const { lengthDecoder } = this;
      this.lengthDecoder = (bytes) =>
        bytes.byteLength < NOISE_LENGTH_BYTES ? NOISE_PACKET_BYTES_MAX : lengthDecoder(bytes);
    }
    return decode.call(this, bytes);
  };
}

/**
 * Makes a connection's socket quick; it denies nothing.
 *
 * libp2p asks for packets that leave at once when it makes the socket, and Deno 2.6 does not hear it there: a round trip
 * would take as long as the two delayed acknowledgements in it, 88 ms. And it writes half a dozen pieces for a batch of
 * messages, each of which costs Deno as much as the whole: here those of one turn leave together.
 */
function quicken(connection: MultiaddrConnection): false {
  const { socket } = connection as MultiaddrConnection & { socket?: Socket };
  if (socket === undefined) return false;
  socket.setNoDelay(true);
  const write = socket.write as (...args: unknown[]) => boolean;
  let isCorked = false;
  socket.write = ((...args: unknown[]) => {
    if (!isCorked) {
      isCorked = true;
      socket.cork();
      queueMicrotask(() => {
        isCorked = false;
        socket.uncork();
      });
    }
    return write.apply(socket, args);
  }) as Socket["write"];
  return false;
}

/**
 * Yamux answers each piece of a stream with a message of its own that says how much of the window is free again: as many
 * packets as there are messages, each of which costs both ends what a message costs. Here it says so now and then.
 */
function tellWindowInSteps(stream: Stream): void {
  const yamux = stream as Stream & {
    state: number;
    recvWindow: number;
    recvWindowCapacity: number;
    sendWindowUpdate(): void;
  };
  if (typeof yamux.sendWindowUpdate !== "function" || typeof yamux.recvWindowCapacity !== "number") {
    throw new Error("This version of yamux does not tell of its windows as those before it");
  }
  const tell = yamux.sendWindowUpdate;
  yamux.sendWindowUpdate = () => {
    // Before a stream is established, this is also the word that it is.
    const canWait = yamux.state === YAMUX_ESTABLISHED;
    if (!canWait || yamux.recvWindow - yamux.recvWindowCapacity >= WINDOW_STEP_BYTES) tell.call(yamux);
  };
}

function differenceBetween(theirs: string, own: string): string {
  const [there, here] = [theirs.split("\n"), own.split("\n")];
  const count = Math.max(there.length, here.length);
  return Array.from({ length: count }, (_, i) => [there[i] ?? "nothing", here[i] ?? "nothing"])
    .filter(([one, other]) => one !== other)
    .map(([one, other]) => `${one} there, ${other} here`)
    .join("; ");
}

/** The same bytes without what `Buffer` does otherwise: its `slice` is no copy. */
function plain(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

function reasonOf(error: Error): string {
  if (error instanceof AggregateError) {
    return [...new Set(error.errors.map((one) => reasonOf(one as Error)))].join("; ");
  }
  if (error.name === "EncryptionFailedError") {
    return `the handshake failed, as with another cluster, secret, version or key: ${error.message}`;
  }
  return error.message;
}

/** libp2p's own log: what matters of it is told here, in the words of a cluster. */
const SILENT: ComponentLogger = { forComponent: () => silentLogger };
const silentLogger: Logger = Object.assign(() => {}, {
  enabled: false,
  error: () => {},
  trace: () => {},
  newScope: () => silentLogger,
});
