/**
 * Stories of subscribers, made up by a seed: writers append in concurrent batches, and subscribers of every kind follow
 * them, each at its own pace. They come late, stall, leave, resume from the last number they kept, and the store is
 * closed, killed or loses its power under them.
 *
 * Each subscriber has a ledger, which holds every event that it is given to the promise:
 *
 *     it is of the selection, and has the next number of its partition or stream: none is missing, none comes twice
 *     events of a partition come in the order of their sequences, those of a transaction one after another
 *     it can be read at that moment, and as long as the story lasts, whatever happens to the store: it was committed
 *     lag() counts what is left, and a wait ends when there is something
 *     at the end everything was given, byte for byte as readPartition() gives it
 *
 * It knows the port only; `DatabaseWorld` is the one place that knows how a database dies.
 *
 *     deno task fuzz subscription SEED [ROUNDS]
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "./chance.ts";
import { amongTheDead, Life, SMALL } from "./database_fuzz.ts";
import { StoreClosed } from "./errors.ts";
import { type EventRecord, identify } from "./event.ts";
import { MemoryDisk } from "./log/memory_disk.ts";
import type { EventStore, Selection, Start, Subscription } from "./store.ts";
import { plain, read } from "./store_suite.ts";
import { equalEvents, type Outcome, outcomesOf, Story, unlessGone } from "./story.ts";
import { formatUuid } from "./uuid.ts";

const PAGE_EVENTS_MAX = 256;

/** Where a story takes place. */
export interface World {
  readonly story: Story;
  /** The store as it is now: another one after each end. */
  readonly store: EventStore;
  /** Whether the store has died: who waits for it then waits for ever. */
  isGone(): boolean;
  /** How the store may come to its end. It is opened again each time. */
  readonly ends: readonly ("close" | "kill" | "power cut")[];
  /** Closes the store, or kills it, and opens what is left. */
  restart(end: "close" | "kill"): Promise<void>;
  /** Cuts the power while `act` goes on, and opens what is left. What nobody answered is what `act` returns. */
  cutPower(act: () => Promise<Outcome[]>): Promise<void>;
}

/** Plays one story a round: of `seed`, of `seed + 1`, and so on. */
export async function fuzz(seed: number, rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    try {
      await amongTheDead(async () => {
        const world = await DatabaseWorld.open(seed + round);
        await playStory(world);
        await world.life.close();
      });
    } catch (error) {
      throw new Error(`subscription, seed ${seed + round}: ${error instanceof Error ? error.message : error}`, {
        cause: error,
      });
    }
  }
}

export async function playStory(world: World): Promise<void> {
  const { chance } = world.story;
  const cast = new Cast(world);
  for (let chapter = chance.between(2, 5); chapter > 0; chapter--) {
    await cast.tell(chance.between(1, 12));
    const end = chapter === 1 || world.ends.length === 0 ? "none" : chance.pick(world.ends);
    if (end === "power cut") {
      await world.cutPower(() => cast.tell(40));
      cast.storeWasLost();
    } else if (end !== "none") {
      if (end === "close") await cast.storeCloses(() => world.restart(end));
      else await world.restart(end);
      cast.storeWasLost();
    }
    await cast.agree();
  }
  await cast.finish();
}

/** A database on a disk in memory, with segments that roll every few appends. */
export class DatabaseWorld implements World {
  readonly ends = ["close", "kill", "power cut", "power cut"] as const;

  private constructor(readonly life: Life) {}

  static async open(seed: number): Promise<DatabaseWorld> {
    // What became of an append that nobody answered is found out by its event ids.
    const story = new Story(seed, { partitionCount: SMALL.partitionCount, everyIdGiven: true });
    const sizes = {
      ...SMALL,
      bucketCount: story.chance.pick([1, 2, 4]),
      segmentBytes: story.chance.pick([4096, 4096, 16_384]),
      tailBytes: story.chance.pick([0, 2000, 6000, undefined]),
    };
    const world = new DatabaseWorld(new Life(story, new MemoryDisk({ seed }), sizes));
    await world.life.open();
    return world;
  }

  get story(): Story {
    return this.life.story;
  }

  get store(): EventStore {
    return this.life.store;
  }

  isGone(): boolean {
    return this.life.isGone();
  }

  async restart(end: "close" | "kill"): Promise<void> {
    if (end === "close") await this.life.close();
    else this.life.disk = this.life.disk.afterKill();
    await this.life.open();
  }

  async cutPower(act: () => Promise<Outcome[]>): Promise<void> {
    const { life, story: { chance } } = this;
    life.disk.powerCutAt(life.disk.effects + chance.between(1, 60));
    const outcomes = await act();
    await life.settle(outcomes, life.disk.afterPowerCut(chance.below(1e9)));
  }
}

/** The subscribers of a story, and who tells it to them. */
class Cast {
  readonly #world: World;
  readonly #chance: Chance;
  readonly #subscribers: Subscriber[] = [];
  /** Every event that any subscriber was given, by its place. */
  readonly #seen = new Map<string, EventRecord>();
  /** Streams that were appended to, or soon will be. */
  readonly #streams = new Map<string, { streamId: string; partitionKey: string | undefined }>();

  constructor(world: World) {
    this.#world = world;
    this.#chance = world.story.chance;
  }

  /** Tells some batches, while subscribers come and go. Returns the outcomes of the one in which the store was lost, none when it lives. */
  async tell(batches: number): Promise<Outcome[]> {
    const { story, store } = this.#world;
    const isGone = () => this.#world.isGone();
    for (; batches > 0; batches--) {
      const batch = await story.batch();
      for (const { partitionKey, events } of batch) {
        for (const { streamId } of events) {
          this.#streams.set(`${partitionKey} ${streamId}`, { streamId, partitionKey });
        }
      }
      if (this.#subscribers.length < 6 && this.#chance.oneIn(2)) this.#subscribers.push(this.#newSubscriber());
      const acts = Promise.all(this.#subscribers.map((subscriber) => subscriber.act(store)));
      const [outcomes] = await Promise.all([
        outcomesOf(store, batch, isGone),
        unlessGone(acts, isGone).catch((error) => {
          if (!isGone()) throw error;
        }),
      ]);
      if (isGone()) return outcomes;
      for (const outcome of outcomes) await story.hold(outcome);
      if (this.#chance.oneIn(3)) {
        for (const subscriber of this.#subscribers) {
          await subscriber.holdLag(store, isGone).catch((error) => {
            if (!isGone()) throw error;
          });
        }
      }
    }
    return [];
  }

  /** Closes the store by `close`: whoever waits is told. */
  async storeCloses(close: () => Promise<void>): Promise<void> {
    const waits = this.#subscribers.map((subscriber) => subscriber.wait);
    await close();
    for (const wait of waits) {
      if (wait === null) continue;
      const found = await wait.promise.catch((error: unknown) => error);
      assert.ok(found === true || found instanceof StoreClosed, `the store closed, and who waited was told ${found}`);
    }
  }

  storeWasLost(): void {
    this.#subscribers.forEach((subscriber, i) => this.#subscribers[i] = subscriber.afterLoss());
  }

  /** Whatever was given to anybody is there, and will be. */
  async agree(): Promise<void> {
    const stored = new Map<string, EventRecord>();
    for (const event of await this.#stored()) stored.set(placeOf(event), event);
    for (const [place, event] of this.#seen) {
      const found = stored.get(place);
      equalEvents(found === undefined ? [] : [found], [event], `${place}, which was given to a subscriber`);
    }
  }

  /** All come and read to the end; then each was given everything. */
  async finish(): Promise<void> {
    const { store } = this.#world;
    while (this.#subscribers.length < 8) this.#subscribers.push(this.#newSubscriber());
    for (const subscriber of this.#subscribers) await subscriber.readToEnd(store);
    await this.agree();
    const stored = await this.#stored();
    for (const subscriber of this.#subscribers) {
      subscriber.ledger.holdAll(stored);
      await subscriber.leave();
    }
  }

  async #stored(): Promise<EventRecord[]> {
    const { store } = this.#world;
    const partitions = Array.from({ length: store.partitionCount }, (_, partition) => partition);
    return (await Promise.all(partitions.map((partition) => read(store.readPartition(partition))))).flat();
  }

  #newSubscriber(): Subscriber {
    const chance = new Chance(this.#chance.below(2 ** 31));
    const witness = (event: EventRecord) => {
      const known = this.#seen.get(placeOf(event));
      if (known === undefined) this.#seen.set(placeOf(event), plain(event));
      else equalEvents([event], [known], `${placeOf(event)}, which was given before`);
    };
    return new Subscriber(chance, new Ledger(this.#sources()), witness);
  }

  #sources(): Source[] {
    const { partitionCount } = this.#world.story;
    const chance = this.#chance;
    // One start for all as often as one for each.
    const start = this.#start();
    const startOf = chance.oneIn(2) ? () => start : () => this.#start();
    const some = <T>(all: readonly T[]) => all.filter(() => chance.oneIn(2));
    switch (chance.below(5)) {
      case 0:
      case 1:
        return Array.from({ length: partitionCount }, (_, partition) => partitionSource(partition, startOf(), true));
      case 2: {
        const partitions = some([...Array(partitionCount).keys(), partitionCount, 65_535]);
        return partitions.map((partition) => partitionSource(partition, startOf()));
      }
      case 3:
        return [partitionSource(chance.below(partitionCount), start)];
      default: {
        const streams = some([...this.#streams.values(), { streamId: "never", partitionKey: undefined }]);
        return streams.map(({ streamId, partitionKey }) => streamSource(streamId, partitionKey, startOf()));
      }
    }
  }

  #start(): Start {
    return this.#chance.pick([0, 0, "latest", this.#chance.below(6), this.#chance.below(60)]);
  }
}

/** A wait for events, and whether it is over. */
interface Wait {
  promise: Promise<boolean>;
  isOver: boolean;
}

/** Somebody who follows a store as it pleases him. */
class Subscriber {
  wait: Wait | null = null;
  #subscription: Subscription | null = null;
  /** For how many turns he does nothing. */
  #rest = 0;
  /** What he will still know when he has to resume. */
  #kept: Position;

  constructor(
    readonly chance: Chance,
    readonly ledger: Ledger,
    readonly witness: (event: EventRecord) => void,
  ) {
    this.#kept = ledger.position();
  }

  /** What he is without the store that is lost. What he still waits for there concerns him no more. */
  afterLoss(): Subscriber {
    const after = new Subscriber(this.chance, this.ledger.copy(), this.witness);
    after.#kept = this.#kept;
    after.#forgetSome();
    return after;
  }

  /** One turn of his. */
  async act(store: EventStore): Promise<void> {
    const { chance } = this;
    if (this.#rest > 0) return void this.#rest--;
    if (this.#subscription === null) return await this.#come(store);
    if (chance.oneIn(15)) return await this.leave();
    if (this.wait !== null) return await this.#readWhenReady(store);
    switch (chance.below(6)) {
      case 0:
        this.#rest = chance.between(1, 8);
        break;
      case 1:
      case 2:
        this.#beginWait(this.#subscription);
        break;
      case 3:
        await this.#read(store, chance.between(1, 5));
        break;
      default:
        while (await this.#read(store, chance.pick([7, 30, PAGE_EVENTS_MAX])) > 0);
    }
    if (chance.oneIn(3)) this.#kept = this.ledger.position();
  }

  /** When nobody appends, it is known what there is to read. */
  async holdLag(store: EventStore, isGone: () => boolean): Promise<void> {
    if (this.#subscription === null) return;
    const [least, most] = await this.ledger.lag(store);
    const lag = await this.#subscription.lag();
    assert.ok(least <= lag && lag <= most, `lag() says ${lag}: there are ${least} to ${most}`);
    if (least === 0) return;
    const { promise } = this.wait ?? this.#beginWait(this.#subscription);
    assert.equal(await unlessGone(promise, isGone), true, "there is something to read, and it is not ready");
  }

  /** Ends the subscription. */
  async leave(): Promise<void> {
    const subscription = this.#subscription!;
    subscription.close();
    if (this.wait !== null) await unlessGone(this.wait.promise, () => false);
    assert.equal(await subscription.ready(), false);
    assert.deepEqual(await subscription.read(), []);
    this.#subscription = null;
    this.wait = null;
    this.#rest = this.chance.below(12);
    this.#forgetSome();
  }

  async readToEnd(store: EventStore): Promise<void> {
    if (this.#subscription === null) await this.#come(store);
    for (;;) {
      const [least] = await this.ledger.lag(store);
      if (least === 0) break;
      if (this.wait === null) this.#beginWait(this.#subscription!);
      await unlessGone(this.wait!.promise, () => false);
      await this.#readWhenReady(store);
    }
    // What may be left lies between the two ends of an unknown `latest`.
    if (this.wait === null || this.wait.isOver) { while (await this.#read(store, PAGE_EVENTS_MAX) > 0); }
    assert.equal(await this.#subscription!.lag(), 0, "everything was read");
  }

  async #come(store: EventStore): Promise<void> {
    this.ledger.begins(await this.ledger.heads(store));
    const subscription = await store.subscribe(this.ledger.selection());
    this.ledger.hasBegun(await this.ledger.heads(store));
    this.#subscription = subscription;
  }

  #beginWait(subscription: Subscription): Wait {
    const wait: Wait = { promise: subscription.ready(), isOver: false };
    const over = () => void (wait.isOver = true);
    wait.promise.then(over, over);
    return this.wait = wait;
  }

  async #readWhenReady(store: EventStore): Promise<void> {
    if (!this.wait!.isOver) return;
    assert.equal(await this.wait!.promise, true, "nobody closed it");
    this.wait = null;
    assert.ok(await this.#read(store, this.chance.between(1, 40)) > 0, "it was ready, and there was nothing to read");
  }

  async #read(store: EventStore, limit: number): Promise<number> {
    const page = await this.#subscription!.read(limit);
    assert.ok(page.length <= limit, `${page.length} events: ${limit} were wanted`);
    for (const event of page) {
      this.ledger.saw(plain(event));
      this.witness(event);
    }
    for (const event of page) {
      const found = await store.event(event.eventId);
      equalEvents(found === null ? [] : [found], [event], `${placeOf(event)}, which was just given`);
    }
    return page.length;
  }

  #forgetSome(): void {
    if (this.chance.oneIn(2)) this.ledger.goBack(this.#kept);
    this.#kept = this.ledger.position();
  }
}

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
  /** Of the present subscription, whose memory of them is all that keeps them together. */
  readonly #endedTransactions = new Set<string>();
  #transactionId: string | null = null;

  constructor(sources: readonly Source[]) {
    this.#sources = new Map(sources.map((source) => [keyOf(source), source]));
  }

  copy(): Ledger {
    const copy = new Ledger([...this.#sources.values()]);
    copy.#given.push(...this.#given);
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
    const last = this.#given.findLast(({ partition }) => partition === event.partition);
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
    const byPartition = (events: readonly EventRecord[]) => events.toSorted((a, b) => a.partition - b.partition);
    equalEvents(byPartition(this.#given), byPartition(expected), "all that a subscriber was given");
  }
}

function keyOf({ followed }: Source): string {
  return "partition" in followed ? `${followed.partition}` : `${followed.partitionKey} ${followed.streamId}`;
}

function placeOf({ partition, sequence }: EventRecord): string {
  return `sequence ${sequence} of partition ${partition}`;
}
