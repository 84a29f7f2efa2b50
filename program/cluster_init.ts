/**
 * Makes a cluster: a folder for each node, with its config, its key and the secret that all share. They are then carried
 * to where the nodes run. A store that was alone can become node 0, with all that is in it; the others get a copy of it,
 * so that all begin with the same log, and what is in it is on a majority of them from the first moment.
 *
 * All that is asked for is checked before anything is written. What is written stands under another name until it is whole:
 * whatever fails leaves neither a folder nor a trace in the store that was to be adopted.
 *
 * @module
 */
import { isIPv4, isIPv6 } from "node:net";
import { dirname, resolve } from "node:path";
import { checkFolder, Damaged, FolderInUse, FolderMismatch, InvalidArgument, systemDisk } from "../core/mod.ts";
import { NoSpace } from "../core/log/disk.ts";
import { metaPath, readMeta } from "../core/meta.ts";
import {
  type ClusterConfig,
  clusterConfigText,
  configPath,
  keyPath,
  type NodeEntry,
  SECRET_BYTES,
  secretPath,
  secretText,
} from "../net/cluster_config.ts";
import { clusterMetaPath, foundingPath, foundingText, restoredPath } from "../net/cluster_meta.ts";
import { checkShape, type ClusterShape } from "../net/consensus/topology.ts";
import { placeOf } from "../net/node_address.ts";
import { type Address, type ClusterInit, formatAddress, isLoopback, type Options } from "../options.ts";

/** Copies of an event, where so many nodes are. */
const REPLICATION_FACTOR = 3;

export interface MadeCluster {
  /** That of node 0; the others differ in their `node`. */
  readonly config: ClusterConfig;
  /** Of each node. */
  readonly folders: readonly string[];
  readonly clients: readonly Address[];
  /** Of the store that was alone, as much as was copied for each node but the first; null where there was none. */
  readonly adoptedBytes: number | null;
}

/**
 * `identityIn` makes a node's key in a folder; `say` is told what takes long.
 * @throws {InvalidArgument} | {FolderMismatch} | {FolderInUse} it cannot be made so, and nothing was
 */
export async function initCluster(
  { nodes, clients, adopt, ...asked }: ClusterInit,
  options: Options,
  identityIn: (dir: string) => Promise<{ peerId: string }>,
  say: (line: string) => void = () => {},
): Promise<MadeCluster> {
  const dir = resolve(asked.dir);
  const adopted = adopt === undefined ? undefined : resolve(adopt);
  const problems = problemsOf(nodes, clients);
  if (`${dir}/`.startsWith(`${adopted}/`)) {
    problems.push(`--dir ${dir} must not lie in ${adopted}, which is a node's own`);
  }
  if (problems.length > 0) throw new InvalidArgument(problems.join("; "));
  requireMissingOrEmpty(dir);
  if (adopted !== undefined) await requireSound(adopted, say);
  const lock = adopted === undefined ? null : await lockOf(adopted);
  try {
    const { values, given } = options;
    const config: Omit<ClusterConfig, "node" | "nodes"> = {
      clusterId: crypto.randomUUID(),
      ...sizesOf(adopted, options),
      replicationFactor: given.has("replication.factor")
        ? values["replication.factor"]
        : Math.min(REPLICATION_FACTOR, nodes.length),
    };
    requireShape(config, nodes.length);
    return await make(dir, adopted, config, nodes, clients, identityIn, say);
  } finally {
    lock?.release();
  }
}

async function make(
  dir: string,
  adopted: string | undefined,
  shape: Omit<ClusterConfig, "node" | "nodes">,
  nodes: readonly Address[],
  clients: readonly Address[],
  identityIn: (dir: string) => Promise<{ peerId: string }>,
  say: (line: string) => void,
): Promise<MadeCluster> {
  const secret = secretText(crypto.getRandomValues(new Uint8Array(SECRET_BYTES)));
  Deno.mkdirSync(dirname(dir), { recursive: true });
  const staging = `${dir}.tmp-${crypto.randomUUID()}`;
  Deno.mkdirSync(staging, { mode: 0o700 }); // All secrets lie below it.
  const names = nodes.map((_, index) => `node-${index}`);
  const files = adopted === undefined ? [] : filesOf(adopted);
  const adoptedBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
  try {
    requireRoom(dirname(dir), adoptedBytes * (nodes.length - 1));
    const entries: NodeEntry[] = [];
    for (const [index, name] of names.entries()) {
      const folder = `${staging}/${name}`;
      Deno.mkdirSync(folder, { mode: 0o750 });
      const { peerId } = await identityIn(folder);
      entries.push({ peerId, addresses: [placeOf(nodes[index]!)], client: formatAddress(clients[index]!) });
    }
    const founding = foundingText(shape.clusterId, adopted === undefined ? "blank" : "adopted");
    const texts = names.map((_, node) => clusterConfigText({ ...shape, node, nodes: entries }));
    for (const [index, name] of names.entries()) {
      const folder = `${staging}/${name}`;
      if (index > 0 && adopted !== undefined) {
        say(`Copying the store for node ${index}, ${inMiB(adoptedBytes)}`);
        await copy(files, adopted, folder);
      }
      writeFile(secretPath(folder), secret, 0o600);
      writeFile(foundingPath(folder), founding, 0o640);
      writeFile(configPath(folder), texts[index]!, 0o640);
      await systemDisk.syncFolder(folder);
    }
    await systemDisk.syncFolder(staging);
    if (systemDisk.exists(dir)) Deno.removeSync(dir); // It is empty.
    if (adopted !== undefined) await adopt(`${staging}/${names[0]}`, adopted);
    try {
      Deno.renameSync(staging, dir);
    } catch (error) {
      if (adopted !== undefined) disown(adopted);
      throw error;
    }
    await systemDisk.syncFolder(dirname(dir));
    const folders = names.map((name, index) => index === 0 && adopted !== undefined ? adopted : `${dir}/${name}`);
    return {
      config: { ...shape, node: 0, nodes: entries },
      folders,
      clients,
      adoptedBytes: adopted === undefined ? null : adoptedBytes,
    };
  } catch (error) {
    systemDisk.remove(staging);
    throw error;
  }
}

const PLACED = [[keyPath, 0o600], [secretPath, 0o600], [foundingPath, 0o640], [configPath, 0o640]] as const;

/** Puts into the folder of a store what makes it a node. The config comes last: without it the store is alone, as before. */
async function adopt(from: string, folder: string): Promise<void> {
  try {
    for (const [path, mode] of PLACED) {
      const temporary = `${path(folder)}.tmp`;
      systemDisk.remove(temporary);
      writeFile(temporary, Deno.readFileSync(path(from)), mode);
      Deno.renameSync(temporary, path(folder));
      await systemDisk.syncFolder(folder);
    }
  } catch (error) {
    disown(folder);
    throw error;
  }
  systemDisk.remove(from);
}

function disown(folder: string): void {
  for (const [path] of PLACED.toReversed()) {
    systemDisk.remove(path(folder));
    systemDisk.remove(`${path(folder)}.tmp`);
  }
}

function writeFile(path: string, content: string | Uint8Array, mode: number): void {
  using file = Deno.openSync(path, { write: true, createNew: true, mode });
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
  file.syncSync();
}

interface StoreFile {
  /** Below the store's folder. */
  readonly path: string;
  readonly bytes: number;
}

/** What lies in a store's folder and is not of the store: the lock, and what an adoption that was killed may have left. */
const NOT_STORE = /^\/(lock|cluster\.|node\.key)/;

/** All files of a store. */
function filesOf(folder: string): StoreFile[] {
  const files: StoreFile[] = [];
  const visit = (below: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(`${folder}${below}`)) {
      const path = `${below}/${name}`;
      if (NOT_STORE.test(path)) continue;
      if (isDirectory) visit(path);
      else files.push({ path, bytes: Deno.statSync(`${folder}${path}`).size });
    }
  };
  visit("");
  return files;
}

/** @throws {NoSpace} */
function requireRoom(folder: string, bytes: number): void {
  if (bytes === 0) return;
  const free = systemDisk.freeBytes(folder);
  if (free >= bytes) return;
  throw new NoSpace(`The copies of the store take ${inMiB(bytes)}, and ${folder} has room for ${inMiB(free)}`);
}

/** A durable copy. That it is one, each read will see: all bytes of a store are under checksums. */
async function copy(files: readonly StoreFile[], from: string, to: string): Promise<void> {
  const folders = new Set<string>([to]);
  for (const { path } of files) {
    const target = `${to}${path}`;
    for (let folder = dirname(target); !folders.has(folder); folder = dirname(folder)) folders.add(folder);
    Deno.mkdirSync(dirname(target), { recursive: true });
    await Deno.copyFile(`${from}${path}`, target);
    using file = Deno.openSync(target, { write: true });
    await file.sync();
  }
  for (const folder of folders) await systemDisk.syncFolder(folder);
}

/**
 * It is a store that is alone, and whole: of what is damaged on all nodes none could recover.
 * @throws {InvalidArgument} | {Damaged} | {FolderInUse}
 */
async function requireSound(folder: string, say: (line: string) => void): Promise<void> {
  if (!systemDisk.exists(metaPath(folder))) {
    throw new InvalidArgument(`--adopt ${folder}: there is no data folder, it has no meta.json`);
  }
  for (const path of [configPath, secretPath, keyPath, clusterMetaPath, foundingPath, restoredPath]) {
    if (systemDisk.exists(path(folder))) {
      throw new InvalidArgument(`--adopt ${folder}: it belongs to a cluster already, it has ${path(folder)}`);
    }
  }
  (await lockOf(folder)).release(); // Whoever checks has it for himself.
  say(`Checking the store in ${folder}`);
  const { problems: [first] } = await checkFolder({ dir: folder });
  if (first === undefined) return;
  throw new Damaged(first.file, first.offset, `${first.reason}. esker repair makes a store of all that is whole`);
}

async function lockOf(folder: string): Promise<{ release(): void }> {
  const lock = await systemDisk.lock(`${folder}/lock`);
  if (lock === null) throw new FolderInUse(folder);
  return lock;
}

function inMiB(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}

/** What the adopted folder was made with, else what the settings say. */
function sizesOf(
  adopted: string | undefined,
  { values, given }: Options,
): Pick<ClusterConfig, "partitionCount" | "bucketCount" | "segmentBytes"> {
  const meta = adopted === undefined ? null : readMeta(systemDisk, adopted);
  const size = (key: "partition.count" | "bucket.count" | "segment.size_bytes", name: string, stored?: number) => {
    if (stored === undefined) return values[key];
    if (given.has(key) && values[key] !== stored) throw new FolderMismatch(adopted!, name, stored, values[key]);
    return stored;
  };
  const partitionCount = size("partition.count", "partition count", meta?.partitionCount);
  const buckets = size("bucket.count", "bucket count", meta?.bucketCount);
  return {
    partitionCount,
    // As for a folder that is made alone: the default number of buckets yields to fewer partitions.
    bucketCount: given.has("bucket.count") ? buckets : Math.min(buckets, partitionCount),
    segmentBytes: size("segment.size_bytes", "segment size", meta?.segmentBytes),
  };
}

function problemsOf(nodes: readonly Address[], clients: readonly Address[]): string[] {
  const problems: string[] = [];
  const texts = nodes.map(formatAddress);
  for (const [index, text] of texts.entries()) {
    const { hostname, port } = nodes[index]!;
    if (texts.indexOf(text) < index) problems.push(`--nodes has ${text} twice`);
    if (port === 0) problems.push(`--nodes: ${text} needs a port`);
    if (isWildcard(hostname)) problems.push(`--nodes: ${text} is nowhere that other nodes could find it`);
  }
  if (nodes.some(isLoopback) && !nodes.every(isLoopback)) {
    problems.push("--nodes: an address that only its own machine reaches is of no use to nodes on others");
  }
  if (clients.length !== nodes.length) {
    problems.push(`--clients has ${clients.length} addresses: there are ${nodes.length} nodes`);
  }
  const places = clients.map((client, index) => `${formatAddress(client)} on ${nodes[index]?.hostname}`);
  for (const [index, place] of places.entries()) {
    if (places.indexOf(place) < index) problems.push(`--clients has ${place} twice`);
    if (clients[index]!.port === 0) problems.push(`--clients: ${formatAddress(clients[index]!)} needs a port`);
    if (formatAddress(clients[index]!) === texts[index]) {
      problems.push(`Node ${index} cannot listen for nodes and for clients on ${texts[index]}`);
    }
  }
  return problems;
}

function requireShape(shape: Omit<ClusterShape, "nodeCount">, nodeCount: number): void {
  try {
    checkShape({ ...shape, nodeCount });
  } catch (cause) {
    throw new InvalidArgument((cause as Error).message, { cause });
  }
}

function requireMissingOrEmpty(dir: string): void {
  let names: string[];
  try {
    names = Array.from(Deno.readDirSync(dir), ({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw new InvalidArgument(`--dir ${dir} cannot be made: ${(error as Error).message}`, { cause: error });
  }
  if (names.length > 0) throw new InvalidArgument(`--dir ${dir} must be missing or empty: it has ${names[0]}`);
}

function isWildcard(hostname: string): boolean {
  return isIPv4(hostname) && hostname === "0.0.0.0" || isIPv6(hostname) && /^[0:]*$/.test(hostname);
}

/** What was made, and what to do with it. */
export function describeCluster({ config, folders, clients, adoptedBytes }: MadeCluster, version: string): string {
  const { nodes, partitionCount, bucketCount, replicationFactor } = config;
  const majority = Math.floor(replicationFactor / 2) + 1;
  const rows = nodes.map(({ addresses, client }, index) =>
    `  node ${index}  ${folders[index]}  nodes at ${addresses[0]}  clients at ${client}`
  );
  return [
    `Esker ${version} made a cluster of ${nodes.length} nodes: ${partitionCount} partitions in ${bucketCount} buckets, ` +
    `${replicationFactor} copies of each.`,
    `What a bucket is to store must reach ${majority} of its ${replicationFactor} copies.`,
    "",
    ...rows,
    "",
    "Carry each folder to its machine with its modes (rsync -a, cp -a), and keep it from others: the key of the node",
    "and the secret of the cluster are in it. There it is started by",
    "",
    `  esker serve --dir FOLDER${clients.every(isLoopback) ? "" : " --network-protected-mode false"}`,
    "",
    ...(adoptedBytes === null ? [] : [
      `Node 0 is the store that was alone, and each other node has a copy of it, ${inMiB(adoptedBytes)}. Start it as a`,
      "node only: what it would store alone from now on, the others would not have.",
      "",
    ]),
  ].join("\n");
}
