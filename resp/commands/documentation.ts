/**
 * `COMMAND`: the commands, for clients that ask what there is, and for redis-cli, which completes and hints them.
 *
 * @module
 */
import { ReplyError, Simple, type Value } from "../value.ts";
import type { AnsweringCommand, Command, Server } from "./command.ts";
import { unknownSubcommand } from "./client.ts";
import { arityOf, parseSyntax, type SyntaxArgument } from "./syntax.ts";

export const documentation: AnsweringCommand = {
  name: "COMMAND",
  does: "answers",
  summary: "Tells about commands",
  syntax: "[<COUNT | DOCS [name ...] | INFO [name ...] | LIST>]",
  group: "server",
  since: "0.1.0",
  prepare(args, { server }) {
    if (args.left === 0) return (reply) => reply.value(server.commands.map(infoOf));
    const subcommand = args.text("subcommand").toUpperCase();
    const names = args.rest("command name");
    switch (subcommand) {
      case "COUNT":
        return (reply) => reply.number(server.commands.length);
      case "LIST":
        return (reply) => reply.value(server.commands.map(({ name }) => name.toLowerCase()));
      case "DOCS":
        return (reply) => reply.value(docsOf(server, names));
      case "INFO":
        return (reply) =>
          reply.value(
            names.length === 0
              ? server.commands.map(infoOf)
              : names.map((name) => withName(server, name)).map((command) => command === null ? null : infoOf(command)),
          );
      case "GETKEYS":
      case "GETKEYSANDFLAGS":
        throw new ReplyError("ERR", "The command has no key arguments");
      default:
        throw unknownSubcommand(documentation, subcommand);
    }
  },
};

function withName(server: Server, name: string): Command | null {
  return server.commands.find((command) => command.name === name.toUpperCase()) ?? null;
}

function docsOf(server: Server, names: string[]): Value {
  const asked = names.length === 0
    ? server.commands
    : names.map((name) => withName(server, name)).filter((command) => command !== null);
  return new Map(asked.map((command): [string, Value] => [command.name.toLowerCase(), docOf(command)]));
}

function docOf({ summary, since, group, syntax }: Command): Value {
  const doc = new Map<string, Value>([["summary", summary], ["since", since], ["group", group]]);
  const parts = parseSyntax(syntax);
  if (parts.length > 0) doc.set("arguments", parts.map(argumentOf));
  return doc;
}

function argumentOf(part: SyntaxArgument): Value {
  const fields = new Map<string, Value>([["name", part.name], ["type", part.type]]);
  // Redis knows no text to display for these two: their parts have it.
  if (part.type !== "oneof" && part.type !== "block") fields.set("display_text", part.name);
  if (part.token !== undefined) fields.set("token", part.token);
  const flags = new Set<Value>();
  if (part.optional) flags.add(new Simple("optional"));
  if (part.multiple) flags.add(new Simple("multiple"));
  if (flags.size > 0) fields.set("flags", flags);
  if (part.arguments.length > 0) fields.set("arguments", part.arguments.map(argumentOf));
  return fields;
}

/** Ten fields as Redis 7 has them. No word of ours is a key: a proxy must not spread commands by them. */
function infoOf({ name, syntax, does, group }: Command): Value {
  const flags = new Set<Value>();
  if (does === "appends") flags.add(new Simple("write")).add(new Simple("denyoom"));
  if (does === "reads") flags.add(new Simple("readonly"));
  if (does === "answers") flags.add(new Simple("fast"));
  if (group === "server") flags.add(new Simple("admin"));
  const categories = new Set<Value>([
    new Simple(
      does === "appends" ? "@write" : does === "reads" ? "@read" : `@${group === "server" ? "admin" : "connection"}`,
    ),
  ]);
  return [name.toLowerCase(), arityOf(syntax), flags, 0, 0, 0, categories, [], [], []];
}
