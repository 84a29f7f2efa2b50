/**
 * How new a read must be, asked of a store that has all there is: what is not readable in it now is readable nowhere.
 *
 * @module
 */
import { InvalidArgument, TryAgain } from "./errors.ts";
import { identify, requireUuid } from "./event.ts";
import { partitionHash, partitionOf } from "./placement.ts";
import type { Selection } from "./store.ts";

/** @throws {InvalidArgument} it is no sequence */
export function requireSequence(atLeast: number): void {
  if (Number.isSafeInteger(atLeast) && atLeast >= 0) return;
  throw new InvalidArgument(`atLeast is a sequence, a whole number from 0: found ${atLeast}`);
}

/**
 * The partition must be readable up to `atLeast`. `last` is the sequence of its last event, null while it has none.
 * @throws {InvalidArgument} it is no sequence
 * @throws {TryAgain} it is not readable yet
 */
export function requireReadable(partition: number, last: number | null, atLeast: number): void {
  requireSequence(atLeast);
  if (last !== null && last >= atLeast) return;
  throw new TryAgain(
    `Partition ${partition} must be readable up to sequence ${atLeast}, and is not yet: ` +
      (last === null ? "it has no events" : `its last is ${last}`),
  );
}

/**
 * The one partition of a selection, to which a sequence belongs.
 * @throws {InvalidArgument} it is of several, for each of which the number would be another event, or of none
 */
export function onlyPartition(selection: Selection, partitionCount: number): number {
  const partitions = partitionsOf(selection, partitionCount);
  if (partitions.size === 1) return [...partitions][0]!;
  throw new InvalidArgument(
    `A sequence that must be readable is one of a single partition: found ${partitions.size} of them`,
  );
}

function partitionsOf(selection: Selection, partitionCount: number): Set<number> {
  if ("streams" in selection) {
    return new Set(selection.streams.map(({ streamId, partitionKey }) => {
      const given = partitionKey === undefined ? null : requireUuid(partitionKey, "partition key");
      return partitionOf(partitionHash(identify(streamId, given).partitionKey), partitionCount);
    }));
  }
  const all = Array.from({ length: partitionCount }, (_, partition) => partition);
  if (selection.partitions === "all") return new Set(all);
  const named = new Set(selection.partitions);
  return new Set(all.filter((partition) => named.has(partition)));
}
