/**
 * `ESCAN`: events of a stream between two versions, either way.
 *
 * @module
 */
import type { EventStore, Freshness, ReadOptions, StreamOptions } from "../../core/store.ts";
import type { ReadingCommand } from "./command.ts";
import { FRESHNESS } from "./freshness.ts";
import { answerScan, askedRange, readBounds, readScanOption, type ScanOptions } from "./scan.ts";

export const escan: ReadingCommand = {
  name: "ESCAN",
  does: "reads",
  summary: "Returns events of a stream between two versions, forward or back",
  syntax: "stream_id <- | + | start:integer> <- | + | end:integer> [PARTITION_KEY uuid] [COUNT count:integer] [REV] " +
    FRESHNESS,
  group: "events",
  since: "0.1.0",
  prepare(args, { store }) {
    const streamId = args.text("stream id");
    const { start, end } = readBounds(args, "version");
    const options: ScanOptions = { freshness: {} };
    let partitionKey: string | undefined;
    while (args.left > 0) {
      if (readScanOption(args, options)) continue;
      if (!args.option("PARTITION_KEY", partitionKey)) throw args.unexpected();
      partitionKey = args.uuid("partition key");
    }
    const range = askedRange(start, end, options);
    return async (reply, flow) => {
      const { last, atLeast } = await headOf(store, streamId, { partitionKey, ...options.freshness });
      const read = (range: ReadOptions) => store.readStream(streamId, { ...range, partitionKey, atLeast });
      await answerScan(reply, flow, range, last, read);
    };
  },
};

/** The version of the stream's last event, and the sequence that must be readable for all up to it to be there. */
async function headOf(
  store: EventStore,
  streamId: string,
  options: StreamOptions & Freshness,
): Promise<{ last: number | null; atLeast?: number }> {
  if (store.cluster === undefined) return { last: await store.streamVersion(streamId, options) };
  // The events may come from another replica than the one that knew the last, and it must not be behind that one.
  for await (const event of store.readStream(streamId, { ...options, direction: "backward", limit: 1 })) {
    return { last: event.version, atLeast: event.sequence };
  }
  return { last: null };
}
