/**
 * `EGET`: an event by its id.
 *
 * @module
 */
import { writeRecord } from "../replies.ts";
import type { ReadingCommand } from "./command.ts";

export const eget: ReadingCommand = {
  name: "EGET",
  does: "reads",
  summary: "Returns the event of an id, or null",
  syntax: "event_id",
  group: "events",
  since: "0.1.0",
  prepare(args, { store }) {
    const eventId = args.uuid("event id");
    args.end();
    return async (reply) => {
      const record = await store.event(eventId);
      if (record === null) reply.null();
      else writeRecord(reply, record);
    };
  },
};
