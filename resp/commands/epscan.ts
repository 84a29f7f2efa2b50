/**
 * `EPSCAN`: events of a partition between two sequences, either way.
 *
 * @module
 */
import type { ReadingCommand } from "./command.ts";
import { answerScan, askedRange, readBounds, readScanOption, type ScanOptions } from "./scan.ts";

export const epscan: ReadingCommand = {
  name: "EPSCAN",
  does: "reads",
  summary: "Returns events of a partition between two sequences, forward or back",
  syntax:
    "<partition:integer | partition_key> <- | + | start:integer> <- | + | end:integer> [COUNT count:integer] [REV]",
  group: "events",
  since: "0.1.0",
  prepare(args, { store }) {
    const asked = args.partition("partition");
    const { start, end } = readBounds(args, "sequence");
    const options: ScanOptions = {};
    while (args.left > 0) if (!readScanOption(args, options)) throw args.unexpected();
    const range = askedRange(start, end, options);
    const partition = typeof asked === "number" ? asked : store.partitionOfKey(asked);
    return async (reply, flow) => {
      const last = await store.partitionSequence(partition);
      await answerScan(reply, flow, range, last, (read) => store.readPartition(partition, read));
    };
  },
};
