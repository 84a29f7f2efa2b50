/**
 * What a folder was when it first started as a node. It can never change, and each start is compared with it.
 *
 *     DIR/cluster.meta.json   {"format":1,"configHash":"…","config":["cluster …","nodes 3",…],"node":0,"founder":true,"crc32":…}
 *
 * cluster.json is for people to change, who may slip, or copy the wrong file. A node that counted partitions or replicas
 * otherwise than before, or took another's place, would contradict what it has acknowledged.
 *
 * `founder` says whether this node's replicas may count from the beginning: all do in a cluster that was founded blank, and
 * in an adopted one those of node 0 alone, if it brought its store. It is written down before there is anything else, so
 * that a folder that was lost and made again is not taken for the store that was adopted.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { Damaged, FolderMismatch, InvalidArgument } from "../core/errors.ts";
import type { Disk } from "../core/log/disk.ts";
import { metaPath } from "../core/meta.ts";
import { type ClusterConfig, shapeOf } from "./cluster_config.ts";
import { configHash, configText } from "./consensus/topology.ts";

const FORMAT = 1;

export interface ClusterMeta {
  format: number;
  configHash: string;
  /** What the hash is made from, to say in what two differ. */
  config: string[];
  node: number;
  founder: boolean;
}

export function clusterMetaPath(dir: string): string {
  return `${dir}/cluster.meta.json`;
}

/**
 * Holds the folder to its first start; at the first one, writes down what it is. To be called before the store is opened.
 * @throws {FolderMismatch} it was another node, or one of another cluster
 * @throws {InvalidArgument} it holds a store that this cluster was not made from
 * @throws {Damaged}
 */
export async function holdToFirstStart(disk: Disk, dir: string, config: ClusterConfig): Promise<ClusterMeta> {
  const found = read(disk, dir);
  if (found === null) return await begin(disk, dir, config);
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
  return found;
}

async function begin(disk: Disk, dir: string, config: ClusterConfig): Promise<ClusterMeta> {
  const { node, founding } = config;
  const hasStore = disk.exists(metaPath(dir));
  if (hasStore && !(founding === "adopted" && node === 0)) {
    throw new InvalidArgument(
      `${dir} holds the store of a node that was alone, and the cluster was not made from it: ` +
        "esker cluster init --adopt makes one that is",
    );
  }
  const shape = shapeOf(config);
  const meta: ClusterMeta = {
    format: FORMAT,
    configHash: configHash(shape),
    config: configText(shape).split("\n"),
    node,
    founder: founding === "blank" || hasStore,
  };
  const path = clusterMetaPath(dir);
  const file = disk.open(`${path}.tmp`, "create");
  file.write(new TextEncoder().encode(JSON.stringify({ ...meta, crc32: sumOf(meta) }) + "\n"), 0);
  await file.sync();
  file.close();
  disk.rename(`${path}.tmp`, path);
  await disk.syncFolder(dir);
  return meta;
}

function read(disk: Disk, dir: string): ClusterMeta | null {
  const path = clusterMetaPath(dir);
  if (!disk.exists(path)) return null;
  const file = disk.open(path, "read");
  const bytes = new Uint8Array(file.size());
  file.read(bytes, 0);
  file.close();
  let parsed: ClusterMeta & { crc32: number };
  try {
    parsed = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw Object.assign(new Damaged(path, 0, "it is not JSON"), { cause });
  }
  const { crc32: sum, ...meta } = parsed;
  if (sum !== sumOf(meta)) throw new Damaged(path, 0, "it fails its checksum");
  if (meta.format !== FORMAT) throw new FolderMismatch(dir, "format version of cluster.meta.json", meta.format, FORMAT);
  return meta;
}

function sumOf(meta: object): number {
  return crc32(JSON.stringify(meta));
}
