/**
 * A subscription over partitions of which some are not on this node.
 *
 * What this node holds is a subscription of its own store. All else is asked of a node that holds it, by long polling:
 * "what comes next of these positions? I wait for so long". Nothing of it is kept there, so when that node is gone the
 * same question goes to another one, and goes on at the same positions.
 *
 *     place ── asked ──► page ── read ──► place …        one question at a time for all places of one node
 *
 * Of each partition, or of the streams of one, there is one place, which is asked of one node at a time; and an event is
 * taken only if it is the very next there. So nothing is skipped and nothing comes twice, whoever answers. A transaction
 * that a page ends within goes on before all others: then only its place is asked for, and only for its rest.
 *
 * No more is held than a page of each node.
 *
 * @module
 */
import type { Log } from "../core/environment.ts";
import { Damaged, NoReplica, StoreClosed, TryAgain } from "../core/errors.ts";
import type { EventRecord } from "../core/event.ts";
import { type Freshness, Subscription } from "../core/store.ts";
import { isOfSeveral } from "../core/uuid.ts";
import { FOLLOW_EVENTS_MAX, type Positions, type Query, type StreamPosition } from "./messages.ts";
import { isOfPeer, type Router } from "./router.ts";

const PAGE_BYTES_MAX = 256 * 1024;

/** What is followed of a partition that is not here: all of it, or streams. */
export interface Place {
  readonly bucket: number;
  readonly partition: number;
  /** What comes next: of all, or of each stream by its key. */
  readonly of: { next: number } | Map<string, StreamPosition & { next: number }>;
  /** `free`: to be asked. `read`: it was read to its end when it was asked last. */
  state: "free" | "read" | "asked" | "held";
  /** It was asked for, and answered. */
  wasAnswered: boolean;
  /** Nodes that could not answer. */
  readonly avoided: Set<number>;
  damage: Damaged | null;
}

export function streamKey(partitionKey: string, streamId: string): string {
  return partitionKey + streamId;
}

export function placeOf(bucket: number, partition: number, of: Place["of"]): Place {
  return { bucket, partition, of, state: "free", wasAnswered: false, avoided: new Set(), damage: null };
}

/** Events of some places that were not read yet; of none, when they are of our own store. */
interface Page {
  readonly places: readonly Place[];
  readonly events: readonly EventRecord[];
  at: number;
  /** The transaction of the last event has a rest. */
  readonly goesOn: boolean;
}

export interface ClusterSubscriptionOptions {
  router: Router;
  /** Of what this node holds, if there is anything. */
  own: Subscription | null;
  places: readonly Place[];
  /** How new what is read first must be. */
  freshness: Freshness;
  /** How long a node waits for events. */
  followMs: number;
  /** Whether others may be asked for what only they can reach. */
  mayRelay: boolean;
  log: Log;
  onClose: () => void;
}

export class ClusterSubscription extends Subscription {
  readonly #router: Router;
  readonly #own: Subscription | null;
  readonly #places: Place[];
  readonly #freshness: Freshness;
  readonly #followMs: number;
  readonly #mayRelay: boolean;
  readonly #log: Log;
  readonly #onClose: () => void;
  /** What may be read, in turns. `own`: our own store has something. */
  #line: (Page | "own")[] = [];
  /** Our own store is waited for. */
  #ownAwaited = false;
  /** Who was read last, and is within a transaction, or may be: it goes on. */
  #within: Page | "own" | { place: Place; transactionId: string } | null = null;
  /** Of the last event of our own store. */
  #ownTransaction: string | null = null;
  #failure: unknown = null;
  #waiting: (() => void)[] = [];
  readonly #stop = new AbortController();
  #closed = false;
  #storeClosed = false;

  constructor({ router, own, places, freshness, followMs, mayRelay, log, onClose }: ClusterSubscriptionOptions) {
    super();
    this.#router = router;
    this.#own = own;
    this.#places = [...places];
    this.#freshness = freshness;
    this.#followMs = followMs;
    this.#mayRelay = mayRelay;
    this.#log = log;
    this.#onClose = onClose;
  }

  get closed(): boolean {
    return this.#closed;
  }

  override get atEnd(): boolean {
    return this.#places.length === 0 && (this.#own?.atEnd ?? true);
  }

  override async read(limit = FOLLOW_EVENTS_MAX): Promise<EventRecord[]> {
    if (this.#closed) return [];
    this.#requireOpen();
    const wanted = Math.min(limit, FOLLOW_EVENTS_MAX);
    if (this.#places.length === 0) return await this.#own?.read(wanted) ?? [];
    const page: EventRecord[] = [];
    let bytes = 0;
    let isOwnRead = this.#own === null || this.#ownAwaited;
    while (!this.#closed && page.length < wanted && bytes < PAGE_BYTES_MAX) {
      const source = this.#next() ?? (isOwnRead || this.#within !== null ? null : "own");
      if (source === null) {
        if (page.length > 0 || !await this.#look()) break;
        continue;
      }
      const most = wanted - page.length;
      const share = this.#within === null ? Math.ceil(most / Math.max(1, this.#line.length)) : most;
      const from = page.length;
      if (source === "own") {
        try {
          isOwnRead = !await this.#readOwn(share, page);
        } catch (error) {
          if (page.length > 0) break; // What was read is given first: the next read meets it again.
          throw error;
        }
      } else this.#readPage(source, share, wanted, PAGE_BYTES_MAX - bytes, page);
      for (let i = from; i < page.length; i++) bytes += page[i]!.payload.length + page[i]!.metadata.length;
    }
    return page;
  }

  override async ready(): Promise<boolean> {
    while (!this.#closed) {
      this.#requireOpen();
      if (this.#places.length === 0 && this.#own !== null) {
        if (await this.#own.ready()) return true;
        continue; // It was closed: by whom, is seen above.
      }
      if (this.#failure !== null) {
        const failure = this.#failure;
        this.#failure = null;
        throw failure;
      }
      if (this.#within === "own") await this.#lookAtOwn();
      if (this.#next() !== null) return true;
      this.#awaitOwn();
      this.#askAll(this.#followMs);
      if (this.#failure !== null) continue;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    return false;
  }

  override async lag(): Promise<number> {
    if (this.#closed) return 0;
    this.#requireOpen();
    const [own, heads] = await Promise.all([
      this.#own?.lag() ?? 0,
      headsOf(this.#router, this.#places, {}, this.#mayRelay),
    ]);
    this.#requireOpen();
    let lag = own;
    // What is held was counted as read when it came.
    for (const page of this.#line) if (page !== "own") lag += page.events.length - page.at;
    for (const [place, numbers] of heads) {
      const nexts = place.of instanceof Map ? [...place.of.values()] : [place.of];
      for (const [i, { next }] of nexts.entries()) lag += Math.max(0, numbers[i]! - next);
    }
    return lag;
  }

  override close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stop.abort();
    this.#own?.close();
    this.#line = [];
    this.#onClose();
    this.#wake();
  }

  /** Waits end with StoreClosed. */
  storeCloses(): void {
    this.#storeClosed = true;
    this.#stop.abort();
    this.#own?.close();
    this.#wake();
  }

  // ---- What is here ----------------------------------------------------------------------------------------------------

  /** Whose turn it is; null when there is nothing to read. */
  #next(): Page | "own" | null {
    const within = this.#within;
    if (within === null) return this.#line[0] ?? null;
    if (within === "own" || "events" in within) return within;
    // The rest of a transaction comes as a page of its own.
    const rest = this.#line.find((page) =>
      page !== "own" && page.places.length === 1 && page.places[0] === within.place &&
      page.events[page.at]!.transactionId === within.transactionId
    );
    return rest ?? null;
  }

  /** Reads from our own store, which keeps its transactions together itself. Whether there was something. */
  async #readOwn(share: number, into: EventRecord[]): Promise<boolean> {
    const events = await this.#own!.read(share);
    into.push(...events);
    this.#leaveLine("own");
    this.#ownWasRead(events.at(-1));
    return events.length > 0;
  }

  /** Whether there is a rest of its transaction, the next read tells. */
  #ownWasRead(last: EventRecord | undefined): void {
    this.#ownTransaction = last !== undefined && isOfSeveral(last.transactionId) ? last.transactionId : null;
    this.#within = this.#ownTransaction === null ? null : "own";
  }

  /** Whether our own store goes on with its transaction. Only by reading can it be asked. */
  async #lookAtOwn(): Promise<void> {
    const events = await this.#own!.read(1);
    this.#within = null;
    if (events.length === 0) return;
    const page: Page = { places: [], events, at: 0, goesOn: false };
    this.#line.push(page);
    if (events[0]!.transactionId === this.#ownTransaction) this.#within = page;
  }

  #readPage(page: Page, share: number, wanted: number, bytesMax: number, into: EventRecord[]): void {
    const { events } = page;
    const end = Math.min(events.length, page.at + share);
    let bytes = 0;
    let last: EventRecord | null = null;
    this.#within = null;
    while (page.at < events.length && into.length < wanted && bytes < bytesMax) {
      const event = events[page.at]!;
      if (page.at >= end && event.transactionId !== last?.transactionId) break;
      into.push(last = event);
      page.at++;
      bytes += event.payload.length + event.metadata.length;
    }
    this.#leaveLine(page);
    if (page.at < events.length) {
      this.#line.push(page);
      if (events[page.at]!.transactionId === last?.transactionId) this.#within = page;
      return;
    }
    if (page.places.length === 0) return this.#ownWasRead(last ?? undefined);
    for (const place of page.places) if (place.state === "held") place.state = "free";
    this.#goLast(page);
    if (!page.goesOn || last === null) return;
    const place = page.places.find(({ partition }) => partition === last.partition)!;
    this.#within = { place, transactionId: last.transactionId };
  }

  #leaveLine(source: Page | "own"): void {
    const at = this.#line.indexOf(source);
    if (at >= 0) this.#line.splice(at, 1);
  }

  /** Places that were served are asked for behind the others, so that each has its turn. */
  #goLast({ events }: Page): void {
    const served = new Set(events.map(({ partition }) => partition));
    const [ofServed, others] = [true, false].map((wanted) =>
      this.#places.filter(({ partition }) => served.has(partition) === wanted)
    );
    this.#places.splice(0, this.#places.length, ...others!, ...ofServed!);
  }

  #awaitOwn(): void {
    if (this.#own === null || this.#ownAwaited || this.#line.includes("own")) return;
    this.#ownAwaited = true;
    void this.#own.ready().then((ready) => {
      if (ready) this.#line.push("own");
    }, (error) => this.#failure = error).finally(() => {
      this.#ownAwaited = false;
      this.#wake();
    });
  }

  // ---- What is elsewhere -----------------------------------------------------------------------------------------------

  /**
   * Whether there is something to read elsewhere: all places of which it is not known are looked at, without a wait.
   * @throws {NoReplica} | {TryAgain} nobody could be asked
   */
  async #look(): Promise<boolean> {
    const deadline = this.#router.deadline();
    for (;;) {
      const asked = this.#askAll(0);
      const results = await Promise.all(asked);
      if (this.#closed) return false;
      this.#requireOpen();
      if (this.#next() !== null) return true;
      if (results.every((isAnswered) => isAnswered)) return false;
      if (this.#failure !== null) {
        const failure = this.#failure;
        this.#failure = null;
        throw failure;
      }
      if (!this.#router.isBefore(deadline)) {
        throw new TryAgain("No node that has a replica of the partitions can answer");
      }
      await this.#router.change();
    }
  }

  /** Asks for all places that are to be asked for, each node once. Of each question, whether it was answered. */
  #askAll(waitMs: number): Promise<boolean>[] {
    const within = this.#within;
    const isRest = within !== null && within !== "own" && "place" in within;
    const places = (isRest ? [within.place] : within === null ? this.#places : []).filter(({ state }) =>
      state === "free" || waitMs > 0 && state === "read"
    );
    const { groups, lost } = groupsOf(this.#router, places, this.#mayRelay);
    const asked = groups.map((group) => this.#ask(group, waitMs, isRest ? within.transactionId : null));
    if (lost.length === 0) return asked;
    for (const place of lost) {
      // All that have a replica were asked in vain. They are asked again.
      place.avoided.clear();
      if (place.damage !== null) this.#failure = place.damage;
      place.damage = null;
    }
    if (this.#failure !== null) this.#wake();
    else if (waitMs > 0) void this.#router.change().catch(() => {}).then(() => this.#wake());
    return [...asked, Promise.resolve(false)];
  }

  async #ask({ node, hops, places }: Group, waitMs: number, within: string | null): Promise<boolean> {
    for (const place of places) place.state = "asked";
    const query: Query = { kind: "follow", positions: positionsOf(places), waitMs, limit: FOLLOW_EVENTS_MAX, within };
    const freshness = places.every(({ wasAnswered }) => wasAnswered) ? {} : this.#freshness;
    try {
      const answer = await this.#router.askFor(node, query, { hops, freshness, signal: this.#stop.signal });
      if (answer.kind !== "events") throw new TryAgain(`Node ${node} has answered with ${answer.kind}`);
      const { events, more } = answer;
      take(places, events);
      const isEmpty = events.length === 0;
      for (const place of places) {
        place.state = isEmpty ? "read" : "held";
        place.wasAnswered = true;
        place.avoided.clear();
        place.damage = null;
      }
      if (!isEmpty) this.#line.push({ places, events, at: 0, goesOn: more });
      // What was asked for a rest of which a replica has nothing yet, is asked for again.
      if (isEmpty && within !== null) { for (const place of places) place.state = "free"; }
      return true;
    } catch (error) {
      for (const place of places) {
        place.state = "free";
        place.avoided.add(node);
        if (error instanceof Damaged) place.damage = error;
      }
      if (this.#stop.signal.aborted) return false;
      if (error instanceof OutOfOrder) {
        this.#log("error", "A node has answered with other events", { node, cause: error });
      } else if (!isTemporary(error)) this.#failure = error;
      return false;
    } finally {
      this.#wake();
    }
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  #requireOpen(): void {
    if (this.#storeClosed) throw new StoreClosed();
  }
}

/** One past the last that there is, of each position of each place. @throws {NoReplica} | {TryAgain} | {Damaged} */
export async function headsOf(
  router: Router,
  places: readonly Place[],
  freshness: Freshness,
  mayRelay: boolean,
): Promise<Map<Place, readonly number[]>> {
  const heads = new Map<Place, readonly number[]>();
  const deadline = router.deadline();
  let left = places.map((place) => ({ ...place, avoided: new Set<number>(), whole: place }));
  let why: unknown = new NoReplica("No node that has a replica of the partitions can be reached");
  while (left.length > 0) {
    const { groups, lost } = groupsOf(router, left, mayRelay);
    const failed = await Promise.all(groups.map(async ({ node, hops, places }) => {
      try {
        const query: Query = { kind: "heads", positions: positionsOf(places) };
        const answer = await router.askFor(node, query, { hops, freshness });
        if (answer.kind !== "numbers") throw new TryAgain(`Node ${node} has answered with ${answer.kind}`);
        let at = 0;
        for (const { whole, of } of places) {
          heads.set(whole, answer.numbers.slice(at, at += of instanceof Map ? of.size : 1));
        }
        return [];
      } catch (error) {
        if (!isTemporary(error)) throw error;
        why = error;
        for (const { avoided } of places) avoided.add(node);
        return places;
      }
    }));
    left = [...lost, ...failed.flat()];
    if (lost.length === 0) continue;
    for (const { avoided } of lost) avoided.clear();
    if (!router.isBefore(deadline)) throw isOfPeer(why) ? new NoReplica(why.message, { cause: why }) : why;
    await router.change();
  }
  return heads;
}

interface Group<P extends Place = Place> {
  node: number;
  hops: number;
  places: P[];
}

/** Who is asked for what: as few nodes as that takes, or nearly. `lost`: there is nobody to ask. */
function groupsOf<P extends Place>(
  router: Router,
  places: readonly P[],
  mayRelay: boolean,
): { groups: Group<P>[]; lost: P[] } {
  const groups = new Map<string, Group<P>>();
  const lost: P[] = [];
  const used = new Set<number>();
  for (const place of places) {
    const found = router.nodeFor(place.bucket, place.avoided, used, mayRelay);
    if (found === null) {
      lost.push(place);
      continue;
    }
    const key = `${found.node} ${found.hops}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { ...found, places: [place] });
    else group.places.push(place);
    if (found.hops === 0) used.add(found.node);
  }
  return { groups: [...groups.values()], lost };
}

function positionsOf(places: readonly Place[]): Positions {
  if (places[0]!.of instanceof Map) {
    return { streams: places.flatMap(({ of }) => of instanceof Map ? [...of.values()] : []) };
  }
  return { partitions: places.map(({ partition, of }) => ({ partition, next: of instanceof Map ? 0 : of.next })) };
}

/** An event is not the next of what was asked for. Its node has a bug, or another history. */
class OutOfOrder extends Error {
  override readonly name = "OutOfOrder";
}

/** Moves the places past the events, or not at all. @throws {OutOfOrder} */
function take(places: readonly Place[], events: readonly EventRecord[]): void {
  const byPartition = new Map(places.map((place) => [place.partition, place.of]));
  const nexts = new Map<{ next: number }, number>();
  for (const { partition, partitionKey, streamId, sequence, version } of events) {
    const of = byPartition.get(partition);
    const position = of instanceof Map ? of.get(streamKey(partitionKey, streamId)) : of;
    const number = of instanceof Map ? version : sequence;
    const next = position === undefined ? null : nexts.get(position) ?? position.next;
    if (next !== number) throw new OutOfOrder(`Event ${number} of partition ${partition}, where ${next} was to come`);
    nexts.set(position!, next + 1);
  }
  for (const [position, next] of nexts) position.next = next;
}

/** Whether another node may answer, or this one soon. */
function isTemporary(error: unknown): boolean {
  return isOfPeer(error) || error instanceof NoReplica || error instanceof TryAgain || error instanceof StoreClosed ||
    error instanceof Damaged;
}
