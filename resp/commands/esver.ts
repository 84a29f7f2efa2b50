/**
 * `ESVER`: the version of a stream's last event, or null while it has none.
 *
 * @module
 */
import type { Freshness } from "../../core/store.ts";
import type { ReadingCommand } from "./command.ts";
import { FRESHNESS, readFreshness } from "./freshness.ts";

export const esver: ReadingCommand = {
  name: "ESVER",
  does: "reads",
  summary: "Returns the version of a stream's last event, or null while it has none",
  syntax: `stream_id [PARTITION_KEY uuid] ${FRESHNESS}`,
  group: "events",
  since: "0.1.0",
  prepare(args, { store }) {
    const streamId = args.text("stream id");
    let partitionKey: string | undefined;
    const freshness: Freshness = {};
    while (args.left > 0) {
      if (readFreshness(args, freshness)) continue;
      if (!args.option("PARTITION_KEY", partitionKey)) throw args.unexpected();
      partitionKey = args.uuid("partition key");
    }
    return async (reply) => reply.value(await store.streamVersion(streamId, { partitionKey, ...freshness }));
  },
};
