/**
 * Fills a store and looks at it every few seconds: how fast, how long an append takes, how much memory, how much disk.
 * The end is a picture, in which a slope or a step shows what no average does.
 *
 * Events are those of the large store: each an append of its own, with an id, ten rounds over all streams.
 *
 * @module
 */
import { ServerProcess } from "../server_process.ts";
import { countedLoad } from "./bench.ts";
import { eventsFrom, fillingOf, flagsOf } from "./big_store.ts";
import { diskUse, type Kind, KINDS, total } from "./disk_use.ts";
import { load } from "./loader.ts";
import { type Machine, machineLines } from "./machine.ts";
import { Latencies } from "./percentiles.ts";
import { draw, type Point } from "./picture.ts";
import { short, shortMs, table } from "./report.ts";

const CLIENTS = 50;
const PIPELINE = 16;
const SAMPLE_MS_MIN = 250;
const SAMPLE_MS_MAX = 5000;
/** So many samples are made of a fill at this rate: enough for a picture, however short. */
const SAMPLES = 100;
const EXPECTED_PER_SECOND = 80_000;
const MIB = 1024 * 1024;

export interface Sample {
  seconds: number;
  events: number;
  perSecond: number;
  msP50: number;
  msP99: number;
  residentBytes: number;
  disk: Record<Kind, number>;
}

export interface Soak {
  command: string[];
  folder: string;
  events: number;
  svg: string;
  json: string | undefined;
  machine: Machine;
}

export async function soak({ command, folder, events, svg, json, machine }: Soak): Promise<void> {
  const filling = fillingOf(events);
  const data = `${folder}/soak`;
  await Deno.mkdir(data);
  await using server = await ServerProcess.start({ command, folder: data, flags: flagsOf(filling) });
  const samples: Sample[] = [];
  const latencies = new Latencies();
  let accepted = 0, counted = 0, at = performance.now();
  const began = at;
  const sample = async () => {
    const now = performance.now(), since = (now - at) / 1000;
    const one: Sample = {
      seconds: (now - began) / 1000,
      events: accepted,
      perSecond: (accepted - counted) / since,
      msP50: latencies.at(0.5),
      msP99: latencies.at(0.99),
      residentBytes: server.residentBytes(),
      disk: await diskUse(data),
    };
    latencies.clear();
    counted = accepted;
    at = now;
    samples.push(one);
    console.log(cellsOf(one).map((cell, i) => `${cell} ${HEADER[i]}`).join(", "));
  };
  // Never so seldom that a short fill has no picture, never so often that looking is most of the work.
  const everyMs = Math.min(SAMPLE_MS_MAX, Math.max(SAMPLE_MS_MIN, 1000 * events / EXPECTED_PER_SECOND / SAMPLES));
  console.log(
    `\n${CLIENTS} clients × ${PIPELINE}, events of ${filling.payloadBytes} bytes, a look every ${shortMs(everyMs)} ms`,
  );
  const requests = eventsFrom(filling, 0);
  requests.accepted = () => void accepted++;
  requests.took = (ms) => latencies.add(ms);
  let over = false, wake = () => {};
  const sampling = (async () => {
    while (!over) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, everyMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      if (!over && accepted > counted) await sample();
    }
  })();
  try {
    const size = { clients: CLIENTS, pipeline: PIPELINE, requests: events };
    const { perSecond } = await countedLoad(
      server,
      (loaded) => loaded.requests,
      () => load(server.address, requests, size),
    );
    console.log(`${events} events at ${short(perSecond)} a second`);
  } finally {
    over = true;
    wake();
    await sampling;
  }
  if (accepted > counted) await sample();
  console.log(`\n${table([HEADER, ...samples.map(cellsOf)])}`);
  await Deno.writeTextFile(svg, await picture(machine, filling.payloadBytes, samples));
  console.log(`\ndrawn in ${svg}`);
  if (json !== undefined) await Deno.writeTextFile(json, JSON.stringify({ machine, filling, samples }, null, 2) + "\n");
  if (await server.stop() !== 0) throw new Error(`The server did not stop in peace:\n${server.output}`);
}

const HEADER = ["s", "events", "events/s", "ms 50 %", "99 %", "resident MiB", "disk MiB", "bytes an event"];

function cellsOf({ seconds, events, perSecond, msP50, msP99, residentBytes, disk }: Sample): string[] {
  return [
    seconds.toFixed(1),
    ...[events, perSecond].map(short),
    ...[msP50, msP99].map(shortMs),
    ...[residentBytes / MIB, total(disk) / MIB].map(short),
    ((total(disk) - disk.journal) / events).toFixed(0),
  ];
}

function picture(machine: Machine, payloadBytes: number, samples: Sample[]): Promise<string> {
  const line = (of: (sample: Sample) => number, from = 0): Point[] =>
    samples.filter(({ events }) => events >= from).map((one) => ({ x: one.events, y: of(one) }));
  // A file's first bytes, divided by a handful of events, would make all that follows flat.
  const settled = 0.03 * samples.at(-1)!.events;
  const title = `${short(samples.at(-1)!.events)} appends of ${payloadBytes} bytes, ${CLIENTS} clients × ${PIPELINE}`;
  return draw([title, ...machineLines(machine)], "events stored", [
    { title: "appends a second", lines: { appends: line((one) => one.perSecond) } },
    { title: "milliseconds an append", lines: { "99 %": line((one) => one.msP99), "50 %": line((one) => one.msP50) } },
    { title: "resident memory, MiB", lines: { resident: line((one) => one.residentBytes / MIB) } },
    {
      title: "bytes on disk for each event, payload included, journal not",
      lines: Object.fromEntries([
        ["all", line(({ disk, events }) => (total(disk) - disk.journal) / events, settled)],
        ...KINDS.filter((kind) => kind !== "journal" && kind !== "other").map((kind) =>
          [kind, line(({ disk, events }) => disk[kind] / events, settled)] as const
        ),
      ]),
    },
  ]);
}
