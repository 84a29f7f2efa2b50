/**
 * `CLIENT`: what clients tell about themselves when they connect, and who is connected.
 *
 * @module
 */
import type { Arguments } from "../arguments.ts";
import type { Encoder } from "../encoder.ts";
import { ReplyError } from "../value.ts";
import type { AnsweringCommand, Client, Command, Context, Server } from "./command.ts";
import { showSyntax } from "./syntax.ts";

export const client: AnsweringCommand = {
  name: "CLIENT",
  does: "answers",
  summary: "Names this connection, or tells about connections",
  syntax: "<ID | INFO | LIST [TYPE type] [ID client_id:integer ...] | GETNAME | SETNAME name | " +
    "SETINFO <LIB-NAME library | LIB-VER version> | NO-EVICT <ON | OFF> | NO-TOUCH <ON | OFF> | TRACKING OFF>",
  group: "connection",
  since: "0.1.0",
  prepare(args, context) {
    const subcommand = args.text("subcommand").toUpperCase();
    const prepare = SUBCOMMANDS.get(subcommand);
    if (prepare === undefined) throw unknownSubcommand(client, subcommand);
    const answer = prepare(args, context);
    args.end();
    return answer;
  },
};

const OK = (reply: Encoder) => reply.simple("OK");

const SUBCOMMANDS = new Map<string, (args: Arguments, context: Context) => (reply: Encoder) => void>([
  ["ID", (_args, { client }) => (reply) => reply.number(client.id)],
  ["INFO", (_args, { client, server }) => (reply) => reply.text(describe(client, server) + "\n")],
  ["LIST", prepareList],
  ["GETNAME", (_args, { client }) => (reply) => client.name === "" ? reply.null() : reply.text(client.name)],
  ["SETNAME", (args, { client }) => {
    const name = requirePlainName(args.text("client name"), "Client names");
    return (reply) => {
      client.name = name;
      reply.simple("OK");
    };
  }],
  ["SETINFO", prepareSetInfo],
  ["NO-EVICT", onOrOff],
  ["NO-TOUCH", onOrOff],
  ["TRACKING", (args) => {
    if (args.keyword("OFF")) return OK;
    throw new ReplyError(
      "ERR",
      "Client tracking is not supported: nothing here is ever changed, so nothing gets stale",
    );
  }],
  ["MAINT_NOTIFICATIONS", (args) => {
    if (args.keyword("OFF")) return OK;
    // In the words of a Redis that has none, by which clients know that they go on without.
    throw unknownSubcommand(client, "MAINT_NOTIFICATIONS");
  }],
]);

/** In Redis' words, which clients look for. */
export function unknownSubcommand({ name, syntax }: Command, subcommand: string): ReplyError {
  return new ReplyError("ERR", `unknown subcommand '${subcommand}'. Usage: ${name} ${showSyntax(syntax)}`);
}

/** @throws {ReplyError} `name` would break the lines of CLIENT LIST */
export function requirePlainName(name: string, what: string): string {
  if (/^[!-~]*$/.test(name)) return name;
  throw new ReplyError("ERR", `${what} cannot contain spaces, newlines or special characters.`);
}

function onOrOff(args: Arguments): (reply: Encoder) => void {
  if (args.keyword("ON") || args.keyword("OFF")) return OK;
  throw new ReplyError("ERR", "syntax error");
}

function prepareSetInfo(args: Arguments, { client }: Context): (reply: Encoder) => void {
  const attribute = args.text("attribute").toUpperCase();
  const value = requirePlainName(args.text("value"), attribute.toLowerCase());
  if (attribute !== "LIB-NAME" && attribute !== "LIB-VER") {
    throw new ReplyError("ERR", `Unrecognized option '${attribute}'`);
  }
  return (reply) => {
    if (attribute === "LIB-NAME") client.libraryName = value;
    else client.libraryVersion = value;
    reply.simple("OK");
  };
}

function prepareList(args: Arguments, { server }: Context): (reply: Encoder) => void {
  let type: string | undefined;
  let ids: Set<number> | undefined;
  while (args.left > 0) {
    if (args.option("TYPE", type)) {
      type = args.text("client type").toLowerCase();
      if (!["normal", "master", "replica", "slave", "pubsub"].includes(type)) {
        throw new ReplyError("ERR", `Unknown client type '${type}'`);
      }
    } else if (args.option("ID", ids)) {
      ids = new Set([args.number("client id")]);
      while (args.left > 0) ids.add(args.number("client id"));
    } else throw args.unexpected();
  }
  return (reply) => {
    let lines = "";
    for (const one of server.clients.values()) {
      if ((type ?? "normal") === "normal" && (ids?.has(one.id) ?? true)) lines += describe(one, server) + "\n";
    }
    reply.text(lines);
  };
}

/** A client in the fields of Redis, for tools that read them. */
function describe(one: Client, { environment, clients }: Server): string {
  const seconds = (since: number) => Math.max(0, Math.floor((environment.monotonic() - since) / 1000));
  const facts: [string, string | number][] = [
    ["id", one.id],
    ["addr", one.address],
    ["laddr", one.localAddress],
    ["fd", -1],
    ["name", one.name],
    ["age", seconds(one.connectedAt)],
    ["idle", seconds(one.activeAt)],
    ["flags", clients.has(one.id) ? "N" : "c"],
    ["db", 0],
    ["sub", one.deliveries.size],
    ["psub", 0],
    ["ssub", 0],
    ["multi", -1],
    ["qbuf", one.readBufferBytes],
    ["qbuf-free", 0],
    ["oll", one.pending],
    ["omem", one.unsentBytes],
    ["tot-mem", one.readBufferBytes + one.unsentBytes],
    ["events", "r"],
    ["cmd", one.lastCommand.toLowerCase()],
    ["user", "default"],
    ["redir", -1],
    ["resp", one.protocol],
    ["lib-name", one.libraryName],
    ["lib-ver", one.libraryVersion],
  ];
  return facts.map(([name, value]) => `${name}=${value}`).join(" ");
}
