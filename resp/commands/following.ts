/**
 * What ESUB and EPSUB share: where to begin, how far ahead of its acknowledgements a client may be sent events, and the
 * reply, which leaves in one write with the push that confirms it.
 *
 *     [FROM <LATEST | n | MAP name=n …>] [WINDOW n]
 *
 * @module
 */
import { InvalidArgument } from "../../core/errors.ts";
import type { EventStore, Selection, Start } from "../../core/store.ts";
import type { Arguments } from "../arguments.ts";
import type { Delivery } from "../delivery.ts";
import type { Encoder } from "../encoder.ts";
import { writeSubscribed } from "../replies.ts";
import { ReplyError } from "../value.ts";
import type { Client } from "./command.ts";

/** Events that may be on the way to a client that has not said. */
const WINDOW_DEFAULT = 1000;

export interface AskedStart {
  /** For whatever is not in `starts`. */
  from: Start;
  /** By the name that MAP gave. */
  starts: ReadonlyMap<string, number>;
}

/** Reads FROM. `unit` is what its numbers are, `what` what its MAP has numbers for. */
export function readFrom(args: Arguments, unit: string, what: string): AskedStart {
  const starts = new Map<string, number>();
  if (!args.keyword("FROM") || args.keyword("LATEST")) return { from: "latest", starts };
  if (!args.keyword("MAP")) return { from: args.number(`start (LATEST, MAP or a ${unit})`), starts };
  do {
    const { name, number } = args.assignment(`start (${what}=${unit})`);
    starts.set(name, number);
  } while (args.left > 0 && !args.isKeyword("WINDOW") && !args.isKeyword("DEFAULT"));
  return { from: "latest", starts };
}

/** Reads WINDOW, the last that there may be. */
export function readWindow(args: Arguments): number {
  const window = args.keyword("WINDOW") ? args.number("window") : WINDOW_DEFAULT;
  if (window === 0) throw new InvalidArgument("The window must be at least 1: nothing could ever be sent");
  args.end();
  return window;
}

/** Subscribes, and answers. */
export async function follow(
  reply: Encoder,
  client: Client,
  store: EventStore,
  command: Delivery["command"],
  selection: Selection,
  window: number,
): Promise<void> {
  if (client.protocol === 2) {
    throw new ReplyError(
      "NOPROTO",
      `${command.toUpperCase()} pushes events, which RESP2 cannot carry: say HELLO 3 first, or read with EREAD`,
    );
  }
  const { id } = client.deliveries.add(await store.subscribe(selection), command, window);
  writeSubscribed(reply, id, client.deliveries.size);
}
