/**
 * Makes a store as it is after years: fifty million events of 100 bytes in five million streams, some 170 segments.
 *
 *     deno run --allow-read --allow-write --allow-run=sync --allow-sys=statfs scripts/bench/big_store.ts DIR [EVENTS [STREAMS]]
 *
 * Only the folder matters, not how it came to be: so nothing is synced before the end, and the heads of streams are kept
 * in memory, where no lookup slows what is being made. Stream `n` is called `stream-n`; which comes next is chance.
 *
 * @module
 */
import { Bucket } from "../../core/bucket.ts";
import { Chance } from "../../core/chance.ts";
import { openDatabase } from "../../core/database.ts";
import { HeadTable } from "../../core/index/heads.ts";
import { type Disk, type DiskFile, systemDisk } from "../../core/log/disk.ts";

const EVENTS = 50_000_000;
const STREAMS = 5_000_000;
const SEGMENT_BYTES = 64 * 1024 * 1024;
const PAYLOAD_BYTES = 100;
/** Appends that are on their way at a time: what a batch takes. */
const AT_A_TIME = 16_384;

function unsynced(disk: Disk): Disk {
  const open = (path: string, mode: "read" | "write" | "create"): DiskFile => {
    const file = disk.open(path, mode);
    if (mode === "read") return file;
    file.sync = () => Promise.resolve();
    file.syncHere = () => {};
    return file;
  };
  return { ...disk, open, syncFolder: () => Promise.resolve() };
}

function keepHeads(): void {
  const heads = new HeadTable();
  const { publish } = Bucket.prototype;
  Bucket.prototype.streamHead = ({ streamKey }) => heads.get(streamKey);
  Bucket.prototype.publish = function (transaction, placing) {
    publish.call(this, transaction, placing);
    const { events } = transaction;
    for (let i = 0; i < events.length; i++) {
      heads.set(events[i]!.streamKey, placing.versions[i]!, placing.firstSequence + i);
    }
  };
}

async function main([dir, events = String(EVENTS), streams = String(STREAMS)]: string[]): Promise<void> {
  if (dir === undefined) throw new Error("Say where: big_store.ts DIR [EVENTS [STREAMS]]");
  keepHeads();
  const chance = new Chance(1);
  const payload = chance.bytes(PAYLOAD_BYTES);
  const began = performance.now();
  const store = await openDatabase({ dir, segmentBytes: SEGMENT_BYTES, disk: unsynced(systemDisk) });
  for (let left = Number(events); left > 0; left -= AT_A_TIME) {
    const appends = Array.from({ length: Math.min(AT_A_TIME, left) }, () => {
      const streamId = `stream-${chance.below(Number(streams))}`;
      return store.append({ events: [{ streamId, name: "Happened", payload }] });
    });
    await Promise.all(appends);
    if (left >>> 20 === left - AT_A_TIME >>> 20) continue;
    const seconds = Math.round((performance.now() - began) / 1000);
    console.log(`${left} events left after ${seconds} s, ${store.status().segments} segments`);
  }
  await store.close();
  await new Deno.Command("sync", { args: ["-f", dir] }).output();
}

if (import.meta.main) await main(Deno.args);
