/**
 * The words that an event has in EAPPEND and in EMAPPEND alike.
 *
 * @module
 */
import { InvalidArgument } from "../../core/errors.ts";
import type { NewEvent } from "../../core/event.ts";
import type { Arguments } from "../arguments.ts";

/** So many milliseconds fit 64 bits as nanoseconds. A number beyond is one of nanoseconds by mistake. */
const TIMESTAMP_PLAUSIBLE_MS_MAX = 18_446_744_073_709;

/** Reads what every event begins with. All fields are named, so that all events have one shape. */
export function readEventHead(args: Arguments): NewEvent {
  return {
    streamId: args.text("stream id"),
    name: args.text("event name"),
    eventId: undefined,
    expectedVersion: undefined,
    timestamp: undefined,
    payload: undefined,
    metadata: undefined,
  };
}

/** Reads one option of an event, each of which may be given once. False when the next word is none. */
export function readEventOption(args: Arguments, event: NewEvent): boolean {
  if (args.option("PAYLOAD", event.payload)) event.payload = args.bytes("payload");
  else if (args.option("EXPECTED_VERSION", event.expectedVersion)) {
    event.expectedVersion = args.version("expected version (ANY, EXISTS, EMPTY or a number)");
  } else if (args.option("METADATA", event.metadata)) event.metadata = args.bytes("metadata");
  else if (args.option("EVENT_ID", event.eventId)) event.eventId = args.uuidBytes("event id");
  else if (args.option("TIMESTAMP", event.timestamp)) {
    event.timestamp = args.number(
      "timestamp",
      TIMESTAMP_PLAUSIBLE_MS_MAX,
      "in milliseconds, and this looks like nanoseconds",
    );
  } else return false;
  return true;
}

/** With `append.strict_versioning` each event must say at which version its stream is. */
export function requireStrictVersion({ streamId, expectedVersion = "any" }: NewEvent): void {
  if (expectedVersion === "any" || expectedVersion === "exists") {
    throw new InvalidArgument(
      `The event for stream ${JSON.stringify(streamId)} needs EXPECTED_VERSION with EMPTY or a number, as ` +
        `append.strict_versioning is on: found ${expectedVersion}`,
    );
  }
}
