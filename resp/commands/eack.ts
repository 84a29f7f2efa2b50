/**
 * `EACK`: the client has done its part with all events of a subscription up to this one, and may be sent as many more.
 *
 * @module
 */
import type { Delivery } from "../delivery.ts";
import { ReplyError } from "../value.ts";
import type { AnsweringCommand, Client } from "./command.ts";

export const eack: AnsweringCommand = {
  name: "EACK",
  does: "answers",
  summary: "Acknowledges the events of a subscription up to a cursor, which opens its window",
  syntax: "subscription_id cursor:integer",
  group: "subscriptions",
  since: "0.1.0",
  prepare(args, { client }) {
    const id = args.uuid("subscription id");
    const cursor = args.number("cursor");
    args.end();
    return (reply) => {
      subscriptionOf(client, id).acknowledge(cursor);
      reply.simple("OK");
    };
  },
};

/** @throws {ReplyError} this client has no subscription of this id */
export function subscriptionOf({ deliveries }: Client, id: string): Delivery {
  const delivery = deliveries.get(id);
  if (delivery === undefined) throw new ReplyError("NOTFOUND", `This link has no subscription ${id}`);
  return delivery;
}
