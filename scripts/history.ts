/**
 * A real history through the wire: 5,353 commits of a repository, 35,965 events in 5,692 streams (testdata/README.md).
 * A commit is one EMAPPEND, a file is a stream, and all commits of one load have one partition key.
 *
 *     once     loads it, reads every file's history back, and rebuilds the tree after the last commit from EPSCAN
 *     many     32 times over, under 32 keys, with segments of 1 MiB: some 300 rolls; again after a clean restart
 *     killed   kill -9 in mid-load, several times; each time on again with the same event ids, some of them for the
 *              second time: what is stored is, field by field, what a load without interruption stores
 *
 *     deno run -A scripts/history.ts [--server "COMMAND"] [--mode once|many|killed]… [--kills N] [--seed N]
 *
 * What is expected is computed here from the data alone, not from what the server says.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Chance } from "../core/chance.ts";
import { partitionHash } from "../core/placement.ts";
import { formatUuid, parseUuid } from "../core/uuid.ts";
import { Client, concat, ConnectionLost, encodeCommand, pipelined, ReplyError } from "./resp_client.ts";
import { serverCommand, ServerProcess } from "./server_process.ts";
import { Tally } from "./tally.ts";

interface Commit {
  time: number;
  commit: string;
  events: { stream: string; name: string; payload: { commit: string; before: string | null; after: string | null } }[];
}

/** An event as the store must give it back. */
interface Expected {
  stream: string;
  name: string;
  payload: Uint8Array;
  version: number;
  time: number;
  /** Which commit it belongs to. */
  commit: number;
}

interface StoredEvent {
  event_id: string;
  partition_key: string;
  partition_id: number;
  transaction_id: string;
  partition_sequence: number;
  stream_version: number;
  timestamp: number;
  stream_id: Uint8Array;
  event_name: Uint8Array;
  metadata: Uint8Array;
  payload: Uint8Array;
}

interface Scan {
  has_more: boolean;
  events: StoredEvent[];
}

interface Appended {
  first_partition_sequence: number;
  last_partition_sequence: number;
  events: { event_id: string; stream_version: number; timestamp: number }[];
}

const KEY = "c0ffee00-0000-4000-8005-400000000000";
const KEYS_MANY = 32;
const SEGMENT_BYTES_SMALL = 1024 * 1024;
/** Bytes of frames in 32 loads, by far the lower bound of what a load takes: payloads alone. */
const ROLLS_MIN = 150;
/** Partitions of `many` that are read and compared from end to end; of all others a sample. */
const WHOLE_PARTITIONS = 8;
const IN_FLIGHT = 64;
const PAGE = 1000;

const utf8 = new TextEncoder();
const text = new TextDecoder();

/** The history, and what a store must make of it. */
class History {
  readonly expected: Expected[] = [];
  readonly streams = new Map<string, Expected[]>();
  /** The sequence of the first event of each commit. */
  readonly firsts: number[] = [];
  /** A commit's EMAPPEND from behind the partition key, without event ids. */
  readonly #tails: Uint8Array[] = [];
  readonly #words: number[] = [];

  constructor(readonly commits: readonly Commit[]) {
    for (const [at, commit] of commits.entries()) {
      this.firsts.push(this.expected.length);
      const words: (string | number | Uint8Array)[] = [];
      for (const { stream, name, payload } of commit.events) {
        const before = this.streams.get(stream) ?? [];
        this.streams.set(stream, before);
        const event: Expected = {
          stream,
          name,
          payload: utf8.encode(JSON.stringify(payload)),
          version: before.length,
          time: commit.time,
          commit: at,
        };
        before.push(event);
        this.expected.push(event);
        words.push(...wordsOf(event));
      }
      this.#words.push(words.length);
      this.#tails.push(withoutHeader(encodeCommand(words)));
    }
  }

  static async load(): Promise<History> {
    using file = await Deno.open(new URL("../testdata/history.ndjson.gz", import.meta.url));
    const bytes = await new Response(file.readable.pipeThrough(new DecompressionStream("gzip"))).text();
    return new History(bytes.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line)));
  }

  /** The EMAPPEND of a commit; the server makes the event ids. */
  command(commit: number, key: string): Uint8Array {
    return concat([
      utf8.encode(`*${2 + this.#words[commit]!}\r\n$8\r\nEMAPPEND\r\n$36\r\n${key}\r\n`),
      this.#tails[commit]!,
    ]);
  }

  /** The same with an event id for every event, always the same ones. */
  commandWithIds(commit: number, key: string): Uint8Array {
    const words: (string | number | Uint8Array)[] = ["EMAPPEND", key];
    const first = this.firsts[commit]!, end = this.firsts[commit + 1] ?? this.expected.length;
    for (let i = first; i < end; i++) {
      words.push(...wordsOf(this.expected[i]!), "EVENT_ID", eventIdOf(key, i));
    }
    return encodeCommand(words);
  }

  /** The tree after the last commit, straight from the data: path → blob. */
  tree(): Map<string, string> {
    const tree = new Map<string, string>();
    for (const { events } of this.commits) {
      for (const { stream, name, payload } of events) grow(tree, stream, name, payload.after);
    }
    return tree;
  }
}

function wordsOf(event: Expected): (string | number | Uint8Array)[] {
  return [
    event.stream,
    event.name,
    "EXPECTED_VERSION",
    event.version === 0 ? "empty" : event.version - 1,
    "TIMESTAMP",
    event.time,
    "PAYLOAD",
    event.payload,
  ];
}

function withoutHeader(command: Uint8Array): Uint8Array {
  return command.subarray(command.indexOf(10) + 1);
}

/** An event id that is always the same for an event: a hash, in the manner of UUIDv5, with the key's hash in its place. */
function eventIdOf(key: string, sequence: number): string {
  const id = new Uint8Array(createHash("sha1").update(`${key} ${sequence}`).digest().subarray(0, 16));
  const keyBytes = parseUuid(key)!;
  id[7] = id[7]! & 0xf0 | 0x07;
  id[8] = keyBytes[8]! & 0x3f | 0x80;
  id[9] = keyBytes[9]!;
  id[10] = keyBytes[10]! & 0xc0 | id[10]! & 0x3f;
  return formatUuid(id);
}

function grow(tree: Map<string, string>, path: string, name: string, blob: string | null): void {
  if (name === "FileDeleted") assert(tree.delete(path), `${path} is deleted and was not there`);
  else tree.set(path, blob!);
}

/** A partition key whose partition is `partition`, of 32. */
function keyOfPartition(partition: number): string {
  const bytes = parseUuid("c0ffee00-0000-4000-8000-000000000000")!;
  bytes[9] = partition >>> 2;
  bytes[10] = (partition & 3) << 6;
  assert.equal(partitionHash(bytes) % 32, partition);
  return formatUuid(bytes);
}

async function call<T>(client: Client, ...words: (string | number)[]): Promise<T> {
  return await client.call(...words) as unknown as T;
}

/** Loads commits `[from, end)` in their order; `acknowledge` gets each answer. */
async function load(
  client: Client,
  history: History,
  key: string,
  commits: Iterable<number>,
  options: { ids?: boolean; acknowledge?: (commit: number, answer: Appended) => void } = {},
): Promise<void> {
  await pipelined(commits, IN_FLIGHT, async (commit) => {
    const command = options.ids ? history.commandWithIds(commit, key) : history.command(commit, key);
    const answer = await client.callEncoded(command) as unknown as Appended;
    const first = history.firsts[commit]!, count = history.commits[commit]!.events.length;
    assert.equal(answer.first_partition_sequence, first, `first sequence of commit ${commit}`);
    assert.equal(answer.last_partition_sequence, first + count - 1, `last sequence of commit ${commit}`);
    assert.equal(answer.events.length, count);
    for (let i = 0; i < count; i++) {
      const { version, time } = history.expected[first + i]!;
      assert.equal(answer.events[i]!.stream_version, version);
      assert.equal(answer.events[i]!.timestamp, time);
    }
    options.acknowledge?.(commit, answer);
  });
}

function* range(from: number, end: number): Generator<number> {
  for (let i = from; i < end; i++) yield i;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function assertEvent(found: StoredEvent, wanted: Expected, key: string, where: string): void {
  if (
    found.stream_version === wanted.version && found.timestamp === wanted.time && found.partition_key === key &&
    found.metadata.length === 0 && sameBytes(found.payload, wanted.payload) &&
    text.decode(found.event_name) === wanted.name && text.decode(found.stream_id) === wanted.stream
  ) return;
  assert.deepEqual(
    {
      ...found,
      stream_id: text.decode(found.stream_id),
      event_name: text.decode(found.event_name),
      payload: text.decode(found.payload),
    },
    {
      ...found,
      partition_key: key,
      stream_version: wanted.version,
      timestamp: wanted.time,
      metadata: new Uint8Array(0),
      stream_id: wanted.stream,
      event_name: wanted.name,
      payload: text.decode(wanted.payload),
    },
    where,
  );
}

/** All events of a partition, page by page; each is compared with what was loaded under `key`. */
async function readPartition(
  client: Client,
  history: History,
  key: string,
  each: (event: StoredEvent) => void = () => {},
): Promise<void> {
  let next = 0;
  let transaction = "", commit = -1;
  const transactions = new Set<string>();
  for (let more = true; more;) {
    const page: Scan = await call(client, "EPSCAN", key, next, "+", "COUNT", PAGE);
    for (const event of page.events) {
      const wanted = history.expected[next];
      assert(wanted, `an event that nobody appended: ${JSON.stringify(event)}`);
      assert.equal(event.partition_sequence, next, "sequences are dense");
      assertEvent(event, wanted, key, `sequence ${next} under ${key}`);
      // A commit is a transaction: its events have one transaction id, and no other commit has it.
      if (wanted.commit === commit) assert.equal(event.transaction_id, transaction);
      else {
        assert(!transactions.has(event.transaction_id), `transaction id ${event.transaction_id} twice`);
        transactions.add(transaction = event.transaction_id);
        commit = wanted.commit;
      }
      each(event);
      next++;
    }
    more = page.has_more;
    assert(page.events.length > 0 || !more, "an empty page that says that there is more");
  }
  assert.equal(next, history.expected.length, `events under ${key}`);
}

/** The histories of some files, each compared with what was loaded. */
async function readStreams(client: Client, history: History, key: string, streams: Iterable<string>): Promise<number> {
  let count = 0;
  await pipelined(streams, IN_FLIGHT, async (stream) => {
    const wanted = history.streams.get(stream)!;
    const answer: Scan = await call(
      client,
      "ESCAN",
      stream,
      "-",
      "+",
      "PARTITION_KEY",
      key,
      "COUNT",
      wanted.length,
    );
    assert.equal(answer.has_more, false, stream);
    assert.equal(answer.events.length, wanted.length, `events of ${stream}`);
    answer.events.forEach((event, i) => assertEvent(event, wanted[i]!, key, `${stream} ${i}`));
    count += wanted.length;
  });
  return count;
}

async function compareTree(client: Client, history: History, key: string): Promise<number> {
  const tree = new Map<string, string>();
  await readPartition(client, history, key, (event) => {
    const { after } = JSON.parse(text.decode(event.payload));
    grow(tree, text.decode(event.stream_id), text.decode(event.event_name), after);
  });
  assert.deepEqual(sorted(tree), sorted(history.tree()));
  return tree.size;
}

function sorted(tree: Map<string, string>): [string, string][] {
  return [...tree].sort(([a], [b]) => a < b ? -1 : 1);
}

async function once(tally: Tally, history: History, command: string[]): Promise<void> {
  await using server = await ServerProcess.start({ command });
  using client = await Client.connect(server.address);
  await tally.check("once: loads, a commit is one EMAPPEND", async () => {
    const took = await timed(() => load(client, history, KEY, range(0, history.commits.length)));
    return `${history.commits.length} commits, ${history.expected.length} events, ${
      rate(history.expected.length, took)
    }`;
  });
  await tally.check("once: a commit whose expected versions are stale is refused", async () => {
    const refused = await client.callEncoded(history.command(0, KEY)).then(() => null, (cause) => cause as ReplyError);
    assert.equal(refused?.code, "WRONGVER");
    assert.equal(await client.call("EPSEQ", KEY), history.expected.length - 1);
  });
  await tally.check("once: the history of every file is as it was", async () => {
    let count = 0;
    const took = await timed(async () => count = await readStreams(client, history, KEY, history.streams.keys()));
    assert.equal(count, history.expected.length);
    return `${history.streams.size} streams, ${rate(count, took)}`;
  });
  await tally.check("once: the newest version of every file, read backwards, and ESVER", async () => {
    await pipelined(history.streams, IN_FLIGHT, async ([stream, wanted]) => {
      const last: Scan = await call(client, "ESCAN", stream, "+", "-", "COUNT", 1, "PARTITION_KEY", KEY);
      assertEvent(last.events[0]!, wanted.at(-1)!, KEY, stream);
      assert.equal(last.has_more, wanted.length > 1);
      assert.equal(await client.call("ESVER", stream, "PARTITION_KEY", KEY), wanted.length - 1);
    });
  });
  await tally.check("once: the tree after the last commit, rebuilt from EPSCAN, is the one of the data", async () => {
    let files = 0;
    const took = await timed(async () => files = await compareTree(client, history, KEY));
    return `${files} files, ${rate(history.expected.length, took)}`;
  });
}

async function many(tally: Tally, history: History, command: string[], chance: Chance): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "esker-history-" });
  const flags = ["--segment-size-bytes", String(SEGMENT_BYTES_SMALL)];
  const keys = [...range(0, KEYS_MANY)].map(keyOfPartition);
  const events = KEYS_MANY * history.expected.length;
  const names = [...history.streams.keys()];
  const long = names.toSorted((a, b) => history.streams.get(b)!.length - history.streams.get(a)!.length).slice(0, 8);
  const sample = () => [...long, ...[...range(0, 40)].map(() => chance.pick(names))];
  const readSample = async (client: Client) => {
    let count = 0;
    for (const key of keys) count += await readStreams(client, history, key, sample());
    return count;
  };
  try {
    {
      await using server = await ServerProcess.start({ command, folder, flags });
      const loaded = await tally.check(`many: loads ${KEYS_MANY} times over, under ${KEYS_MANY} keys`, async () => {
        const clients = await Promise.all([0, 1, 2, 3].map(() => Client.connect(server.address)));
        try {
          const took = await timed(() =>
            Promise.all(
              // Commit by commit, so that the partitions of a bucket are mixed in every segment.
              clients.map(async (client, c) => {
                const mine = keys.filter((_, i) => i % clients.length === c);
                const work = function* () {
                  for (const commit of range(0, history.commits.length)) for (const key of mine) yield { commit, key };
                };
                await pipelined(work(), 4 * IN_FLIGHT, async ({ commit, key }) => {
                  const answer = await client.callEncoded(history.command(commit, key)) as unknown as Appended;
                  assert.equal(answer.first_partition_sequence, history.firsts[commit]);
                });
              }),
            )
          );
          return `${KEYS_MANY * history.commits.length} commits, ${events} events, ${rate(events, took)}`;
        } finally {
          for (const client of clients) client[Symbol.dispose]();
        }
      });
      if (!loaded) return;
      using client = await Client.connect(server.address);
      await tally.check("many: segments rolled", async () => {
        const rolls = await countSegments(folder);
        assert(rolls >= ROLLS_MIN, `${rolls} segments: fewer than ${ROLLS_MIN}`);
        return `${rolls} segments, ${mib(server.residentBytes())} resident`;
      });
      await tally.check(`many: every event of ${WHOLE_PARTITIONS} partitions is as it was`, async () => {
        const took = await timed(async () => {
          for (const key of drawn(keys, WHOLE_PARTITIONS, chance)) await readPartition(client, history, key);
        });
        return rate(WHOLE_PARTITIONS * history.expected.length, took);
      });
      await tally.check("many: files' histories, a sample under each key and the longest ones", async () => {
        let count = 0;
        const took = await timed(async () => count = await readSample(client));
        return rate(count, took);
      });
      await tally.check("many: the server stops on SIGTERM with code 0", async () => {
        assert.equal(await server.stop(), 0, server.output);
      });
    }
    await using server = await ServerProcess.start({ command, folder, flags });
    using client = await Client.connect(server.address);
    await tally.check("many: after a restart the same, in a sample", async () => {
      assert.equal(await client.call("DBSIZE"), events);
      for (const key of keys) assert.equal(await client.call("EPSEQ", key), history.expected.length - 1);
      await readSample(client);
      await compareTree(client, history, chance.pick(keys));
      return `started in ${server.readyMs.toFixed(0)} ms`;
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Some of a list, each at most once. */
function drawn<T>(list: readonly T[], count: number, chance: Chance): T[] {
  const rest = [...list];
  return Array.from({ length: count }, () => rest.splice(chance.below(rest.length), 1)[0]!);
}

/** Everything that is stored under KEY, as text: event by event, all its fields. */
async function snapshot(client: Client, history: History): Promise<string[]> {
  const lines: string[] = [];
  await readPartition(client, history, KEY, (event) => {
    lines.push(JSON.stringify({
      ...event,
      stream_id: text.decode(event.stream_id),
      event_name: text.decode(event.event_name),
      metadata: text.decode(event.metadata),
      payload: text.decode(event.payload),
    }));
  });
  return lines;
}

async function killed(
  tally: Tally,
  history: History,
  command: string[],
  chance: Chance,
  kills: number,
): Promise<void> {
  const flags = ["--segment-size-bytes", String(SEGMENT_BYTES_SMALL), "--journal-size-bytes", String(1024 * 1024)];
  let uninterrupted: string[] = [];
  await tally.check("killed: a load without interruption, to compare with", async () => {
    await using server = await ServerProcess.start({ command, flags });
    using client = await Client.connect(server.address);
    await load(client, history, KEY, range(0, history.commits.length), { ids: true });
    uninterrupted = await snapshot(client, history);
  });
  const folder = await Deno.makeTempDir({ prefix: "esker-history-" });
  try {
    await tally.check(`killed: kill -9 in mid-load ${kills} times, each time on with the same event ids`, async () => {
      const commits = history.commits.length;
      const answers = new Map<number, string>();
      /** Commits are answered in their order: these have been. */
      let acknowledged = 0;
      let repeated = 0, unanswered = 0, startMs = 0;
      const killAt = [...range(0, kills)].map(() => chance.between(1, commits - 1)).sort((a, b) => a - b);
      for (let round = 0; round <= kills; round++) {
        await using server = await ServerProcess.start({ command, folder, flags });
        startMs = Math.max(startMs, server.readyMs);
        using client = await Client.connect(server.address);
        const stored = (await client.call("EPSEQ", KEY) as number | null ?? -1) + 1;
        const whole = acknowledged === 0 ? 0 : history.firsts[acknowledged] ?? history.expected.length;
        assert(stored >= whole, `${whole} events were acknowledged: ${stored} are there`);
        assert(
          stored === history.expected.length || history.firsts.includes(stored),
          `${stored} events are there: that is in the middle of a commit`,
        );
        // From some way back, so that commits are repeated that were answered before the crash, too.
        const from = Math.max(0, acknowledged - chance.below(200));
        const end = killAt[round] ?? commits;
        let killing: Promise<void> | null = null;
        try {
          await load(client, history, KEY, range(from, commits), {
            ids: true,
            acknowledge(commit, answer) {
              const line = JSON.stringify(answer);
              const before = answers.get(commit);
              if (before !== undefined) {
                assert.equal(line, before, `commit ${commit} answered otherwise than the first time`);
                repeated++;
              }
              answers.set(commit, line);
              acknowledged = Math.max(acknowledged, commit + 1);
              if (round < kills && commit + 1 >= end) killing ??= server.kill();
            },
          });
          assert(round === kills || killing !== null, "the load ended before the kill");
        } catch (cause) {
          if (!(cause instanceof ConnectionLost)) throw cause;
          if (killing === null) throw new Error(`The server ended by itself:\n${server.output}`);
        }
        if (killing !== null) unanswered += Math.min(IN_FLIGHT, commits - acknowledged);
        await killing;
      }
      return `${repeated} repeated answers, up to ${unanswered} commits in flight at the kills, ` +
        `slowest start ${startMs.toFixed(0)} ms`;
    });
    await tally.check("killed: what is stored is what a load without interruption stores", async () => {
      await using server = await ServerProcess.start({ command, folder, flags });
      using client = await Client.connect(server.address);
      const found = await snapshot(client, history);
      assert.equal(found.length, uninterrupted.length);
      for (const [i, line] of found.entries()) assert.equal(line, uninterrupted[i], `sequence ${i}`);
      await readStreams(client, history, KEY, history.streams.keys());
      return `${found.length} events, all fields`;
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function countSegments(folder: string): Promise<number> {
  let count = 0;
  for await (const bucket of Deno.readDir(`${folder}/buckets`)) {
    for await (const segment of Deno.readDir(`${folder}/buckets/${bucket.name}/segments`)) {
      if (segment.isDirectory) count++;
    }
  }
  return count;
}

async function timed(body: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await body();
  return performance.now() - began;
}

function rate(events: number, ms: number): string {
  return `${(ms / 1000).toFixed(1)} s, ${Math.round(events / ms)} k events/s`;
}

function mib(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(0)} MiB`;
}

if (import.meta.main) {
  const { parseArgs } = await import("node:util");
  const { values } = parseArgs({
    options: {
      server: { type: "string" },
      mode: { type: "string", multiple: true, default: ["once", "many", "killed"] },
      kills: { type: "string", default: "6" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
    },
  });
  const command = serverCommand(values.server);
  const tally = new Tally();
  const history = await History.load();
  console.log(`seed ${values.seed}`);
  const modes: Record<string, () => Promise<void>> = {
    once: () => once(tally, history, command),
    many: () => many(tally, history, command, new Chance(Number(values.seed))),
    killed: () => killed(tally, history, command, new Chance(Number(values.seed)), Number(values.kills)),
  };
  for (const mode of values.mode) {
    const run = modes[mode];
    if (run === undefined) throw new Error(`--mode once|many|killed: found ${mode}`);
    try {
      await run();
    } catch (cause) {
      tally.fail(mode, (cause as Error).stack);
    }
  }
  Deno.exit(tally.end());
}
