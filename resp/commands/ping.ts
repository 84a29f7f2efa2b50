/**
 * `PING`: is anybody there?
 *
 * @module
 */
import type { AnsweringCommand } from "./command.ts";

export const ping: AnsweringCommand = {
  name: "PING",
  does: "answers",
  summary: "Returns PONG, or the message",
  syntax: "[message]",
  group: "connection",
  since: "0.1.0",
  prepare(args) {
    if (args.left === 0) return (reply) => reply.simple("PONG");
    const message = args.bytes("message");
    args.end();
    return (reply) => reply.bulk(message);
  },
};
