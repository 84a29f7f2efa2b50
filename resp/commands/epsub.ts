/**
 * `EPSUB`: follows partitions, each from a sequence on, and pushes their events.
 *
 * @module
 */
import { InvalidArgument } from "../../core/errors.ts";
import type { EventStore, PartitionSelection } from "../../core/store.ts";
import { formatUuid, parseUuid } from "../../core/uuid.ts";
import { wholeNumber } from "../arguments.ts";
import type { ReadingCommand } from "./command.ts";
import { follow, readFrom, readWindow } from "./following.ts";

/** Partitions have numbers of sixteen bits. */
const PARTITION_MAX = 0xffff;
const SELECTOR = "*, or partitions, keys and ranges a-b with commas between them";

export const epsub: ReadingCommand = {
  name: "EPSUB",
  does: "reads",
  summary: "Pushes the events of partitions, those stored and those to come",
  syntax: "<* | partition | partition_key | first-last | list,of,these> " +
    "[FROM <LATEST | sequence:integer | MAP partition=sequence ... [DEFAULT sequence:integer]>] [WINDOW events:integer]",
  group: "subscriptions",
  since: "0.1.0",
  prepare(args, { client, store }) {
    const partitions = partitionsOf(args.word(`selection (${SELECTOR})`), store);
    const { from, starts } = readFrom(args, "sequence", "partition");
    const fallback = starts.size > 0 && args.keyword("DEFAULT") ? args.number("default start") : from;
    const window = readWindow(args);
    const selection: PartitionSelection = {
      partitions,
      from: fallback,
      starts: new Map([...starts].map(([name, sequence]) => [partitionOf(name), sequence])),
    };
    return (reply) => follow(reply, client, store, "epsub", selection, window);
  },
};

/** The partitions that a selector names, once each and ascending. */
function partitionsOf(selector: string, store: EventStore): PartitionSelection["partitions"] {
  if (selector === "*") return "all";
  const items = selector.split(",", PARTITION_MAX + 2);
  if (items.length > PARTITION_MAX + 1) {
    throw new InvalidArgument("The selection names more partitions than there can be");
  }
  // A list of long ranges would take its square in time: so only the ends of the ranges are noted, and added up.
  const changes = new Int32Array(PARTITION_MAX + 2);
  for (const item of items) {
    const { first, last } = rangeOf(item.trim(), store);
    changes[first]!++;
    changes[last + 1]!--;
  }
  const partitions: number[] = [];
  let ranges = 0;
  for (let partition = 0; partition <= PARTITION_MAX; partition++) {
    ranges += changes[partition]!;
    if (ranges > 0) partitions.push(partition);
  }
  return partitions;
}

function rangeOf(item: string, store: EventStore): { first: number; last: number } {
  const key = parseUuid(item);
  if (key !== null) {
    const partition = store.partitionOfKey(formatUuid(key));
    return { first: partition, last: partition };
  }
  const [first, last = first, ...rest] = item.split("-", 3).map((end) => partitionOf(end.trim()));
  if (rest.length > 0 || first! > last!) throw unfit(item);
  return { first: first!, last: last! };
}

function partitionOf(text: string): number {
  const partition = wholeNumber(text);
  if (partition === null || partition > PARTITION_MAX) throw unfit(text);
  return partition;
}

function unfit(item: string): InvalidArgument {
  const shown = item.length > 64 ? `${item.slice(0, 64)}…` : item;
  return new InvalidArgument(`A selection is ${SELECTOR}, from 0 to ${PARTITION_MAX}: found '${shown}'`);
}
