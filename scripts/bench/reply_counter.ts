/**
 * Finds where replies end, and which are errors, without making values of them: what a loader needs, at a fraction of
 * what reading would cost. It understands RESP2 and RESP3, in any slices.
 *
 * @module
 */
import { NotRespError } from "../resp_client.ts";

const CR = 13, LF = 10, MINUS = 45, ZERO = 48;
const DOLLAR = 36, STAR = 42, PLUS = 43, COLON = 58, EQUALS = 61, BANG = 33;
const PERCENT = 37, TILDE = 126, GREATER = 62, UNDERSCORE = 95, HASH = 35, COMMA = 44, BRACKET = 40;
/** Errors are short; of a longer one this much is kept. */
const ERROR_BYTES_MAX = 1024;

const text = new TextDecoder();

export class ReplyCounter {
  /** Values that the reply at hand still lacks, 0 between two replies. */
  #lacking = 0;
  /** Bytes of a bulk, and its line's end, that are still to come. */
  #skip = 0;
  /** A line whose end has not come. */
  #line: number[] = [];
  /** Whether nothing has been opened yet in the reply at hand: then an error is the reply, and not a part of it. */
  #top = true;

  /** Whether it stands between two replies. */
  get empty(): boolean {
    return this.#lacking === 0 && this.#skip === 0 && this.#line.length === 0;
  }

  /** Takes a slice; calls `reply` for every reply that ends in it, with its text if it is an error, else null. */
  push(slice: Uint8Array, reply: (error: string | null) => void): void {
    const end = slice.length;
    let at = 0;
    while (at < end) {
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, end - at);
        at += skipped;
        this.#skip -= skipped;
        if (this.#skip === 0) this.#valueEnds(null, reply);
        continue;
      }
      const from = at;
      while (at < end && slice[at] !== LF) at++;
      const whole = at < end;
      if (whole) at++;
      if (whole && this.#line.length === 0) {
        this.#take(slice, from, at - 2, reply);
        continue;
      }
      for (let i = from; i < at; i++) this.#line.push(slice[i]!);
      if (!whole) return;
      const line = Uint8Array.from(this.#line);
      this.#line = [];
      this.#take(line, 0, line.length - 2, reply);
    }
  }

  /** A line, without its end. */
  #take(bytes: Uint8Array, from: number, end: number, reply: (error: string | null) => void): void {
    if (bytes[end] !== CR) throw new NotRespError("LF without CR");
    if (this.#lacking === 0) {
      this.#lacking = 1;
      this.#top = true;
    }
    switch (bytes[from]) {
      case PLUS:
      case COLON:
      case UNDERSCORE:
      case HASH:
      case COMMA:
      case BRACKET:
        return this.#valueEnds(null, reply);
      case MINUS:
        return this.#valueEnds(
          this.#top ? text.decode(bytes.subarray(from + 1, Math.min(end, from + ERROR_BYTES_MAX))) : null,
          reply,
        );
      case DOLLAR:
      case EQUALS:
      case BANG: {
        const length = integer(bytes, from + 1, end);
        if (length < 0) return this.#valueEnds(null, reply);
        this.#skip = length + 2;
        return;
      }
      case STAR:
      case TILDE:
      case GREATER:
        return this.#opens(integer(bytes, from + 1, end), reply);
      case PERCENT:
        return this.#opens(2 * integer(bytes, from + 1, end), reply);
      default:
        throw new NotRespError(`no type of RESP: ${text.decode(bytes.subarray(from, from + 40))}`);
    }
  }

  #opens(values: number, reply: (error: string | null) => void): void {
    this.#top = false;
    if (values > 0) this.#lacking += values;
    this.#valueEnds(null, reply);
  }

  #valueEnds(error: string | null, reply: (error: string | null) => void): void {
    if (--this.#lacking === 0) reply(error);
  }
}

function integer(bytes: Uint8Array, from: number, end: number): number {
  const negative = bytes[from] === MINUS;
  let value = 0;
  for (let i = negative ? from + 1 : from; i < end; i++) {
    const digit = bytes[i]! - ZERO;
    value = digit < 0 || digit > 9 ? NaN : 10 * value + digit;
  }
  if (!Number.isSafeInteger(value)) throw new NotRespError("not a number");
  return negative ? -value : value;
}
