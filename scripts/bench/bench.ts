/**
 * What every part of the bench works with, and how two servers are measured in turns.
 *
 * @module
 */
import { Client } from "../resp_client.ts";
import { ServerProcess } from "../server_process.ts";
import { type Loaded } from "./loader.ts";
import { type Measured, median, medianBy } from "./percentiles.ts";
import type { Peer } from "./peers/peer.ts";
import type { Row } from "./report.ts";

export interface Bench {
  /** The command that starts our server. */
  command: string[];
  peer: Peer | null;
  /** For what is measured, gone when it is over. */
  folder: string;
  scale: number;
  rounds: number;
  /** How many events the large store has. */
  events: number;
  /** Where the large store is kept; a temporary one when left out. */
  store?: string;
  /** Adds a line to the table, and shows it at once. */
  add(row: Row): void;
  skip(name: string, why: string): void;
}

/** A thousandth of the size is a thousandth of the work, but something. */
export function scaled(bench: Bench, count: number, atLeast = 1): number {
  return Math.max(atLeast, Math.round(count * bench.scale));
}

const SECONDS_MIN = 0.3;

/** The same of a time, which is never so short that nothing happens in it. */
export function scaledSeconds(bench: Bench, seconds: number): number {
  return Math.max(SECONDS_MIN, seconds * bench.scale);
}

/** One turn of one side. That of the warm-up is a tenth as long and counts for nothing. */
export type Turn = (share: number) => Promise<Measured>;

const WARM_UP = 0.1;

export interface Work {
  name: string;
  unit: string;
  /** What one request counts for; 1 when left out. */
  each?: number;
  /** Whether how long a request takes is worth a column; so it is when left out. */
  latency?: boolean;
  ours: Turn;
  /** Left out when nobody does the same. Of several, each has a line of its own. */
  beside?: Beside | readonly Beside[] | undefined;
  note?: string;
}

interface Beside {
  name: string;
  turn: Turn;
}

/**
 * Measures in turns: who begins changes, and the ratio is the median of the ratios of the pairs. Returns what was added.
 */
export async function measure(
  bench: Bench,
  { name, unit, each = 1, latency = true, ours, beside = [], note }: Work,
): Promise<Row[]> {
  const others = [beside].flat() as Beside[];
  const sides = [ours, ...others.map(({ turn }) => turn)];
  for (const turn of sides) await turn(WARM_UP);
  const found: Measured[][] = sides.map(() => []);
  for (let round = 0; round < bench.rounds; round++) {
    const order = sides.map((_, side) => side);
    for (const side of round % 2 === 0 ? order : order.toReversed()) found[side]!.push(await sides[side]!(1));
  }
  const middle = (side: number) => {
    const { perSecond, msP50, msP95, msP99, msMax } = medianBy(found[side]!, (one) => one.perSecond);
    return { value: each * perSecond, ...(latency && { ms: { msP50, msP95, msP99, msMax } }) };
  };
  const row: Row = { name, unit, ...middle(0), ...(note !== undefined && { note }) };
  const rows = others.map((other, i): Row => {
    const ratios = found[0]!.map((one, round) => one.perSecond / found[i + 1]![round]!.perSecond);
    return {
      ...row,
      ...(i > 0 && { name: `${name}, beside ${other.name}` }),
      beside: { name: other.name, ...middle(i + 1) },
      ratio: median(ratios),
      ratios,
    };
  });
  if (rows.length === 0) rows.push(row);
  for (const one of rows) bench.add(one);
  return rows;
}

/** Starts our server; `folder` below the bench's own unless it is a path from the root. */
export async function startOurs(bench: Bench, folder: string, flags: string[] = []): Promise<ServerProcess> {
  const path = folder.startsWith("/") ? folder : `${bench.folder}/${folder}`;
  await Deno.mkdir(path, { recursive: true });
  return await ServerProcess.start({ command: bench.command, folder: path, flags });
}

/** Fails unless exactly as many events were stored as were acknowledged. */
export async function counted(server: ServerProcess, acknowledged: () => Promise<number>): Promise<void> {
  using client = await Client.connect(server.address);
  const before = await client.call("DBSIZE") as number;
  const expected = await acknowledged();
  const stored = await client.call("DBSIZE") as number - before;
  if (stored !== expected) throw new Error(`${expected} events were acknowledged and ${stored} are stored`);
}

/** A load whose events are counted: after it, as many more are stored as were acknowledged. */
export async function countedLoad(
  server: ServerProcess,
  eventsOf: (loaded: Loaded) => number,
  load: () => Promise<Loaded>,
): Promise<Loaded> {
  let loaded: Loaded;
  await counted(server, async () => {
    loaded = await load();
    return eventsOf(loaded);
  });
  return loaded!;
}
