/**
 * The one table of settings, and where their values come from, the strongest first:
 *
 *     flags                 --partition-count 64, --partition-count=64, or a short one: -d FOLDER
 *     environment           ESKER_PARTITION__COUNT=64    two underscores stand for the dot
 *     a TOML file           [partition] count = 64       named by -c, else ./esker.toml if there is one
 *     the default
 *
 * Flags, names in the environment, the file's keys, the ranges and the help text all follow from the table. All that
 * is wrong is told at once. A key that nobody knows is an error, so that a slip of the pen never passes for a setting;
 * a key of SierraDB that means nothing here is a warning, so that its files can be kept.
 *
 * Nothing here touches the system: arguments, environment and files are handed in.
 *
 * @module
 */
import { isIPv4, isIPv6 } from "node:net";
import { parseArgs } from "node:util";
import { parse as parseToml, TomlError } from "npm:smol-toml@1.9.1";
import { EXIT_CODES } from "./program/exit_codes.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

/** Every setting: its form, its default, one line of help. The names are SierraDB's where the meaning is the same. */
export const SETTINGS = {
  "dir": text("FOLDER", "./data", "the data folder; made if missing", { short: "d" }),
  "log": choice(["debug", "info", "warn", "error"], "info", "what is logged: this and what is graver", { short: "l" }),
  "network.client_address": address("127.0.0.1:9090", "where Redis clients connect", { flag: "client-address" }),
  "network.protected_mode": toggle(true, "refuse to listen to other machines: there are no passwords yet"),
  "http.address": address("127.0.0.1:9091", "for HTTP; nothing listens there yet", { flag: "http-address" }),
  "network.cluster_address": address("127.0.0.1:9092", "where a node listens for others, if not at its first address", {
    flag: "cluster-address",
    multiaddr: true,
  }),
  "network.mdns": toggle(false, "find other nodes by multicast; nothing does yet", { flag: "mdns" }),
  "partition.count": whole(1, 65_535, 32, "shards of order; fixed when the folder is made"),
  "bucket.count": whole(1, 65_535, 4, "logs, at most one a partition; fixed when the folder is made"),
  "segment.size_bytes": bytes(128 * KIB, 4 * GIB - 1, 256 * MIB, "a log's file; fixed when the folder is made"),
  "journal.size_bytes": bytes(64 * KIB, GIB, 64 * MIB, "one of the journal's two files"),
  "disk.reserve_bytes": bytes(0, 1024 * GIB, 64 * MIB, "appends are refused when less of the disk is free"),
  "cache.capacity_bytes": bytes(MIB, 1024 * GIB, 32 * MIB, "memory for blocks of the index files"),
  "cache.heads_bytes": bytes(0, 1024 * GIB, 96 * MIB, "memory for the heads of streams, 24 bytes each"),
  "cache.filters_bytes": bytes(0, 1024 * GIB, 64 * MIB, "memory for filters: 12 bits a stream, 10 an id of chance"),
  "append.strict_versioning": toggle(false, "refuse appends whose expected version is any or exists"),
  "resp.initial_protocol": choice([2, 3], 2, "RESP version of a link before its HELLO"),
  "resp.command_bytes_max": bytes(64 * KIB, 64 * MIB, 64 * MIB, "the largest command, and so transaction"),
  "resp.words_max": whole(16, 16 * MIB, MIB, "words in a command"),
  "resp.nesting_max": whole(1, 64, 8, "arrays in arrays in a command"),
  "resp.clients_max": whole(1, 100_000, 10_000, "connections at a time"),
  "resp.output_bytes_max": bytes(16 * KIB, GIB, 512 * KIB, "replies that wait for a client to read them"),
  "resp.input_bytes_max": bytes(MIB, 1024 * GIB, 256 * MIB, "unanswered large commands of all clients together"),
  "shutdown.timeout_ms": whole(1, 3_600_000, 10_000, "how long a stop may wait for what is in flight"),
  "node.count": whole(1, 65_535, 1, "nodes of the cluster, as cluster.json says", { short: "n" }),
  "node.index": whole(0, 65_534, 0, "which of them this is, as cluster.json says", { short: "i" }),
  "replication.factor": whole(1, 12, 1, "copies of an event, as cluster.json says; cluster init: 3"),
} satisfies Record<string, Setting<unknown>>;

export type Key = keyof typeof SETTINGS;
export type Values = { readonly [K in Key]: (typeof SETTINGS)[K] extends Setting<infer T> ? T : never };

export interface Options {
  readonly values: Values;
  /** What somebody asked for. The data folder has its own word on some of the others. */
  readonly given: ReadonlySet<Key>;
}

export interface Address {
  readonly hostname: string;
  readonly port: number;
}

export type Command =
  | { readonly name: "help" | "version" }
  | { readonly name: "serve" | "check"; readonly dir: string }
  | { readonly name: "permissions"; readonly dir: string }
  | { readonly name: "repair"; readonly dir: string; readonly to: string }
  | ClusterInit
  | {
    readonly name: "cluster demo";
    /** Left out: a temporary one. */
    readonly dir?: string;
  }
  | {
    readonly name: "dump";
    readonly dir: string;
    readonly partition?: number;
    readonly stream?: string;
    readonly partitionKey?: string;
  };

/** Makes the folders of a new cluster. */
export interface ClusterInit {
  readonly name: "cluster init";
  /** The folder to make, with one for each node in it. */
  readonly dir: string;
  /** Where each node listens for the others. */
  readonly nodes: readonly Address[];
  /** Where each node listens for clients. */
  readonly clients: readonly Address[];
  /** The folder of a store that was alone, which becomes node 0. */
  readonly adopt?: string;
}

/** What the folder of a node says of settings. */
export interface NodeSettings {
  readonly dir: string;
  readonly node: number;
  readonly nodeCount: number;
  readonly replicationFactor: number;
  readonly partitionCount: number;
  readonly bucketCount: number;
  readonly segmentBytes: number;
  /** `HOST:PORT` */
  readonly client: string;
}

/** Where values come from, handed in. */
export interface Sources {
  readonly args: readonly string[];
  env(name: string): string | undefined;
  /** The text of a file, null when there is none. Throws when it cannot be read. `named`: somebody asked for this one. */
  file(path: string, named: boolean): string | null;
}

export interface Reading {
  readonly command: Command;
  readonly options: Options;
  /** The settings file that was read, if any. */
  readonly configFile?: string;
  /** When there is one, `command` and `options` are not to be used. */
  readonly problems: readonly string[];
  readonly warnings: readonly string[];
}

/** One setting. `read` takes a flag's or variable's text, or what stood in the file, and throws `Unfit`. */
interface Setting<T> {
  readonly form: string;
  readonly standard: T;
  readonly help: string;
  readonly read: (raw: unknown) => T;
  readonly short?: string;
  /** A flag beside the one that follows from the key. */
  readonly flag?: string;
}

/** A value that a setting cannot have; the message says what is needed. */
class Unfit extends Error {}

const DEFAULT_FILE = "./esker.toml";

/** SierraDB's keys that mean nothing here, and why. Warned of, not refused. */
const FOREIGN: readonly (readonly [pattern: RegExp, why: string])[] = [
  [/^threads\./, "Esker has no thread pools"],
  [/^sync\./, "Esker syncs before it answers, always"],
  [/^heartbeat\./, "Esker's are fixed"],
  [/^(bucket|partition)\.ids$/, "which node holds which follows from their numbers"],
  [/^replication\.(buffer_size|buffer_timeout_ms|catchup_timeout_ms)$/, "Esker's are fixed"],
  [/^network\.cluster_enabled$/, "a node of a cluster is a folder with a cluster.json"],
  [/^segment\.compression$/, "segments are not compressed"],
];

/** Of the environment only names can be asked for, so these are. */
const FOREIGN_NAMES = [
  ...["threads.read", "threads.write", "sync.interval_ms", "sync.idle_interval_ms", "sync.max_batch_size"],
  ...["sync.min_bytes", "heartbeat.interval_ms", "heartbeat.timeout_ms", "bucket.ids", "partition.ids"],
  ...["replication.buffer_size", "replication.buffer_timeout_ms", "replication.catchup_timeout_ms"],
  ...["network.cluster_enabled", "segment.compression"],
];

/** Flags that are no settings. */
const OTHER_FLAGS: Record<string, { form?: string; short?: string; help: string; command?: string }> = {
  "config": { form: "FILE", short: "c", help: `settings in TOML; ${DEFAULT_FILE} if it is there` },
  "help": { short: "h", help: "this text" },
  "version": { short: "V", help: "the version" },
  "to": { form: "FOLDER", help: "the new folder: missing, or empty", command: "repair" },
  "partition": { form: "N", help: "only the events of this partition", command: "dump" },
  "stream": { form: "ID", help: "only the events of this stream", command: "dump" },
  "partition-key": { form: "KEY", help: "the stream's key, if not its default one", command: "dump" },
  "nodes": {
    form: "HOST:PORT,…",
    help: "where each node listens for the others",
    command: "cluster init",
  },
  "clients": {
    form: "HOST:PORT,…",
    help: "where each node listens for clients; default 127.0.0.1:9090, 9100 … on one host",
    command: "cluster init",
  },
  "adopt": { form: "FOLDER", help: "a store that was alone, which becomes node 0", command: "cluster init" },
};

const COMMANDS: Record<string, { usage: string; help: string; words: number }> = {
  serve: { usage: "esker [serve]", help: "run the store (the default)", words: 0 },
  check: { usage: "esker check [FOLDER]", help: "verify every frame, chain and index of a data folder", words: 1 },
  repair: {
    usage: "esker repair [FOLDER] --to OTHER",
    help: "make a new data folder of all that can be proved",
    words: 1,
  },
  dump: { usage: "esker dump [FOLDER]", help: "print its events as lines of JSON", words: 1 },
  permissions: { usage: "esker permissions", help: "print what the present settings need of Deno", words: 0 },
  "cluster init": {
    usage: "esker cluster init --dir FOLDER --nodes A,B,C",
    help: "make the folders of a cluster's nodes",
    words: 0,
  },
  "cluster demo": {
    usage: "esker cluster demo [--dir FOLDER]",
    help: "run three nodes on this machine, to try a cluster",
    words: 0,
  },
};
/** The first word of commands that have two. */
const CLUSTER = "cluster";

const KEYS = Object.keys(SETTINGS) as Key[];

/** Every flag's name, and the key or other flag that it means. */
const FLAGS = new Map<string, Key>(
  KEYS.flatMap((key) => [flagOf(key), settingOf(key).flag].flatMap((name) => name === undefined ? [] : [[name, key]])),
);

/** Reads the settings from all their sources. */
export function readOptions(sources: Sources): Reading {
  const problems: string[] = [];
  const warnings: string[] = [];
  const flags = readFlags(sources.args, problems, warnings);
  const found = new Map<Key, unknown>();
  // The weakest first, so that a stronger source writes over it.
  const path = flags.others.get("config") ?? sources.env("ESKER_CONFIG");
  const configFile = readFile(path, sources, found, problems, warnings);
  readEnvironment(sources, found, problems, warnings);
  for (const [key, { name, value }] of flags.settings) take(key, value, name, found, problems);

  const values = Object.fromEntries(
    KEYS.map((key) => [key, found.has(key) ? found.get(key) : settingOf(key).standard]),
  ) as Values;
  const options: Options = { values, given: new Set(found.keys()) };
  check(options, problems, warnings);
  const command = readCommand(flags, values, problems);
  // Who asks for help is to get it, whatever else stands there.
  const asksOnly = command.name === "help" || command.name === "version";
  return { command, options, warnings, problems: asksOnly ? [] : problems, ...(configFile && { configFile }) };
}

/** Whether only this machine can reach an address. */
export function isLoopback({ hostname }: Address): boolean {
  return hostname === "localhost" || hostname === "::1" || isIPv4(hostname) && hostname.startsWith("127.");
}

/** `host:port`, with the brackets that an IPv6 address needs. */
export function formatAddress({ hostname, port }: Address): string {
  return isIPv6(hostname) ? `[${hostname}]:${port}` : `${hostname}:${port}`;
}

/** All settings as text, by key, as `CONFIG GET` shows them. */
export function settingsAsText(values: Values): [string, string][] {
  return KEYS.map((key) => [key, textOf(values[key])]);
}

/** The name of a setting in the environment. */
export function variableOf(key: string): string {
  return `ESKER_${key.toUpperCase().replaceAll(".", "__")}`;
}

/** What `--help` prints. */
export function helpText(version: string): string {
  const commands = Object.values(COMMANDS).map(({ usage, help }) => [usage, help] as const);
  const others = Object.entries(OTHER_FLAGS).map(([name, { form = "", short, help, command }]) =>
    [
      `${short === undefined ? "   " : `-${short},`} --${name} ${form}`.trimEnd(),
      command === undefined ? help : `${command}: ${help}`,
    ] as const
  );
  const settings = KEYS.flatMap((key) => {
    const { short, flag, form, standard, help } = settingOf(key);
    const name = `${short === undefined ? "   " : `-${short},`} --${flag ?? flagOf(key)}`;
    return [[name, help] as const, ["", `${key}: ${form}; default ${textOf(standard)}`] as const];
  });
  const codes = Object.values(EXIT_CODES).map(({ code, help }) => [String(code), help] as const);
  return [
    `Esker ${version}, an event store that speaks Redis's protocol.`,
    columns("Commands", commands),
    columns("Flags", others),
    columns("Settings", settings),
    "Each setting is also a flag by its whole name (--network-client-address), a variable\n" +
    "(ESKER_NETWORK__CLIENT_ADDRESS) and a key in the file ([network] client_address = …).\n" +
    "Flags go before the environment, the environment before the file. Bytes take KiB, MiB, GiB.",
    columns("Exit codes", codes),
  ].join("\n\n");
}

// The kinds of settings.

type Names = { short?: string; flag?: string };

function text(form: string, standard: string, help: string, names: Names = {}): Setting<string> {
  return {
    ...{ form, standard, help, ...names },
    read(raw) {
      if (typeof raw === "string" && raw !== "") return raw;
      throw new Unfit("must be text, and not empty");
    },
  };
}

function toggle(standard: boolean, help: string, names: Names = {}): Setting<boolean> {
  return {
    ...{ form: "true or false", standard, help, ...names },
    read(raw) {
      const value = new Map<unknown, boolean>([[true, true], ["true", true], ["1", true], [false, false]])
        .set("false", false).set("0", false).get(typeof raw === "string" ? raw.toLowerCase() : raw);
      if (value === undefined) throw new Unfit("must be true or false");
      return value;
    },
  };
}

function choice<const T extends string | number>(
  from: readonly T[],
  standard: T,
  help: string,
  names: Names = {},
): Setting<T> {
  const form = `${from.slice(0, -1).join(", ")} or ${from.at(-1)}`;
  return {
    ...{ form, standard, help, ...names },
    read(raw) {
      const value = from.find((one) => String(one) === String(raw).toLowerCase());
      if (value === undefined) throw new Unfit(`must be ${form}`);
      return value;
    },
  };
}

function whole(min: number, max: number, standard: number, help: string, names: Names = {}): Setting<number> {
  return {
    ...{ form: `${min} to ${max}`, standard, help, ...names },
    read(raw) {
      const value = typeof raw === "string" && /^\d+$/.test(raw) ? Number(raw) : raw;
      if (typeof value === "number" && Number.isSafeInteger(value) && value >= min && value <= max) return value;
      throw new Unfit(`must be a whole number from ${min} to ${max}`);
    },
  };
}

function bytes(min: number, max: number, standard: number, help: string): Setting<number> {
  const form = `${formatBytes(min)} to ${formatBytes(max)}`;
  return {
    ...{ form, standard, help },
    read(raw) {
      const match = typeof raw === "string" ? /^(\d+) ?(|KiB|MiB|GiB)$/i.exec(raw) : null;
      const unit = { "": 1, kib: KIB, mib: MIB, gib: GIB }[match?.[2]?.toLowerCase() ?? ""]!;
      const value = match === null ? raw : Number(match[1]) * unit;
      if (typeof value === "number" && Number.isSafeInteger(value) && value >= min && value <= max) return value;
      throw new Unfit(`must be bytes, ${form}`);
    },
  };
}

function address(standard: string, help: string, names: Names & { multiaddr?: boolean } = {}): Setting<Address> {
  const { multiaddr = false, ...others } = names;
  const form = multiaddr ? "HOST:PORT or /ip4/HOST/tcp/PORT" : "HOST:PORT";
  const read = (raw: unknown): Address => {
    const match = typeof raw !== "string" ? null : /^\[([0-9a-f:.]+)\]:(\d+)$/i.exec(raw) ??
      /^([a-z0-9.-]+):(\d+)$/i.exec(raw) ??
      (multiaddr ? /^\/(?:ip4|ip6|dns4|dns6|dns)\/([a-z0-9:.-]+)\/tcp\/(\d+)$/i.exec(raw) : null);
    const hostname = match?.[1] ?? "";
    const port = Number(match?.[2]);
    const fits = hostname.includes(":") ? isIPv6(hostname) : !/^[\d.]*$/.test(hostname) || isIPv4(hostname);
    if (match === null || !fits || port > 65_535) throw new Unfit(`must be ${form}, a port is at most 65535`);
    return { hostname, port };
  };
  return { ...{ form, standard: read(standard), help, ...others }, read };
}

// The sources.

interface Flags {
  words: string[];
  settings: Map<Key, { name: string; value: unknown }>;
  others: Map<string, string>;
}

function readFlags(args: readonly string[], problems: string[], warnings: string[]): Flags {
  const config: Record<string, { type: "string" | "boolean"; short?: string }> = {};
  for (const [name, key] of FLAGS) {
    const { short, standard } = settingOf(key);
    config[name] = { type: typeof standard === "boolean" ? "boolean" : "string", ...(short && { short }) };
    if (short !== undefined && name !== flagOf(key)) delete config[name]!.short; // A short name stands once.
  }
  for (const [name, { form, short }] of Object.entries(OTHER_FLAGS)) {
    config[name] = { type: form === undefined ? "boolean" : "string", ...(short && { short }) };
  }
  const { tokens } = parseArgs({
    args: args.map(withDashes),
    options: config,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const flags: Flags = { words: [], settings: new Map(), others: new Map() };
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i]!;
    if (token.kind === "positional") flags.words.push(token.value);
    if (token.kind !== "option") continue;
    const { name, rawName } = token;
    const known = config[name];
    if (known === undefined) {
      const foreign = foreignKey(name);
      if (foreign !== undefined) warnings.push(`${rawName} is ignored: ${foreign}`);
      else problems.push(`There is no flag ${rawName}${didYouMean(name, Object.keys(config), "--")}`);
      // The word after it is its value, one must think, unless it is a command.
      const next = tokens[i + 1];
      if (token.inlineValue === undefined && next?.kind === "positional" && !(next.value in COMMANDS)) i++;
      continue;
    }
    let value: string | undefined = token.value;
    if (known.type === "boolean" && value === undefined) {
      const next = tokens[i + 1];
      value = "true";
      // `--mdns false` is how SierraDB has it; a following word that is neither is none of ours.
      if (name in OTHER_FLAGS === false && next?.kind === "positional" && /^(true|false)$/i.test(next.value)) {
        value = next.value;
        i++;
      }
    }
    if (value === undefined || (!token.inlineValue && known.type === "string" && /^-./.test(value))) {
      problems.push(
        `${rawName} needs a value${value === undefined ? "" : `: found ${value}; ${rawName}=${value} if it is meant`}`,
      );
      continue;
    }
    const key = FLAGS.get(name);
    if (key === undefined) flags.others.set(name, value);
    else flags.settings.set(key, { name: rawName, value });
  }
  return flags;
}

/** `--append_strict.versioning` is as good as `--append-strict-versioning`. */
function withDashes(arg: string): string {
  const [name, ...rest] = arg.split("=");
  return arg.startsWith("--") ? [name!.replaceAll(/[._]/g, "-"), ...rest].join("=") : arg;
}

function readFile(
  asked: string | undefined,
  sources: Sources,
  found: Map<Key, unknown>,
  problems: string[],
  warnings: string[],
): string | undefined {
  const path = asked ?? DEFAULT_FILE;
  let table: Record<string, unknown>;
  try {
    const content = sources.file(path, asked !== undefined);
    if (content === null) {
      if (asked !== undefined) problems.push(`There is no settings file ${path}`);
      return undefined;
    }
    table = parseToml(content);
  } catch (error) {
    const why = (error as Error).message.split("\n")[0];
    const where = error instanceof TomlError ? `, line ${error.line}, column ${error.column}` : "";
    problems.push(`The settings file ${path} cannot be read${where}: ${why}`);
    return undefined;
  }
  for (const [name, value] of flatten(table)) {
    const foreign = foreignKey(name);
    if (name in SETTINGS) take(name as Key, value, `${name} in ${path}`, found, problems);
    else if (name === "nodes") problems.push(`nodes in ${path}: ${IN_CLUSTER_JSON}`);
    else if (foreign !== undefined) warnings.push(`${name} in ${path} is ignored: ${foreign}`);
    else problems.push(`There is no setting ${name} (in ${path})${didYouMean(name, KEYS, "")}`);
  }
  return path;
}

/** Tables in tables as dotted keys. */
function* flatten(table: Record<string, unknown>, before = ""): Generator<[string, unknown]> {
  for (const [name, value] of Object.entries(table)) {
    if (typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date)) {
      yield* flatten(value as Record<string, unknown>, `${before}${name}.`);
    } else {
      yield [before + name, value];
    }
  }
}

/**
 * Asks for each name. Reading all of the environment would need a permission for all of it, and names that only begin
 * like ours are not always meant for us: Kubernetes sets ESKER_PORT for a service called esker.
 */
function readEnvironment(sources: Sources, found: Map<Key, unknown>, problems: string[], warnings: string[]): void {
  for (const key of KEYS) {
    const name = variableOf(key);
    const value = sources.env(name);
    if (value !== undefined) take(key, value, name, found, problems);
    const slip = name.replace("__", "_");
    if (slip !== name && sources.env(slip) !== undefined) {
      problems.push(`There is no variable ${slip}: is ${name} meant?`);
    }
  }
  for (const key of FOREIGN_NAMES) {
    const name = variableOf(key);
    if (sources.env(name) !== undefined) warnings.push(`${name} is ignored: ${foreignKey(key)}`);
  }
}

function take(key: Key, raw: unknown, name: string, found: Map<Key, unknown>, problems: string[]): void {
  try {
    found.set(key, settingOf(key).read(raw));
  } catch (error) {
    if (!(error instanceof Unfit)) throw error;
    problems.push(`${name} ${error.message}: found ${JSON.stringify(raw)}`);
  }
}

function readCommand(flags: Flags, values: Values, problems: string[]): Command {
  if (flags.others.get("help") === "true") return { name: "help" };
  if (flags.others.get("version") === "true") return { name: "version" };
  const twoWords = flags.words[0] === CLUSTER && flags.words.length > 1;
  const [name = "serve", ...words] = twoWords
    ? [flags.words.slice(0, 2).join(" "), ...flags.words.slice(2)]
    : flags.words;
  const command = COMMANDS[name];
  if (command === undefined) {
    const meant = name === CLUSTER
      ? ": cluster init or cluster demo is meant"
      : didYouMean(name, Object.keys(COMMANDS), "");
    problems.push(`There is no command ${name}${meant}`);
    return { name: "serve", dir: values.dir };
  }
  if (words.length > command.words) {
    problems.push(`${name} takes ${command.words === 0 ? "no word" : "one folder"}: found ${words.join(" ")}`);
  }
  for (const [flag, { command: only }] of Object.entries(OTHER_FLAGS)) {
    if (only !== undefined && flags.others.has(flag) && only !== name) problems.push(`--${flag} is for ${only} only`);
  }
  const dir = words[0] ?? values.dir;
  if (name === "dump") {
    const partition = flags.others.get("partition");
    const stream = flags.others.get("stream");
    const partitionKey = flags.others.get("partition-key");
    if (partition !== undefined && stream !== undefined) problems.push("--partition and --stream exclude each other");
    if (partitionKey !== undefined && stream === undefined) problems.push("--partition-key is for --stream only");
    if (partition !== undefined && !/^\d{1,5}$/.test(partition)) {
      problems.push(`--partition must be a whole number: found ${JSON.stringify(partition)}`);
    }
    return {
      ...{ name, dir },
      ...(partition !== undefined && { partition: Number(partition) }),
      ...(stream !== undefined && { stream }),
      ...(partitionKey !== undefined && { partitionKey }),
    };
  }
  if (name === "repair") {
    const to = flags.others.get("to");
    if (to === undefined || to === "") problems.push("repair needs --to: where to make the new folder");
    return { name, dir, to: to ?? "" };
  }
  const ownDir = flags.settings.get("dir")?.value as string | undefined;
  // Not the folder of the settings or the environment: that is one of a store which is there already.
  if (name === "cluster demo") return { name, ...(ownDir !== undefined && { dir: ownDir }) };
  if (name === "cluster init") return readClusterInit(flags, ownDir, problems);
  return { name: name as "serve" | "check" | "permissions", dir };
}

function readClusterInit(flags: Flags, dir: string | undefined, problems: string[]): ClusterInit {
  if (dir === undefined) problems.push("cluster init needs --dir: the folder to make, with one for each node in it");
  const list = (flag: string): Address[] | undefined => {
    const text = flags.others.get(flag);
    if (text === undefined) return undefined;
    return text.split(",").flatMap((one) => {
      try {
        return [SETTINGS["network.client_address"].read(one.trim())];
      } catch (error) {
        problems.push(`--${flag} ${(error as Error).message}: found ${JSON.stringify(one)}`);
        return [];
      }
    });
  };
  const nodes = list("nodes");
  if (nodes === undefined) problems.push("cluster init needs --nodes: HOST:PORT of each, with commas between");
  const clients = list("clients") ?? clientsBeside(nodes ?? []);
  const adopt = flags.others.get("adopt");
  return { name: "cluster init", dir: dir ?? "", nodes: nodes ?? [], clients, ...(adopt !== undefined && { adopt }) };
}

/** A place for clients for each node: nodes that share a host need different ports. */
function clientsBeside(nodes: readonly Address[]): Address[] {
  const { hostname, port } = SETTINGS["network.client_address"].standard;
  const counts = new Map<string, number>();
  return nodes.map((node) => {
    const earlier = counts.get(node.hostname) ?? 0;
    counts.set(node.hostname, earlier + 1);
    return { hostname, port: port + 10 * earlier };
  });
}

const IN_CLUSTER_JSON = "nodes are named in cluster.json, which esker cluster init makes";

/** What no single value can get wrong. */
function check({ values, given }: Options, problems: string[], warnings: string[]): void {
  if (given.has("node.count") && values["node.index"] >= values["node.count"]) {
    problems.push(`node.index ${values["node.index"]} must be below node.count ${values["node.count"]}`);
  }
  // Only what was asked for: a folder may have been made with fewer partitions than there are buckets by default.
  if (given.has("bucket.count") && given.has("partition.count") && values["bucket.count"] > values["partition.count"]) {
    problems.push(
      `bucket.count ${values["bucket.count"]} must be at most partition.count ${values["partition.count"]}`,
    );
  }
  requireProtected(values["network.client_address"], "network.client_address", values, problems);
  if (given.has("http.address")) warnings.push("http.address: nothing listens there yet");
  if (values["network.mdns"]) warnings.push("network.mdns: nothing is looked for, cluster.json says where nodes are");
}

function requireProtected(client: Address, name: string, values: Values, problems: string[]): void {
  if (!values["network.protected_mode"] || isLoopback(client)) return;
  problems.push(
    `${name} ${formatAddress(client)} can be reached from other machines, and there are no passwords yet: ` +
      "use a loopback address, or set network.protected_mode to false",
  );
}

/**
 * The options of a folder that is opened to serve. What nobody asked for is as its cluster.json says; what somebody asked
 * for must agree with that. `node` is null for a folder of a store that is alone.
 */
export function optionsOfFolder(
  options: Options,
  node: NodeSettings | null,
): { options: Options; problems: string[]; warnings: string[] } {
  const { values, given } = options;
  const problems: string[] = [];
  const warnings: string[] = [];
  if (node === null) {
    for (const [key, alone] of [["node.count", 1], ["node.index", 0], ["replication.factor", 1]] as const) {
      if (values[key] !== alone) {
        problems.push(`${key} ${values[key]}: this folder is no node of a cluster; ${IN_CLUSTER_JSON}`);
      }
    }
    if (given.has("network.cluster_address")) {
      warnings.push("network.cluster_address: this store is alone, nothing listens there");
    }
    return { options, problems, warnings };
  }
  const found = {
    "node.count": node.nodeCount,
    "node.index": node.node,
    "replication.factor": node.replicationFactor,
    "partition.count": node.partitionCount,
    "bucket.count": node.bucketCount,
    "segment.size_bytes": node.segmentBytes,
  };
  for (const [key, value] of Object.entries(found) as [keyof typeof found, number][]) {
    if (given.has(key) && values[key] !== value) {
      problems.push(`${key} ${values[key]}: the cluster.json of ${node.dir} says ${value}`);
    }
  }
  let client = values["network.client_address"];
  if (!given.has("network.client_address")) {
    try {
      client = SETTINGS["network.client_address"].read(node.client);
      requireProtected(client, `The client address of node ${node.node} in cluster.json,`, values, problems);
    } catch (error) {
      problems.push(
        `The client address of node ${node.node} in cluster.json ${(error as Error).message}: ` +
          `found ${JSON.stringify(node.client)}`,
      );
    }
  }
  return { options: { values: { ...values, ...found, "network.client_address": client }, given }, problems, warnings };
}

// Names and words.

function settingOf(key: Key): Setting<unknown> {
  return SETTINGS[key];
}

function flagOf(key: string): string {
  return key.replaceAll(/[._]/g, "-");
}

/** Why a key of SierraDB's means nothing here; undefined if it is none. Takes a flag's name as well. */
function foreignKey(name: string): string | undefined {
  const key = FOREIGN_NAMES.find((one) => flagOf(one) === name) ?? name;
  return FOREIGN.find(([pattern]) => pattern.test(key))?.[1];
}

function didYouMean(name: string, known: readonly string[], before: string): string {
  let nearest = "";
  let least = Infinity;
  for (const one of known) {
    // A key whose last part is right is near, however long its first part is.
    const distance = Math.min(editDistance(name, one), 1 + editDistance(name, one.split(/[.]/).at(-1)!));
    if (distance < least) [nearest, least] = [one, distance];
  }
  return least >= name.length ? "" : `: is ${before}${nearest} meant?`;
}

/** How many letters must be put in, left out or changed to make `b` of `a`. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}

function textOf(value: unknown): string {
  return typeof value === "object" ? formatAddress(value as Address) : String(value);
}

function formatBytes(count: number): string {
  if (count === 0) return "0";
  const [unit, size] = count % GIB === 0
    ? ["GiB", GIB]
    : count % MIB === 0
    ? ["MiB", MIB]
    : count % KIB === 0
    ? ["KiB", KIB]
    : ["", 1];
  return `${count / (size as number)}${unit === "" ? "" : ` ${unit}`}`;
}

function columns(title: string, rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length)) + 2;
  return [`${title}:`, ...rows.map(([left, right]) => `  ${left.padEnd(width)}${right}`)].join("\n");
}
