/**
 * Expected version against current version: one pure question.
 *
 * @module
 */

/** What a writer believes about a stream: anything, that it has events, that it has none, or its last version. */
export type ExpectedVersion = "any" | "exists" | "empty" | number;

/** Whether a stream whose last version is `current` (null: no events) is as the writer `expected` it. */
export function meets(expected: ExpectedVersion, current: number | null): boolean {
  switch (expected) {
    case "any":
      return true;
    case "exists":
      return current !== null;
    case "empty":
      return current === null;
    default:
      return current === expected;
  }
}
