/**
 * Load that should hurt: clients that are many, slow, greedy, broken or hostile, against the real server, while a
 * well-behaved client goes on beside them.
 *
 * After each check
 *
 *     the well-behaved client has been answered rightly, and soon enough to be answered at all; its latency is told
 *     the server's memory never was over the bound that is printed, a sum of which every part has its reason
 *     nothing is left: no client, no subscription, no wait, and no error in the log
 *
 * and in the end everything that the well-behaved client was told is stored is read, and the server stops by itself.
 *
 *     deno run -A scripts/load.ts [--server "COMMAND"] [--minutes N] [--only WORDS] [--seed N]
 *
 * The checks take about a minute. With `--minutes` they are gone through again and again until the time is over, those
 * that could go on for ever last longer, and no round may leave much more memory taken than the first.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../core/chance.ts";
import { word } from "../resp/arguments_fuzz.ts";
import { commands } from "../resp/commands/mod.ts";
import { frame, mutate, nonsense } from "../resp/decoder_fuzz.ts";
import { Socket } from "./load_socket.ts";
import { Witness } from "./load_witness.ts";
import { type Address, Client, concat, encodeCommand, type Plain, ReplyError } from "./resp_client.ts";
import { readProc, serverCommand, ServerProcess } from "./server_process.ts";
import { Tally } from "./tally.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

/** What the server is told, so that the bounds on its memory can be computed from it. */
const SETTINGS = {
  "resp.clients_max": 11_200,
  "resp.output_bytes_max": 512 * KIB,
  "resp.input_bytes_max": 256 * MIB,
  "resp.command_bytes_max": 64 * MIB,
  "cache.capacity_bytes": 32 * MIB,
  "cache.heads_bytes": 96 * MIB,
  "cache.filters_bytes": 64 * MIB,
  "bucket.count": 4,
};
const FLAGS = Object.entries(SETTINGS).map(([key, value]) => `--${key.replaceAll(/[._]/g, "-")}=${value}`);

/** Files and sockets of a process beside those of the load. */
const OTHER_FILES = 600;
/** With fewer sockets the checks would show nothing; with fewer than ten thousand they make do with what there is. */
const SOCKETS_MIN = 2000;
/** Connections that are opened at the same time: fewer than a listener may have waiting. */
const OPENING = 100;
/** How much more memory a round of all checks may leave than the first left: the collector's mood. A leak grows on. */
const LEFT_BYTES_MAX = 256 * MIB;
/** What takes longer than this is not slow any more, but stuck. */
const STUCK_MS = 30_000;

/** What a check makes the server hold. */
interface Holds {
  clients: number;
  /** Clients that send commands larger than a resting read buffer, or many at once. */
  sending?: number;
  /** Clients that do not read what they are sent. */
  unread?: number;
  subscriptions?: number;
  /** Whether commands go beyond what each client may hold for itself, */
  large?: true;
  /** and what the largest replies to such commands take. */
  replyBytes?: number;
}

interface Check {
  name: string;
  run: (arena: Arena) => Promise<string>;
  holds: Holds;
}

/** The most that the server's memory may be during a check: a sum, and the reason of each part. */
function bound(
  beforeBytes: number,
  { clients, sending = 0, unread = 0, subscriptions = 0, large, replyBytes = 0 }: Holds,
) {
  const held: [number, string][] = [
    [clients * 24 * KIB, `${clients} clients: objects, a read buffer of 4 KiB`],
    [sending * 128 * KIB, `${sending} that send: their allowance`],
    // What is on its way, a page more, and the same again while the encoder makes room for that page.
    [unread * 2 * (SETTINGS["resp.output_bytes_max"] + 256 * KIB), `${unread} that do not read: their replies`],
    [subscriptions * 12 * KIB, `${subscriptions} subscriptions`],
    // One command may go over the bound; a buffer that grows exists twice.
    [large ? SETTINGS["resp.input_bytes_max"] + 2 * SETTINGS["resp.command_bytes_max"] : 0, "large commands"],
    [replyBytes, "large replies"],
  ];
  const heldBytes = held.reduce((sum, [bytes]) => sum + bytes, 0);
  const parts: [number, string][] = [
    [beforeBytes, "before it began, with the garbage of earlier checks"],
    [SETTINGS["cache.capacity_bytes"], "blocks of index files"],
    [SETTINGS["cache.heads_bytes"], "heads of streams"],
    [SETTINGS["cache.filters_bytes"], "filters"],
    [SETTINGS["bucket.count"] * 65_536 * 128, "open indexes of 4 buckets"],
    [2 * (8 * MIB + SETTINGS["resp.command_bytes_max"]), "a batch of appends and its frames"],
    [2 * 3 * 8 * MIB, "young generations of two threads"],
    ...held,
    [heldBytes, "as much garbage, before it is collected"],
  ];
  const bytes = parts.reduce((sum, [bytes]) => sum + bytes, 0);
  const reasons = parts.filter(([bytes]) => bytes > 0).map(([bytes, what]) => `${mib(bytes)} ${what}`);
  return { bytes, text: `${mib(bytes)} = ${reasons.join(" + ")}` };
}

/** Where the checks take place. */
class Arena {
  #sockets: Socket[] = [];

  constructor(
    readonly server: ServerProcess,
    readonly watcher: Client,
    readonly chance: Chance,
    /** Connections that the system lets a process have. */
    readonly socketsMax: number,
    /** How long those checks last that could go on for ever. */
    readonly seconds: number,
  ) {}

  get address(): Address {
    return this.server.address;
  }

  /** Opens connections, which are closed after the check at the latest. */
  async open(count: number): Promise<Socket[]> {
    const opened: Socket[] = [];
    while (opened.length < count) {
      const some = Math.min(OPENING, count - opened.length);
      opened.push(...await Promise.all(Array.from({ length: some }, () => Socket.open(this.address))));
    }
    this.#sockets.push(...opened);
    return opened;
  }

  closeAll(): void {
    for (const socket of this.#sockets.splice(0)) socket[Symbol.dispose]();
  }

  /** A number of INFO. */
  async info(name: string): Promise<number> {
    const text = new TextDecoder().decode(await this.watcher.call("INFO") as Uint8Array);
    const found = new RegExp(`^${name}:([0-9]+)\r$`, "m").exec(text);
    assert.ok(found !== null, `INFO does not tell ${name}`);
    return Number(found[1]);
  }

  /** Waits until INFO tells this number. */
  async untilInfo(name: string, wanted: number): Promise<void> {
    const deadline = performance.now() + STUCK_MS;
    for (let found = NaN; found !== wanted; await pause(20)) {
      found = await this.info(name);
      if (performance.now() < deadline) continue;
      const clients = new TextDecoder().decode(await this.watcher.call("CLIENT", "LIST") as Uint8Array);
      throw new Error(`${name} is ${found}, and should be ${wanted}:\n${clients.slice(0, 2000)}`);
    }
  }
}

const checks: Check[] = [
  {
    name: "10,000 connections that rest and 1,000 that are busy",
    run: crowd,
    holds: { clients: 11_000, sending: 1000 },
  },
  {
    name: "clients that never read what they ask for",
    run: neverReading,
    holds: { clients: 200, sending: 200, unread: 200, subscriptions: 200 },
  },
  { name: "frames that come a byte at a time", run: slowFrames, holds: { clients: 4000, sending: 4000 } },
  {
    name: "1 GiB announced and never sent, and really sent",
    run: hugeBulks,
    holds: { clients: 501, large: true, replyBytes: 2 * 64 * MIB },
  },
  {
    name: "large commands of which half is sent",
    run: halfCommands,
    holds: { clients: 20, sending: 20, large: true, replyBytes: 2 * 32 * MIB },
  },
  {
    name: "a million words, and one more",
    run: millionWords,
    holds: { clients: 1, large: true, replyBytes: 500_000 * KIB },
  },
  { name: "pipelines of 100,000 commands", run: pipelines, holds: { clients: 3, sending: 3 } },
  { name: "arrays in arrays", run: nesting, holds: { clients: 50, sending: 50, large: true } },
  { name: "frames that are mutated, and nonsense", run: fuzzing, holds: { clients: 100, sending: 100, unread: 100 } },
  { name: "10,000 clients that wait in EREAD", run: waiting, holds: { clients: 10_000, subscriptions: 10_000 } },
  { name: "thousands of subscriptions", run: subscriptions, holds: { clients: 100, subscriptions: 5000, unread: 100 } },
  {
    name: "clients that come and go, and leave in the middle",
    run: churn,
    holds: { clients: 300, sending: 300, unread: 100 },
  },
];

async function crowd(arena: Arena): Promise<string> {
  const busyCount = 1000;
  const idleCount = Math.min(10_000, arena.socketsMax - busyCount);
  const before = arena.server.residentBytes();
  const idle = await arena.open(idleCount);
  await arena.untilInfo("connected_clients", idleCount + 2);
  await answersAll(idle);
  const each = (arena.server.residentBytes() - before) / idleCount;
  const busy = await arena.open(busyCount);
  const end = performance.now() + 1000 * arena.seconds;
  let answers = 0;
  const clients = busy.map(async (socket, i) => {
    for (let version = 0; performance.now() < end; version++) {
      const append = encodeCommand(["EAPPEND", `busy-${i}`, "Beat", "PAYLOAD", `${version}`]);
      const scan = encodeCommand(["ESCAN", `busy-${i}`, "-", "+", "COUNT", 1]);
      await socket.send(concat([append, scan]));
      for (const _ of [append, scan]) await goodReply(socket);
      answers += 2;
    }
  });
  await Promise.all(clients);
  await answersAll(idle);
  const short = idleCount < 10_000 ? ` (of 10,000: the system gives no more files)` : "";
  return `${idleCount}${short} at rest cost ${kib(each)} each; ${answers} answers to ${busyCount} others meanwhile`;
}

async function neverReading(arena: Arena): Promise<string> {
  const events = 400;
  const payload = new Uint8Array(100 * KIB).fill(120);
  if (await arena.watcher.call("ESVER", "bulk") === null) {
    await Promise.all(
      Array.from({ length: events }, () => arena.watcher.call("EAPPEND", "bulk", "Stored", "PAYLOAD", payload)),
    );
  }
  const hello = encodeCommand(["HELLO", 3]);
  const asks = [
    encodeCommand(["ESCAN", "bulk", "-", "+", "COUNT", events]),
    encodeCommand(["EPSUB", "*", "FROM", 0, "WINDOW", 1_000_000_000]),
    encodeCommand(["ESUB", "bulk", "FROM", 0, "WINDOW", 1_000_000_000]),
    encodeCommand(["ECHO", payload]),
    encodeCommand(["EREAD", "COUNT", 1000, "STREAMS", "bulk", 0]),
    encodeCommand(["COMMAND", "DOCS"]),
  ];
  const sockets = await arena.open(200);
  const sending = new Set(sockets);
  let isOver = false;
  const asking = sockets.map(async (socket, i) => {
    await socket.send(hello);
    const ask = asks[i % asks.length]!;
    // Of subscriptions one is enough. Large words are sent until nobody takes any more.
    const times = [1, 2].includes(i % asks.length) ? 1 : ask.length < 100 ? 300 : Infinity;
    for (let n = 0; n < times && !isOver; n++) await socket.send(ask);
    sending.delete(socket);
  });
  await pause(1000 * arena.seconds);
  const stuck = sending.size;
  isOver = true;
  // Deno closes a socket only when what is being written to it has left, and the server reads on only if they read.
  for (const socket of sending) void socket.discard();
  await Promise.all(asking);
  return `${sockets.length} of them, ${stuck} could not send all that they wanted`;
}

async function slowFrames(arena: Arena): Promise<string> {
  const sockets = await arena.open(Math.min(4000, arena.socketsMax));
  const command = encodeCommand(["ECHO", "x".repeat(100)]);
  const long = encodeCommand(["ECHO", new Uint8Array(60 * KIB)]);
  // A third is in the middle of the head, a third in that of the word, a third has sent nearly all of a long one.
  const commandOf = (i: number) => i % 3 === 2 ? long : command;
  const sent = sockets.map((_, i) => i % 3 === 0 ? 2 : commandOf(i).length - 50);
  await Promise.all(sockets.map((socket, i) => socket.send(commandOf(i).subarray(0, sent[i]!))));
  const end = performance.now() + 1000 * arena.seconds;
  let bytes = 0;
  while (performance.now() < end) {
    for (let n = 0; n < 500; n++) {
      const i = arena.chance.below(sockets.length);
      if (sent[i] === commandOf(i).length - 1) continue;
      await sockets[i]!.send(commandOf(i).subarray(sent[i]!, ++sent[i]!));
      bytes++;
    }
    await pause(20);
  }
  // A frame that is slow is none the worse for it.
  await Promise.all(sockets.map(async (socket, i) => {
    await socket.send(commandOf(i).subarray(sent[i]!));
    await goodReply(socket);
  }));
  return `${sockets.length} of them, ${bytes} single bytes, all answered when they were complete`;
}

async function hugeBulks(arena: Arena): Promise<string> {
  const announced = new TextEncoder().encode(`*2\r\n$4\r\nECHO\r\n$${1024 * MIB}\r\n`);
  const silent = await arena.open(500);
  await Promise.all(silent.map((socket) => socket.send(announced)));
  const [sender] = await arena.open(1) as [Socket];
  const chunk = new Uint8Array(MIB).fill(120);
  await sender.send(announced);
  for (let n = 0; n < 1024; n++) assert.ok(await sender.send(chunk), "the link was closed");
  await sender.send(new TextEncoder().encode("\r\n"));
  const refused = await sender.reply();
  assert.ok(refused instanceof ReplyError && refused.code === "DBOPFAILED", Deno.inspect(refused));
  // As much as is allowed is answered.
  await sender.send(encodeCommand(["ECHO", new Uint8Array(64 * MIB - 100)]));
  assert.equal((await goodReply(sender) as Uint8Array).length, 64 * MIB - 100);
  return `${silent.length} announced it, 1 sent it and was refused, and sent 64 MiB, which were answered`;
}

async function halfCommands(arena: Arena): Promise<string> {
  const half = encodeCommand(["ECHO", new Uint8Array(60 * MIB)]).subarray(0, 55 * MIB);
  const sockets = await arena.open(8);
  const sending = sockets.map((socket) => socket.send(half));
  await pause(1000 * arena.seconds);
  using honest = await Client.connect(arena.address);
  const began = performance.now();
  const answer = await honest.call("ECHO", new Uint8Array(32 * MIB)) as Uint8Array;
  assert.equal(answer.length, 32 * MIB);
  const took = performance.now() - began;
  arena.closeAll();
  await Promise.all(sending);
  return `${sockets.length} of 60 MiB; an honest one of 32 MiB was answered after ${took.toFixed(0)} ms`;
}

async function millionWords(arena: Arena): Promise<string> {
  const [socket] = await arena.open(1) as [Socket];
  const wordsMax = MIB;
  const all = (head: string[], rest: string[], count: number) => {
    const words = [...head];
    while (words.length + rest.length <= count) words.push(...rest);
    return encodeCommand(words);
  };
  const told: string[] = [];
  for (
    const [head, rest] of [
      [["NONSENSE"], ["x"]],
      [["COMMAND", "DOCS"], ["PING"]],
      [["ESUB"], ["s"]],
      [["EREAD", "STREAMS"], ["s", "0"]],
      [["EMAPPEND", crypto.randomUUID()], ["many", "E"]],
    ] as [string[], string[]][]
  ) {
    const began = performance.now();
    assert.ok(await socket.send(all(head, rest, wordsMax)));
    const reply = await socket.reply();
    assert.ok(reply !== undefined, "the link was closed");
    const what = reply instanceof ReplyError ? reply.code : "answered";
    told.push(`${head[0]} ${what} in ${(performance.now() - began).toFixed(0)} ms`);
  }
  await socket.send(all(["ECHO"], ["x", "y"], wordsMax + 2));
  const over = await socket.reply();
  assert.ok(over instanceof ReplyError && over.code === "DBOPFAILED", Deno.inspect(over));
  await answersAll([socket]);
  return told.join(", ");
}

async function pipelines(arena: Arena): Promise<string> {
  const count = 100_000;
  const pipeline = (of: (i: number) => (string | number)[]) =>
    concat(Array.from({ length: count }, (_, i) => encodeCommand(of(i))));
  const asks = [
    pipeline(() => ["PING"]),
    pipeline((i) => ["EAPPEND", `pipeline-${i % 10}`, "Beat"]),
    // A read and an append keep their order, so each append has a sync of its own.
    pipeline((i) => i % 100 === 0 ? ["EAPPEND", "pipeline-0", "Beat"] : ["ESVER", "pipeline-0"]),
  ];
  const sockets = await arena.open(asks.length);
  await Promise.all(sockets.map(async (socket, i) => {
    const sending = socket.send(asks[i]!);
    for (let n = 0; n < count; n++) await goodReply(socket);
    assert.ok(await sending);
  }));
  return `${sockets.length} of them, all answered`;
}

async function nesting(arena: Arena): Promise<string> {
  const encoder = new TextEncoder();
  const depth = 1_000_000;
  const deep = [
    "*2\r\n$4\r\nECHO\r\n" + "*1\r\n".repeat(depth) + "$1\r\nx\r\n",
    "|1\r\n".repeat(1000) + "$1\r\n".repeat(10),
    "*2\r\n$4\r\nECHO\r\n" + "%1000000\r\n".repeat(3),
    "*2\r\n$4\r\nECHO\r\n" + "|1\r\n+a\r\n+b\r\n".repeat(depth / 4) + "$1\r\nx\r\n",
    "*999999999999999\r\n".repeat(20),
  ];
  const sockets = await arena.open(50);
  await Promise.all(sockets.map((socket, i) => socket.send(encoder.encode(deep[i % deep.length]!))));
  const refused = await sockets[0]!.reply();
  assert.ok(refused instanceof ReplyError && refused.code === "DBOPFAILED", Deno.inspect(refused));
  await answersAll([sockets[0]!]);
  return `${depth} deep is refused, and the link lives on`;
}

async function fuzzing(arena: Arena): Promise<string> {
  const { chance } = arena;
  const names = commands.map(({ name }) => name).filter((name) => name !== "SHUTDOWN");
  const end = performance.now() + 1000 * arena.seconds;
  let bytes = 0;
  let links = 0;
  const one = async () => {
    while (performance.now() < end) {
      using socket = await Socket.open(arena.address);
      const reading = socket.discard();
      links++;
      for (let n = chance.between(1, 30); n > 0; n--) {
        const words = [chance.pick(names), ...Array.from({ length: chance.below(9) }, () => word(chance))];
        const valid = chance.oneIn(2) ? [...encodeCommand(words)] : frame(chance, 0);
        const piece = Uint8Array.from(
          chance.oneIn(3) ? valid : chance.oneIn(4) ? nonsense(chance) : mutate(chance, valid),
        );
        bytes += piece.length;
        if (!await socket.send(piece)) break;
      }
      if (chance.oneIn(2)) continue; // Leaves with answers unread.
      await socket.closeWrite();
      await reading;
    }
  };
  await Promise.all(Array.from({ length: 64 }, one));
  return `${links} links, ${(bytes / MIB).toFixed(1)} MiB`;
}

async function waiting(arena: Arena): Promise<string> {
  const count = Math.min(10_000, arena.socketsMax);
  const sockets = await arena.open(count);
  const before = await arena.watcher.call("ESVER", "awaited");
  const from = before === null ? 0 : Number(before) + 1;
  const eread = encodeCommand(["EREAD", "BLOCK", 0, "STREAMS", "awaited", from]);
  const short = encodeCommand(["EREAD", "BLOCK", 2000, "STREAMS", "never", 0]);
  await Promise.all(sockets.map((socket, i) => socket.send(i % 4 === 0 ? short : eread)));
  await arena.untilInfo("blocked_clients", count - Math.ceil(count / 4));
  const answers = sockets.map((socket) => socket.reply());
  const began = performance.now();
  await arena.watcher.call("EAPPEND", "awaited", "Came");
  const replies = await Promise.all(answers);
  const took = performance.now() - began;
  const nulls = replies.filter((reply) => reply === null).length;
  assert.equal(nulls, Math.ceil(count / 4), "an EREAD was not woken, or not ended");
  assert.ok(replies.every((reply) => reply === null || Array.isArray(reply)), "an EREAD was refused");
  return `${count - nulls} of ${count} woken by one event within ${took.toFixed(0)} ms, ${nulls} by the clock`;
}

async function subscriptions(arena: Arena): Promise<string> {
  const links = await arena.open(100);
  const each = 50;
  const hello = encodeCommand(["HELLO", 3]);
  const before = arena.server.residentBytes();
  const subscribe = encodeCommand(["EPSUB", "*", "FROM", "LATEST"]);
  const stream = encodeCommand(["ESUB", "followed", "FROM", "LATEST"]);
  await Promise.all(links.map(async (link) => {
    await link.send(concat([hello, ...Array.from({ length: each }, (_, i) => i % 2 ? subscribe : stream)]));
  }));
  await arena.untilInfo("subscriptions", links.length * each);
  const cost = (arena.server.residentBytes() - before) / (links.length * each);
  const reading = links.map((link) => link.discard());
  for (let n = 0; n < 20; n++) await arena.watcher.call("EAPPEND", "followed", "Came", "PAYLOAD", "x".repeat(100));
  await pause(1000);
  arena.closeAll();
  const bytes = (await Promise.all(reading)).reduce((sum, one) => sum + one, 0);
  await arena.untilInfo("subscriptions", 0);
  return `${links.length * each} on ${links.length} links cost ${kib(cost)} each; 20 events made ${
    mib(bytes)
  } of pushes`;
}

async function churn(arena: Arena): Promise<string> {
  const { chance } = arena;
  const end = performance.now() + 1000 * arena.seconds;
  const hello = encodeCommand(["HELLO", 3]);
  const asks = [
    encodeCommand(["PING"]),
    encodeCommand(["EAPPEND", "churn", "Beat", "PAYLOAD", "x".repeat(5000)]),
    encodeCommand(["ESCAN", "bulk", "-", "+", "COUNT", 100]),
    encodeCommand(["EPSUB", "*", "FROM", 0]),
    encodeCommand(["EREAD", "BLOCK", 0, "STREAMS", "never", 0]),
    encodeCommand(["ECHO", new Uint8Array(200 * KIB)]),
  ];
  let links = 0;
  const one = async () => {
    while (performance.now() < end) {
      using socket = await Socket.open(arena.address);
      links++;
      if (chance.oneIn(5)) continue;
      const all = concat([hello, ...Array.from({ length: chance.below(5) }, () => chance.pick(asks))]);
      await socket.send(chance.oneIn(3) ? all.subarray(0, chance.below(all.length)) : all);
      if (chance.oneIn(3)) await socket.closeWrite();
      if (chance.oneIn(2)) await pause(chance.below(20)); // Answers come meanwhile, so that this close is a reset.
    }
  };
  await Promise.all(Array.from({ length: 32 }, one));
  return `${links} links`;
}

/** A reply that is no error. */
async function goodReply(socket: Socket): Promise<Plain> {
  const reply = await socket.reply();
  if (reply instanceof ReplyError) throw reply;
  if (reply === undefined) throw new Error("The server ended the link");
  return reply;
}

async function answersAll(sockets: Socket[]): Promise<void> {
  const ping = encodeCommand(["PING"]);
  await Promise.all(sockets.map(async (socket) => {
    await socket.send(ping);
    assert.equal(await goodReply(socket), "PONG");
  }));
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function kib(bytes: number): string {
  return `${(bytes / KIB).toFixed(1)} KiB`;
}

function mib(bytes: number): string {
  return `${(bytes / MIB).toFixed(0)} MiB`;
}

/** How many files a process may have open, by its number or `self`. */
function filesMax(process: number | "self"): number {
  return Number(/^Max open files\s+(\d+)/m.exec(readProc(`/proc/${process}/limits`))![1]);
}

/** The most memory that the server has had since `forgetPeak`, as the kernel counts it. */
function peakBytes({ pid }: ServerProcess): number {
  return KIB * Number(/^VmHWM:\s+(\d+) kB$/m.exec(readProc(`/proc/${pid}/status`))![1]);
}

/** False where the kernel does not let us. */
function forgetPeak({ pid }: ServerProcess): boolean {
  return new Deno.Command("sh", { args: ["-c", `echo 5 > /proc/${pid}/clear_refs`] }).outputSync().success;
}

/** Runs one check, and holds the server to what must be so after each. */
async function judge({ run, holds }: Check, arena: Arena, witness: Witness): Promise<string> {
  const { server } = arena;
  const before = server.residentBytes();
  const isForgotten = forgetPeak(server);
  const began = performance.now();
  let told: string;
  try {
    told = await run(arena);
  } finally {
    arena.closeAll();
  }
  for (const left of ["subscriptions", "blocked_clients"]) await arena.untilInfo(left, 0);
  await arena.untilInfo("connected_clients", 2); // The watcher and the witness.
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  const seen = await witness.testify();
  const peak = peakBytes(server);
  const { bytes, text } = bound(before, holds);
  if (isForgotten) assert.ok(peak <= bytes, `The memory was ${mib(peak)}, and should have been at most ${text}`);
  const errors = server.output.split("\n").filter((line) => line.includes('"level":"ERROR"'));
  assert.deepEqual(errors, [], "the server logged errors");
  return [
    `${told}, in ${seconds} s`,
    `others: ${seen}`,
    `memory: ${mib(before)} before, ${mib(peak)} at most, ${mib(server.residentBytes())} after`,
    `bound: ${text}${isForgotten ? "" : " (not asserted: the kernel tells only the peak since the start)"}`,
  ].join("\n        ");
}

if (import.meta.main) {
  const { parseArgs } = await import("node:util");
  const { values } = parseArgs({
    options: {
      server: { type: "string" },
      minutes: { type: "string", default: "0" },
      only: { type: "string", default: "" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
    },
  });
  // As many files as the system lets the server have; for ourselves Deno has asked for them.
  const command = ["sh", "-c", 'ulimit -n "$(ulimit -H -n)"; exec "$@"', "sh", ...serverCommand(values.server)];
  const minutes = Number(values.minutes);
  const until = performance.now() + 60_000 * minutes;
  const tally = new Tally();
  console.log(`seed ${values.seed}`);
  {
    await using server = await ServerProcess.start({ command, flags: FLAGS });
    using watcher = await Client.connect(server.address);
    using witness = await Witness.begin(server.address);
    const socketsMax = Math.min(filesMax("self"), filesMax(server.pid)) - OTHER_FILES;
    const arena = new Arena(server, watcher, new Chance(Number(values.seed)), socketsMax, minutes > 0 ? 20 : 3);
    await witness.testify();
    const rest = server.residentBytes();
    const left: number[] = [];
    do {
      for (const check of checks.filter(({ name }) => name.includes(values.only))) {
        if (socketsMax < SOCKETS_MIN) tally.skip(check.name, `the system gives only ${socketsMax} sockets`);
        else await tally.check(check.name, () => judge(check, arena, witness));
      }
      left.push(server.residentBytes());
    } while (performance.now() < until);
    await tally.check("in the end nothing is lost or kept, and the server stops by itself", async () => {
      const read = await witness.verify();
      watcher[Symbol.dispose]();
      assert.equal(await server.stop(), 0, server.output);
      assert.ok(left.at(-1)! <= left[0]! + LEFT_BYTES_MAX, `memory after each round: ${left.map(mib).join(", ")}`);
      return `${read}; memory was ${mib(rest)} at rest, and after each round ${left.map(mib).join(", ")}`;
    });
  }
  Deno.exit(tally.end());
}
