/**
 * From the start of the process to its first PONG, and its memory: an empty folder, and a million events.
 *
 * @module
 */
import { load } from "./loader.ts";
import { type Bench, countedLoad, scaled, startOurs } from "./bench.ts";
import { ServerProcess } from "../server_process.ts";
import { median } from "./percentiles.ts";
import { appendsByChance, eappend, payloadOf } from "./requests.ts";

const STARTS = 5;
const EVENTS = 1_000_000;
const STREAMS = 10_000;
const PAYLOAD = payloadOf(250);

export async function measureStarts(bench: Bench): Promise<void> {
  const add = (name: string, value: number, unit: string) => bench.add({ name, value, unit });
  const empty: number[] = [];
  for (let i = 0; i < (bench.scale < 0.1 ? 1 : STARTS); i++) {
    await using server = await ServerProcess.start({ command: bench.command });
    empty.push(server.readyMs);
    if (i === 0) add("resident memory at rest, empty", server.residentBytes() / 2 ** 20, "MiB");
    await server.stop();
  }
  add("start to first PONG, empty folder", median(empty), "ms");

  const events = scaled(bench, EVENTS, 1000);
  const named = `${events.toLocaleString("en")} events of ${PAYLOAD.length} bytes`;
  const append = async (server: ServerProcess, requests: number) => {
    const work = appendsByChance(eappend(PAYLOAD, "no"), STREAMS, "no");
    const by = () => load(server.address, work, { clients: 50, pipeline: 16, requests });
    await countedLoad(server, (loaded) => loaded.requests, by);
  };
  {
    await using server = await startOurs(bench, "many");
    await append(server, events);
    add(`resident memory after ${named}`, server.residentBytes() / 2 ** 20, "MiB");
    await server.stop();
  }
  {
    await using server = await startOurs(bench, "many");
    add(`start to first PONG, ${named}, after a clean stop`, server.readyMs, "ms");
    add(`resident memory after that start, ${named}`, server.residentBytes() / 2 ** 20, "MiB");
    await server.kill();
  }
  {
    await using server = await startOurs(bench, "many");
    add(`start to first PONG, ${named}, after kill -9 at rest`, server.readyMs, "ms");
    // The worst case: everything that the indexes do not have yet lies in the open part of the log.
    await append(server, Math.max(1000, Math.round(events / 10)));
    await server.kill();
  }
  {
    await using server = await startOurs(bench, "many");
    add(`start to first PONG, ${named} and a tenth more, after kill -9 right behind it`, server.readyMs, "ms");
    await server.stop();
  }
}
