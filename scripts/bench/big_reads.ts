/**
 * Reads of a store that holds many events, with its pages in memory and not; how long it takes to open; what it takes
 * in memory at rest and on the disk.
 *
 * @module
 */
import { Client, type Plain } from "../resp_client.ts";
import { type Bench, scaled, startOurs } from "./bench.ts";
import { type Clone, EVENTS_PER_STREAM, type Filling, flagsOf, idOf, streamOf } from "./big_store.ts";
import { diskUse, KINDS, total } from "./disk_use.ts";
import { dropPages, fillPages, pagesHeld } from "./page_cache.ts";
import { Latencies } from "./percentiles.ts";
import { formatId, streamName } from "./requests.ts";
import { byPull } from "./subscriptions.ts";

const READS = 1000;
/** After so many reads pages are dropped again: what they all share would be warm. */
const COLD_READS = 20;
const PAGE = 1000;

/** A read of one client, answered by what it must be answered by. */
interface Read {
  name: string;
  one(client: Client): Promise<void>;
}

export async function measureBigReads(bench: Bench, filling: Filling, big: Clone): Promise<void> {
  const held = `${filling.events.toLocaleString("en")} events`;
  const reads = readsOf(filling);
  const start = () => startOurs(bench, big.folder, flagsOf(filling));
  const opened = async (after: string) => {
    const server = await start();
    bench.add({ name: `start to first PONG, ${held}, ${after}`, value: server.readyMs, unit: "ms" });
    return server;
  };

  const why = await dropPages(big.folder);
  if (why === null) {
    await using server = await opened("after a clean stop, pages cold");
    for (const { name, one } of reads) {
      using client = await Client.connect(server.address);
      const latencies = new Latencies();
      for (let i = 0; i < scaled(bench, READS, COLD_READS); i++) {
        if (i % COLD_READS === 0) await dropPages(big.folder);
        await timed(latencies, () => one(client));
      }
      const note = `pages dropped by dd iflag=nocache before every ${COLD_READS} reads, after the server's start`;
      addReads(bench, `${name}, ${held}, pages cold`, latencies, note);
    }
    await server.stop();
  } else {
    bench.skip("reads with cold pages", why);
  }

  await fillPages(big.folder);
  {
    await using server = await opened("after a clean stop");
    bench.add({ name: `resident memory at rest, ${held}`, value: server.residentBytes() / 2 ** 20, unit: "MiB" });
    const inMemory = await pagesHeld(big.folder), all = total(await diskUse(big.folder));
    const part = inMemory === null ? "" : `, ${(100 * inMemory / all).toFixed(0)} % of its bytes are in the page cache`;
    for (const { name, one } of reads) {
      using client = await Client.connect(server.address);
      const latencies = new Latencies();
      for (let i = 0; i < scaled(bench, READS, COLD_READS); i++) await one(client);
      for (let i = 0; i < scaled(bench, READS, COLD_READS); i++) await timed(latencies, () => one(client));
      addReads(bench, `${name}, ${held}, warm`, latencies, `all files and as many other reads before it${part}`);
    }
    await measureScan(bench, server.address, held);
    await server.kill();
  }
  {
    await using server = await opened("after kill -9 at rest");
    await server.stop();
  }

  const bytes = await diskUse(big.folder);
  const payload = filling.events * filling.payloadBytes;
  const unit = "bytes an event";
  bench.add({
    name: `on disk beyond the payload, ${held}, data and indexes`,
    value: (total(bytes) - bytes.journal - payload) / filling.events,
    unit,
    note: `payloads of ${filling.payloadBytes} bytes; the journal, whose size is fixed, is not counted`,
  });
  for (const kind of KINDS) {
    const beyond = kind === "segments" ? bytes[kind] - payload : bytes[kind];
    const of = kind === "segments" ? "segments, beyond the payload" : kind;
    bench.add({ name: `on disk, ${held}: ${of}`, value: beyond / filling.events, unit });
  }
}

/** One client reads a partition from its first event to its last. */
async function measureScan(bench: Bench, address: { hostname: string; port: number }, held: string): Promise<void> {
  using client = await Client.connect(address);
  const events = await client.call("EPSEQ", 0) as number + 1;
  const ways = {
    "in one command": () => byPull(address, events, (from) => ["EPSCAN", 0, from, "+", "COUNT", events], events),
    [`in pages of ${PAGE}`]: () => byPull(address, events, (from) => ["EPSCAN", 0, from, "+", "COUNT", PAGE]),
  };
  for (const [way, read] of Object.entries(ways)) {
    const began = performance.now();
    await read();
    const value = events / (performance.now() - began) * 1000;
    bench.add({ name: `EPSCAN from 0 to the end, ${held}, ${way}`, value, unit: "events/s" });
  }
}

function readsOf(filling: Filling): Read[] {
  const streamEvents = Math.min(EVENTS_PER_STREAM, Math.floor(filling.events / filling.streams));
  return [
    {
      name: `ESCAN of the last ${EVENTS_PER_STREAM} of a random stream`,
      async one(client) {
        const stream = streamName(Math.floor(Math.random() * filling.streams));
        const reply = await client.call("ESCAN", stream, "+", "-", "COUNT", EVENTS_PER_STREAM) as { events: Plain[] };
        if (reply.events.length !== streamEvents) {
          throw new Error(`${stream} has ${streamEvents} events, found ${reply.events.length}`);
        }
      },
    },
    {
      name: "EGET of a random event",
      async one(client) {
        const event = Math.floor(Math.random() * filling.events);
        const reply = await client.call("EGET", formatId(idOf(filling, event))) as { stream_id: Uint8Array } | null;
        const stream = streamName(streamOf(filling, event));
        const found = reply === null ? "nothing" : new TextDecoder().decode(reply.stream_id);
        if (found !== stream) throw new Error(`Event ${event} is of ${stream}, found ${found}`);
      },
    },
  ];
}

async function timed(latencies: Latencies, read: () => Promise<void>): Promise<void> {
  const began = performance.now();
  await read();
  latencies.add(performance.now() - began);
}

function addReads(bench: Bench, name: string, latencies: Latencies, note: string): void {
  const ms = latencies.percentiles();
  bench.add({ name, value: ms.msP50, unit: "ms, median", ms, note });
}
