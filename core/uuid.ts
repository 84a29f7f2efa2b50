/**
 * UUIDs as sixteen bytes: parse, print, version 5, and the event id that carries its partition hash.
 *
 *     event id    0        6               8                             16
 *                 48-bit ms | 12 random, 7 | 10, 16-bit hash, 46 random
 *
 * The version nibble of an event id stands after the random bits, so these are not RFC 9562 version 7 UUIDs: the wire
 * is SierraDB's, whose clients check only the hash. Sortable by millisecond.
 *
 * Written by hand because it stands on the hot path of every append: version 5 by npm's `uuid` costs 7.6 µs, this 0.4.
 *
 * @module
 */
import { sha1, SHA1_PADDING_BYTES } from "./sha1.ts";
import { shortLived } from "./slab.ts";

/** Character codes of the two digits of each byte. */
const HIGH = Uint8Array.from({ length: 256 }, (_, byte) => codeOfDigit(byte >> 4));
const LOW = Uint8Array.from({ length: 256 }, (_, byte) => codeOfDigit(byte & 15));
const HYPHEN = 0x2d;

/**
 * Lowercase, hyphenated. `bytes` holds the sixteen bytes from `at`. Made in one piece: put together from twenty it would
 * be a rope, which costs 340 ns to make and to write out, this 150.
 */
// deno-fmt-ignore
export function formatUuid(bytes: Uint8Array, at = 0): string {
  const a = bytes[at]!, b = bytes[at + 1]!, c = bytes[at + 2]!, d = bytes[at + 3]!;
  const e = bytes[at + 4]!, f = bytes[at + 5]!, g = bytes[at + 6]!, h = bytes[at + 7]!;
  const i = bytes[at + 8]!, j = bytes[at + 9]!, k = bytes[at + 10]!, l = bytes[at + 11]!;
  const m = bytes[at + 12]!, n = bytes[at + 13]!, o = bytes[at + 14]!, p = bytes[at + 15]!;
  return String.fromCharCode(
    HIGH[a]!, LOW[a]!, HIGH[b]!, LOW[b]!, HIGH[c]!, LOW[c]!, HIGH[d]!, LOW[d]!, HYPHEN,
    HIGH[e]!, LOW[e]!, HIGH[f]!, LOW[f]!, HYPHEN, HIGH[g]!, LOW[g]!, HIGH[h]!, LOW[h]!, HYPHEN,
    HIGH[i]!, LOW[i]!, HIGH[j]!, LOW[j]!, HYPHEN, HIGH[k]!, LOW[k]!, HIGH[l]!, LOW[l]!,
    HIGH[m]!, LOW[m]!, HIGH[n]!, LOW[n]!, HIGH[o]!, LOW[o]!, HIGH[p]!, LOW[p]!,
  );
}

/** The same as `formatUuid`, as ASCII straight into `into`: where the text is only written out, it need not be made. */
export function writeUuid(into: Uint8Array, at: number, bytes: Uint8Array, from = 0): void {
  for (let i = 0; i < 16; i++) {
    if (i === 4 || i === 6 || i === 8 || i === 10) into[at++] = HYPHEN;
    const byte = bytes[from + i]!;
    into[at++] = HIGH[byte]!;
    into[at++] = LOW[byte]!;
  }
}

function codeOfDigit(digit: number): number {
  return digit.toString(16).charCodeAt(0);
}

const UUID_FORM =
  /^\s*(?:urn:uuid:)?(?:([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})|([0-9a-f]{32}))\s*$/i;
const BRACED_FORM = /^\s*\{([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\}\s*$/i;

/** By character code: the value of a hexadecimal digit, 255 for none. */
const DIGIT = new Uint8Array(256).fill(255);
for (let digit = 0; digit < 16; digit++) {
  DIGIT[codeOfDigit(digit)] = digit;
  DIGIT[digit.toString(16).toUpperCase().charCodeAt(0)] = digit;
}
/** Characters of a UUID written hyphenated. */
export const UUID_TEXT_BYTES = 36;

/** The UUID that is written hyphenated, in 36 bytes of ASCII from `from`; null if it is not, though it may have another form. */
export function readUuid(bytes: Uint8Array, from: number): Uint8Array | null {
  const uuid = shortLived.take(16);
  let at = from;
  for (let i = 0; i < 16; i++) {
    if ((i === 4 || i === 6 || i === 8 || i === 10) && bytes[at++] !== HYPHEN) return null;
    const high = DIGIT[bytes[at++]!]!, low = DIGIT[bytes[at++]!]!;
    if ((high | low) > 15) return null;
    uuid[i] = high << 4 | low;
  }
  return uuid;
}

/** The sixteen bytes of a UUID written hyphenated, as 32 digits, in braces, or as a URN, in either case; else null. */
export function parseUuid(text: string): Uint8Array | null {
  const usual = text.length === UUID_TEXT_BYTES ? readUuid(asciiOf(text), 0) : null;
  if (usual !== null) return usual;
  const match = UUID_FORM.exec(text) ?? UUID_FORM.exec(BRACED_FORM.exec(text)?.[1] ?? "");
  if (match === null) return null;
  const digits = match[6] ?? match[1]! + match[2] + match[3] + match[4] + match[5];
  const bytes = new Uint8Array(16);
  for (let i = 0; i < 16; i++) bytes[i] = parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

const ascii = new Uint8Array(UUID_TEXT_BYTES);

/** The characters of a text of 36, with 255 for what is not ASCII. Good until the next call. */
function asciiOf(text: string): Uint8Array {
  for (let i = 0; i < UUID_TEXT_BYTES; i++) ascii[i] = Math.min(255, text.charCodeAt(i));
  return ascii;
}

/** The namespace of default partition keys: UUIDv5(DNS namespace, "sierradb.tqwewe.com"). */
export const PARTITION_KEY_NAMESPACE = parseUuid("219bd637-e279-53e9-9e2b-eabe5d9120cc")!;

/** The longest name that is hashed: a stream id has 64 bytes. */
const NAME_BYTES_MAX = 1024;
const v5Input = new Uint8Array(16 + NAME_BYTES_MAX + SHA1_PADDING_BYTES);
const v5Hash = new Int32Array(4);

/** UUIDv5 (RFC 9562) of the name, of at most 1024 bytes, that is in `bytes` from `from` to `to`. */
export function uuidV5(namespace: Uint8Array, bytes: Uint8Array, from = 0, to = bytes.length): Uint8Array {
  const nameBytes = to - from;
  if (nameBytes > NAME_BYTES_MAX) throw new RangeError(`Cannot make a UUID of a name of ${nameBytes} bytes`);
  for (let i = 0; i < 16; i++) v5Input[i] = namespace[i]!;
  for (let i = 0; i < nameBytes; i++) v5Input[16 + i] = bytes[from + i]!;
  sha1(v5Input, 16 + nameBytes, v5Hash);
  const uuid = shortLived.take(16);
  for (let i = 0; i < 16; i++) uuid[i] = v5Hash[i >> 2]! >>> 24 - 8 * (i & 3);
  uuid[6] = uuid[6]! & 0x0f | 0x50;
  uuid[8] = uuid[8]! & 0x3f | 0x80;
  return uuid;
}

/** Whether a UUID may be one that `uuidV5` made. */
export function isMadeFromName(uuid: Uint8Array): boolean {
  return uuid[6]! >>> 4 === 5;
}

/** A new event id for a partition hash: `now` in milliseconds, chance from `random`. */
export function newEventId(partitionHash: number, now: number, random: (bytes: Uint8Array) => void): Uint8Array {
  const id = shortLived.take(16);
  random(id);
  const high = Math.floor(now / 0x10000);
  id[0] = high >>> 24;
  id[1] = high >>> 16;
  id[2] = high >>> 8;
  id[3] = high;
  id[4] = now % 0x10000 >>> 8;
  id[5] = now;
  id[7] = id[7]! & 0xf0 | 0x07;
  id[8] = 0x80 | partitionHash >>> 10;
  id[9] = partitionHash >>> 2;
  id[10] = (partitionHash & 0x03) << 6 | id[10]! & 0x3f;
  return id;
}

/** The id of the transaction that begins with `firstEventId`. A reader sees in it whether the transaction has more than one event. */
export function transactionIdOf(firstEventId: Uint8Array, eventCount: number): Uint8Array {
  const id = shortLived.copy(firstEventId.subarray(0, 16));
  id[6] = id[6]! & 0x0f | 0x40;
  id[8] = id[8]! & 0x3f | (eventCount === 1 ? 0x80 : 0x00);
  return id;
}

/** The same as text, straight into `into`, of the first event's id that is in `bytes` from `from`. */
export function writeTransactionId(
  into: Uint8Array,
  at: number,
  bytes: Uint8Array,
  from: number,
  eventCount: number,
): void {
  writeUuid(into, at, bytes, from);
  into[at + 14] = HIGH[0x40]!;
  into[at + 19] = HIGH[bytes[from + 8]! & 0x3f | (eventCount === 1 ? 0x80 : 0x00)]!;
}

/** Whether the transaction of this id has more than one event. */
export function isOfSeveral(transactionId: string): boolean {
  return transactionId.charCodeAt(19) < 0x38; // "8": the top bit of byte 8.
}
