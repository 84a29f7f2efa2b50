/**
 * The bytes of all that nodes say to each other.
 *
 *     message   0        4         5      6             14
 *               length   version   kind   config hash   body …
 *
 *     hello           node, boot | what the config hash is made from, so that a refusal can say in what two nodes differ
 *     beacon          node, boot, number | count, address … | count, (bucket, data id, term, leader?, commit end, chain 8) …
 *     heartbeats      boot | count, (bucket, slot, data id, kind, the fields of a heartbeat or of a reply to one) …
 *     of a replica    bucket, slot, data id, boot | the fields of the message, in the order of consensus/message.ts
 *     forwardAppend   request, hops left, remaining ms, term, run | [partition key 16] count, event …
 *       event         flags, [event id 16], expected version, [timestamp], stream id, name, metadata, payload
 *     forwardRead     request, hops left, remaining ms, at least?, from leader | what is asked for
 *     answer          request | what was asked for, or what failed, with its facts
 *
 *     entries         bytes | frame | frame | …           as they lie in a segment: see core/log/format.ts
 *
 * `length` counts the bytes after itself. It and the halves of a chain are little-endian, the config hash stands as it is
 * read. All other numbers are varints of at most 53 bits and in their shortest form; text and bytes have their length
 * before them; what may be missing (`?`) has a byte 0 or 1 before it. Boots and data ids go from 1 to `ID_MAX`. Numbers by slot need no count: the replication
 * factor is in the config hash, as is the id of the cluster. Each value has one form in bytes, so that what was accepted
 * would be written again as it was read.
 *
 * A decoder trusts nobody. Every count is held against the bytes that are left before anything is made for it; entries
 * become `Entries` only when every frame has its checksum, its log index, its chain and its term, and its events end where
 * it ends. Whatever is wrong is a `MessageRefused`, and nothing else is ever thrown. What was decoded looks into the bytes
 * that it was decoded from: whoever gave them leaves them alone.
 *
 * Nothing here reads or writes a socket, and there is no checksum over a message: the transport's seal is one. Who may
 * say what, and whether it is still true, is decided elsewhere. That a node speaks only for its own slots, the transport
 * compares, which knows whose stream it is.
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
import {
  type Appended,
  EVENT_NAME_BYTES_MAX,
  type EventRecord,
  type NewEvent,
  requireUuid,
  STREAM_ID_BYTES_MAX,
  type Transaction,
  TRANSACTION_BYTES_MAX,
} from "../core/event.ts";
import { textOf } from "../core/text.ts";
import { formatUuid } from "../core/uuid.ts";
import type { ExpectedVersion } from "../core/version.ts";
import type { Chain, Entries, TermStart } from "./consensus/entries.ts";
import { type Heartbeat, type HeartbeatReply, ID_MAX, type Message, type Sender } from "./consensus/message.ts";
import { checkShape, type ClusterShape, configHash, configText, slotOf } from "./consensus/topology.ts";
import { FrameEntries } from "./frame_entries.ts";
import { NotLeader } from "./local.ts";

/** Nodes of different versions do not understand each other, and say so. */
export const PROTOCOL_VERSION = 1;
/** Length, version, kind, config hash. */
export const MESSAGE_HEADER_BYTES = 14;
/** One entry as large as an entry may be, or what is said of each of its events. */
export const MESSAGE_BYTES_MAX = 2 * TRANSACTION_BYTES_MAX;
/** A request goes from a node that does not know the leader to one that does; more is a circle. */
export const HOPS_MAX = 15;
export const REMAINING_MS_MAX = 60 * 60 * 1000;
export const ADDRESSES_MAX = 32;
/** Of one answer to `follow`. */
export const FOLLOW_EVENTS_MAX = 256;
/** How long a node waits for events before it says that there are none. */
export const FOLLOW_MS_MAX = 60 * 1000;
/** Of an address, a reason, the text of an error. Longer ones of this node are cut. */
export const TEXT_BYTES_MAX = 4096;
/** UTF-16 units: as many fit, whatever they say. */
const TEXT_LENGTH_MAX = 1024;
/** What a promise tells of its log: replicas tell the newest 64. */
const TERMS_MAX = 1024;

// ---- What is said ------------------------------------------------------------------------------------------------------

export type NodeMessage = Hello | Beacon | Heartbeats | ReplicaMessage | ForwardAppend | ForwardRead | Reply;

/** The first on every stream. */
export interface Hello {
  readonly kind: "hello";
  readonly node: number;
  readonly boot: number;
}

/** To all, now and then: hints, on which nothing is decided. */
export interface Beacon {
  readonly kind: "beacon";
  readonly node: number;
  readonly boot: number;
  /** Counts the beacons of one life. */
  readonly number: number;
  readonly addresses: readonly string[];
  /** Of which it has replicas, in rising order. */
  readonly buckets: readonly BucketState[];
}

export interface BucketState {
  readonly bucket: number;
  readonly dataId: number;
  readonly term: number;
  /** The node that serves in this term, null while none is known. */
  readonly leader: number | null;
  readonly commitEnd: number;
  readonly chain: Chain;
}

/** A message from a replica of a bucket to another one. */
export interface Packet {
  readonly bucket: number;
  readonly from: Sender;
  readonly message: Message;
}

export interface ReplicaMessage extends Packet {
  readonly kind: "replica";
}

/** Those of all buckets for a node, and the replies to its own. */
export interface Heartbeats {
  readonly kind: "heartbeats";
  readonly beats: readonly Beat[];
}

/** All of one message have the same `boot`. */
export interface Beat extends Packet {
  readonly message: Heartbeat | HeartbeatReply;
}

/** What two clocks show is never compared, so that a deadline is told as what is left of it. */
interface Request {
  /** Comes back with the answer. */
  readonly request: number;
  readonly hopsLeft: number;
  readonly remainingMs: number;
}

/** An event id was given before the first try, so that a retry is known as one. */
export interface ForwardAppend extends Request {
  readonly kind: "forwardAppend";
  /**
   * In which the receiver is believed to lead: it appends in no other, so that what comes late cannot be stored after a
   * later leader has refused the same. 0 when the receiver may hand it on.
   */
  readonly term: number;
  /**
   * Appends to a bucket that were sent one after the other, none of them for the second time. When the receiver has not
   * taken one of a run, it takes none that came behind it: they would overtake it.
   */
  readonly run: number;
  readonly transaction: Transaction;
}

export interface ForwardRead extends Request {
  readonly kind: "forwardRead";
  /** The sequence of the partition that must be readable first. */
  readonly atLeast: number | null;
  /** Whether only the leader may answer, after it has heard a majority. */
  readonly fromLeader: boolean;
  readonly query: Query;
}

interface Range {
  readonly from: number;
  readonly end: number | null;
  readonly backward: boolean;
  readonly limit: number;
}

export type Query =
  | { readonly kind: "event"; readonly eventId: string }
  | (Range & { readonly kind: "stream"; readonly streamId: string; readonly partitionKey: string | null })
  | (Range & { readonly kind: "partition"; readonly partition: number })
  | { readonly kind: "streamVersion"; readonly streamId: string; readonly partitionKey: string | null }
  | { readonly kind: "partitionSequence"; readonly partition: number }
  /** Up to which end one must read to see all that was acknowledged before now. */
  | { readonly kind: "readEnd"; readonly bucket: number }
  /** Who leads the bucket. */
  | { readonly kind: "leader"; readonly bucket: number }
  /** Of each position, one past the last that there is. */
  | { readonly kind: "heads"; readonly positions: Positions }
  /** What comes next, as soon as there is something; none when there is nothing for so long. Nothing of it is kept. */
  | {
    readonly kind: "follow";
    readonly positions: Positions;
    readonly waitMs: number;
    readonly limit: number;
    /** Only what is left of this transaction. */
    readonly within: string | null;
  };

/** Where a reader is: what it follows, and of each the number that comes next. Who stands first is read first. */
export type Positions =
  | { readonly partitions: readonly PartitionPosition[] }
  | { readonly streams: readonly StreamPosition[] };

export interface PartitionPosition {
  readonly partition: number;
  readonly next: number;
}

export interface StreamPosition {
  readonly streamId: string;
  readonly partitionKey: string;
  readonly next: number;
}

export interface Reply {
  readonly kind: "answer";
  readonly request: number;
  readonly answer: Answer;
}

export type Answer =
  | { readonly kind: "appended"; readonly appended: Appended }
  | { readonly kind: "event"; readonly event: EventRecord | null }
  /** `more`: the range goes on behind them; of `follow`, the transaction of the last one does. */
  | { readonly kind: "events"; readonly events: readonly EventRecord[]; readonly more: boolean }
  | { readonly kind: "number"; readonly number: number | null }
  | { readonly kind: "numbers"; readonly numbers: readonly number[] }
  /** The node that serves in this term, null while none is known. */
  | { readonly kind: "leader"; readonly term: number; readonly leader: number | null }
  | { readonly kind: "failed"; readonly failure: Failure };

/** What the nodes say themselves. Of these only `unknown` leaves open whether something was appended. */
export type ClusterFailure =
  | { readonly code: "notLeader"; readonly term: number; readonly leader: number | null }
  | { readonly code: "insufficientReplicas" | "clusterDown" | "tryAgain" | "unknown"; readonly message: string };

/** An error of core/errors.ts, with its facts. */
export type StoreFailure =
  | { readonly code: "invalidArgument" | "diskFull"; readonly message: string }
  | {
    readonly code: "limitExceeded";
    readonly message: string;
    readonly what: string;
    readonly found: number;
    readonly max: number;
  }
  | {
    readonly code: "wrongExpectedVersion";
    readonly streamId: string;
    readonly partitionKey: string;
    readonly expected: ExpectedVersion;
    readonly current: number | null;
  }
  | { readonly code: "duplicateEventId"; readonly message: string; readonly eventId: string }
  | { readonly code: "noSuchPartition"; readonly partition: number; readonly partitionCount: number }
  | { readonly code: "damaged"; readonly file: string; readonly offset: number; readonly reason: string }
  | { readonly code: "storeClosed" };

export type Failure = ClusterFailure | StoreFailure;

const CLUSTER_ERRORS = {
  insufficientReplicas: TooFewReplicas,
  clusterDown: NoReplica,
  tryAgain: TryAgain,
  unknown: OutcomeUnknown,
} as const;

/** A caller's error as it goes to another node; null for one that no caller may catch. */
export function failureOf(error: unknown): Failure | null {
  if (error instanceof NotLeader) return { code: "notLeader", term: error.term, leader: error.leader };
  for (const code of ["insufficientReplicas", "clusterDown", "tryAgain", "unknown"] as const) {
    if (error instanceof CLUSTER_ERRORS[code]) return { code, message: error.message };
  }
  if (error instanceof WrongExpectedVersion) {
    const { streamId, partitionKey, expected, current } = error;
    return { code: "wrongExpectedVersion", streamId, partitionKey, expected, current };
  }
  if (error instanceof DuplicateEventId) {
    return { code: "duplicateEventId", message: error.message, eventId: error.eventId };
  }
  if (error instanceof LimitExceeded) {
    const { message, what, found, max } = error;
    return { code: "limitExceeded", message, what, found, max };
  }
  if (error instanceof InvalidArgument) return { code: "invalidArgument", message: error.message };
  if (error instanceof DiskFull) return { code: "diskFull", message: error.message };
  if (error instanceof NoSuchPartition) {
    return { code: "noSuchPartition", partition: error.partition, partitionCount: error.partitionCount };
  }
  if (error instanceof Damaged) {
    return { code: "damaged", file: error.file, offset: error.offset, reason: error.reason };
  }
  return error instanceof StoreClosed ? { code: "storeClosed" } : null;
}

/** The error that it was at the other node. That one does not lead is for the router to know, and no error of a caller. */
export function errorOf(failure: Exclude<Failure, { code: "notLeader" }>): Error {
  switch (failure.code) {
    case "insufficientReplicas":
    case "clusterDown":
    case "tryAgain":
    case "unknown":
      return new CLUSTER_ERRORS[failure.code](failure.message);
    case "invalidArgument":
      return new InvalidArgument(failure.message);
    case "diskFull":
      return new DiskFull(failure.message);
    case "limitExceeded":
      return worded(new LimitExceeded(failure.what, failure.found, failure.max), failure.message);
    case "wrongExpectedVersion":
      return new WrongExpectedVersion(failure.streamId, failure.partitionKey, failure.expected, failure.current);
    case "duplicateEventId":
      return worded(new DuplicateEventId(failure.eventId, ""), failure.message);
    case "noSuchPartition":
      return new NoSuchPartition(failure.partition, failure.partitionCount);
    case "damaged":
      return new Damaged(failure.file, failure.offset, failure.reason);
    case "storeClosed":
      return new StoreClosed();
  }
}

/** Some say more than their fields. */
function worded(error: Error, message: string): Error {
  error.message = message;
  return error;
}

/** Bytes that are no message. A peer that sends them is not one of ours, or has a bug: its stream is of no use any more. */
export class MessageRefused extends Error {
  override readonly name = "MessageRefused";
  /** `at`: how many bytes of the message had been read. */
  constructor(readonly at: number, readonly why: string) {
    super(`A message is refused at byte ${at}: ${why}`);
  }
}

// ---- Out ---------------------------------------------------------------------------------------------------------------

const KIND = {
  hello: 1,
  beacon: 2,
  heartbeats: 3,
  forwardAppend: 8,
  forwardRead: 9,
  answer: 10,
  append: 16,
  ack: 17,
  nack: 18,
  heartbeat: 19,
  heartbeatReply: 20,
  preVote: 21,
  preVoteReply: 22,
  nudge: 23,
  newTerm: 24,
  promise: 25,
  stale: 26,
  fetch: 27,
  chunk: 28,
  transferTerm: 29,
  commitNote: 30,
  recoverRequest: 31,
  recoverChallenge: 32,
  recoverReply: 33,
  quarantine: 34,
} as const;

const QUERY = {
  event: 1,
  stream: 2,
  partition: 3,
  streamVersion: 4,
  partitionSequence: 5,
  readEnd: 6,
  leader: 7,
  heads: 8,
  follow: 9,
} as const;
const POSITIONS = { partitions: 1, streams: 2 } as const;
const ANSWER = { appended: 1, event: 2, events: 3, number: 4, failed: 5, numbers: 6, leader: 7 } as const;
const FAILURES = [
  "notLeader",
  "insufficientReplicas",
  "clusterDown",
  "tryAgain",
  "unknown",
  "invalidArgument",
  "diskFull",
  "limitExceeded",
  "wrongExpectedVersion",
  "duplicateEventId",
  "noSuchPartition",
  "damaged",
  "storeClosed",
] as const;
const EXPECTED = ["any", "exists", "empty"] as const;
const EXPECTED_NUMBER = 3;

const EVENT_ID = 1;
const EVENT_TIMESTAMP = 2;
const EVENT_FLAGS = EVENT_ID | EVENT_TIMESTAMP;

const utf8 = new TextEncoder();
const FIRST_BYTES = 16 * 1024;
/** As much as a follower's window. Memory beyond it, for a large entry, is given back. */
const KEPT_BYTES_MAX = 4 * 1024 * 1024;

/** Puts messages one after the other into one piece of memory, which is used again: a batch of them is one write. */
export class MessageEncoder {
  readonly #shape: ClusterShape;
  readonly #hash: Uint8Array;
  #bytes = new Uint8Array(FIRST_BYTES);
  #at = 0;

  /** @throws {RangeError} no cluster can have this shape */
  constructor(shape: ClusterShape) {
    checkShape(shape);
    this.#shape = shape;
    this.#hash = hashBytes(shape);
  }

  /** Of the messages that wait. */
  get byteLength(): number {
    return this.#at;
  }

  /** All that was added, to be written now: it is overwritten by what is added next. */
  take(): Uint8Array {
    const bytes = this.#bytes.subarray(0, this.#at);
    this.#at = 0;
    if (this.#bytes.length > KEPT_BYTES_MAX) this.#bytes = new Uint8Array(FIRST_BYTES);
    return bytes;
  }

  /**
   * Adds a message, or nothing at all.
   * @throws {LimitExceeded} it is larger than a message may be
   * @throws {InvalidArgument} an id or key in it is no UUID
   * @throws {RangeError} | {TypeError} a bug: a number that is none, entries that are no frames
   */
  add(message: NodeMessage): void {
    const start = this.#at;
    try {
      this.#room(MESSAGE_HEADER_BYTES);
      const kind = message.kind === "replica" ? message.message.kind : message.kind;
      this.#bytes[start + 4] = PROTOCOL_VERSION;
      this.#bytes[start + 5] = KIND[kind];
      this.#bytes.set(this.#hash, start + 6);
      this.#at = start + MESSAGE_HEADER_BYTES;
      this.#body(message);
      const length = this.#at - start;
      if (length > MESSAGE_BYTES_MAX) throw new LimitExceeded("A message to a node", length, MESSAGE_BYTES_MAX);
      this.#at = start;
      this.#word(length - 4);
      this.#at = start + length;
    } catch (error) {
      this.#at = start;
      throw error;
    }
  }

  #body(message: NodeMessage): void {
    switch (message.kind) {
      case "hello":
        this.#number(message.node);
        this.#number(message.boot);
        return this.#text(configText(this.#shape));
      case "beacon":
        return this.#beacon(message);
      case "heartbeats": {
        const { beats } = message;
        const boot = beats.length === 0 ? 0 : beats[0]!.from.boot;
        this.#number(boot);
        this.#number(beats.length);
        for (const { bucket, from, message } of beats) {
          if (from.boot !== boot) throw new RangeError("the heartbeats of two processes in one message");
          this.#number(bucket);
          this.#number(from.slot);
          this.#number(from.dataId);
          this.#byte(KIND[message.kind]);
          this.#fields(message);
        }
        return;
      }
      case "replica": {
        const { bucket, from } = message;
        this.#number(bucket);
        this.#number(from.slot);
        this.#number(from.dataId);
        this.#number(from.boot);
        return this.#fields(message.message);
      }
      case "forwardAppend":
        this.#request(message);
        this.#number(message.term);
        this.#number(message.run);
        return this.#transaction(message.transaction);
      case "forwardRead":
        this.#request(message);
        this.#optional(message.atLeast);
        this.#flag(message.fromLeader);
        return this.#query(message.query);
      case "answer":
        this.#number(message.request);
        return this.#answer(message.answer);
    }
  }

  /** A message of consensus/message.ts without its kind. */
  #fields(message: Message): void {
    switch (message.kind) {
      case "append":
        this.#number(message.term);
        this.#number(message.from);
        this.#number(message.prevTerm);
        this.#chain(message.prevChain);
        this.#number(message.commitEnd);
        this.#flag(message.bulk);
        return this.#entries(message.entries);
      case "ack":
        this.#number(message.term);
        this.#number(message.end);
        return this.#flag(message.recovering);
      case "nack":
        this.#number(message.term);
        this.#number(message.from);
        this.#number(message.end);
        this.#number(message.endTerm);
        this.#number(message.endTermFrom);
        return this.#number(message.commitEnd);
      case "heartbeat":
        this.#number(message.term);
        this.#number(message.round);
        this.#number(message.end);
        this.#chain(message.chain);
        this.#number(message.commitEnd);
        this.#bySlot(message.heldEnds.length);
        for (const end of message.heldEnds) this.#number(end);
        return;
      case "heartbeatReply":
        this.#number(message.term);
        this.#number(message.round);
        this.#number(message.end);
        this.#number(message.verifiedEnd);
        this.#number(message.durableEnd);
        return this.#flag(message.recovering);
      case "preVote":
        return this.#number(message.wantedTerm);
      case "preVoteReply":
        this.#number(message.wantedTerm);
        this.#flag(message.granted);
        return this.#number(message.term);
      case "nudge":
        return this.#number(message.wantedTerm);
      case "newTerm":
        this.#number(message.term);
        return this.#number(message.end);
      case "promise":
        this.#number(message.term);
        this.#number(message.lastTerm);
        this.#number(message.end);
        this.#chain(message.chain);
        this.#number(message.commitEnd);
        this.#number(message.terms.length);
        for (const { term, from } of message.terms) {
          this.#number(term);
          this.#number(from);
        }
        this.#bySlot(message.dataIds.length);
        for (const dataId of message.dataIds) this.#number(dataId + 1); // There may be a -1.
        return;
      case "stale":
        return this.#number(message.term);
      case "fetch":
        this.#number(message.term);
        return this.#number(message.from);
      case "chunk":
        this.#number(message.term);
        this.#number(message.from);
        return this.#entries(message.entries);
      case "transferTerm":
        this.#number(message.term);
        return this.#number(message.targetTerm);
      case "commitNote":
        this.#number(message.end);
        return this.#chain(message.chain);
      case "recoverRequest":
        this.#number(message.nonce);
        return this.#number(message.challenge);
      case "recoverChallenge":
        this.#number(message.dataId);
        this.#number(message.nonce);
        return this.#number(message.challenge);
      case "recoverReply":
        this.#number(message.nonce);
        this.#number(message.term);
        this.#flag(message.serving);
        this.#number(message.end);
        return this.#number(message.lastTerm);
      case "quarantine":
        this.#number(message.dataId);
        return this.#flag(message.why === "lost");
    }
  }

  #entries(entries: Entries): void {
    if (!(entries instanceof FrameEntries)) throw new TypeError("entries for another node must be frames");
    this.#counted(entries.frames);
  }

  #beacon({ node, boot, number, addresses, buckets }: Beacon): void {
    this.#number(node);
    this.#number(boot);
    this.#number(number);
    this.#number(addresses.length);
    for (const address of addresses) this.#text(address);
    this.#number(buckets.length);
    for (const { bucket, dataId, term, leader, commitEnd, chain } of buckets) {
      this.#number(bucket);
      this.#number(dataId);
      this.#number(term);
      this.#optional(leader);
      this.#number(commitEnd);
      this.#chain(chain);
    }
  }

  #request({ request, hopsLeft, remainingMs }: Request): void {
    this.#number(request);
    this.#number(hopsLeft);
    this.#number(remainingMs);
  }

  #transaction({ partitionKey, events }: Transaction): void {
    this.#flag(partitionKey !== undefined);
    if (partitionKey !== undefined) this.#uuid(partitionKey, "partition key");
    this.#number(events.length);
    for (const event of events) {
      const { eventId, timestamp } = event;
      this.#byte((eventId === undefined ? 0 : EVENT_ID) | (timestamp === undefined ? 0 : EVENT_TIMESTAMP));
      if (eventId !== undefined) this.#uuid(eventId, "event id");
      this.#expected(event.expectedVersion ?? "any");
      if (timestamp !== undefined) this.#number(timestamp);
      this.#shortText(event.streamId);
      this.#shortText(event.name);
      this.#content(event.metadata);
      this.#content(event.payload);
    }
  }

  #query(query: Query): void {
    this.#byte(QUERY[query.kind]);
    switch (query.kind) {
      case "event":
        return this.#uuid(query.eventId, "event id");
      case "stream":
        this.#stream(query);
        return this.#range(query);
      case "partition":
        this.#number(query.partition);
        return this.#range(query);
      case "streamVersion":
        return this.#stream(query);
      case "partitionSequence":
        return this.#number(query.partition);
      case "readEnd":
      case "leader":
        return this.#number(query.bucket);
      case "heads":
        return this.#positions(query.positions);
      case "follow":
        this.#positions(query.positions);
        this.#number(query.waitMs);
        this.#number(query.limit);
        this.#flag(query.within !== null);
        if (query.within !== null) this.#uuid(query.within, "transaction id");
        return;
    }
  }

  #positions(positions: Positions): void {
    if ("partitions" in positions) {
      this.#byte(POSITIONS.partitions);
      this.#number(positions.partitions.length);
      for (const { partition, next } of positions.partitions) {
        this.#number(partition);
        this.#number(next);
      }
      return;
    }
    this.#byte(POSITIONS.streams);
    this.#number(positions.streams.length);
    for (const { streamId, partitionKey, next } of positions.streams) {
      this.#shortText(streamId);
      this.#uuid(partitionKey, "partition key");
      this.#number(next);
    }
  }

  #stream({ streamId, partitionKey }: { streamId: string; partitionKey: string | null }): void {
    this.#shortText(streamId);
    this.#flag(partitionKey !== null);
    if (partitionKey !== null) this.#uuid(partitionKey, "partition key");
  }

  #range({ from, end, backward, limit }: Range): void {
    this.#number(from);
    this.#optional(end);
    this.#flag(backward);
    this.#number(limit);
  }

  #answer(answer: Answer): void {
    this.#byte(ANSWER[answer.kind]);
    switch (answer.kind) {
      case "appended": {
        const { partitionKey, partition, firstSequence, versions, events } = answer.appended;
        this.#put(partitionKey);
        this.#number(partition);
        this.#number(firstSequence);
        this.#number(events.length);
        for (let i = 0; i < events.length; i++) {
          const { eventId, streamId, timestamp } = events[i]!;
          this.#put(eventId);
          this.#shortText(streamId);
          this.#number(versions[i]!);
          this.#number(timestamp);
        }
        return;
      }
      case "event":
        this.#flag(answer.event !== null);
        if (answer.event !== null) this.#event(answer.event);
        return;
      case "events":
        this.#flag(answer.more);
        this.#number(answer.events.length);
        for (const event of answer.events) this.#event(event);
        return;
      case "number":
        return this.#optional(answer.number);
      case "numbers":
        this.#number(answer.numbers.length);
        for (const number of answer.numbers) this.#number(number);
        return;
      case "leader":
        this.#number(answer.term);
        return this.#optional(answer.leader);
      case "failed":
        return this.#failure(answer.failure);
    }
  }

  #event(event: EventRecord): void {
    this.#uuid(event.eventId, "event id");
    this.#uuid(event.partitionKey, "partition key");
    this.#uuid(event.transactionId, "transaction id");
    this.#number(event.partition);
    this.#number(event.sequence);
    this.#number(event.version);
    this.#number(event.timestamp);
    this.#shortText(event.streamId);
    this.#shortText(event.name);
    this.#counted(event.metadata);
    this.#counted(event.payload);
  }

  #failure(failure: Failure): void {
    this.#byte(1 + FAILURES.indexOf(failure.code));
    switch (failure.code) {
      case "notLeader":
        this.#number(failure.term);
        return this.#optional(failure.leader);
      case "limitExceeded":
        this.#text(failure.message);
        this.#text(failure.what);
        this.#number(failure.found);
        return this.#number(failure.max);
      case "wrongExpectedVersion":
        this.#shortText(failure.streamId);
        this.#uuid(failure.partitionKey, "partition key");
        this.#expected(failure.expected);
        return this.#optional(failure.current);
      case "duplicateEventId":
        this.#text(failure.message);
        return this.#uuid(failure.eventId, "event id");
      case "noSuchPartition":
        this.#number(failure.partition);
        return this.#number(failure.partitionCount);
      case "damaged":
        this.#text(failure.file);
        this.#number(failure.offset);
        return this.#text(failure.reason);
      case "storeClosed":
        return;
      default:
        return this.#text(failure.message);
    }
  }

  #expected(expected: ExpectedVersion): void {
    if (typeof expected !== "number") return this.#byte(EXPECTED.indexOf(expected));
    this.#byte(EXPECTED_NUMBER);
    this.#number(expected);
  }

  #optional(value: number | null): void {
    this.#flag(value !== null);
    if (value !== null) this.#number(value);
  }

  #bySlot(count: number): void {
    const { replicationFactor } = this.#shape;
    if (count !== replicationFactor) throw new RangeError(`${count} numbers for ${replicationFactor} slots`);
  }

  #uuid(uuid: string | Uint8Array, what: string): void {
    this.#put(requireUuid(uuid, what));
  }

  /** What has a limit that the receiver knows: it is not cut. */
  #shortText(text: string): void {
    this.#counted(utf8.encode(text));
  }

  #text(text: string): void {
    this.#shortText(cut(text));
  }

  #content(content: Uint8Array | string | undefined): void {
    if (content === undefined) this.#byte(0);
    else this.#counted(typeof content === "string" ? utf8.encode(content) : content);
  }

  #counted(bytes: Uint8Array): void {
    this.#number(bytes.length);
    this.#put(bytes);
  }

  #put(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #chain({ low, high }: Chain): void {
    this.#word(low);
    this.#word(high);
  }

  #word(word: number): void {
    this.#room(4);
    for (let i = 0; i < 4; i++) this.#bytes[this.#at++] = word >>> 8 * i;
  }

  #flag(flag: boolean): void {
    this.#byte(flag ? 1 : 0);
  }

  #byte(byte: number): void {
    this.#room(1);
    this.#bytes[this.#at++] = byte;
  }

  #number(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`a message cannot have the number ${value}`);
    this.#room(VARINT_BYTES_MAX);
    while (value >= 0x80) {
      this.#bytes[this.#at++] = value % 0x80 | 0x80;
      value = Math.floor(value / 0x80);
    }
    this.#bytes[this.#at++] = value;
  }

  #room(bytes: number): void {
    const needed = this.#at + bytes;
    if (needed <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(needed, 2 * this.#bytes.length));
    larger.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = larger;
  }
}

// ---- In ----------------------------------------------------------------------------------------------------------------

const VARINT_BYTES_MAX = 8;
const EMPTY = new Uint8Array(0);

/**
 * One past the message that begins at `start` of `bytes`, which hold up to `end` what came over a stream; null while it is
 * not all there.
 * @throws {MessageRefused} there is no message of this length
 */
export function messageEnd(bytes: Uint8Array, start: number, end: number): number | null {
  if (end - start < 4) return null;
  const length = wordAt(bytes, start);
  if (4 + length < MESSAGE_HEADER_BYTES) throw new MessageRefused(0, `a message of ${length} bytes has no header`);
  if (4 + length > MESSAGE_BYTES_MAX) {
    throw new MessageRefused(0, `a message of ${length} bytes: the limit is ${MESSAGE_BYTES_MAX}`);
  }
  return end - start < 4 + length ? null : start + 4 + length;
}

/** Reads what other nodes of the cluster sent to this one. */
export class MessageDecoder {
  readonly #shape: ClusterShape;
  readonly #node: number;
  readonly #hash: Uint8Array;
  #bytes: Uint8Array = EMPTY;
  #start = 0;
  #at = 0;
  #end = 0;

  /** `node`: this one. @throws {RangeError} no cluster can have this shape */
  constructor(shape: ClusterShape, node: number) {
    checkShape(shape);
    this.#shape = shape;
    this.#node = node;
    this.#hash = hashBytes(shape);
  }

  /** The message that `bytes` hold from `start` to `end`. @throws {MessageRefused} they are none */
  decode(bytes: Uint8Array, start = 0, end = bytes.length): NodeMessage {
    this.#bytes = bytes;
    this.#start = this.#at = start;
    this.#end = end;
    try {
      const found = messageEnd(bytes, start, end);
      if (found !== end) this.#refuse(found === null ? "it is cut off" : "another one follows, or something else");
      const kind = this.#header();
      const message = this.#body(kind);
      if (this.#at !== end) this.#refuse(`${end - this.#at} bytes are left after it`);
      return message;
    } finally {
      this.#bytes = EMPTY; // Nobody else holds on to them because of this.
    }
  }

  #header(): number {
    this.#at += 4;
    const version = this.#byte();
    if (version !== PROTOCOL_VERSION) {
      this.#refuse(`the node speaks version ${version} of this protocol: here it is ${PROTOCOL_VERSION}`);
    }
    const kind = this.#byte();
    const hash = this.#take(this.#hash.length, "the config hash");
    if (this.#hash.some((byte, i) => hash[i] !== byte)) {
      this.#refuse(kind === KIND.hello ? this.#difference() : "it is of another cluster, or of other settings");
    }
    return kind;
  }

  /** For the operator: in what two nodes differ. */
  #difference(): string {
    this.#number("node");
    this.#number("boot");
    const here = configText(this.#shape).split("\n");
    const there = this.#text("settings").split("\n");
    const differ = here.filter((line) => !there.includes(line));
    const other = there.filter((line) => !here.includes(line));
    return `the node has other settings: ${other.join(", ")}; here it is ${differ.join(", ")}`;
  }

  #body(kind: number): NodeMessage {
    switch (kind) {
      case KIND.hello: {
        const hello: Hello = { kind: "hello", node: this.#nodeNumber(), boot: this.#id("boot") };
        if (this.#text("settings") !== cut(configText(this.#shape))) this.#refuse("its settings do not have its hash");
        return hello;
      }
      case KIND.beacon:
        return this.#beacon();
      case KIND.heartbeats: {
        const boot = this.#number("boot", ID_MAX);
        const count = this.#count(4 + 4, "heartbeats");
        if (count > 0 !== boot > 0) this.#refuse("heartbeats of no process");
        const beats: Beat[] = [];
        for (let i = 0; i < count; i++) {
          const bucket = this.#bucket();
          const from = { slot: this.#slot(bucket), dataId: this.#id("data id"), boot };
          const kind = this.#byte();
          if (kind !== KIND.heartbeat && kind !== KIND.heartbeatReply) this.#refuse(`kind ${kind} is no heartbeat`);
          beats.push({ bucket, from, message: this.#fields(kind, bucket) as Heartbeat | HeartbeatReply });
        }
        return { kind: "heartbeats", beats };
      }
      case KIND.forwardAppend: {
        const request = this.#request();
        const term = this.#number("term");
        const run = this.#number("run");
        return { kind: "forwardAppend", ...request, term, run, transaction: this.#transaction() };
      }
      case KIND.forwardRead: {
        const request = this.#request();
        const atLeast = this.#optional("at least");
        const fromLeader = this.#flag();
        return { kind: "forwardRead", ...request, atLeast, fromLeader, query: this.#query() };
      }
      case KIND.answer:
        return { kind: "answer", request: this.#number("request"), answer: this.#answer() };
    }
    if (kind < KIND.append || kind > KIND.quarantine) this.#refuse(`there is no kind ${kind}`);
    const bucket = this.#bucket();
    const from = { slot: this.#slot(bucket), dataId: this.#id("data id"), boot: this.#id("boot") };
    return { kind: "replica", bucket, from, message: this.#fields(kind, bucket) };
  }

  #fields(kind: number, bucket: number): Message {
    switch (kind) {
      case KIND.append: {
        const term = this.#number("term");
        const from = this.#number("from");
        const prevTerm = this.#number("previous term");
        if (from === 0 && prevTerm !== 0) this.#refuse(`an entry of term ${prevTerm} before the first`);
        const prevChain = this.#chain();
        const commitEnd = this.#number("commit end");
        const bulk = this.#flag();
        const entries = this.#entries(bucket, from, prevChain, prevTerm, term);
        return { kind: "append", term, from, prevTerm, prevChain, entries, commitEnd, bulk };
      }
      case KIND.ack:
        return { kind: "ack", term: this.#number("term"), end: this.#number("end"), recovering: this.#flag() };
      case KIND.nack:
        return {
          kind: "nack",
          term: this.#number("term"),
          from: this.#number("from"),
          end: this.#number("end"),
          endTerm: this.#number("term at the end"),
          endTermFrom: this.#number("start of the term at the end"),
          commitEnd: this.#number("commit end"),
        };
      case KIND.heartbeat:
        return {
          kind: "heartbeat",
          term: this.#number("term"),
          round: this.#number("round"),
          end: this.#number("end"),
          chain: this.#chain(),
          commitEnd: this.#number("commit end"),
          heldEnds: this.#bySlot("held end"),
        };
      case KIND.heartbeatReply:
        return {
          kind: "heartbeatReply",
          term: this.#number("term"),
          round: this.#number("round"),
          end: this.#number("end"),
          verifiedEnd: this.#number("verified end"),
          durableEnd: this.#number("durable end"),
          recovering: this.#flag(),
        };
      case KIND.preVote:
        return { kind: "preVote", wantedTerm: this.#number("wanted term") };
      case KIND.preVoteReply:
        return {
          kind: "preVoteReply",
          wantedTerm: this.#number("wanted term"),
          granted: this.#flag(),
          term: this.#number("term"),
        };
      case KIND.nudge:
        return { kind: "nudge", wantedTerm: this.#number("wanted term") };
      case KIND.newTerm:
        return { kind: "newTerm", term: this.#number("term"), end: this.#number("end") };
      case KIND.promise:
        return {
          kind: "promise",
          term: this.#number("term"),
          lastTerm: this.#number("last term"),
          end: this.#number("end"),
          chain: this.#chain(),
          commitEnd: this.#number("commit end"),
          terms: this.#terms(),
          dataIds: this.#bySlot("data id plus 1", ID_MAX + 1).map((dataId) => dataId - 1),
        };
      case KIND.stale:
        return { kind: "stale", term: this.#number("term") };
      case KIND.fetch:
        return { kind: "fetch", term: this.#number("term"), from: this.#number("from") };
      case KIND.chunk: {
        const term = this.#number("term");
        const from = this.#number("from");
        return { kind: "chunk", term, from, entries: this.#entries(bucket, from, null, 0, term) };
      }
      case KIND.transferTerm:
        return { kind: "transferTerm", term: this.#number("term"), targetTerm: this.#number("target term") };
      case KIND.commitNote:
        return { kind: "commitNote", end: this.#number("end"), chain: this.#chain() };
      case KIND.recoverRequest:
        return { kind: "recoverRequest", nonce: this.#number("nonce"), challenge: this.#number("challenge") };
      case KIND.recoverChallenge:
        return {
          kind: "recoverChallenge",
          dataId: this.#id("data id"),
          nonce: this.#number("nonce"),
          challenge: this.#number("challenge"),
        };
      case KIND.recoverReply:
        return {
          kind: "recoverReply",
          nonce: this.#number("nonce"),
          term: this.#number("term"),
          serving: this.#flag(),
          end: this.#number("end"),
          lastTerm: this.#number("last term"),
        };
      case KIND.quarantine:
        return { kind: "quarantine", dataId: this.#id("data id"), why: this.#flag() ? "lost" : "unknown" };
      default:
        this.#refuse(`there is no kind ${kind}`);
    }
  }

  #entries(bucket: number, from: number, prevChain: Chain | null, prevTerm: number, term: number): FrameEntries {
    const frames = this.#counted("entries", MESSAGE_BYTES_MAX);
    if (!Number.isSafeInteger(from + frames.length)) this.#refuse(`no log has ${from} entries`);
    const { bucketCount } = this.#shape;
    const entries = FrameEntries.verify(frames, { bucket, bucketCount, from, prevChain, prevTerm, term });
    return typeof entries === "string" ? this.#refuse(entries) : entries;
  }

  #terms(): TermStart[] {
    const count = this.#count(2, "terms", TERMS_MAX);
    const terms: TermStart[] = [];
    let last: TermStart | null = null;
    for (let i = 0; i < count; i++) {
      const start: TermStart = { term: this.#number("term"), from: this.#number("start of a term") };
      if (last !== null && (start.term <= last.term || start.from <= last.from)) {
        this.#refuse(`term ${start.term} from ${start.from} after term ${last.term} from ${last.from}`);
      }
      terms.push(last = start);
    }
    return terms;
  }

  #beacon(): Beacon {
    const node = this.#nodeNumber();
    const boot = this.#id("boot");
    const number = this.#number("number of the beacon");
    const addresses: string[] = [];
    for (let left = this.#count(1, "addresses", ADDRESSES_MAX); left > 0; left--) addresses.push(this.#text("address"));
    const buckets: BucketState[] = [];
    for (let left = this.#count(5 + 8, "buckets", this.#shape.bucketCount); left > 0; left--) {
      const bucket = this.#bucket();
      if (slotOf(bucket, node, this.#shape) === null) this.#refuse(`node ${node} has no replica of bucket ${bucket}`);
      const last = buckets.at(-1);
      if (last !== undefined && bucket <= last.bucket) this.#refuse(`bucket ${bucket} after bucket ${last.bucket}`);
      buckets.push({
        bucket,
        dataId: this.#id("data id"),
        term: this.#number("term"),
        leader: this.#flag() ? this.#nodeNumber() : null,
        commitEnd: this.#number("commit end"),
        chain: this.#chain(),
      });
    }
    return { kind: "beacon", node, boot, number, addresses, buckets };
  }

  #request(): Request {
    return {
      request: this.#number("request"),
      hopsLeft: this.#number("hops left", HOPS_MAX),
      remainingMs: this.#number("remaining ms", REMAINING_MS_MAX),
    };
  }

  #transaction(): Transaction {
    const partitionKey = this.#flag() ? this.#uuid("partition key") : undefined;
    const events: NewEvent[] = [];
    for (let left = this.#count(6, "events"); left > 0; left--) {
      const flags = this.#byte();
      if (flags & ~EVENT_FLAGS) this.#refuse(`an event has unknown flags ${flags}`);
      const eventId = flags & EVENT_ID ? this.#uuid("event id") : undefined;
      const expectedVersion = this.#expected();
      const timestamp = flags & EVENT_TIMESTAMP ? this.#number("timestamp") : undefined;
      const event: NewEvent = {
        streamId: this.#text("stream id", STREAM_ID_BYTES_MAX),
        name: this.#text("event name", EVENT_NAME_BYTES_MAX),
        expectedVersion,
        metadata: this.#counted("metadata", MESSAGE_BYTES_MAX),
        payload: this.#counted("payload", MESSAGE_BYTES_MAX),
      };
      if (eventId !== undefined) event.eventId = eventId;
      if (timestamp !== undefined) event.timestamp = timestamp;
      events.push(event);
    }
    return partitionKey === undefined ? { events } : { partitionKey, events };
  }

  #query(): Query {
    const kind = this.#byte();
    switch (kind) {
      case QUERY.event:
        return { kind: "event", eventId: this.#uuid("event id") };
      case QUERY.stream:
        return { kind: "stream", ...this.#stream(), ...this.#range() };
      case QUERY.partition:
        return { kind: "partition", partition: this.#partition(), ...this.#range() };
      case QUERY.streamVersion:
        return { kind: "streamVersion", ...this.#stream() };
      case QUERY.partitionSequence:
        return { kind: "partitionSequence", partition: this.#partition() };
      case QUERY.readEnd:
        return { kind: "readEnd", bucket: this.#bucket() };
      case QUERY.leader:
        return { kind: "leader", bucket: this.#bucket() };
      case QUERY.heads:
        return { kind: "heads", positions: this.#positions() };
      case QUERY.follow:
        return {
          kind: "follow",
          positions: this.#positions(),
          waitMs: this.#number("ms to wait", FOLLOW_MS_MAX),
          limit: this.#number("limit", FOLLOW_EVENTS_MAX),
          within: this.#flag() ? this.#uuid("transaction id") : null,
        };
      default:
        this.#refuse(`there is no query ${kind}`);
    }
  }

  #positions(): Positions {
    const kind = this.#byte();
    if (kind === POSITIONS.partitions) {
      const partitions: PartitionPosition[] = [];
      for (let left = this.#count(2, "partitions", this.#shape.partitionCount); left > 0; left--) {
        partitions.push({ partition: this.#partition(), next: this.#number("next sequence") });
      }
      return { partitions };
    }
    if (kind !== POSITIONS.streams) this.#refuse(`there are no positions ${kind}`);
    const streams: StreamPosition[] = [];
    for (let left = this.#count(1 + 16 + 1, "streams"); left > 0; left--) {
      streams.push({
        streamId: this.#text("stream id", STREAM_ID_BYTES_MAX),
        partitionKey: this.#uuid("partition key"),
        next: this.#number("next version"),
      });
    }
    return { streams };
  }

  #stream(): { streamId: string; partitionKey: string | null } {
    const streamId = this.#text("stream id", STREAM_ID_BYTES_MAX);
    return { streamId, partitionKey: this.#flag() ? this.#uuid("partition key") : null };
  }

  #range(): Range {
    return {
      from: this.#number("from"),
      end: this.#optional("end"),
      backward: this.#flag(),
      limit: this.#number("limit"),
    };
  }

  #answer(): Answer {
    const kind = this.#byte();
    switch (kind) {
      case ANSWER.appended:
        return { kind: "appended", appended: this.#appended() };
      case ANSWER.event:
        return { kind: "event", event: this.#flag() ? this.#event() : null };
      case ANSWER.events: {
        const more = this.#flag();
        const events: EventRecord[] = [];
        for (let left = this.#count(3 * 16 + 8, "events"); left > 0; left--) events.push(this.#event());
        return { kind: "events", events, more };
      }
      case ANSWER.number:
        return { kind: "number", number: this.#optional("number") };
      case ANSWER.numbers: {
        const numbers: number[] = [];
        for (let left = this.#count(1, "numbers"); left > 0; left--) numbers.push(this.#number("number"));
        return { kind: "numbers", numbers };
      }
      case ANSWER.leader:
        return { kind: "leader", term: this.#number("term"), leader: this.#flag() ? this.#nodeNumber() : null };
      case ANSWER.failed:
        return { kind: "failed", failure: this.#failure() };
      default:
        this.#refuse(`there is no answer ${kind}`);
    }
  }

  #appended(): Appended {
    const partitionKey = this.#take(16, "partition key");
    const partition = this.#partition();
    const firstSequence = this.#number("first sequence");
    const versions: number[] = [];
    const events: Appended["events"][number][] = [];
    for (let left = this.#count(16 + 3, "events"); left > 0; left--) {
      const eventId = this.#take(16, "event id");
      const streamId = this.#text("stream id", STREAM_ID_BYTES_MAX);
      versions.push(this.#number("version"));
      events.push({ eventId, streamId, timestamp: this.#number("timestamp") });
    }
    return { partitionKey, partition, firstSequence, versions, events };
  }

  #event(): EventRecord {
    return {
      eventId: this.#uuid("event id"),
      partitionKey: this.#uuid("partition key"),
      transactionId: this.#uuid("transaction id"),
      partition: this.#partition(),
      sequence: this.#number("sequence"),
      version: this.#number("version"),
      timestamp: this.#number("timestamp"),
      streamId: this.#text("stream id", STREAM_ID_BYTES_MAX),
      name: this.#text("event name", EVENT_NAME_BYTES_MAX),
      metadata: this.#counted("metadata", MESSAGE_BYTES_MAX),
      payload: this.#counted("payload", MESSAGE_BYTES_MAX),
    };
  }

  #failure(): Failure {
    const number = this.#byte();
    const code = FAILURES[number - 1];
    switch (code) {
      case undefined:
        return this.#refuse(`there is no failure ${number}`);
      case "notLeader":
        return { code, term: this.#number("term"), leader: this.#flag() ? this.#nodeNumber() : null };
      case "limitExceeded":
        return {
          code,
          message: this.#text("message"),
          what: this.#text("what"),
          found: this.#number("found"),
          max: this.#number("max"),
        };
      case "wrongExpectedVersion":
        return {
          code,
          streamId: this.#text("stream id", STREAM_ID_BYTES_MAX),
          partitionKey: this.#uuid("partition key"),
          expected: this.#expected(),
          current: this.#optional("current version"),
        };
      case "duplicateEventId":
        return { code, message: this.#text("message"), eventId: this.#uuid("event id") };
      case "noSuchPartition":
        return { code, partition: this.#number("partition"), partitionCount: this.#number("partitions") };
      case "damaged":
        return { code, file: this.#text("file"), offset: this.#number("offset"), reason: this.#text("reason") };
      case "storeClosed":
        return { code };
      default:
        return { code, message: this.#text("message") };
    }
  }

  #expected(): ExpectedVersion {
    const kind = this.#byte();
    if (kind === EXPECTED_NUMBER) return this.#number("expected version");
    return EXPECTED[kind] ?? this.#refuse(`there is no expected version of kind ${kind}`);
  }

  #optional(what: string): number | null {
    return this.#flag() ? this.#number(what) : null;
  }

  #bySlot(what: string, max?: number): number[] {
    const numbers = new Array<number>(this.#shape.replicationFactor);
    for (let i = 0; i < numbers.length; i++) numbers[i] = this.#number(what, max);
    return numbers;
  }

  #nodeNumber(): number {
    return this.#number("node", this.#shape.nodeCount - 1);
  }

  #bucket(): number {
    return this.#number("bucket", this.#shape.bucketCount - 1);
  }

  #partition(): number {
    return this.#number("partition", this.#shape.partitionCount - 1);
  }

  /** Of the sender: another replica of a bucket that this node has one of. */
  #slot(bucket: number): number {
    const slot = this.#number("slot", this.#shape.replicationFactor - 1);
    const own = slotOf(bucket, this.#node, this.#shape);
    if (own === null) this.#refuse(`it is for a replica of bucket ${bucket}, which is not here`);
    if (own === slot) this.#refuse(`it is from slot ${slot} of bucket ${bucket}, which is this node itself`);
    return slot;
  }

  #id(what: string): number {
    const id = this.#number(what, ID_MAX);
    return id === 0 ? this.#refuse(`the ${what} is 0`) : id;
  }

  #uuid(what: string): string {
    return formatUuid(this.#take(16, what));
  }

  #text(what: string, bytesMax = TEXT_BYTES_MAX): string {
    const { length } = this.#counted(what, bytesMax);
    let text;
    try {
      text = textOf(this.#bytes, this.#at - length, this.#at);
    } catch {
      return this.#refuse(`the ${what} is no UTF-8`);
    }
    return text.length > TEXT_LENGTH_MAX ? this.#refuse(`the ${what} has ${text.length} characters`) : text;
  }

  #counted(what: string, bytesMax: number): Uint8Array {
    return this.#take(this.#number(`length of the ${what}`, bytesMax), what);
  }

  #take(bytes: number, what: string): Uint8Array {
    if (bytes > this.#end - this.#at) {
      this.#refuse(`the ${what} should have ${bytes} bytes: ${this.#end - this.#at} are left`);
    }
    return this.#bytes.subarray(this.#at, this.#at += bytes);
  }

  /** How many follow of what has at least so many bytes each. */
  #count(bytesMin: number, what: string, max = Infinity): number {
    const count = this.#number(`count of ${what}`, max);
    if (count * bytesMin > this.#end - this.#at) {
      this.#refuse(`there are said to be ${count} ${what} in ${this.#end - this.#at} bytes`);
    }
    return count;
  }

  #chain(): Chain {
    if (this.#end - this.#at < 8) this.#refuse("a chain is cut off");
    const low = wordAt(this.#bytes, this.#at);
    const high = wordAt(this.#bytes, this.#at + 4);
    this.#at += 8;
    return { low, high };
  }

  #flag(): boolean {
    const byte = this.#byte();
    if (byte > 1) this.#refuse(`${byte} is neither yes nor no`);
    return byte === 1;
  }

  #byte(): number {
    if (this.#at === this.#end) this.#refuse("it ends too early");
    return this.#bytes[this.#at++]!;
  }

  #number(what: string, max = Number.MAX_SAFE_INTEGER): number {
    let byte = this.#byte();
    let value = byte & 0x7f;
    for (let factor = 0x80, left = VARINT_BYTES_MAX - 1; byte >= 0x80; factor *= 0x80, left--) {
      if (left === 0) this.#refuse(`the ${what} has more than 53 bits`);
      byte = this.#byte();
      value += (byte & 0x7f) * factor;
      if (byte === 0) this.#refuse(`the ${what} is not in its shortest form`);
    }
    if (value > Number.MAX_SAFE_INTEGER) this.#refuse(`the ${what} has more than 53 bits`);
    if (value > max) this.#refuse(`the ${what} is ${value}: the limit is ${max}`);
    return value;
  }

  #refuse(why: string): never {
    throw new MessageRefused(this.#at - this.#start, why);
  }
}

function cut(text: string): string {
  return text.length > TEXT_LENGTH_MAX ? `${text.slice(0, TEXT_LENGTH_MAX - 1)}…` : text;
}

function wordAt(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24) >>> 0;
}

function hashBytes(shape: ClusterShape): Uint8Array {
  return Uint8Array.from(configHash(shape).match(/../g)!, (pair) => parseInt(pair, 16));
}
