/**
 * Redis Streams, with a log that is synced before it answers.
 *
 * @module
 */
import { ServerProcess } from "../../server_process.ts";
import { ID, type Ids, makeTransactions, STREAM } from "../requests.ts";
import { firstLine, type RespPeer } from "./peer.ts";

export async function openRedis(): Promise<RespPeer | string> {
  const version = /v=(\S+)/.exec(await firstLine("redis-server", "--version") ?? "")?.[1];
  if (version === undefined) return "redis-server is not installed";
  const append = (stream: string, payload: string, ids: Ids) => [
    ...["XADD", stream, "*", "name", "Happened", ...(ids === "no" ? [] : ["id", ID]), "payload", payload],
  ];
  return {
    kind: "resp",
    name: "Redis",
    about: `Redis ${version}: --appendonly yes --appendfsync always, synced before it answers`,
    start: (folder) =>
      ServerProcess.start({
        command: ["redis-server"],
        folder,
        arguments: (folder, { hostname, port }) => [
          ...["--bind", hostname, "--port", String(port), "--dir", folder],
          ...["--appendonly", "yes", "--appendfsync", "always"],
          // No snapshots and no rewrite of the log in between: Redis does nothing here but what is measured.
          ...["--save", "", "--auto-aof-rewrite-percentage", "0"],
        ],
      }),
    append: (payload, ids) => append(STREAM, payload, ids),
    transaction(payload, events) {
      const appends = Array.from({ length: events }, (_, i) => append(`${STREAM}-${i}`, payload, "no"));
      return makeTransactions([["MULTI"], ...appends, ["EXEC"]]);
    },
    async appended(client) {
      const stats = new TextDecoder().decode(await client.call("INFO", "commandstats") as Uint8Array);
      const [, calls, failed] = /cmdstat_xadd:calls=(\d+),.*failed_calls=(\d+)/.exec(stats) ?? [];
      return Number(calls ?? 0) - Number(failed ?? 0);
    },
  };
}
