/**
 * kill -9 under load: whatever was acknowledged is there after the restart, and nothing is there by half.
 *
 * Many clients append at once, alone and in transactions, to streams of their own and to streams that all share.
 * After a random number of acknowledgements the server is killed, started again on the same folder, and every
 * partition is read from its start:
 *
 *     every acknowledged event is there, where the answer said, with the bytes that were sent
 *     sequences of a partition and versions of a stream have no gaps
 *     a transaction is there as a whole, once, in its order, or not at all
 *     nothing is there that no client sent
 *
 * Then the load goes on, on top of what the crash left.
 *
 *     deno run -A scripts/crash.ts [--server "COMMAND"] [--rounds N] [--clients N] [--acks N] [--seed N]
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../core/chance.ts";
import { Client, ConnectionLost, ReplyError } from "./resp_client.ts";
import { serverCommand, ServerProcess } from "./server_process.ts";
import { Tally } from "./tally.ts";

const PARTITIONS = 32;
const PAGE = 1000;
const SHARED_STREAMS = 5;
const EVENTS_IN_TRANSACTION_MAX = 5;
/** So small that a run of seconds rolls segments and changes journal files while it is killed. */
const FLAGS = ["--segment-size-bytes", String(256 * 1024), "--journal-size-bytes", String(256 * 1024)];

/** Where an event is. Its payload is the name of the event here. */
interface Stored {
  stream: string;
  key: string;
  version: number;
  sequence: number;
  eventId: string;
}

interface Sent {
  /** Payloads of the transaction, in order. */
  payloads: string[];
}

const text = new TextDecoder();

/** What all clients together know. */
class Knowledge {
  readonly sent = new Map<string, Sent>();
  /** Events that an answer, or a read after a crash, showed. */
  readonly stored = new Map<string, Stored>();
  acks = 0;
}

interface AppendAnswer {
  event_id: string;
  partition_key: string;
  partition_sequence: number;
  stream_version: number;
}

interface TransactionAnswer {
  partition_key: string;
  first_partition_sequence: number;
  events: { event_id: string; stream_id: Uint8Array; stream_version: number }[];
}

/** A client that appends until the connection is lost. */
async function appendUntilLost(
  client: Client,
  name: string,
  chance: Chance,
  knowledge: Knowledge,
  acknowledged: () => void,
): Promise<void> {
  const own = `own-${name}`;
  const key = `c0ffee00-0000-4000-80${chance.below(8).toString(16).padStart(2, "0")}-${
    "04c8"[chance.below(4)]
  }00000000000`;
  let ownVersion: number | null = null;
  for (let n = 0;; n++) {
    const filler = "x".repeat(chance.oneIn(20) ? chance.below(40_000) : chance.below(300));
    const payload = (i: number) => `${name}.${n}.${i} ${filler}`;
    const shape = chance.below(4);
    try {
      if (shape < 3) {
        const stream = shape === 0 ? `shared-${chance.below(SHARED_STREAMS)}` : own;
        const expected = shape !== 1 ? "any" : ownVersion === null ? "empty" : String(ownVersion);
        knowledge.sent.set(payload(0), { payloads: [payload(0)] });
        const answer = await client.call(
          "EAPPEND",
          stream,
          "Happened",
          "EXPECTED_VERSION",
          expected,
          "PAYLOAD",
          payload(0),
        ) as unknown as AppendAnswer;
        if (stream === own) ownVersion = answer.stream_version;
        knowledge.stored.set(payload(0), {
          stream,
          key: answer.partition_key,
          version: answer.stream_version,
          sequence: answer.partition_sequence,
          eventId: answer.event_id,
        });
      } else {
        const count = chance.between(2, EVENTS_IN_TRANSACTION_MAX);
        const payloads = Array.from({ length: count }, (_, i) => payload(i));
        for (const payload of payloads) knowledge.sent.set(payload, { payloads });
        const words = payloads.flatMap((payload) => [`tx-${chance.below(3)}`, "Happened", "PAYLOAD", payload]);
        const answer = await client.call("EMAPPEND", key, ...words) as unknown as TransactionAnswer;
        answer.events.forEach((event, i) =>
          knowledge.stored.set(payloads[i]!, {
            stream: text.decode(event.stream_id),
            key,
            version: event.stream_version,
            sequence: answer.first_partition_sequence + i,
            eventId: event.event_id,
          })
        );
      }
    } catch (cause) {
      if (cause instanceof ConnectionLost) return;
      throw cause instanceof ReplyError ? new Error(`An append was refused: ${cause.message}`) : cause;
    }
    knowledge.acks++;
    acknowledged();
  }
}

interface StoredEvent {
  event_id: string;
  partition_key: string;
  transaction_id: string;
  partition_sequence: number;
  stream_version: number;
  stream_id: Uint8Array;
  payload: Uint8Array;
}

/** Reads everything, and compares it with what is known. The number of events. */
async function verify(client: Client, knowledge: Knowledge): Promise<number> {
  const seen = new Set<string>();
  const versions = new Map<string, number>();
  const transactions = new Map<string, string[]>();
  for (let partition = 0; partition < PARTITIONS; partition++) {
    let next = 0;
    for (let more = true; more;) {
      const page = await client.call("EPSCAN", partition, next, "+", "COUNT", PAGE) as unknown as {
        has_more: boolean;
        events: StoredEvent[];
      };
      for (const event of page.events) {
        const payload = text.decode(event.payload), stream = text.decode(event.stream_id);
        const name = payload.slice(0, 60);
        assert.equal(event.partition_sequence, next, `partition ${partition} has a gap at ${next}`);
        next++;
        const identity = `${event.partition_key} ${stream}`;
        assert.equal(event.stream_version, (versions.get(identity) ?? -1) + 1, `stream ${identity} has a gap`);
        versions.set(identity, event.stream_version);
        assert(knowledge.sent.has(payload), `nobody sent ${name}`);
        assert(!seen.has(payload), `${name} is stored twice`);
        seen.add(payload);
        transactions.set(event.transaction_id, [...transactions.get(event.transaction_id) ?? [], payload]);
        const found = {
          stream,
          key: event.partition_key,
          version: event.stream_version,
          sequence: event.partition_sequence,
          eventId: event.event_id,
        };
        const known = knowledge.stored.get(payload);
        // What was in flight at a crash and is there has now been read: the next crash must not lose it either.
        if (known === undefined) knowledge.stored.set(payload, found);
        else assert.deepEqual(found, known, `${name} is not where the answer said`);
      }
      more = page.has_more;
    }
  }
  for (const payload of knowledge.stored.keys()) {
    assert(seen.has(payload), `${payload.slice(0, 60)} was acknowledged or read before, and is not there`);
  }
  for (const payloads of transactions.values()) {
    assert.deepEqual(payloads, knowledge.sent.get(payloads[0]!)!.payloads, "a transaction is there by half");
  }
  return seen.size;
}

if (import.meta.main) {
  const { parseArgs } = await import("node:util");
  const { values } = parseArgs({
    options: {
      server: { type: "string" },
      rounds: { type: "string", default: "4" },
      clients: { type: "string", default: "40" },
      acks: { type: "string", default: "6000" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
    },
  });
  const command = serverCommand(values.server);
  const tally = new Tally();
  const chance = new Chance(Number(values.seed));
  const knowledge = new Knowledge();
  const folder = await Deno.makeTempDir({ prefix: "esker-crash-" });
  console.log(`seed ${values.seed}`);
  try {
    for (let round = 1; round <= Number(values.rounds); round++) {
      const sound = await tally.check(`kill -9 number ${round}`, async () => {
        const before = knowledge.acks;
        const wanted = before + chance.between(1, Number(values.acks));
        {
          await using server = await ServerProcess.start({ command, folder, flags: FLAGS });
          let killing: Promise<void> | null = null;
          const clients = await Promise.all(
            Array.from({ length: Number(values.clients) }, () => Client.connect(server.address)),
          );
          try {
            await Promise.all(
              clients.map((client, i) =>
                appendUntilLost(client, `${round}-${i}`, new Chance(chance.below(2 ** 31)), knowledge, () => {
                  if (knowledge.acks >= wanted) killing ??= server.kill();
                })
              ),
            );
          } finally {
            for (const client of clients) client[Symbol.dispose]();
          }
          assert(killing !== null, `The server ended by itself:\n${server.output}`);
          await killing;
        }
        await using server = await ServerProcess.start({ command, folder, flags: FLAGS });
        using client = await Client.connect(server.address);
        const answered = knowledge.stored.size;
        const stored = await verify(client, knowledge);
        return `${knowledge.acks - before} acknowledgements; ${stored} events are there, ${
          stored - answered
        } of them ` +
          `without an answer; started in ${server.readyMs.toFixed(0)} ms`;
      });
      if (!sound) break; // What follows would only say the same again.
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  Deno.exit(tally.end());
}
