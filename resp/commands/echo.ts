/**
 * `ECHO`: the message comes back byte for byte. Some clients send one to prove that replies are in step.
 *
 * @module
 */
import type { AnsweringCommand } from "./command.ts";

export const echo: AnsweringCommand = {
  name: "ECHO",
  does: "answers",
  summary: "Returns the message",
  syntax: "message",
  group: "connection",
  since: "0.1.0",
  prepare(args) {
    const message = args.bytes("message");
    args.end();
    return (reply) => reply.bulk(message);
  },
};
