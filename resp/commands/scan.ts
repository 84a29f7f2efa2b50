/**
 * What ESCAN and EPSCAN share: a range as the client writes it, and a reply that is longer than memory.
 *
 * Ends are inclusive. `-` is the first event and `+` the last: to begin at `+` or to end at `-` reads backwards, and
 * between two numbers `REV` does.
 *
 * Numbers are without gaps, so the head alone says how many events a range holds: the reply's count and `has_more` are
 * known, and written, before the events are read. Then they go out page by page, no faster than the client reads.
 *
 * @module
 */
import { InvalidArgument } from "../../core/errors.ts";
import type { EventRecord, StoredEvent } from "../../core/event.ts";
import type { EventSink, Freshness, ReadOptions, Scan } from "../../core/store.ts";
import type { Arguments, Bound } from "../arguments.ts";
import type { Encoder } from "../encoder.ts";
import { writeRecord, writeScanHead, writeStored } from "../replies.ts";
import type { Flow } from "./command.ts";
import { readFreshness } from "./freshness.ts";

/** Events of a reply when COUNT is left out. */
const COUNT_DEFAULT = 100;

export interface AskedRange {
  /** Lowest and highest number, both included. `highest` null: up to the last. */
  lowest: number;
  highest: number | null;
  direction: "forward" | "backward";
  count: number;
}

/** Start and end, with which every scan begins. */
export function readBounds(args: Arguments, unit: string): { start: Bound; end: Bound } {
  return { start: args.bound(`start (-, + or a ${unit})`), end: args.bound(`end (-, + or a ${unit})`) };
}

/** What every scan has, as far as it was given. */
export interface ScanOptions {
  count?: number;
  reverse?: true;
  readonly freshness: Freshness;
}

/** Reads one option that every scan has. False when the next word is none. */
export function readScanOption(args: Arguments, options: ScanOptions): boolean {
  if (args.option("COUNT", options.count)) options.count = args.number("count");
  else if (args.option("REV", options.reverse)) options.reverse = true;
  else return readFreshness(args, options.freshness);
  return true;
}

/** @throws {InvalidArgument} the range has no direction */
export function askedRange(start: Bound, end: Bound, { count = COUNT_DEFAULT, reverse }: ScanOptions): AskedRange {
  if (start === end && typeof start === "string") {
    throw new InvalidArgument(`A range from ${start} to ${end} has no direction: use - + or + -`);
  }
  if (start === "+" || end === "-" || reverse) {
    if (start === "-" || end === "+") {
      throw new InvalidArgument("With REV a range goes from its end to its start: use + - or two numbers");
    }
    return { lowest: end === "-" ? 0 : end, highest: start === "+" ? null : start, direction: "backward", count };
  }
  return { lowest: start === "-" ? 0 : start, highest: end === "+" ? null : end, direction: "forward", count };
}

/** Writes the reply of a scan. `last` is the head of what is scanned, `read` reads from it. */
export async function answerScan(
  reply: Encoder,
  flow: Flow,
  { lowest, highest, direction, count }: AskedRange,
  last: number | null,
  read: (options: ReadOptions) => Scan,
): Promise<void> {
  const end = last === null ? 0 : Math.min(last, highest ?? last) + 1;
  const inRange = Math.max(0, end - lowest);
  const limit = Math.min(inRange, count);
  if (limit === 0) return writeScanHead(reply, inRange > 0, 0);
  let head = true;
  const writeHead = () => {
    // With the first page: where reading fails at once, the client gets a proper error.
    if (head) writeScanHead(reply, inRange > limit, limit);
  };
  const scan = read({ from: lowest, end, direction, limit });
  let left = limit;
  for await (const count of scan.pagesInto(new PageWriter(reply, writeHead))) {
    head = false;
    left -= count;
    if (left === 0) return;
    if (left < 0) break;
    await flow.room();
  }
  throw new Error(`Expected ${limit} events from ${lowest} to ${end - 1}: read ${limit - left}`);
}

/** Writes events as they come, and takes back what is no page after all. */
class PageWriter implements EventSink {
  #began = 0;

  constructor(readonly reply: Encoder, readonly writeHead: () => void) {}

  begin(): void {
    this.#began = this.reply.length;
    this.writeHead();
  }

  take(event: StoredEvent): void {
    writeStored(this.reply, event);
  }

  takeRecord(record: EventRecord): void {
    writeRecord(this.reply, record);
  }

  takeBack(): void {
    this.reply.cutTo(this.#began);
  }
}
