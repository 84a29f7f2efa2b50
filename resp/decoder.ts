/**
 * Bytes in any slices → commands.
 *
 *     read buffer   | words of the command being read      | free, the socket reads into it |
 *                   start                    at         end                               length
 *
 * A command is the words of one array, as places in the read buffer: nothing is copied, so a command must be taken
 * (arguments.ts) before the next one is asked for. A line that begins with no type byte is an inline command.
 *
 * Three things can be wrong with what a client sends:
 * - it is well formed but too large, too deep, or no array: the frame is read to its end without being kept, however
 *   long it is, and then reported as `REFUSED`; the link lives on;
 * - it is no frame at all: `BROKEN`, after which nothing that follows can be understood;
 * - it stops in the middle: `MORE`, for as long as it takes. Memory grows with what has arrived, never with what was
 *   announced.
 *
 * @module
 */
import {
  ARRAY,
  ATTRIBUTE,
  BIG_NUMBER,
  BOOLEAN,
  BULK,
  BULK_ERROR,
  DOUBLE,
  ERROR,
  MAP,
  NULL,
  NUMBER,
  PUSH,
  ReplyError,
  SET,
  SIMPLE,
  VERBATIM,
} from "./value.ts";

/** What `next` found. */
export const MORE = 0;
export const COMMAND = 1;
export const REFUSED = 2;
export const BROKEN = 3;
// And what only this file says: a value was read; the state has changed, look again.
const VALUE = 4;
const AGAIN = 5;

export interface DecoderLimits {
  /** Bytes of one command, from its first to its last. */
  commandBytesMax: number;
  /** Words of one command. */
  wordsMax: number;
  /** Arrays in arrays, the command's own counted. */
  nestingMax: number;
}

export const DECODER_LIMITS: DecoderLimits = {
  commandBytesMax: 64 * 1024 * 1024,
  wordsMax: 1024 * 1024,
  nestingMax: 8,
};

/** Bytes of a line: an inline command, or a scalar that is no bulk string. Redis' bound for inline commands. */
const LINE_BYTES_MAX = 64 * 1024;
/** Digits of a length: as many as a number holds exactly. */
const LENGTH_DIGITS_MAX = 15;
/** The read buffer of a quiet link: ten thousand of them must not weigh much. */
const BUFFER_BYTES_MIN = 4 * 1024;
/** The read buffer of a busy link. Only a command that does not fit makes it larger, for as long as it is read. */
const BUFFER_BYTES_BUSY = 64 * 1024;
/** A command of so many bytes takes the read buffer with it, which is cheaper than to copy its words. */
const GIVE_AWAY_BYTES = 64 * 1024;
/** Words whose places are kept ready; the lists of a longer command are dropped after it. */
const WORDS_KEPT = 64;

const CR = 0x0d;
const LF = 0x0a;
/** Between two commands no words are awaited. */
const NONE = -1;
/** A length or a line whose end has not arrived. */
const UNFINISHED = -1;
/** A length or a line that cannot be one. */
const INVALID = -2;

/** The words of one command: their kinds, and their places in `bytes`. Valid until the decoder is touched again. */
export class Words {
  bytes: Uint8Array = new Uint8Array(0);
  /** Whether `bytes` will never be written again, so that a view on a word may be kept. */
  stable = false;
  count = 0;
  /** The type byte of each word. */
  kinds = new Uint8Array(WORDS_KEPT);
  /** Places, counted from `base`. */
  starts = new Uint32Array(WORDS_KEPT);
  ends = new Uint32Array(WORDS_KEPT);
  base = 0;
  /** Bytes of the whole command. */
  byteLength = 0;

  add(kind: number, start: number, end: number): void {
    if (this.count === this.kinds.length) this.#resize(this.count * 2);
    this.kinds[this.count] = kind;
    this.starts[this.count] = start;
    this.ends[this.count++] = end;
  }

  clear(): void {
    this.count = 0;
    if (this.kinds.length > WORDS_KEPT) this.#resize(WORDS_KEPT);
  }

  #resize(capacity: number): void {
    const { kinds, starts, ends, count } = this;
    this.kinds = new Uint8Array(capacity);
    this.starts = new Uint32Array(capacity);
    this.ends = new Uint32Array(capacity);
    this.kinds.set(kinds.subarray(0, count));
    this.starts.set(starts.subarray(0, count));
    this.ends.set(ends.subarray(0, count));
  }
}

export class Decoder {
  /** After `COMMAND`: what was asked. */
  readonly words: Words = new Words();
  readonly #limits: DecoderLimits;
  #buffer = new Uint8Array(BUFFER_BYTES_MIN);
  /** What the buffer returns to when it holds nothing. */
  #restingBytes = BUFFER_BYTES_MIN;
  #start = 0;
  #at = 0;
  #end = 0;
  /** Bytes that the command has at least, as far as its lengths are known. */
  #needed = 0;
  /** Words of the command still to come. */
  #left = NONE;
  /** Values still to come at each depth inside a word, or in an attribute, that is passed over. */
  readonly #inside: number[] = [];
  /** Values, and bytes of a bulk string, still to come of a frame that is not kept. */
  #skipping = 0;
  #skippingBytes = 0;
  #problem: ReplyError | null = null;
  #broken = false;
  // What the last value was, and where the last length or line ended.
  #kind = 0;
  #from = 0;
  #to = 0;
  #lineEnd = 0;

  constructor(limits: DecoderLimits = DECODER_LIMITS) {
    this.#limits = limits;
  }

  /** After `REFUSED` and `BROKEN`: what to tell the client. */
  get problem(): ReplyError {
    return this.#problem!;
  }

  /** Bytes of memory that the read buffer holds. */
  get bufferBytes(): number {
    return this.#buffer.length;
  }

  /**
   * Bytes of memory that it will hold after the next `room`. Of a command that is large already, those that it will
   * need as far as it has said: who has room for a part of it only would keep that from others, and wait for the rest.
   */
  get claimedBytes(): number {
    const bytes = this.#nextBufferBytes;
    return bytes > BUFFER_BYTES_BUSY ? Math.max(bytes, this.#needed) : bytes;
  }

  get #nextBufferBytes(): number {
    const held = this.#end - this.#start;
    const { length } = this.#buffer;
    if (held === 0) return this.#restingBytes;
    if (held <= length / 2 || length - this.#end >= length / 4) return length;
    if (this.#needed > held && this.#start + this.#needed <= length) return length; // What is to come fits.
    // Doubled at most, and hardly larger than the command needs: what is announced need never come. But by a quarter at
    // least: a command of many words needs a little more with each, and would be copied with each.
    const wanted = this.#needed > held ? this.#needed + BUFFER_BYTES_MIN : Infinity;
    return Math.min(2 * length, Math.max(wanted, length + length / 4));
  }

  /** Where the next bytes from the socket belong. Never empty. */
  room(): Uint8Array<ArrayBuffer> {
    const held = this.#end - this.#start;
    const { length } = this.#buffer;
    const bytes = this.#nextBufferBytes;
    if (held === 0) {
      this.#start = this.#at = this.#end = 0;
      if (length !== bytes) this.#buffer = new Uint8Array(bytes);
    } else if (length !== bytes) {
      this.#moveToNew(bytes);
    } else if (held <= length / 2 && length - this.#end < length / 4) {
      this.#buffer.copyWithin(0, this.#start, this.#end);
      this.#moved(held);
    }
    return this.#end === 0 ? this.#buffer : this.#buffer.subarray(this.#end);
  }

  /** Says that `count` bytes were read into the room. */
  filled(count: number): void {
    this.#end += count;
    // A link whose reads fill the buffer is busy, and of larger reads it needs fewer.
    if (this.#end === this.#buffer.length && this.#restingBytes < BUFFER_BYTES_BUSY) this.#restingBytes *= 2;
  }

  /** Takes as many of `bytes` as there is room for, as if a socket had brought them; says how many. For tests and fuzzers. */
  feed(bytes: Uint8Array): number {
    const room = this.room();
    const part = bytes.subarray(0, room.length);
    room.set(part);
    this.filled(part.length);
    return part.length;
  }

  /** Reads on: `COMMAND` (see `words`), `REFUSED` or `BROKEN` (see `problem`), or `MORE` when the rest has not arrived. */
  next(): number {
    for (;;) {
      const found = this.#skipping > 0 || this.#skippingBytes > 0
        ? this.#skip()
        : this.#left === NONE
        ? this.#begin()
        : this.#readWords();
      if (found !== AGAIN) return found;
    }
  }

  /** Between two commands: a header, an inline command, or something that is no command. */
  #begin(): number {
    if (this.#broken) return BROKEN;
    if (this.#inside.length > 0) {
      const found = this.#passOver();
      if (found !== VALUE) return found;
    }
    if (this.#at === this.#end) return MORE;
    const kind = this.#buffer[this.#at]!;
    if (kind === ARRAY) {
      const count = this.#length(this.#at + 1);
      if (count === UNFINISHED) return MORE;
      if (count === INVALID) return this.#break("invalid multibulk length");
      this.#at = this.#lineEnd;
      this.words.clear();
      if (count === 0) {
        this.#done();
        this.#problem = new ReplyError(
          "INVALIDARG",
          "empty command: expected an array that begins with a command name",
        );
        return REFUSED;
      }
      this.#left = count;
      if (count > this.#limits.wordsMax) return this.#refuseWords(count);
      return AGAIN;
    }
    if (kind === ATTRIBUTE) {
      const found = this.#value();
      return found === VALUE ? AGAIN : found;
    }
    if (isTypeByte(kind)) {
      return this.#refuse(
        new ReplyError("INVALIDARG", `expected an array that begins with a command name: found ${nameOfKind(kind)}`),
      );
    }
    return this.#inline();
  }

  #readWords(): number {
    const { words } = this;
    while (this.#left > 0 || this.#inside.length > 0) {
      if (this.#inside.length > 0) {
        const found = this.#passOver();
        if (found !== VALUE) return found;
        continue;
      }
      const found = this.#value();
      if (found !== VALUE) return found;
      if (this.#kind === ATTRIBUTE) continue;
      this.#left--;
      words.add(this.#kind, this.#from - this.#start, this.#to - this.#start);
    }
    words.bytes = this.#buffer;
    words.base = this.#start;
    words.byteLength = this.#at - this.#start;
    words.stable = words.byteLength >= GIVE_AWAY_BYTES;
    this.#done();
    if (words.stable) this.#moveToNew(Math.max(this.#restingBytes, 2 * (this.#end - this.#start)));
    return COMMAND;
  }

  /** Reads what is inside a word that is itself an array, or in an attribute, and keeps none of it. */
  #passOver(): number {
    const inside = this.#inside;
    while (inside.length > 0) {
      const depth = inside.length - 1;
      if (inside[depth] === 0) {
        inside.pop();
        continue;
      }
      const found = this.#value();
      if (found !== VALUE) return found;
      if (this.#kind !== ATTRIBUTE) inside[depth]!--;
    }
    return VALUE;
  }

  /** Reads one value at `at`. Of an aggregate only its head: its values are then awaited `inside`. */
  #value(): number {
    const at = this.#at;
    if (at === this.#end) return MORE;
    const kind = this.#buffer[at]!;
    switch (kind) {
      case BULK:
      case VERBATIM:
      case BULK_ERROR: {
        const length = this.#length(at + 1);
        if (length === UNFINISHED) return MORE;
        if (length === INVALID) return this.#break("invalid bulk length");
        const from = this.#lineEnd;
        const to = from + length;
        this.#needed = to + 2 - this.#start;
        if (this.#needed > this.#limits.commandBytesMax) return this.#refuseBytes();
        if (to + 2 > this.#end) return MORE;
        if (this.#buffer[to] !== CR || this.#buffer[to + 1] !== LF) {
          return this.#break("a bulk string that is longer than its length");
        }
        this.#kind = kind;
        this.#from = from;
        this.#to = to;
        this.#at = to + 2;
        if (kind === VERBATIM) {
          if (length < 4 || this.#buffer[from + 3] !== 0x3a) {
            return this.#break("a verbatim string without its encoding");
          }
          this.#from += 4;
        }
        return VALUE;
      }
      case ARRAY:
      case SET:
      case PUSH:
      case MAP:
      case ATTRIBUTE: {
        const count = this.#length(at + 1);
        if (count === UNFINISHED) return MORE;
        if (count === INVALID) return this.#break("invalid multibulk length");
        const values = kind === MAP || kind === ATTRIBUTE ? 2 * count : count;
        if (values > this.#limits.wordsMax) return this.#refuseWords(values);
        if (this.#inside.length + 2 > this.#limits.nestingMax) return this.#refuseNesting();
        this.#inside.push(values);
        this.#kind = kind;
        this.#at = this.#from = this.#to = this.#lineEnd;
        break;
      }
      case SIMPLE:
      case ERROR:
      case NUMBER:
      case BIG_NUMBER:
      case DOUBLE:
      case BOOLEAN:
      case NULL: {
        const to = this.#line(at + 1);
        if (to === UNFINISHED) return MORE;
        if (to === INVALID || !this.#isScalar(kind, at + 1, to)) return this.#break(`invalid ${nameOfKind(kind)}`);
        this.#kind = kind;
        this.#from = at + 1;
        this.#to = to;
        this.#at = this.#lineEnd;
        break;
      }
      default:
        return this.#break(`expected '$', got '${printable(kind)}'`);
    }
    if (this.#at - this.#start > this.#limits.commandBytesMax) {
      // The value is read already: put it back, so that it is counted among those to skip.
      if (kind === ARRAY || kind === SET || kind === PUSH || kind === MAP || kind === ATTRIBUTE) this.#inside.pop();
      this.#at = at;
      return this.#refuseBytes();
    }
    return VALUE;
  }

  /** Reads on in a frame that is refused and keeps nothing of it. */
  #skip(): number {
    for (;;) {
      if (this.#skippingBytes > 0) {
        const bytes = Math.min(this.#skippingBytes, this.#end - this.#at);
        this.#skippingBytes -= bytes;
        this.#start = this.#at += bytes;
        if (this.#skippingBytes > 0) return MORE;
      }
      if (this.#skipping === 0) return REFUSED;
      if (this.#at === this.#end) return MORE;
      const kind = this.#buffer[this.#at]!;
      switch (kind) {
        case BULK:
        case VERBATIM:
        case BULK_ERROR: {
          const length = this.#length(this.#at + 1);
          if (length === UNFINISHED) return MORE;
          if (length === INVALID) return this.#break("invalid bulk length");
          this.#skippingBytes = length + 2;
          this.#skipping--;
          break;
        }
        case ARRAY:
        case SET:
        case PUSH:
        case MAP:
        case ATTRIBUTE: {
          const count = this.#length(this.#at + 1);
          if (count === UNFINISHED) return MORE;
          if (count === INVALID) return this.#break("invalid multibulk length");
          this.#skipping += kind === ATTRIBUTE ? 2 * count : kind === MAP ? 2 * count - 1 : count - 1;
          if (this.#skipping > Number.MAX_SAFE_INTEGER) return this.#break("invalid multibulk length");
          break;
        }
        default: {
          if (!isTypeByte(kind)) return this.#break(`expected '$', got '${printable(kind)}'`);
          const to = this.#line(this.#at + 1);
          if (to === UNFINISHED) return MORE;
          if (to === INVALID) return this.#break(`invalid ${nameOfKind(kind)}`);
          this.#skipping--;
        }
      }
      this.#start = this.#at = this.#lineEnd;
    }
  }

  /** A line of words, as a person types them. */
  #inline(): number {
    const lineFeed = this.#lineFeed(this.#at);
    if (lineFeed === UNFINISHED) return MORE;
    if (lineFeed === INVALID) return this.#break("too big inline request");
    const line = this.#buffer.slice(this.#at, lineFeed);
    this.words.clear();
    this.words.bytes = line;
    this.words.base = 0;
    this.words.byteLength = line.length;
    this.words.stable = true;
    this.#at = lineFeed + 1;
    this.#done();
    if (!splitLine(line, this.words)) return this.#break("unbalanced quotes in request");
    return this.words.count === 0 ? AGAIN : COMMAND;
  }

  #done(): void {
    this.#start = this.#at;
    this.#left = NONE;
    this.#needed = 0;
  }

  #refuseBytes(): number {
    const { commandBytesMax } = this.#limits;
    return this.#refuse(
      new ReplyError(
        "DBOPFAILED",
        `The command is larger than ${commandBytesMax} bytes, the limit. Nothing was stored`,
      ),
    );
  }

  #refuseWords(found: number): number {
    const { wordsMax } = this.#limits;
    return this.#refuse(
      new ReplyError("DBOPFAILED", `The command has ${found} words: the limit is ${wordsMax}. Nothing was stored`),
    );
  }

  #refuseNesting(): number {
    const { nestingMax } = this.#limits;
    return this.#refuse(
      new ReplyError("DBOPFAILED", `The command is nested deeper than ${nestingMax}, the limit. Nothing was stored`),
    );
  }

  /** From here on the frame is read to its end without being kept. `at` is where its next value begins. */
  #refuse(problem: ReplyError): number {
    this.#problem = problem;
    this.#skipping = this.#left === NONE ? 1 : this.#left; // Of an attribute's values the command itself follows.
    for (const values of this.#inside) this.#skipping += values;
    // Attributes stand before a value that is counted above, not in place of one: nothing to take off.
    this.#inside.length = 0;
    this.words.clear();
    this.#done();
    return AGAIN;
  }

  #break(why: string): number {
    this.#broken = true;
    this.#skipping = this.#skippingBytes = 0;
    this.#left = NONE;
    this.#inside.length = 0;
    this.#problem = new ReplyError("ERR", `Protocol error: ${why}`);
    return BROKEN;
  }

  /** The length written from `at`, with `#lineEnd` behind it. */
  #length(at: number): number {
    const buffer = this.#buffer;
    const end = this.#end;
    let length = 0;
    for (let i = at; i < end; i++) {
      const digit = buffer[i]! - 0x30;
      if (digit >= 0 && digit <= 9) {
        if (i - at === LENGTH_DIGITS_MAX) return INVALID;
        length = length * 10 + digit;
        continue;
      }
      if (buffer[i] !== CR || i === at) return INVALID;
      if (i + 1 === end) return UNFINISHED;
      if (buffer[i + 1] !== LF) return INVALID;
      this.#lineEnd = i + 2;
      return length;
    }
    return UNFINISHED;
  }

  /** Where the text of the line from `at` ends, with `#lineEnd` behind its CR LF. */
  #line(at: number): number {
    const lineFeed = this.#lineFeed(at);
    if (lineFeed < 0) return lineFeed;
    if (lineFeed === at || this.#buffer[lineFeed - 1] !== CR) return INVALID;
    this.#lineEnd = lineFeed + 1;
    return lineFeed - 1;
  }

  #lineFeed(at: number): number {
    const found = this.#buffer.subarray(at, Math.min(this.#end, at + LINE_BYTES_MAX)).indexOf(LF);
    if (found >= 0) return at + found;
    return this.#end - at >= LINE_BYTES_MAX ? INVALID : UNFINISHED;
  }

  #isScalar(kind: number, from: number, to: number): boolean {
    if (kind === SIMPLE || kind === ERROR) return true;
    let text = "";
    for (let i = from; i < Math.min(to, from + 1024); i++) text += String.fromCharCode(this.#buffer[i]!);
    return SCALAR_FORMS[kind]!.test(text);
  }

  #moveToNew(bytes: number): void {
    const held = this.#buffer.subarray(this.#start, this.#end);
    this.#buffer = new Uint8Array(bytes);
    this.#buffer.set(held);
    this.#moved(held.length);
  }

  #moved(held: number): void {
    this.#at -= this.#start;
    this.#start = 0;
    this.#end = held;
  }
}

const SCALAR_FORMS: Record<number, RegExp> = {
  [NUMBER]: /^[+-]?[0-9]+$/,
  [BIG_NUMBER]: /^[+-]?[0-9]+$/,
  [DOUBLE]: /^(?:[+-]?[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?|[+-]?inf|nan)$/i,
  [BOOLEAN]: /^[tf]$/,
  [NULL]: /^$/,
};

const KIND_NAMES = new Map<number, string>([
  [SIMPLE, "simple string"],
  [ERROR, "error"],
  [NUMBER, "number"],
  [BULK, "bulk string"],
  [ARRAY, "array"],
  [NULL, "null"],
  [BOOLEAN, "boolean"],
  [DOUBLE, "double"],
  [BIG_NUMBER, "big number"],
  [BULK_ERROR, "bulk error"],
  [VERBATIM, "verbatim string"],
  [MAP, "map"],
  [SET, "set"],
  [PUSH, "push"],
  [ATTRIBUTE, "attribute"],
]);

/** What a type byte stands for, in words. */
export function nameOfKind(kind: number): string {
  return KIND_NAMES.get(kind) ?? "unknown";
}

function isTypeByte(byte: number): boolean {
  return KIND_NAMES.has(byte);
}

function printable(byte: number): string {
  return byte > 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`;
}

const SPACE = 0x20;
const DOUBLE_QUOTE = 0x22;
const SINGLE_QUOTE = 0x27;
const BACKSLASH = 0x5c;
const ESCAPES = new Map([["n", LF], ["r", CR], ["t", 0x09], ["b", 0x08], ["a", 0x07]].map(
  ([letter, byte]) => [(letter as string).charCodeAt(0), byte as number],
));

/**
 * Splits a line into words as redis-cli does: blanks part them, `"…"` knows escapes and `\xHH`, `'…'` only `\'`. Words
 * are unquoted in place, which only makes them shorter. False when a quote is not closed, or closed inside a word.
 */
function splitLine(line: Uint8Array, words: Words): boolean {
  let at = 0;
  let to = 0;
  for (;;) {
    while (at < line.length && isBlank(line[at]!)) at++;
    if (at === line.length) return true;
    const from = to;
    while (at < line.length && !isBlank(line[at]!)) {
      const quote = line[at]!;
      if (quote !== DOUBLE_QUOTE && quote !== SINGLE_QUOTE) {
        line[to++] = line[at++]!;
        continue;
      }
      at++;
      for (;; at++) {
        if (at === line.length) return false;
        let byte = line[at]!;
        if (byte === quote) break;
        if (byte === BACKSLASH && at + 1 < line.length) {
          const next = line[at + 1]!;
          if (quote === SINGLE_QUOTE) {
            if (next === SINGLE_QUOTE) byte = line[++at]!;
          } else if (next === 0x78 && isHex(line[at + 2]) && isHex(line[at + 3])) {
            byte = parseInt(String.fromCharCode(line[at + 2]!, line[at + 3]!), 16);
            at += 3;
          } else {
            byte = ESCAPES.get(next) ?? next;
            at++;
          }
        }
        line[to++] = byte;
      }
      at++;
      if (at < line.length && !isBlank(line[at]!)) return false;
    }
    words.add(BULK, from, to);
  }
}

function isBlank(byte: number): boolean {
  return byte === SPACE || byte === 0x09 || byte === CR || byte === 0x0b || byte === 0x0c || byte === 0;
}

function isHex(byte: number | undefined): boolean {
  return byte !== undefined && /^[0-9a-fA-F]$/.test(String.fromCharCode(byte));
}
