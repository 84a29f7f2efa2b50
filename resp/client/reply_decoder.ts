/**
 * Bytes in any slices → replies of RESP3, for the client.
 *
 * What has been opened and is not filled yet is kept between slices, so a long reply is read once. An event, of which a
 * reader that catches up gets hundreds of thousands a second, is read as one piece where it stands as our server writes
 * it; one that does not (a field more, another order) is read as any map is, and costs more.
 *
 * Nothing is copied: payloads are views on the slices. Slices are joined only where a reply goes across their border.
 *
 * @module
 */
import type { EventRecord } from "../../core/event.ts";
import { textOf } from "../../core/text.ts";

/** Bytes are a bulk string, a Map is a map. An event comes as one. */
export type Reply =
  | null
  | boolean
  | number
  | string
  | Uint8Array
  | ErrorReply
  | Push
  | EventRecord
  | ReadonlyMap<string, Reply>
  | Reply[];

/** An error as it was answered: its code is the first word. */
export class ErrorReply {
  constructor(readonly text: string) {}
}

/** What the server sends without being asked. */
export class Push {
  constructor(readonly items: Reply[]) {}
}

/** These bytes are no reply: the link cannot be understood from here on. */
export class BrokenReply extends Error {
  override readonly name = "BrokenReply";
}

/** There is no whole reply yet. */
export const MORE = Symbol("more");
const OPENED = Symbol("opened");

/** Beyond these it is not a reply of ours, and would fill the memory. */
const LINE_BYTES_MAX = 64 * 1024;
const BULK_BYTES_MAX = 512 * 1024 * 1024;
const ITEMS_MAX = 16 * 1024 * 1024;
const DEPTH_MAX = 16;

const CR = 13, LF = 10, ZERO = 48;
const SIMPLE = 43, ERROR = 45, NUMBER = 58, BULK = 36, NULL = 95, BOOLEAN = 35, DOUBLE = 44;
const ARRAY = 42, PUSH = 62, MAP = 37;
const EMPTY = new Uint8Array(0);
const UUID_CHARS = 36;

interface Open {
  kind: number;
  wanted: number;
  items: Reply[];
}

export class ReplyDecoder {
  #bytes = EMPTY as Uint8Array;
  /** Where the next piece begins. */
  #at = 0;
  /** What came behind `#bytes`. */
  #slices: Uint8Array[] = [];
  #slicesBytes = 0;
  /** How many bytes from `#at` on there must be for the next try to make sense. */
  #needed = 1;
  readonly #open: Open[] = [];
  /** How far the reading of an event has come, and whether it broke off because the bytes end there. */
  #cursor = 0;
  #short = false;

  push(slice: Uint8Array): void {
    // A plain array: views on a Buffer are Buffers, which are slow to make, and not what the port promises.
    this.#slices.push(new Uint8Array(slice.buffer, slice.byteOffset, slice.length));
    this.#slicesBytes += slice.length;
  }

  /** The next whole reply, or `MORE`. @throws {BrokenReply} */
  next(): Reply | typeof MORE {
    if (this.#slices.length > 0) {
      if (this.#bytes.length - this.#at + this.#slicesBytes < this.#needed) return MORE;
      this.#join();
    }
    for (;;) {
      let value = this.#piece();
      if (value === MORE) return MORE;
      if (value === OPENED) continue;
      for (;;) {
        const top = this.#open.at(-1);
        if (top === undefined) return value as Reply;
        top.items.push(value as Reply);
        if (top.items.length < top.wanted) break;
        this.#open.pop();
        value = closed(top);
      }
    }
  }

  #join(): void {
    const left = this.#bytes.subarray(this.#at);
    if (left.length === 0 && this.#slices.length === 1) this.#bytes = this.#slices[0]!;
    else {
      this.#bytes = new Uint8Array(left.length + this.#slicesBytes);
      this.#bytes.set(left);
      let at = left.length;
      for (const slice of this.#slices) {
        this.#bytes.set(slice, at);
        at += slice.length;
      }
    }
    this.#at = 0;
    this.#needed = 1;
    this.#slices = [];
    this.#slicesBytes = 0;
  }

  /** One value that holds no other, an event, or the beginning of an array, a map or a push. */
  #piece(): Reply | typeof MORE | typeof OPENED {
    const bytes = this.#bytes;
    const at = this.#at;
    if (at >= bytes.length) return this.#need(1);
    const kind = bytes[at]!;
    if (kind === MAP) {
      const event = this.#event();
      if (event !== null) return event;
    }
    const line = this.#lineEnd(at + 1);
    if (line < 0) return this.#need(bytes.length - at + 1);
    const from = at + 1;
    const next = line + 2;
    switch (kind) {
      case BULK: {
        const length = this.#number(from, line);
        if (length < 0 || length > BULK_BYTES_MAX) throw new BrokenReply(`A string of ${length} bytes`);
        if (bytes.length < next + length + 2) return this.#need(next + length + 2 - at);
        if (bytes[next + length] !== CR || bytes[next + length + 1] !== LF) {
          throw new BrokenReply("A string goes on behind its end");
        }
        this.#at = next + length + 2;
        return length === 0 ? EMPTY : bytes.subarray(next, next + length);
      }
      case ARRAY:
      case PUSH:
      case MAP: {
        const length = this.#number(from, line);
        if (length < 0 || length > ITEMS_MAX) throw new BrokenReply(`A list of ${length}`);
        if (this.#open.length >= DEPTH_MAX) throw new BrokenReply(`Lists within lists, ${DEPTH_MAX} deep`);
        this.#at = next;
        const open = { kind, wanted: kind === MAP ? 2 * length : length, items: [] };
        if (length === 0) return closed(open);
        this.#open.push(open);
        return OPENED;
      }
    }
    this.#at = next;
    switch (kind) {
      case SIMPLE:
        return textOf(bytes, from, line);
      case ERROR:
        return new ErrorReply(textOf(bytes, from, line));
      case NUMBER:
        return this.#number(from, line);
      case NULL:
        return null;
      case BOOLEAN:
        return bytes[from] === 0x74; // t
      case DOUBLE:
        return Number(textOf(bytes, from, line));
      default:
        throw new BrokenReply(`No reply begins with ${JSON.stringify(String.fromCharCode(kind))}`);
    }
  }

  #need(bytes: number): typeof MORE {
    this.#needed = bytes;
    return MORE;
  }

  /** Where the CR of the line is, -1 while it is not there. */
  #lineEnd(from: number): number {
    const bytes = this.#bytes;
    let at = from;
    while (at < bytes.length && bytes[at] !== CR) at++;
    if (at - from > LINE_BYTES_MAX) throw new BrokenReply(`A line of more than ${LINE_BYTES_MAX} bytes`);
    if (at + 1 >= bytes.length) return -1;
    if (bytes[at + 1] !== LF) throw new BrokenReply("A CR without its LF");
    return at;
  }

  #number(from: number, end: number): number {
    const bytes = this.#bytes;
    const negative = bytes[from] === 0x2d;
    let value = 0;
    for (let i = negative ? from + 1 : from; i < end; i++) {
      const digit = bytes[i]! - ZERO;
      value = digit < 0 || digit > 9 ? NaN : 10 * value + digit;
    }
    if (end - from < (negative ? 2 : 1) || !Number.isSafeInteger(value)) {
      throw new BrokenReply(`No whole number that can be counted: ${textOf(bytes, from, end)}`);
    }
    return negative ? -value : value;
  }

  /** An event as our server writes it; null when something else stands here. */
  #event(): EventRecord | typeof MORE | null {
    const bytes = this.#bytes;
    this.#cursor = this.#at;
    this.#short = false;
    let from: number;
    this.#needed = 0;
    if (!this.#over(EVENT_ID)) return this.#notThere();
    if ((from = this.#uuid()) < 0) return this.#notThere();
    const eventId = uuidAt(bytes, from);
    if (!this.#over(PARTITION_KEY)) return this.#notThere();
    if ((from = this.#uuid()) < 0) return this.#notThere();
    const partitionKey = uuidAt(bytes, from);
    if (!this.#over(PARTITION_ID)) return this.#notThere();
    const partition = this.#digits();
    if (partition < 0 || !this.#over(TRANSACTION_ID)) return this.#notThere();
    if ((from = this.#uuid()) < 0) return this.#notThere();
    const transactionId = uuidAt(bytes, from);
    if (!this.#over(PARTITION_SEQUENCE)) return this.#notThere();
    const sequence = this.#digits();
    if (sequence < 0 || !this.#over(STREAM_VERSION)) return this.#notThere();
    const version = this.#digits();
    if (version < 0 || !this.#over(TIMESTAMP)) return this.#notThere();
    const timestamp = this.#digits();
    if (timestamp < 0 || !this.#over(STREAM_ID)) return this.#notThere();
    if ((from = this.#bulk()) < 0) return this.#notThere();
    const streamId = textOf(bytes, from, this.#cursor);
    if (!this.#over(EVENT_NAME)) return this.#notThere();
    if ((from = this.#bulk()) < 0) return this.#notThere();
    const name = textOf(bytes, from, this.#cursor);
    if (!this.#over(METADATA)) return this.#notThere();
    if ((from = this.#bulk()) < 0) return this.#notThere();
    const metadata = from === this.#cursor ? EMPTY : bytes.subarray(from, this.#cursor);
    if (!this.#over(PAYLOAD)) return this.#notThere();
    if ((from = this.#bulk()) < 0) return this.#notThere();
    const payload = from === this.#cursor ? EMPTY : bytes.subarray(from, this.#cursor);
    if (!this.#over(CRLF)) return this.#notThere();
    this.#at = this.#cursor;
    return {
      eventId,
      partitionKey,
      partition,
      transactionId,
      sequence,
      streamId,
      version,
      name,
      timestamp,
      metadata,
      payload,
    };
  }

  #notThere(): typeof MORE | null {
    if (!this.#short) return null;
    return this.#need(Math.max(this.#needed, this.#bytes.length - this.#at + 1));
  }

  /** Moves over `expected` if it stands here. */
  #over(expected: Uint8Array): boolean {
    const bytes = this.#bytes;
    const at = this.#cursor;
    const there = Math.min(expected.length, bytes.length - at);
    for (let i = 0; i < there; i++) if (bytes[at + i] !== expected[i]) return false;
    this.#short = there < expected.length;
    this.#cursor = at + there;
    return !this.#short;
  }

  /** Moves over what has the length of a UUID, and says where it began; -1 if it is shorter. */
  #uuid(): number {
    const bytes = this.#bytes;
    const at = this.#cursor;
    const there = Math.min(UUID_CHARS, bytes.length - at);
    for (let i = 0; i < there; i++) if (bytes[at + i] === CR) return -1;
    this.#short = there < UUID_CHARS;
    this.#cursor = at + there;
    return this.#short ? -1 : at;
  }

  /** Moves over the digits here, up to the CR. -1 if it is no number that we know to be exact. */
  #digits(): number {
    const bytes = this.#bytes;
    const from = this.#cursor;
    let at = from;
    let value = 0;
    for (; at < bytes.length && bytes[at] !== CR; at++) {
      const digit = bytes[at]! - ZERO;
      if (digit < 0 || digit > 9) return -1;
      value = 10 * value + digit;
    }
    this.#short = at === bytes.length;
    this.#cursor = at;
    return this.#short || at === from || value > Number.MAX_SAFE_INTEGER ? -1 : value;
  }

  /** Moves over a length and as many bytes, and says where these began. */
  #bulk(): number {
    const length = this.#digits();
    if (length < 0 || length > BULK_BYTES_MAX || !this.#over(CRLF)) return -1;
    const from = this.#cursor;
    if (from + length > this.#bytes.length) {
      this.#short = true;
      this.#needed = from + length + CRLF.length - this.#at;
      return -1;
    }
    this.#cursor = from + length;
    return from;
  }
}

function closed({ kind, items }: Open): Reply {
  if (kind === ARRAY) return items;
  if (kind === PUSH) return new Push(items);
  const map = new Map<string, Reply>();
  for (let i = 0; i < items.length; i += 2) {
    const key = items[i]!;
    if (typeof key !== "string" && !(key instanceof Uint8Array)) throw new BrokenReply("A key that is no string");
    map.set(typeof key === "string" ? key : textOf(key, 0, key.length), items[i + 1]!);
  }
  return map;
}

const EVENT_ID = ascii("%11\r\n+event_id\r\n+");
const PARTITION_KEY = ascii("\r\n+partition_key\r\n+");
const PARTITION_ID = ascii("\r\n+partition_id\r\n:");
const TRANSACTION_ID = ascii("\r\n+transaction_id\r\n+");
const PARTITION_SEQUENCE = ascii("\r\n+partition_sequence\r\n:");
const STREAM_VERSION = ascii("\r\n+stream_version\r\n:");
const TIMESTAMP = ascii("\r\n+timestamp\r\n:");
const STREAM_ID = ascii("\r\n+stream_id\r\n$");
const EVENT_NAME = ascii("\r\n+event_name\r\n$");
const METADATA = ascii("\r\n+metadata\r\n$");
const PAYLOAD = ascii("\r\n+payload\r\n$");
const CRLF = ascii("\r\n");

function ascii(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** In one call: see `textOf`. */
// deno-fmt-ignore
function uuidAt(b: Uint8Array, at: number): string {
  return String.fromCharCode(
    b[at]!, b[at + 1]!, b[at + 2]!, b[at + 3]!, b[at + 4]!, b[at + 5]!, b[at + 6]!, b[at + 7]!, b[at + 8]!,
    b[at + 9]!, b[at + 10]!, b[at + 11]!, b[at + 12]!, b[at + 13]!, b[at + 14]!, b[at + 15]!, b[at + 16]!, b[at + 17]!,
    b[at + 18]!, b[at + 19]!, b[at + 20]!, b[at + 21]!, b[at + 22]!, b[at + 23]!, b[at + 24]!, b[at + 25]!, b[at + 26]!,
    b[at + 27]!, b[at + 28]!, b[at + 29]!, b[at + 30]!, b[at + 31]!, b[at + 32]!, b[at + 33]!, b[at + 34]!, b[at + 35]!,
  );
}
