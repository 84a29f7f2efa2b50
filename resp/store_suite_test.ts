/**
 * The suite of every store, once more through a socket: a store whose calls are commands, with a database behind them.
 *
 * What the port promises at once, without a promise, is answered here: bad names, closed stores, counts.
 *
 * @module
 */
import { openDatabase } from "../core/database.ts";
import {
  DuplicateEventId,
  InvalidArgument,
  LimitExceeded,
  NoSuchPartition,
  StoreClosed,
  WrongExpectedVersion,
} from "../core/errors.ts";
import { type AppendResult, type EventRecord, identify, requireUuid, type Transaction } from "../core/event.ts";
import { MemoryDisk } from "../core/log/memory_disk.ts";
import { SeededEnvironment } from "../core/seeded_environment.ts";
import { type EventStore, type ReadOptions, Scan, type StoreStatus, type StreamOptions } from "../core/store.ts";
import { storeSuite } from "../core/store_suite.ts";
import { Client, ReplyError } from "../scripts/resp_client.ts";
import { listen, type Listener } from "./mod.ts";

const PAGE_EVENTS_MAX = 256;
const SEGMENT_BYTES = 1.5 * 1024 * 1024;

type Reply = Record<string, unknown>;

class SocketStore implements EventStore {
  readonly partitionCount: number;
  #closing: Promise<void> | null = null;
  readonly #calls = new Set<Promise<unknown>>();

  private constructor(readonly behind: EventStore, readonly listener: Listener, readonly client: Client) {
    this.partitionCount = behind.partitionCount;
  }

  static async over(behind: EventStore): Promise<SocketStore> {
    const listener = listen(behind, { hostname: "127.0.0.1", port: 0, version: "0", peerId: "test" });
    return new SocketStore(behind, listener, await Client.connect(listener));
  }

  async append({ partitionKey, events }: Transaction): Promise<AppendResult> {
    const [first, ...rest] = events;
    if (first === undefined) throw new InvalidArgument("A transaction needs at least one event");
    const streams = new Set(events.map(({ streamId }) => streamId));
    if (partitionKey === undefined && streams.size > 1) {
      throw new InvalidArgument("Several streams need a partition key");
    }
    const options = (event: typeof first) => [
      ...(event.eventId === undefined ? [] : ["EVENT_ID", event.eventId]),
      ...(event.expectedVersion === undefined ? [] : ["EXPECTED_VERSION", event.expectedVersion]),
      ...(event.timestamp === undefined ? [] : ["TIMESTAMP", event.timestamp]),
      ...(event.payload === undefined ? [] : ["PAYLOAD", event.payload]),
      ...(event.metadata === undefined ? [] : ["METADATA", event.metadata]),
    ];
    if (rest.length === 0) {
      const key = partitionKey === undefined ? [] : ["PARTITION_KEY", partitionKey];
      const reply = await this.#call("EAPPEND", first.streamId, first.name, ...key, ...options(first));
      const sequence = reply.partition_sequence as number;
      return {
        partitionKey: reply.partition_key as string,
        partition: reply.partition_id as number,
        firstSequence: sequence,
        lastSequence: sequence,
        events: [appended(reply, first.streamId, sequence)],
      };
    }
    const key = partitionKey ?? uuidText(identify(first.streamId, null).partitionKey);
    const words = events.flatMap((event) => [event.streamId, event.name, ...options(event)]);
    const reply = await this.#call("EMAPPEND", key, ...words);
    const firstSequence = reply.first_partition_sequence as number;
    return {
      partitionKey: reply.partition_key as string,
      partition: reply.partition_id as number,
      firstSequence,
      lastSequence: reply.last_partition_sequence as number,
      events: (reply.events as Reply[]).map((one, i) => appended(one, text(one.stream_id), firstSequence + i)),
    };
  }

  async event(eventId: string): Promise<EventRecord | null> {
    const reply = await this.#call("EGET", eventId);
    return reply === null ? null : record(reply);
  }

  readStream(streamId: string, options: ReadOptions & StreamOptions = {}): Scan {
    this.#requireOpen();
    const { partitionKey } = options;
    identify(streamId, partitionKey === undefined ? null : requireUuid(partitionKey, "partition key"));
    const key = partitionKey === undefined ? [] : ["PARTITION_KEY", partitionKey];
    return this.#scan(["ESCAN", streamId], key, options, ({ version }) => version);
  }

  readPartition(partition: number, options: ReadOptions = {}): Scan {
    this.#requireOpen();
    if (!(partition >= 0 && partition < this.partitionCount && Number.isInteger(partition))) {
      throw new NoSuchPartition(partition, this.partitionCount);
    }
    return this.#scan(["EPSCAN", partition], [], options, ({ sequence }) => sequence);
  }

  async streamVersion(streamId: string, { partitionKey }: StreamOptions = {}): Promise<number | null> {
    const key = partitionKey === undefined ? [] : ["PARTITION_KEY", partitionKey];
    return await this.#call("ESVER", streamId, ...key) as unknown as number | null;
  }

  async partitionSequence(partition: number): Promise<number | null> {
    if (partition < 0 || !Number.isInteger(partition)) throw new NoSuchPartition(partition, this.partitionCount);
    return await this.#call("EPSEQ", partition) as unknown as number | null;
  }

  partitionOfKey(partitionKey: string): number {
    return this.behind.partitionOfKey(partitionKey);
  }

  status(): StoreStatus {
    return this.behind.status();
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      // What the listener has not read yet it will not carry out.
      await Promise.allSettled(this.#calls);
      await this.listener.close();
      this.client[Symbol.dispose]();
      await this.behind.close();
    })();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #scan(
    command: (string | number)[],
    key: string[],
    { from = 0, end = Infinity, direction = "forward", limit = Infinity }: ReadOptions,
    numberOf: (event: EventRecord) => number,
  ): Scan {
    const backward = direction === "backward";
    const pages = async function* (this: SocketStore) {
      let left = limit;
      for (let more = left > 0 && from < end; more;) {
        const low = String(from);
        const high = end === Infinity ? "+" : String(end - 1);
        const range = backward ? [high, low, "REV"] : [low, high];
        const count = Math.min(left, PAGE_EVENTS_MAX);
        const reply = await this.#call(...command, ...range.slice(0, 2), ...key, "COUNT", count, ...range.slice(2));
        const page = (reply.events as Reply[]).map(record);
        if (page.length > 0) yield page;
        left -= page.length;
        more = reply.has_more === true && left > 0;
        if (!more) return;
        if (backward) end = numberOf(page.at(-1)!);
        else from = numberOf(page.at(-1)!) + 1;
      }
    };
    return new Scan(() => pages.call(this));
  }

  async #call(...words: (string | number | Uint8Array)[]): Promise<Reply> {
    this.#requireOpen();
    const answer = this.client.call(...words);
    this.#calls.add(answer);
    try {
      return await answer as unknown as Reply;
    } catch (error) {
      throw error instanceof ReplyError ? asStoreError(error, this.partitionCount) : error;
    } finally {
      this.#calls.delete(answer);
    }
  }

  #requireOpen(): void {
    if (this.#closing !== null) throw new StoreClosed();
  }
}

/** The error class that the listener made this reply from, with the facts that its text carries. */
function asStoreError(error: ReplyError, partitionCount: number): Error {
  const { code, message } = error;
  switch (code) {
    case "WRONGVER": {
      const match = /stream ("(?:.*)") of partition key (\S+): expected version (\w+), current version (\w+)/.exec(
        message,
      );
      if (match === null) return error;
      const number = (word: string) => /^\d+$/.test(word) ? Number(word) : word;
      const current = number(match[4]!);
      return new WrongExpectedVersion(
        JSON.parse(match[1]!),
        match[2]!,
        number(match[3]!) as number | "any",
        current === "empty" ? null : current as number,
      );
    }
    case "DUPLICATEID":
      return new DuplicateEventId(/[0-9a-f]{8}-[0-9a-f-]{27}/.exec(message)?.[0] ?? "", message);
    case "DBOPFAILED": {
      const [, what, found, max] = /(The .*) has (\d+) \w+: the limit is (\d+)/.exec(message) ?? [];
      if (what !== undefined) return new LimitExceeded(what, Number(found), Number(max));
      // The decoder skips what is too large, and does not count it.
      const limit = Number(/larger than (\d+)/.exec(message)?.[1]);
      return new LimitExceeded("The command", limit + 1, limit);
    }
    case "CLUSTERDOWN":
      return new NoSuchPartition(Number(/partition (\d+)/.exec(message)?.[1]), partitionCount);
    case "INVALIDARG":
      return new InvalidArgument(message);
    default:
      return error;
  }
}

function appended(reply: Reply, streamId: string, sequence: number) {
  return {
    eventId: reply.event_id as string,
    streamId,
    version: reply.stream_version as number,
    sequence,
    timestamp: reply.timestamp as number,
  };
}

function record(reply: Reply): EventRecord {
  return {
    eventId: reply.event_id as string,
    partitionKey: reply.partition_key as string,
    partition: reply.partition_id as number,
    transactionId: reply.transaction_id as string,
    sequence: reply.partition_sequence as number,
    streamId: text(reply.stream_id),
    version: reply.stream_version as number,
    name: text(reply.event_name),
    timestamp: reply.timestamp as number,
    metadata: reply.metadata as Uint8Array,
    payload: reply.payload as Uint8Array,
  };
}

function text(bulk: unknown): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bulk as Uint8Array);
}

function uuidText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

storeSuite("database through a socket", async () => {
  const options = {
    dir: "/data",
    segmentBytes: SEGMENT_BYTES,
    journalBytes: 256 * 1024,
    disk: new MemoryDisk(),
    environment: new SeededEnvironment(1),
  };
  const open = async () => await SocketStore.over(await openDatabase(options));
  return { store: await open(), reopen: open, now: () => options.environment.nowMs };
});
