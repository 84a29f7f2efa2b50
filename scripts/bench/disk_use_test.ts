import { equal } from "node:assert/strict";
import { type Kind, kindOf } from "./disk_use.ts";

Deno.test("every file of a data folder is of a kind", () => {
  const cases: Record<string, Kind> = {
    "buckets/00000/segments/0000000000/data.evts": "segments",
    "buckets/00000/segments/0000000000/index.eidx": "event index",
    "buckets/00003/segments/0000000017/piece-002.sidx": "stream index",
    "buckets/00003/segments/0000000017/partition.pidx": "partition index",
    "journal/a": "journal",
    "meta.json": "other",
    "lock": "other",
    "buckets/00000/heads": "other",
  };
  for (const [path, kind] of Object.entries(cases)) equal(kindOf(path), kind, path);
});
