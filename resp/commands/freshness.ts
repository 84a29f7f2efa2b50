/**
 * How new what is read must be: two options of every read.
 *
 *     [AT_LEAST sequence] [LEADER]
 *
 * `AT_LEAST` names the sequence that an append has told its writer: the partition is read when it is readable up to
 * there. So a client sees what it has written itself, at whatever node it reads. `LEADER` makes it see all that was
 * acknowledged before, to whomever. A lone node has all that there is: it refuses a sequence that it does not have, and
 * is its own leader. What cannot be given soon is `-TRYAGAIN`.
 *
 * @module
 */
import type { Freshness } from "../../core/store.ts";
import type { Arguments } from "../arguments.ts";

/** How a command's syntax names them. */
export const FRESHNESS = "[AT_LEAST sequence:integer] [LEADER]";

/** Reads one of them. False when the next word is neither. */
export function readFreshness(args: Arguments, freshness: Freshness): boolean {
  if (args.option("AT_LEAST", freshness.atLeast)) freshness.atLeast = args.number("sequence of AT_LEAST");
  else if (args.option("LEADER", freshness.fromLeader)) freshness.fromLeader = true;
  else return false;
  return true;
}
