import assert from "node:assert/strict";
import { Chance } from "../../core/chance.ts";
import { type Database, openDatabase } from "../../core/database.ts";
import { Damaged } from "../../core/errors.ts";
import { MemoryDisk } from "../../core/log/memory_disk.ts";
import { SeededEnvironment } from "../../core/seeded_environment.ts";
import { type ReadOptions, Scan } from "../../core/store.ts";
import { Encoder } from "../encoder.ts";
import type { Protocol } from "../value.ts";
import { answerScan, type AskedRange } from "./scan.ts";

const KEY = "5fd81ca5-59bf-4a9e-9149-fce4ee65c033";
const DATA = "/data/buckets/00000/segments/0000000000/data.evts";
const FLOW = { room: () => Promise.resolve() };

function open(disk: MemoryDisk): Promise<Database> {
  const environment = new SeededEnvironment(1);
  return openDatabase({ dir: "/data", disk, environment, partitionCount: 1, bucketCount: 1, journalBytes: 64 * 1024 });
}

/** Transactions of one to seven events of three streams, under their default keys and under one of their own. */
async function fill(store: Database, transactions: number): Promise<void> {
  const chance = new Chance(1);
  for (let i = 0; i < transactions; i++) {
    const own = chance.oneIn(2);
    const streamId = `s${chance.below(3)}`;
    await store.append({
      ...(own && { partitionKey: KEY }),
      events: Array.from({ length: chance.between(1, 7) }, () => ({
        streamId: own ? `s${chance.below(3)}` : streamId,
        name: chance.pick(["Happened", "", "Käse"]),
        timestamp: chance.below(2 ** 40),
        payload: chance.bytes(chance.below(200)),
        metadata: chance.bytes(chance.oneIn(2) ? 0 : chance.below(100)),
      })),
    });
  }
}

async function replyOf(
  protocol: Protocol,
  range: AskedRange,
  last: number | null,
  read: (options: ReadOptions) => Scan,
): Promise<string> {
  const reply = new Encoder(protocol);
  await answerScan(reply, FLOW, range, last, read);
  return new TextDecoder("latin1").decode(reply.take());
}

Deno.test("the reply of a scan is the same from where the events lie as from records, either way, for any range", async () => {
  await using store = await open(new MemoryDisk());
  await fill(store, 300);
  const chance = new Chance(2);
  const scans: [number | null, (options: ReadOptions) => Scan][] = [
    [await store.partitionSequence(0), (options) => store.readPartition(0, options)],
    [await store.streamVersion("s1"), (options) => store.readStream("s1", options)],
    [
      await store.streamVersion("s2", { partitionKey: KEY }),
      (options) => store.readStream("s2", { ...options, partitionKey: KEY }),
    ],
  ];
  for (const [last, read] of scans) {
    for (const direction of ["forward", "backward"] as const) {
      for (let i = 0; i < 30; i++) {
        const lowest = chance.below(last! + 2);
        const highest = i === 0 ? null : lowest + chance.below(400);
        const range = {
          lowest: i === 0 ? 0 : lowest,
          highest,
          direction,
          count: i === 0 ? Infinity : chance.between(0, 300),
        };
        const protocol = chance.pick([2, 3] as const);
        const fromPlace = await replyOf(protocol, range, last, read);
        assert.equal(fromPlace, await replyOf(protocol, range, last, (options) => new Scan(read(options).pages)));
      }
    }
  }
});

Deno.test("a first page that meets damage leaves nothing in the reply; a later one leaves the pages before it", async () => {
  const disk = new MemoryDisk();
  {
    await using store = await open(disk);
    for (let i = 0; i < 600; i++) {
      await store.append({ events: [{ streamId: "s", name: "E", payload: "x".repeat(50) }] });
    }
  }
  const frameBytes = Math.floor((disk.contentOf(DATA).length - 48) / 600);
  for (const [damaged, events] of [[100, 0], [400, 256]] as const) {
    const copy = disk.clone();
    copy.flip(DATA, 48 + damaged * frameBytes + 60, 1);
    await using store = await open(copy);
    const reply = new Encoder(3);
    const range = { lowest: 0, highest: null, direction: "forward", count: 600 } as const;
    await assert.rejects(answerScan(reply, FLOW, range, 599, (read) => store.readPartition(0, read)), Damaged);
    const text = new TextDecoder().decode(reply.take());
    assert.equal(text.split("+event_id").length - 1, events);
    assert.equal(text.startsWith("%2\r\n"), events > 0);
  }
});
