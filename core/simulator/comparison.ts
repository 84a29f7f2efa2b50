/**
 * What can be read of a store, compared with what is true.
 *
 * A read may fail where a fault explains it. What it gave before it failed must be true all the same, and it may never
 * say that there is nothing where there is something.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Chance } from "../chance.ts";
import { type EventRecord, identify } from "../event.ts";
import type { EventStore, ReadOptions, Scan } from "../store.ts";
import { equalEvents } from "../story.ts";
import { formatUuid } from "../uuid.ts";
import { KEYS, STREAM_IDS } from "./operation.ts";
import type { Truth } from "./truth.ts";

/** What is known of the store beyond its answers. */
export interface Excuses {
  /** Whether a call that concerns a partition may fail so. */
  mayFail(error: unknown, partition: number): boolean;
  /** Whether nobody can know all that a partition holds. */
  isUnsure(partition: number): boolean;
}

export class Comparison {
  /** What the store was asked. */
  calls = 0;
  readonly #truth: Truth;
  readonly #excuses: Excuses;

  constructor(truth: Truth, excuses: Excuses) {
    this.#truth = truth;
    this.#excuses = excuses;
  }

  /** Everything that can be read of the store. */
  async ofAll(store: EventStore): Promise<void> {
    for (let partition = 0; partition < store.partitionCount; partition++) await this.ofPartition(store, partition);
  }

  async ofPartition(store: EventStore, partition: number): Promise<void> {
    await this.#scans(store, partition, "all", (from) => from.readPartition(partition));
    await this.#scans(store, partition, "all", (from) => from.readPartition(partition, { direction: "backward" }));
    const streams = new Set<string>();
    for (const event of await this.#truth.partition(partition)) {
      const { streamId, partitionKey } = event;
      await this.#event(store, event);
      const name = partitionKey + streamId;
      if (streams.has(name)) continue;
      streams.add(name);
      await this.#numbers(store, partition, streamId, (from) => from.streamVersion(streamId, { partitionKey }));
      await this.#scans(store, partition, streamId, (from) => from.readStream(streamId, { partitionKey }));
      const backward = { partitionKey, direction: "backward" } as const;
      await this.#scans(store, partition, streamId, (from) => from.readStream(streamId, backward));
    }
  }

  /** The heads of all partitions, and some reads by chance. */
  async ofSome(store: EventStore, chance: Chance): Promise<void> {
    for (let partition = 0; partition < store.partitionCount; partition++) {
      await this.#numbers(store, partition, "head", (from) => from.partitionSequence(partition));
    }
    for (let i = 0; i < 3; i++) {
      const options: ReadOptions = {
        from: chance.oneIn(2) ? chance.below(20) : undefined,
        end: chance.oneIn(2) ? chance.below(30) : undefined,
        limit: chance.oneIn(2) ? chance.below(10) : undefined,
        direction: chance.pick(["forward", "backward", undefined]),
      };
      const what = JSON.stringify(options);
      const partition = chance.below(store.partitionCount);
      await this.#scans(store, partition, what, (from) => from.readPartition(partition, options));
      const partitionKey = chance.pick([undefined, ...KEYS]);
      const streamId = chance.pick([...STREAM_IDS, "none"]);
      const ofStream = store.partitionOfKey(partitionKey ?? formatUuid(identify(streamId, null).partitionKey));
      const stream = `${streamId} of ${partitionKey} ${what}`;
      await this.#scans(store, ofStream, stream, (from) => from.readStream(streamId, { ...options, partitionKey }));
      await this.#numbers(store, ofStream, stream, (from) => from.streamVersion(streamId, { partitionKey }));
    }
  }

  async #event(store: EventStore, event: EventRecord): Promise<void> {
    this.calls++;
    let found: EventRecord | null;
    try {
      found = await store.event(event.eventId);
    } catch (error) {
      if (this.#excuses.mayFail(error, event.partition)) return;
      throw error;
    }
    equalEvents(found === null ? [] : [found], [event], `partition ${event.partition}: event ${event.eventId}`);
  }

  async #numbers(
    store: EventStore,
    partition: number,
    what: string,
    ask: (from: EventStore) => Promise<number | null>,
  ): Promise<void> {
    this.calls++;
    let found: number | null;
    try {
      found = await ask(store);
    } catch (error) {
      if (this.#excuses.mayFail(error, partition)) return;
      throw error;
    }
    if (this.#excuses.isUnsure(partition)) return;
    assert.equal(found, await ask(this.#truth.oracle), `partition ${partition}: ${what}`);
  }

  async #scans(store: EventStore, partition: number, what: string, scan: (from: EventStore) => Scan): Promise<void> {
    this.calls++;
    const expected: EventRecord[] = [];
    for await (const page of scan(this.#truth.oracle).pages()) expected.push(...page);
    const found: EventRecord[] = [];
    let failed = false;
    try {
      for await (const page of scan(store).pages()) found.push(...page);
    } catch (error) {
      if (!this.#excuses.mayFail(error, partition)) throw error;
      failed = true;
    }
    if (this.#excuses.isUnsure(partition)) return;
    equalEvents(found, failed ? expected.slice(0, found.length) : expected, `partition ${partition}: ${what}`);
  }
}
