/**
 * Subscribers under kill -9: whoever follows the server misses nothing, whatever happens to it and to them.
 *
 * Writers append to streams that all share, alone and in transactions. Followers of every kind read along: EPSUB of all,
 * of lists, keys and ranges; ESUB of one and of several streams; EREAD on RESP2. They stall and do not read, stop
 * acknowledging, disconnect, come late, and resume from the last number they kept. Several times the server is killed
 * in the middle of that and started again on the same folder. Then everything is read by EPSCAN, and
 *
 *     what a writer had an answer for, or any follower has seen, is there: byte for byte, where it was
 *     each follower has seen every event of its selection from its start, by number exactly once, in order
 *     events of a transaction came one after another; cursors count; no more came than the window leaves room for
 *
 *     deno run -A scripts/follow.ts [--server "COMMAND"] [--rounds N] [--writers N] [--acks N] [--seed N]
 *
 * The ledger that each follower keeps is that of core/simulator/ledger.ts.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../core/chance.ts";
import type { EventRecord } from "../core/event.ts";
import { partitionHash, partitionOf } from "../core/placement.ts";
import type { Start } from "../core/store.ts";
import { equalEvents } from "../core/story.ts";
import { type Heads, Ledger, partitionSource, type Position, streamSource } from "../core/simulator/ledger.ts";
import { parseUuid } from "../core/uuid.ts";
import { type Address, Client, ConnectionLost, NotRespError, type Plain, ReplyError } from "./resp_client.ts";
import { serverCommand, ServerProcess } from "./server_process.ts";
import { Tally } from "./tally.ts";

const PARTITIONS = 32;
const PAGE = 1000;
const EVENTS_IN_TRANSACTION_MAX = 6;
/** How long the followers may take to the end when nobody appends any more. */
const CATCH_UP_MS_MAX = 60_000;
/** So small that a run of seconds rolls segments and changes journal files while it is killed. */
const FLAGS = ["--segment-size-bytes", String(256 * 1024), "--journal-size-bytes", String(256 * 1024)];
/** The first two share a partition. */
const KEYS = [
  "550e8400-e29b-41d4-a716-446655440000",
  "550e8401-e29b-41d4-a716-446655440000",
  "11111111-1111-4111-8111-111111111111",
  "c0ffee00-0000-4000-8003-c00000000000",
];
const STREAMS = ["a", "b", "c"];

const text = new TextDecoder();

/** What all writers and followers together know. */
class Knowledge {
  /** Where the server is, which has another address after each start. */
  server: Address | null = null;
  acks = 0;
  /** Events that were acknowledged: by payload, where. */
  readonly acknowledged = new Map<string, { partition: number; sequence: number }>();
  /** Events that any follower saw, by where they are. */
  readonly seen = new Map<string, EventRecord>();
  /** Nobody appends any more: who rests wakes up. */
  quiet = false;
  /** The followers may go home. */
  ended = false;
  /** What a check of a follower said. */
  failure: Error | null = null;
  readonly #watchers = new Set<() => void>();

  /** Resolves when `reached` holds: looked at now, and after each change. */
  async until(reached: () => boolean): Promise<void> {
    while (!reached()) {
      await new Promise<void>((resolve) => {
        const watcher = () => {
          this.#watchers.delete(watcher);
          resolve();
        };
        this.#watchers.add(watcher);
      });
    }
  }

  changed(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }

  tell(news: Partial<Pick<Knowledge, "server" | "quiet" | "ended" | "failure">>): void {
    Object.assign(this, news);
    this.changed();
  }

  sawEvent(event: EventRecord): void {
    const place = `${event.partition}/${event.sequence}`;
    const known = this.seen.get(place);
    if (known === undefined) this.seen.set(place, event);
    else equalEvents([event], [known], `what others saw at ${place}`);
  }
}

/** Writers that append until the connection is lost, or until there were so many acknowledgements. */
async function write(address: Address, names: string[], chance: Chance, knowledge: Knowledge, acks = Infinity) {
  const writers = names.map(async (name) => {
    using client = await Client.connect(address);
    await append(client, name, new Chance(chance.below(2 ** 31)), knowledge, acks);
  });
  await Promise.all(writers);
}

async function append(client: Client, name: string, chance: Chance, knowledge: Knowledge, acks: number) {
  for (let n = 0; knowledge.acks < acks; n++) {
    const count = chance.oneIn(2) ? 1 : chance.between(2, EVENTS_IN_TRANSACTION_MAX);
    const key = chance.pick(KEYS);
    const payloads = Array.from({ length: count }, (_, i) => `${name}.${n}.${i} ${"x".repeat(chance.below(400))}`);
    try {
      let partition: number, firstSequence: number;
      if (count === 1) {
        const ownKey = chance.oneIn(2) ? [] : ["PARTITION_KEY", key];
        const words = ["EAPPEND", chance.pick(STREAMS), "Happened", ...ownKey, "PAYLOAD", payloads[0]!];
        const answer = await client.call(...words) as { partition_id: number; partition_sequence: number };
        [partition, firstSequence] = [answer.partition_id, answer.partition_sequence];
      } else {
        const words = payloads.flatMap((payload) => [chance.pick(STREAMS), "Happened", "PAYLOAD", payload]);
        const answer = await client.call("EMAPPEND", key, ...words) as {
          partition_id: number;
          first_partition_sequence: number;
        };
        [partition, firstSequence] = [answer.partition_id, answer.first_partition_sequence];
      }
      payloads.forEach((payload, i) => knowledge.acknowledged.set(payload, { partition, sequence: firstSequence + i }));
    } catch (cause) {
      if (cause instanceof ConnectionLost) return;
      throw cause instanceof ReplyError ? new Error(`An append was refused: ${cause.message}`) : cause;
    }
    knowledge.acks++;
    knowledge.changed();
  }
}

/** Somebody who follows the server until the end, and keeps a ledger. */
abstract class Follower {
  client: Client | null = null;
  resumed = -1;
  #kept: Position;

  constructor(
    readonly name: string,
    readonly ledger: Ledger,
    readonly chance: Chance,
    readonly knowledge: Knowledge,
  ) {
    this.#kept = ledger.position();
  }

  /** Follows with this client until its connection ends, and throws that. */
  protected abstract follow(client: Client): Promise<never>;

  protected abstract connect(address: Address): Promise<Client>;

  async run(): Promise<void> {
    const { knowledge } = this;
    try {
      for (;;) {
        let address: Address | null = null;
        await knowledge.until(() => knowledge.ended || (address = knowledge.server) !== null);
        if (knowledge.ended) return;
        this.resumed++;
        try {
          this.client = await this.connect(address!);
          if (!knowledge.ended) await this.follow(this.client);
        } catch (cause) {
          if (!isLoss(cause)) throw cause;
          // A server that was killed is gone before anybody has said so.
          if (cause instanceof Deno.errors.ConnectionRefused) {
            await knowledge.until(() => knowledge.ended || knowledge.server !== address);
          }
        } finally {
          this.client?.[Symbol.dispose]();
        }
        // What was not kept is seen again.
        if (this.chance.oneIn(2)) this.ledger.goBack(this.#kept);
        this.#kept = this.ledger.position();
      }
    } catch (cause) {
      this.fail(cause);
    }
  }

  /** Whatever a check says ends the run. */
  fail(cause: unknown): void {
    const failure = new Error(`${this.name}: ${cause instanceof Error ? cause.message : cause}`, { cause });
    this.knowledge.tell({ failure: this.knowledge.failure ?? failure });
    this.client?.[Symbol.dispose]();
  }

  protected saw(reply: Plain): void {
    const event = record(reply);
    this.ledger.saw(event);
    this.knowledge.sawEvent(event);
    this.knowledge.changed();
    if (this.chance.oneIn(50)) this.#kept = this.ledger.position();
    if (!this.knowledge.quiet && this.chance.oneIn(3000)) this.client?.[Symbol.dispose]();
  }

  /** Rests until the writers have gone on for a while. */
  protected async rest(): Promise<void> {
    const { knowledge, knowledge: { server } } = this;
    const acks = knowledge.acks + this.chance.between(50, 500);
    await knowledge.until(() => knowledge.quiet || knowledge.acks >= acks || knowledge.server !== server);
  }
}

/** Follows by EPSUB or ESUB, on RESP3. */
class PushFollower extends Follower {
  /** Acknowledges each so many events, if ever. */
  readonly #ackEvery = this.chance.pick([1, 10, 100]);
  readonly #window = this.chance.pick([null, this.#ackEvery, 5 * this.#ackEvery, 1_000_000]);
  readonly #acks = this.#window !== 1_000_000;
  #id: Plain = null;
  #cursor = 0;
  #acked = -1;
  #restsFromAcks = false;

  protected override connect(address: Address): Promise<Client> {
    this.#id = null;
    this.#cursor = 0;
    this.#acked = -1;
    this.#restsFromAcks = false;
    return Client.connect(address, {
      onPush: async (items) => {
        try {
          await this.#take(items);
        } catch (cause) {
          this.fail(cause);
        }
      },
    });
  }

  protected override async follow(client: Client): Promise<never> {
    const store = storeBehind(client);
    this.ledger.begins(await this.ledger.heads(store));
    const id = await client.call(...this.#command());
    this.ledger.hasBegun(await this.ledger.heads(store));
    assert.equal(this.#id, id, "the push that confirms comes with the reply");
    throw await client.over;
  }

  #command(): (string | number)[] {
    const selection = this.ledger.selection();
    const window = this.#window === null ? [] : ["WINDOW", this.#window];
    if ("streams" in selection) {
      const words = selection.streams.flatMap((
        { streamId, partitionKey },
      ) => [streamId, "PARTITION_KEY", partitionKey!]);
      const starts = selection.streams.flatMap(({ streamId, from }) =>
        from === "latest" ? [] : [`${streamId}=${from}`]
      );
      return ["ESUB", ...words, "FROM", ...(starts.length === 0 ? ["LATEST"] : ["MAP", ...starts]), ...window];
    }
    const { partitions, from = "latest", starts = new Map() } = selection;
    const named = partitions === "all" ? "*" : this.#named(partitions);
    const map = [...starts].map(([partition, start]) => `${partition}=${start}`);
    const begin = map.length > 0 ? ["MAP", ...map] : [from === "latest" ? "LATEST" : from];
    return ["EPSUB", named, "FROM", ...begin, ...window];
  }

  /** Partitions in all the forms in which they can be named: numbers, ranges, keys. */
  #named(partitions: readonly number[]): string {
    const items: string[] = [];
    for (let i = 0; i < partitions.length;) {
      let end = i + 1;
      while (partitions[end] === partitions[end - 1]! + 1) end++;
      const key = KEYS.find((key) => partitionOfKey(key) === partitions[i]);
      items.push(end > i + 1 ? `${partitions[i]}-${partitions[end - 1]}` : key ?? `${partitions[i]}`);
      i = end;
    }
    return items.join(this.chance.pick([",", ", "]));
  }

  async #take(items: Plain[]): Promise<void> {
    const [kind, id, number] = items;
    if (this.#id === null) {
      assert.deepEqual([kind, number], ["subscribe", 1], "the first push confirms the subscription");
      this.#id = id!;
      return;
    }
    assert.equal(kind, "message", `pushed was ${Deno.inspect(items)}`);
    assert.equal(id, this.#id);
    assert.equal(number, this.#cursor, "cursors count from 0");
    const window = this.#window ?? 1000;
    assert.ok(this.#cursor <= this.#acked + window, `cursor ${this.#cursor} came, ${this.#acked} was acknowledged`);
    this.#cursor++;
    this.saw(items[3]!);
    if (this.#acks && !this.#restsFromAcks && this.#cursor % this.#ackEvery === 0) this.#acknowledge();
    if (this.knowledge.quiet) return;
    if (this.chance.oneIn(100)) this.#readBeside();
    const whim = this.chance.below(400);
    if (whim === 0) await this.rest(); // It does not read, and the server cannot write.
    else if (whim === 1 && this.#acks && !this.#restsFromAcks) void this.#restFromAcks();
  }

  #acknowledge(): void {
    this.#acked = this.#cursor - 1;
    this.client!.call("EACK", String(this.#id), this.#acked).catch((cause: unknown) => {
      if (!isLoss(cause)) this.fail(cause);
    });
  }

  /** Other commands are served on the same link: pushes come before their replies and after, never within. */
  #readBeside(): void {
    const { partition } = this.ledger.events.at(-1)!;
    this.client!.call("EPSCAN", partition, "-", "+", "COUNT", 300).then((reply) => {
      const events = (mapOf(reply).events as Plain[]).map(record);
      assert.deepEqual(events.map(({ sequence }) => sequence), [...events.keys()]);
      for (const event of events) this.knowledge.sawEvent(event);
    }).catch((cause: unknown) => {
      if (!isLoss(cause)) this.fail(cause);
    });
  }

  async #restFromAcks(): Promise<void> {
    const id = this.#id;
    this.#restsFromAcks = true;
    await this.rest();
    if (id !== this.#id) return; // That subscription is over.
    this.#restsFromAcks = false;
    this.#acknowledge();
  }
}

/** Follows by EREAD, on RESP2. */
class PullFollower extends Follower {
  protected override connect(address: Address): Promise<Client> {
    return Client.connect(address, { protocol: 2 });
  }

  protected override async follow(client: Client): Promise<never> {
    for (;;) {
      const block = this.chance.pick([["BLOCK", 0], ["BLOCK", 50], []]);
      const reply = await client.call("EREAD", "COUNT", this.chance.pick([1, 10, 300]), ...block, ...this.#places());
      this.ledger.begins(new Map()); // Nothing binds one reading to the next.
      if (reply === null) continue;
      for (const event of mapOf(reply).events as Plain[]) this.saw(event);
      if (!this.knowledge.quiet && this.chance.oneIn(20)) await this.rest();
    }
  }

  #places(): (string | number)[] {
    const selection = this.ledger.selection();
    if ("streams" in selection) {
      const words = selection.streams.map((one) => [one.streamId, "PARTITION_KEY", one.partitionKey!, one.from!]);
      return ["STREAMS", ...words.flat()];
    }
    const { partitions, from, starts } = selection;
    assert.ok(partitions !== "all");
    return ["PARTITIONS", ...partitions.flatMap((partition) => [partition, starts?.get(partition) ?? from!])];
  }
}

/** A follower of each kind. */
function newFollowers(chance: Chance, knowledge: Knowledge): Follower[] {
  const all = (start: () => Start) =>
    Array.from({ length: PARTITIONS }, (_, partition) => partitionSource(partition, start(), true));
  const list = (partitions: number[], start: () => Start) =>
    partitions.map((partition) => partitionSource(partition, start()));
  const streams = (key: string, start: () => Start) => STREAMS.map((stream) => streamSource(stream, key, start()));
  const used = [...new Set(KEYS.map(partitionOfKey))].toSorted((a, b) => a - b);
  const zero = () => 0, latest = () => "latest" as const, some = () => chance.below(500);
  const any = () => chance.pick<Start>([0, "latest", chance.below(500)]);
  const pushed = {
    "EPSUB * FROM 0": all(zero),
    "EPSUB * FROM LATEST": all(latest),
    "EPSUB * FROM MAP": all(any),
    "EPSUB * FROM 0, another": all(zero),
    "EPSUB of keys": list(used, zero),
    "EPSUB of ranges": list([...Array(20).keys(), 25, 40, 41, 42], any),
    "EPSUB of one": list([used[0]!], zero),
    "ESUB of one": [streamSource("a", KEYS[0], 0)],
    "ESUB of several": streams(KEYS[1]!, zero),
    "ESUB of several FROM MAP": streams(KEYS[2]!, any),
    "ESUB of several partitions": STREAMS.map((stream) => streamSource(stream, undefined, latest())),
  };
  const pulled = {
    "EREAD PARTITIONS": list(Array.from({ length: PARTITIONS }, (_, partition) => partition), zero),
    "EREAD PARTITIONS, some": list(used, some),
    "EREAD STREAMS": KEYS.flatMap((key) => streams(key, some)),
  };
  const own = () => new Chance(chance.below(2 ** 31));
  return [
    ...Object.entries(pushed).map(([name, sources]) => new PushFollower(name, new Ledger(sources), own(), knowledge)),
    ...Object.entries(pulled).map(([name, sources]) => new PullFollower(name, new Ledger(sources), own(), knowledge)),
  ];
}

/** Reads everything, and compares it with what is known. */
async function verify(client: Client, knowledge: Knowledge): Promise<EventRecord[]> {
  const events: EventRecord[] = [];
  const byPlace = new Map<string, EventRecord>();
  for (let partition = 0; partition < PARTITIONS; partition++) {
    let next = 0;
    for (let more = true; more;) {
      const page = await client.call("EPSCAN", partition, next, "+", "COUNT", PAGE) as {
        has_more: boolean;
        events: Plain[];
      };
      for (const event of page.events.map(record)) {
        assert.equal(event.sequence, next, `partition ${partition} has a gap at ${next}`);
        next++;
        events.push(event);
        byPlace.set(`${partition}/${event.sequence}`, event);
      }
      more = page.has_more;
    }
  }
  for (const [place, event] of knowledge.seen) {
    const found = byPlace.get(place);
    equalEvents(found === undefined ? [] : [found], [event], `what a follower saw at ${place}`);
  }
  for (const [payload, { partition, sequence }] of knowledge.acknowledged) {
    const found = byPlace.get(`${partition}/${sequence}`);
    const name = payload.slice(0, 40);
    assert.ok(found !== undefined, `${name} was acknowledged, and is not there`);
    assert.equal(text.decode(found.payload), payload, `${name} is not where the answer said`);
  }
  return events;
}

/** What a ledger asks a store, asked through a socket. */
function storeBehind(client: Client): Heads {
  return {
    partitionCount: PARTITIONS,
    partitionSequence: async (partition) => await client.call("EPSEQ", partition) as number | null,
    streamVersion: async (streamId, options) =>
      await client.call("ESVER", streamId, "PARTITION_KEY", options!.partitionKey!) as number | null,
  };
}

/** The server was killed, or the follower left: not what a check says. */
function isLoss(cause: unknown): boolean {
  // The server may be killed in the middle of a reply. Anything else that is not RESP, it has sent.
  if (cause instanceof ConnectionLost) {
    return !(cause.cause instanceof NotRespError) || /closed in the middle/.test(cause.cause.message);
  }
  return cause instanceof Deno.errors.ConnectionRefused || cause instanceof Deno.errors.ConnectionReset ||
    cause instanceof Deno.errors.BrokenPipe;
}

function record(reply: Plain): EventRecord {
  const event = mapOf(reply);
  return {
    eventId: textOf(event.event_id),
    partitionKey: textOf(event.partition_key),
    partition: event.partition_id as number,
    transactionId: textOf(event.transaction_id),
    sequence: event.partition_sequence as number,
    streamId: textOf(event.stream_id),
    version: event.stream_version as number,
    name: textOf(event.event_name),
    timestamp: event.timestamp as number,
    metadata: event.metadata as Uint8Array,
    payload: event.payload as Uint8Array,
  };
}

/** A map as RESP3 has it, or as RESP2 has it, flat. */
function mapOf(reply: Plain): { [key: string]: Plain } {
  if (!Array.isArray(reply)) return reply as { [key: string]: Plain };
  const map: { [key: string]: Plain } = {};
  for (let i = 0; i < reply.length; i += 2) map[textOf(reply[i])] = reply[i + 1]!;
  return map;
}

function textOf(value: Plain | undefined): string {
  return typeof value === "string" ? value : text.decode(value as Uint8Array);
}

function partitionOfKey(key: string): number {
  return partitionOf(partitionHash(parseUuid(key)!), PARTITIONS);
}

/** Waits until all followers have seen all that is stored, and holds them to it. */
async function holdAll(followers: Follower[], stored: EventRecord[], client: Client, knowledge: Knowledge) {
  const store = storeBehind(client);
  const lags = await Promise.all(followers.map(async ({ name, ledger }) => {
    const heads = await ledger.heads(store);
    return { name, lag: () => ledger.lacks(heads) };
  }));
  const late = setTimeout(() => {
    const behind = lags.filter(({ lag }) => lag() > 0).map(({ name, lag }) => `${name} lacks ${lag()} events`);
    const failure = new Error(`After ${CATCH_UP_MS_MAX / 1000} s: ${behind.join(", ")}`);
    knowledge.tell({ failure: knowledge.failure ?? failure });
  }, CATCH_UP_MS_MAX);
  await knowledge.until(() => knowledge.failure !== null || lags.every(({ lag }) => lag() === 0));
  clearTimeout(late);
  if (knowledge.failure !== null) throw knowledge.failure;
  for (const { name, ledger } of followers) {
    try {
      ledger.holdAll(stored);
    } catch (cause) {
      throw new Error(`${name}: ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
  }
}

if (import.meta.main) {
  const { parseArgs } = await import("node:util");
  const { values } = parseArgs({
    options: {
      server: { type: "string" },
      rounds: { type: "string", default: "4" },
      writers: { type: "string", default: "12" },
      acks: { type: "string", default: "1500" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
    },
  });
  const command = serverCommand(values.server);
  const tally = new Tally();
  const chance = new Chance(Number(values.seed));
  const knowledge = new Knowledge();
  const folder = await Deno.makeTempDir({ prefix: "esker-follow-" });
  const writers = (round: string) => Array.from({ length: Number(values.writers) }, (_, i) => `${round}-${i}`);
  const newcomers = newFollowers(chance, knowledge);
  const followers: Follower[] = [];
  const runs: Promise<void>[] = [];
  const come = (count: number) => {
    for (const follower of newcomers.splice(0, count)) {
      followers.push(follower);
      runs.push(follower.run());
    }
  };
  console.log(`seed ${values.seed}`);
  try {
    let isSound = true; // If not, what follows would only say the same again.
    for (let round = 1; round <= Number(values.rounds) && isSound; round++) {
      isSound = await tally.check(`kill -9 number ${round}`, async () => {
        const before = knowledge.acks;
        const wanted = before + chance.between(100, Number(values.acks));
        await using server = await ServerProcess.start({ command, folder, flags: FLAGS });
        using client = await Client.connect(server.address);
        await verify(client, knowledge);
        come(round === 1 ? Math.ceil(newcomers.length / 2) : 2);
        knowledge.tell({ server: server.address });
        const writing = write(server.address, writers(`${round}`), chance, knowledge);
        await Promise.race([
          writing,
          knowledge.until(() => knowledge.acks >= wanted || knowledge.failure !== null),
        ]);
        knowledge.tell({ server: null });
        await server.kill();
        await writing;
        if (knowledge.failure !== null) throw knowledge.failure;
        assert.ok(knowledge.acks >= wanted, `The server ended by itself:\n${server.output}`);
        return `${knowledge.acks - before} acknowledgements, ${knowledge.seen.size} events seen so far`;
      });
    }
    if (isSound) {
      await tally.check("in the end everybody has seen everything", async () => {
        await using server = await ServerProcess.start({ command, folder, flags: FLAGS });
        come(newcomers.length);
        knowledge.tell({ server: server.address });
        await write(server.address, writers("end"), chance, knowledge, knowledge.acks + 500);
        knowledge.tell({ quiet: true });
        using client = await Client.connect(server.address);
        const stored = await verify(client, knowledge);
        await holdAll(followers, stored, client, knowledge);
        const given = followers.reduce((sum, { ledger }) => sum + ledger.events.length, 0);
        const resumed = followers.reduce((sum, { resumed }) => sum + resumed, 0);
        return `${stored.length} events, ${given} given to ${followers.length} followers, who resumed ${resumed} times`;
      });
    }
  } finally {
    knowledge.tell({ ended: true, quiet: true });
    for (const { client } of followers) client?.[Symbol.dispose]();
    await Promise.all(runs);
    await Deno.remove(folder, { recursive: true });
  }
  Deno.exit(tally.end());
}
