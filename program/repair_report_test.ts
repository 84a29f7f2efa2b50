import assert from "node:assert/strict";
import type { RepairReport } from "../core/mod.ts";
import { repairLines } from "./repair_report.ts";

const WHOLE: RepairReport = {
  ...{ keptTransactions: 10, keptEvents: 12, salvagedFile: null, salvagedTransactions: 0, salvagedEvents: 0 },
  ...{ damage: [], lostEntries: [], openEnds: [], partitions: [], streams: [] },
};

Deno.test("repair report: a folder that is whole is one line", () => {
  assert.equal(
    repairLines(WHOLE),
    "kept: transactions 10, events 12; salvaged: transactions 0, events 0; lost: transactions 0\n",
  );
});

Deno.test("repair report: what is lost is named by bucket, partition and stream", () => {
  const partitionKey = "7e124fe8-fe28-5398-bb95-53973100148f";
  const text = repairLines({
    ...WHOLE,
    ...{ salvagedFile: "/new/salvaged.ndjson", salvagedTransactions: 2, salvagedEvents: 3 },
    damage: [{ file: "/old/data.evts", offset: 48, reason: "a frame fails its checksum" }],
    lostEntries: [{ bucket: 1, from: 5, end: 6 }, { bucket: 2, from: 7, end: 9 }],
    openEnds: [3],
    partitions: [
      { partition: 4, kept: 0, lost: [{ from: 0, end: 1 }, { from: 4, end: 6 }], salvagedEvents: 3 },
      { partition: 8, kept: 7, lost: [], salvagedEvents: 0 },
    ],
    streams: [{ partition: 4, partitionKey, streamId: 'a "b"\n', from: 2, end: 3 }],
  });
  assert.deepEqual(text.split("\n"), [
    "/old/data.evts at offset 48: a frame fails its checksum",
    "bucket 1: entry 5 is lost",
    "bucket 2: entries 7 to 8 are lost",
    "bucket 3: more may be lost at the end of its log, the journal does not say",
    "partition 4: kept nothing, lost 0, 4 to 5, salvaged 3 events",
    "partition 8: kept up to sequence 6, lost nothing, salvaged 0 events",
    `stream "a \\"b\\"\\n" of partition key ${partitionKey}: version 2 is lost`,
    "kept: transactions 10, events 12; salvaged: transactions 2, events 3; lost: transactions 3 or more",
    "the salvaged events, as lines of JSON: /new/salvaged.ndjson",
    "",
  ]);
});
