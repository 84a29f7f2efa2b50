/**
 * `SHUTDOWN`: asks the program to end as a signal would: answer what is in flight, sync, close.
 *
 * As in Redis there is no reply: the link closes. Clients take a reply for a failure.
 *
 * @module
 */
import { ReplyError } from "../value.ts";
import type { AnsweringCommand } from "./command.ts";

export const shutdown: AnsweringCommand = {
  name: "SHUTDOWN",
  does: "answers",
  summary: "Ends the server when what is in flight is answered",
  syntax: "[<NOSAVE | SAVE>] [NOW] [FORCE]",
  group: "server",
  since: "0.1.0",
  prepare(args, { client, server }) {
    while (args.left > 0) {
      // Everything acknowledged is saved already, so these change nothing.
      if (!["NOSAVE", "SAVE", "NOW", "FORCE"].some((option) => args.keyword(option))) throw args.unexpected();
    }
    const { shutdown } = server;
    if (shutdown === null) {
      throw new ReplyError("ERR", "SHUTDOWN is not available: end the program that holds the store");
    }
    client.leaving = true;
    return () => {
      server.log("info", "A client asks to shut down", { client: client.address });
      shutdown();
    };
  },
};
