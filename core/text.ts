/**
 * Text from UTF-8 bytes, for names: short, mostly ASCII, and the same ones again and again.
 *
 * A name that was read lately is not made anew: to compare 20 bytes costs 60 ns, to make a string of them 200, to ask a
 * TextDecoder 155 to 300, and the string would be garbage.
 *
 * @module
 */

/** Beyond it the TextDecoder is as fast. */
const BY_HAND_BYTES_MAX = 64;
const KNOWN_TEXTS = 512;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** ASCII, each in the slot of its bytes. A newer one takes the slot. */
const known: string[] = Array.from({ length: KNOWN_TEXTS }, () => "");

/** The text of the bytes from `from` to `to`. @throws {TypeError} they are not UTF-8 */
export function textOf(bytes: Uint8Array, from: number, to: number): string {
  const length = to - from;
  if (length === 0) return "";
  if (length > BY_HAND_BYTES_MAX) return decoder.decode(bytes.subarray(from, to));
  const ends = bytes[from]! + 31 * bytes[to - 1]! + 7 * bytes[to - 1 - (length >> 2)]!;
  const slot = ends + 131 * bytes[from + (length >> 1)]! + length & KNOWN_TEXTS - 1;
  const text = known[slot]!;
  if (text.length === length) {
    let i = 0;
    while (i < length && text.charCodeAt(i) === bytes[from + i]) i++;
    // A code of ASCII is its byte; what is not ASCII is never known.
    if (i === length) return text;
  }
  const made = decoder.decode(bytes.subarray(from, to));
  if (made.length === length) known[slot] = made; // No byte fewer than characters: so it is ASCII.
  return made;
}
