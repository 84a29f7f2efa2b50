/**
 * The code and text of an error reply → the error that an embedded store would have thrown, with its facts.
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
} from "../../core/errors.ts";
import type { ExpectedVersion } from "../../core/version.ts";

/** The server refused, for a reason that has no class of its own. */
export class ServerError extends Error {
  override readonly name = "ServerError";
  constructor(readonly code: string, message: string) {
    super(message);
  }
}

/** The error that the text of an error reply tells of. `partitionCount` is the server's. */
export function errorOfReply(text: string, partitionCount: number): Error {
  const blank = text.indexOf(" ");
  const code = blank < 0 ? text : text.slice(0, blank);
  const message = blank < 0 ? text : text.slice(blank + 1);
  return known(code, message, partitionCount) ?? new ServerError(code, message);
}

/** The stream is a JSON string, whatever its id holds. */
const WRONG_VERSION =
  /stream ("(?:[^"\\\p{Cc}]|\\(?:["\\/bfnrt]|u[0-9a-f]{4}))*") of partition key (\S+): expected version (\w+), current version (\w+)$/u;

function known(code: string, message: string, partitionCount: number): Error | null {
  switch (code) {
    case "INVALIDARG":
      return new InvalidArgument(message);
    case "WRONGVER": {
      const facts = WRONG_VERSION.exec(message);
      if (facts === null) return null;
      const [streamId, partitionKey, expected, current] = facts.slice(1) as [string, string, string, string];
      return new WrongExpectedVersion(
        JSON.parse(streamId),
        partitionKey,
        /^\d+$/.test(expected) ? Number(expected) : expected as ExpectedVersion,
        current === "empty" ? null : Number(current),
      );
    }
    case "DUPLICATEID": {
      const facts = /^Event id (\S+) is already stored: (.*)$/.exec(message);
      return facts === null ? null : new DuplicateEventId(facts[1]!, facts[2]!);
    }
    case "DBOPFAILED": {
      const facts = /^(.*) has (\d+) (\w+): the limit is (\d+)$/.exec(message);
      if (facts !== null) return new LimitExceeded(facts[1]!, Number(facts[2]), Number(facts[4]), facts[3]);
      // What is too large for the server is skipped by it, and not counted.
      const limit = /larger than (\d+)/.exec(message);
      return limit === null ? null : new LimitExceeded("The command", Number(limit[1]) + 1, Number(limit[1]));
    }
    case "CLUSTERDOWN": {
      const facts = /^There is no partition (\d+)/.exec(message);
      return facts === null ? new NoReplica(message) : new NoSuchPartition(Number(facts[1]), partitionCount);
    }
    case "READERR":
    case "WRITEERR": {
      const facts = /^(.*) is damaged at offset (\d+): (.*)$/.exec(message);
      return facts === null ? null : new Damaged(facts[1]!, Number(facts[2]), facts[3]!);
    }
    case "INSUFFICIENTREPLICAS":
      return new TooFewReplicas(message);
    case "TRYAGAIN":
      return new TryAgain(message);
    case "UNKNOWN":
      return new OutcomeUnknown(message);
    case "DISKFULL":
      return new DiskFull(message);
    case "ACTORSTOPPED":
      return new StoreClosed();
    default:
      return null;
  }
}
