/**
 * `CONFIG GET`: the settings, and under their Redis names those that clients ask for when they connect.
 *
 * @module
 */
import { ReplyError } from "../value.ts";
import { unknownSubcommand } from "./client.ts";
import type { AnsweringCommand, Server } from "./command.ts";

export const config: AnsweringCommand = {
  name: "CONFIG",
  does: "answers",
  summary: "Returns settings whose names match a pattern",
  syntax: "GET pattern:pattern ...",
  group: "server",
  since: "0.1.0",
  prepare(args, { server }) {
    const subcommand = args.text("subcommand").toUpperCase();
    if (subcommand === "SET" || subcommand === "REWRITE" || subcommand === "RESETSTAT") {
      throw new ReplyError("ERR", `CONFIG ${subcommand} is not supported: settings are given when the server starts`);
    }
    if (subcommand !== "GET") throw unknownSubcommand(config, subcommand);
    const patterns = [args.text("pattern"), ...args.rest("pattern")].map((pattern) => pattern.toLowerCase());
    return (reply) => {
      const found = new Map<string, string>();
      for (const [name, value] of [...inRedisWords(server), ...server.settings()]) {
        if (patterns.some((pattern) => matches(pattern, name.toLowerCase()))) found.set(name, value);
      }
      reply.value(found);
    };
  },
};

function inRedisWords(server: Server): [string, string][] {
  return [
    ["appendfsync", "always"],
    ["appendonly", "yes"],
    ["databases", "1"],
    ["maxclients", String(server.limits.clientsMax)],
    ["maxmemory", "0"],
    ["port", String(server.port)],
    ["proto-max-bulk-len", String(server.limits.commandBytesMax)],
    ["replica-read-only", "yes"],
    ["save", ""],
    ["timeout", "0"],
  ];
}

/**
 * Whether `name` matches a glob: `*`, `?`, `[abc]`, `[a-z]`, `[^a]`, and `\` before a character that means itself.
 * A star never looks back further than to the last one, so no pattern takes longer than its length times the name's.
 */
export function matches(pattern: string, name: string): boolean {
  let p = 0;
  let n = 0;
  let star = -1;
  let starName = 0;
  while (n < name.length) {
    if (pattern[p] === "*") {
      star = p++;
      starName = n;
      continue;
    }
    const length = p < pattern.length ? matchOne(pattern, p, name[n]!) : 0;
    if (length > 0) {
      p += length;
      n++;
    } else if (star >= 0) {
      p = star + 1;
      n = ++starName;
    } else return false;
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}

/** Characters of the pattern that match one character of the name; 0 when they do not. */
function matchOne(pattern: string, at: number, char: string): number {
  if (pattern[at] === "?") return 1;
  if (pattern[at] === "\\" && at + 1 < pattern.length) return pattern[at + 1] === char ? 2 : 0;
  if (pattern[at] !== "[") return pattern[at] === char ? 1 : 0;
  const not = pattern[at + 1] === "^";
  let i = at + (not ? 2 : 1);
  let found = false;
  for (; i < pattern.length && pattern[i] !== "]"; i++) {
    if (pattern[i] === "\\" && i + 1 < pattern.length) i++;
    const low = pattern[i]!;
    if (pattern[i + 1] === "-" && i + 2 < pattern.length) {
      const high = pattern[i + 2]!;
      if (low <= char && char <= high) found = true;
      i += 2;
    } else if (low === char) found = true;
  }
  return found !== not ? Math.min(i + 1, pattern.length) - at : 0;
}
