/**
 * What a selection means on the wire: one subscription at the server, and from which numbers on.
 *
 * It is always one, EPSUB for partitions or ESUB for streams, because only the server knows the order of what it gives:
 * sequences within a partition, transactions whole. `FROM MAP` knows streams by their id alone; so of two streams that
 * share it the lower start is named, and what comes too early is dropped here, once for each link.
 *
 * Nothing is asked to begin at `latest`: it becomes a number first, so that a lost link loses nothing. What was passed
 * on moves the numbers, and the next command begins there.
 *
 * @module
 */
import { InvalidArgument } from "../../core/errors.ts";
import { type EventRecord, identify, requireUuid } from "../../core/event.ts";
import {
  type PartitionSelection,
  requireStart,
  type Selection,
  type Start,
  type StreamSelection,
} from "../../core/store.ts";
import { formatUuid } from "../../core/uuid.ts";
import type { Word } from "./command.ts";
import type { Reply } from "./reply_decoder.ts";

/** Asks the server. Commands leave in the order in which they were asked. */
export type Ask = (...words: Word[]) => Promise<Reply>;

/** What a subscription follows, and how far it has come. */
export interface Followed {
  /** ESUB or EPSUB, from what was not passed on yet. */
  command(): Word[];
  /** Whether this event is one of those selected. */
  wants(event: EventRecord): boolean;
  /** It was passed on, or was not wanted. */
  passed(event: EventRecord): void;
  /** How many events there are that were not passed on. */
  lag(ask: Ask): Promise<number>;
}

/**
 * Null when the selection is empty, or of partitions that the store does not have.
 * @throws {InvalidArgument} a bad stream id, partition key or start
 */
export function follow(selection: Selection, partitionCount: number, ask: Ask): Promise<Followed | null> {
  return "partitions" in selection ? followPartitions(selection, partitionCount, ask) : followStreams(selection, ask);
}

// Partitions.

async function followPartitions(
  { partitions, from = "latest", starts }: PartitionSelection,
  partitionCount: number,
  ask: Ask,
): Promise<Followed | null> {
  const all = partitions === "all";
  const selected = new Set(all ? Array.from({ length: partitionCount }, (_, i) => i) : partitions);
  const asked = [...selected].map((partition) => [partition, requireStart(starts?.get(partition) ?? from)] as const);
  const there = asked.filter(([partition]) =>
    Number.isInteger(partition) && partition >= 0 && partition < partitionCount
  );
  const next = await Promise.all(there.map(async ([partition, start]) => (
    [partition, start === "latest" ? await endOf(ask("EPSEQ", partition)) : start] as const
  )));
  return next.length === 0 ? null : new FollowedPartitions(all, new Map(next));
}

class FollowedPartitions implements Followed {
  constructor(readonly all: boolean, readonly next: Map<number, number>) {}

  command(): Word[] {
    const map = [...this.next].map(([partition, next]) => `${partition}=${next}`);
    return ["EPSUB", this.all ? "*" : [...this.next.keys()].join(","), "FROM", "MAP", ...map];
  }

  wants(): boolean {
    return true;
  }

  passed({ partition, sequence }: EventRecord): void {
    this.next.set(partition, sequence + 1);
  }

  async lag(ask: Ask): Promise<number> {
    const lags = [...this.next].map(async ([partition, next]) => (
      Math.max(0, await endOf(ask("EPSEQ", partition)) - next)
    ));
    return sum(await Promise.all(lags));
  }
}

// Streams.

interface Stream {
  streamId: string;
  partitionKey: string;
  /** The first version that was not passed on. */
  next: number;
}

async function followStreams({ streams }: StreamSelection, ask: Ask): Promise<Followed | null> {
  const asked = new Map<string, Omit<Stream, "next"> & { from: Start }>();
  for (const { streamId, partitionKey, from = "latest" } of streams) {
    const given = partitionKey === undefined ? null : requireUuid(partitionKey, "partition key");
    const stream = { streamId, partitionKey: formatUuid(identify(streamId, given).partitionKey) };
    if (!asked.has(keyOf(stream))) asked.set(keyOf(stream), { ...stream, from: requireStart(from) });
  }
  const reserved = [...asked.values()].filter(isReserved);
  if (reserved.length > 1) {
    throw new InvalidArgument("Streams called FROM or WINDOW cannot be followed together over the wire");
  }
  const found = await Promise.all([...asked.values()].map(async ({ from, ...stream }): Promise<Stream> => (
    { ...stream, next: from === "latest" ? await endOf(ask("ESVER", ...wordsOf(stream))) : from }
  )));
  return found.length === 0 ? null : new FollowedStreams(found);
}

class FollowedStreams implements Followed {
  readonly #streams: Map<string, Stream>;

  constructor(streams: readonly Stream[]) {
    this.#streams = new Map(streams.map((stream) => [keyOf(stream), stream]));
  }

  command(): Word[] {
    // A word that could end the list of streams is a stream only in the first place.
    const streams = [...this.#streams.values()].sort((a, b) => Number(isReserved(b)) - Number(isReserved(a)));
    return ["ESUB", ...streams.flatMap(wordsOf), "FROM", ...startsOf(streams)];
  }

  wants(event: EventRecord): boolean {
    const stream = this.#streams.get(keyOf(event));
    return stream !== undefined && event.version >= stream.next;
  }

  passed(event: EventRecord): void {
    const stream = this.#streams.get(keyOf(event));
    if (stream !== undefined && event.version >= stream.next) stream.next = event.version + 1;
  }

  async lag(ask: Ask): Promise<number> {
    const lags = [...this.#streams.values()].map(async (stream) => (
      Math.max(0, await endOf(ask("ESVER", ...wordsOf(stream))) - stream.next)
    ));
    return sum(await Promise.all(lags));
  }
}

/** What stands behind FROM. */
function startsOf(streams: readonly Stream[]): Word[] {
  const lowest = new Map<string, number>();
  for (const { streamId, next } of streams) lowest.set(streamId, Math.min(next, lowest.get(streamId) ?? next));
  if (lowest.size === 1) return [...lowest.values()];
  return ["MAP", ...[...lowest].map(([streamId, next]) => `${streamId}=${next}`)];
}

/** How ESUB and ESVER name a stream. The key is always there, so that PARTITION_KEY may also be a stream. */
function wordsOf({ streamId, partitionKey }: Pick<Stream, "streamId" | "partitionKey">): Word[] {
  return [streamId, "PARTITION_KEY", partitionKey];
}

function isReserved({ streamId }: Pick<Stream, "streamId">): boolean {
  return ["FROM", "WINDOW"].includes(streamId.toUpperCase());
}

function keyOf({ partitionKey, streamId }: Pick<Stream, "streamId" | "partitionKey">): string {
  return partitionKey + streamId;
}

/** One past the last number, from the last. */
async function endOf(last: Promise<Reply>): Promise<number> {
  const number = await last as number | null;
  return number === null ? 0 : number + 1;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}
