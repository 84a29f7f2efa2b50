/**
 * `ESCAN`: events of a stream between two versions, either way.
 *
 * @module
 */
import type { ReadingCommand } from "./command.ts";
import { answerScan, askedRange, readBounds, readScanOption, type ScanOptions } from "./scan.ts";

export const escan: ReadingCommand = {
  name: "ESCAN",
  does: "reads",
  summary: "Returns events of a stream between two versions, forward or back",
  syntax: "stream_id <- | + | start:integer> <- | + | end:integer> [PARTITION_KEY uuid] [COUNT count:integer] [REV]",
  group: "events",
  since: "0.1.0",
  prepare(args, { store }) {
    const streamId = args.text("stream id");
    const { start, end } = readBounds(args, "version");
    const options: ScanOptions = {};
    let partitionKey: string | undefined;
    while (args.left > 0) {
      if (readScanOption(args, options)) continue;
      if (!args.option("PARTITION_KEY", partitionKey)) throw args.unexpected();
      partitionKey = args.uuid("partition key");
    }
    const range = askedRange(start, end, options);
    return async (reply, flow) => {
      const last = await store.streamVersion(streamId, { partitionKey });
      await answerScan(reply, flow, range, last, (read) => store.readStream(streamId, { ...read, partitionKey }));
    };
  },
};
