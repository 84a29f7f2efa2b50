/**
 * SHA-1 (RFC 3174) of short messages, for the UUIDs that are made from names.
 *
 * By hand, because the stream of every append and of every frame that is read is hashed: across the border to
 * `node:crypto` a hash of one block costs 0.9 µs, here 0.3. Against a cache of what was hashed before it is slower only
 * for the few streams that come all the time, and holds nothing.
 *
 * @module
 */

/** A message is given in a buffer with so many bytes of room behind it. */
export const SHA1_PADDING_BYTES = 72;

const words = new Int32Array(80);

/** Writes the first four of the five words of the hash into `hash`. Overwrites what is behind the message. */
export function sha1(message: Uint8Array, length: number, hash: Int32Array): void {
  const end = length + 72 & ~63; // One bit and the length follow the message.
  message[length] = 0x80;
  for (let i = length + 1; i < end - 4; i++) message[i] = 0;
  message[end - 4] = length >>> 21;
  message[end - 3] = length >>> 13;
  message[end - 2] = length >>> 5;
  message[end - 1] = length << 3;

  let h0 = 0x67452301, h1 = 0xefcdab89 | 0, h2 = 0x98badcfe | 0, h3 = 0x10325476, h4 = 0xc3d2e1f0 | 0;
  const w = words;
  for (let at = 0; at < end; at += 64) {
    for (let i = 0, p = at; i < 16; i++, p += 4) {
      w[i] = message[p]! << 24 | message[p + 1]! << 16 | message[p + 2]! << 8 | message[p + 3]!;
    }
    for (let i = 16; i < 80; i++) {
      const x = w[i - 3]! ^ w[i - 8]! ^ w[i - 14]! ^ w[i - 16]!;
      w[i] = x << 1 | x >>> 31;
    }
    let a = h0, b = h1, c = h2, d = h3, e = h4;
    // Four loops that are alike but for one line: a call in each round would cost as much as the round.
    for (let i = 0; i < 20; i++) {
      const next = (a << 5 | a >>> 27) + (d ^ b & (c ^ d)) + e + w[i]! + 0x5a827999 | 0;
      e = d, d = c, c = b << 30 | b >>> 2, b = a, a = next;
    }
    for (let i = 20; i < 40; i++) {
      const next = (a << 5 | a >>> 27) + (b ^ c ^ d) + e + w[i]! + 0x6ed9eba1 | 0;
      e = d, d = c, c = b << 30 | b >>> 2, b = a, a = next;
    }
    for (let i = 40; i < 60; i++) {
      const next = (a << 5 | a >>> 27) + (b & c | d & (b | c)) + e + w[i]! + 0x8f1bbcdc | 0;
      e = d, d = c, c = b << 30 | b >>> 2, b = a, a = next;
    }
    for (let i = 60; i < 80; i++) {
      const next = (a << 5 | a >>> 27) + (b ^ c ^ d) + e + w[i]! + 0xca62c1d6 | 0;
      e = d, d = c, c = b << 30 | b >>> 2, b = a, a = next;
    }
    h0 = h0 + a | 0, h1 = h1 + b | 0, h2 = h2 + c | 0, h3 = h3 + d | 0, h4 = h4 + e | 0;
  }
  hash[0] = h0, hash[1] = h1, hash[2] = h2, hash[3] = h3;
}
