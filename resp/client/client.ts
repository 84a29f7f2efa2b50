/**
 * The store of a server, as its port: each call is a command.
 *
 * What an embedded store refuses at the call is refused here at the call, before anything is sent. An append always
 * carries an event id: whoever gave none gets one here, so that it can be sent again when the link was lost, and is
 * stored once.
 *
 * @module
 */
import { type Environment, systemEnvironment } from "../../core/environment.ts";
import { InvalidArgument, LimitExceeded, NoSuchPartition, StoreClosed } from "../../core/errors.ts";
import {
  admit,
  type AdmittedTransaction,
  type AppendResult,
  type EventRecord,
  identify,
  requireUuid,
  type Transaction,
  TRANSACTION_BYTES_MAX,
} from "../../core/event.ts";
import { onlyPartition } from "../../core/freshness.ts";
import { partitionHash, partitionOf } from "../../core/placement.ts";
import {
  type EventStore,
  type Freshness,
  type ReadOptions,
  Scan,
  type Selection,
  type StreamOptions,
  type Subscription,
} from "../../core/store.ts";
import { formatUuid } from "../../core/uuid.ts";
import { commandOf, type Word } from "./command.ts";
import { follow } from "./following.ts";
import type { Address } from "./link.ts";
import { Reconnecting } from "./reconnecting.ts";
import { appendedOf, numberOrNull, pageOf, recordOf, transactionOf } from "./replies.ts";
import type { Reply } from "./reply_decoder.ts";
import { ClientSubscription, Pushes } from "./subscription.ts";

export interface ConnectOptions {
  /** How long a lost link is tried to be made again before calls are refused, milliseconds. 30,000 when left out; `Infinity` is allowed. */
  reconnectMs?: number;
  /** Events that a subscription holds for a reader that is slower than the server, at least 1. 1000 when left out. */
  window?: number;
  /** How the client is called in the server's CLIENT LIST. */
  clientName?: string;
  /** Time and chance: for tests. */
  environment?: Environment;
}

const RECONNECT_MS = 30_000;
const WINDOW = 1000;
const PAGE_EVENTS_MAX = 256;
/** Pages of large events are shorter. The first has so many. */
const PAGE_EVENTS_FIRST = 64;
const PAGE_BYTES = 1024 * 1024;
/** What EMAPPEND takes for an option where a stream id could stand. */
const RESERVED = ["EVENT_ID", "EXPECTED_VERSION", "TIMESTAMP", "PAYLOAD", "METADATA"];
const PORT_OF_SCHEME: Record<string, number> = { "esker:": 9090, "redis:": 6379 };

/**
 * Connects to a server: at `esker://host:port` or `redis://host:port`, or to a host name and a port.
 *
 * The first time is tried once. From then on a lost link is made again, and what was in flight is asked again: see
 * `ConnectOptions.reconnectMs`.
 *
 * @throws {ConnectionLost} nobody answers there
 * @throws {InvalidArgument} the target is no such address, or an option is out of its range
 */
export async function connect(target: string | URL | Address, options: ConnectOptions = {}): Promise<Client> {
  const { reconnectMs = RECONNECT_MS, window = WINDOW, clientName = null } = options;
  if (!(reconnectMs >= 0)) throw new InvalidArgument(`reconnectMs is a number from 0: found ${reconnectMs}`);
  if (!Number.isSafeInteger(window) || window < 1) {
    throw new InvalidArgument(`window is a whole number from 1: found ${window}`);
  }
  const environment = options.environment ?? systemEnvironment();
  const address = addressOf(target);
  return new Client(await Reconnecting.open({ address, reconnectMs, clientName, environment }), environment, window);
}

/** The store of a server. Made by `connect`. */
export class Client implements Omit<EventStore, "status"> {
  readonly #reconnecting: Reconnecting;
  readonly #environment: Environment;
  readonly #window: number;
  readonly #pushes = new Pushes();
  #closing: Promise<void> | null = null;

  constructor(reconnecting: Reconnecting, environment: Environment, window: number) {
    this.#reconnecting = reconnecting;
    this.#environment = environment;
    this.#window = window;
    reconnecting.onPush = (items) => this.#pushes.take(items);
  }

  get partitionCount(): number {
    return this.#reconnecting.partitionCount;
  }

  async append(transaction: Transaction): Promise<AppendResult> {
    this.#requireOpen();
    const admitted = admit(transaction, this.#environment);
    const { events } = admitted;
    const bytes = events.reduce((sum, { payload, metadata }) => sum + payload.length + metadata.length, 0);
    if (bytes > TRANSACTION_BYTES_MAX) throw new LimitExceeded("The transaction", bytes, TRANSACTION_BYTES_MAX);
    // One id is enough to know all of it again. An event beside a given id must not get another one: the writer may
    // repeat the transaction without it.
    const given = transaction.events.some(({ eventId }) => eventId !== undefined);
    const repeatable: Transaction = given ? transaction : {
      partitionKey: transaction.partitionKey,
      events: transaction.events.map((event, i) =>
        i === 0 ? { ...event, eventId: formatUuid(events[0]!.eventId) } : event
      ),
    };
    const words = events.length === 1 ? eappend(repeatable, admitted) : emappend(repeatable, admitted);
    const reply = await this.#reconnecting.ask(commandOf(words), repeatable);
    return events.length === 1 ? appendedOf(reply, events[0]!.streamId) : transactionOf(reply, repeatable);
  }

  async event(eventId: string | Uint8Array, freshness: Freshness = {}): Promise<EventRecord | null> {
    const id = formatUuid(requireUuid(eventId, "event id"));
    const reply = await this.#ask("EGET", id, ...freshnessWords(freshness));
    return reply === null ? null : recordOf(reply);
  }

  readStream(streamId: string, options: ReadOptions & StreamOptions = {}): Scan {
    this.#requireOpen();
    const [id, ...key] = streamWords(streamId, options);
    return this.#scan(["ESCAN", id!], key, options, ({ version }) => version);
  }

  readPartition(partition: number, options: ReadOptions = {}): Scan {
    this.#requireOpen();
    return this.#scan(["EPSCAN", this.#requirePartition(partition)], [], options, ({ sequence }) => sequence);
  }

  async streamVersion(streamId: string, options: StreamOptions & Freshness = {}): Promise<number | null> {
    return numberOrNull(await this.#ask("ESVER", ...streamWords(streamId, options), ...freshnessWords(options)));
  }

  async partitionSequence(partition: number, freshness: Freshness = {}): Promise<number | null> {
    return numberOrNull(await this.#ask("EPSEQ", this.#requirePartition(partition), ...freshnessWords(freshness)));
  }

  partitionOfKey(partitionKey: string): number {
    return partitionOf(partitionHash(requireUuid(partitionKey, "partition key")), this.partitionCount);
  }

  /**
   * Follows partitions or streams, also over links that are lost: nothing is left out and nothing comes twice.
   * @throws {InvalidArgument} a bad stream id, partition key or start; `atLeast` for what is not of one partition
   */
  async subscribe(selection: Selection, freshness: Freshness = {}): Promise<Subscription> {
    this.#requireOpen();
    const ask = (...words: Word[]) => this.#ask(...words);
    // ESUB and EPSUB have no such options: what they push comes as soon as it can. Only `latest` can be too old.
    if (freshness.atLeast !== undefined) {
      await this.partitionSequence(onlyPartition(selection, this.partitionCount), freshness);
    }
    const askHead = (...words: Word[]) => this.#ask(...words, ...freshnessWords(freshness));
    const followed = await follow(selection, this.partitionCount, askHead);
    this.#requireOpen();
    const subscription = new ClientSubscription(this.#reconnecting, this.#pushes, ask, followed, this.#window);
    await subscription.started;
    return subscription;
  }

  /** Waits for calls in flight, then closes. Later calls are refused with `StoreClosed`. */
  close(): Promise<void> {
    return this.#closing ??= this.#reconnecting.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #scan(
    command: Word[],
    key: Word[],
    options: ReadOptions,
    numberOf: (event: EventRecord) => number,
  ): Scan {
    const { from = 0, end = Infinity, direction = "forward", limit = Infinity } = options;
    const ask = (...words: Word[]) => this.#ask(...words);
    return new Scan(async function* () {
      const backward = direction === "backward";
      let low = Math.max(0, from);
      let high = end;
      let left = limit;
      let count = PAGE_EVENTS_FIRST;
      while (left > 0 && low < high) {
        const last = high > Number.MAX_SAFE_INTEGER ? "+" : high - 1;
        const bounds = backward ? [last, low] : [low, last];
        // A start of `+` reads backward by itself, a number does not.
        const reply = await ask(
          ...command,
          ...bounds,
          ...key,
          "COUNT",
          Math.min(left, count),
          ...backward ? ["REV"] : [],
          ...freshnessWords(options), // Of each page: it may come over another link, from another node.
        );
        const { events: page, hasMore } = pageOf(reply);
        if (page.length === 0) return;
        const bytes = page.reduce((sum, { payload, metadata }) => sum + payload.length + metadata.length, 0);
        count = Math.max(1, Math.min(PAGE_EVENTS_MAX, Math.floor(PAGE_BYTES * page.length / Math.max(1, bytes))));
        left -= page.length;
        if (backward) high = numberOf(page.at(-1)!);
        else low = numberOf(page.at(-1)!) + 1;
        yield page;
        if (!hasMore) return;
      }
    });
  }

  // deno-lint-ignore require-await -- A closed store is a rejection.
  async #ask(...words: Word[]): Promise<Reply> {
    this.#requireOpen();
    return this.#reconnecting.ask(commandOf(words));
  }

  #requirePartition(partition: number): number {
    if (Number.isInteger(partition) && partition >= 0 && partition < this.partitionCount) return partition;
    throw new NoSuchPartition(partition, this.partitionCount);
  }

  #requireOpen(): void {
    if (this.#closing !== null) throw new StoreClosed();
  }
}

/** @throws {InvalidArgument} */
function addressOf(target: string | URL | Address): Address {
  if (typeof target !== "string" && !(target instanceof URL)) return { hostname: target.hostname, port: target.port };
  let url: URL | null = null;
  try {
    url = new URL(target);
  } catch {
    // Told below, like all that is no such address.
  }
  const port = url === null ? undefined : PORT_OF_SCHEME[url.protocol];
  if (url === null || port === undefined || url.hostname === "" || !/^\/?$/.test(url.pathname) || url.search !== "") {
    throw new InvalidArgument(`A server is at esker://host:port or redis://host:port: found ${target}`);
  }
  if (url.username !== "" || url.password !== "") throw new InvalidArgument("There are no users and passwords yet");
  return { hostname: url.hostname.replace(/^\[|\]$/g, ""), port: url.port === "" ? port : Number(url.port) };
}

function streamWords(streamId: string, { partitionKey }: StreamOptions): Word[] {
  const given = partitionKey === undefined ? null : requireUuid(partitionKey, "partition key");
  const stream = identify(streamId, given);
  return stream.partitionKeyIsDefault ? [streamId] : [streamId, "PARTITION_KEY", formatUuid(stream.partitionKey)];
}

function freshnessWords({ atLeast, fromLeader }: Freshness): Word[] {
  return [...(atLeast === undefined ? [] : ["AT_LEAST", atLeast]), ...(fromLeader ? ["LEADER"] : [])];
}

function eappend(
  transaction: Transaction,
  { events, partitionKey, partitionKeyIsDefault }: AdmittedTransaction,
): Word[] {
  const { streamId, name } = events[0]!;
  const key = partitionKeyIsDefault ? [] : ["PARTITION_KEY", formatUuid(partitionKey)];
  return ["EAPPEND", streamId, name, ...key, ...optionWords(transaction, events, 0)];
}

function emappend(transaction: Transaction, { events, partitionKey }: AdmittedTransaction): Word[] {
  const words: Word[] = ["EMAPPEND", formatUuid(partitionKey)];
  events.forEach(({ streamId, name }, i) => {
    if (i > 0 && RESERVED.includes(streamId.toUpperCase())) {
      throw new InvalidArgument(
        `A stream ${JSON.stringify(streamId)} can only be the first of a transaction over the wire`,
      );
    }
    words.push(streamId, name, ...optionWords(transaction, events, i));
  });
  return words;
}

/** What was left out is left out, so that the server fills it in. */
function optionWords(transaction: Transaction, events: AdmittedTransaction["events"], i: number): Word[] {
  const { eventId, timestamp } = transaction.events[i]!;
  const { eventId: id, expectedVersion, payload, metadata } = events[i]!;
  return [
    ...(eventId === undefined ? [] : ["EVENT_ID", formatUuid(id)]),
    ...(expectedVersion === "any" ? [] : ["EXPECTED_VERSION", expectedVersion]),
    ...(timestamp === undefined ? [] : ["TIMESTAMP", timestamp]),
    ...(payload.length === 0 ? [] : ["PAYLOAD", payload]),
    ...(metadata.length === 0 ? [] : ["METADATA", metadata]),
  ];
}
