/**
 * The subscribers of a story: who they are, when they act, and that none of them may fail without a reason.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../chance.ts";
import type { EventRecord } from "../event.ts";
import type { EventStore } from "../store.ts";
import { Ledger, partitionSource, type Source, streamSource } from "./ledger.ts";
import { KEYS, partOf, STREAM_IDS } from "./operation.ts";
import { Subscriber } from "./subscriber.ts";

const SUBSCRIBERS_MAX = 5;

/** What the world knows that they do not. */
export interface Surroundings {
  partitionCount: number;
  isGone(): boolean;
  /** Whether a subscription may fail so. */
  mayFail(error: unknown): boolean;
  /** Is told of each event that any of them is given. */
  witness(event: EventRecord): void;
}

export class Audience {
  /** How often one of them acted. */
  calls = 0;
  #subscribers: Subscriber[] = [];
  readonly #around: Surroundings;

  constructor(around: Surroundings) {
    this.#around = around;
  }

  /** Somebody comes, unless there are enough. */
  add(seed: number): void {
    if (this.#subscribers.length === SUBSCRIBERS_MAX) return;
    const chance = new Chance(seed);
    const ledger = new Ledger(sourcesOf(chance, this.#around.partitionCount));
    this.#subscribers.push(new Subscriber(chance, ledger, this.#around.witness));
  }

  /** All act beside what goes on, each for himself. */
  act(store: EventStore, seed: number): Promise<void>[] {
    return this.#subscribers.map((subscriber) => this.#actOf(subscriber, store, seed));
  }

  /** When nobody appends, what is left to read is known. */
  async holdLag(store: EventStore): Promise<void> {
    for (const subscriber of this.#subscribers) {
      await this.#tolerant(subscriber, () => subscriber.holdLag(store, this.#around.isGone));
      if (this.#around.isGone()) return;
    }
  }

  /** What they wait for. */
  waits(): Promise<boolean>[] {
    return this.#subscribers.flatMap(({ wait }) => wait?.promise ?? []);
  }

  /** Each comes again, with what he has kept. */
  storeWasLost(): void {
    this.#subscribers = this.#subscribers.map((subscriber) => subscriber.afterLoss());
  }

  /** Nobody is there any more. */
  clear(): void {
    this.#subscribers = [];
  }

  /** All read to the end and leave. `all`: every event that there is; null when nobody knows. */
  async readToEnd(store: EventStore, all: () => Promise<EventRecord[] | null>): Promise<void> {
    for (const subscriber of this.#subscribers) {
      await this.#tolerant(subscriber, async () => {
        await subscriber.readToEnd(store);
        const events = await all();
        if (events !== null) subscriber.ledger.holdAll(events);
        await subscriber.leave();
      });
    }
  }

  async #actOf(subscriber: Subscriber, store: EventStore, seed: number): Promise<void> {
    this.calls++;
    const chance = new Chance(partOf(seed, subscriber.chance.seed));
    subscriber.chance = chance;
    await this.#tolerant(subscriber, async () => {
      // At some moments of the batch, as it comes.
      for (let times = chance.between(1, 3); times > 0 && !this.#around.isGone(); times--) {
        for (let turns = chance.below(30); turns > 0; turns--) await null;
        await subscriber.act(store);
      }
    });
  }

  /** Where his subscription may fail he comes again. */
  async #tolerant(subscriber: Subscriber, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (this.#around.isGone() && !(error instanceof assert.AssertionError)) return;
      if (!this.#around.mayFail(error)) throw error;
      const at = this.#subscribers.indexOf(subscriber);
      if (at >= 0) this.#subscribers[at] = subscriber.afterLoss();
    }
  }
}

function sourcesOf(chance: Chance, partitionCount: number): Source[] {
  const start = () => chance.pick([0, 0, "latest" as const, chance.below(6), chance.below(60)]);
  const common = start();
  const startOf = chance.oneIn(2) ? () => common : start;
  switch (chance.below(5)) {
    case 0:
    case 1:
      return Array.from({ length: partitionCount }, (_, partition) => partitionSource(partition, startOf(), true));
    case 2: {
      const partitions = [...Array(partitionCount).keys(), partitionCount, 65_535].filter(() => chance.oneIn(2));
      return partitions.map((partition) => partitionSource(partition, startOf()));
    }
    case 3:
      return [partitionSource(chance.below(partitionCount), common)];
    default: {
      const streams = [...STREAM_IDS, "never"].flatMap((streamId) =>
        [undefined, ...KEYS].map((partitionKey) => ({ streamId, partitionKey }))
      );
      return streams.filter(() => chance.oneIn(3)).map(({ streamId, partitionKey }) =>
        streamSource(streamId, partitionKey, startOf())
      );
    }
  }
}
