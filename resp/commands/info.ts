/**
 * `INFO`: the state of the server as text in sections, in Redis' field names where the thing is the same.
 *
 * `INFO CACHE` is no section: it answers with a map, as the reference does.
 *
 * @module
 */
import type { EventStore } from "../../core/store.ts";
import { Double, type Value } from "../value.ts";
import type { AnsweringCommand, Server } from "./command.ts";

export const info: AnsweringCommand = {
  name: "INFO",
  does: "answers",
  summary: "Returns the state of the server, or of the cache",
  syntax: "[section ...]",
  group: "server",
  since: "0.1.0",
  prepare(args, { server, store }) {
    const asked = args.rest("section").map((name) => name.toLowerCase());
    if (asked.length === 1 && asked[0] === "cache") return (reply) => reply.value(cacheOf(store));
    const all = asked.length === 0 || asked.some((name) => ["all", "default", "everything"].includes(name));
    return (reply) => {
      let text = "";
      for (const [title, fields] of SECTIONS) {
        if (!all && !asked.includes(title.toLowerCase())) continue;
        text += `${text === "" ? "" : "\r\n"}# ${title}\r\n`;
        for (const [name, value] of fields(server, store)) text += `${name}:${value}\r\n`;
      }
      reply.text(text);
    };
  },
};

/** Clients look at this to know what they may send: the Redis whose connection commands we have. */
const REDIS_VERSION = "7.4.0";

type Fields = [string, string | number][];

const SECTIONS: [string, (server: Server, store: EventStore) => Fields][] = [
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
  ["Clients", (server) => [
    ["connected_clients", server.clients.size],
    ["maxclients", server.limits.clientsMax],
    ["blocked_clients", 0],
  ]],
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
    const { damage } = store.status();
    return [
      ["loading", 0],
      ["rdb_bgsave_in_progress", 0],
      ["rdb_changes_since_last_save", 0],
      ["aof_enabled", 1],
      ["aof_last_write_status", damage.length === 0 ? "ok" : "err"],
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
  ["Replication", () => [
    ["role", "master"],
    ["connected_slaves", 0],
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
      ["damaged_buckets", status.damage.length],
      ...status.damage.map(({ bucket, file, offset, reason }): [string, string] => [
        `damage_${bucket}`,
        `${file} at ${offset}: ${reason}`.replace(/[\r\n]/g, " "),
      ]),
    ];
  }],
];

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
