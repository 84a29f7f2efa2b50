/**
 * `ESUB`: follows streams, each from a version on, and pushes their events.
 *
 * @module
 */
import type { StreamSelection } from "../../core/store.ts";
import type { Arguments } from "../arguments.ts";
import type { ReadingCommand } from "./command.ts";
import { follow, readFrom, readWindow } from "./following.ts";

export const esub: ReadingCommand = {
  name: "ESUB",
  does: "reads",
  summary: "Pushes the events of streams, those stored and those to come",
  syntax: "<stream_id [PARTITION_KEY uuid]> ... " +
    "[FROM <LATEST | version:integer | MAP stream_id=version ...>] [WINDOW events:integer]",
  group: "subscriptions",
  since: "0.1.0",
  prepare(args, { client, store }) {
    const streams: { streamId: string; partitionKey: string | undefined }[] = [];
    // A stream may be called FROM, but only the first of the list.
    do streams.push(readStream(args)); while (args.left > 0 && !args.isKeyword("FROM") && !args.isKeyword("WINDOW"));
    const { from, starts } = readFrom(args, "version", "stream id");
    const window = readWindow(args);
    const selection: StreamSelection = {
      streams: streams.map((stream) => ({ ...stream, from: starts.get(stream.streamId) ?? from })),
    };
    return (reply) => follow(reply, client, store, "esub", selection, window);
  },
};

/** Reads `stream_id [PARTITION_KEY uuid]`. */
export function readStream(args: Arguments): { streamId: string; partitionKey: string | undefined } {
  const streamId = args.text("stream id");
  return { streamId, partitionKey: args.keyword("PARTITION_KEY") ? args.uuid("partition key") : undefined };
}
