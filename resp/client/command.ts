/**
 * Words → the bytes of a command: an array of bulk strings.
 *
 * @module
 */

/** Text is sent as UTF-8. */
export type Word = string | number | Uint8Array;

const utf8 = new TextEncoder();
let scratch = new Uint8Array(4096);

export function commandOf(words: readonly Word[]): Uint8Array {
  let at = writeAscii(0, `*${words.length}\r\n`);
  for (const word of words) {
    if (typeof word !== "string" || !isShortAscii(word)) {
      const bytes = typeof word === "object" ? word : utf8.encode(String(word));
      at = writeAscii(at, `$${bytes.length}\r\n`);
      reserve(at, bytes.length + 2);
      scratch.set(bytes, at);
      at = writeAscii(at + bytes.length, "\r\n");
    } else at = writeAscii(at, `$${word.length}\r\n${word}\r\n`);
  }
  const command = scratch.slice(0, at);
  if (scratch.length > SCRATCH_BYTES_MAX) scratch = new Uint8Array(4096);
  return command;
}

/** What a large command leaves behind is not kept. */
const SCRATCH_BYTES_MAX = 1024 * 1024;

function isShortAscii(text: string): boolean {
  if (text.length > 256) return false;
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return false;
  return true;
}

function writeAscii(at: number, text: string): number {
  reserve(at, text.length);
  for (let i = 0; i < text.length; i++) scratch[at + i] = text.charCodeAt(i);
  return at + text.length;
}

function reserve(at: number, bytes: number): void {
  if (at + bytes <= scratch.length) return;
  const larger = new Uint8Array(Math.max(2 * scratch.length, at + bytes));
  larger.set(scratch.subarray(0, at));
  scratch = larger;
}
