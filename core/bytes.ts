/**
 * Whether bytes are the same. By hand, because what is compared here is short.
 *
 * @module
 */

/** Whether `bytes` hold `expected` from `at`. */
export function bytesStandAt(bytes: Uint8Array, at: number, expected: Uint8Array): boolean {
  for (let i = 0; i < expected.length; i++) if (bytes[at + i] !== expected[i]) return false;
  return true;
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && bytesStandAt(a, 0, b);
}
