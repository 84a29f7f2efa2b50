/**
 * `EPSCAN`: events of a partition between two sequences, either way.
 *
 * @module
 */
import type { ReadingCommand } from "./command.ts";
import { FRESHNESS } from "./freshness.ts";
import { answerScan, askedRange, readBounds, readScanOption, type ScanOptions } from "./scan.ts";

export const epscan: ReadingCommand = {
  name: "EPSCAN",
  does: "reads",
  summary: "Returns events of a partition between two sequences, forward or back",
  syntax:
    "<partition:integer | partition_key> <- | + | start:integer> <- | + | end:integer> [COUNT count:integer] [REV] " +
    FRESHNESS,
  group: "events",
  since: "0.1.0",
  prepare(args, { store }) {
    const asked = args.partition("partition");
    const { start, end } = readBounds(args, "sequence");
    const options: ScanOptions = { freshness: {} };
    while (args.left > 0) if (!readScanOption(args, options)) throw args.unexpected();
    const range = askedRange(start, end, options);
    const partition = typeof asked === "number" ? asked : store.partitionOfKey(asked);
    return async (reply, flow) => {
      const last = await store.partitionSequence(partition, options.freshness);
      // The events may come from another replica than the one that knew the last, and it must not be behind that one.
      const atLeast = last ?? undefined;
      await answerScan(reply, flow, range, last, (read) => store.readPartition(partition, { ...read, atLeast }));
    };
  },
};
