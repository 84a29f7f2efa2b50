/**
 * The id of this node as clients see it in HELLO: a libp2p peer id of an Ed25519 key.
 *
 *     base58btc( 0x00 0x24 | 0x08 0x01 0x12 0x20 | public key )
 *                identity,   type 1 = Ed25519,
 *                36 bytes    32 bytes of key
 *
 * The key is made anew at each start and not kept: nothing signs with it before there is a cluster.
 *
 * @module
 */

const PREFIX = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/** Makes a key and returns its peer id: 52 letters, from `12D3KooW` on. */
export async function newPeerId(): Promise<string> {
  const pair = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]) as CryptoKeyPair;
  return peerIdOf(new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)));
}

/** The peer id of an Ed25519 public key. */
export function peerIdOf(publicKey: Uint8Array): string {
  let number = 0n;
  let zeros = "";
  for (const byte of [...PREFIX, ...publicKey]) {
    if (number === 0n && byte === 0) zeros += ALPHABET[0];
    number = number << 8n | BigInt(byte);
  }
  let text = "";
  for (; number > 0n; number /= 58n) text = ALPHABET[Number(number % 58n)] + text;
  return zeros + text;
}
