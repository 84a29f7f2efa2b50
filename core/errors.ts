/**
 * The errors that a caller may catch, each with its facts as fields.
 *
 * A message says what could not be done, what was needed and what was found. Errors of the disk that nobody foresaw
 * are not here: they come as the system gave them, as the `cause` of what was being done.
 *
 * @module
 */
import type { Transaction } from "./event.ts";
import type { ExpectedVersion } from "./version.ts";

/** An argument that no store could accept: a bad stream id, an id that does not fit its partition key. */
export class InvalidArgument extends Error {
  override readonly name = "InvalidArgument";
}

/** Something is larger than a limit of the store allows. */
export class LimitExceeded extends Error {
  override readonly name = "LimitExceeded";
  constructor(readonly what: string, readonly found: number, readonly max: number, unit = "bytes") {
    super(`${what} has ${found} ${unit}: the limit is ${max}`);
  }
}

/** A stream is not at the version that the writer expected. Nothing was stored. */
export class WrongExpectedVersion extends Error {
  override readonly name = "WrongExpectedVersion";
  constructor(
    readonly streamId: string,
    readonly partitionKey: string,
    readonly expected: ExpectedVersion,
    /** The stream's last version, null while it has no events. */
    readonly current: number | null,
  ) {
    super(
      `Cannot append to stream ${JSON.stringify(streamId)} of partition key ${partitionKey}: ` +
        `expected version ${expected}, current version ${current ?? "empty"}`,
    );
  }
}

/** An event id is already stored, with other content. Nothing was stored. */
export class DuplicateEventId extends Error {
  override readonly name = "DuplicateEventId";
  constructor(readonly eventId: string, why: string) {
    super(`Event id ${eventId} is already stored: ${why}`);
  }
}

/** A partition that this store does not have. */
export class NoSuchPartition extends Error {
  override readonly name = "NoSuchPartition";
  constructor(readonly partition: number, readonly partitionCount: number) {
    super(`There is no partition ${partition}: this store has ${partitionCount}, from 0 to ${partitionCount - 1}`);
  }
}

/** The disk has no room for these events. Nothing was stored; the same append may succeed when there is room. */
export class DiskFull extends Error {
  override readonly name = "DiskFull";
}

/** Bytes that were once acknowledged are not what they were. Where, and how it was seen. */
export class Damaged extends Error {
  override readonly name = "Damaged";
  constructor(readonly file: string, readonly offset: number, readonly reason: string, options?: ErrorOptions) {
    super(`${file} is damaged at offset ${offset}: ${reason}`, options);
  }
}

/** The store is closed or closing. Nothing was stored. */
export class StoreClosed extends Error {
  override readonly name = "StoreClosed";
  constructor() {
    super("The store is closed");
  }
}

/** Another process has the data folder open. */
export class FolderInUse extends Error {
  override readonly name = "FolderInUse";
  constructor(readonly folder: string) {
    super(`The data folder ${folder} is in use: another process has it open`);
  }
}

/** The data folder was made with another setting than the one asked for. */
export class FolderMismatch extends Error {
  override readonly name = "FolderMismatch";
  constructor(readonly folder: string, readonly setting: string, readonly stored: unknown, readonly asked: unknown) {
    super(`The data folder ${folder} was made with ${setting} ${stored}: it cannot be opened with ${setting} ${asked}`);
  }
}

/** Too few replicas can be reached to make an append durable. Nothing was stored. */
export class TooFewReplicas extends Error {
  override readonly name = "TooFewReplicas";
}

/** No replica that could answer is known. Nothing was stored. */
export class NoReplica extends Error {
  override readonly name = "NoReplica";
}

/** It cannot be done now, and may soon: the leader is changing, or a read asked for more than is readable yet. Nothing was stored. */
export class TryAgain extends Error {
  override readonly name = "TryAgain";
}

/** The events may be stored, now or soon, or never: nobody can say. The same append with the same event ids finds out. */
export class OutcomeUnknown extends Error {
  override readonly name = "OutcomeUnknown";
  /** What was appended, with event ids that the writer may not have given; null where there is no more than it gave. */
  transaction: Transaction | null = null;
}
