/**
 * An event as a line of JSON, without loss: what is UTF-8 stands as text, anything else as base64 under a name of its
 * own. Text stays text even where it is JSON, so that what comes back is what was stored, byte for byte.
 *
 *     {"partition":3,"sequence":0,"stream":"user-123","version":0,"name":"UserCreated","timestamp":1700000000000,
 *      "event_id":"…","transaction_id":"…","partition_key":"…","metadata":"","payload":"{\"name\": \"Alice\"}"}
 *     {… "payload_base64":"/9j/4AAQ…"}
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { isUtf8 } from "node:buffer";
import type { EventRecord } from "../core/event.ts";

/** The line, with its line feed. */
export function dumpLine(event: EventRecord): string {
  return JSON.stringify({
    partition: event.partition,
    sequence: event.sequence,
    stream: event.streamId,
    version: event.version,
    name: event.name,
    timestamp: event.timestamp,
    event_id: event.eventId,
    transaction_id: event.transactionId,
    partition_key: event.partitionKey,
    ...content("metadata", event.metadata),
    ...content("payload", event.payload),
  }) + "\n";
}

function content(name: string, bytes: Uint8Array): Record<string, string> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return isUtf8(buffer) ? { [name]: buffer.toString("utf8") } : { [`${name}_base64`]: buffer.toString("base64") };
}
