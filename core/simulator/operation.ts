/**
 * The operations of a story as plain data, made up from a seed.
 *
 * Each operation carries its own small seed and everything else that it needs, and draws nothing from what came before:
 * so others can be left out and it still does the same, which is what lets a story that fails be shrunk. What depends
 * on the store (the version that a writer expects) is said in relation to it and resolved when it is played.
 *
 * A fault is an operation too: most arm the disk, and what comes next runs into them.
 *
 * What a seed stands for is decided here. After a change of it the seeds of testdata/seeds.txt and of testdata/mutations
 * no longer show what they taught. Each repair that a seed is kept for is also a mutation that takes it back:
 * `deno task mutations --only NAME --rounds 1000` finds a new seed.
 *
 * @module
 */
import { Chance } from "../chance.ts";
import { identify } from "../event.ts";
import { partitionHash } from "../placement.ts";
import { formatUuid, newEventId, parseUuid } from "../uuid.ts";

/** How the process dies of a fault. */
export interface Death {
  kind: "kill" | "power cut";
  seed: number;
  /** The power goes again, at these effects of one recovery after another. */
  again: number[];
}

/** Which files a fault at rest hits. */
export type FileClass = "segment" | "journal" | "meta" | "event index" | "stream index" | "partition index" | "heads";

/** One append of an append operation: the `index`-th thing that `seed` makes up. */
export interface Invention {
  seed: number;
  index: number;
}

export type Operation =
  | { kind: "append"; seed: number; count: number; repeats: Invention[] }
  | { kind: "read"; seed: number }
  | { kind: "subscribe"; seed: number }
  | { kind: "restart" }
  /** Another process tries to open the folder. */
  | { kind: "second process" }
  /** After so many effects on the disk, or at once when that is 0. */
  | { kind: "die"; effects: number; death: Death }
  /** So many effects after the journal has begun the `nth` of its files from now. */
  | { kind: "die at a journal header"; nth: number; effects: number; death: Death }
  | { kind: "failing sync"; nth: number; of: FileClass | "any" | "folder"; death: Death }
  | { kind: "failing read"; nth: number; times: number; of: FileClass | "any"; death: Death }
  /** A stretch of a file that cannot be read until it is written anew. */
  | { kind: "bad sector"; seed: number; of: FileClass }
  | { kind: "failing write"; nth: number; shortened: boolean; death: Death }
  | { kind: "short calls"; seed: number; calls: number }
  | { kind: "full disk"; roomBytes: number }
  | { kind: "room on the disk" }
  | { kind: "slow disk"; seed: number; syncs: number; turns: number; of: FileClass | "any" }
  | { kind: "clock"; jumpMs: number; stands: boolean }
  | {
    kind: "damage";
    how: "flip" | "cut" | "lose" | "forge";
    seed: number;
    of: FileClass;
    /** A file of this class, of the same segment, is hit as well. */
    also: FileClass | null;
    /** While the store has the folder open, or when it was closed or has died. */
    when: "open" | "closed" | Death["kind"];
  };

/** What a store is made with. */
export interface Sizes {
  partitionCount: number;
  bucketCount: number;
  segmentBytes: number;
  journalBytes: number;
  cacheBytes: number;
  tailBytes: number | undefined;
  headBytes: number | undefined;
  reserveBytes: number;
}

export interface Story {
  seed: number;
  sizes: Sizes;
  /** What passes on the monotonic clock at a look: a slow one makes the engine wait for syncs elsewhere. */
  lookMs: number;
  operations: readonly Operation[];
}

const PARTITION_COUNT = 8;
const INDEX_CLASSES = ["event index", "stream index", "partition index", "heads"] as const;

/** Fault kinds that one story has or has not: with all of them in each, none would ever be met in peace. */
const FAULTS = [
  "restart",
  "second process",
  "die",
  "die at a journal header",
  "failing sync",
  "failing read",
  "failing write",
  "short calls",
  "full disk",
  "slow disk",
  "clock",
  "index damage",
  "journal damage",
  "damage",
] as const;

/** Sizes so small that segments roll every few appends and the journal changes its file every few batches. */
export function storyOf(seed: number): Story {
  const chance = new Chance(seed);
  const segmentBytes = chance.pick([4096, 4096, 16_384, 100_000]);
  const sizes: Sizes = {
    partitionCount: PARTITION_COUNT,
    bucketCount: chance.pick([1, 2, 2, 4]),
    segmentBytes,
    journalBytes: chance.pick([16 * 1024, 32 * 1024, 128 * 1024]),
    cacheBytes: chance.pick([1, 16_384, 1024 * 1024]),
    tailBytes: chance.pick([0, 2000, 6000, undefined]),
    headBytes: chance.pick([0, 4096, undefined]),
    reserveBytes: chance.pick([0, 6000, segmentBytes / 4]),
  };
  const lookMs = chance.pick([0.1, 0.1, 1]);
  const faults = FAULTS.filter(() => chance.oneIn(3));
  const appended: Invention[] = [];
  const operations: Operation[] = [];
  const append = (countMax: number) => {
    const seed = seedOf(chance);
    const count = chance.between(1, countMax);
    const repeats = Array.from({ length: Math.min(3, appended.length) }, () => chance.pick(appended));
    operations.push({ kind: "append", seed, count, repeats });
    for (let index = 0; index < count; index++) appended.push({ seed, index });
  };
  for (let left = chance.between(5, 40); left > 0; left--) {
    if (faults.length > 0 && chance.oneIn(3)) {
      const fault = faultOf(chance.pick(faults), chance);
      operations.push(fault);
      // A journal header comes with a batch that does not fit any more.
      if (fault.kind === "die at a journal header") { for (let batches = 0; batches < 6; batches++) append(2); }
      continue;
    }
    switch (chance.below(8)) {
      case 0:
        operations.push({ kind: "read", seed: seedOf(chance) });
        break;
      case 1:
        operations.push({ kind: "subscribe", seed: seedOf(chance) });
        break;
      default:
        // Once in a while so many that their batch is larger than a small journal.
        append(chance.pick(chance.oneIn(20) ? [60] : [1, 8]));
    }
  }
  return { seed, sizes, lookMs, operations };
}

function faultOf(kind: typeof FAULTS[number], chance: Chance): Operation {
  switch (kind) {
    case "restart":
    case "second process":
      return { kind };
    case "die":
      return { kind, effects: chance.below(chance.pick([1, 10, 40, 100])), death: deathOf(chance) };
    case "die at a journal header": {
      const death: Death = { kind: "power cut", seed: seedOf(chance), again: againOf(chance) };
      return { kind, nth: chance.between(1, 2), effects: chance.pick([1, 2, 2, 3, 3, 4]), death };
    }
    case "failing sync":
      return {
        kind,
        nth: chance.between(1, chance.pick([1, 6])),
        of: chance.pick(["any", "segment", "journal", "folder"]),
        death: deathOf(chance),
      };
    case "failing read":
      return {
        kind,
        nth: chance.between(1, chance.pick([3, 30])),
        times: chance.pick([1, 1, 2, 20]),
        of: chance.pick(["any", "segment", "journal", ...INDEX_CLASSES]),
        death: deathOf(chance),
      };
    case "failing write":
      return { kind, nth: chance.between(1, 20), shortened: chance.oneIn(2), death: deathOf(chance) };
    case "short calls":
      return { kind, seed: seedOf(chance), calls: chance.between(10, 200) };
    case "full disk":
      return chance.oneIn(3)
        ? { kind: "room on the disk" }
        : { kind, roomBytes: chance.below(chance.pick([8000, 8000, 80_000])) };
    case "slow disk":
      return {
        kind,
        seed: seedOf(chance),
        syncs: chance.between(1, 10),
        turns: chance.pick([50, 400]),
        of: chance.pick(["any", "segment", "journal"]),
      };
    case "clock":
      return {
        kind,
        jumpMs: chance.pick([-1, 1]) * chance.pick([1, 1000, 3_600_000, 40 * 365 * 86_400_000]),
        stands: chance.oneIn(4),
      };
    case "index damage":
      return damageOf(chance, chance.pick(INDEX_CLASSES));
    case "damage":
      if (chance.oneIn(4)) {
        const of = chance.pick(["segment", "segment", "segment", "journal", ...INDEX_CLASSES] as const);
        return { kind: "bad sector", seed: seedOf(chance), of };
      }
      return damageOf(chance, chance.pick(["segment", "segment", "segment", "meta"]));
    case "journal damage":
      return damageOf(chance, "journal");
  }
}

function damageOf(chance: Chance, of: FileClass): Operation {
  const how = chance.pick(["flip", "flip", "cut", "lose"] as const);
  const when = chance.pick(["open", "open", "closed", "closed", "kill", "power cut"] as const);
  const damage = { kind: "damage", how, seed: seedOf(chance), of, also: null, when } as const;
  switch (of) {
    case "meta":
      return { ...damage, when: "closed" }; // Nobody reads it but at a start.
    case "journal":
      return { ...damage, when: chance.pick(["open", "closed", "kill", "kill", "power cut"]) }; // Closed, it is empty.
    case "segment":
      if (when === "closed" && chance.oneIn(3)) return { ...damage, how: "forge" };
      return { ...damage, also: chance.oneIn(when === "open" ? 2 : 4) ? chance.pick(INDEX_CLASSES) : null };
    default:
      return damage;
  }
}

function deathOf(chance: Chance): Death {
  return { kind: chance.pick(["kill", "power cut", "power cut"]), seed: seedOf(chance), again: againOf(chance) };
}

/** Once in three times the power goes in the middle of recovery as well. */
function againOf(chance: Chance): number[] {
  const again: number[] = [];
  while (chance.oneIn(3)) again.push(chance.between(1, 30));
  return again;
}

function seedOf(chance: Chance): number {
  return chance.below(2 ** 31);
}

/** A seed for a part of what another seed stands for. */
export function partOf(seed: number, part: number): number {
  const mixed = Math.imul(seed ^ Math.imul(part + 1, 0x9e3779b1), 0x85ebca6b);
  return (mixed ^ mixed >>> 15) >>> 1;
}

// ---- What an append operation appends ------------------------------------------------------------------------------

/** What a writer expects: as the wire says it, or a number counted from the present version. */
export type Expectation = "any" | "exists" | "empty" | { fromCurrent: number };

export interface PlannedEvent {
  streamId: string;
  name: string;
  eventId: string | undefined;
  expects: Expectation;
  timestamp: number | undefined;
  payload: Uint8Array;
  metadata: Uint8Array | undefined;
}

export interface PlannedTransaction {
  partitionKey: string | undefined;
  events: PlannedEvent[];
}

/** Two keys of one partition, one of another partition, one of another bucket for every usual count of buckets. */
export const KEYS = [
  "550e8400-e29b-41d4-a716-446655440000",
  "550e8401-e29b-41d4-a716-446655440000",
  "550e8402-e29b-41d4-a716-c46655440000",
  "550e8403-e29b-41d4-a717-046655440000",
];
export const STREAM_IDS = ["a", "b", "c", "d"];
/** About three quarters of the smallest segments: one fits, two do not. Most payloads are much smaller. */
export const LARGE_PAYLOAD_BYTES = 3000;

/** The appends of an operation: new ones, and repetitions of others, of this operation too. */
export function planned({ seed, count, repeats }: Operation & { kind: "append" }): PlannedTransaction[] {
  return Array.from({ length: count }, (_, index) => {
    const chance = new Chance(partOf(seed, 1000 + index));
    const own = Array.from({ length: index }, (_, earlier) => ({ seed, index: earlier }));
    const known = [...repeats, ...own.slice(-1)];
    if (known.length === 0 || !chance.oneIn(5)) return invented({ seed, index });
    return repetition(invented(chance.pick(known)), chance);
  });
}

function invented({ seed, index }: Invention): PlannedTransaction {
  const chance = new Chance(partOf(seed, index));
  const partitionKey = chance.oneIn(3) ? undefined : chance.pick(KEYS);
  const only = chance.pick(STREAM_IDS);
  const events: PlannedEvent[] = [];
  for (let count = chance.oneIn(3) ? chance.between(2, 5) : 1; count > 0; count--) {
    const streamId = partitionKey === undefined ? only : chance.pick(STREAM_IDS);
    events.push({
      streamId,
      name: chance.pick(["", "Created", "Happened", "Ünïcode"]),
      eventId: chance.oneIn(4) ? undefined : newId(partitionKey, streamId, chance),
      expects: expectation(chance),
      timestamp: chance.oneIn(2) ? chance.below(1e12) : undefined,
      payload: chance.bytes(chance.oneIn(12) ? LARGE_PAYLOAD_BYTES : chance.below(300)),
      metadata: chance.oneIn(3) ? chance.bytes(chance.below(40)) : undefined,
    });
  }
  return { partitionKey, events };
}

/** What was made up before: the same, or changed in what a retry may change, or in what it may not. */
function repetition({ partitionKey, events }: PlannedTransaction, chance: Chance): PlannedTransaction {
  const at = chance.below(events.length);
  const changed = (change: Partial<PlannedEvent>) => ({
    partitionKey,
    events: events.map((event, i) => i === at ? { ...event, ...change } : event),
  });
  switch (chance.below(9)) {
    case 0:
      return changed({ expects: { fromCurrent: chance.between(-3, 3) }, timestamp: 5 });
    case 1:
      return changed({ payload: chance.bytes(3) });
    case 2:
      return { partitionKey, events: events.slice(at) };
    case 3:
      return changed({ eventId: undefined });
    case 4:
      return changed({ name: "Changed" });
    case 5:
      return { partitionKey, events: [...events, events[at]!] };
    default:
      return { partitionKey, events };
  }
}

/** Often right, and if not then often near: other appends of the same time may make it right or wrong. */
function expectation(chance: Chance): Expectation {
  if (chance.oneIn(2)) return "any";
  if (chance.oneIn(4)) return chance.pick(["exists", "empty"] as const);
  return { fromCurrent: chance.oneIn(2) ? 0 : chance.between(-1, 3) };
}

function newId(partitionKey: string | undefined, streamId: string, chance: Chance): string {
  const key = partitionKey === undefined ? identify(streamId, null).partitionKey : parseUuid(partitionKey)!;
  // Most ids are made in order of time, some lie anywhere.
  const milliseconds = chance.oneIn(4) ? chance.below(2 ** 40) : 1_600_000_000_000 + chance.below(1000);
  return formatUuid(newEventId(partitionHash(key), milliseconds, (bytes) => chance.fill(bytes)));
}

// ---- For readers ---------------------------------------------------------------------------------------------------

/** One line. */
export function describe(operation: Operation): string {
  const { kind, ...facts } = operation;
  const told = Object.entries(facts).map(([name, value]) =>
    `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`
  );
  return told.length === 0 ? kind : `${kind}: ${told.join(", ")}`;
}
