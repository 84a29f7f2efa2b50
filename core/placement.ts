/**
 * Where a key lives: partition key → partition hash → partition → bucket. The only place that knows the sums.
 *
 * @module
 */

/** The 16 bits of a UUID that choose its partition: bits 61 to 46. An event id carries those of its partition key. */
export function partitionHash(uuid: Uint8Array): number {
  return (uuid[8]! & 0x3f) << 10 | uuid[9]! << 2 | uuid[10]! >>> 6;
}

export function partitionOf(hash: number, partitionCount: number): number {
  return hash % partitionCount;
}

export function bucketOf(partition: number, bucketCount: number): number {
  return partition % bucketCount;
}
