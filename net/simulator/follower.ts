/**
 * A client that follows: it subscribes at a node, and goes to another one from where it is when that dies, is slow, or
 * because it pleases.
 *
 * Its ledger (core/simulator/ledger.ts) holds what it is given: nothing is skipped, nothing comes twice, the events of a
 * partition are in order and transactions whole, over all nodes. `latest` is what some replica had: at least what each
 * showed when it was called, if none has died meanwhile, and at most what any had shown when it was there.
 *
 * @module
 */
import type { Chance } from "../../core/chance.ts";
import type { EventRecord } from "../../core/event.ts";
import { Ledger, partitionSource, type Source, streamSource } from "../../core/simulator/ledger.ts";
import type { Start, Subscription } from "../../core/store.ts";
import { plain } from "../../core/store_suite.ts";
import { type Clientele, isTemporary, pause, type Visit } from "./visit.ts";

const SUBSCRIBE_PATIENCE_MS = 15_000;
const REST_MS_MAX = 500;
/** Now and then one forgets all and begins as at first. */
const BEGINS_ANEW_ONE_IN = 4;
const STREAMS_PER_PARTITION = 3;

/** By partition. */
type Replicas = Map<number, ReturnType<Clientele["replicas"]>>;

export class Follower {
  ledger: Ledger;
  readonly #sources: readonly Source[];
  isIdle = false;

  constructor(readonly name: string, readonly clientele: Clientele, readonly chance: Chance) {
    this.#sources = sourcesOf(clientele, chance);
    this.ledger = new Ledger(this.#sources);
  }

  async run(): Promise<void> {
    const { clientele, chance } = this;
    while (!clientele.isEnd) {
      await pause(clientele.timers, chance.between(1, REST_MS_MAX));
      const visit = clientele.visit(chance.below(clientele.nodeCount));
      if (visit === null || clientele.isEnd) continue;
      if (!clientele.isOver && chance.oneIn(BEGINS_ANEW_ONE_IN)) this.ledger = new Ledger(this.#sources);
      try {
        await this.#follow(visit);
      } catch (error) {
        if (isTemporary(error)) clientele.count(`follows: ${(error as Error).name}`);
        else {
          const message = `follower ${this.name} at ${visit.life}: ${error instanceof Error ? error.message : error}`;
          return clientele.broke(new Error(message, { cause: error }));
        }
      }
    }
    this.isIdle = true;
  }

  /** How many events are still to come, of those that were shown to anybody. */
  lacks(): number {
    return this.ledger.lacks(this.#heads());
  }

  async #follow(visit: Visit): Promise<void> {
    const { clientele, ledger } = this;
    let hasLeft = false;
    const before = this.#replicas();
    const subscription = await visit.ask(async (store) => {
      const subscription = await store.subscribe(ledger.selection());
      if (hasLeft) subscription.close(); // It took so long.
      return subscription;
    }, SUBSCRIBE_PATIENCE_MS).catch((error) => {
      hasLeft = true;
      throw error;
    });
    ledger.begins(this.#least(before));
    ledger.hasBegun(this.#heads());
    clientele.count("follows: begun");
    try {
      await this.#readOn(visit, subscription);
    } finally {
      visit.tell(() => subscription.close());
    }
  }

  async #readOn(visit: Visit, subscription: Subscription): Promise<void> {
    const { clientele, chance, ledger } = this;
    // Most stay until the node dies.
    const until = chance.oneIn(3) ? clientele.now() + chance.below(8000) : Infinity;
    while (!clientele.isEnd && clientele.now() < until) {
      const patienceMs = clientele.calm ? 2000 : chance.pick([100, 3000, 20_000]);
      if (!await visit.ask(() => subscription.ready(), patienceMs)) throw new Error("ended, and nobody has closed it");
      if (!clientele.calm && chance.oneIn(10)) await pause(clientele.timers, chance.below(1500)); // It is slow.
      const limit = chance.pick([1, 3, 20, 256]);
      const page = await visit.ask(() => subscription.read(limit), SUBSCRIBE_PATIENCE_MS);
      if (page.length > limit) throw new Error(`${page.length} events, and ${limit} were wanted`);
      if (page.length === 0) throw new Error("it was ready, and there was nothing");
      for (const event of page) {
        ledger.saw(plain(event));
        clientele.count("follows: events");
      }
    }
  }

  #replicas(): Replicas {
    const { clientele } = this;
    const partitions = Array.from({ length: clientele.partitionCount }, (_, partition) => partition);
    return new Map(partitions.map((partition) => [partition, clientele.replicas(partition)]));
  }

  /** No replica had less when it was asked, as far as that is known. */
  #least(before: Replicas): Map<string, number> {
    const { clientele } = this;
    const least = new Map<string, number>();
    for (const [key, { followed }] of this.ledger.position().sources) {
      if ("streamId" in followed || followed.partition >= clientele.partitionCount) {
        least.set(key, 0);
        continue;
      }
      const then = before.get(followed.partition)!;
      const now = clientele.replicas(followed.partition);
      const isKnown = then.every(({ life, end }, i) =>
        end !== null && now[i]!.life === life && now[i]!.end !== null && now[i]!.end >= end
      );
      least.set(key, isKnown ? Math.min(...then.map(({ end }) => end!)) : 0);
    }
    return least;
  }

  /** One past the last number of each source that anybody was shown. */
  #heads(): Map<string, number> {
    const { clientele } = this;
    const heads = new Map<string, number>();
    for (const [key, { followed }] of this.ledger.position().sources) {
      if ("partition" in followed) {
        const { partition } = followed;
        heads.set(key, partition < clientele.partitionCount ? clientele.shownEnd(partition) : 0);
      } else heads.set(key, clientele.shownVersions(Number(followed.streamId.split("-")[0]), followed.streamId));
    }
    return heads;
  }

  /** In the end. `stored`: all that there is, each partition's in order. */
  holdAll(stored: readonly EventRecord[]): void {
    this.ledger.holdAll(stored.map(plain));
  }
}

function sourcesOf({ partitionCount, keyOf }: Clientele, chance: Chance): Source[] {
  const start = (): Start => chance.pick([0, "latest", "latest", chance.below(6), chance.below(60)] as const);
  const common = start();
  const startOf = chance.oneIn(2) ? () => common : start;
  const partitions = Array.from({ length: partitionCount }, (_, partition) => partition);
  switch (chance.below(4)) {
    case 0:
      return partitions.map((partition) => partitionSource(partition, startOf(), true));
    case 1: {
      const some = partitions.filter(() => chance.oneIn(2));
      return (some.length > 0 ? some : partitions).map((partition) => partitionSource(partition, startOf()));
    }
    case 2:
      return [partitionSource(chance.below(partitionCount), common)];
    default: {
      const streams = partitions.flatMap((partition) =>
        Array.from({ length: STREAMS_PER_PARTITION }, (_, i) => ({ partition, streamId: `${partition}-${i}` }))
      );
      const some = streams.filter(() => chance.oneIn(2));
      return (some.length > 0 ? some : streams).map(({ partition, streamId }) =>
        streamSource(streamId, keyOf(partition), startOf())
      );
    }
  }
}
