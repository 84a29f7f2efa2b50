/**
 * `RESET`: the connection is as it was when it began.
 *
 * @module
 */
import type { AnsweringCommand } from "./command.ts";

export const reset: AnsweringCommand = {
  name: "RESET",
  does: "answers",
  summary: "Sets the connection back to how it began: protocol, name, transaction state, subscriptions",
  syntax: "",
  group: "connection",
  since: "0.1.0",
  endsMulti: true,
  prepare(args, { client, server }) {
    args.end();
    client.refusing = false;
    return (reply) => {
      client.deliveries.clear();
      client.protocol = server.initialProtocol;
      client.name = "";
      reply.simple("RESET");
    };
  },
};
