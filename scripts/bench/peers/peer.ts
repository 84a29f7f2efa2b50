/**
 * Who is measured beside us. One that speaks RESP takes the same loader and the same requests in other words; one that
 * does not brings its own client.
 *
 * @module
 */
import type { Client } from "../../resp_client.ts";
import type { ServerProcess } from "../../server_process.ts";
import type { Ids, Requests } from "../requests.ts";
import { openPostgres, type PostgresPeer } from "./postgres.ts";
import { openRedis } from "./redis.ts";
import { openSierradb } from "./sierradb.ts";

export interface RespPeer {
  kind: "resp";
  name: string;
  /** Its version, and what it has synced when it answers. */
  about: string;
  start(folder: string): Promise<ServerProcess>;
  /** The words that append one event to a stream by number. */
  append(payload: string, ids: Ids): string[];
  /** Appends so many events, all or none. */
  transaction(payload: string, events: number): Requests;
  /** How many events it has stored since it started, where it can tell. */
  appended?(client: Client): Promise<number>;
}

export type Peer = RespPeer | PostgresPeer;

export const PEERS = ["redis", "postgres", "sierradb", "none"] as const;

/** The peer, or why it cannot be had. */
export async function openPeer(name: string, binaries: { sierradb?: string | undefined }): Promise<Peer | string> {
  switch (name) {
    case "redis":
      return await openRedis();
    case "postgres":
      return await openPostgres();
    case "sierradb":
      return binaries.sierradb === undefined
        ? "sierradb is measured where its binary is given: --sierradb PATH"
        : await openSierradb(binaries.sierradb);
    default:
      return "no peer was asked for";
  }
}

/** The first line that a program prints, null when it is not there. */
export async function firstLine(program: string, ...args: string[]): Promise<string | null> {
  try {
    const { stdout } = await new Deno.Command(program, { args, stdin: "null", stderr: "null" }).output();
    return new TextDecoder().decode(stdout).split("\n")[0]!;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return null;
    throw cause;
  }
}
