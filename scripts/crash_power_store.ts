/**
 * A process with the store in it, on a disk that loses what was not synced (unsynced_disk.ts): for crash_power.ts, which
 * kills it. Each acknowledgement is a line on stdout before the next append of its writer.
 *
 *     crash_power_store.ts JSON       what to do, as a `PowerStory`
 *
 * @module
 */
import { Chance } from "../core/chance.ts";
import { type EventStore, open } from "../mod.ts";
import { namesOf, payloadOf, type Placed } from "./crash_ledger.ts";
import { anyKey } from "./crash_writer.ts";
import { UnsyncedDisk } from "./unsynced_disk.ts";

const EVENTS_IN_TRANSACTION_MAX = 5;
const SYNC_MS_MAX = 3;

export interface PowerStory {
  folder: string;
  seed: number;
  /** The name of each writer begins so. */
  writer: string;
  writers: number;
  /** Of a segment, and of each of the journal's files. */
  fileBytes: number;
  /** Whether the disk lies as soon as the store is open. */
  lies: boolean;
}

/** What a line says. */
export type Told = { opens: true } | { names: string[]; placed: Placed[] };

function tell(told: Told): void {
  const bytes = new TextEncoder().encode(JSON.stringify(told) + "\n");
  for (let done = 0; done < bytes.length;) done += Deno.stdout.writeSync(bytes.subarray(done));
}

async function write(store: EventStore, writer: string, own: string, chance: Chance): Promise<never> {
  for (let number = 0;; number++) {
    const several = chance.oneIn(4);
    const names = namesOf(writer, number, several ? chance.between(2, EVENTS_IN_TRANSACTION_MAX) : 1);
    const { partitionKey: key, firstSequence, events } = await store.append({
      ...(several && { partitionKey: anyKey(chance) }),
      events: names.map((name) => ({
        streamId: several ? `tx-${chance.below(3)}` : chance.oneIn(3) ? `shared-${chance.below(5)}` : own,
        name: "Happened",
        payload: payloadOf(name),
      })),
    });
    const placed = events.map(({ streamId, version, eventId }, i) => ({
      stream: streamId,
      key,
      version,
      sequence: firstSequence + i,
      eventId,
    }));
    tell({ names, placed });
  }
}

if (import.meta.main) {
  const { folder, seed, writer, writers, fileBytes, lies }: PowerStory = JSON.parse(Deno.args[0]!);
  const chance = new Chance(seed);
  const own = () => new Chance(chance.below(2 ** 31));
  const disk = new UnsyncedDisk({
    root: `${folder}/disk`,
    aside: `${folder}/aside-${seed}`,
    seed: chance.below(2 ** 31),
    syncMsMax: SYNC_MS_MAX,
  });
  tell({ opens: true });
  const store = await open({ dir: `${folder}/disk/data`, disk, segmentBytes: fileBytes, journalBytes: fileBytes });
  disk.lies = lies;
  await Promise.all(Array.from({ length: writers }, (_, i) => write(store, `${writer}-${i}`, `own-${i}`, own())));
}
