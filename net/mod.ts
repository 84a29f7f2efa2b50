/**
 * A node of a cluster, started: `startCluster(options)` gives an EventStore over all nodes.
 *
 * It loads libp2p, which is heavy and takes the environment away (libp2p_surroundings.ts): to be imported only where
 * there is a cluster.
 *
 * @module
 */
import { type Bound, type DatabaseOptions, openDatabase } from "../core/database.ts";
import type { Environment, Log } from "../core/environment.ts";
import { InvalidArgument } from "../core/errors.ts";
import { systemDisk } from "../core/log/disk.ts";
import type { EventStore } from "../core/store.ts";
import {
  type ClusterConfig,
  configPath,
  keyPath,
  listenAddressOf,
  readSecret,
  secretPath,
  shapeOf,
  transportNodesOf,
} from "./cluster_config.ts";
import { type Beginning, forgetBeginning, forgetForced, holdToFirstStart } from "./cluster_meta.ts";
import { ClusterStore } from "./cluster.ts";
import { type ClusterShape, configText } from "./consensus/topology.ts";
import { dispatched } from "./dispatcher.ts";
import { Driver } from "./driver.ts";
import { identityIn, libp2pTransport, PEER_QUEUES_BYTES_MAX } from "./libp2p_transport.ts";
import { DrivenNode } from "./local_node.ts";
import { ReplicaLinks } from "./replica_links.ts";
import type { Transport } from "./transport.ts";

/** Time passes for the replicas in steps of this. */
const TICK_MS = 50;
/** So long a node that is to stop waits for others to lead in its place: a term change takes some tenths of a second. */
const HAND_OVER_MS_MAX = 3000;

/** How much memory and disk a node's own store may take, as for a store that is alone. */
export type StoreLimits = Pick<
  DatabaseOptions,
  "journalBytes" | "cacheBytes" | "tailBytes" | "headBytes" | "filterBytes" | "reserveBytes"
>;

export interface ClusterOptions {
  /** The data folder, with the key and the secret in it. */
  dir: string;
  /** What `readClusterConfig` found there. */
  config: ClusterConfig;
  limits?: StoreLimits;
  environment: Environment;
  log: Log;
}

/** A node that serves. */
export interface ClusterNode {
  /** The cluster as this node sees it. It is not to be closed by itself: `close` does that. */
  readonly store: EventStore;
  readonly peerId: string;
  /** Whether this start made the store in the folder. */
  readonly created: boolean;
  /** What this node holds in memory at most, part by part. */
  readonly bounds: readonly Bound[];
  /** Gives away what this node leads, so that nobody has to wait for its silence. Resolves when that is done, or cannot be. */
  handOver(): Promise<void>;
  /** Waits for what is in flight, ends the links, closes the folder. */
  close(): Promise<void>;
}

/** All that a node is made from, checked. */
export interface NodeParts {
  dir: string;
  node: number;
  shape: ClusterShape;
  beginning: Beginning;
  config: ClusterConfig;
  /** Not started: whoever takes the parts does that, and closes it. */
  transport: Transport;
  peerId: string;
  limits: StoreLimits;
  environment: Environment;
  log: Log;
}

/**
 * Starts a node. Resolves as soon as it can answer clients, also where no other node is there yet: a start that waited for
 * others could neither be asked for its state nor be stopped.
 * @throws {InvalidArgument} the config, the key or the secret cannot be used
 * @throws {FolderMismatch} the folder was another node before, or one of another cluster
 * @throws {Damaged} | {FolderInUse}
 * @throws {Deno.errors.AddrInUse} another program listens where the other nodes look for this one
 */
export async function startCluster(options: ClusterOptions): Promise<ClusterNode> {
  const { dir, config, environment, log, limits = {} } = options;
  const { node, clusterId } = config;
  const secret = readSecret(systemDisk, dir);
  // Not made here: it would be one that no other node knows.
  if (!systemDisk.exists(keyPath(dir))) {
    throw new InvalidArgument(
      `There is no ${keyPath(dir)}: it must be the key that esker cluster init made for node ${node}`,
    );
  }
  for (const path of [secretPath(dir), keyPath(dir)]) {
    if (isOpenToOthers(path)) log("warn", "Other users may read what only this node should: chmod 600", { path });
  }
  const identity = await identityIn(dir);
  const { peerId } = config.nodes[node]!;
  if (identity.peerId !== peerId) {
    throw new InvalidArgument(
      `${keyPath(dir)} is the key of ${identity.peerId}, and node ${node} in ${configPath(dir)} is ${peerId}`,
    );
  }
  const transport = libp2pTransport({
    ...{ identity, node, nodes: transportNodesOf(config), listen: listenAddressOf(config).place },
    ...{ clusterId, secret, inCommon: configText(shapeOf(config)), environment, log },
  });
  const beginning = await holdToFirstStart(systemDisk, dir, config);
  return await startNode({
    ...{ dir, node, shape: shapeOf(config), beginning, config },
    ...{ transport, peerId: identity.peerId, limits, environment, log },
  });
}

/** Replicas on the engine, and the store over all nodes. */
async function startNode(parts: NodeParts): Promise<ClusterNode> {
  const { dir, node, shape, beginning, config, transport, peerId, limits, environment, log } = parts;
  const { partitionCount, bucketCount, segmentBytes } = shape;
  const links = new ReplicaLinks({
    ...{ shape, transport, log },
    receive: (packet) => driver.receive(packet),
    lost: (bucket, to, from) => driver.lost(bucket, to, from),
  });
  const driver = await Driver.open(
    {
      ...{ shape, node, founding: beginning.founder, isRestored: beginning.isRestored, environment, log },
      forcesRecovery: beginning.isForced,
      onWhole: () => {
        forgetForced(systemDisk, dir).catch((error) => log("error", "The file cluster.forced stays", { error }));
      },
      send: (to, packet) => links.send(to, packet),
    },
    (group) =>
      openDatabase({ ...{ dir, partitionCount, bucketCount, segmentBytes, environment, log, group }, ...limits }),
  );
  // One that could not begin, on a full disk, may have nothing yet: the next start is told the same.
  if (driver.hasBegun) await forgetBeginning(systemDisk, dir);
  const store = new ClusterStore({
    ...{ shape, transport, environment, log },
    local: new DrivenNode(driver, shape),
    nodes: config.nodes,
  });
  const ticks = setInterval(() => driver.tick(), TICK_MS);
  const close = async () => {
    await store.close();
    clearInterval(ticks);
    await driver.close();
    await transport.close();
    await driver.store.close();
  };
  try {
    await transport.start(dispatched(links.handlers, store.handlers));
  } catch (error) {
    await close();
    throw error;
  }
  store.start();
  const { created } = driver.store;
  const bounds = [
    ...driver.store.bounds,
    { of: "queues to other nodes", bytes: transport.peers.length * PEER_QUEUES_BYTES_MAX },
  ];
  return { store, peerId, created, bounds, handOver: () => driver.handOver(HAND_OVER_MS_MAX), close };
}

function isOpenToOthers(path: string): boolean {
  const { mode } = Deno.statSync(path);
  return mode !== null && (mode & 0o077) !== 0;
}
