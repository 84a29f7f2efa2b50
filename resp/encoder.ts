/**
 * Values → bytes, for RESP3 and for RESP2.
 *
 * Everything goes straight into one growing buffer, which is handed over as a whole when the socket is ready for it.
 * On a RESP2 link no RESP3 type is ever written: a map is a flat array, a set an array, a boolean 1 or 0, null `$-1`,
 * a double a bulk string.
 *
 * Simple strings and errors cannot hold a line break: one that a client smuggled in becomes a blank.
 *
 * @module
 */
import { writeTransactionId, writeUuid } from "../core/uuid.ts";
import {
  ARRAY,
  BOOLEAN,
  BULK,
  DOUBLE,
  Double,
  ERROR,
  MAP,
  NULL,
  NUMBER,
  type Protocol,
  PUSH,
  ReplyError,
  SET,
  SIMPLE,
  Simple,
  type Value,
} from "./value.ts";

interface Size {
  bytes: number;
  spareMax: number;
  spare: Uint8Array<ArrayBuffer>[];
}

/**
 * Buffers that are used again, over all links, and how many wait for it: one size for a reply or two, one for a flush of
 * many, one for a page of a scan. To make and zero them anew costs more than to fill them. A quiet link holds none.
 * The smallest are many, because the clients of a batch are all answered at once.
 */
const SIZES: readonly Size[] = [
  { bytes: 1024, spareMax: 1024, spare: [] },
  { bytes: 16 * 1024, spareMax: 64, spare: [] },
  { bytes: 256 * 1024, spareMax: 16, spare: [] },
];
/** Error texts are cut here: a client may repeat 64 MiB of its own. */
const ERROR_CHARS_MAX = 1024;

const COPIED_BY_HAND_MAX = 64;

const CR = 0x0d;
const LF = 0x0a;
const ZERO = 0x30;
const EMPTY = new Uint8Array(0);
const utf8 = new TextEncoder();

export class Encoder {
  protocol: Protocol;
  #bytes: Uint8Array<ArrayBuffer> = EMPTY;
  #length = 0;
  #taken = 0;

  constructor(protocol: Protocol) {
    this.protocol = protocol;
  }

  /** Bytes written and not handed over yet. */
  get length(): number {
    return this.#length;
  }

  /** Bytes written since the link began. */
  get written(): number {
    return this.#taken + this.#length;
  }

  /** Takes back what was written since `length` was this: in the same step, before anything is handed over. */
  cutTo(length: number): void {
    this.#length = length;
  }

  /** Hands over what was written. Give the memory back with `reuse` when it is sent. */
  take(): Uint8Array<ArrayBuffer> {
    const taken = this.#bytes.subarray(0, this.#length);
    this.#bytes = EMPTY;
    this.#taken += this.#length;
    this.#length = 0;
    return taken;
  }

  simple(text: string): void {
    this.#line(SIMPLE, text);
  }

  error(code: string, text: string): void {
    this.#line(ERROR, `${code} ${text.slice(0, ERROR_CHARS_MAX)}`);
  }

  number(value: number): void {
    this.#head(NUMBER, value);
  }

  double(value: number): void {
    if (this.protocol === 3) this.#line(DOUBLE, String(value));
    else this.text(String(value));
  }

  boolean(value: boolean): void {
    if (this.protocol === 3) this.#line(BOOLEAN, value ? "t" : "f");
    else this.number(value ? 1 : 0);
  }

  null(): void {
    if (this.protocol === 3) this.#line(NULL, "");
    else this.#line(BULK, "-1");
  }

  /** A bulk string of text. */
  text(text: string): void {
    const length = text.length;
    if (length > 64 || !this.#asciiBulk(text, length)) this.bulk(utf8.encode(text));
  }

  /** A bulk string of bytes. */
  bulk(value: Uint8Array): void {
    this.#head(BULK, value.length);
    this.#reserve(value.length + 2);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
    this.#crlf();
  }

  /** A bulk string of the bytes from `from` to `to`. */
  bulkOf(bytes: Uint8Array, from: number, to: number): void {
    const length = to - from;
    this.#head(BULK, length);
    this.#reserve(length + 2);
    const into = this.#bytes;
    const at = this.#length;
    // A view and a call of `set` cost more than a few stores.
    if (length <= COPIED_BY_HAND_MAX) { for (let i = 0; i < length; i++) into[at + i] = bytes[from + i]!; }
    else into.set(bytes.subarray(from, to), at);
    this.#length = at + length;
    this.#crlf();
  }

  array(count: number): void {
    this.#head(ARRAY, count);
  }

  /** Begins a map: `count` times a key and a value follow. */
  map(count: number): void {
    if (this.protocol === 3) this.#head(MAP, count);
    else this.#head(ARRAY, 2 * count);
  }

  set(count: number): void {
    this.#head(this.protocol === 3 ? SET : ARRAY, count);
  }

  /** Begins a push, which only a RESP3 link can have. */
  push(count: number): void {
    this.#head(PUSH, count);
  }

  /** Bytes that are RESP already. */
  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** ASCII as it stands, inside something that was begun with `raw`. */
  ascii(text: string): void {
    const length = text.length;
    this.#reserve(length);
    const bytes = this.#bytes;
    const at = this.#length;
    for (let i = 0; i < length; i++) bytes[at + i] = text.charCodeAt(i);
    this.#length = at + length;
  }

  /** ASCII over bytes that were just written, from `back` bytes before the end. */
  over(back: number, text: string): void {
    const bytes = this.#bytes;
    const at = this.#length - back;
    for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
  }

  /** A UUID over bytes that were just written, from `back` bytes before the end. */
  uuidOver(back: number, uuid: Uint8Array, from = 0): void {
    writeUuid(this.#bytes, this.#length - back, uuid, from);
  }

  /** The same of a transaction's id, which is made of that of its first event. */
  transactionIdOver(back: number, firstEventId: Uint8Array, from: number, eventCount: number): void {
    writeTransactionId(this.#bytes, this.#length - back, firstEventId, from, eventCount);
  }

  /** A UUID as it stands, inside something that was begun with `raw`. */
  uuid(uuid: Uint8Array): void {
    this.#reserve(36);
    writeUuid(this.#bytes, this.#length, uuid);
    this.#length += 36;
  }

  /** Digits as they stand, inside something that was begun with `raw`. */
  digits(value: number): void {
    this.#reserve(24);
    this.#digits(value);
  }

  value(value: Value): void {
    if (value === null) this.null();
    else if (typeof value === "boolean") this.boolean(value);
    else if (typeof value === "number") this.number(value);
    else if (typeof value === "string") this.text(value);
    else if (value instanceof Uint8Array) this.bulk(value);
    else if (value instanceof Simple) this.simple(value.text);
    else if (value instanceof Double) this.double(value.number);
    else if (value instanceof ReplyError) this.error(value.code, value.message);
    else if (value instanceof Map) {
      this.map(value.size);
      for (const [key, item] of value) {
        this.text(key);
        this.value(item);
      }
    } else if (value instanceof Set) {
      this.set(value.size);
      for (const item of value) this.value(item);
    } else {
      const items = value as readonly Value[];
      this.array(items.length);
      for (const item of items) this.value(item);
    }
  }

  #line(kind: number, text: string): void {
    const clean = oneLine(text);
    this.#reserve(3 * clean.length + 3); // At most three bytes of UTF-8 for each UTF-16 unit.
    this.#bytes[this.#length++] = kind;
    this.#length += utf8.encodeInto(clean, this.#bytes.subarray(this.#length)).written;
    this.#crlf();
  }

  #head(kind: number, value: number): void {
    this.#reserve(27);
    this.#bytes[this.#length++] = kind;
    this.#digits(value);
    this.#crlf();
  }

  #asciiBulk(text: string, length: number): boolean {
    this.#reserve(length + 8);
    const bytes = this.#bytes;
    const start = this.#length;
    let at = start;
    bytes[at++] = BULK;
    if (length >= 10) bytes[at++] = ZERO + (length / 10 | 0);
    bytes[at++] = ZERO + length % 10;
    bytes[at++] = CR;
    bytes[at++] = LF;
    for (let i = 0; i < length; i++) {
      const char = text.charCodeAt(i);
      if (char > 0x7f) return false; // Nothing counts as written yet.
      bytes[at++] = char;
    }
    this.#length = at;
    this.#crlf();
    return true;
  }

  /** Room is reserved by the caller. */
  #digits(value: number): void {
    if (value < 0 || value >= 1e15) {
      const text = String(value);
      for (let i = 0; i < text.length; i++) this.#bytes[this.#length++] = text.charCodeAt(i);
    } else if (value >= 1e8) {
      const high = Math.floor(value / 1e8);
      this.#smallDigits(high, 0);
      this.#smallDigits(value - high * 1e8, 8);
    } else this.#smallDigits(value, 0);
  }

  /** Digits of a number below 2^31, with zeros in front up to `width`. */
  #smallDigits(value: number, width: number): void {
    const bytes = this.#bytes;
    let digits = 1;
    for (let bound = 10; digits < 10 && value >= bound; bound *= 10) digits++;
    if (digits < width) digits = width;
    const end = this.#length + digits;
    let rest = value | 0;
    for (let at = end - 1; at >= this.#length; at--) {
      const tenth = rest / 10 | 0;
      bytes[at] = ZERO + rest - 10 * tenth;
      rest = tenth;
    }
    this.#length = end;
  }

  #crlf(): void {
    this.#bytes[this.#length++] = CR;
    this.#bytes[this.#length++] = LF;
  }

  #reserve(count: number): void {
    const needed = this.#length + count;
    if (needed <= this.#bytes.length) return;
    const size = SIZES.find(({ bytes }) => needed <= bytes);
    const larger = size === undefined
      ? new Uint8Array(Math.max(needed, 2 * this.#bytes.length))
      : size.spare.pop() ?? new Uint8Array(size.bytes);
    larger.set(this.#bytes.subarray(0, this.#length));
    reuse(this.#bytes);
    this.#bytes = larger;
  }
}

/** Gives back the memory of what `take` handed over. */
export function reuse(bytes: Uint8Array<ArrayBuffer>): void {
  const { buffer } = bytes;
  const size = SIZES.find(({ bytes }) => buffer.byteLength === bytes);
  if (size !== undefined && size.spare.length < size.spareMax) size.spare.push(new Uint8Array(buffer));
}

/** Without CR, LF and other control characters, which would end a line early or play with a terminal. */
function oneLine(text: string): string {
  // deno-lint-ignore no-control-regex
  return /[\x00-\x1f\x7f]/.test(text) ? text.replace(/[\x00-\x1f\x7f]/g, " ") : text;
}
