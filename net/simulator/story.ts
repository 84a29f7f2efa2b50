/**
 * A story of the cluster: its shape, and which faults come when. Plain data made from a seed, so that it can be told,
 * repeated and made shorter.
 *
 * @module
 */
import { Chance } from "../../core/chance.ts";
import type { Death } from "./node.ts";

export interface Sizes {
  nodeCount: number;
  replicationFactor: number;
  bucketCount: number;
  partitionCount: number;
  clients: number;
}

export type Direction = "in" | "out" | "both";

/** As the number of a node: the one that leads bucket 0, or the next one, when it comes to it. */
export const LEADER = -1;

export type Fault =
  & { readonly atMs: number }
  & (
    | { readonly kind: "crash"; readonly node: number; readonly death: Death; readonly downMs: number }
    | { readonly kind: "stop"; readonly node: number; readonly downMs: number }
    | { readonly kind: "pause"; readonly node: number; readonly pausedMs: number }
    | { readonly kind: "cut"; readonly links: readonly (readonly [number, number])[]; readonly cutMs: number }
    /** One node from all others, or whoever it leads from them. */
    | { readonly kind: "isolate"; readonly node: number; readonly direction: Direction; readonly cutMs: number }
    | {
      readonly kind: "weather";
      readonly lossPercent: number;
      readonly doublePercent: number;
      readonly delayMsMax: number;
      readonly badMs: number;
    }
    | { readonly kind: "slow disk"; readonly node: number; readonly slowMs: number }
    | { readonly kind: "failing sync"; readonly node: number; readonly downMs: number }
    /** There is room for so much more, for a while. */
    | { readonly kind: "full disk"; readonly node: number; readonly roomBytes: number; readonly fullMs: number }
    | { readonly kind: "power loss"; readonly downMs: number }
    | { readonly kind: "wipe"; readonly node: number; readonly downMs: number }
    | { readonly kind: "damage"; readonly node: number; readonly downMs: number }
    | { readonly kind: "save"; readonly node: number }
    | { readonly kind: "restore"; readonly node: number; readonly downMs: number }
    | { readonly kind: "clock"; readonly node: number; readonly jumpMs: number; readonly ratePercent: number }
    | { readonly kind: "rolling restart"; readonly downMs: number; readonly handsOver: boolean }
  );

export interface Story {
  readonly seed: number;
  readonly sizes: Sizes;
  readonly faults: readonly Fault[];
  readonly faultyMs: number;
}

const FAULTY_MS_MAX = 40_000;
const FAULTS_MAX = 30;
/** Of so many stories one has disks that are full. */
const FULL_ONE_IN = 3;

/** `quarrels`: with more faults, those after which logs are cut. */
export function storyOf(seed: number, quarrels = false): Story {
  const chance = new Chance(seed);
  const [nodeCount, replicationFactor] = chance.pick(
    [[3, 3], [3, 3], [3, 3], [3, 3], [5, 5], [5, 3], [3, 2], [2, 2], [1, 1], [3, 1]] as const,
  );
  const bucketCount = chance.pick([1, 1, 2, nodeCount]);
  const sizes: Sizes = {
    ...{ nodeCount, replicationFactor, bucketCount },
    partitionCount: bucketCount * chance.between(1, 2),
    clients: chance.between(1, 4),
  };
  const faultyMs = chance.between(5000, FAULTY_MS_MAX);
  const faults: Fault[] = [];
  for (let i = chance.below(FAULTS_MAX); i >= 0; i--) faults.push(faultOf(sizes, chance.below(faultyMs), chance));
  const full = new Chance(seed + 0xf0);
  if (full.oneIn(FULL_ONE_IN)) faults.push(...fullDisksOf(sizes, faultyMs, full));
  if (quarrels) faults.push(...quarrelsOf(sizes, faultyMs, new Chance(seed + 0xc0)));
  return { seed, sizes, faultyMs, faults: faults.toSorted((a, b) => a.atMs - b.atMs) };
}

/**
 * A node, mostly one that leads, is alone for so long that the others decide without it: when it hears of that it cuts off
 * what it has and they have not. Then its disk is slow, and it crashes.
 */
function quarrelsOf({ nodeCount }: Sizes, faultyMs: number, chance: Chance): Fault[] {
  const faults: Fault[] = [];
  for (let i = chance.between(1, 4); i > 0; i--) {
    const atMs = chance.below(faultyMs);
    const node = chance.oneIn(3) ? chance.below(nodeCount) : 0; // A node leads its own bucket while nothing is wrong.
    const cutMs = chance.between(1200, 2600);
    const healedMs = atMs + cutMs;
    faults.push({ atMs, kind: "isolate", node, direction: "both", cutMs });
    if (chance.oneIn(2)) faults.push({ atMs: healedMs - 50, kind: "slow disk", node, slowMs: 1500 });
    const death = chance.pick(["kill", "power cut"] as const);
    faults.push({ atMs: healedMs + chance.below(600), kind: "crash", node, death, downMs: chance.between(1, 1000) });
  }
  return faults;
}

/** Disks that have little room left, often for so long that a log comes to it. */
function fullDisksOf({ nodeCount }: Sizes, faultyMs: number, chance: Chance): Fault[] {
  return Array.from({ length: chance.between(1, 4) }, () => ({
    atMs: chance.below(faultyMs),
    kind: "full disk" as const,
    node: chance.oneIn(2) ? LEADER : chance.below(nodeCount),
    roomBytes: chance.pick([0, chance.below(500), chance.below(20_000)]),
    fullMs: chance.pick([chance.between(1, 1000), chance.between(1000, 10_000)]),
  }));
}

function faultOf(sizes: Sizes, atMs: number, chance: Chance): Fault {
  const node = chance.oneIn(2) ? LEADER : chance.below(sizes.nodeCount);
  const shortOrLong = () =>
    chance.pick([chance.between(1, 300), chance.between(300, 3000), chance.between(3000, 10_000)]);
  const downMs = shortOrLong();
  switch (
    chance.pick(
      [
        ...[
          "crash",
          "crash",
          "crash",
          "stop",
          "pause",
          "pause",
          "cut",
          "isolate",
          "isolate",
          "isolate",
          "weather",
          "weather",
        ],
        ...["slow disk", "failing sync", "power loss", "wipe", "damage", "save", "restore", "clock", "rolling restart"],
      ] as const,
    )
  ) {
    case "crash":
      return { atMs, kind: "crash", node, death: chance.pick(["kill", "power cut"]), downMs };
    case "stop":
      return { atMs, kind: "stop", node, downMs };
    case "pause":
      return { atMs, kind: "pause", node, pausedMs: downMs };
    case "cut":
      return { atMs, kind: "cut", links: linksOf(sizes, chance.below(sizes.nodeCount), chance), cutMs: downMs };
    case "isolate":
      return { atMs, kind: "isolate", node, direction: chance.pick(["in", "out", "both", "both"]), cutMs: downMs };
    case "weather": {
      const [lossPercent, doublePercent] = [chance.pick([0, 5, 30, 60]), chance.pick([0, 10, 50])];
      return {
        atMs,
        kind: "weather",
        lossPercent,
        doublePercent,
        delayMsMax: chance.pick([4, 40, 400, 2500]),
        badMs: downMs,
      };
    }
    case "slow disk":
      return { atMs, kind: "slow disk", node, slowMs: downMs };
    case "failing sync":
      return { atMs, kind: "failing sync", node, downMs };
    case "power loss":
      return { atMs, kind: "power loss", downMs };
    case "wipe":
      return { atMs, kind: "wipe", node, downMs };
    case "damage":
      return { atMs, kind: "damage", node, downMs };
    case "save":
      return { atMs, kind: "save", node };
    case "restore":
      return { atMs, kind: "restore", node, downMs };
    case "clock": {
      const jumpMs = chance.pick([0, chance.between(-8000, 8000)]);
      return { atMs, kind: "clock", node, jumpMs, ratePercent: chance.pick([90, 99, 100, 101, 110]) };
    }
    case "rolling restart":
      return { atMs, kind: "rolling restart", downMs: chance.between(50, 1000), handsOver: chance.oneIn(2) };
  }
}

/** Links around one node, between two halves, or one alone; in both directions or in one. */
function linksOf({ nodeCount }: Sizes, node: number, chance: Chance): [number, number][] {
  const inHalf = Array.from({ length: nodeCount }, () => chance.oneIn(2));
  const kind = chance.below(4);
  const directions = chance.below(3);
  const links: [number, number][] = [];
  for (let from = 0; from < nodeCount; from++) {
    for (let to = 0; to < nodeCount; to++) {
      if (from === to) continue;
      const isOut = kind < 2
        ? from === node
        : kind === 2
        ? inHalf[from]! && !inHalf[to]!
        : from === node && to === (node + 1) % nodeCount;
      const isIn = kind < 2
        ? to === node
        : kind === 2
        ? !inHalf[from]! && inHalf[to]!
        : to === node && from === (node + 1) % nodeCount;
      if (isOut && directions !== 1 || isIn && directions !== 2) links.push([from, to]);
    }
  }
  return links;
}

export function describe(fault: Fault): string {
  const { atMs, kind, ...rest } = fault;
  return `at ${atMs} ms ${kind} ${JSON.stringify(rest)}`;
}
