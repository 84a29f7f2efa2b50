/**
 * A node of a cluster as a store: whoever talks to it talks to all of them.
 *
 * It joins what stands beside it: the replicas of this node (`LocalNode`), the way to the others (`Transport`), and
 * between them the router. It keeps nothing itself. The node and the transport are not its own: who made them closes
 * them, after this.
 *
 *     const store = new ClusterStore({ shape, local, transport, nodes });
 *     await transport.start(dispatched(driver, store.handlers));
 *     store.start();
 *
 * @module
 */
import { type Environment, type Log, systemEnvironment } from "../core/environment.ts";
import { Damaged, LimitExceeded, NoSuchPartition, StoreClosed, TryAgain } from "../core/errors.ts";
import {
  admit,
  type AppendReceiver,
  type AppendResult,
  type EventRecord,
  identify,
  requireUuid,
  resultOf,
  type Transaction,
  TRANSACTION_BYTES_MAX,
} from "../core/event.ts";
import { onlyPartition } from "../core/freshness.ts";
import { bucketOf, partitionHash, partitionOf } from "../core/placement.ts";
import {
  type ClusterStatus,
  type EventStore,
  type Freshness,
  type PartitionSelection,
  type ReadOptions,
  recordsInto,
  requireStart,
  Scan,
  type Selection,
  type Start,
  type StoreStatus,
  type StreamOptions,
  type StreamSelection,
  type Subscription,
} from "../core/store.ts";
import { formatUuid } from "../core/uuid.ts";
import { Beacons } from "./beacons.ts";
import { ClusterSubscription, headsOf, type Place, placeOf, streamKey } from "./cluster_subscription.ts";
import { type ClusterShape, configHash, replicasOf } from "./consensus/topology.ts";
import type { LocalNode } from "./local.ts";
import { type Answer, errorOf, type Query, type StreamPosition } from "./messages.ts";
import { Router, type RouterSettings, SETTINGS } from "./router.ts";
import { Routes } from "./routes.ts";
import { systemTimers, type Timers } from "./timers.ts";
import type { Transport, TransportHandlers } from "./transport.ts";

/** How long a node that has no events for a subscriber waits for some before it is asked again. */
const FOLLOW_MS = 10_000;

/** Of what a damaged replica had, a follower may lack the newest. */
const INSTEAD: Freshness = { fromLeader: true };

export interface ClusterStoreOptions {
  shape: ClusterShape;
  local: LocalNode;
  transport: Transport;
  /** By index. */
  nodes: readonly { peerId: string; addresses: readonly string[] }[];
  environment?: Environment;
  timers?: Timers;
  log?: Log;
  settings?: Partial<RouterSettings>;
  followMs?: number;
}

export class ClusterStore implements EventStore {
  readonly partitionCount: number;
  readonly #shape: ClusterShape;
  readonly #local: LocalNode;
  readonly #transport: Transport;
  readonly #nodes: ClusterStoreOptions["nodes"];
  readonly #environment: Environment;
  readonly #log: Log;
  readonly #followMs: number;
  readonly #beacons: Beacons;
  readonly #routes: Routes;
  readonly #router: Router;
  readonly #subscriptions = new Set<ClusterSubscription>();
  #closing: Promise<void> | null = null;

  constructor(options: ClusterStoreOptions) {
    const { shape, local, transport, nodes, timers = systemTimers } = options;
    this.#environment = options.environment ?? systemEnvironment();
    this.#log = options.log ?? (() => {});
    this.#shape = shape;
    this.#local = local;
    this.#transport = transport;
    this.#nodes = nodes;
    this.#followMs = options.followMs ?? FOLLOW_MS;
    this.partitionCount = shape.partitionCount;
    const { addresses } = nodes[transport.node]!;
    const surroundings = { shape, local, transport, environment: this.#environment, timers, log: this.#log };
    this.#beacons = new Beacons({ ...surroundings, addresses });
    this.#routes = new Routes(shape, local, transport, (node) => this.#beacons.isSuspected(node));
    this.#router = new Router({
      ...surroundings,
      routes: this.#routes,
      settings: { ...SETTINGS, ...options.settings },
      follow: (selection, freshness) => this.#subscribe(selection, freshness, false),
    });
  }

  /** For what the transport tells: of the `forward` lane, the links, and broadcasts. */
  get handlers(): TransportHandlers {
    const { message, linkUp, linkDown, writable } = this.#router.handlers;
    return {
      message,
      writable,
      linkUp: (peer) => {
        this.#beacons.linkUp(peer);
        linkUp(peer);
      },
      linkDown: (peer, reason) => {
        this.#beacons.linkDown(peer);
        linkDown(peer, reason);
      },
      broadcast: (from, bytes) => {
        const beacon = this.#beacons.take(from, bytes);
        for (const { bucket, term, leader } of beacon?.buckets ?? []) this.#router.learn(bucket, term, leader, from);
      },
    };
  }

  /** What is open: for tests, which see that nothing is left behind. */
  get underWay(): { appends: number; questions: number; answers: number; subscriptions: number } {
    return { ...this.#router.underWay, subscriptions: this.#subscriptions.size };
  }

  /** Tells the others of this node, from now on. To be called once, when the transport has started. */
  start(): void {
    this.#beacons.send();
    this.#beacons.start();
  }

  append(transaction: Transaction): Promise<AppendResult> {
    return new Promise((resolve, refused) => {
      this.appendFor(transaction, { stored: (appended) => resolve(resultOf(appended)), refused });
    });
  }

  appendFor(transaction: Transaction, receiver: AppendReceiver): void {
    let admitted;
    try {
      this.#requireOpen();
      admitted = admit(transaction, this.#environment);
      let bytes = 0;
      for (const { payload, metadata } of admitted.events) bytes += payload.length + metadata.length;
      if (bytes > TRANSACTION_BYTES_MAX) throw new LimitExceeded("The transaction", bytes, TRANSACTION_BYTES_MAX);
    } catch (error) {
      return receiver.refused(error);
    }
    const { events, partitionHash } = admitted;
    const bucket = this.#bucketOf(partitionOf(partitionHash, this.partitionCount));
    if (events.some(({ eventIdGiven }) => eventIdGiven)) return this.#router.append(bucket, transaction, receiver);
    // A transaction is known again by any of its ids. The writer's own retry is to be known as well, so none is added to his.
    const [first, ...others] = transaction.events;
    const known = [{ ...first!, eventId: events[0]!.eventId }, ...others];
    this.#router.append(bucket, { ...transaction, events: known }, receiver);
  }

  async event(eventId: string | Uint8Array, freshness: Freshness = {}): Promise<EventRecord | null> {
    this.#requireOpen();
    const id = requireUuid(eventId, "event id");
    const partition = partitionOf(partitionHash(id), this.partitionCount);
    return await this.#readOne(partition, freshness, () => this.#local.store.event(id), async (freshness) => {
      const answer = await this.#router.answer({ kind: "event", eventId: formatUuid(id) }, freshness);
      return answer.kind === "event" ? answer.event : unexpected(answer);
    });
  }

  async streamVersion(streamId: string, options: StreamOptions & Freshness = {}): Promise<number | null> {
    this.#requireOpen();
    const { partition, partitionKey } = this.#streamOf(streamId, options);
    return await this.#readOne(
      partition,
      options,
      () => this.#local.store.streamVersion(streamId, { partitionKey }),
      (freshness) => this.#numberOf({ kind: "streamVersion", streamId, partitionKey }, freshness),
    );
  }

  async partitionSequence(partition: number, freshness: Freshness = {}): Promise<number | null> {
    this.#requireOpen();
    this.#requirePartition(partition);
    return await this.#readOne(
      partition,
      freshness,
      () => this.#local.store.partitionSequence(partition),
      (freshness) => this.#numberOf({ kind: "partitionSequence", partition }, freshness),
    );
  }

  readStream(streamId: string, options: ReadOptions & StreamOptions = {}): Scan {
    this.#requireOpen();
    const { partition, partitionKey } = this.#streamOf(streamId, options);
    const own = this.#local.store.readStream(streamId, withoutFreshness(options)); // It refuses what cannot be read.
    return this.#scan(own, partition, options, { kind: "stream", streamId, partitionKey }, "version", {
      kind: "streamVersion",
      streamId,
      partitionKey,
    });
  }

  readPartition(partition: number, options: ReadOptions = {}): Scan {
    this.#requireOpen();
    this.#requirePartition(partition);
    const own = this.#local.store.readPartition(partition, withoutFreshness(options));
    return this.#scan(own, partition, options, { kind: "partition", partition }, "sequence", {
      kind: "partitionSequence",
      partition,
    });
  }

  async subscribe(selection: Selection, freshness: Freshness = {}): Promise<Subscription> {
    return await this.#subscribe(selection, freshness, true);
  }

  partitionOfKey(partitionKey: string): number {
    return this.#partitionOf(requireUuid(partitionKey, "partition key"));
  }

  /** Of this node: its own disk, and what its own replicas did. */
  status(): StoreStatus {
    return this.#local.store.status();
  }

  cluster(): ClusterStatus {
    const { node } = this.#transport;
    const { clusterId, replicationFactor, bucketCount } = this.#shape;
    return {
      node,
      clusterId,
      configHash: configHash(this.#shape),
      replicationFactor,
      nodes: this.#nodes.map(({ peerId, addresses }, index) => ({
        peerId,
        addresses,
        linked: index === node || this.#transport.isLinked(index),
        suspected: this.#beacons.isSuspected(index),
        seenMs: index === node ? 0 : this.#beacons.silenceMs(index),
      })),
      buckets: Array.from({ length: bucketCount }, (_, bucket) => {
        const own = this.#local.replica(bucket);
        const leader = this.#routes.leaderOf(bucket);
        return {
          replicas: replicasOf(bucket, this.#shape),
          term: this.#routes.termOf(bucket),
          leader: leader?.node ?? null,
          own: own === null ? null : {
            role: own.role,
            logEnd: own.logEnd,
            durableEnd: own.durableEnd,
            commitEnd: own.commitEnd,
            chain: hexOf(own.commitChain.high) + hexOf(own.commitChain.low),
          },
          commitEnds: this.#beacons.commitEnds(bucket),
        };
      }),
    };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    for (const subscription of this.#subscriptions) subscription.storeCloses();
    await this.#router.close();
    this.#beacons.stop();
  }

  // ---- Reads -----------------------------------------------------------------------------------------------------------

  /** Whether this node's replica may answer at once. */
  #isHere(partition: number, { atLeast, fromLeader }: Freshness): boolean {
    return atLeast === undefined && fromLeader !== true && this.#router.holds(this.#bucketOf(partition));
  }

  /** From our own replica if that may answer at once and is not damaged, else from the others. */
  async #readOne<Found>(
    partition: number,
    freshness: Freshness,
    here: () => Promise<Found>,
    elsewhere: (freshness: Freshness) => Promise<Found>,
  ): Promise<Found> {
    if (!this.#isHere(partition, freshness)) return await elsewhere(freshness);
    try {
      return await here();
    } catch (error) {
      if (!(error instanceof Damaged)) throw error;
      return await elsewhere(INSTEAD);
    }
  }

  /** `least`: a replica that says less is behind. */
  async #numberOf(
    query: Query,
    { atLeast, fromLeader }: Freshness,
    least: number | null = null,
  ): Promise<number | null> {
    const wants = (answer: Answer) => least === null || answer.kind === "number" && (answer.number ?? -1) >= least;
    const answer = await this.#router.answer(query, { atLeast, fromLeader }, { wants });
    return answer.kind === "number" ? answer.number : unexpected(answer);
  }

  /** From our own replica when that is new enough, else page by page from the others. */
  #scan(
    own: Scan,
    partition: number,
    options: ReadOptions,
    what: Asked,
    number: "version" | "sequence",
    head: Query,
  ): Scan {
    const bucket = this.#bucketOf(partition);
    const { atLeast, fromLeader } = options;
    const freshness: Freshness = { atLeast, fromLeader };
    const isHere = async () => {
      if (!this.#router.holds(bucket)) return false;
      return this.#isHere(partition, freshness) ||
        await this.#router.isLate(bucket, partition, freshness) === null;
    };
    const instead = (rest: ReadOptions) => this.#pagesElsewhere(rest, INSTEAD, what, number, head);
    const pages = async function* (this: ClusterStore) {
      this.#requireOpen();
      if (!await isHere()) return yield* this.#pagesElsewhere(options, freshness, what, number, head);
      yield* this.#whileWhole(own.pages(), options, (page, rest) => restAfter(page, number, rest), instead);
    }.bind(this);
    if (!this.#isHere(partition, freshness)) return new Scan(pages);
    return new Scan(
      pages,
      (sink) =>
        this.#whileWhole(own.pagesInto(sink), options, restAfterSome, (rest) => recordsInto(sink, instead(rest))),
    );
  }

  /** Pages of our own replica and, where that turns out to be damaged, the rest of them from others. */
  async *#whileWhole<Page>(
    own: AsyncIterable<Page>,
    options: ReadOptions,
    after: (page: Page, rest: ReadOptions) => ReadOptions | null,
    instead: (rest: ReadOptions) => AsyncIterable<Page>,
  ): AsyncGenerator<Page> {
    let rest: ReadOptions | null = options;
    try {
      this.#requireOpen();
      for await (const page of own) {
        this.#requireOpen();
        rest = rest && after(page, rest);
        yield page;
      }
      return;
    } catch (error) {
      if (rest === null || !(error instanceof Damaged)) throw error;
    }
    yield* instead(rest);
  }

  async *#pagesElsewhere(
    options: ReadOptions,
    freshness: Freshness,
    what: Asked,
    number: "version" | "sequence",
    head: Query,
  ): AsyncGenerator<EventRecord[]> {
    const backward = options.direction === "backward";
    let from = options.from ?? 0;
    let end = finite(options.end);
    let limit = finite(options.limit) ?? Number.MAX_SAFE_INTEGER;
    if (limit === 0 || end !== null && from >= end) return;
    // The first page says whether there are more. Then it is asked how far: what is appended meanwhile is not for us, and
    // a replica that has less than that is behind.
    let isFirst = true;
    for (;;) {
      this.#requireOpen();
      const answer = await this.#router.answer(
        { ...what, from, end, backward, limit },
        isFirst ? freshness : {},
        {
          wants: (found) =>
            isFirst || found.kind === "events" && found.events[0]?.[number] === (backward ? end! - 1 : from),
        },
      );
      if (answer.kind !== "events") return unexpected(answer);
      const page = [...answer.events];
      if (page.length === 0) return;
      yield page;
      const last = page.at(-1)![number];
      limit -= page.length;
      if (isFirst && !answer.more || limit <= 0) return;
      if (backward) end = last;
      else {
        from = last + 1;
        if (isFirst) end = Math.min(end ?? Infinity, (await this.#numberOf(head, freshness, from))! + 1);
      }
      isFirst = false;
      if (from >= end!) return;
    }
  }

  // ---- Subscriptions ---------------------------------------------------------------------------------------------------

  /** `mayRelay`: what no node with a link to this one holds, another node may be asked to follow. */
  async #subscribe(selection: Selection, freshness: Freshness, mayRelay: boolean): Promise<ClusterSubscription> {
    this.#requireOpen();
    const { atLeast, fromLeader } = freshness;
    const { own, places, latest, partitions } = "partitions" in selection
      ? this.#placesOf(selection)
      : this.#placesOfStreams(selection);
    if (atLeast !== undefined) {
      const partition = onlyPartition(selection, this.partitionCount);
      await this.#numberOf({ kind: "partitionSequence", partition }, freshness); // Whoever has it says whether it is there.
    }
    await this.#requireFresh(partitions, freshness);
    if (latest.length > 0) {
      const places = [...new Set(latest.map(({ place }) => place))];
      const heads = await headsOf(this.#router, places, freshness, mayRelay);
      for (const { place, position } of latest) {
        const positions = place.of instanceof Map ? [...place.of.values()] : [place.of];
        position.next = heads.get(place)![positions.indexOf(position as StreamPosition)]!;
      }
    }
    const subscription = new ClusterSubscription({
      router: this.#router,
      own: own === null ? null : await this.#local.store.subscribe(own),
      places,
      freshness: { atLeast, fromLeader },
      followMs: this.#followMs,
      mayRelay,
      log: this.#log,
      onClose: () => this.#subscriptions.delete(subscription),
    });
    this.#subscriptions.add(subscription);
    if (this.#closing !== null) subscription.storeCloses();
    this.#requireOpen();
    return subscription;
  }

  #placesOf(selection: PartitionSelection): Places {
    const { partitions, from = "latest", starts = new Map<number, Start>() } = selection;
    for (const start of [from, ...starts.values()]) requireStart(start);
    const numbers = [...partitions === "all" ? Array(this.partitionCount).keys() : new Set(partitions)]
      .filter((partition) => this.#hasPartition(partition));
    const here = numbers.filter((partition) => this.#router.holds(this.#bucketOf(partition)));
    if (here.length === numbers.length) return { own: selection, places: [], latest: [], partitions: numbers };
    const found: Places = { own: null, places: [], latest: [], partitions: here };
    if (here.length > 0) found.own = { partitions: here, from, starts };
    for (const partition of numbers) {
      if (here.includes(partition)) continue;
      const start = starts.get(partition) ?? from;
      const position = { next: start === "latest" ? 0 : start };
      const place = placeOf(this.#bucketOf(partition), partition, position);
      found.places.push(place);
      if (start === "latest") found.latest.push({ place, position });
    }
    return found;
  }

  #placesOfStreams({ streams }: StreamSelection): Places {
    const found: Places = { own: null, places: [], latest: [], partitions: [] };
    const own: StreamSelection["streams"][number][] = [];
    const places = new Map<number, Place & { of: Map<string, StreamPosition & { next: number }> }>();
    const here = new Set<number>();
    for (const stream of streams) {
      const { streamId, from = "latest" } = stream;
      const { partition, partitionKey } = this.#streamOf(streamId, stream);
      const start = requireStart(from);
      if (this.#router.holds(this.#bucketOf(partition))) {
        own.push(stream);
        here.add(partition);
        continue;
      }
      let place = places.get(partition);
      if (place === undefined) {
        const of = new Map<string, StreamPosition & { next: number }>();
        places.set(partition, place = { ...placeOf(this.#bucketOf(partition), partition, of), of });
      }
      const key = streamKey(partitionKey, streamId);
      if (place.of.has(key)) continue; // The first start counts.
      const position = { streamId, partitionKey, next: start === "latest" ? 0 : start };
      place.of.set(key, position);
      if (start === "latest") found.latest.push({ place, position });
    }
    if (own.length > 0 || streams.length === 0) found.own = { streams: own };
    found.places.push(...places.values());
    found.partitions.push(...here);
    return found;
  }

  /** Waits until our own replicas have what a subscriber wants to see. */
  async #requireFresh(partitions: readonly number[], freshness: Freshness): Promise<void> {
    const { atLeast, fromLeader } = freshness;
    if (atLeast === undefined && fromLeader !== true) return;
    const byBucket = new Map(partitions.map((partition) => [this.#bucketOf(partition), partition]));
    const deadline = this.#router.deadline();
    await Promise.all([...byBucket].map(async ([bucket, partition]) => {
      for (;;) {
        const late = await this.#router.isLate(bucket, partition, freshness);
        if (late === null) return;
        if (late.code !== "notLeader") throw errorOf(late);
        if (!this.#router.isBefore(deadline)) {
          throw new TryAgain("This node's replica is behind, and the leader cannot be asked");
        }
        await this.#router.change();
        this.#requireOpen();
      }
    }));
  }

  // ---- Places ----------------------------------------------------------------------------------------------------------

  #streamOf(streamId: string, { partitionKey }: StreamOptions): { partition: number; partitionKey: string } {
    const given = partitionKey === undefined ? null : requireUuid(partitionKey, "partition key");
    const stream = identify(streamId, given);
    return { partition: this.#partitionOf(stream.partitionKey), partitionKey: formatUuid(stream.partitionKey) };
  }

  #partitionOf(partitionKey: Uint8Array): number {
    return partitionOf(partitionHash(partitionKey), this.partitionCount);
  }

  #bucketOf(partition: number): number {
    return bucketOf(partition, this.#shape.bucketCount);
  }

  #hasPartition(partition: number): boolean {
    return Number.isInteger(partition) && partition >= 0 && partition < this.partitionCount;
  }

  #requirePartition(partition: number): void {
    if (!this.#hasPartition(partition)) throw new NoSuchPartition(partition, this.partitionCount);
  }

  #requireOpen(): void {
    if (this.#closing !== null) throw new StoreClosed();
  }
}

/** What is asked for of a scan, without its range. */
type Asked =
  | { readonly kind: "stream"; readonly streamId: string; readonly partitionKey: string }
  | { readonly kind: "partition"; readonly partition: number };

/** A selection, by where it lies. */
interface Places {
  /** For our own store. */
  own: Selection | null;
  places: Place[];
  /** Positions elsewhere that are to begin at what is there now. */
  latest: { place: Place; position: { next: number } }[];
  /** Of our own. */
  partitions: number[];
}

/** Of a scan: what it would give after these events. */
function restAfter(events: EventRecord[], number: "version" | "sequence", scan: ReadOptions): ReadOptions {
  const last = events.at(-1)![number];
  const limit = (scan.limit ?? Infinity) - events.length;
  return scan.direction === "backward" ? { ...scan, end: last, limit } : { ...scan, from: last + 1, limit };
}

/** The same after so many, of which nothing is known. Null where that cannot be said. */
function restAfterSome(count: number, scan: ReadOptions): ReadOptions | null {
  if (scan.direction === "backward") return null;
  return { ...scan, from: (scan.from ?? 0) + count, limit: (scan.limit ?? Infinity) - count };
}

function withoutFreshness<Options extends Freshness>({ atLeast: _, fromLeader: __, ...options }: Options) {
  return options;
}

function finite(number: number | undefined): number | null {
  return number === undefined || number === Infinity ? null : number;
}

function hexOf(word: number): string {
  return (word >>> 0).toString(16).padStart(8, "0");
}

/** A node has answered something else than it was asked. */
function unexpected({ kind }: Answer): never {
  throw new TryAgain(`A node has answered with ${kind}, which was not asked for`);
}
