/**
 * `DBSIZE`: how many events are stored.
 *
 * @module
 */
import type { ReadingCommand } from "./command.ts";

export const dbsize: ReadingCommand = {
  name: "DBSIZE",
  does: "reads",
  summary: "Returns how many events are stored",
  syntax: "",
  group: "server",
  since: "0.1.0",
  prepare(args, { store }) {
    args.end();
    return (reply) => {
      reply.number(store.status().events);
      return Promise.resolve();
    };
  },
};
