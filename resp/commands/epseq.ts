/**
 * `EPSEQ`: the sequence of a partition's last event, or null while it has none.
 *
 * @module
 */
import type { ReadingCommand } from "./command.ts";

export const epseq: ReadingCommand = {
  name: "EPSEQ",
  does: "reads",
  summary: "Returns the sequence of a partition's last event, or null while it has none",
  syntax: "<partition:integer | partition_key>",
  group: "events",
  since: "0.1.0",
  prepare(args, { store }) {
    const asked = args.partition("partition");
    args.end();
    const partition = typeof asked === "number" ? asked : store.partitionOfKey(asked);
    return async (reply) => reply.value(await store.partitionSequence(partition));
  },
};
