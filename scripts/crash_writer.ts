/**
 * A client that appends, alone and in transactions, to a stream of its own and to streams that all share, and tells the
 * ledger what it was answered. It goes on until it is told to stop or its connection is lost.
 *
 * @module
 */
import type { Chance } from "../core/chance.ts";
import { type Ledger, namesOf, payloadOf } from "./crash_ledger.ts";
import { type Client, ConnectionLost, type Plain, ReplyError } from "./resp_client.ts";

const SHARED_STREAMS = 5;
const EVENTS_IN_TRANSACTION_MAX = 5;

const text = new TextDecoder();

interface Appended {
  event_id: string;
  partition_key: string;
  partition_sequence: number;
  stream_version: number;
}

interface AppendedSeveral {
  first_partition_sequence: number;
  events: { event_id: string; stream_id: Uint8Array; stream_version: number }[];
}

export interface Writing {
  client: Client;
  /** Of this writer alone, also after a restart of the server: its events carry it. */
  writer: string;
  /** A stream that only this writer appends to. */
  own: string;
  chance: Chance;
  ledger: Ledger;
  /** Called after each answer: whether to go on. */
  acknowledged: () => boolean;
  /** Called when an append is refused: whether to go on. Left out, that is an error. */
  refused?: (error: ReplyError) => boolean | Promise<boolean>;
}

/** One of few partition keys, so that writers meet. */
export function anyKey(chance: Chance): string {
  return `c0ffee00-0000-4000-800${chance.below(8)}-${chance.pick(["0", "4", "8", "c"])}00000000000`;
}

/** Appends until it is told to stop, or the connection is lost. */
export async function write({ client, writer, own, chance, ledger, acknowledged, refused }: Writing): Promise<void> {
  const key = anyKey(chance);
  ledger.begins(writer);
  try {
    let ownVersion = await client.call("ESVER", own) as number | null;
    for (let number = 0;; number++) {
      const several = chance.oneIn(4);
      const names = namesOf(writer, number, several ? chance.between(2, EVENTS_IN_TRANSACTION_MAX) : 1);
      try {
        if (several) {
          const words = names.flatMap((name) => [`tx-${chance.below(3)}`, "Happened", "PAYLOAD", payloadOf(name)]);
          const answer = await client.call("EMAPPEND", key, ...words) as unknown as AppendedSeveral;
          const placed = answer.events.map(({ event_id, stream_id, stream_version }, i) => ({
            stream: text.decode(stream_id),
            key,
            version: stream_version,
            sequence: answer.first_partition_sequence + i,
            eventId: event_id,
          }));
          ledger.acknowledged(names, placed);
        } else {
          const stream = chance.oneIn(3) ? `shared-${chance.below(SHARED_STREAMS)}` : own;
          const expected = stream !== own ? "any" : ownVersion ?? "empty";
          const words = ["EXPECTED_VERSION", expected, "PAYLOAD", payloadOf(names[0]!)];
          const reply: Plain = await client.call("EAPPEND", stream, "Happened", ...words);
          const { partition_key, stream_version, partition_sequence, event_id } = reply as unknown as Appended;
          if (stream === own) ownVersion = stream_version;
          ledger.acknowledged(names, [
            { stream, key: partition_key, version: stream_version, sequence: partition_sequence, eventId: event_id },
          ]);
        }
      } catch (cause) {
        if (!(cause instanceof ReplyError)) throw cause;
        if (refused === undefined) throw new Error(`An append was refused: ${cause.message}`, { cause });
        ledger.refused(names);
        if (!await refused(cause)) return;
        continue;
      }
      if (!acknowledged()) return;
    }
  } catch (cause) {
    if (!(cause instanceof ConnectionLost)) throw cause;
  }
}
