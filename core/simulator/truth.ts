/**
 * What a store must hold: all that was acknowledged, in an oracle, and in which batch of the journal it came.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { AppendResult, EventRecord, NewEvent, Transaction } from "../event.ts";
import { MemoryStore } from "../memory_store.ts";
import { SeededEnvironment } from "../seeded_environment.ts";

/** A transaction as it was stored. */
interface Stored {
  transaction: Transaction;
  eventIds: string[];
  /** Batches are counted from the first ever. */
  batch: number;
}

export class Truth {
  oracle: MemoryStore;
  #stored: Stored[] = [];

  constructor(readonly partitionCount: number) {
    this.oracle = this.#newOracle();
  }

  /** The store answered so. What the oracle answers to the same, which may be an error. */
  async append(transaction: Transaction, result: AppendResult, batch: number): Promise<AppendResult> {
    const known = this.oracle.status().events;
    // The ids and times that the store gave are given to the oracle, or it would give others.
    const events = transaction.events.map((event, i): NewEvent => ({
      ...event,
      eventId: result.events[i]?.eventId,
      timestamp: result.events[i]?.timestamp,
    }));
    const answer = await this.oracle.append({ ...transaction, events }).catch((error: Error) =>
      assert.fail(`acknowledged, and should have been refused: ${error}`)
    );
    if (this.oracle.status().events > known) {
      const plain = events.map((event): NewEvent => ({ ...event, expectedVersion: "any" }));
      this.#stored.push({
        transaction: { partitionKey: answer.partitionKey, events: plain },
        eventIds: answer.events.map(({ eventId }) => eventId),
        batch,
      });
    }
    return answer;
  }

  /** What the oracle says of an append that was refused: its own refusal, or null when it would have taken it. */
  async refusal(transaction: Transaction): Promise<Error | null> {
    return await this.oracle.append(transaction).then(() => null, (error: Error) => error);
  }

  /** Ids of all events of the last `count` batches. */
  lastBatches(count: number): Set<string> {
    const batches = [...new Set(this.#stored.map(({ batch }) => batch))].sort((a, b) => a - b).slice(-count);
    const first = count === 0 ? Infinity : batches[0] ?? Infinity;
    return new Set(this.#stored.filter(({ batch }) => batch >= first).flatMap(({ eventIds }) => eventIds));
  }

  /** As if these events had never been. */
  async forget(eventIds: ReadonlySet<string>): Promise<void> {
    this.#stored = this.#stored.filter((stored) => !stored.eventIds.some((eventId) => eventIds.has(eventId)));
    this.oracle = this.#newOracle();
    for (const { transaction } of this.#stored) await this.oracle.append(transaction);
  }

  async partition(partition: number): Promise<EventRecord[]> {
    const events: EventRecord[] = [];
    for await (const page of this.oracle.readPartition(partition).pages()) events.push(...page);
    return events;
  }

  async partitions(): Promise<EventRecord[][]> {
    return await Promise.all(Array.from({ length: this.partitionCount }, (_, partition) => this.partition(partition)));
  }

  #newOracle(): MemoryStore {
    return new MemoryStore({ partitionCount: this.partitionCount, environment: new SeededEnvironment(1) });
  }
}
