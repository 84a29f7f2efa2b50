/**
 * What a repair has to tell, as lines: where the damage is, what is lost, what was salvaged, and a verdict.
 *
 *     /data/buckets/00001/segments/0000000003/data.evts at offset 4711: a frame fails its checksum
 *     bucket 1: entry 812 is lost
 *     partition 5: kept up to sequence 77, lost 78 to 79, salvaged 12 events
 *     stream "user-123" of partition key 7e124fe8-…: version 4 is lost
 *     kept: transactions 10233, events 12001; salvaged: transactions 9, events 12; lost: transactions 1
 *     the salvaged events, as lines of JSON: /repaired/salvaged.ndjson
 *
 * @module
 */
import type { RepairReport } from "../core/mod.ts";

/** The lines, each with its line feed. */
export function repairLines(report: RepairReport): string {
  const { damage, lostEntries, openEnds, partitions, streams } = report;
  const lostTransactions = lostEntries.reduce((sum, { from, end }) => sum + end - from, 0);
  const lines = [
    ...damage.map(({ file, offset, reason }) => `${file} at offset ${offset}: ${reason}`),
    ...lostEntries.map(({ bucket, from, end }) => `bucket ${bucket}: ${numbers("entry", "entries", from, end)}`),
    ...openEnds.map((bucket) => `bucket ${bucket}: more may be lost at the end of its log, the journal does not say`),
    ...partitions.map(({ partition, kept, lost, salvagedEvents }) => {
      const ranges = lost.map(({ from, end }) => range(from, end)).join(", ");
      return `partition ${partition}: kept ${kept === 0 ? "nothing" : `up to sequence ${kept - 1}`}, ` +
        `lost ${ranges === "" ? "nothing" : ranges}, salvaged ${salvagedEvents} events`;
    }),
    ...streams.map(({ streamId, partitionKey, from, end }) =>
      `stream ${JSON.stringify(streamId)} of partition key ${partitionKey}: ${
        numbers("version", "versions", from, end)
      }`
    ),
    `kept: transactions ${report.keptTransactions}, events ${report.keptEvents}; ` +
    `salvaged: transactions ${report.salvagedTransactions}, events ${report.salvagedEvents}; ` +
    `lost: transactions ${lostTransactions}${openEnds.length === 0 ? "" : " or more"}`,
    ...(report.salvagedFile === null ? [] : [`the salvaged events, as lines of JSON: ${report.salvagedFile}`]),
  ];
  return lines.map((line) => line + "\n").join("");
}

function numbers(one: string, several: string, from: number, end: number): string {
  return end - from === 1 ? `${one} ${from} is lost` : `${several} ${range(from, end)} are lost`;
}

function range(from: number, end: number): string {
  return end - from === 1 ? `${from}` : `${from} to ${end - 1}`;
}
