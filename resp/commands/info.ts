/**
 * `INFO`: the state of the server as text in sections, in Redis' field names where the thing is the same.
 *
 * `INFO SUBSCRIPTIONS`, a line each, shows which projection is behind, and by how much. It asks the store for each, so it
 * must be asked for by name. `INFO CACHE` is no section: it answers with a map, as the reference does.
 *
 * @module
 */
import type { ClusterStatus, EventStore, StoreStatus } from "../../core/store.ts";
import type { Delivery } from "../delivery.ts";
import { Double, type Value } from "../value.ts";
import type { Client, ReadingCommand, Server } from "./command.ts";
import { highestCommitEnd } from "./commit_ends.ts";

export const info: ReadingCommand = {
  name: "INFO",
  does: "reads",
  summary: "Returns the state of the server, or of the cache",
  syntax: "[section ...]",
  group: "server",
  since: "0.1.0",
  prepare(args, { server, store }) {
    const asked = args.rest("section").map((name) => name.toLowerCase());
    if (asked.length === 1 && asked[0] === "cache") return (reply) => Promise.resolve(reply.value(cacheOf(store)));
    const everything = asked.includes("everything");
    const usual = everything || asked.length === 0 || asked.includes("all") || asked.includes("default");
    return async (reply) => {
      let text = "";
      for (const [title, fields] of SECTIONS) {
        const wanted = title === "Subscriptions" ? everything : usual;
        if (!wanted && !asked.includes(title.toLowerCase())) continue;
        text += `${text === "" ? "" : "\r\n"}# ${title}\r\n`;
        for (const [name, value] of await fields(server, store)) text += `${name}:${value}\r\n`;
      }
      reply.text(text);
    };
  },
};

/** Clients look at this to know what they may send: the Redis whose connection commands we have. */
const REDIS_VERSION = "7.4.0";

type Fields = [string, string | number][];

const SECTIONS: [string, (server: Server, store: EventStore) => Fields | Promise<Fields>][] = [
  ["Server", (server) => {
    const uptime = Math.floor((server.environment.monotonic() - server.startedAt) / 1000);
    return [
      ["redis_version", REDIS_VERSION],
      ["redis_mode", "standalone"],
      ["esker_version", server.version],
      ["os", `${Deno.build.os} ${Deno.build.arch}`],
      ["deno_version", Deno.version.deno],
      ["arch_bits", 64],
      ["process_id", Deno.pid],
      ["run_id", server.runId],
      ["tcp_port", server.port],
      ["server_time_usec", server.environment.now() * 1000],
      ["uptime_in_seconds", uptime],
      ["uptime_in_days", Math.floor(uptime / 86_400)],
    ];
  }],
  ["Clients", (server) => {
    const clients = [...server.clients.values()];
    return [
      ["connected_clients", clients.length],
      ["maxclients", server.limits.clientsMax],
      ["blocked_clients", clients.filter((client) => client.waiting).length],
      ["subscriptions", clients.reduce((sum, { deliveries }) => sum + deliveries.size, 0)],
    ];
  }],
  ["Memory", () => {
    const { rss, heapUsed, heapTotal, external } = Deno.memoryUsage();
    return [
      ["used_memory", heapUsed + external],
      ["used_memory_human", megabytes(heapUsed + external)],
      ["used_memory_rss", rss],
      ["used_memory_rss_human", megabytes(rss)],
      ["used_memory_heap_total", heapTotal],
      ["maxmemory", 0],
      ["maxmemory_policy", "noeviction"],
    ];
  }],
  ["Persistence", (_server, store) => {
    const { damage, disk } = store.status();
    return [
      ["loading", 0],
      ["rdb_bgsave_in_progress", 0],
      ["rdb_changes_since_last_save", 0],
      ["aof_enabled", 1],
      ["aof_last_write_status", damage.length > 0 || disk?.full ? "err" : "ok"],
    ];
  }],
  ["Stats", ({ counters }) => [
    ["total_connections_received", counters.connections],
    ["rejected_connections", counters.refusedConnections],
    ["total_commands_processed", counters.commands],
    ["total_error_replies", counters.errors],
    ["total_net_input_bytes", counters.bytesIn],
    ["total_net_output_bytes", counters.bytesOut],
  ]],
  // A Redis client must find a master without replicas: any node takes its commands, and it would not know our others.
  ["Replication", (_server, store) => [
    ["role", "master"],
    ["connected_slaves", 0],
    ...(store.cluster === undefined ? [] : describeCluster(store.cluster())),
  ]],
  ["Esker", (server, store) => {
    const status = store.status();
    return [
      ["peer_id", server.peerId],
      ["events", status.events],
      ["partitions", status.partitionCount],
      ["buckets", status.bucketCount],
      ["segments", status.segments],
      ["data_bytes", status.dataBytes],
      ["appended_transactions", status.appendedTransactions],
      ["syncs", status.syncs],
      ["cache_hits", status.cache.hits],
      ["cache_misses", status.cache.misses],
      ["cache_bytes", status.cache.memoryBytes],
      ...(status.disk === null ? [] : describeDisk(status.disk)),
      ["damaged_buckets", status.damage.length],
      ...status.damage.map(({ bucket, file, offset, reason }): [string, string] => [
        `damage_${bucket}`,
        `${file} at ${offset}: ${reason}`.replace(/[\r\n]/g, " "),
      ]),
    ];
  }],
  ["Subscriptions", async ({ clients, turns }) => {
    const lines: Fields = [];
    for (const client of clients.values()) {
      for (const delivery of client.deliveries) {
        lines.push([`subscription${lines.length}`, await turns.take(() => describe(client, delivery))]);
      }
    }
    return lines;
  }],
];

/** In the form of Redis' `slave0:ip=…,port=…`. Names are percent-encoded, so that none can end its field or its line. */
async function describe(client: Client, delivery: Delivery): Promise<string> {
  const { id, command, position, cursor, acked, window } = delivery;
  const reached = command === "epsub"
    ? `${position?.partition}:${position?.sequence}`
    : `${encodeURIComponent(position?.streamId ?? "")}:${position?.version}`;
  // What the store cannot tell it will not push either: the client is told, or has been.
  const { events, seconds } = await delivery.lag().catch(() => ({ events: -1, seconds: -1 }));
  const facts: [string, string | number][] = [
    ["id", id],
    ["client", client.id],
    ["addr", client.address],
    ["name", encodeURIComponent(client.name)],
    ["cmd", command],
    ["position", position === null ? "" : reached],
    ["cursor", cursor - 1],
    ["acked", acked],
    ["unacknowledged", cursor - 1 - acked],
    ["window", window],
    ["lag", events],
    ["lag_seconds", seconds],
  ];
  return facts.map(([name, value]) => `${name}=${value}`).join(",");
}

function describeCluster({ node, clusterId, configHash, replicationFactor, nodes, buckets }: ClusterStatus): Fields {
  const held = buckets.filter(({ own }) => own !== null);
  const lags = held.map((bucket) => highestCommitEnd(bucket, node)! - bucket.own!.commitEnd);
  return [
    ["node", node],
    ["nodes", nodes.length],
    ["nodes_linked", nodes.filter(({ linked }, other) => other === node || linked).length],
    ["cluster_id", clusterId],
    ["config_hash", configHash],
    ["replication_factor", replicationFactor],
    ["buckets_held", held.length],
    ["buckets_led", buckets.filter(({ leader }) => leader === node).length],
    ["buckets_without_leader", buckets.filter(({ leader }) => leader === null).length],
    // Committed entries of which this node has still to hear, of all buckets that it holds.
    ["lag_entries", lags.reduce((sum, lag) => sum + lag, 0)],
  ];
}

function describeDisk({ freeBytes, reserveBytes, full }: NonNullable<StoreStatus["disk"]>): Fields {
  return [["free_bytes", freeBytes], ["reserve_bytes", reserveBytes], ["disk_full", full ? 1 : 0]];
}

function megabytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(2)}M`;
}

function cacheOf(store: EventStore): Value {
  const { cache } = store.status();
  const reads = cache.hits + cache.misses;
  return new Map<string, Value>([
    ["hits", cache.hits],
    ["misses", cache.misses],
    ["hit_ratio", new Double(reads === 0 ? 0 : Math.round(cache.hits / reads * 1000) / 1000)],
    ["entries", cache.entries],
    ["memory_bytes", cache.memoryBytes],
    ["max_bytes", cache.maxBytes],
    ["block_size_bytes", cache.blockBytes],
    ["evictions", cache.evictions],
  ]);
}
