/**
 * `QUIT`: what was asked before is answered, what follows is not read.
 *
 * @module
 */
import type { AnsweringCommand } from "./command.ts";

export const quit: AnsweringCommand = {
  name: "QUIT",
  does: "answers",
  summary: "Closes the connection",
  syntax: "",
  group: "connection",
  since: "0.1.0",
  endsMulti: true,
  prepare(_args, { client }) {
    client.leaving = true;
    return (reply) => reply.simple("OK");
  },
};
