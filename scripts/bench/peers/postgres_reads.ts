/**
 * Reads of PostgreSQL. They are not paired, since pgbench and our client cannot be compared to a tenth of a
 * millisecond: its table holds as many events as the large store, and its numbers stand
 * beside those of big-reads.
 *
 * @module
 */
import { type Bench, scaledSeconds } from "../bench.ts";
import { EVENTS_PER_STREAM, fillingOf, PAYLOAD_BYTES } from "../big_store.ts";
import { payloadOf } from "../requests.ts";

const SECONDS = 5;

export async function measurePostgresReads(bench: Bench): Promise<void> {
  const { peer } = bench;
  if (peer?.kind !== "postgres") return bench.skip("PostgreSQL's reads", "they are measured with --peer postgres");
  await using server = await peer.start(`${bench.folder}/postgres-reads`);
  const { events, streams } = fillingOf(bench.events);
  await server.fill(events, streams, payloadOf(PAYLOAD_BYTES));
  const seconds = scaledSeconds(bench, SECONDS);
  const held = `${events.toLocaleString("en")} events`;
  for (
    const [name, { msP50, msP95, msP99, msMax }] of [
      [`last ${EVENTS_PER_STREAM} of a random stream`, await server.lastOfStream(streams, seconds)],
      ["a random event", await server.oneEvent(events, seconds)],
    ] as const
  ) {
    const ms = { msP50, msP95, msP99, msMax };
    bench.add({ name: `PostgreSQL, ${name}, ${held}, warm`, value: msP50, unit: "ms, median", ms });
  }
}
