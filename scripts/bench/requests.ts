/**
 * The commands of a load, as bytes: a template is encoded once, and per request only numbers and ids are written into
 * a copy of it. Made anew for each request, commands would cost the client more than the server takes to answer them.
 *
 * An event id has to carry the partition hash of its stream's key, so whoever sends ids hashes the stream's name, as
 * users' clients do. That is the one thing here that is taken from the store's own code.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { partitionHash } from "../../core/placement.ts";
import { PARTITION_KEY_NAMESPACE, uuidV5 } from "../../core/uuid.ts";
import { concat, encodeCommand } from "../resp_client.ts";

/** What a client sends: `write` puts the next request into the buffer and returns where it ends. */
export interface Requests {
  /** The room that one takes at most. */
  bytesMax: number;
  /** How many replies answer one; 1 when left out. */
  replies?: number;
  write(into: Uint8Array, at: number, client: number): number;
  /** Told when a request of this client was answered and not refused. */
  accepted?(client: number): void;
  /** Told how long each accepted request took. */
  took?(ms: number): void;
  /** What a protocol wants said first on a connection; ours wants nothing. */
  greet?(connection: Deno.TcpConn, client: number): Promise<void>;
  /** How replies of a connection are counted; as those of RESP when left out. */
  counter?(connection: Deno.TcpConn): Counter;
  /** Takes an error, after which this client writes its request anew. Left out, an error ends the run. */
  refused?(error: string, client: number): void;
}

/** Calls `reply` for each reply that ends in a slice, with its text if it is an error. */
export interface Counter {
  push(slice: Uint8Array, reply: (error: string | null) => void): void;
}

export type Ids = "no" | "time-ordered" | "random";

/** As many digits as redis-benchmark writes. */
export const STREAM_DIGITS = 12;
const STREAM_MARK = "#".repeat(STREAM_DIGITS);
const ID_MARK = "@".repeat(36);
const VERSION_MARK = "&".repeat(STREAM_DIGITS);
const ZERO = 48;
const HEX = new TextEncoder().encode("0123456789abcdef");
/** Behind which bytes of an id a hyphen stands. */
const HYPHENS = 1 << 3 | 1 << 5 | 1 << 7 | 1 << 9;
const HYPHEN = 45;

export const STREAM = `stream:${STREAM_MARK}`;

/** The name of a stream, from its number. */
export function streamName(stream: number): string {
  return `stream:${String(stream).padStart(STREAM_DIGITS, "0")}`;
}

/** Commands whose words may hold `STREAM`, `ID` and `VERSION`. */
export class Template {
  readonly bytes: Uint8Array;
  readonly #streams: number[];
  readonly #ids: number[];
  readonly #versions: number[];

  /** As words of RESP, or as the bytes of another protocol. */
  constructor(...commands: readonly (readonly string[] | Uint8Array)[]) {
    this.bytes = concat(commands.map((command) => command instanceof Uint8Array ? command : encodeCommand(command)));
    const found = Buffer.from(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);
    const places = (mark: string) => {
      const at: number[] = [];
      for (let i = found.indexOf(mark); i >= 0; i = found.indexOf(mark, i + mark.length)) at.push(i);
      return at;
    };
    this.#streams = places(STREAM_MARK);
    this.#ids = places(ID_MARK);
    this.#versions = places(VERSION_MARK);
  }

  /** Copies the commands; the same number goes to all its marks of a kind. Returns its end. */
  write(into: Uint8Array, at: number, stream: number, id?: Uint8Array, version?: number): number {
    into.set(this.bytes, at);
    for (const place of this.#streams) writeDigits(into, at + place, stream);
    if (id !== undefined) { for (const place of this.#ids) writeUuid(into, at + place, id); }
    if (version !== undefined) { for (const place of this.#versions) writeDigits(into, at + place, version); }
    return at + this.bytes.length;
  }
}

export const ID = ID_MARK;
/** A number may have leading zeros, so that all take the same room. */
export const VERSION = VERSION_MARK;

function writeDigits(into: Uint8Array, at: number, value: number): void {
  for (let i = STREAM_DIGITS - 1; i >= 0; i--) {
    const rest = Math.floor(value / 10);
    into[at + i] = ZERO + value - 10 * rest;
    value = rest;
  }
}

function writeUuid(into: Uint8Array, at: number, id: Uint8Array): void {
  for (let i = 0; i < 16; i++) {
    const byte = id[i]!;
    into[at++] = HEX[byte >> 4]!;
    into[at++] = HEX[byte & 15]!;
    if (HYPHENS >> i & 1) into[at++] = HYPHEN;
  }
}

/** An id as text. */
export function formatId(id: Uint8Array): string {
  const text = new Uint8Array(36);
  writeUuid(text, 0, id);
  return new TextDecoder().decode(text);
}

const nameBytes = new TextEncoder().encode(STREAM);
const namePlace = nameBytes.indexOf("#".charCodeAt(0));

/** The partition hash of the key that a stream has by default. */
export function streamHash(stream: number): number {
  writeDigits(nameBytes, namePlace, stream);
  return partitionHash(uuidV5(PARTITION_KEY_NAMESPACE, nameBytes));
}

const scratch = new Uint8Array(16);

/** A new id for an event of a stream. Good until the next one is made. */
export function newId(ids: Ids, stream: number): Uint8Array {
  if (ids === "time-ordered") return makeId(streamHash(stream), Date.now(), chance(), chance());
  return makeId(streamHash(stream), 0x10000 * chance() + (chance() & 0xffff), chance(), chance());
}

export function chance(): number {
  return Math.floor(Math.random() * 0x100000000);
}

/** 48 bits of `time`, and chance in all others that are not the hash, version and variant. */
export function makeId(hash: number, time: number, a: number, b: number): Uint8Array {
  const id = scratch;
  const high = Math.floor(time / 0x10000);
  id[0] = high >>> 24;
  id[1] = high >>> 16;
  id[2] = high >>> 8;
  id[3] = high;
  id[4] = time % 0x10000 >>> 8;
  id[5] = time % 0x10000;
  id[6] = a;
  id[7] = a >>> 8 & 0xf0 | 0x07;
  id[8] = 0x80 | hash >>> 10;
  id[9] = hash >>> 2;
  id[10] = (hash & 0x03) << 6 | a >>> 16 & 0x3f;
  id[11] = a >>> 24;
  id[12] = b >>> 24;
  id[13] = b >>> 16;
  id[14] = b >>> 8;
  id[15] = b;
  return id;
}

/** Appends to one of `streams` streams by chance, with ids of this kind. The command is that of `eappend` or a peer's. */
export function appendsByChance(words: readonly string[], streams: number, ids: Ids): Requests {
  const template = new Template(words);
  return {
    bytesMax: template.bytes.length,
    write(into, at) {
      const stream = Math.floor(Math.random() * streams);
      return template.write(into, at, stream, ids === "no" ? undefined : newId(ids, stream));
    },
  };
}

/** Where a payload ends: a reader that parses nothing counts events by it. */
export const MARK = "@#!END";

export function payloadOf(bytes: number): string {
  return "x".repeat(bytes - MARK.length) + MARK;
}

/** The words of an EAPPEND to a stream by number. */
export function eappend(payload: string, ids: Ids): string[] {
  return ["EAPPEND", STREAM, "Happened", ...(ids === "no" ? [] : ["EVENT_ID", ID]), "PAYLOAD", payload];
}

const TRANSACTION_STREAMS = 1000;

/** EMAPPENDs of so many events, each to a stream of its own, by chance to one of a thousand sets of streams. */
export function transactions(payload: string, events: number): Requests {
  const one = (_: unknown, i: number) => [`${STREAM}-${i}`, "Happened", "PAYLOAD", payload];
  return makeTransactions([["EMAPPEND", ID, ...Array.from({ length: events }, one).flat()]]);
}

/** The same in anybody's words. A partition key follows from the number of the set, so that its streams stay the same. */
export function makeTransactions(commands: string[][]): Requests {
  const template = new Template(...commands);
  return {
    bytesMax: template.bytes.length,
    replies: commands.length,
    write(into, at) {
      const set = Math.floor(Math.random() * TRANSACTION_STREAMS);
      return template.write(into, at, set, makeId(set, set, 0, 0));
    },
  };
}
