/**
 * `EPSEQ`: the sequence of a partition's last event, or null while it has none.
 *
 * @module
 */
import type { Freshness } from "../../core/store.ts";
import type { ReadingCommand } from "./command.ts";
import { FRESHNESS, readFreshness } from "./freshness.ts";

export const epseq: ReadingCommand = {
  name: "EPSEQ",
  does: "reads",
  summary: "Returns the sequence of a partition's last event, or null while it has none",
  syntax: `<partition:integer | partition_key> ${FRESHNESS}`,
  group: "events",
  since: "0.1.0",
  prepare(args, { store }) {
    const asked = args.partition("partition");
    const freshness: Freshness = {};
    while (args.left > 0) if (!readFreshness(args, freshness)) throw args.unexpected();
    const partition = typeof asked === "number" ? asked : store.partitionOfKey(asked);
    return async (reply) => reply.value(await store.partitionSequence(partition, freshness));
  },
};
