/**
 * The nouns: what a writer hands in, what it is told, what a reader gets; and their limits.
 *
 * `admit` is the door through which every transaction passes, whatever store stands behind it: it refuses what no
 * store may hold, and fills in what the writer left out. It does not know any stream's version.
 *
 * @module
 */
import { equalBytes } from "./bytes.ts";
import type { Environment } from "./environment.ts";
import { DuplicateEventId, InvalidArgument, LimitExceeded } from "./errors.ts";
import { partitionHash } from "./placement.ts";
import { shortLived } from "./slab.ts";
import { formatUuid, isMadeFromName, newEventId, parseUuid, PARTITION_KEY_NAMESPACE, uuidV5 } from "./uuid.ts";
import type { ExpectedVersion } from "./version.ts";

/** UTF-8 bytes of a stream id, at least 1. No NUL. */
export const STREAM_ID_BYTES_MAX = 64;
/** UTF-8 bytes of an event name; it may be empty. */
export const EVENT_NAME_BYTES_MAX = 255;
/** Bytes of a transaction as one entry of the log: a larger one would not cross to another node in bounded memory. */
export const TRANSACTION_BYTES_MAX = 64 * 1024 * 1024;
/** The largest timestamp, milliseconds: in nanoseconds it still fits the 63 bits that the reference keeps. */
export const TIMESTAMP_MS_MAX = 9_223_372_036_854;

/** An event to append. */
export interface NewEvent {
  /** 1 to 64 bytes of UTF-8 without NUL. */
  streamId: string;
  /** At most 255 bytes of UTF-8. */
  name: string;
  /**
   * A UUID, as text or its 16 bytes, that carries the hash of the partition key; made by the store when left out. An
   * append is retried safely by repeating it with the same ids.
   */
  eventId?: string | Uint8Array;
  /** What the writer believes about the stream; `any` when left out. */
  expectedVersion?: ExpectedVersion;
  /** Milliseconds since 1970, 0 to 9 223 372 036 854; now when left out. */
  timestamp?: number;
  /** Bytes, or text that is stored as UTF-8. Empty when left out. */
  payload?: Uint8Array | string;
  /** Bytes, or text that is stored as UTF-8. Empty when left out. */
  metadata?: Uint8Array | string;
}

/** Events that are appended all or none, all in the partition of one key. */
export interface Transaction {
  /** A UUID, as text or its 16 bytes. When left out it is the default key of the only stream: streams that differ need a key. */
  partitionKey?: string | Uint8Array;
  events: readonly NewEvent[];
}

/** What became of one appended event. */
export interface AppendedEvent {
  eventId: string;
  streamId: string;
  version: number;
  sequence: number;
  /** Milliseconds since 1970. */
  timestamp: number;
}

/** What became of an appended transaction. */
export interface AppendResult {
  partitionKey: string;
  partition: number;
  firstSequence: number;
  lastSequence: number;
  /** In the order in which they were given. */
  events: AppendedEvent[];
}

/**
 * What became of an appended transaction as the engine has it, in bytes. To make text and objects of it for a listener
 * that writes bytes again costs more than the rest of the answer: `resultOf` makes them for who wants them.
 */
export interface Appended {
  readonly partitionKey: Uint8Array;
  readonly partition: number;
  readonly firstSequence: number;
  /** Of each event. */
  readonly versions: readonly number[];
  /** In the order in which they were given. */
  readonly events: readonly { readonly eventId: Uint8Array; readonly streamId: string; readonly timestamp: number }[];
}

/** Who is told what became of an append: once, perhaps within the call. Neither may throw. */
export interface AppendReceiver {
  /** The events are durable and readable. */
  stored(appended: Appended): void;
  refused(error: unknown): void;
}

/** A stored event. */
export interface EventRecord {
  readonly eventId: string;
  readonly partitionKey: string;
  readonly partition: number;
  readonly transactionId: string;
  readonly sequence: number;
  readonly streamId: string;
  readonly version: number;
  readonly name: string;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  readonly metadata: Uint8Array;
  readonly payload: Uint8Array;
}

/**
 * A stored event where it lies: numbers, and places in bytes. Good until the call to which it was given returns. Who
 * writes it out as bytes again needs no text and no copy of it.
 */
export interface StoredEvent {
  readonly bytes: Uint8Array;
  readonly eventIdAt: number;
  readonly streamIdAt: number;
  readonly streamIdEnd: number;
  readonly nameAt: number;
  readonly nameEnd: number;
  readonly metadataAt: number;
  readonly payloadAt: number;
  readonly payloadEnd: number;
  readonly partition: number;
  readonly sequence: number;
  readonly version: number;
  readonly timestamp: number;
  /** Of its transaction: where the id of the first event is, and how many events there are. */
  readonly firstEventAt: number;
  readonly count: number;
  partitionKeyBytes(): Uint8Array;
}

/** A NewEvent that passed `admit`: nothing is left out, text is bytes. */
export interface AdmittedEvent {
  streamId: string;
  streamIdBytes: Uint8Array;
  /** 16 bytes from the stream's name and its partition key, by which the engine knows the stream. */
  streamKey: Uint8Array;
  name: string;
  nameBytes: Uint8Array;
  eventId: Uint8Array;
  /** Whether the writer gave the event id, so that this may be a retry. */
  eventIdGiven: boolean;
  expectedVersion: ExpectedVersion;
  timestamp: number;
  payload: Uint8Array;
  metadata: Uint8Array;
}

/** A Transaction that passed `admit`. */
export interface AdmittedTransaction {
  partitionKey: Uint8Array;
  /** Whether the partition key is the default key of the first event's stream. */
  partitionKeyIsDefault: boolean;
  partitionHash: number;
  /** At least one. */
  events: AdmittedEvent[];
}

/** A stream, found: its name in bytes, its partition key, and the 16 bytes by which the engine knows the pair. */
export interface StreamIdentity {
  streamIdBytes: Uint8Array;
  partitionKey: Uint8Array;
  partitionKeyIsDefault: boolean;
  streamKey: Uint8Array;
}

const encoder = new TextEncoder();
const EMPTY = new Uint8Array(0);

/**
 * Checks a transaction and fills in what was left out.
 * @throws {InvalidArgument} a bad stream id, partition key, event id, timestamp or expected version, or no events
 * @throws {LimitExceeded} an event name, or a timestamp, beyond its limit
 * @throws {DuplicateEventId} one event id twice in the transaction
 */
export function admit(transaction: Transaction, environment: Environment): AdmittedTransaction {
  const { events } = transaction;
  if (events.length === 0) throw new InvalidArgument("A transaction needs at least one event");
  const givenKey = transaction.partitionKey === undefined
    ? null
    : requireUuid(transaction.partitionKey, "partition key");
  const now = environment.now();
  const first = identify(events[0]!.streamId, givenKey);
  const partitionKey = first.partitionKey;
  const hash = partitionHash(partitionKey);
  const admitted = new Array<AdmittedEvent>(events.length); // Not pushed to: that would begin with 17 places.
  let givenIds: Set<string> | undefined;
  for (let i = 0; i < events.length; i++) {
    const event = events[i]!;
    if (givenKey === null && event.streamId !== events[0]!.streamId) {
      throw new InvalidArgument("A transaction over several streams needs a partition key");
    }
    const stream = i === 0 || event.streamId === events[0]!.streamId ? first : identify(event.streamId, partitionKey);
    const nameBytes = shortText(event.name);
    if (nameBytes.length > EVENT_NAME_BYTES_MAX) {
      throw new LimitExceeded("The event name", nameBytes.length, EVENT_NAME_BYTES_MAX);
    }
    const timestamp = event.timestamp ?? now;
    if (!Number.isSafeInteger(timestamp) || timestamp < 0) {
      throw new InvalidArgument(`A timestamp is a whole number of milliseconds from 0: found ${timestamp}`);
    }
    if (timestamp > TIMESTAMP_MS_MAX) {
      throw new LimitExceeded("The timestamp", timestamp, TIMESTAMP_MS_MAX, "milliseconds");
    }
    const expectedVersion = event.expectedVersion ?? "any";
    if (typeof expectedVersion === "number" && !(Number.isSafeInteger(expectedVersion) && expectedVersion >= 0)) {
      throw new InvalidArgument(
        `An expected version is any, exists, empty or a whole number: found ${expectedVersion}`,
      );
    }
    let eventId: Uint8Array;
    if (event.eventId === undefined) {
      eventId = newEventId(hash, now, environment.random);
    } else {
      eventId = requireUuid(event.eventId, "event id");
      const found = partitionHash(eventId);
      if (found !== hash) {
        throw new InvalidArgument(
          `The event id ${formatUuid(eventId)} carries partition hash ${found}: partition key ${
            formatUuid(partitionKey)
          } needs ${hash}`,
        );
      }
      if (events.length > 1) {
        const text = formatUuid(eventId);
        givenIds ??= new Set();
        if (givenIds.has(text)) throw new DuplicateEventId(text, "it is given twice in one transaction");
        givenIds.add(text);
      }
    }
    admitted[i] = {
      streamId: event.streamId,
      streamIdBytes: stream.streamIdBytes,
      streamKey: stream.streamKey,
      name: event.name,
      nameBytes,
      eventId,
      eventIdGiven: event.eventId !== undefined,
      expectedVersion,
      timestamp,
      payload: bytesOf(event.payload),
      metadata: bytesOf(event.metadata),
    };
  }
  return {
    partitionKey,
    partitionKeyIsDefault: first.partitionKeyIsDefault,
    partitionHash: hash,
    events: admitted,
  };
}

/** What a writer is told. */
export function resultOf({ partitionKey, partition, firstSequence, versions, events }: Appended): AppendResult {
  return {
    partitionKey: formatUuid(partitionKey),
    partition,
    firstSequence,
    lastSequence: firstSequence + events.length - 1,
    events: events.map(({ eventId, streamId, timestamp }, i) => ({
      eventId: formatUuid(eventId),
      streamId,
      version: versions[i]!,
      sequence: firstSequence + i,
      timestamp,
    })),
  };
}

/** The same in bytes: of a store that has only the result to give. */
export function appendedOf({ partitionKey, partition, firstSequence, events }: AppendResult): Appended {
  return {
    partitionKey: requireUuid(partitionKey, "partition key"),
    partition,
    firstSequence,
    versions: events.map(({ version }) => version),
    events: events.map(({ eventId, streamId, timestamp }) => ({
      eventId: requireUuid(eventId, "event id"),
      streamId,
      timestamp,
    })),
  };
}

/**
 * The stream of this name under this partition key, its default one when null.
 * @throws {InvalidArgument} the name is not 1 to 64 bytes of UTF-8 without NUL
 */
export function identify(streamId: string, partitionKey: Uint8Array | null): StreamIdentity {
  const streamIdBytes = shortText(streamId);
  if (streamIdBytes.length === 0 || streamIdBytes.length > STREAM_ID_BYTES_MAX) {
    throw new InvalidArgument(`A stream id has 1 to ${STREAM_ID_BYTES_MAX} bytes: found ${streamIdBytes.length}`);
  }
  for (let i = 0; i < streamIdBytes.length; i++) {
    if (streamIdBytes[i] === 0) throw new InvalidArgument("A stream id has no NUL");
  }
  // A default key is made from a name, so a key of another kind is none: most are random, or made of time.
  if (partitionKey === null || isMadeFromName(partitionKey)) {
    const defaultKey = uuidV5(PARTITION_KEY_NAMESPACE, streamIdBytes);
    if (partitionKey === null || equalBytes(partitionKey, defaultKey)) {
      return { streamIdBytes, partitionKey: defaultKey, partitionKeyIsDefault: true, streamKey: defaultKey };
    }
  }
  return { streamIdBytes, partitionKey, partitionKeyIsDefault: false, streamKey: uuidV5(partitionKey, streamIdBytes) };
}

/** @throws {InvalidArgument} `uuid` is not the text or the 16 bytes of a UUID; the message calls it `what` */
export function requireUuid(uuid: string | Uint8Array, what: string): Uint8Array {
  if (uuid instanceof Uint8Array) {
    if (uuid.length === 16) return uuid;
    throw new InvalidArgument(`The ${what} must be a UUID, which has 16 bytes: found ${uuid.length}`);
  }
  const bytes = typeof uuid === "string" ? parseUuid(uuid) : null;
  if (bytes === null) throw new InvalidArgument(`The ${what} must be a UUID: found ${JSON.stringify(uuid)}`);
  return bytes;
}

/** UTF-8 of a name. Plain ASCII, as most are, is faster by hand than across the border to the encoder: 0.1 against 0.6 µs. */
function shortText(text: string): Uint8Array {
  if (text.length > STREAM_ID_BYTES_MAX) return encoder.encode(text);
  const bytes = shortLived.take(text.length);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code >= 0x80) return encoder.encode(text);
    bytes[i] = code;
  }
  return bytes;
}

function bytesOf(value: Uint8Array | string | undefined): Uint8Array {
  return value === undefined ? EMPTY : typeof value === "string" ? encoder.encode(value) : value;
}
