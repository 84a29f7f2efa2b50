/**
 * Records, results and errors as the wire wants them.
 *
 * These are the replies of the hot paths: the constant pieces are bytes already, so that a reply is a few copies and
 * the numbers between them. Keys are simple strings, on either protocol, because known clients skip all others.
 * Stream id and event name are bulk strings: they may hold a line break.
 *
 * @module
 */
import {
  Damaged,
  DiskFull,
  DuplicateEventId,
  InvalidArgument,
  LimitExceeded,
  NoReplica,
  NoSuchPartition,
  OutcomeUnknown,
  StoreClosed,
  TooFewReplicas,
  TryAgain,
  WrongExpectedVersion,
} from "../core/errors.ts";
import type { Appended, EventRecord, StoredEvent } from "../core/event.ts";
import type { Encoder } from "./encoder.ts";
import { ReplyError } from "./value.ts";

// What is of one length in every reply is one piece with blanks for the UUIDs, which are then written over them: of a
// record, 1 copy instead of 7.
const BLANK = " ".repeat(36);
const IDS = `+event_id\r\n+${BLANK}\r\n+partition_key\r\n+${BLANK}\r\n+partition_id\r\n:`;
/** How far before the end of it a UUID begins. */
const EVENT_ID_BACK = IDS.length - IDS.indexOf(BLANK);
const PARTITION_KEY_BACK = IDS.length - IDS.lastIndexOf(BLANK);
const TRANSACTION_ID = bytes(`\r\n+transaction_id\r\n+${BLANK}\r\n+partition_sequence\r\n:`);
const TRANSACTION_ID_BACK = TRANSACTION_ID.length - "\r\n+transaction_id\r\n+".length;

const APPENDED = head("%6\r\n", "*12\r\n", IDS);
const RECORD = head("%11\r\n", "*22\r\n", IDS);
const TRANSACTION = head("%5\r\n", "*10\r\n", "+partition_key\r\n+");
const TRANSACTION_EVENT = head("%4\r\n", "*8\r\n", "+event_id\r\n+");
const SCAN = head("%2\r\n", "*4\r\n", "+has_more\r\n");
const PARTITION_ID = bytes("\r\n+partition_id\r\n:");
const PARTITION_SEQUENCE = bytes("\r\n+partition_sequence\r\n:");
const FIRST_SEQUENCE = bytes("\r\n+first_partition_sequence\r\n:");
const LAST_SEQUENCE = bytes("\r\n+last_partition_sequence\r\n:");
const STREAM_VERSION = bytes("\r\n+stream_version\r\n:");
const TIMESTAMP = bytes("\r\n+timestamp\r\n:");
const EVENTS_AFTER_NUMBER = bytes("\r\n+events\r\n");
const EVENTS = bytes("+events\r\n");
const STREAM_ID_AFTER_NUMBER = bytes("\r\n+stream_id\r\n");
const STREAM_VERSION_AFTER_BULK = bytes("+stream_version\r\n:");
const EVENT_NAME = bytes("+event_name\r\n");
const METADATA = bytes("+metadata\r\n");
const PAYLOAD = bytes("+payload\r\n");
const CRLF = bytes("\r\n");

/** The reply of EAPPEND: the only event of a transaction. */
export function writeAppended(
  reply: Encoder,
  { partitionKey, partition, firstSequence, versions, events }: Appended,
): void {
  const event = events[0]!;
  reply.raw(APPENDED[reply.protocol]);
  reply.uuidOver(EVENT_ID_BACK, event.eventId);
  reply.uuidOver(PARTITION_KEY_BACK, partitionKey);
  reply.digits(partition);
  reply.raw(PARTITION_SEQUENCE);
  reply.digits(firstSequence);
  reply.raw(STREAM_VERSION);
  reply.digits(versions[0]!);
  reply.raw(TIMESTAMP);
  reply.digits(event.timestamp);
  reply.raw(CRLF);
}

/** The reply of EMAPPEND: a transaction, its events in the order of the request. */
export function writeTransaction(
  reply: Encoder,
  { partitionKey, partition, firstSequence, versions, events }: Appended,
): void {
  reply.raw(TRANSACTION[reply.protocol]);
  reply.uuid(partitionKey);
  reply.raw(PARTITION_ID);
  reply.digits(partition);
  reply.raw(FIRST_SEQUENCE);
  reply.digits(firstSequence);
  reply.raw(LAST_SEQUENCE);
  reply.digits(firstSequence + events.length - 1);
  reply.raw(EVENTS_AFTER_NUMBER);
  reply.array(events.length);
  for (let i = 0; i < events.length; i++) {
    const event = events[i]!;
    reply.raw(TRANSACTION_EVENT[reply.protocol]);
    reply.uuid(event.eventId);
    reply.raw(STREAM_ID_AFTER_NUMBER);
    reply.text(event.streamId);
    reply.raw(STREAM_VERSION_AFTER_BULK);
    reply.digits(versions[i]!);
    reply.raw(TIMESTAMP);
    reply.digits(event.timestamp);
    reply.raw(CRLF);
  }
}

/** A stored event: the reply of EGET, and an item of a scan. */
export function writeRecord(reply: Encoder, record: EventRecord): void {
  reply.raw(RECORD[reply.protocol]);
  reply.over(EVENT_ID_BACK, record.eventId);
  reply.over(PARTITION_KEY_BACK, record.partitionKey);
  reply.digits(record.partition);
  reply.raw(TRANSACTION_ID);
  reply.over(TRANSACTION_ID_BACK, record.transactionId);
  reply.digits(record.sequence);
  reply.raw(STREAM_VERSION);
  reply.digits(record.version);
  reply.raw(TIMESTAMP);
  reply.digits(record.timestamp);
  reply.raw(STREAM_ID_AFTER_NUMBER);
  reply.text(record.streamId);
  reply.raw(EVENT_NAME);
  reply.text(record.name);
  reply.raw(METADATA);
  reply.bulk(record.metadata);
  reply.raw(PAYLOAD);
  reply.bulk(record.payload);
}

/** The same, of an event where it lies. */
export function writeStored(reply: Encoder, event: StoredEvent): void {
  const { bytes } = event;
  reply.raw(RECORD[reply.protocol]);
  reply.uuidOver(EVENT_ID_BACK, bytes, event.eventIdAt);
  reply.uuidOver(PARTITION_KEY_BACK, event.partitionKeyBytes());
  reply.digits(event.partition);
  reply.raw(TRANSACTION_ID);
  reply.transactionIdOver(TRANSACTION_ID_BACK, bytes, event.firstEventAt, event.count);
  reply.digits(event.sequence);
  reply.raw(STREAM_VERSION);
  reply.digits(event.version);
  reply.raw(TIMESTAMP);
  reply.digits(event.timestamp);
  reply.raw(STREAM_ID_AFTER_NUMBER);
  reply.bulkOf(bytes, event.streamIdAt, event.streamIdEnd);
  reply.raw(EVENT_NAME);
  reply.bulkOf(bytes, event.nameAt, event.nameEnd);
  reply.raw(METADATA);
  reply.bulkOf(bytes, event.metadataAt, event.payloadAt);
  reply.raw(PAYLOAD);
  reply.bulkOf(bytes, event.payloadAt, event.payloadEnd);
}

/** Begins the reply of a scan: `count` records follow. */
export function writeScanHead(reply: Encoder, hasMore: boolean, count: number): void {
  reply.raw(SCAN[reply.protocol]);
  reply.boolean(hasMore);
  reply.raw(EVENTS);
  reply.array(count);
}

/** What every message of a subscription begins with, up to its cursor. */
export function messageHead(subscriptionId: string): Uint8Array {
  return bytes(`>4\r\n+message\r\n+${subscriptionId}\r\n:`);
}

/** An event of a subscription as a push. */
export function writeMessage(reply: Encoder, head: Uint8Array, cursor: number, record: EventRecord): void {
  reply.raw(head);
  reply.digits(cursor);
  reply.raw(CRLF);
  writeRecord(reply, record);
}

/** The reply of ESUB and EPSUB: the id, and the push that confirms it. `count` is how many the link has now. */
export function writeSubscribed(reply: Encoder, subscriptionId: string, count: number): void {
  reply.simple(subscriptionId);
  reply.push(3);
  reply.simple("subscribe");
  reply.simple(subscriptionId);
  reply.number(count);
}

/** The last push of a subscription that could not go on. */
export function writeSubscriptionEnd(reply: Encoder, subscriptionId: string, { code, message }: ReplyError): void {
  reply.push(3);
  reply.simple("error");
  reply.simple(subscriptionId);
  reply.text(`${code} ${message}`);
}

/** What to tell a client of an error; null when it is nobody's fault that we know, and must be logged. */
export function replyErrorOf(error: unknown, doing: "appends" | "reads" | "answers"): ReplyError | null {
  if (error instanceof ReplyError) return error;
  if (error instanceof InvalidArgument) return new ReplyError("INVALIDARG", error.message);
  if (error instanceof LimitExceeded) return new ReplyError("DBOPFAILED", error.message);
  if (error instanceof WrongExpectedVersion) return new ReplyError("WRONGVER", error.message);
  if (error instanceof DuplicateEventId) return new ReplyError("DUPLICATEID", error.message);
  if (error instanceof NoSuchPartition) return new ReplyError("CLUSTERDOWN", error.message);
  if (error instanceof DiskFull) return new ReplyError("DISKFULL", error.message);
  if (error instanceof Damaged) return new ReplyError(doing === "appends" ? "WRITEERR" : "READERR", error.message);
  if (error instanceof TooFewReplicas) return new ReplyError("INSUFFICIENTREPLICAS", error.message);
  if (error instanceof NoReplica) return new ReplyError("CLUSTERDOWN", error.message);
  if (error instanceof TryAgain) return new ReplyError("TRYAGAIN", error.message);
  // Of no code that a client could take for a failure.
  if (error instanceof OutcomeUnknown) return new ReplyError("UNKNOWN", error.message);
  // Of the codes that known clients retry, the one for a store that has stopped.
  if (error instanceof StoreClosed) return new ReplyError("ACTORSTOPPED", error.message);
  return null;
}

function head(resp3: string, resp2: string, rest: string): { 2: Uint8Array; 3: Uint8Array } {
  return { 2: bytes(resp2 + rest), 3: bytes(resp3 + rest) };
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
