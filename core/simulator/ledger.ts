/**
 * All that one subscriber was given, and whether it was right.
 *
 *     it is of the selection, and has the next number of its partition or stream: none is missing, none comes twice
 *     events of a partition come in the order of their sequences, those of a transaction one after another
 *     at the end everything was given, byte for byte as readPartition() gives it
 *
 * It knows no store, only events and numbers: scripts/follow.ts keeps it over sockets.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type EventRecord, identify } from "../event.ts";
import type { EventStore, Selection, Start } from "../store.ts";
import { equalEvents } from "../story.ts";
import { formatUuid } from "../uuid.ts";

/** What a subscriber follows: a partition or a stream, from a number on. */
export interface Source {
  readonly followed: { partition: number; ofAll: boolean } | { streamId: string; partitionKey: string };
  /** The first number; null while `latest` is not known. */
  readonly start: number | null;
  /** The number that comes next; null while `latest` is not known. */
  readonly next: number | null;
  /** Where `latest` may lie, both possible: it is known when the first event comes. */
  readonly latest: readonly [least: number, most: number];
}

/** What a subscriber needs to resume, and what he was given so far. */
export interface Position {
  readonly sources: ReadonlyMap<string, Source>;
  readonly given: number;
}

/** `ofAll`: one of the partitions of a subscription of all. */
export function partitionSource(partition: number, start: Start, ofAll = false): Source {
  const number = start === "latest" ? null : start;
  return { followed: { partition, ofAll }, start: number, next: number, latest: [0, Infinity] };
}

export function streamSource(streamId: string, partitionKey: string | undefined, start: Start): Source {
  const number = start === "latest" ? null : start;
  const key = partitionKey ?? formatUuid(identify(streamId, null).partitionKey);
  return { followed: { streamId, partitionKey: key }, start: number, next: number, latest: [0, Infinity] };
}

/** What a ledger needs to know of a store. */
export type Heads = Pick<EventStore, "partitionCount" | "partitionSequence" | "streamVersion">;

/** All that one subscriber was given, and whether it was right. */
export class Ledger {
  /** By partition, or by partition key and stream id. */
  #sources: Map<string, Source>;
  /** In the order in which they came. What came before a step back was taken back. */
  readonly #given: EventRecord[] = [];
  /** How many of them were given before the present subscription. */
  #begunAt = 0;
  /** Of the present subscription, whose memory of them is all that keeps them together. */
  readonly #endedTransactions = new Set<string>();
  #transactionId: string | null = null;

  constructor(sources: readonly Source[]) {
    this.#sources = new Map(sources.map((source) => [keyOf(source), source]));
  }

  copy(): Ledger {
    const copy = new Ledger([...this.#sources.values()]);
    copy.#given.push(...this.#given);
    copy.#begunAt = this.#begunAt;
    return copy;
  }

  get events(): readonly EventRecord[] {
    return this.#given;
  }

  position(): Position {
    return { sources: new Map(this.#sources), given: this.#given.length };
  }

  /** As if what came since had never come. */
  goBack({ sources, given }: Position): void {
    this.#sources = new Map(sources);
    this.#given.length = given;
  }

  /** What to subscribe to, to go on from here. */
  selection(): Selection {
    const sources = [...this.#sources.values()];
    const streams = sources.flatMap(({ followed, next }) =>
      "partition" in followed ? [] : [{ ...followed, from: next ?? "latest" as const }]
    );
    if (streams.length > 0) return { streams };
    const numbers = new Map<number, Start>();
    for (const { followed, next } of sources) {
      if ("partition" in followed) numbers.set(followed.partition, next ?? "latest");
    }
    const isAll = sources.some(({ followed }) => "partition" in followed && followed.ofAll);
    const partitions = isAll ? "all" : [...numbers.keys()];
    const [from] = numbers.values();
    if ([...numbers.values()].every((start) => start === from)) return { partitions, from };
    const starts = new Map([...numbers].filter(([, start]) => start !== "latest"));
    return { partitions, starts };
  }

  /** A subscription to `selection()` is asked for. `heads` are of before: `latest` lies nowhere below. */
  begins(heads: ReadonlyMap<string, number>): void {
    this.#endedTransactions.clear();
    this.#transactionId = null;
    this.#begunAt = this.#given.length;
    this.#latestIs((key) => [heads.get(key)!, Infinity]);
  }

  /** It is there. `heads` are of after: `latest` lies nowhere above. */
  hasBegun(heads: ReadonlyMap<string, number>): void {
    this.#latestIs((key, [least]) => [least, heads.get(key)!]);
  }

  #latestIs(latest: (key: string, before: Source["latest"]) => Source["latest"]): void {
    for (const [key, source] of this.#sources) {
      if (source.next === null) this.#sources.set(key, { ...source, latest: latest(key, source.latest) });
    }
  }

  /** An event is given. */
  saw(event: EventRecord): void {
    const place = placeOf(event);
    const key = [`${event.partition}`, `${event.partitionKey} ${event.streamId}`].find((key) => this.#sources.has(key));
    assert.ok(key !== undefined, `${place} is not what was subscribed to`);
    const source = this.#sources.get(key)!;
    const number = "partition" in source.followed ? event.sequence : event.version;
    if (source.next === null) {
      const [least, most] = source.latest;
      assert.ok(
        least <= number && number <= most,
        `${place}: latest is number ${least} to ${most}, given was ${number}`,
      );
    } else {
      assert.equal(number, source.next, `${place}: number ${source.next} comes next, given was ${number}`);
    }
    this.#sources.set(key, { ...source, start: source.start ?? number, next: number + 1 });
    // Of one subscription: where another one finds `latest`, at a replica that is behind, may be before what was seen.
    const last = this.#given.findLast(({ partition }, i) => i >= this.#begunAt && partition === event.partition);
    assert.ok(last === undefined || last.sequence < event.sequence, `${place} comes after ${last?.sequence}`);
    if (event.transactionId !== this.#transactionId) {
      assert.ok(!this.#endedTransactions.has(event.transactionId), `${place}: other events came into its transaction`);
      if (this.#transactionId !== null) this.#endedTransactions.add(this.#transactionId);
      this.#transactionId = event.transactionId;
    }
    this.#given.push(event);
  }

  /** One past the last number of each source, as the store says. */
  async heads(store: Heads): Promise<Map<string, number>> {
    const heads = new Map<string, number>();
    for (const [key, { followed }] of this.#sources) {
      if ("streamId" in followed) {
        heads.set(key, (await store.streamVersion(followed.streamId, followed) ?? -1) + 1);
      } else {
        const isThere = followed.partition < store.partitionCount;
        heads.set(key, isThere ? (await store.partitionSequence(followed.partition) ?? -1) + 1 : 0);
      }
    }
    return heads;
  }

  /** How many events are still to come up to these heads, at least. */
  lacks(heads: ReadonlyMap<string, number>): number {
    let lacks = 0;
    for (const [key, { next, latest }] of this.#sources) lacks += Math.max(0, heads.get(key)! - (next ?? latest[1]));
    return lacks;
  }

  /** How many events are still to come, at least and at most: that depends on where `latest` lies. */
  async lag(store: Heads): Promise<[least: number, most: number]> {
    const heads = await this.heads(store);
    let most = 0;
    for (const [key, { next, latest }] of this.#sources) most += Math.max(0, heads.get(key)! - (next ?? latest[0]));
    return [this.lacks(heads), most];
  }

  /** Everything from the start of each source was given, and nothing else. `stored`: all events, each partition's in order. */
  holdAll(stored: readonly EventRecord[]): void {
    const expected = stored.filter((event) => {
      const ofPartition = this.#sources.get(`${event.partition}`);
      const ofStream = this.#sources.get(`${event.partitionKey} ${event.streamId}`);
      if (ofPartition !== undefined) return event.sequence >= (ofPartition.start ?? ofPartition.latest[1]);
      return ofStream !== undefined && event.version >= (ofStream.start ?? ofStream.latest[1]);
    });
    const byPlace = (events: readonly EventRecord[]) =>
      events.toSorted((a, b) => a.partition - b.partition || a.sequence - b.sequence);
    equalEvents(byPlace(this.#given), byPlace(expected), "all that a subscriber was given");
  }
}

function keyOf({ followed }: Source): string {
  return "partition" in followed ? `${followed.partition}` : `${followed.partitionKey} ${followed.streamId}`;
}

export function placeOf({ partition, sequence }: EventRecord): string {
  return `sequence ${sequence} of partition ${partition}`;
}
