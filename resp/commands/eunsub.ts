/**
 * `EUNSUB`: ends a subscription. After the reply nothing of it is pushed any more.
 *
 * @module
 */
import type { AnsweringCommand } from "./command.ts";
import { subscriptionOf } from "./eack.ts";

export const eunsub: AnsweringCommand = {
  name: "EUNSUB",
  does: "answers",
  summary: "Ends a subscription of this connection",
  syntax: "subscription_id",
  group: "subscriptions",
  since: "0.1.0",
  prepare(args, { client }) {
    const id = args.uuid("subscription id");
    args.end();
    return (reply) => {
      client.deliveries.remove(subscriptionOf(client, id));
      reply.simple("OK");
    };
  },
};
