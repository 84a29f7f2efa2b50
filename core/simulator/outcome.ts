/**
 * What became of an append: answered, refused, or nobody knows, because the store was gone first.
 *
 * @module
 */
import {
  Damaged,
  DiskFull,
  DuplicateEventId,
  InvalidArgument,
  LimitExceeded,
  WrongExpectedVersion,
} from "../errors.ts";
import type { AppendResult, EventRecord, Transaction } from "../event.ts";

export type Outcome =
  & { transaction: Transaction; partition: number }
  & (
    | { kind: "answered"; result: AppendResult; batch: number }
    | { kind: "refused"; error: Error }
    | { kind: "unknown"; error?: unknown }
  );

/** An answer that says that nothing was stored. */
export function isRefusal(error: unknown): error is Error {
  return [WrongExpectedVersion, DuplicateEventId, InvalidArgument, LimitExceeded, DiskFull, Damaged]
    .some((Class) => error instanceof Class);
}

/** Whether events that were found are those of a transaction, appended when the clock said `nowMs`. */
export function isStoredAs({ events }: Transaction, stored: readonly EventRecord[], nowMs: number): boolean {
  return events.length === stored.length && events.every((event, i) => {
    const other = stored[i]!;
    return event.streamId === other.streamId && event.name === other.name &&
      (event.eventId === undefined || event.eventId === other.eventId) &&
      other.timestamp === (event.timestamp ?? nowMs) &&
      String(event.payload) === String(other.payload) && String(event.metadata ?? "") === String(other.metadata);
  });
}

/** The answer that a transaction would have got, from its events. */
export function resultOf(events: readonly EventRecord[]): AppendResult {
  const { partitionKey, partition, sequence } = events[0]!;
  return {
    partitionKey,
    partition,
    firstSequence: sequence,
    lastSequence: events.at(-1)!.sequence,
    events: events.map(({ eventId, streamId, version, sequence, timestamp }) => (
      { eventId, streamId, version, sequence, timestamp }
    )),
  };
}
