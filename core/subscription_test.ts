/** What following costs, where the promises are kept either way: counted in reads of the disk, or in bytes that are held. */
import assert from "node:assert/strict";
import { type Database, openDatabase } from "./database.ts";
import type { EventRecord } from "./event.ts";
import { MemoryDisk } from "./log/memory_disk.ts";
import { SeededEnvironment } from "./seeded_environment.ts";
import type { Subscription } from "./store.ts";
import { formatUuid } from "./uuid.ts";

const KEY = "550e8400-e29b-41d4-a716-446655440000";
/** So large that no two events come with one lookup. */
const PAYLOAD = new Uint8Array(5000);

/** A database of one bucket, and how often its disk was read. */
async function opened(partitionCount: number) {
  const disk = new MemoryDisk();
  const counted = { reads: 0 };
  disk.hooks.read = () => void counted.reads++;
  const environment = new SeededEnvironment(1);
  const store = await openDatabase({ dir: "/data", disk, environment, partitionCount, bucketCount: 1, tailBytes: 0 });
  return { store, counted };
}

/** Reads until nothing is left. */
async function drain(subscription: Subscription): Promise<EventRecord[]> {
  const events: EventRecord[] = [];
  for (;;) {
    const page = await subscription.read();
    if (page.length === 0) return events;
    events.push(...page);
  }
}

async function appendRound(store: Database, streams: number): Promise<void> {
  await Promise.all(
    Array.from(
      { length: streams },
      (_, i) => store.append({ partitionKey: KEY, events: [{ streamId: `s${i}`, name: "E", payload: PAYLOAD }] }),
    ),
  );
}

function followRounds(store: Database, streams: number): Promise<Subscription> {
  const named = Array.from({ length: streams }, (_, i) => ({ streamId: `s${i}`, partitionKey: KEY, from: 0 }));
  return store.subscribe({ streams: named });
}

Deno.test("an event of five hundred streams of one partition costs no more reads than one of five", async () => {
  const costs: number[] = [];
  for (const streams of [5, 500]) {
    const { store, counted } = await opened(1);
    for (let round = 0; round < 3; round++) await appendRound(store, streams);
    using subscription = await followRounds(store, streams);
    counted.reads = 0;
    const events = await drain(subscription);
    assert.deepEqual(events.map(({ sequence }) => sequence), Array.from({ length: 3 * streams }, (_, i) => i));
    costs.push(counted.reads / events.length);
    await store.close();
  }
  const [few, many] = costs as [number, number];
  assert.ok(many <= 2 * few + 1, `${many} reads an event of many streams, ${few} of few`);
});

Deno.test("a subscriber that begins ahead of a partition does not walk through what came before its start", async () => {
  const { store, counted } = await opened(2);
  const ahead = store.partitionOfKey(KEY);
  let otherKey = KEY;
  for (let i = 0; store.partitionOfKey(otherKey) === ahead; i++) otherKey = formatUuid(new Uint8Array(16).fill(i));
  using subscription = await store.subscribe({ partitions: "all", starts: new Map([[ahead, 1e6]]) });
  const waits = subscription.ready();
  await appendRound(store, 200);
  await new Promise((resolve) => setTimeout(resolve)); // It was woken in vain, and has looked.
  counted.reads = 0;
  await store.append({ partitionKey: otherKey, events: [{ streamId: "other", name: "E" }] });
  assert.equal(await waits, true);
  assert.deepEqual((await drain(subscription)).map(({ streamId }) => streamId), ["other"]);
  assert.ok(counted.reads < 4, `${counted.reads} reads for one event`);
  await store.close();
});
