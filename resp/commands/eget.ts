/**
 * `EGET`: an event by its id, whose hash says in which partition it lies.
 *
 * @module
 */
import type { Freshness } from "../../core/store.ts";
import { writeRecord } from "../replies.ts";
import type { ReadingCommand } from "./command.ts";
import { FRESHNESS, readFreshness } from "./freshness.ts";

export const eget: ReadingCommand = {
  name: "EGET",
  does: "reads",
  summary: "Returns the event of an id, or null",
  syntax: `event_id ${FRESHNESS}`,
  group: "events",
  since: "0.1.0",
  prepare(args, { store }) {
    const eventId = args.uuid("event id");
    const freshness: Freshness = {};
    while (args.left > 0) if (!readFreshness(args, freshness)) throw args.unexpected();
    return async (reply) => {
      const record = await store.event(eventId, freshness);
      if (record === null) reply.null();
      else writeRecord(reply, record);
    };
  },
};
