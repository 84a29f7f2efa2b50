/**
 * Commands of other servers that clients send on their own, and what to use instead. None is in COMMAND LIST.
 *
 * @module
 */
import { ReplyError } from "../value.ts";
import type { AnsweringCommand } from "./command.ts";

export const foreignCommands: AnsweringCommand[] = [
  refused("CLUSTER", "ERR", "This instance has cluster support disabled"),
  refused("SENTINEL", "ERR", "This instance is not a sentinel"),
  refused("GET", "ERR", "GET is not supported: this is an event store, read with ESCAN, EPSCAN or EGET"),
  refused("SET", "ERR", "SET is not supported: this is an event store, append with EAPPEND or EMAPPEND"),
  refused("SUBSCRIBE", "ERR", "SUBSCRIBE is not supported: this is an event store without channels"),
  refused("PSUBSCRIBE", "ERR", "PSUBSCRIBE is not supported: this is an event store without channels"),
  // A web page can make a browser send a POST to this port, with commands in its body: never read on (as Redis does).
  closing("POST"),
  closing("HOST:"),
];

function refused(name: string, code: string, text: string): AnsweringCommand {
  return {
    ...described(name),
    prepare() {
      throw new ReplyError(code, text);
    },
  };
}

function closing(name: string): AnsweringCommand {
  return {
    ...described(name),
    endsMulti: true,
    prepare(_args, { client, server }) {
      client.leaving = true;
      server.log("warn", "Closed a link that speaks HTTP: perhaps an attack by a web page", { client: client.address });
      throw new ReplyError("ERR", "This is not an HTTP server");
    },
  };
}

function described(name: string) {
  return { name, does: "answers", summary: "", syntax: "", group: "connection", since: "0.1.0" } as const;
}
