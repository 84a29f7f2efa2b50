/**
 * `ESVER`: the version of a stream's last event, or null while it has none.
 *
 * @module
 */
import type { ReadingCommand } from "./command.ts";

export const esver: ReadingCommand = {
  name: "ESVER",
  does: "reads",
  summary: "Returns the version of a stream's last event, or null while it has none",
  syntax: "stream_id [PARTITION_KEY uuid]",
  group: "events",
  since: "0.1.0",
  prepare(args, { store }) {
    const streamId = args.text("stream id");
    let partitionKey: string | undefined;
    while (args.option("PARTITION_KEY", partitionKey)) partitionKey = args.uuid("partition key");
    args.end();
    return async (reply) => reply.value(await store.streamVersion(streamId, { partitionKey }));
  },
};
