/**
 * `HELLO`: which protocol the link speaks, and who is at the other end.
 *
 * @module
 */
import type { AnsweringCommand } from "./command.ts";
import { ReplyError, type Value } from "../value.ts";
import { authenticate } from "./auth.ts";
import { requirePlainName } from "./client.ts";

export const hello: AnsweringCommand = {
  name: "HELLO",
  does: "answers",
  summary: "Chooses the protocol, 2 or 3, and tells about the server",
  syntax: "[protocol:integer [AUTH username password] [SETNAME name]]",
  group: "connection",
  since: "0.1.0",
  prepare(args, { client, server, store }) {
    const protocol = args.left > 0 ? args.integer("protocol version") : null;
    if (protocol !== null && protocol !== 2 && protocol !== 3) {
      throw new ReplyError("NOPROTO", "unsupported protocol version");
    }
    let user: Uint8Array | undefined;
    let name: string | undefined;
    while (args.left > 0) {
      if (args.option("AUTH", user)) {
        user = args.bytes("user");
        args.bytes("password");
      } else if (args.option("SETNAME", name)) name = requirePlainName(args.text("client name"), "Client names");
      else throw args.unexpected();
    }
    if (user !== undefined) authenticate(user);
    return (reply) => {
      const { size } = client.deliveries;
      if (protocol === 2 && size > 0) {
        throw new ReplyError(
          "ERR",
          `RESP2 cannot carry what this link's subscriptions push (${size}): end them first, with EUNSUB or RESET`,
        );
      }
      // Only now: replies to what was asked before go out in the protocol in which it was asked.
      if (protocol !== null) client.protocol = protocol;
      if (name !== undefined) client.name = name;
      reply.value(
        new Map<string, Value>([
          ["server", "esker"],
          ["version", server.version],
          ["proto", client.protocol],
          ["id", client.id],
          ["mode", "standalone"],
          ["role", "master"],
          ["modules", []],
          ["peer_id", server.peerId],
          ["num_partitions", store.partitionCount],
        ]),
      );
    };
  },
};
