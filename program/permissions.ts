/**
 * What the Worker may do, computed from the options: read and write its data folder, listen at its address, ask how
 * full the disk is; to repair, only read that folder, and write another. A node of a cluster besides listens for the
 * others, and connects to where they are. Nothing else: no environment, no programs, no libraries, no other file, no
 * other address.
 *
 * @module
 */
import { type ClusterConfig, listenAddressOf, peerAddressesOf } from "../net/cluster_config.ts";
import { netPermission } from "../net/node_address.ts";
import { type Command, formatAddress, type Options } from "../options.ts";

/** As `new Worker` takes them, and as `flagsOf` prints them. */
export interface Permissions {
  readonly read: string[];
  readonly write: string[];
  readonly net: string[];
  readonly sys: "statfs"[];
  readonly import: string[];
  readonly env: false;
  readonly run: false;
  readonly ffi: false;
}

/**
 * `dir` is the data folder, links resolved; `source` the address that this program was loaded from; `to` the folder that
 * a repair makes; `cluster` what the folder says of a cluster, null where there is none.
 */
export function workerPermissions(
  command: Command["name"],
  options: Options,
  dir: string,
  source: URL,
  { to, cluster = null }: { to?: string | undefined; cluster?: ClusterConfig | null } = {},
): Permissions {
  const nodes = cluster === null ? [] : [listenAddressOf(cluster), ...peerAddressesOf(cluster)].map(netPermission);
  const net = command === "serve" ? [formatAddress(options.values["network.client_address"]), ...nodes] : [];
  return {
    read: to === undefined ? [dir] : [dir, to],
    write: command === "serve" ? [dir] : to === undefined ? [] : [to],
    net: [...new Set(net)],
    sys: ["statfs"],
    // Modules that were loaded from a site are asked for again in the Worker.
    import: source.protocol === "file:" ? [] : [source.host],
    env: false,
    run: false,
    ffi: false,
  };
}

/** The least that the whole program needs of a Deno that is given flags, for what the Worker gets. */
export function programPermissions(worker: Permissions, configFile: string | undefined, source: URL): string[] {
  // The Worker's own file is read once more when it starts.
  const sourceFolder = source.protocol === "file:" ? [decodeURIComponent(new URL(".", source).pathname)] : [];
  const read = [...worker.read, ...(configFile === undefined ? [] : [configFile]), ...sourceFolder];
  return [...flagsOf({ ...worker, read }), "--allow-env=ESKER_*"];
}

/** Permissions as Deno's flags. */
export function flagsOf(permissions: Permissions): string[] {
  return (["read", "write", "net", "sys", "import"] as const).flatMap((name) =>
    permissions[name].length === 0 ? [] : [`--allow-${name}=${permissions[name].join(",")}`]
  );
}
