/**
 * What an engine does with a store that big_store.ts made: its start, scans, lookups, appends, appends with event ids.
 *
 *     deno run --allow-read --allow-write --allow-sys scripts/bench/big_measure.ts DIR [reads] [appends] [ids]
 *
 * Appends are compared with those into an empty store beside it, in turns, by the processor's time: the clock on the
 * wall measures the other programs as well. The folder grows by what is appended.
 *
 * @module
 */
import process from "node:process";
import { Chance } from "../../core/chance.ts";
import { type Database, openDatabase } from "../../core/database.ts";
import { identify } from "../../core/event.ts";
import { partitionHash } from "../../core/placement.ts";
import { formatUuid, newEventId } from "../../core/uuid.ts";

const SEGMENT_BYTES = 64 * 1024 * 1024;
const STREAMS = 5_000_000;
const WARM_MS = 60_000;
const ROUND_MS = 4000;
const ROUNDS = 4;
const WRITERS = 200;
/** Ids that are kept to be repeated. */
const KEPT_IDS = 100_000;

const payload = new Chance(1).bytes(100);
const chance = new Chance(Date.now());
let newStreams = 0;

interface Planned {
  streamId: string;
  eventId?: string;
}

/** One in ten is new. */
function withoutId(): Planned {
  return { streamId: chance.oneIn(10) ? `new-${chance.seed}-${newStreams++}` : `stream-${chance.below(STREAMS)}` };
}

/** One in a hundred is a retry. */
function withIds(random: boolean): () => Planned {
  const given: Planned[] = [];
  return () => {
    if (given.length > 0 && chance.oneIn(100)) return chance.pick(given);
    const { streamId } = withoutId();
    const hash = partitionHash(identify(streamId, null).partitionKey);
    const ms = random ? chance.below(2 ** 48) : Date.now();
    const planned = { streamId, eventId: formatUuid(newEventId(hash, ms, (bytes) => chance.fill(bytes))) };
    if (given.length < KEPT_IDS) given.push(planned);
    else given[chance.below(KEPT_IDS)] = planned;
    return planned;
  };
}

/** Appends for a while. Returns how many it did a second, and the processor's time for one, in microseconds. */
async function append(store: Database, ms: number, plan: () => Planned): Promise<{ rate: number; us: number }> {
  const began = performance.now();
  const cpu = process.cpuUsage();
  let count = 0;
  const writer = async () => {
    for (; performance.now() - began < ms; count++) {
      await store.append({ events: [{ ...plan(), name: "Happened", payload }] });
    }
  };
  await Promise.all(Array.from({ length: WRITERS }, writer));
  const { user, system } = process.cpuUsage(cpu);
  return { rate: Math.round(count / (performance.now() - began) * 1000), us: (user + system) / count };
}

async function compare(what: string, one: () => ReturnType<typeof append>, other: () => ReturnType<typeof append>) {
  const ratios: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const [a, b] = [await one(), await other()];
    ratios.push(a.us / b.us);
    const costs = `${a.us.toFixed(1)} µs against ${b.us.toFixed(1)}`;
    console.log(`  ${what}: ${costs}, ${a.rate}/s against ${b.rate}/s`);
  }
  ratios.sort((a, b) => a - b);
  console.log(`  ${what}: ${ratios[ROUNDS >> 1]!.toFixed(2)} times the cost; resident ${resident()}`);
}

const resident = () => `${Math.round(Deno.memoryUsage().rss / 2 ** 20)} MiB`;

function percentiles(times: number[]): string {
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))]!.toFixed(2);
  return `50 % ${at(0.5)}, 99 % ${at(0.99)}, all ${at(1)} ms`;
}

async function read(store: Database, count: number): Promise<void> {
  const ids: string[] = [];
  const scans: number[] = [];
  const gets: number[] = [];
  for (let i = 0; i < count; i++) {
    const scan = store.readStream(`stream-${chance.below(STREAMS)}`, { direction: "backward", limit: 10 });
    const began = performance.now();
    const events = await Array.fromAsync(scan);
    scans.push(performance.now() - began);
    if (events.length > 0) ids.push(chance.pick(events).eventId);
  }
  for (const id of ids) {
    const began = performance.now();
    if (await store.event(id) === null) throw new Error(`Event ${id} was read, and cannot be found`);
    gets.push(performance.now() - began);
  }
  console.log(`  the last 10 events of a stream: ${percentiles(scans)}; an event by its id: ${percentiles(gets)}`);
}

async function main([dir, ...parts]: string[]): Promise<void> {
  if (dir === undefined) throw new Error("Say where: big_measure.ts DIR [reads] [appends] [ids]");
  const began = performance.now();
  const store = await openDatabase({ dir });
  const { events, segments } = store.status();
  const ms = Math.round(performance.now() - began);
  console.log(`${events} events in ${segments} segments: opened in ${ms} ms, resident ${resident()}`);
  if (parts.includes("reads")) { for (const count of [1000, 5000, 5000]) await read(store, count); }
  const here = await Deno.makeTempDir({ dir: `${dir}/..` });
  const empty = await openDatabase({ dir: here, segmentBytes: SEGMENT_BYTES });
  if (parts.includes("appends")) {
    for (const one of [store, empty]) await append(one, WARM_MS, withoutId);
    await compare(
      "appends, big against empty",
      () => append(store, ROUND_MS, withoutId),
      () => append(empty, ROUND_MS, withoutId),
    );
  }
  if (parts.includes("ids")) {
    for (const random of [false, true]) {
      const plan = withIds(random);
      await append(store, WARM_MS, plan);
      await compare(
        `appends with ids${random ? " of chance" : ""}, against those without`,
        () => append(store, ROUND_MS, plan),
        () => append(store, ROUND_MS, withoutId),
      );
    }
  }
  await empty.close();
  await store.close();
  await Deno.remove(here, { recursive: true });
}

if (import.meta.main) await main(Deno.args);
