/**
 * Events with types: a view of any store in which payloads are JSON and an event's name says what its data are.
 *
 * The store itself holds bytes and knows no types. What is read is parsed and not checked against `E`: the program that
 * reads must know what was written.
 *
 * ```ts
 * import { open, typed } from "../mod.ts";
 *
 * type AccountEvent =
 *   | { name: "Opened"; data: { owner: string } }
 *   | { name: "Deposited"; data: { cents: number } };
 *
 * await using store = await open({ memory: true }); // Or: await connect("esker://127.0.0.1:9090")
 * const accounts = typed<AccountEvent>(store);
 *
 * await accounts.append("account-1", [
 *   { name: "Opened", data: { owner: "Alice" } },
 *   { name: "Deposited", data: { cents: 500 } },
 * ], { expectedVersion: "empty" });
 *
 * let cents = 0;
 * for await (const event of accounts.readStream("account-1")) {
 *   if (event.name === "Deposited") cents += event.data.cents; // Known to be a number.
 * }
 * console.log(cents); // 500
 * ```
 *
 * @module
 */
import { InvalidArgument } from "./errors.ts";
import type { AppendResult, EventRecord, NewEvent } from "./event.ts";
import type { EventStore, Freshness, ReadOptions, Selection, StreamOptions, Subscription } from "./store.ts";
import type { ExpectedVersion } from "./version.ts";

/** What events are: a union of such. `data` is what JSON can hold, or undefined, which is an empty payload. */
export interface EventShape {
  name: string;
  data?: unknown;
}

/** An event to append. */
export type NewTypedEvent<E extends EventShape> = E & {
  /** What JSON can hold; empty when left out. */
  metadata?: unknown;
  /** A UUID that carries the hash of the partition key; made when left out. */
  eventId?: string;
  /** Milliseconds since 1970; now when left out. */
  timestamp?: number;
};

/** An event of a transaction over several streams. */
export type NewStreamEvent<E extends EventShape> = NewTypedEvent<E> & {
  streamId: string;
  /** `any` when left out. Counts the events before it in the transaction. */
  expectedVersion?: ExpectedVersion;
};

/** A stored event: its name says what its data are. */
export type TypedEvent<E extends EventShape> =
  & E
  & { /** Null when there is none. */ readonly metadata: unknown }
  & Omit<EventRecord, "name" | "payload" | "metadata">;

export interface TypedAppendOptions extends StreamOptions {
  /** At which version the stream must be; `any` when left out. */
  expectedVersion?: ExpectedVersion;
}

/** What a typed view asks of its store: an embedded one has it, and a client. */
export type TypedSource = Pick<EventStore, "append" | "readStream" | "readPartition" | "subscribe">;

/** A stored payload, or metadata, is not JSON. The event stands where the fields say. */
export class NotJson extends Error {
  override readonly name = "NotJson";
  readonly eventId: string;
  readonly streamId: string;
  readonly version: number;
  readonly partition: number;
  readonly sequence: number;

  constructor(
    { eventId, streamId, version, partition, sequence }: EventRecord,
    readonly what: "payload" | "metadata",
    cause: unknown,
  ) {
    super(
      `The ${what} of event ${eventId} (stream ${
        JSON.stringify(streamId)
      } version ${version}, partition ${partition} ` +
        `sequence ${sequence}) is not JSON`,
      { cause },
    );
    this.eventId = eventId;
    this.streamId = streamId;
    this.version = version;
    this.partition = partition;
    this.sequence = sequence;
  }
}

/** A view of `store` with events of type `E`. It holds nothing, and need not be closed. */
export function typed<E extends EventShape>(store: TypedSource): TypedStore<E> {
  return new TypedStore(store);
}

export class TypedStore<E extends EventShape> {
  constructor(readonly store: TypedSource) {}

  /**
   * Appends events to one stream, all or none.
   * @throws {InvalidArgument} also for data that JSON cannot hold
   * @throws {WrongExpectedVersion} and whatever else `append` of the store throws
   */
  async append(
    streamId: string,
    events: readonly NewTypedEvent<E>[],
    { expectedVersion = "any", partitionKey }: TypedAppendOptions = {},
  ): Promise<AppendResult> {
    return await this.store.append({
      partitionKey,
      // Of the first alone: no other event can come between those of a transaction.
      events: events.map((event, i) => newEventOf(event, streamId, i === 0 ? expectedVersion : "any")),
    });
  }

  /** Appends events to streams of one partition key, all or none. @throws as `append` does */
  async transaction(partitionKey: string, events: readonly NewStreamEvent<E>[]): Promise<AppendResult> {
    return await this.store.append({
      partitionKey,
      events: events.map((event) => newEventOf(event, event.streamId, event.expectedVersion ?? "any")),
    });
  }

  /** Events of a stream between two versions. Iterating throws `NotJson` at an event that is not. */
  readStream(streamId: string, options?: ReadOptions & StreamOptions): AsyncIterable<TypedEvent<E>> {
    return typedEvents(this.store.readStream(streamId, options));
  }

  /** Events of a partition between two sequences. Iterating throws `NotJson` at an event that is not. */
  readPartition(partition: number, options?: ReadOptions): AsyncIterable<TypedEvent<E>> {
    return typedEvents(this.store.readPartition(partition, options));
  }

  /** Follows partitions or streams: see `EventStore.subscribe`. */
  async subscribe(selection: Selection, freshness?: Freshness): Promise<TypedSubscription<E>> {
    return new TypedSubscription(await this.store.subscribe(selection, freshness));
  }
}

/** A subscription with typed events: iterate it, by event or by page. It ends when it is closed, and is closed when the loop is left. */
export class TypedSubscription<E extends EventShape> implements AsyncIterable<TypedEvent<E>>, Disposable {
  /** `untyped` is what it stands on: for `ready`, `read` and `lag`. */
  constructor(readonly untyped: Subscription) {}

  /** Arrays of one to 256 events. */
  async *pages(): AsyncGenerator<TypedEvent<E>[]> {
    for await (const page of this.untyped.pages()) yield page.map((event) => typedEvent<E>(event));
  }

  [Symbol.asyncIterator](): AsyncIterator<TypedEvent<E>> {
    return typedEvents<E>(this.untyped);
  }

  close(): void {
    this.untyped.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

async function* typedEvents<E extends EventShape>(events: AsyncIterable<EventRecord>): AsyncGenerator<TypedEvent<E>> {
  for await (const event of events) yield typedEvent<E>(event);
}

/** @throws {NotJson} */
export function typedEvent<E extends EventShape>({ name, payload, metadata, ...place }: EventRecord): TypedEvent<E> {
  const record = { name, payload, metadata, ...place };
  const data = parsed(record, "payload");
  return { ...place, name, data, metadata: parsed(record, "metadata") ?? null } as TypedEvent<E>;
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

function parsed(record: EventRecord, what: "payload" | "metadata"): unknown {
  if (record[what].length === 0) return undefined;
  try {
    return JSON.parse(utf8.decode(record[what]));
  } catch (cause) {
    throw new NotJson(record, what, cause);
  }
}

function newEventOf<E extends EventShape>(
  { name, data, metadata, eventId, timestamp }: NewTypedEvent<E>,
  streamId: string,
  expectedVersion: ExpectedVersion,
): NewEvent {
  return {
    streamId,
    name,
    eventId,
    expectedVersion,
    timestamp,
    payload: jsonOf(data, `data of event ${name}`),
    metadata: jsonOf(metadata, `metadata of event ${name}`),
  };
}

/** @throws {InvalidArgument} it has no JSON: a function, a cycle, a bigint */
function jsonOf(value: unknown, what: string): string {
  if (value === undefined) return "";
  let json: string | undefined;
  let cause: unknown;
  try {
    json = JSON.stringify(value);
  } catch (error) {
    cause = error;
  }
  if (json !== undefined) return json;
  const error = new InvalidArgument(`The ${what} cannot be written as JSON`);
  error.cause = cause;
  throw error;
}
