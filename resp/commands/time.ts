/**
 * `TIME`: the server's clock.
 *
 * @module
 */
import type { AnsweringCommand } from "./command.ts";

export const time: AnsweringCommand = {
  name: "TIME",
  does: "answers",
  summary: "Returns the server's time as seconds since 1970 and microseconds",
  syntax: "",
  group: "server",
  since: "0.1.0",
  prepare(args, { server }) {
    args.end();
    return (reply) => {
      const now = server.environment.now();
      reply.value([String(Math.floor(now / 1000)), String(Math.floor(now % 1000) * 1000)]);
    };
  },
};
