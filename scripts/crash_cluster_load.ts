/**
 * Clients of a cluster while things happen to it: they append, read and follow at all nodes, and what they were told is
 * judged in the end.
 *
 *     writers     single events, transactions, at expected versions; of what got no answer, or one that says that nobody
 *                 knows, the same event ids are sent again, here or to another node, until there is an answer
 *     readers     a partition further on from where they are, at their own node
 *     followers   EPSUB of all, and ESUB of some streams, at their own node; they begin again behind what they have
 *
 * What must hold is told by net/history_checker.ts; what followers must have seen stands here.
 *
 * @module
 */
import { Chance } from "../core/chance.ts";
import { partitionHash, partitionOf } from "../core/placement.ts";
import { formatUuid, newEventId, parseUuid } from "../core/uuid.ts";
import { History, type Operation, type SeenEvent } from "../net/history_checker.ts";
import { type Address, Client, ConnectionLost, type Plain, ReplyError } from "./resp_client.ts";

export const PARTITIONS = 32;
/** Nothing was stored, and the same may be asked again. */
const LATER = new Set(["TRYAGAIN", "CLUSTERDOWN", "INSUFFICIENTREPLICAS"]);
/** An answer that does not come within this, of a node that hangs, is none. */
const ANSWER_MS_MAX = 15_000;
/** Of an operation, from when the load is to end: then there is an answer, or the cluster does not serve. */
const RESOLVE_MS_MAX = 45_000;
const AGAIN_MS = 20;
const SHARED_STREAMS = 3;
const ACK_EVERY = 100;
const PAGE = 5000;

const text = new TextDecoder();

/** Partition keys of as many partitions, so that all buckets have some. */
export const KEYS = Array.from({ length: 8 }, (_, i) => {
  const bytes = new Uint8Array(16);
  bytes.set([0xc0, 0xff, 0xee, i, 0, 0, 0x40, 0, 0x80, i, (i & 3) << 6]);
  return formatUuid(bytes);
});

export function partitionOfKey(key: string): number {
  return partitionOf(partitionHash(parseUuid(key)!), PARTITIONS);
}

export const pass = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** No connection: the command was not sent. */
export class Unreachable extends Error {
  override readonly name = "Unreachable";
}

/** A connection to a node that is made again when it is lost. Calls pipeline. */
export class NodeLink implements Disposable {
  #client: Promise<Client> | null = null;
  #isOver = false;

  constructor(readonly address: Address, readonly onPush?: (items: Plain[]) => void) {}

  /** @throws {Unreachable} | {ConnectionLost} | {ReplyError} */
  async call(words: (string | number | Uint8Array)[], msMax = ANSWER_MS_MAX): Promise<Plain> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    // A node that hangs may take the connection, and never greet.
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        this.#drop();
        reject(new ConnectionLost(`No answer to ${words[0]} within ${msMax} ms`));
      }, msMax);
    });
    try {
      return await Promise.race([this.#call(words), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #call(words: (string | number | Uint8Array)[]): Promise<Plain> {
    this.#client ??= this.#connect();
    const connecting = this.#client;
    let client: Client;
    try {
      client = await connecting;
    } catch (cause) {
      if (this.#client === connecting) this.#client = null;
      throw new Unreachable(`Cannot connect: ${(cause as Error).message}`, { cause });
    }
    try {
      return await client.call(...words);
    } catch (cause) {
      if (!(cause instanceof ReplyError) && this.#client === connecting) this.#client = null;
      throw cause;
    }
  }

  #connect(): Promise<Client> {
    if (this.#isOver) return Promise.reject(new Error("The link is over"));
    const { onPush } = this;
    const connecting = Client.connect(this.address, onPush === undefined ? {} : { onPush });
    // One that ended while nobody asked is not to fail the next call.
    connecting.then((client) => client.over).then(() => {
      if (this.#client === connecting) this.#client = null;
    }, () => {});
    return connecting;
  }

  #drop(): void {
    const client = this.#client;
    this.#client = null;
    client?.then((one) => one[Symbol.dispose](), () => {});
  }

  /** Resolves when the connection that there is, if any, has ended. */
  async over(): Promise<void> {
    await this.#client?.then((client) => client.over, () => {});
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    this.#drop();
  }
}

interface Appended {
  partition_sequence?: number;
  first_partition_sequence?: number;
  stream_version?: number;
  events?: { stream_version: number }[];
}

interface EventReply {
  event_id: string;
  transaction_id: string;
  partition_id: number;
  partition_key: string;
  partition_sequence: number;
  stream_version: number;
  stream_id: Uint8Array;
  timestamp: number;
  event_name: Uint8Array;
  metadata: Uint8Array;
  payload: Uint8Array;
}

export interface LoadOptions {
  addresses: readonly Address[];
  seed: number;
  /** Of each node: connections of writers, and operations that each has on the way. */
  writers?: number;
  depth?: number;
  followers?: boolean;
}

export interface Counts {
  acknowledged: number;
  refused: number;
  /** Tries that were answered with that nobody knows. */
  unknown: number;
  /** Tries without an answer, by node. */
  lost: Map<number, number>;
  /** Answers that say that nothing was stored and nothing is wrong, by code. */
  later: Map<string, number>;
  slowestMs: number;
}

export class ClusterLoad {
  readonly history = new History();
  readonly problems: string[] = [];
  readonly followers: Follower[] = [];
  readonly #links: NodeLink[] = [];
  /** By id: which event of how many. */
  readonly #parts = new Map<string, [number, number]>();
  readonly #work: Promise<void>[] = [];
  readonly #options: LoadOptions;
  readonly #lives: number[];
  /** By node: what its writers had acknowledged. */
  readonly acknowledgedAt: number[];
  counts: Counts = emptyCounts();
  #stopping = false;
  #deadline = Infinity;
  #streams = 0;

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#lives = options.addresses.map(() => 0);
    this.acknowledgedAt = options.addresses.map(() => 0);
  }

  start(): void {
    const { addresses, seed, writers = 2, depth = 4, followers = true } = this.#options;
    const chance = new Chance(seed);
    const own = () => new Chance(chance.below(2 ** 31));
    for (const [node, address] of addresses.entries()) {
      for (let i = 0; i < writers; i++) {
        const link = this.#link(address);
        for (let n = 0; n < depth; n++) this.#work.push(this.#write(node, link, own()));
      }
      this.#work.push(this.#read(node, this.#link(address)));
      if (!followers) continue;
      this.followers.push(new Follower(`EPSUB * at node ${node}`, address, null));
      const streams = [0, 1].map((i) => ({ key: KEYS[(2 * node + i) % KEYS.length]!, stream: `shared-${i}` }));
      this.followers.push(new Follower(`ESUB at node ${node}`, address, streams));
    }
    for (const follower of this.followers) follower.start();
  }

  /** What it sees may begin anew: the node has. */
  begins(node: number): void {
    this.#lives[node]!++;
  }

  /** Counts from now on. */
  mark(): void {
    this.counts = emptyCounts();
  }

  #link(address: Address): NodeLink {
    const link = new NodeLink(address);
    this.#links.push(link);
    return link;
  }

  // ---- Writers -----------------------------------------------------------------------------------------------------

  async #write(node: number, home: NodeLink, chance: Chance): Promise<void> {
    const own = `own-${this.#streams++}`;
    const ownKey = chance.pick(KEYS);
    let ownVersion: number | null = -1;
    while (!this.#stopping) {
      const isOwn = chance.oneIn(2);
      const key = isOwn ? ownKey : chance.pick(KEYS);
      const stream = isOwn ? own : `shared-${chance.below(SHARED_STREAMS)}`;
      let expected: number | null = null;
      if (isOwn) expected = ownVersion;
      else if (chance.oneIn(6)) expected = await this.#versionOf(home, stream, key);
      const count = chance.oneIn(5) ? chance.between(2, 4) : 1;
      const bytes = chance.oneIn(30) ? chance.below(20_000) : chance.below(300);
      const { operation, version } = await this.append(node, home, { key, stream, expected, count, bytes, chance });
      if (!isOwn) continue;
      if (operation.outcome === "ok") ownVersion = version;
      // Nobody else appends there: what was refused came of a try whose answer was lost, or is wrong and will be told.
      else ownVersion = await this.#versionOf(home, own, ownKey, true);
    }
  }

  /** Null if it is not known. */
  async #versionOf(link: NodeLink, stream: string, key: string, fromLeader = false): Promise<number | null> {
    const words = ["ESVER", stream, "PARTITION_KEY", key, ...fromLeader ? ["LEADER"] : []];
    for (;;) {
      try {
        const version = (await link.call(words)) as number | null ?? -1;
        this.history.tellVersion(partitionOfKey(key), `${key} ${stream}`, version);
        return version;
      } catch (error) {
        if (!fromLeader || this.#stopping) return null;
        this.#readFailed(error, words.join(" "));
        await pass(AGAIN_MS);
      }
    }
  }

  /** Asks until there is an answer: of a cluster that is to end, for so long. */
  async append(
    node: number,
    home: NodeLink,
    { key, stream, expected, count, bytes, chance, elsewhere = true }: {
      key: string;
      stream: string;
      expected: number | null;
      count: number;
      bytes: number;
      chance: Chance;
      elsewhere?: boolean;
    },
  ): Promise<{ operation: Operation; version: number }> {
    const hash = partitionHash(parseUuid(key)!);
    const partition = partitionOfKey(key);
    const ids = Array.from(
      { length: count },
      () => formatUuid(newEventId(hash, Date.now(), (into) => void crypto.getRandomValues(into))),
    );
    for (const [part, id] of ids.entries()) this.#parts.set(id, [part, count]);
    const fields = (id: string, first: boolean) => [
      ...[stream, "Happened", "EVENT_ID", id],
      ...(first && expected !== null ? ["EXPECTED_VERSION", expected < 0 ? "empty" : expected] : []),
      ...["PAYLOAD", payloadOf(id, bytes)],
    ];
    const words = count === 1
      ? ["EAPPEND", ...fields(ids[0]!, true), "PARTITION_KEY", key]
      : ["EMAPPEND", key, ...ids.flatMap((id, i) => fields(id, i === 0))];
    const began = performance.now();
    const operation = this.history.ask(partition, ids, `${key} ${stream}`, expected, began);
    let link = home;
    let at = node;
    let isUnknown = false;
    for (;;) {
      try {
        const reply = await link.call(words) as unknown as Appended;
        const now = performance.now();
        this.history.acknowledge(operation, reply.partition_sequence ?? reply.first_partition_sequence!, now);
        this.counts.acknowledged++;
        this.counts.slowestMs = Math.max(this.counts.slowestMs, now - began);
        this.acknowledgedAt[at]!++;
        return { operation, version: reply.stream_version ?? reply.events!.at(-1)!.stream_version };
      } catch (error) {
        if (error instanceof Unreachable) {
          // Nothing was sent.
        } else if (error instanceof ConnectionLost) {
          isUnknown = true;
          this.counts.lost.set(at, (this.counts.lost.get(at) ?? 0) + 1);
        } else if (error instanceof ReplyError && error.code === "UNKNOWN") {
          isUnknown = true;
          this.counts.unknown++;
        } else if (error instanceof ReplyError && LATER.has(error.code)) {
          this.counts.later.set(error.code, (this.counts.later.get(error.code) ?? 0) + 1);
        } else if (error instanceof ReplyError && error.code === "WRONGVER" && expected !== null) {
          this.counts.refused++;
          // A try before may be on its way still: of all of them nothing is certain.
          if (!isUnknown) this.history.refuse(operation, performance.now());
          return { operation, version: -1 };
        } else {
          this.problems.push(`${words[0]} was answered with ${error}`);
          return { operation, version: -1 };
        }
        if (performance.now() > this.#deadline) {
          this.problems.push(`no answer: ${ids[0]} of partition ${partition}, last ${error}`);
          return { operation, version: -1 };
        }
      }
      await pass(AGAIN_MS);
      if (!elsewhere) continue;
      at = chance.below(this.#options.addresses.length);
      link = at === node ? home : this.#spare(at);
    }
  }

  readonly #spares = new Map<number, NodeLink>();

  /** To ask again at another node. */
  #spare(node: number): NodeLink {
    let link = this.#spares.get(node);
    if (link === undefined) this.#spares.set(node, link = this.#link(this.#options.addresses[node]!));
    return link;
  }

  // ---- Readers -----------------------------------------------------------------------------------------------------

  async #read(node: number, link: NodeLink): Promise<void> {
    let life = -1;
    let next = new Map<number, number>();
    const partitions = KEYS.map(partitionOfKey);
    for (let i = 0; !this.#stopping; i++) {
      if (life !== this.#lives[node]) {
        life = this.#lives[node]!;
        next = new Map();
      }
      const partition = partitions[i % partitions.length]!;
      const from = next.get(partition) ?? 0;
      try {
        const events = await this.page(link, partition, from);
        if (life !== this.#lives[node]) continue; // From before its end, perhaps.
        this.history.see({ partition, reader: `node ${node}, life ${life}`, from, events, at: performance.now() });
        next.set(partition, from + events.length);
      } catch (error) {
        this.#readFailed(error, `EPSCAN ${partition}`);
        await pass(AGAIN_MS);
      }
      if (i % partitions.length === 0) await pass(AGAIN_MS); // They are not to be all of the load.
    }
  }

  #readFailed(error: unknown, what: string): void {
    if (error instanceof Unreachable || error instanceof ConnectionLost) return;
    if (error instanceof ReplyError && LATER.has(error.code)) return;
    this.problems.push(`${what} was answered with ${error}`);
  }

  /** Whole transactions of a partition, from a sequence on. */
  async page(link: NodeLink, partition: number, from: number): Promise<Known[]> {
    const reply = await link.call(["EPSCAN", partition, from, "+", "COUNT", PAGE]) as unknown as {
      events: EventReply[];
      has_more: boolean;
    };
    const events = reply.events.map((event) => this.#known(event));
    if (reply.has_more) { while (events.length > 0 && events.at(-1)!.part !== events.at(-1)!.parts - 1) events.pop(); }
    return events;
  }

  #known(event: EventReply): Known {
    const [part, parts] = this.#parts.get(event.event_id) ?? [0, 1];
    return {
      id: event.event_id,
      stream: `${event.partition_key} ${text.decode(event.stream_id)}`,
      version: event.stream_version,
      sequence: event.partition_sequence,
      ...{ part, parts, transaction: event.transaction_id, payloadBytes: event.payload.length },
    };
  }

  /** All of a partition, as a node has it. */
  async whole(link: NodeLink, partition: number): Promise<Known[]> {
    const all: Known[] = [];
    for (;;) {
      const events = await this.page(link, partition, all.length);
      if (events.length === 0) return all;
      all.push(...events);
    }
  }

  // ---- The end -----------------------------------------------------------------------------------------------------

  /** No more is begun; what is under way gets an answer, or is a problem. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#deadline = performance.now() + RESOLVE_MS_MAX;
    await Promise.all(this.#work);
  }

  /** Reads all at each node, and says what was broken. Followers have as long as this to see the last. */
  async judge(msMax: number): Promise<string[]> {
    const partitions = [...new Set(KEYS.map(partitionOfKey))];
    const finals: Map<number, Known[]>[] = [];
    for (const address of this.#options.addresses) {
      using link = new NodeLink(address);
      const read = new Map<number, Known[]>();
      for (const partition of partitions) read.set(partition, await this.whole(link, partition));
      finals.push(read);
    }
    const problems = [...this.problems];
    const [first, ...others] = finals;
    for (const [i, other] of others.entries()) {
      for (const [partition, events] of first!) {
        const theirs = other.get(partition)!;
        const length = Math.max(events.length, theirs.length);
        const at = Array.from({ length }, (_, n) => n).find((n) => !isSame(events[n], theirs[n]));
        if (at === undefined) continue;
        problems.push(
          `unequal: partition ${partition} at ${at} is ${JSON.stringify(events[at])} at node 0, ` +
            `and ${JSON.stringify(theirs[at])} at node ${i + 1}`,
        );
      }
    }
    const deadline = performance.now() + msMax;
    for (const follower of this.followers) problems.push(...await follower.judge(first!, deadline));
    return [...problems, ...this.history.judge(first!)];
  }

  [Symbol.dispose](): void {
    this.#stopping = true;
    this.#deadline = 0;
    for (const link of this.#links) link[Symbol.dispose]();
    for (const follower of this.followers) follower[Symbol.dispose]();
  }
}

export interface Known extends SeenEvent {
  readonly transaction: string;
  readonly payloadBytes: number;
}

function isSame(one: Known | undefined, other: Known | undefined): boolean {
  return one !== undefined && other !== undefined && one.id === other.id && one.stream === other.stream &&
    one.version === other.version && one.sequence === other.sequence && one.transaction === other.transaction &&
    one.payloadBytes === other.payloadBytes;
}

function emptyCounts(): Counts {
  return { acknowledged: 0, refused: 0, unknown: 0, lost: new Map(), later: new Map(), slowestMs: 0 };
}

export function countsText({ acknowledged, refused, unknown, lost, later, slowestMs }: Counts): string {
  const again = [...later].map(([code, count]) => `, ${count} ${code}`).join("");
  const unanswered = [...lost.values()].reduce((sum, count) => sum + count, 0);
  return `${acknowledged} acknowledged, ${refused} refused, ${unknown} UNKNOWN, ${unanswered} without an answer${again}, ` +
    `slowest ${slowestMs.toFixed(0)} ms`;
}

/** It follows from the id, so that a retry has the same. */
function payloadOf(id: string, bytes: number): string {
  return id.repeat(Math.ceil(bytes / id.length)).slice(0, bytes);
}

/** Who follows one node: all partitions by sequence, or some streams by version. */
export class Follower implements Disposable {
  /** By partition or stream, in the order of their numbers. */
  readonly seen = new Map<string, string[]>();
  readonly problems: string[] = [];
  resumed = 0;
  readonly #link: NodeLink;
  #isOver = false;
  #id = "";
  #changed = () => {};

  constructor(
    readonly name: string,
    address: Address,
    readonly streams: readonly { key: string; stream: string }[] | null,
  ) {
    this.#link = new NodeLink(address, (items) => this.#take(items));
  }

  start(): void {
    void this.#follow();
  }

  async #follow(): Promise<void> {
    while (!this.#isOver) {
      try {
        this.#id = "";
        for (const command of this.#commands()) await this.#link.call(command);
        this.resumed++;
        await this.#link.over();
      } catch (error) {
        if (this.#isOver) return;
        if (error instanceof ReplyError && !LATER.has(error.code)) this.#tell(`it was answered with ${error}`);
      }
      await pass(AGAIN_MS);
    }
  }

  #commands(): (string | number)[][] {
    const map = [...this.seen].map(([name, ids]) => [name, ids.length] as const);
    if (this.streams === null) {
      const from = map.length === 0 ? [0] : ["MAP", ...map.map(([name, next]) => `${name}=${next}`), "DEFAULT", 0];
      return [["EPSUB", "*", "FROM", ...from]];
    }
    // One for each: a stream of the same name has another key.
    return this.streams.map(({ key, stream }) => [
      ...["ESUB", stream, "PARTITION_KEY", key, "FROM", this.seen.get(`${key} ${stream}`)?.length ?? 0],
    ]);
  }

  #take(items: Plain[]): void {
    const [kind, id, cursor, value] = items;
    if (kind !== "message") {
      const said = cursor instanceof Uint8Array ? text.decode(cursor) : String(cursor);
      // A node that is told to stop says so, and ends the link.
      if (kind !== "subscribe" && !said.startsWith("ACTORSTOPPED ")) this.#tell(`it was pushed ${kind}: ${said}`);
      return;
    }
    const event = value as unknown as EventReply;
    const name = this.streams === null
      ? String(event.partition_id)
      : `${event.partition_key} ${text.decode(event.stream_id)}`;
    const number = this.streams === null ? event.partition_sequence : event.stream_version;
    let ids = this.seen.get(name);
    if (ids === undefined) this.seen.set(name, ids = []);
    if (number !== ids.length) this.#tell(`${name} has ${number} after ${ids.length - 1}`);
    ids[number] = event.event_id;
    if ((cursor as number) % ACK_EVERY === ACK_EVERY - 1) {
      this.#link.call(["EACK", String(id), cursor as number]).catch(() => {}); // A link that is lost is taken up anew.
    }
    this.#changed();
  }

  /** What it did not see as it is, when it has seen all or the time is over. */
  async judge(finals: ReadonlyMap<number, readonly Known[]>, deadline: number): Promise<string[]> {
    const wanted = new Map<string, string[]>();
    for (const [partition, events] of finals) {
      if (this.streams === null) wanted.set(String(partition), events.map(({ id }) => id));
      else {
        for (const { key, stream } of this.streams) {
          const name = `${key} ${stream}`;
          if (partitionOfKey(key) !== partition) continue;
          wanted.set(name, events.filter((event) => event.stream === name).map(({ id }) => id));
        }
      }
    }
    const isBehind = () => [...wanted].some(([name, ids]) => (this.seen.get(name)?.length ?? 0) < ids.length);
    while (isBehind() && performance.now() < deadline) {
      let timer: ReturnType<typeof setTimeout>;
      await Promise.race([
        new Promise<void>((resolve) => this.#changed = resolve),
        new Promise<void>((resolve) => timer = setTimeout(resolve, deadline - performance.now())),
      ]);
      clearTimeout(timer!);
    }
    for (const [name, ids] of wanted) {
      const seen = this.seen.get(name) ?? [];
      const at = ids.findIndex((id, i) => seen[i] !== id);
      if (at >= 0) this.#tell(`of ${name} it has ${seen.length} of ${ids.length}; at ${at} ${seen[at]} for ${ids[at]}`);
      else if (seen.length > ids.length) this.#tell(`of ${name} it has ${seen.length}: there are ${ids.length}`);
    }
    return this.problems.map((problem) => `${this.name}: ${problem}`);
  }

  #tell(problem: string): void {
    if (this.problems.length < 10) this.problems.push(problem);
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    this.#link[Symbol.dispose]();
  }
}
