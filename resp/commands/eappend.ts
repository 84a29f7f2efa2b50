/**
 * `EAPPEND`: one event, appended when its stream is at the expected version.
 *
 * @module
 */
import type { Transaction } from "../../core/event.ts";
import type { Arguments } from "../arguments.ts";
import { writeAppended } from "../replies.ts";
import type { AppendingCommand } from "./command.ts";
import { readEventHead, readEventOption, requireStrictVersion } from "./event_options.ts";

export const eappend: AppendingCommand = {
  name: "EAPPEND",
  does: "appends",
  summary: "Appends an event to a stream and answers when it is durable",
  syntax: "stream_id event_name [payload] [EVENT_ID uuid] [PARTITION_KEY uuid] " +
    "[EXPECTED_VERSION <ANY | EXISTS | EMPTY | version:integer>] [TIMESTAMP milliseconds:unix-time] [PAYLOAD payload] " +
    "[METADATA metadata]",
  group: "events",
  since: "0.1.0",
  prepare(args, { server }): Transaction {
    const event = readEventHead(args);
    let partitionKey: Uint8Array | undefined;
    // A third word that is no option is the payload: the line that everybody types first.
    if (args.left > 0 && !isOption(args)) event.payload = args.bytes("payload");
    while (args.left > 0) {
      if (readEventOption(args, event)) continue;
      if (!args.option("PARTITION_KEY", partitionKey)) throw args.unexpected();
      partitionKey = args.uuidBytes("partition key");
    }
    if (server.strictVersioning) requireStrictVersion(event);
    return { partitionKey, events: [event] };
  },
  answer: writeAppended,
};

const OPTIONS = ["EVENT_ID", "PARTITION_KEY", "EXPECTED_VERSION", "TIMESTAMP", "PAYLOAD", "METADATA"];

function isOption(args: Arguments): boolean {
  for (const option of OPTIONS) if (args.isKeyword(option)) return true;
  return false;
}
