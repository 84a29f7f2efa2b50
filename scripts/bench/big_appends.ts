/**
 * Appends into a store that holds many events already, beside one that begins empty; with event ids, and retries of
 * old events, beside those without.
 *
 * Nine of ten appends go to a stream by chance out of all that are there, one to a stream that is not there yet. The
 * empty store gets the same commands.
 *
 * @module
 */
import { ServerProcess } from "../server_process.ts";
import { LOADS, sized } from "./appends.ts";
import { type Bench, countedLoad, measure, scaledSeconds, startOurs, type Turn } from "./bench.ts";
import { type Clone, EVENT_BYTES_MAX, type Filling, flagsOf, PAYLOAD_BYTES, writeEvent } from "./big_store.ts";
import { load, type Loaded, type LoaderOptions } from "./loader.ts";
import { dropPages } from "./page_cache.ts";
import { eappend, type Ids, newId, payloadOf, type Requests, Template } from "./requests.ts";

const NEW_STREAMS_SHARE = 0.1;
const RETRIES_SHARE = 0.01;
/** How long the store is used before anything but the first row is measured. */
const COLD_SECONDS = 60;
const MANY = LOADS[3]!, FEW = LOADS[1]!;

/** Appends to streams that are there and to new ones. */
class Mix {
  #next: number;

  constructor(readonly filling: Filling) {
    this.#next = filling.streams;
  }

  requests(ids: Ids): Requests {
    const template = new Template(eappend(payloadOf(PAYLOAD_BYTES), ids));
    return {
      bytesMax: template.bytes.length,
      write: (into, at) => {
        const fresh = Math.random() < NEW_STREAMS_SHARE;
        const stream = fresh ? this.#next++ : Math.floor(Math.random() * this.filling.streams);
        return template.write(into, at, stream, ids === "no" ? undefined : newId(ids, stream));
      },
    };
  }

  /** The same, and now and then an event that has been stored already. */
  withRetries(ids: Ids): { requests: Requests; retries: () => number } {
    const { bytesMax, write } = this.requests(ids);
    let retries = 0;
    return {
      retries: () => retries,
      requests: {
        bytesMax: Math.max(bytesMax, EVENT_BYTES_MAX),
        write: (into, at, client) => {
          if (Math.random() >= RETRIES_SHARE) return write(into, at, client);
          retries++;
          return writeEvent(this.filling, Math.floor(Math.random() * this.filling.events), into, at);
        },
      },
    };
  }
}

export async function measureBigAppends(bench: Bench, filling: Filling, big: Clone): Promise<void> {
  const held = `${filling.events.toLocaleString("en")} events held`;
  const why = await dropPages(big.folder);
  await using full = await startOurs(bench, big.folder, flagsOf(filling));
  await using empty = await startOurs(bench, "empty", flagsOf(filling));
  const mix = new Mix(filling), other = new Mix(filling);
  const send = (server: ServerProcess, requests: Requests, options: LoaderOptions): Promise<Loaded> =>
    countedLoad(server, (loaded) => loaded.requests, () => load(server.address, requests, options));

  const { clients, pipeline } = MANY;
  const seconds = scaledSeconds(bench, COLD_SECONDS);
  const cold = await send(full, mix.requests("no"), { clients, pipeline, seconds });
  bench.add({
    name: `append, ${MANY.name}, ${held}, the cold first minute`,
    value: cold.perSecond,
    unit: "events/s",
    ms: { msP50: cold.msP50, msP95: cold.msP95, msP99: cold.msP99, msMax: cold.msMax },
    note: `${seconds.toFixed(1)} s, of which all that follow are warm; ${
      why ?? "pages dropped before the server's start"
    }`,
  });
  for (const one of LOADS) {
    const by = (server: ServerProcess, mix: Mix): Turn => (share) =>
      send(server, mix.requests("no"), sized(bench, one, share));
    await measure(bench, {
      name: `append, ${one.name}, ${held}`,
      unit: "events/s",
      ours: by(full, mix),
      beside: { name: "empty store", turn: by(empty, other) },
    });
  }
  for (const one of [FEW, MANY]) {
    for (const ids of ["time-ordered", "random"] as const) {
      await measure(bench, {
        name: `append, ${one.name}, ${held}, ${ids} ids, 1 % retries`,
        unit: "requests/s",
        ours: (share) => {
          const { requests, retries } = mix.withRetries(ids);
          return countedLoad(
            full,
            (loaded) => loaded.requests - retries(),
            () => load(full.address, requests, sized(bench, one, share)),
          );
        },
        beside: { name: "no ids", turn: (share) => send(full, mix.requests("no"), sized(bench, one, share)) },
      });
    }
  }
  bench.add({ name: `resident memory under load, ${held}`, value: full.residentBytes() / 2 ** 20, unit: "MiB" });
  bench.add({
    name: `resident memory, its highest, ${held}`,
    value: full.residentBytes("highest") / 2 ** 20,
    unit: "MiB",
  });
  await full.kill();
  const again = await startOurs(bench, big.folder, flagsOf(filling));
  await again[Symbol.asyncDispose]();
  bench.add({ name: `start to first PONG, ${held}, after kill -9 behind this load`, value: again.readyMs, unit: "ms" });
}
