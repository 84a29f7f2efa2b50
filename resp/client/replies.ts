/**
 * Replies → what the port promises. What is missing in a reply, or is of another kind, is told by name: see BrokenReply.
 *
 * @module
 */
import type { AppendedEvent, AppendResult, EventRecord, Transaction } from "../../core/event.ts";
import { BrokenReply, type Reply } from "./reply_decoder.ts";

/** From the reply of EAPPEND. */
export function appendedOf(reply: Reply, streamId: string): AppendResult {
  const sequence = numberIn(reply, "partition_sequence");
  return {
    partitionKey: textIn(reply, "partition_key"),
    partition: numberIn(reply, "partition_id"),
    firstSequence: sequence,
    lastSequence: sequence,
    events: [appendedEventOf(reply, streamId, sequence)],
  };
}

/** From the reply of EMAPPEND to this transaction. */
export function transactionOf(reply: Reply, { events }: Transaction): AppendResult {
  const firstSequence = numberIn(reply, "first_partition_sequence");
  const appended = fieldOf(reply, "events");
  if (!Array.isArray(appended) || appended.length !== events.length) {
    throw new BrokenReply(`The server answered a transaction of ${events.length} events with other ones`);
  }
  return {
    partitionKey: textIn(reply, "partition_key"),
    partition: numberIn(reply, "partition_id"),
    firstSequence,
    lastSequence: numberIn(reply, "last_partition_sequence"),
    events: appended.map((one, i) => appendedEventOf(one, events[i]!.streamId, firstSequence + i)),
  };
}

function appendedEventOf(reply: Reply, streamId: string, sequence: number): AppendedEvent {
  return {
    eventId: textIn(reply, "event_id"),
    streamId,
    version: numberIn(reply, "stream_version"),
    sequence,
    timestamp: numberIn(reply, "timestamp"),
  };
}

/** An event: as one, or from the map that it is when it stands otherwise than our server writes it. */
export function recordOf(reply: Reply): EventRecord {
  if (!(reply instanceof Map)) return reply as EventRecord;
  return {
    eventId: textIn(reply, "event_id"),
    partitionKey: textIn(reply, "partition_key"),
    partition: numberIn(reply, "partition_id"),
    transactionId: textIn(reply, "transaction_id"),
    sequence: numberIn(reply, "partition_sequence"),
    streamId: textIn(reply, "stream_id"),
    version: numberIn(reply, "stream_version"),
    name: textIn(reply, "event_name"),
    timestamp: numberIn(reply, "timestamp"),
    metadata: bytesIn(reply, "metadata"),
    payload: bytesIn(reply, "payload"),
  };
}

function fieldOf(reply: Reply, name: string): Reply | undefined {
  return reply instanceof Map ? reply.get(name) : undefined;
}

function numberIn(reply: Reply, name: string): number {
  const value = fieldOf(reply, name);
  if (typeof value !== "number") throw new BrokenReply(`The reply has no number ${name}`);
  return value;
}

function bytesIn(reply: Reply, name: string): Uint8Array {
  const value = fieldOf(reply, name);
  if (!(value instanceof Uint8Array)) throw new BrokenReply(`The reply has no bytes ${name}`);
  return value;
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

function textIn(reply: Reply, name: string): string {
  const value = fieldOf(reply, name);
  if (typeof value === "string") return value;
  if (value instanceof Uint8Array) return utf8.decode(value);
  throw new BrokenReply(`The reply has no text ${name}`);
}

export function numberOrNull(reply: Reply): number | null {
  if (reply === null || typeof reply === "number") return reply;
  throw new BrokenReply("The reply is no number");
}

/** From the reply of ESCAN or EPSCAN. */
export function pageOf(reply: Reply): { events: EventRecord[]; hasMore: boolean } {
  const events = fieldOf(reply, "events");
  if (!Array.isArray(events)) throw new BrokenReply("The reply has no list events");
  return { events: events.map(recordOf), hasMore: fieldOf(reply, "has_more") === true };
}
