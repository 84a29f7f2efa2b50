/**
 * `EREAD`: reads partitions or streams on from where the client is, and waits for events where there are none yet.
 *
 * It is the pull that every client can do, on either protocol. The reply is a scan's, with the events of all; null says
 * that BLOCK ran out. Nothing is kept from one EREAD to the next: the client says where it is.
 *
 * A sequence belongs to one partition, so AT_LEAST is refused when what is listed is of several: held against each, it
 * would be the number of another event there, and of a partition that never gets so far a wait without end. Streams may
 * be several, of one partition. It is looked at first, and BLOCK does not wait for it.
 *
 * @module
 */
import { InvalidArgument, NoSuchPartition } from "../../core/errors.ts";
import { identify, requireUuid } from "../../core/event.ts";
import type {
  EventStore,
  Freshness,
  PartitionSelection,
  Selection,
  StreamSelection,
  Subscription,
} from "../../core/store.ts";
import { formatUuid } from "../../core/uuid.ts";
import type { Arguments } from "../arguments.ts";
import { Encoder, reuse } from "../encoder.ts";
import { writeRecord, writeScanHead } from "../replies.ts";
import type { Protocol } from "../value.ts";
import type { ReadingCommand, Server } from "./command.ts";
import { readStream } from "./esub.ts";
import { FRESHNESS, readFreshness } from "./freshness.ts";

const COUNT_DEFAULT = 100;
/** Partitions or streams of one EREAD: to follow more than that, subscribe. */
const KEYS_MAX = 1024;
/** As long as a timer can be, 24 days. */
const BLOCK_MS_MAX = 2 ** 31 - 1;
/**
 * The number of events stands before the events, so a reply is put together in memory: of all that were asked for, at
 * most what makes about so many bytes. `has_more` then says that there is more.
 */
const REPLY_BYTES_MAX = 1024 * 1024;
/** What an event takes in a reply beside its payload and metadata. */
const EVENT_OVERHEAD_BYTES = 512;
/** As many as a store gives at once. */
const PAGE_EVENTS_MAX = 256;

export const eread: ReadingCommand = {
  name: "EREAD",
  does: "reads",
  summary: "Returns the next events of partitions or streams, and can wait for them",
  syntax: `[COUNT count:integer] [BLOCK milliseconds:integer] ${FRESHNESS} ` +
    "<PARTITIONS <<partition:integer | partition_key> sequence:integer> ... | " +
    "STREAMS <stream_id [PARTITION_KEY uuid] version:integer> ...>",
  group: "events",
  since: "0.1.0",
  prepare(args, { client, server, store }) {
    let count: number | undefined;
    let block: number | undefined;
    const freshness: Freshness = {};
    let selection: Selection | undefined;
    while (selection === undefined) {
      if (args.option("COUNT", count)) count = args.number("count");
      else if (args.option("BLOCK", block)) block = args.number("block", BLOCK_MS_MAX, `at most ${BLOCK_MS_MAX} ms`);
      else if (args.keyword("PARTITIONS")) selection = readPartitions(args, store);
      else if (args.keyword("STREAMS")) selection = readStreams(args);
      else if (readFreshness(args, freshness)) continue;
      else throw args.left > 0 ? args.unexpected() : new InvalidArgument("Expected PARTITIONS or STREAMS");
    }
    const wanted = count ?? COUNT_DEFAULT;
    const asked = selection;
    return async (reply, flow) => {
      using subscription = await store.subscribe(asked, freshness);
      if (block !== undefined && !await client.waitFor(subscription, block)) return reply.null();
      const { pages, count, hasMore } = await readUpTo(wanted, subscription, server, reply.protocol);
      if (block !== undefined && count === 0 && !hasMore) return reply.null();
      writeScanHead(reply, hasMore, count);
      for (const [i, page] of pages.entries()) {
        if (i > 0) await flow.room(); // The client has to take some before there is more.
        reply.raw(page);
        reuse(page);
      }
    };
  },
};

function readPartitions(args: Arguments, store: EventStore): PartitionSelection {
  const starts = new Map<number, number>();
  do {
    const asked = args.partition("partition");
    const partition = typeof asked === "number" ? asked : store.partitionOfKey(asked);
    if (partition >= store.partitionCount) throw new NoSuchPartition(partition, store.partitionCount);
    if (starts.has(partition)) throw new InvalidArgument(`Partition ${partition} is named twice`);
    starts.set(partition, args.number("sequence"));
    requireFew(starts);
  } while (args.left > 0);
  return { partitions: [...starts.keys()], starts };
}

function readStreams(args: Arguments): StreamSelection {
  const starts = new Map<string, StreamSelection["streams"][number]>();
  do {
    const stream = readStream(args);
    const { streamId } = stream;
    const partitionKey = stream.partitionKey === undefined ? null : requireUuid(stream.partitionKey, "partition key");
    const key = formatUuid(identify(streamId, partitionKey).streamKey); // Of one that is named with its default key and without, too.
    if (starts.has(key)) throw new InvalidArgument(`Stream ${JSON.stringify(streamId)} is named twice`);
    starts.set(key, { ...stream, from: args.number("version") });
    requireFew(starts);
  } while (args.left > 0);
  return { streams: [...starts.values()] };
}

function requireFew({ size }: ReadonlyMap<unknown, unknown>): void {
  if (size > KEYS_MAX) throw new InvalidArgument(`EREAD reads at most ${KEYS_MAX} partitions or streams at once`);
}

/** The next events, at most `count` and what fits a reply, as they are written; and whether there are more. */
async function readUpTo(
  most: number,
  subscription: Subscription,
  { turns }: Server,
  protocol: Protocol,
): Promise<{ pages: Uint8Array<ArrayBuffer>[]; count: number; hasMore: boolean }> {
  // Written page by page: records that were kept until all are there would outlive the collector's young generation.
  const events = new Encoder(protocol);
  const pages: Uint8Array<ArrayBuffer>[] = [];
  let count = 0;
  let bytes = 0;
  while (count < most && bytes < REPLY_BYTES_MAX) {
    const page = await turns.take(() => subscription.read(Math.min(PAGE_EVENTS_MAX, most - count)));
    if (page.length === 0) return { pages, count, hasMore: false };
    count += page.length;
    for (const event of page) {
      writeRecord(events, event);
      bytes += event.payload.length + event.metadata.length + EVENT_OVERHEAD_BYTES;
    }
    pages.push(events.take());
  }
  return { pages, count, hasMore: await subscription.lag() > 0 };
}
