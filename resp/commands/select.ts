/**
 * `SELECT`: there is one database, 0.
 *
 * @module
 */
import { ReplyError } from "../value.ts";
import type { AnsweringCommand } from "./command.ts";

export const select: AnsweringCommand = {
  name: "SELECT",
  does: "answers",
  summary: "Accepts database 0, the only one",
  syntax: "index:integer",
  group: "connection",
  since: "0.1.0",
  prepare(args) {
    const index = args.integer("database index");
    args.end();
    if (index !== 0) throw new ReplyError("ERR", "DB index is out of range");
    return (reply) => reply.simple("OK");
  },
};
