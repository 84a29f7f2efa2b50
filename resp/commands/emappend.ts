/**
 * `EMAPPEND`: a transaction over streams of one partition key, all or none.
 *
 * The options of an event stand behind its name. So a word that is no option begins the next event, and a mistake could
 * pass for a stream id: behind the first event the options' names are no stream ids, and JSON never is one.
 *
 * @module
 */
import { InvalidArgument } from "../../core/errors.ts";
import type { NewEvent, Transaction } from "../../core/event.ts";
import type { Arguments } from "../arguments.ts";
import { writeTransaction } from "../replies.ts";
import type { AppendingCommand } from "./command.ts";
import { readEventHead, readEventOption, requireStrictVersion } from "./event_options.ts";

export const emappend: AppendingCommand = {
  name: "EMAPPEND",
  does: "appends",
  summary: "Appends events to streams of one partition key, all or none, and answers when they are durable",
  syntax: "partition_key <stream_id event_name [EVENT_ID uuid] " +
    "[EXPECTED_VERSION <ANY | EXISTS | EMPTY | version:integer>] [TIMESTAMP milliseconds:unix-time] [PAYLOAD payload] " +
    "[METADATA metadata]> ...",
  group: "events",
  since: "0.1.0",
  prepare(args, { server }): Transaction {
    const partitionKey = args.uuidBytes("partition key");
    const events: NewEvent[] = [];
    do {
      refuseJson(args);
      const event = readEventHead(args);
      while (args.left > 0 && readEventOption(args, event));
      if (server.strictVersioning) requireStrictVersion(event);
      events.push(event);
    } while (args.left > 0);
    return { partitionKey, events };
  },
  answer: writeTransaction,
};

function refuseJson(args: Arguments): void {
  if (!args.mayBeJson) return;
  const word = args.peek();
  if (word !== null && isJsonObjectOrArray(word)) {
    throw new InvalidArgument(`Expected a stream id, found JSON: give a payload as PAYLOAD ${word.slice(0, 64)}`);
  }
}

function isJsonObjectOrArray(word: string): boolean {
  if (!/^\s*[[{]/.test(word)) return false;
  try {
    JSON.parse(word);
    return true;
  } catch {
    return false;
  }
}
