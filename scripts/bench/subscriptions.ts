/**
 * How fast a reader catches up with history, and how late it hears of what is appended, beside Redis Streams.
 *
 *     catch-up   one client reads all that is stored: by EPSUB, by EREAD; beside it XREAD COUNT
 *     live       from the answer of an append until the event is there, at 1, 100 and 1,000 subscribers, each with a
 *                socket of its own, by EPSUB and by EREAD BLOCK; beside it XREAD BLOCK
 *
 * The reader parses nothing: it looks for a mark at the end of each payload, so that what is measured is the server. It
 * is one process for all its sockets, as busy as the server at 1,000 of them, and the same for both servers.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { type Address, Client, encodeCommand, pipelined } from "../resp_client.ts";
import { respPeer } from "./appends.ts";
import { type Bench, measure, scaled, startOurs, type Turn } from "./bench.ts";
import { Latencies } from "./percentiles.ts";
import { MARK, payloadOf } from "./requests.ts";

const PAYLOAD = payloadOf(100);
const STREAMS = 10_000;
/** All events lie in one partition, as in Redis all lie in one stream. */
const KEY = "c0ffee00-0000-4000-8005-400000000000";
const LIVE_KEY = "c0ffee00-0000-4000-8009-400000000000";
const COUNT = 1000;
const WINDOW = 10_000;
const PIPELINED = 1000;
const READ_BYTES = 256 * 1024;
const HEAD_CHARS = 2048;
/** Where a subscription confirms. */
const SUBSCRIBED = />3\r\n\+subscribe\r\n\+(.{36})\r\n/;

/** Events that are not counted. */
const WARM_UP = 5;

export const SUBSCRIBERS = [1, 100, 1000];

/** A socket that counts the events in what it reads. */
class Reader implements Disposable {
  readonly #socket: Deno.TcpConn;
  readonly #slice = new Uint8Array(READ_BYTES);
  /** The end of the last slice, in which a mark may have begun. */
  #rest = "";
  /** What came first: replies that are to be understood, not counted. */
  #head = "";
  events = 0;

  private constructor(socket: Deno.TcpConn) {
    this.#socket = socket;
  }

  static async open({ hostname, port }: Address): Promise<Reader> {
    const socket = await Deno.connect({ hostname, port });
    socket.setNoDelay(true);
    return new Reader(socket);
  }

  async send(...words: (string | number)[]): Promise<void> {
    const bytes = encodeCommand(words);
    for (let at = 0; at < bytes.length;) at += await this.#socket.write(bytes.subarray(at));
  }

  /** Reads once, and returns how many events ended in it. */
  async read(): Promise<number> {
    const count = await this.#socket.read(this.#slice);
    if (count === null) throw new Error("The server has closed the connection");
    const bytes = Buffer.from(this.#slice.buffer, 0, count);
    let found = 0;
    if (this.#rest !== "" && (this.#rest + bytes.toString("latin1", 0, MARK.length - 1)).includes(MARK)) found++;
    for (let at = bytes.indexOf(MARK); at >= 0; at = bytes.indexOf(MARK, at + MARK.length)) found++;
    this.#rest = (this.#rest + bytes.toString("latin1", Math.max(0, count - MARK.length + 1))).slice(
      -(MARK.length - 1),
    );
    if (this.#head.length < HEAD_CHARS) this.#head += bytes.toString("latin1", 0, HEAD_CHARS);
    this.events += found;
    return found;
  }

  /** Reads until so many events in all have come. */
  async until(events: number): Promise<void> {
    while (this.events < events) await this.read();
  }

  /** Reads until something has come that is understood, and returns it. */
  async untilFirst(pattern: RegExp): Promise<string> {
    for (;;) {
      const found = pattern.exec(this.#head);
      if (found !== null) return found[1]!;
      if (this.#head.length >= HEAD_CHARS) throw new Error(`Expected ${pattern}, found ${this.#head}`);
      await this.read();
    }
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

const CATCH_UP_EVENTS = 500_000;
const LIVE_APPENDS = 1000;

export async function measureReaders(bench: Bench): Promise<void> {
  const peer = bench.peer?.name === "Redis" ? respPeer(bench) : undefined;
  await using ours = await startOurs(bench, "readers-esker");
  await Deno.mkdir(`${bench.folder}/readers-peer`);
  await using theirs = await peer?.start(`${bench.folder}/readers-peer`);
  await measureCatchUp(bench, ours.address, theirs?.address);
  await measureLive(bench, ours.address, theirs?.address);
}

/** Fills both servers with the same events, and reads them all, in turns. */
async function measureCatchUp(bench: Bench, esker: Address, redis: Address | undefined): Promise<void> {
  const events = scaled(bench, CATCH_UP_EVENTS, 5000);
  {
    using client = await Client.connect(esker);
    await pipelined(Array(events).keys(), PIPELINED, async (i) => {
      await client.call("EAPPEND", `caught-${i % STREAMS}`, "Happened", "PAYLOAD", PAYLOAD, "PARTITION_KEY", KEY);
    });
    const last = await client.call("EPSEQ", KEY);
    if (last !== events - 1) throw new Error(`${events} events were acknowledged, the last sequence is ${last}`);
  }
  if (redis !== undefined) {
    using client = await Client.connect(redis);
    await pipelined(Array(events).keys(), PIPELINED, async (i) => {
      await client.call("XADD", "caught", `1-${i + 1}`, "name", "Happened", "payload", PAYLOAD);
    });
  }
  const pull = (address: Address, command: (from: number) => (string | number)[], page = COUNT) => () =>
    byPull(address, events, command, page);
  const ways: [string, () => Promise<void>][] = [
    ["EPSUB", () => bySubscription(esker, events)],
    ["EREAD", pull(esker, (from) => ["EREAD", "COUNT", COUNT, "PARTITIONS", KEY, from])],
    [`EPSCAN, pages of ${COUNT}`, pull(esker, (from) => ["EPSCAN", KEY, from, "+", "COUNT", COUNT])],
    ["EPSCAN, in one command", pull(esker, (from) => ["EPSCAN", KEY, from, "+", "COUNT", events], events)],
  ];
  /** The whole of it is one turn. */
  const turn = (read: () => Promise<void>): Turn => async () => {
    const began = performance.now();
    await read();
    const ms = performance.now() - began;
    return { perSecond: events / ms * 1000, msP50: ms, msP95: ms, msP99: ms, msMax: ms };
  };
  for (const [name, read] of ways) {
    await measure(bench, {
      name: `catch-up by ${name}, one client, 100 bytes`,
      unit: "events/s",
      latency: false,
      ours: turn(read),
      beside: redis && {
        name: "Redis, XREAD",
        turn: turn(pull(redis, (from) => ["XREAD", "COUNT", COUNT, "STREAMS", "caught", `1-${from}`])),
      },
    });
  }
}

async function bySubscription(address: Address, events: number): Promise<void> {
  using reader = await Reader.open(address);
  await reader.send("HELLO", 3);
  await reader.send("EPSUB", KEY, "FROM", 0, "WINDOW", WINDOW);
  const id = await reader.untilFirst(SUBSCRIBED);
  for (let acknowledged = 0; reader.events < events;) {
    await reader.read();
    if (reader.events - acknowledged < WINDOW / 2) continue;
    acknowledged = reader.events;
    await reader.send("EACK", id, acknowledged - 1);
  }
}

/** Asks for page after page, and counts events by their marks. */
export async function byPull(
  address: Address,
  events: number,
  command: (from: number) => (string | number)[],
  page = COUNT,
): Promise<void> {
  using reader = await Reader.open(address);
  while (reader.events < events) {
    await reader.send(...command(reader.events));
    await reader.until(Math.min(events, reader.events + page));
  }
}

/** How readers of one kind wait for the next event. */
interface Way {
  name: string;
  address: Address;
  /** How many events there are already. */
  count(client: Client): Promise<number>;
  append(event: number): (string | number)[];
  /** Before the first event. */
  begin(reader: Reader, event: number): Promise<unknown>;
  /** After each event. */
  goOn(reader: Reader, event: number): Promise<unknown>;
}

function waysOfLive(esker: Address, redis: Address | undefined): Way[] {
  const append = () => ["EAPPEND", "live", "Happened", "PAYLOAD", PAYLOAD, "PARTITION_KEY", LIVE_KEY];
  const eread = (reader: Reader, event: number) => reader.send("EREAD", "BLOCK", 0, "PARTITIONS", LIVE_KEY, event);
  const xread = (reader: Reader, event: number) => reader.send("XREAD", "BLOCK", 0, "STREAMS", "live", `1-${event}`);
  const ours = { address: esker, count: (client: Client) => nextSequence(client, LIVE_KEY), append };
  const ways: Way[] = [
    {
      ...ours,
      name: "EPSUB",
      async begin(reader) {
        await reader.send("HELLO", 3);
        await reader.send("EPSUB", LIVE_KEY, "FROM", "LATEST", "WINDOW", 1_000_000);
        await reader.untilFirst(SUBSCRIBED);
      },
      goOn: () => Promise.resolve(),
    },
    { ...ours, name: "EREAD BLOCK", begin: eread, goOn: eread },
  ];
  if (redis === undefined) return ways;
  return [...ways, {
    name: "Redis, XREAD BLOCK",
    address: redis,
    count: async (client) => await client.call("XLEN", "live") as number,
    append: (event) => ["XADD", "live", `1-${event + 1}`, "name", "Happened", "payload", PAYLOAD],
    begin: xread,
    goOn: xread,
  }];
}

/** Appends events one by one, each when all have heard of the one before, and tells how late they heard. */
async function measureLive(bench: Bench, esker: Address, redis: Address | undefined): Promise<void> {
  const appends = scaled(bench, LIVE_APPENDS, 5);
  for (const subscribers of SUBSCRIBERS) {
    for (const way of waysOfLive(esker, redis)) {
      // Fewer events for many readers: what counts is how often one was heard.
      const late = await listen(way, subscribers, Math.max(5, Math.round(appends / Math.cbrt(subscribers))));
      const latencies = new Latencies();
      for (const ms of late) latencies.add(ms);
      const ms = latencies.percentiles();
      const name = `live by ${way.name}, ${subscribers} subscribers`;
      bench.add({ name, value: ms.msP50, unit: "ms, median", ms });
    }
  }
}

/** By how many milliseconds each reader heard of each event after its append was answered; 0 if before. */
async function listen(way: Way, subscribers: number, appends: number): Promise<number[]> {
  using appender = await Client.connect(way.address);
  const readers: Reader[] = [];
  try {
    const first = await way.count(appender);
    for (let i = 0; i < subscribers; i++) readers.push(await Reader.open(way.address));
    for (const reader of readers) await way.begin(reader, first);
    const late: number[] = [];
    for (let i = 0; i < WARM_UP + appends; i++) {
      // All are to wait already. Nobody misses an event who does not, but it would be found and not waited for.
      for (let turns = 0; turns < 3; turns++) await appender.call("PING");
      const arrivals = readers.map(async (reader) => {
        await reader.until(i + 1);
        return performance.now();
      });
      await appender.call(...way.append(first + i));
      const answered = performance.now();
      const arrived = await Promise.all(arrivals);
      if (i >= WARM_UP) late.push(...arrived.map((at) => Math.max(0, at - answered)));
      for (const reader of readers) await way.goOn(reader, first + i + 1);
    }
    return late;
  } finally {
    for (const reader of readers) reader[Symbol.dispose]();
  }
}

async function nextSequence(client: Client, key: string): Promise<number> {
  const last = await client.call("EPSEQ", key) as number | null;
  return last === null ? 0 : last + 1;
}
