/**
 * The options of a folder that is opened to serve: where it is a node of a cluster, its cluster.json has a word on them.
 *
 * @module
 */
import { InvalidArgument, systemDisk } from "../core/mod.ts";
import { type ClusterConfig, readClusterConfig } from "../net/cluster_config.ts";
import { clusterMetaPath } from "../net/cluster_meta.ts";
import { placeOf } from "../net/node_address.ts";
import { type Options, optionsOfFolder } from "../options.ts";

export interface FolderOptions {
  /** What the folder says of a cluster, and the settings of where to listen; null for a store that is alone. */
  readonly cluster: ClusterConfig | null;
  readonly options: Options;
  /** When there is one, the folder is not to be opened. */
  readonly problems: readonly string[];
  readonly warnings: readonly string[];
}

/** @throws {InvalidArgument} its cluster.json cannot be used, or is gone */
export function readFolderOptions(dir: string, options: Options): FolderOptions {
  let cluster = readClusterConfig(systemDisk, dir);
  if (cluster === null) {
    // Alone it would acknowledge what the other nodes know nothing of.
    if (systemDisk.exists(clusterMetaPath(dir))) {
      throw new InvalidArgument(`${dir} was a node of a cluster, and its cluster.json is gone: it cannot serve alone`);
    }
    return { cluster, ...optionsOfFolder(options, null) };
  }
  const { values, given } = options;
  if (given.has("network.cluster_address")) {
    cluster = { ...cluster, listen: placeOf(values["network.cluster_address"]) };
  }
  const { node, nodes, replicationFactor, partitionCount, bucketCount, segmentBytes } = cluster;
  const settings = {
    ...{ dir, node, nodeCount: nodes.length, client: nodes[node]!.client },
    ...{ replicationFactor, partitionCount, bucketCount, segmentBytes },
  };
  return { cluster, ...optionsOfFolder(options, settings) };
}
