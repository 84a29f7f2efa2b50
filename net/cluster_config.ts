/**
 * The files that make a data folder a node of a cluster. `esker cluster init` writes them, people may change them:
 *
 *     DIR/cluster.json     what the cluster is, who its nodes are and where; the same everywhere, but for `node`
 *     DIR/cluster.secret   64 hex digits, the same everywhere, for the user alone who runs the store (mode 0600)
 *     DIR/node.key         this node's own, likewise; its peer id stands in cluster.json
 *
 * A node's index is its place in the list, so that no two have the same. A key that nobody knows is an error, as in the
 * settings file. What may change later are addresses alone: cluster_meta.ts holds a folder to the rest.
 *
 * Nothing here knows libp2p, so that whoever only computes permissions need not load that.
 *
 * @module
 */
import { InvalidArgument } from "../core/errors.ts";
import type { Disk } from "../core/log/disk.ts";
import { checkShape, type ClusterShape } from "./consensus/topology.ts";
import { type NodeAddress, parseNodeAddress, placeOf } from "./node_address.ts";

export const CLUSTER_FORMAT = 1;
export const SECRET_BYTES = 32;
/** More than a file of a thousand nodes has: what is larger is something else. */
const CONFIG_BYTES_MAX = 1024 * 1024;

export interface ClusterConfig extends Omit<ClusterShape, "nodeCount"> {
  /** The index of this node in `nodes`. */
  readonly node: number;
  readonly nodes: readonly NodeEntry[];
  /** Where this node listens for the others, if not at its first address: `/ip4/0.0.0.0/tcp/9092`. */
  readonly listen?: string;
}

export interface NodeEntry {
  readonly peerId: string;
  /** Where the others find it, without its peer id. */
  readonly addresses: readonly string[];
  /** Where it listens for clients, `HOST:PORT`, unless its settings say otherwise. */
  readonly client: string;
}

export function configPath(dir: string): string {
  return `${dir}/cluster.json`;
}

export function secretPath(dir: string): string {
  return `${dir}/cluster.secret`;
}

export function keyPath(dir: string): string {
  return `${dir}/node.key`;
}

export function shapeOf(config: ClusterConfig): ClusterShape {
  const { clusterId, partitionCount, bucketCount, replicationFactor, segmentBytes } = config;
  return {
    ...{ clusterId, nodeCount: config.nodes.length, partitionCount, bucketCount },
    ...{ replicationFactor, segmentBytes },
  };
}

/**
 * Where this node listens for the others. A name is how they find it: what it means on this machine would be known too late
 * for a permission, so all addresses of the machine are listened at. Who is let in does not depend on it.
 */
export function listenAddressOf({ listen, nodes, node }: ClusterConfig): NodeAddress {
  const address = parseNodeAddress(listen ?? nodes[node]!.addresses[0]!);
  const { host, port, place } = address;
  if (!place.startsWith("/dns")) return address;
  const hostname = host === "localhost" ? "127.0.0.1" : place.startsWith("/dns6/") ? "::" : "0.0.0.0";
  return parseNodeAddress(placeOf({ hostname, port }));
}

/** All places at which the others may be. */
export function peerAddressesOf({ nodes, node }: ClusterConfig): NodeAddress[] {
  return nodes.flatMap(({ addresses }, index) => index === node ? [] : addresses.map(parseNodeAddress));
}

/** The addresses of each node, with its peer id, as the transport takes them. */
export function transportNodesOf({ nodes }: ClusterConfig): string[][] {
  return nodes.map(({ peerId, addresses }) => addresses.map((address) => `${address}/p2p/${peerId}`));
}

/** The config of a node, null where the folder is none of a cluster. @throws {InvalidArgument} it cannot be used */
export function readClusterConfig(disk: Disk, dir: string): ClusterConfig | null {
  const path = configPath(dir);
  if (!disk.exists(path)) return null;
  return parseClusterConfig(readText(disk, path, CONFIG_BYTES_MAX), path);
}

/** @throws {InvalidArgument} missing, or not 64 hex digits */
export function readSecret(disk: Disk, dir: string): Uint8Array {
  const path = secretPath(dir);
  if (!disk.exists(path)) {
    throw new InvalidArgument(
      `There is no ${path}: a node needs the secret of its cluster, as the other nodes have it`,
    );
  }
  const digits = readText(disk, path, CONFIG_BYTES_MAX).trim();
  if (!/^[\da-f]+$/i.test(digits) || digits.length !== 2 * SECRET_BYTES) {
    throw new InvalidArgument(`${path} must hold ${2 * SECRET_BYTES} hex digits`);
  }
  return Uint8Array.fromHex(digits);
}

export function secretText(secret: Uint8Array): string {
  return secret.toHex() + "\n";
}

/** The text of cluster.json, for people to read. */
export function clusterConfigText(config: ClusterConfig): string {
  const { node, nodes, listen, ...shape } = config;
  return JSON.stringify(
    { format: CLUSTER_FORMAT, node, ...(listen && { listen }), ...shape, nodes },
    null,
    2,
  ) +
    "\n";
}

/** @throws {InvalidArgument} with all that is wrong in it */
export function parseClusterConfig(text: string, path: string): ClusterConfig {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new InvalidArgument(`${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
  const problems: string[] = [];
  const config = configOf(parsed, problems);
  if (config === null || problems.length > 0) {
    throw new InvalidArgument(`${path} describes no node of a cluster: ${problems.join("; ")}`);
  }
  return config;
}

const KEYS = [
  ...["format", "node", "listen", "clusterId", "partitionCount", "bucketCount", "replicationFactor"],
  ...["segmentBytes", "nodes"],
];
const ENTRY_KEYS = ["peerId", "addresses", "client"];

function configOf(parsed: unknown, problems: string[]): ClusterConfig | null {
  if (!isTable(parsed)) {
    problems.push("it must be an object");
    return null;
  }
  if (parsed.format !== CLUSTER_FORMAT) {
    // Of another format nothing else can be said.
    problems.push(`its format is ${JSON.stringify(parsed.format)}: this program reads ${CLUSTER_FORMAT}`);
    return null;
  }
  requireKnown(parsed, KEYS, "", problems);
  const number = (key: string): number => {
    const value = parsed[key];
    if (Number.isSafeInteger(value)) return value as number;
    problems.push(`${key} must be a whole number: found ${JSON.stringify(value)}`);
    return NaN;
  };
  const config = {
    node: number("node"),
    clusterId: String(parsed.clusterId),
    partitionCount: number("partitionCount"),
    bucketCount: number("bucketCount"),
    replicationFactor: number("replicationFactor"),
    segmentBytes: number("segmentBytes"),
    nodes: entriesOf(parsed.nodes, problems),
    ...(parsed.listen !== undefined && { listen: String(parsed.listen) }),
  };
  const { node, nodes, listen } = config;
  if (typeof parsed.clusterId !== "string") problems.push("clusterId must be text");
  if (nodes.length > 0 && !(node >= 0 && node < nodes.length) && !Number.isNaN(node)) {
    problems.push(`there is no node ${node} in its list: the cluster has ${nodes.length}`);
  }
  if (listen !== undefined) addressProblem(listen, "listen", problems);
  if (problems.length === 0) {
    try {
      checkShape(shapeOf(config));
    } catch (error) {
      problems.push((error as Error).message);
    }
  }
  return config;
}

function entriesOf(parsed: unknown, problems: string[]): NodeEntry[] {
  if (!Array.isArray(parsed) || parsed.length === 0) {
    problems.push("nodes must be a list of nodes");
    return [];
  }
  const owners = new Map<string, number>();
  /** What may stand in the list once. */
  const once = (what: string, text: string, index: number) => {
    const owner = owners.get(text);
    if (owner !== undefined) problems.push(`nodes ${owner} and ${index} have the same ${what}, ${text}`);
    owners.set(text, index);
  };
  return parsed.map((entry: unknown, index) => {
    const name = `nodes[${index}]`;
    if (!isTable(entry)) {
      problems.push(`${name} must be an object`);
      return { peerId: "", addresses: [], client: "" };
    }
    requireKnown(entry, ENTRY_KEYS, `${name}.`, problems);
    const { peerId, addresses, client } = entry;
    if (typeof peerId !== "string" || !/^[1-9A-HJ-NP-Za-km-z]{46,60}$/.test(peerId)) {
      problems.push(`${name}.peerId must be a peer id, such as 12D3KooW…: found ${JSON.stringify(peerId)}`);
    } else once("peer id", peerId, index);
    if (typeof client !== "string") problems.push(`${name}.client must be HOST:PORT: found ${JSON.stringify(client)}`);
    if (!Array.isArray(addresses) || addresses.length === 0) {
      problems.push(`${name}.addresses must be a list with an address`);
    } else {
      for (const address of addresses) {
        if (addressProblem(address, `${name}.addresses`, problems)) once("address", String(address), index);
      }
    }
    return { peerId, addresses: Array.isArray(addresses) ? addresses : [], client } as NodeEntry;
  });
}

/** Whether it is an address without a peer id. */
function addressProblem(address: unknown, name: string, problems: string[]): boolean {
  try {
    if (parseNodeAddress(String(address)).peerId === null) return true;
    problems.push(`${name}: the peer id of ${address} has a place of its own, peerId`);
  } catch (error) {
    problems.push(`${name}: ${(error as Error).message}`);
  }
  return false;
}

function requireKnown(table: Record<string, unknown>, known: string[], before: string, problems: string[]): void {
  for (const key of Object.keys(table)) if (!known.includes(key)) problems.push(`there is no key ${before}${key}`);
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function readText(disk: Disk, path: string, bytesMax: number): string {
  const file = disk.open(path, "read");
  try {
    const size = file.size();
    if (size > bytesMax) throw new InvalidArgument(`${path} has ${size} bytes: it is none of ours`);
    const bytes = new Uint8Array(size);
    file.read(bytes, 0);
    return new TextDecoder().decode(bytes);
  } finally {
    file.close();
  }
}
