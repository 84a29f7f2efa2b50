/**
 * `RESET`: the connection is as it was when it began.
 *
 * @module
 */
import type { AnsweringCommand } from "./command.ts";

export const reset: AnsweringCommand = {
  name: "RESET",
  does: "answers",
  summary: "Sets protocol, name and transaction state of the connection back",
  syntax: "",
  group: "connection",
  since: "0.1.0",
  endsMulti: true,
  prepare(args, { client, server }) {
    args.end();
    client.refusing = false;
    return (reply) => {
      client.protocol = server.initialProtocol;
      client.name = "";
      reply.simple("RESET");
    };
  },
};
