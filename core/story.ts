/**
 * A story: what a seed makes up to do with a store, told to the store and to the oracle, which must agree.
 *
 * It makes up appends of all kinds (every expectation, several streams, retries, stale and doubled ids, large
 * payloads) and remembers them, so that later ones can repeat them. It knows the port only: who kills the store, cuts
 * the power or opens it again is the test. After that, `settle` finds out what became of the appends that nobody
 * answered, and holds the store to it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { equalBytes } from "./bytes.ts";
import { Chance } from "./chance.ts";
import {
  Damaged,
  DiskFull,
  DuplicateEventId,
  InvalidArgument,
  LimitExceeded,
  NoSuchPartition,
  WrongExpectedVersion,
} from "./errors.ts";
import { type AppendResult, type EventRecord, identify, type NewEvent, type Transaction } from "./event.ts";
import { MemoryStore } from "./memory_store.ts";
import { partitionHash } from "./placement.ts";
import { SeededEnvironment } from "./seeded_environment.ts";
import type { EventStore, ReadOptions } from "./store.ts";
import { plain, read } from "./store_suite.ts";
import { formatUuid, newEventId, parseUuid } from "./uuid.ts";
import type { ExpectedVersion } from "./version.ts";

/** Two keys of one partition, one of another partition, one of another bucket for every usual count of buckets. */
const KEYS = [
  "550e8400-e29b-41d4-a716-446655440000",
  "550e8401-e29b-41d4-a716-446655440000",
  "550e8402-e29b-41d4-a716-c46655440000",
  "550e8403-e29b-41d4-a717-046655440000",
];
const STREAM_IDS = ["a", "b", "c", "d"];
/** About three quarters of the small segments of a test: one fits, two do not. Most payloads are much smaller. */
const LARGE_PAYLOAD_BYTES = 3000;
/** How long a store may take to answer, and how long to notice that it is gone, in turns of the event loop. */
const TURNS_MAX = 100_000;
const TURNS_WHEN_GONE = 50;

export interface StoryOptions {
  partitionCount: number;
  /** Gives every event an id, so that what became of each append can be found out afterwards. */
  everyIdGiven?: boolean;
}

/** What an append came to: an answer, a refusal, or neither, because the store was gone first. */
export type Outcome =
  & { transaction: Transaction }
  & (
    | { kind: "answered"; result: AppendResult }
    | { kind: "refused"; error: Error }
    | { kind: "unknown"; error?: unknown }
  );

export class Story {
  readonly chance: Chance;
  readonly oracle: MemoryStore;
  readonly partitionCount: number;
  readonly #everyIdGiven: boolean;
  readonly #told: Transaction[] = [];
  #idsMade = 0;

  constructor(seed: number, options: StoryOptions) {
    this.chance = new Chance(seed);
    this.partitionCount = options.partitionCount;
    this.#everyIdGiven = options.everyIdGiven ?? false;
    this.oracle = new MemoryStore({ partitionCount: options.partitionCount, environment: new SeededEnvironment(seed) });
  }

  /** Makes up some appends for the same time. */
  async batch(countMax = 8): Promise<Transaction[]> {
    const batch: Transaction[] = [];
    for (let count = this.chance.between(1, countMax); count > 0; count--) {
      const transaction = this.#told.length > 0 && this.chance.oneIn(5) ? this.#repetition() : await this.#invention();
      batch.push(transaction);
      this.#told.push(transaction);
    }
    return batch;
  }

  /** Tells a batch to the store, all at the same time and in this order, and holds it to what the oracle says. */
  async tell(store: EventStore, batch: Transaction[]): Promise<void> {
    const outcomes = await outcomesOf(store, batch, () => false);
    for (const outcome of outcomes) await this.hold(outcome);
  }

  /** Holds the store to the oracle for one append. Outcomes come in the order in which the appends were made. */
  async hold(outcome: Outcome): Promise<void> {
    const { transaction } = outcome;
    const told = describeTransaction(transaction);
    if (outcome.kind === "unknown") throw new Error(`No answer: ${told}`, { cause: outcome.error });
    if (outcome.kind === "answered") {
      // The ids that the store made are given to the oracle, or it would make others.
      const events = transaction.events.map((event, i) => ({ ...event, eventId: outcome.result.events[i]?.eventId }));
      assert.deepEqual(outcome.result, await this.oracle.append({ ...transaction, events }), told);
      return;
    }
    if (outcome.error instanceof LimitExceeded) {
      // The oracle has no segments that a transaction must fit.
      const bytes = transaction.events.reduce((sum, { payload }) => sum + (payload?.length ?? 0), 0);
      assert.ok(bytes >= LARGE_PAYLOAD_BYTES, `${outcome.error}: ${told}`);
      return;
    }
    const expected = await this.oracle.append(transaction).then(() => null, (error: Error) => error);
    assert.notEqual(expected, null, `${told} should have been stored, but: ${outcome.error}`);
    assert.deepEqual(factsOf(outcome.error), factsOf(expected!), told);
  }

  /**
   * After a crash: each append was stored whole or not at all; one that was answered is stored and has its answer, one
   * that was refused is not; then all is as the oracle says, which goes on from what is found.
   */
  async settle(store: EventStore, outcomes: Outcome[]): Promise<void> {
    for (const outcome of outcomes) {
      const { transaction } = outcome;
      if (outcome.kind === "answered") {
        const stored = await this.oracle.append(transaction);
        assert.deepEqual(outcome.result, stored, describeTransaction(transaction));
      } else if (outcome.kind === "refused") {
        if (outcome.error instanceof WrongExpectedVersion && outcome.error.current !== null) {
          const { streamId, partitionKey, current } = outcome.error;
          // A transaction that is refused counts its own events too, so it may name more than there ever was.
          if (transaction.events.length > 1) continue;
          const version = await store.streamVersion(streamId, { partitionKey });
          assert.ok(
            version !== null && version >= current,
            `A refusal rested on version ${current} of ${streamId}, which is lost: found ${version}`,
          );
        }
      } else {
        const found = await Promise.all(transaction.events.map(({ eventId }) => store.event(eventId!)));
        if (found.some((event) => event === null)) continue; // If any is there, it is of an earlier transaction, or agree() finds it.
        await this.oracle.append(transaction).catch(assertRefusal);
      }
    }
    await this.agree(store);
  }

  /** Everything that can be read of the store is what can be read of the oracle. */
  async agree(store: EventStore): Promise<void> {
    assert.equal(store.status().events, this.oracle.status().events, "events in all");
    for (let partition = 0; partition < this.partitionCount; partition++) {
      const expected = await read(this.oracle.readPartition(partition));
      assert.equal(await store.partitionSequence(partition), await this.oracle.partitionSequence(partition));
      equalEvents(await read(store.readPartition(partition)), expected, `partition ${partition}`);
      equalEvents(
        await read(store.readPartition(partition, { direction: "backward" })),
        expected.toReversed(),
        `partition ${partition} backward`,
      );
      const streams = new Map<string, EventRecord[]>();
      for (const event of expected) {
        const found = await store.event(event.eventId);
        assert.notEqual(found, null, `event ${event.eventId} is missing`);
        equalEvents([plain(found!)], [event], `event ${event.eventId}`);
        const key = event.partitionKey + event.streamId;
        streams.set(key, [...streams.get(key) ?? [], event]);
      }
      for (const events of streams.values()) {
        const { streamId, partitionKey } = events[0]!;
        const what = `stream ${streamId} of ${partitionKey}`;
        assert.equal(await store.streamVersion(streamId, { partitionKey }), events.length - 1, what);
        equalEvents(await read(store.readStream(streamId, { partitionKey })), events, what);
        const backward = store.readStream(streamId, { partitionKey, direction: "backward" });
        equalEvents(await read(backward), events.toReversed(), `${what} backward`);
      }
    }
  }

  /** Some reads by chance are as the oracle says. */
  async glance(store: EventStore): Promise<void> {
    for (let i = 0; i < 4; i++) {
      const options: ReadOptions = {
        from: this.chance.oneIn(2) ? this.chance.below(20) : undefined,
        end: this.chance.oneIn(2) ? this.chance.below(30) : undefined,
        limit: this.chance.oneIn(2) ? this.chance.below(10) : undefined,
        direction: this.chance.pick(["forward", "backward", undefined]),
      };
      const what = JSON.stringify(options);
      const partition = this.chance.below(this.partitionCount);
      const ofPartition = await read(store.readPartition(partition, options));
      equalEvents(ofPartition, await read(this.oracle.readPartition(partition, options)), `${partition} ${what}`);
      const partitionKey = this.chance.pick([undefined, ...KEYS]);
      const streamId = this.chance.pick([...STREAM_IDS, "none"]);
      const ofStream = await read(store.readStream(streamId, { ...options, partitionKey }));
      const expected = await read(this.oracle.readStream(streamId, { ...options, partitionKey }));
      equalEvents(ofStream, expected, `${streamId} of ${partitionKey} ${what}`);
      const version = await store.streamVersion(streamId, { partitionKey });
      assert.equal(version, await this.oracle.streamVersion(streamId, { partitionKey }));
    }
  }

  /** An append that was not made before. */
  async #invention(): Promise<Transaction> {
    const partitionKey = this.chance.oneIn(3) ? undefined : this.chance.pick(KEYS);
    const only = this.chance.pick(STREAM_IDS);
    const events: NewEvent[] = [];
    for (let count = this.chance.oneIn(3) ? this.chance.between(2, 5) : 1; count > 0; count--) {
      const streamId = partitionKey === undefined ? only : this.chance.pick(STREAM_IDS);
      events.push({
        streamId,
        name: this.chance.pick(["", "Created", "Happened", "Ünïcode"]),
        eventId: this.#everyIdGiven || this.chance.oneIn(2) ? this.#newId(partitionKey, streamId) : undefined,
        expectedVersion: await this.#expectation(partitionKey, streamId),
        timestamp: this.chance.oneIn(2) ? this.chance.below(1e12) : undefined,
        payload: this.chance.bytes(this.chance.oneIn(12) ? LARGE_PAYLOAD_BYTES : this.chance.below(300)),
        metadata: this.chance.oneIn(3) ? this.chance.bytes(this.chance.below(40)) : undefined,
      });
    }
    return { partitionKey, events };
  }

  /** An append that was made before: the same, or changed in what a retry may change, or in what it may not. */
  #repetition(): Transaction {
    const { partitionKey, events } = this.chance.pick(this.#told);
    const at = this.chance.below(events.length);
    const changed = (change: Partial<NewEvent>) => events.map((event, i) => i === at ? { ...event, ...change } : event);
    switch (this.chance.below(8)) {
      case 0:
        return { partitionKey, events: changed({ expectedVersion: this.chance.below(9), timestamp: 5 }) };
      case 1:
        return { partitionKey, events: changed({ payload: this.chance.bytes(3) }) };
      case 2:
        return { partitionKey, events: events.slice(at) };
      case 3:
        return this.#everyIdGiven
          ? { partitionKey, events }
          : { partitionKey, events: changed({ eventId: undefined }) };
      case 4:
        return { partitionKey, events: changed({ name: "Changed" }) };
      default:
        return { partitionKey, events };
    }
  }

  /** Often right, and if not then often near: other appends of the batch may make it right or wrong. */
  async #expectation(partitionKey: string | undefined, streamId: string): Promise<ExpectedVersion> {
    if (this.chance.oneIn(2)) return "any";
    if (this.chance.oneIn(4)) return this.chance.pick(["exists", "empty"] as const);
    const current = await this.oracle.streamVersion(streamId, { partitionKey });
    if (this.chance.oneIn(2)) return current ?? "empty";
    return Math.max(0, (current ?? 0) + this.chance.between(-1, 3));
  }

  #newId(partitionKey: string | undefined, streamId: string): string {
    const key = partitionKey === undefined ? identify(streamId, null).partitionKey : parseUuid(partitionKey)!;
    // Some ids rise with time, as most clients make them; some lie anywhere.
    const milliseconds = this.chance.oneIn(4) ? this.chance.below(2 ** 40) : 1_600_000_000_000 + this.#idsMade++;
    const id = newEventId(partitionHash(key), milliseconds, (bytes) => this.chance.fill(bytes));
    return formatUuid(id);
  }
}

/** Appends a batch, all at the same time, and waits for all answers, or a little longer than until the store is gone. */
export async function outcomesOf(store: EventStore, batch: Transaction[], isGone: () => boolean): Promise<Outcome[]> {
  const outcomes: Outcome[] = batch.map((transaction) => ({ transaction, kind: "unknown" }));
  const answers = batch.map((transaction, i) =>
    store.append(transaction).then(
      (result) => void (outcomes[i] = { transaction, kind: "answered", result }),
      (error) => void (outcomes[i] = { transaction, kind: isRefusal(error) ? "refused" : "unknown", error }),
    )
  );
  await unlessGone(Promise.all(answers), isGone);
  return outcomes.slice();
}

/** What `promise` comes to, or null when it comes to nothing because the store is gone. */
export async function unlessGone<T>(promise: Promise<T>, isGone: () => boolean): Promise<T | null> {
  let settled = false;
  const settle = () => void (settled = true);
  promise.then(settle, settle);
  for (let turns = 0, turnsGone = 0; !settled; turns++) {
    await new Promise((resolve) => void setImmediate(resolve));
    if (turns > TURNS_MAX) throw new Error("The store does not answer");
    if (isGone() && ++turnsGone > TURNS_WHEN_GONE) return null;
  }
  return await promise;
}

/** An answer that says that nothing was stored. */
function isRefusal(error: unknown): error is Error {
  return [WrongExpectedVersion, DuplicateEventId, InvalidArgument, LimitExceeded, NoSuchPartition, DiskFull, Damaged]
    .some((Class) => error instanceof Class);
}

function assertRefusal(error: unknown): void {
  if (!isRefusal(error)) throw error;
}

/** Of a refusal: what two stores must agree on. */
export function factsOf(error: Error): Record<string, unknown> {
  if (!(error instanceof WrongExpectedVersion)) return { name: error.name };
  const { name, streamId, partitionKey, expected, current } = error;
  return { name, streamId, partitionKey, expected, current };
}

/** A deep comparison of all is slow, and its message is long: compare first, and show only the first difference. */
export function equalEvents(found: EventRecord[], expected: EventRecord[], what: string): void {
  expected.forEach((event, i) => {
    const other = found[i];
    const same = other !== undefined && other.eventId === event.eventId && other.sequence === event.sequence &&
      other.version === event.version && other.streamId === event.streamId && other.name === event.name &&
      other.partition === event.partition && other.partitionKey === event.partitionKey &&
      other.transactionId === event.transactionId && other.timestamp === event.timestamp &&
      equalBytes(other.payload, event.payload) && equalBytes(other.metadata, event.metadata);
    if (!same) assert.deepEqual(other, event, `${what}, event ${i} of ${expected.length} (found ${found.length})`);
  });
  assert.equal(found.length, expected.length, what);
}

/** An append in one line, for whoever reads of its failure. */
export function describeTransaction({ partitionKey, events }: Transaction): string {
  const parts = events.map(({ streamId, name, eventId, expectedVersion, payload }) =>
    `${streamId} ${JSON.stringify(name)} ${eventId ?? "no id"} expects ${expectedVersion}, ${
      payload?.length ?? 0
    } bytes`
  );
  return `append under ${partitionKey ?? "the default key"}: ${parts.join("; ")}`;
}
