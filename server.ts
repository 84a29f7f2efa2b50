/**
 * The part that runs in the Worker, with only the permissions that the options need: it opens the data folder and the
 * listener, or checks, dumps or repairs the folder.
 *
 * What it has to tell it posts to main: that it is ready, that it lives, what it logs, how it ended. It never exits:
 * `Deno.exit` here would end this thread and leave main waiting for a word that never comes. A fatal reason is posted,
 * and then this thread stops where it stands, so that nothing after a broken promise is carried out.
 *
 * @module
 */
import {
  checkFolder,
  Damaged,
  DiskFull,
  FolderInUse,
  FolderMismatch,
  InvalidArgument,
  isWhole,
  NoSuchPartition,
  openDatabase,
  OverlayDisk,
  repairFolder,
  systemDisk,
} from "./core/mod.ts";
import type { Bound } from "./core/database.ts";
import { type Environment, type Log, systemEnvironment } from "./core/environment.ts";
import type { EventStore } from "./core/store.ts";
import { NoSpace, TooFewFiles } from "./core/log/disk.ts";
import { metaPath } from "./core/meta.ts";
import type { ClusterConfig } from "./net/cluster_config.ts";
import { listen } from "./resp/mod.ts";
import { dumpLine } from "./program/dump.ts";
import type { Exit } from "./program/exit_codes.ts";
import { type Level, LogBound } from "./program/log.ts";
import { repairLines } from "./program/repair_report.ts";
import { type Command, formatAddress, type Options, settingsAsText } from "./options.ts";
import { newPeerId } from "./program/peer_id.ts";

/** The commands that a Worker carries out. */
export type WorkerCommand = Exclude<Extract<Command, { dir: string }>, { name: "permissions" | "cluster init" }>;

export type ToWorker =
  | {
    type: "start";
    command: WorkerCommand;
    options: Options;
    /** What the folder says of a cluster. */
    cluster: ClusterConfig | null;
    version: string;
    logBound: SharedArrayBuffer;
  }
  | { type: "drain"; handOver: boolean };

export type FromWorker =
  | { type: "ready"; address: string; created: boolean; partitions: number; buckets: number; events: number }
  | { type: "alive" }
  | { type: "log"; level: Level; message: string; facts?: Record<string, unknown> }
  | { type: "progress"; doneBytes: number; totalBytes: number }
  | { type: "shutdown" }
  | { type: "fatal"; message: string }
  | { type: "ended"; exit: Exit; message?: string };

const HEARTBEAT_MS = 1000;
/** To give leadership away takes a round trip or two. Nodes that are not there are no reason to wait for long. */
const HAND_OVER_MS_MAX = 2000;
/** A line of JSON is some 400 bytes: enough that a write costs little a line. */
const DUMP_CHARS_MAX = 256 * 1024;

const scope = self as unknown as {
  postMessage(message: FromWorker): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
};

/** Resolves when main says that it is time to stop: perhaps before there is anything to stop. */
const drain = Promise.withResolvers<{ handOver: boolean }>();

scope.onmessage = ({ data }) => {
  if (data.type === "drain") return drain.resolve(data);
  run(data).then(
    ({ exit, message }) => post({ type: "ended", exit, ...(message !== undefined && { message }) }),
    (error) => post({ type: "ended", ...explain(error, data) }),
  );
};

type Start = ToWorker & { type: "start" };

interface End {
  exit: Exit;
  message?: string;
}

async function run(start: Start): Promise<End> {
  const bound = new LogBound(start.logBound);
  const log: Log = (level, message, facts) => {
    if (bound.enter()) post({ type: "log", level, message, ...(facts && { facts: plain(facts) }) });
  };
  const { command } = start;
  // A folder without that file can be repaired, if it is one.
  const mark = command.name === "repair" && systemDisk.exists(`${command.dir}/buckets`)
    ? command.dir
    : metaPath(command.dir);
  if (command.name !== "serve" && !systemDisk.exists(mark)) {
    return { exit: "notFound", message: `There is no data folder ${command.dir}: it has no meta.json` };
  }
  switch (command.name) {
    case "check":
      return await check(command.dir);
    case "dump":
      return await dump(command, log);
    case "repair":
      return await repair(command, start.options, log);
    default:
      return await serve(start, log);
  }
}

/** What there is to serve: a store that is alone, or a node of a cluster. */
interface Served {
  store: EventStore;
  peerId: string;
  created: boolean;
  bucketCount: number;
  bounds: readonly Bound[];
  /** Gives away what others wait for, while clients are still served. */
  handOver(): Promise<void>;
  close(): Promise<void>;
}

async function serve(start: Start, log: Log): Promise<End> {
  const { options: { values }, version } = start;
  const environment: Environment = systemEnvironment(fatal);
  const served = await (start.cluster === null ? openAlone : openNode)(start, environment, log);
  let heartbeat;
  try {
    const { store } = served;
    const listener = listen(store, {
      ...values["network.client_address"],
      version,
      peerId: served.peerId,
      initialProtocol: values["resp.initial_protocol"],
      strictVersioning: values["append.strict_versioning"],
      limits: {
        commandBytesMax: values["resp.command_bytes_max"],
        wordsMax: values["resp.words_max"],
        nestingMax: values["resp.nesting_max"],
        clientsMax: values["resp.clients_max"],
        outputBytesMax: values["resp.output_bytes_max"],
        inputBytesMax: values["resp.input_bytes_max"],
      },
      settings: () => settingsAsText(values),
      shutdown: () => post({ type: "shutdown" }),
      environment,
      log,
    });
    log(
      "info",
      "Memory is bounded, in MiB",
      Object.fromEntries(served.bounds.map(({ of, bytes }) => [of, inMiB(bytes)])),
    );
    const status = store.status();
    post({
      type: "ready",
      address: formatAddress(listener),
      created: served.created,
      partitions: store.partitionCount,
      buckets: served.bucketCount,
      events: status.events,
    });
    heartbeat = setInterval(() => {
      store.status(); // It looks how full the disk is, so that room is noticed, and logged, without an append.
      post({ type: "alive" });
    }, HEARTBEAT_MS);
    const { handOver } = await drain.promise;
    // Before the listener closes: until another node leads, clients have to be answered here.
    if (handOver) await withinMs(Math.min(HAND_OVER_MS_MAX, values["shutdown.timeout_ms"] / 2), served.handOver(), log);
    await listener.close();
  } finally {
    await served.close();
    clearInterval(heartbeat);
  }
  return { exit: "done" };
}

/** Goes on when it is done, has failed, or took too long: the others notice by silence what they were not told. */
async function withinMs(msMax: number, handOver: Promise<void>, log: Log): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`it took more than ${msMax} ms`)), msMax);
  try {
    await Promise.race([handOver, late.promise]);
  } catch (error) {
    log("warn", "Leadership was not handed over", { error });
  } finally {
    clearTimeout(timer);
  }
}

async function openAlone({ command: { dir }, options: { values, given } }: Start, environment: Environment, log: Log) {
  // What the folder was made with holds, unless somebody asked for something: then it must be the same.
  const pinned = <K extends keyof typeof values>(key: K) => given.has(key) ? values[key] : undefined;
  const database = await openDatabase({
    dir,
    partitionCount: pinned("partition.count"),
    bucketCount: pinned("bucket.count"),
    segmentBytes: pinned("segment.size_bytes"),
    ...limitsOf(values),
    environment,
    log,
  });
  const { created, bucketCount, bounds } = database;
  return {
    ...{ store: database, peerId: await newPeerId(), created, bucketCount, bounds },
    handOver: async () => {},
    close: () => database.close(),
  } satisfies Served;
}

async function openNode(
  { command: { dir }, options: { values }, cluster }: Start,
  environment: Environment,
  log: Log,
): Promise<Served> {
  // Only here: a store that is alone neither waits for libp2p nor holds it in memory.
  const { startCluster } = await import("./net/mod.ts");
  const node = await startCluster({ dir, config: cluster!, limits: limitsOf(values), environment, log });
  return {
    ...{ store: node.store, peerId: node.peerId, created: node.created, bounds: node.bounds },
    bucketCount: cluster!.bucketCount,
    handOver: () => node.handOver(),
    close: () => node.close(),
  };
}

function limitsOf(values: Options["values"]) {
  return {
    journalBytes: values["journal.size_bytes"],
    cacheBytes: values["cache.capacity_bytes"],
    headBytes: values["cache.heads_bytes"],
    filterBytes: values["cache.filters_bytes"],
    reserveBytes: values["disk.reserve_bytes"],
  };
}

async function check(dir: string): Promise<End> {
  const found = await checkFolder({
    dir,
    onProgress: (doneBytes, totalBytes) => post({ type: "progress", doneBytes, totalBytes }),
  });
  const lines = found.problems.map(({ file, offset, reason }) => `${file} at offset ${offset}: ${reason}`);
  const counts = `segments ${found.segments}, frames ${found.frames}, events ${found.events}`;
  const verdict = `problems ${found.problems.length}`;
  await print([...lines, ...found.notes, `${counts}, ${verdict}`].map((line) => line + "\n").join(""));
  return { exit: found.problems.length === 0 ? "done" : "damaged" };
}

async function dump(command: Command & { name: "dump" }, log: Log): Promise<End> {
  // Over the folder, not in it: what a start would write stays in memory, and no room for a journal is made there.
  const disk = new OverlayDisk(systemDisk);
  const environment = systemEnvironment(fatal);
  await using database = await openDatabase({
    ...{ dir: command.dir, disk, environment, log },
    journalBytes: 0,
    reserveBytes: 0,
  });
  const { partition, stream, partitionKey } = command;
  const scans = stream !== undefined
    ? [database.readStream(stream, partitionKey === undefined ? {} : { partitionKey })]
    : partition !== undefined
    ? [database.readPartition(partition)]
    : Array.from({ length: database.partitionCount }, (_, one) => database.readPartition(one));
  let text = "";
  try {
    for (const scan of scans) {
      for await (const page of scan.pages()) {
        for (const event of page) text += dumpLine(event);
        if (text.length < DUMP_CHARS_MAX) continue;
        await print(text);
        text = "";
      }
    }
    await print(text);
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error; // `| head` has seen enough.
  }
  return { exit: "done" };
}

async function repair({ dir, to }: Command & { name: "repair" }, { values, given }: Options, log: Log): Promise<End> {
  const report = await repairFolder({
    ...{ dir, to, log, environment: systemEnvironment(fatal), journalBytes: values["journal.size_bytes"] },
    partitionCount: given.has("partition.count") ? values["partition.count"] : undefined,
    lineOf: dumpLine,
    onProgress: (doneBytes, totalBytes) => post({ type: "progress", doneBytes, totalBytes }),
  });
  await print(repairLines(report));
  return { exit: isWhole(report) ? "done" : "damaged" };
}

/** How the transport's own words begin, when it cannot listen. */
const FOR_NODES = "Cannot listen for other nodes";

/** What to tell of an error, in one line, and how to end for it. */
function explain(error: unknown, { options, command }: Start): { exit: Exit; message: string } {
  const message = error instanceof Error ? error.message : String(error);
  const code = (error as { code?: string }).code;
  const { dir } = command;
  const written = command.name === "repair" ? command.to : dir;
  if (error instanceof FolderInUse) return { exit: "inUse", message };
  if (error instanceof Damaged) return { exit: "damaged", message };
  if (error instanceof FolderMismatch) return { exit: "mismatch", message };
  if (error instanceof InvalidArgument || error instanceof NoSuchPartition) return { exit: "usage", message };
  if (error instanceof Deno.errors.AddrInUse && message.startsWith(FOR_NODES)) return { exit: "unavailable", message };
  if (error instanceof Deno.errors.AddrInUse || error instanceof Deno.errors.AddrNotAvailable) {
    const address = formatAddress(options.values["network.client_address"]);
    const why = error instanceof Deno.errors.AddrInUse
      ? "another program listens there"
      : "this machine does not have it";
    return { exit: "unavailable", message: `Cannot listen on ${address}: ${why}` };
  }
  if (error instanceof Deno.errors.NotCapable) return { exit: "denied", message: `Deno refuses: ${message}` };
  if (error instanceof DiskFull || error instanceof NoSpace || code === "ENOSPC" || code === "EDQUOT") {
    return { exit: "cannotCreate", message: `The data folder ${written} has no room: ${message}` };
  }
  if (error instanceof Deno.errors.PermissionDenied || code === "EACCES" || code === "EPERM" || code === "EROFS") {
    return { exit: "cannotCreate", message: `The data folder ${written} cannot be written: ${message}` };
  }
  if (error instanceof TooFewFiles || code === "EMFILE" || code === "ENFILE") {
    return { exit: "tooFewFiles", message: `Too few files may be open at a time (ulimit -n): ${message}` };
  }
  if (code === "EIO") return { exit: "disk", message };
  return {
    exit: "internal",
    message: `Cannot ${command.name} ${dir}: ${error instanceof Error ? error.stack : message}`,
  };
}

const inMiB = (bytes: number) => Math.round(bytes / 2 ** 20);

function fatal(reason: Error): never {
  const cause = reason.cause instanceof Error ? `: ${reason.cause.message}` : "";
  post({ type: "fatal", message: reason.message + cause });
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

function post(message: FromWorker): void {
  scope.postMessage(message);
}

async function print(text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  // Not the synchronous one: a reader that pauses must not stop this thread.
  for (let done = 0; done < bytes.length;) done += await Deno.stdout.write(bytes.subarray(done));
}

/** Facts as they can cross to main: errors as their message, and nothing that cannot be cloned. */
function plain(facts: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(facts).map(([name, value]) => [
      name,
      value instanceof Error
        ? value.message
        : ["string", "number", "boolean"].includes(typeof value) || value === null
        ? value
        : JSON.stringify(value) ?? String(value),
    ]),
  );
}
