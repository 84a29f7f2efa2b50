/**
 * What a folder was when it first started as a node. It can never change, and each start is compared with it.
 *
 *     DIR/cluster.meta.json   {"format":1,"configHash":"…","config":["cluster …","nodes 3",…],"node":0,"crc32":…}
 *
 * cluster.json is for people to change, who may slip, or copy the wrong file. A node that counted partitions or replicas
 * otherwise than before, or took another's place, would contradict what it has acknowledged.
 *
 * Three more files are an operator's word on what the folder holds. A start removes them when all is durable that follows
 * from it:
 *
 *     DIR/cluster.founding   "CLUSTER_ID blank" or "CLUSTER_ID adopted": all nodes are new together with this one, with
 *                            nothing in them, or with the log of one store. `esker cluster init` writes it
 *     DIR/cluster.restored   empty: the folder was put back from an older copy, and lacks what it has acknowledged since
 *
 *     DIR/cluster.forced     empty: of two replicas this node's are lost, and what the other nodes have is to count, also
 *                            if it should not be all that was acknowledged
 *
 * Without the first a replica that has nothing does not count before it has recovered: else a node whose disk was lost
 * would deny what it has acknowledged, and two of them could outvote the one that still knows.
 *
 * @module
 */
import { FolderMismatch, InvalidArgument } from "../core/errors.ts";
import type { Disk } from "../core/log/disk.ts";
import { metaPath, readSummed, readText, writeSummed } from "../core/meta.ts";
import { type ClusterConfig, shapeOf } from "./cluster_config.ts";
import { configHash, configText } from "./consensus/topology.ts";

const FORMAT = 1;

export interface ClusterMeta {
  format: number;
  configHash: string;
  /** What the hash is made from, to say in what two differ. */
  config: string[];
  node: number;
}

/** What a start may take the folder for. */
export interface Beginning {
  /** Replicas that have nothing count at once. */
  readonly founder: boolean;
  /** What is there does not count before it has recovered. */
  readonly isRestored: boolean;
  /** What cannot recover by itself takes what the other nodes have. */
  readonly isForced: boolean;
}

/** How the nodes began: all without an event, or all with those of a store that was alone. */
export type Founding = "blank" | "adopted";

export function clusterMetaPath(dir: string): string {
  return `${dir}/cluster.meta.json`;
}

export function foundingPath(dir: string): string {
  return `${dir}/cluster.founding`;
}

export function restoredPath(dir: string): string {
  return `${dir}/cluster.restored`;
}

export function forcedPath(dir: string): string {
  return `${dir}/cluster.forced`;
}

export function foundingText(clusterId: string, founding: Founding): string {
  return `${clusterId} ${founding}\n`;
}

/**
 * Holds the folder to its first start; at the first one, writes down what it is. To be called before the store is opened.
 * @throws {FolderMismatch} it was another node, or one of another cluster
 * @throws {InvalidArgument} it holds a store that this cluster was not made from, or a word that means nothing in it
 * @throws {Damaged}
 */
export async function holdToFirstStart(disk: Disk, dir: string, config: ClusterConfig): Promise<Beginning> {
  const shape = shapeOf(config);
  const founding = readFounding(disk, dir, config.clusterId);
  const hasStore = disk.exists(metaPath(dir));
  const found = read(disk, dir);
  if (found === null) {
    if (hasStore && founding !== "adopted") {
      throw new InvalidArgument(
        `${dir} holds the store of a node that was alone, and the cluster was not made from it: ` +
          "esker cluster init --adopt makes one that is",
      );
    }
    await writeSummed(disk, dir, clusterMetaPath(dir), {
      ...{ format: FORMAT, configHash: configHash(shape), config: configText(shape).split("\n"), node: config.node },
    });
  } else requireSame(dir, found, config);
  const isRestored = disk.exists(restoredPath(dir));
  const isForced = disk.exists(forcedPath(dir));
  if (isForced && shape.replicationFactor !== 2) {
    throw new InvalidArgument(
      `${
        forcedPath(dir)
      } is for two replicas of each event: of ${shape.replicationFactor} those that lost what they had ` +
        "recover by themselves",
    );
  }
  // What the other nodes have of an adopted store, one that lost its copy may not deny.
  const isFounder = founding === "blank" || founding === "adopted" && hasStore;
  return { founder: isFounder && !isRestored, isRestored, isForced };
}

/** All that a start was told about the folder is durable in it: no later one is told the same. */
export async function forgetBeginning(disk: Disk, dir: string): Promise<void> {
  await remove(disk, dir, [foundingPath(dir), restoredPath(dir)]);
}

/** All replicas in the folder count, and that is durable: it is not asked again whether they may. */
export async function forgetForced(disk: Disk, dir: string): Promise<void> {
  await remove(disk, dir, [forcedPath(dir)]);
}

async function remove(disk: Disk, dir: string, paths: string[]): Promise<void> {
  const there = paths.filter((path) => disk.exists(path));
  if (there.length === 0) return;
  for (const path of there) disk.remove(path);
  await disk.syncFolder(dir);
}

function readFounding(disk: Disk, dir: string, clusterId: string): Founding | null {
  const path = foundingPath(dir);
  if (!disk.exists(path)) return null;
  const text = readText(disk, path);
  for (const founding of ["blank", "adopted"] as const) if (text === foundingText(clusterId, founding)) return founding;
  throw new InvalidArgument(`${path} does not say how cluster ${clusterId} was founded: found ${JSON.stringify(text)}`);
}

function requireSame(dir: string, found: ClusterMeta, config: ClusterConfig): void {
  const shape = shapeOf(config);
  if (found.node !== config.node) throw new FolderMismatch(dir, "node", found.node, config.node);
  const asked = configText(shape).split("\n");
  for (let i = 0; i < asked.length; i++) {
    const [name, value] = asked[i]!.split(" ");
    const stored = found.config[i]?.split(" ")[1];
    if (stored !== value) throw new FolderMismatch(dir, name!, stored, value);
  }
  if (found.configHash !== configHash(shape)) {
    throw new FolderMismatch(dir, "config hash", found.configHash, configHash(shape));
  }
}

function read(disk: Disk, dir: string): ClusterMeta | null {
  const meta = readSummed(disk, clusterMetaPath(dir)) as ClusterMeta | null;
  if (meta !== null && meta.format !== FORMAT) {
    throw new FolderMismatch(dir, "format version of cluster.meta.json", meta.format, FORMAT);
  }
  return meta;
}
