/**
 * A store that holds many events already, and what is in it.
 *
 * Event number n lies in stream n % streams, so that ten rounds over all streams fill it: the events of a stream lie as
 * far apart as they can. Its name, its id and its payload follow from n, so that what is stored can be asked for, and
 * sent again, without a list. Each event was an append of its own.
 *
 * The store is filled once and kept as it is. What appends to it, or kills its server, works on a clone: sealed
 * segments are linked, for their bytes are never written again, and all else is copied.
 *
 * @module
 */
import { Client } from "../resp_client.ts";
import { ServerProcess } from "../server_process.ts";
import { type Bench, countedLoad } from "./bench.ts";
import { load } from "./loader.ts";
import { eappend, makeId, payloadOf, type Requests, streamHash, streamName, Template } from "./requests.ts";

export const EVENTS_PER_STREAM = 10;
export const PAYLOAD_BYTES = 100;
/** The first event's time: 2026-01-01. */
const EPOCH_MS = 1_767_225_600_000;
const EVENTS_PER_MS = 50;

const MIB = 1024 * 1024;
/** The full store has some 140 segments of 64 MiB; a smaller one has as many smaller ones. */
const FULL_EVENTS = 50_000_000;
const FULL_SEGMENT_BYTES = 64 * MIB;
const SEGMENT_BYTES_MIN = 128 * 1024;

const FILL_CLIENTS = 4;
const FILL_PIPELINE = 500;

/** With what a store was filled: the file beside it says the same. */
export interface Filling {
  events: number;
  streams: number;
  payloadBytes: number;
  segmentBytes: number;
}

export function fillingOf(events: number): Filling {
  const segmentBytes = Math.round(FULL_SEGMENT_BYTES * events / FULL_EVENTS / SEGMENT_BYTES_MIN) * SEGMENT_BYTES_MIN;
  return {
    events,
    streams: Math.max(1, Math.floor(events / EVENTS_PER_STREAM)),
    payloadBytes: PAYLOAD_BYTES,
    segmentBytes: Math.min(FULL_SEGMENT_BYTES, Math.max(SEGMENT_BYTES_MIN, segmentBytes)),
  };
}

export function flagsOf({ segmentBytes }: Filling): string[] {
  return ["--segment-size-bytes", String(segmentBytes)];
}

export function streamOf({ streams }: Filling, event: number): number {
  return event % streams;
}

/** The id of event number n. Good until the next one is made. */
export function idOf(filling: Filling, event: number): Uint8Array {
  return makeId(
    streamHash(streamOf(filling, event)),
    EPOCH_MS + Math.floor(event / EVENTS_PER_MS),
    mixed(event, 0x9e3779b9),
    mixed(event, 0x85ebca6b),
  );
}

/** 32 bits that look like chance, from a number. */
function mixed(value: number, seed: number): number {
  let bits = (value ^ seed) >>> 0;
  bits = Math.imul(bits ^ bits >>> 16, 0x85ebca6b);
  bits = Math.imul(bits ^ bits >>> 13, 0xc2b2ae35);
  return (bits ^ bits >>> 16) >>> 0;
}

const TEMPLATE = new Template(eappend(payloadOf(PAYLOAD_BYTES), "random"));

/** Writes the append by which event number n came, or comes, into the store. */
export function writeEvent(filling: Filling, event: number, into: Uint8Array, at: number): number {
  return TEMPLATE.write(into, at, streamOf(filling, event), idOf(filling, event));
}

export const EVENT_BYTES_MAX = TEMPLATE.bytes.length;

/** Events from `first` on, in their order. */
export function eventsFrom(filling: Filling, first: number): Requests {
  let event = first;
  return { bytesMax: EVENT_BYTES_MAX, write: (into, at) => writeEvent(filling, event++, into, at) };
}

/** The folder of the store, filled if it was not. */
export async function bigStore(bench: Bench, filling: Filling): Promise<string> {
  const folder = bench.store ?? `${bench.folder}/big`;
  const data = `${folder}/data`, note = `${folder}/filled.json`;
  await Deno.mkdir(folder, { recursive: true });
  const found = await readIfThere(note);
  const wanted = JSON.stringify(filling);
  if (found !== null) {
    if (found.trim() === wanted) return data;
    throw new Error(`${folder} was filled with ${found.trim()}, and wanted is ${wanted}: name another --store`);
  }
  for await (const { name } of Deno.readDir(folder)) {
    throw new Error(`${folder} holds ${name} and no filled.json: it is not whole; remove it, or name another --store`);
  }
  console.error(`filling ${folder} with ${filling.events.toLocaleString("en")} events`);
  await Deno.mkdir(data);
  {
    await using server = await ServerProcess.start({ command: bench.command, folder: data, flags: flagsOf(filling) });
    const { perSecond } = await countedLoad(server, ({ requests }) => requests, async () => {
      const requests = eventsFrom(filling, 0);
      const size = { clients: FILL_CLIENTS, pipeline: FILL_PIPELINE, requests: filling.events };
      return await load(server.address, requests, size);
    });
    console.error(`filled at ${Math.round(perSecond).toLocaleString("en")} events/s`);
    using client = await Client.connect(server.address);
    const stored = await client.call("DBSIZE");
    if (stored !== filling.events) throw new Error(`${stored} events are stored, not ${filling.events}`);
    const version = await client.call("ESVER", streamName(filling.streams - 1));
    const expected = Math.floor(filling.events / filling.streams) - 1;
    if (version !== expected) throw new Error(`The last stream is at version ${version}, not ${expected}`);
    if (await server.stop() !== 0) throw new Error(`The server did not stop in peace:\n${server.output}`);
  }
  await Deno.writeTextFile(note, wanted + "\n");
  return data;
}

/** A store with the same content, which may be changed. It lies beside the other, so that it can link to its files. */
export async function clone(data: string): Promise<Clone> {
  const folder = await Deno.makeTempDir({ dir: `${data}/..`, prefix: "clone-" });
  const result = new Clone(folder);
  try {
    await copyFolder(data, folder);
  } catch (cause) {
    await result[Symbol.asyncDispose]();
    throw cause;
  }
  return result;
}

export class Clone implements AsyncDisposable {
  constructor(readonly folder: string) {}
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.folder, { recursive: true });
  }
}

async function copyFolder(from: string, to: string): Promise<void> {
  const entries = await Array.fromAsync(Deno.readDir(from));
  // The segment that is written to is the last of its bucket.
  const segments = from.endsWith("/segments") ? entries.map(({ name }) => name).toSorted() : [];
  for (const { name, isDirectory } of entries) {
    if (isDirectory) {
      await Deno.mkdir(`${to}/${name}`);
      if (segments.length > 0 && name !== segments.at(-1)) await copySealed(`${from}/${name}`, `${to}/${name}`);
      else await copyFolder(`${from}/${name}`, `${to}/${name}`);
    } else {
      await Deno.copyFile(`${from}/${name}`, `${to}/${name}`);
    }
  }
}

async function copySealed(from: string, to: string): Promise<void> {
  for await (const { name } of Deno.readDir(from)) {
    if (name === "data.evts") await Deno.link(`${from}/${name}`, `${to}/${name}`);
    else await Deno.copyFile(`${from}/${name}`, `${to}/${name}`);
  }
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await Deno.readTextFile(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return null;
    throw cause;
  }
}
