/**
 * A cursor over the words of a command: text, bytes, number, uuid, keyword, bound, end.
 *
 * Each call takes the next word as what it must be, or throws `InvalidArgument`, which says what was needed and what
 * was found. What is taken is the caller's own: nothing points into the read buffer any more. Text must be UTF-8,
 * payloads need not be. Numbers are exact or refused, never rounded.
 *
 * @module
 */
import { InvalidArgument } from "../core/errors.ts";
import { textOf } from "../core/text.ts";
import { formatUuid, parseUuid, readUuid, UUID_TEXT_BYTES } from "../core/uuid.ts";
import type { ExpectedVersion } from "../core/version.ts";
import { nameOfKind, Words } from "./decoder.ts";
import { BIG_NUMBER, BULK, NUMBER, SIMPLE, VERBATIM } from "./value.ts";

/** One end of a range as the client wrote it: a number, or the far end on either side. */
export type Bound = number | "-" | "+";

/** Bytes of a word that an error message repeats. */
const SHOWN_BYTES_MAX = 64;
/** Bytes of a UUID with all the blanks around it. */
const UUID_BYTES_MAX = 256;
/** Words of a list of names or patterns. */
const LIST_WORDS_MAX = 1024;
/** Payloads up to this size share memory that is allocated at once: a small typed array of its own costs 300 ns, a view 50. */
const SHARED_BYTES_MAX = 1024;
const SHARED_BLOCK_BYTES = 64 * 1024;

const PLUS_SIGN = 0x2b;
const MINUS_SIGN = 0x2d;
const EMPTY = new Uint8Array(0);

let sharedBlock = new Uint8Array(SHARED_BLOCK_BYTES);
let sharedUsed = 0;

export class Arguments {
  #words: Words = new Words();
  #at = 0;
  #usage = "";

  /** Begins with the words of a command, behind its name. `usage` is repeated when a word is missing or too many. */
  reset(words: Words, usage: string): void {
    this.#words = words;
    this.#at = 1;
    this.#usage = usage;
  }

  /** Words that were not taken yet. */
  get left(): number {
    return this.#words.count - this.#at;
  }

  text(what: string): string {
    const i = this.#take(what);
    const { bytes, base, starts, ends } = this.#words;
    const text = textOrNull(bytes, base + starts[i]!, base + ends[i]!);
    if (text === null) throw new InvalidArgument(`The ${what} must be UTF-8`);
    return text;
  }

  /** The bytes of a word, which stay as they are. */
  bytes(what: string): Uint8Array {
    const i = this.#take(what);
    const { bytes, base, starts, ends, stable } = this.#words;
    const from = base + starts[i]!;
    const to = base + ends[i]!;
    const length = to - from;
    if (length === 0) return EMPTY;
    if (stable) return bytes.subarray(from, to);
    if (length > SHARED_BYTES_MAX) return bytes.slice(from, to);
    if (sharedUsed + length > SHARED_BLOCK_BYTES) {
      sharedBlock = new Uint8Array(SHARED_BLOCK_BYTES);
      sharedUsed = 0;
    }
    const copy = sharedBlock.subarray(sharedUsed, sharedUsed += length);
    copy.set(bytes.subarray(from, to));
    return copy;
  }

  /** A whole number from 0 to `max`: decimal digits, perhaps with a plus sign. `needed` says what it is beyond `max`. */
  number(what: string, max = Number.MAX_SAFE_INTEGER, needed = "at most 2^53 - 1"): number {
    const i = this.#takeNumber(what);
    const number = this.#digits(i, 0);
    if (number < 0) throw this.#unfit(i, what, "a whole number from 0");
    if (number > max) throw this.#unfit(i, what, needed);
    return number;
  }

  /** A whole number of either sign, of which a command expects few. */
  integer(what: string): number {
    const i = this.#takeNumber(what);
    const { bytes, base, starts } = this.#words;
    const negative = bytes[base + starts[i]!] === MINUS_SIGN;
    const number = this.#digits(i, negative ? 1 : 0);
    if (number < 0 || number > Number.MAX_SAFE_INTEGER) throw this.#unfit(i, what, "a whole number");
    return negative ? -number : number;
  }

  /** A UUID in any of its forms, as lowercase hyphenated text. */
  uuid(what: string): string {
    return formatUuid(this.uuidBytes(what));
  }

  /** A UUID in any of its forms: its 16 bytes. */
  uuidBytes(what: string): Uint8Array {
    const i = this.#take(what);
    const uuid = this.#uuidAt(i);
    if (uuid === null) throw this.#unfit(i, what, "a UUID");
    return uuid;
  }

  /** `ANY`, `EXISTS`, `EMPTY` or a number. */
  version(what: string): ExpectedVersion {
    if (this.keyword("ANY")) return "any";
    if (this.keyword("EXISTS")) return "exists";
    if (this.keyword("EMPTY")) return "empty";
    return this.number(what);
  }

  /** `-`, `+` or a number. */
  bound(what: string): Bound {
    if (this.keyword("-")) return "-";
    if (this.keyword("+")) return "+";
    return this.number(what);
  }

  /** A partition: its number, or a key as UUID text. */
  partition(what: string): number | string {
    const i = this.#takeNumber(what);
    const uuid = this.#uuidAt(i);
    if (uuid !== null) return formatUuid(uuid);
    const number = this.#digits(i, 0);
    if (number < 0 || number > 0xffff) throw this.#unfit(i, what, "a UUID, or a number from 0 to 65535");
    return number;
  }

  /** What is not one thing: a number, or text that the command takes apart. */
  word(what: string): string {
    const i = this.#takeNumber(what);
    const { bytes, base, starts, ends } = this.#words;
    const text = textOrNull(bytes, base + starts[i]!, base + ends[i]!);
    if (text === null) throw new InvalidArgument(`The ${what} must be UTF-8`);
    return text;
  }

  /** `name=number`, split at the last equals sign. `what` says what they are. */
  assignment(what: string): { name: string; number: number } {
    const i = this.#at;
    const text = this.text(what);
    const split = text.lastIndexOf("="); // A stream id may hold one, a number not.
    const number = wholeNumber(text.slice(split + 1));
    if (split < 0 || number === null) throw this.#unfit(i, what, "a name, an equals sign and a whole number from 0");
    return { name: text.slice(0, split), number };
  }

  /** Takes the next word if it is this keyword, in either case. `keyword` is in capitals. */
  keyword(keyword: string): boolean {
    if (!this.isKeyword(keyword)) return false;
    this.#at++;
    return true;
  }

  /** Takes the next word if it is this keyword, which stands for something that must be given once: `given` so far. */
  option(keyword: string, given: unknown): boolean {
    if (!this.keyword(keyword)) return false;
    if (given !== undefined) throw new InvalidArgument(`${keyword} is given twice`);
    return true;
  }

  /** Whether the next word is this keyword. */
  isKeyword(keyword: string): boolean {
    const i = this.#at;
    const { bytes, base, starts, ends, kinds, count } = this.#words;
    if (i >= count) return false;
    const from = base + starts[i]!;
    if (ends[i]! - starts[i]! !== keyword.length || !isText(kinds[i]!)) return false;
    for (let k = 0; k < keyword.length; k++) if (upper(bytes[from + k]!) !== keyword.charCodeAt(k)) return false;
    return true;
  }

  /** The next word as text without taking it; null when there is none or it is not text. */
  peek(): string | null {
    const i = this.#at;
    const { bytes, base, starts, ends, kinds, count } = this.#words;
    return i < count && isText(kinds[i]!) ? textOrNull(bytes, base + starts[i]!, base + ends[i]!) : null;
  }

  /** Whether the next word begins like an object or array of JSON, or with a blank: most do not, and need not be made text. */
  get mayBeJson(): boolean {
    const i = this.#at;
    const { bytes, base, starts, ends, count } = this.#words;
    if (i >= count || starts[i] === ends[i]) return false;
    const first = bytes[base + starts[i]!]!;
    return first === 0x5b || first === 0x7b || first <= 0x20 || first > 0x7f;
  }

  /** All words that are left, as text: not so many that a reply to each would fill the memory. */
  rest(what: string): string[] {
    const words: string[] = [];
    if (this.left > LIST_WORDS_MAX) {
      throw new InvalidArgument(`Expected at most ${LIST_WORDS_MAX} words: found ${this.left}`);
    }
    while (this.left > 0) words.push(this.text(what));
    return words;
  }

  /** No word may be left. */
  end(): void {
    if (this.left > 0) throw this.unexpected();
  }

  /** Says that the next word has no place here. */
  unexpected(): InvalidArgument {
    return new InvalidArgument(`Unexpected ${this.#show(this.#at)}. Usage: ${this.#usage}`);
  }

  #take(what: string): number {
    const i = this.#at;
    const { kinds, count } = this.#words;
    if (i >= count) throw new InvalidArgument(`The ${what} is missing. Usage: ${this.#usage}`);
    if (!isText(kinds[i]!)) throw this.#unfit(i, what, "a string");
    this.#at++;
    return i;
  }

  #takeNumber(what: string): number {
    const { kinds, count } = this.#words;
    if (this.#at < count && (kinds[this.#at] === NUMBER || kinds[this.#at] === BIG_NUMBER)) return this.#at++;
    return this.#take(what);
  }

  /** The number in a word, -1 if it is none. Inexact, but then larger than any that is exact. */
  #digits(i: number, skip: number): number {
    const { bytes, base, starts, ends } = this.#words;
    let at = base + starts[i]! + skip;
    const end = base + ends[i]!;
    if (skip === 0 && bytes[at] === PLUS_SIGN && end > at) at++;
    if (at === end) return -1;
    let number = 0;
    for (; at < end; at++) {
      const digit = bytes[at]! - 0x30;
      if (digit < 0 || digit > 9) return -1;
      number = number * 10 + digit;
    }
    return number;
  }

  #uuidAt(i: number): Uint8Array | null {
    const { bytes, base, starts, ends } = this.#words;
    const length = ends[i]! - starts[i]!;
    if (length < 32 || length > UUID_BYTES_MAX) return null;
    const uuid = length === UUID_TEXT_BYTES ? readUuid(bytes, base + starts[i]!) : null;
    if (uuid !== null) return uuid;
    const text = textOrNull(bytes, base + starts[i]!, base + ends[i]!);
    return text === null ? null : parseUuid(text);
  }

  #unfit(i: number, what: string, needed: string): InvalidArgument {
    return new InvalidArgument(`The ${what} must be ${needed}: found ${this.#show(i)}`);
  }

  #show(i: number): string {
    const { bytes, base, starts, ends, kinds } = this.#words;
    if (!isText(kinds[i]!) && kinds[i] !== NUMBER && kinds[i] !== BIG_NUMBER) {
      return `a value of type ${nameOfKind(kinds[i]!)}`;
    }
    return shown(bytes, base + starts[i]!, base + ends[i]!);
  }
}

/** The number that a text is, as `Arguments.number` reads it; null if it is none, or none that is exact. */
export function wholeNumber(text: string): number | null {
  if (!/^\+?[0-9]+$/.test(text)) return null;
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : null;
}

/** A word as an error message repeats it: in single quotes, cut where it is long. */
export function shown(bytes: Uint8Array, from: number, to: number): string {
  const cut = to - from > SHOWN_BYTES_MAX;
  const text = new TextDecoder().decode(bytes.subarray(from, cut ? from + SHOWN_BYTES_MAX : to));
  return `'${text}${cut ? "…" : ""}'`;
}

function isText(kind: number): boolean {
  return kind === BULK || kind === SIMPLE || kind === VERBATIM;
}

/** ASCII, and nothing else. */
function upper(byte: number): number {
  return byte >= 0x61 && byte <= 0x7a ? byte - 0x20 : byte;
}

/** The text of UTF-8 bytes, null if they are none. */
function textOrNull(bytes: Uint8Array, from: number, to: number): string | null {
  try {
    return textOf(bytes, from, to);
  } catch {
    return null;
  }
}
