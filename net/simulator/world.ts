/**
 * Plays a story: machines, a network and clients in one thread, on a clock of its own. The same story gives the same run.
 *
 * While it goes on, `oversight.ts` holds all replicas together to what must be true after every step. When the faults
 * are over the cluster has to heal by itself: every bucket is led and serves, every client gets its answer, every
 * replica has all there is, and all are equal. Then the history says what the clients were promised.
 *
 * @module
 */
import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { Chance } from "../../core/chance.ts";
import { bucketOf } from "../../core/placement.ts";
import { type ClusterShape, replicasOf, replicasOfPartition } from "../consensus/topology.ts";
import { History, type SeenEvent } from "../history_checker.ts";
import type { Packet } from "../messages.ts";
import { Client, type Cluster } from "./client.ts";
import { Crowd, type Life, type Stage } from "./crowd.ts";
import { EngineMachine } from "./engine_node.ts";
import { Links } from "./links.ts";
import { ModelMachine } from "./model_node.ts";
import { Network } from "./network.ts";
import type { Answer, AppendRequest, Death, Machine, Node } from "./node.ts";
import { Oversight } from "./oversight.ts";
import { StoreMachine, storeSettingsOf } from "./store_node.ts";
import { describe, type Direction, type Fault, LEADER, type Story } from "./story.ts";
import { Wire } from "./wire.ts";

const TICK_MS = 50;
const READ_EVERY_MS = 100;
/** From the end of the faults until everything must be well: several term changes, and a recovery. */
const HEALING_MS = 40_000;
/** Within that the others have another leader. */
const LAME_MS = 12_000;
const TURNOVER_MS = 2000;
/** Then clients append so long, and everything must stay well. */
const CALM_MS = 3000;
/** So long it may take until every node has answered for all, and until all followers have all. */
const SERVING_MS = 20_000;
/** A client's way to a node and back: each at most. */
const CLIENT_MS_MAX = 5;
const EVENTS_MAX = 5_000_000;
const SEGMENT_BYTES = [2048, 8192, 65536];
/** Stories in which what nodes say to each other goes through bytes: nothing else in them is another because of it. */
const WIRE_ONE_IN = 4;

export interface Played {
  steps: number;
  acknowledged: number;
  reads: number;
  virtualMs: number;
  counts: ReadonlyMap<string, number>;
  trace: string[];
}

/** A promise that was broken. */
export class Broken extends Error {
  override readonly name = "Broken";
  constructor(readonly story: Story, readonly atMs: number, reason: unknown, readonly trace: readonly string[]) {
    super(`at ${atMs} ms: ${reason instanceof Error ? reason.message : reason}`, { cause: reason });
  }
}

type MachineMaker = (number: number, shape: ClusterShape, chance: Chance) => Machine;

const model: MachineMaker = (number, shape, chance) => new ModelMachine(number, shape, chance);

const engine: MachineMaker = (number, shape, chance) => new EngineMachine(number, shape, chance);

/** What takes the nodes' places: the protocol on a modelled log, engine and driver, or all of a node but its sockets. */
export type Cast = "model" | "engine" | "node";

/** @throws {Broken} */
export async function play(story: Story, cast: Cast = "model"): Promise<Played> {
  const world = new World(story, cast);
  try {
    await world.run();
  } catch (error) {
    throw new Broken(story, world.nowMs, error, world.trace);
  }
  return world.played();
}

/** One process. */
interface OwnLife extends Life {
  node: Node;
  /** What came while it was paused. */
  missed: (() => void)[];
}

interface Place {
  machine: Machine;
  life: OwnLife | null;
  /** Its clock: offset and rate against the world's. */
  offsetMs: number;
  /** Of a clock that does not jump. */
  steadyMs: number;
  rate: number;
  saved: unknown;
  lives: number;
  downUntil: number;
}

class World implements Cluster, Stage {
  nowMs = 0;
  readonly trace: string[] = [];
  readonly #story: Story;
  readonly #shape: ClusterShape;
  readonly #chance: Chance;
  readonly #queue = new Queue();
  readonly #network: Network;
  readonly #links: Links;
  readonly #wire: Wire | null;
  readonly #oversight: Oversight;
  readonly #history = new History();
  readonly #clients: Client[];
  readonly #crowd: Crowd | null;
  readonly #places: Place[];
  readonly #all: readonly number[];
  readonly asksAnybody: boolean;
  /** By bucket: the end below which all was acknowledged to clients. */
  readonly #ackedEnds: number[];
  calm = false;
  #steps = 0;

  constructor(story: Story, cast: Cast) {
    const { sizes, seed } = story;
    this.#isReal = cast !== "model";
    this.asksAnybody = cast === "node";
    this.#story = story;
    this.#shape = { clusterId: "simulated", segmentBytes: SEGMENT_BYTES[seed % 3]!, ...sizes };
    this.#chance = new Chance(seed + 0x5eed);
    this.#network = new Network(new Chance(seed + 1), (milliseconds, action) => this.after(milliseconds, action));
    this.#links = new Links(
      ...[sizes.nodeCount, this.#network, new Chance(seed + 400)] as const,
      ...[() => this.nowMs, (milliseconds: number, action: () => void) => this.after(milliseconds, action)] as const,
    );
    this.#oversight = new Oversight(this.#shape);
    const make = this.#maker(cast);
    this.#wire = new Chance(seed + 300).oneIn(WIRE_ONE_IN) ? new Wire(this.#shape, cast) : null;
    this.#all = Array.from({ length: sizes.nodeCount }, (_, number) => number);
    this.#crowd = cast === "node" ? new Crowd(this, this.#shape, this.#history, seed + 600) : null;
    this.#ackedEnds = new Array(sizes.bucketCount).fill(0);
    this.#places = Array.from({ length: sizes.nodeCount }, (_, number) => ({
      machine: make(number, this.#shape, new Chance(seed + 100 + number)),
      ...{ life: null, offsetMs: 1e6 * (number + 1), steadyMs: 0, rate: 1, saved: null, lives: 0, downUntil: 0 },
    }));
    this.#clients = Array.from(
      { length: sizes.clients },
      (_, i) => new Client(i, sizes, this.#history, this, new Chance(seed + 200 + i)),
    );
  }

  #maker(cast: Cast): MachineMaker {
    if (cast !== "node") return cast === "model" ? model : engine;
    const settings = storeSettingsOf(new Chance(this.#story.seed + 500));
    if (settings.replicasOverLinks) this.#oversight.count("stories with replicas over links");
    return (number, shape, chance) => new StoreMachine(number, shape, chance, settings);
  }

  played(): Played {
    const counts = new Map(this.#oversight.counts);
    counts.set("packets", this.#network.sent);
    counts.set("packets lost", this.#network.lost);
    counts.set("packets through bytes", this.#wire?.packets ?? 0);
    if (this.#crowd !== null) {
      for (const [what, count] of Object.entries(this.#links.counts)) {
        counts.set(what, count);
      }
    }
    const acknowledged = this.#clients.reduce((sum, client) => sum + client.acknowledged, 0);
    return {
      steps: this.#steps,
      acknowledged,
      reads: this.#history.reads,
      virtualMs: this.nowMs,
      counts,
      trace: this.trace,
    };
  }

  async run(): Promise<void> {
    const { faults, faultyMs } = this.#story;
    for (const number of this.#places.keys()) this.#start(number);
    for (const client of this.#clients) client.begin(() => this.calm && this.#isOver);
    for (const fault of faults) this.#queue.push(fault.atMs, () => this.#meet(fault));
    this.#readSometimes();
    this.#crowd?.start();
    await this.#runUntil(faultyMs);
    this.#heal();
    await this.#runUntil(faultyMs + HEALING_MS, () => this.#isHealed());
    assert.ok(this.#isHealed(), `after ${HEALING_MS} ms without faults: ${this.#whatIsNotHealed()}`);
    await this.#lameOne();
    await this.#runUntil(this.nowMs + HEALING_MS, () => this.#isHealed());
    assert.ok(this.#isHealed(), `when the last node heard again: ${this.#whatIsNotHealed()}`);
    await this.#runUntil(this.nowMs + CALM_MS);
    if (this.#crowd !== null) await this.#serveAll(this.#crowd);
    this.#isOver = true;
    const areIdle = () => this.#clients.every(({ isIdle }) => isIdle) && (this.#crowd?.isIdle ?? true);
    await this.#runUntil(this.nowMs + HEALING_MS, () => this.#isHealed() && areIdle());
    assert.ok(areIdle(), "a client waits for its answer, and nothing is wrong any more");
    assert.ok(this.#isHealed(), `in the end: ${this.#whatIsNotHealed()}`);
    if (this.#crowd !== null) {
      await this.#clearUp(this.#crowd);
      await this.#runUntil(this.nowMs + HEALING_MS, () => this.#isHealed()); // A leader may have changed in the meantime.
    }
    this.#judge();
    await this.#crowd?.judge();
  }

  /** Every node answers for all. */
  async #serveAll(crowd: Crowd): Promise<void> {
    const left = crowd.probe();
    await this.#runUntil(this.nowMs + SERVING_MS, () => left.size === 0);
    assert.ok(left.size === 0, `nothing is wrong any more, and no answer comes from ${[...left].join(", ")}`);
  }

  /** Who follows has all that there is; and when he has left, nothing is left of what nobody waits for. */
  async #clearUp(crowd: Crowd): Promise<void> {
    await this.#runUntil(this.nowMs + SERVING_MS, () => crowd.whoLacks() === null);
    assert.ok(crowd.whoLacks() === null, `nothing is wrong any more, and ${crowd.whoLacks()}`);
    crowd.isEnd = true;
    await this.#runUntil(this.nowMs + SERVING_MS, () => crowd.isEmpty);
    assert.ok(crowd.isEmpty, "a follower does not come to his end");
    await this.#runUntil(this.nowMs + SERVING_MS, () => crowd.whatIsOpen() === null);
    assert.ok(crowd.whatIsOpen() === null, `nobody wants anything any more, and ${crowd.whatIsOpen()}`);
    // What a node still tried for a client that had given up may be stored until now.
    await this.#runUntil(this.nowMs + HEALING_MS, () => this.#isHealed());
    assert.ok(this.#isHealed(), `when nothing is open any more: ${this.#whatIsNotHealed()}`);
  }

  /** The leader is deaf, or mute, or both, and does not come back: the others must have another one. */
  async #lameOne(): Promise<void> {
    if (this.#shape.replicationFactor < 3) return;
    const lame = this.#leader();
    const links = this.#linesOf(lame, (["in", "out", "both"] as const)[this.#story.seed % 3]!);
    for (const [from, to] of links) this.#network.cut(from, to);
    this.#note(`node ${lame} is lame`);
    const others = () =>
      replicasOf(0, this.#shape).filter((node) => node !== lame).map((node) => this.#places[node]!.life!.node.view(0)!);
    const isServed = () => {
      const highest = Math.max(...others().map(({ term }) => term));
      return others().some(({ role, term }) => role === "serving" && term === highest);
    };
    await this.#runUntil(this.nowMs + LAME_MS);
    await this.#runUntil(this.nowMs + TURNOVER_MS, isServed); // It may be handed over just now.
    const told = others().map(({ term, role }) => `${role} in term ${term}`).join(", ");
    assert.ok(isServed(), `node ${lame} is lame since ${LAME_MS} ms, and the others are ${told}`);
    for (const [from, to] of links) this.#network.heal(from, to);
  }

  #isOver = false;
  /** Promises have to be waited for. */
  readonly #isReal: boolean;
  /** What a node should not have ended for. */
  #broken: Error | null = null;

  async #runUntil(endMs: number, enough: () => boolean = () => false): Promise<void> {
    let checked = this.nowMs;
    for (;;) {
      const at = this.#queue.nextAt;
      if (at > endMs) break;
      this.nowMs = at;
      if (at - checked >= 100) {
        checked = at;
        if (enough()) return;
      }
      if (this.#queue.pop()() !== false && this.#isReal) await settled();
      if (this.#broken !== null) throw this.#broken;
      assert.ok(++this.#steps < EVENTS_MAX, "it goes round and round");
    }
    this.nowMs = endMs;
  }

  // ---- What clients and nodes can do --------------------------------------------------------------------------------

  now(): number {
    return this.nowMs;
  }

  after(milliseconds: number, action: () => unknown): void {
    this.#queue.push(this.nowMs + milliseconds, action);
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  nodesFor(partition: number): readonly number[] {
    return this.asksAnybody ? this.#all : this.#replicasOf(partition);
  }

  #replicasOf(partition: number): number[] {
    return replicasOfPartition(partition, this.#shape);
  }

  livesOf(node: number): number {
    return this.#places[node]!.lives;
  }

  lifeOf(node: number): Life | null {
    return this.#places[node]!.life;
  }

  count(what: string): void {
    this.#oversight.count(what);
  }

  broke(reason: Error): void {
    this.#broken ??= reason;
  }

  append(number: number, request: AppendRequest, answer: (answer: Answer) => void): void {
    this.appendAll(number, [request], 0, (_, told) => answer(told));
  }

  appendAll(
    number: number,
    requests: readonly AppendRequest[],
    everyMs: number,
    answer: (i: number, answer: Answer) => void,
  ): void {
    const wayMs = () => 1 + this.#chance.below(CLIENT_MS_MAX);
    for (const request of requests) this.#crowd?.asked(request);
    let life: OwnLife | null = null;
    const firstMs = wayMs();
    for (const [i, request] of requests.entries()) {
      this.after(firstMs + i * everyMs, () => {
        const now = this.#places[number]!.life;
        if (i === 0) life = now;
        if (life === null || life !== now) return answer(i, { kind: "refused", why: "no connection" });
        const { node } = life;
        this.reach(life, () =>
          node.append(request, (told, end) => {
            if (told.kind === "wrong version") this.#holdVersion(node, request, told.current);
            this.after(wayMs(), () => {
              if (told.kind === "ok") {
                const bucket = bucketOf(request.partition, this.#shape.bucketCount);
                this.#ackedEnds[bucket] = Math.max(this.#ackedEnds[bucket]!, end);
                this.#crowd?.acknowledged(request, told.firstSequence);
              }
              answer(i, told);
            });
          }));
      });
    }
  }

  /** A refusal rests on what can be read: where it was decided, which another node may have done. */
  #holdVersion(node: Node, { partition, events }: AppendRequest, current: number): void {
    if (current === -1) return;
    const { stream } = events[0]!;
    const isDecidedHere = node.view(bucketOf(partition, this.#shape.bucketCount))?.role === "serving";
    if (this.asksAnybody && !isDecidedHere) return; // In the end it is held to what there is.
    const isThere = node.read(partition, 0)!.some((event) => event.stream === stream && event.version === current);
    assert.ok(isThere, `an append was refused by version ${current} of ${stream}, which is not committed`);
  }

  /** Now, or when it goes on. */
  reach(life: Life, action: () => void): void {
    if (life.isPaused) (life as OwnLife).missed.push(action);
    else action();
  }

  /** It was paused, and is in the middle of what it was about to do: unless it is dead by now. */
  #goOn(number: number, life: OwnLife): void {
    life.isPaused = false;
    for (const action of life.missed.splice(0)) if (this.#places[number]!.life === life) action();
  }

  #clock({ offsetMs, rate }: Place): number {
    return Math.floor(this.nowMs * rate + offsetMs);
  }

  #start(number: number): void {
    const place = this.#places[number]!;
    if (place.life !== null || this.nowMs < place.downUntil) return;
    this.#note(`node ${number} starts`);
    const name = `node ${number} life ${place.lives + 1}`;
    const life: OwnLife = {
      ...{ name, node: null as unknown as Node, isPaused: false, missed: [], mourners: new Set<() => void>() },
    };
    const lives = (action: () => unknown) => () => {
      if (place.life !== life) return false;
      if (!life.isPaused) return action();
      life.missed.push(() => place.life === life && action());
      return false;
    };
    place.life = life;
    life.node = place.machine.start({
      send: (to, packet) => {
        const carried = this.#wire?.carry(to, packet) ?? packet;
        this.#network.send(number, to, () => this.#deliver(to, carried));
      },
      after: (milliseconds, action) => this.after(milliseconds, lives(action)),
      now: () => this.#clock(place),
      monotonic: () => this.nowMs * place.rate + place.steadyMs,
      transport: () =>
        this.#links.transport(number, {
          reach: (action) => void lives(action)(),
          isPaused: () => life.isPaused,
          broke: (reason) => this.broke(reason),
        }),
      chance: new Chance(this.#story.seed + 1000 * (number + 1) + place.lives++),
      witness: this.#oversight,
      die: (why) => {
        this.#oversight.count(why);
        this.#crash(number, "power cut", 500);
      },
      count: (what) => this.#oversight.count(what),
      broke: (reason) => this.broke(reason),
    });
    const tick = () => {
      life.node.tick();
      this.after(TICK_MS, lives(tick));
    };
    this.after(this.#chance.below(TICK_MS), lives(tick));
  }

  #deliver(to: number, packet: Packet): void {
    const { life } = this.#places[to]!;
    if (life !== null) this.reach(life, () => life.node.receive(packet));
  }

  // ---- Faults --------------------------------------------------------------------------------------------------------

  /** Who leads bucket 0 now, as far as anybody does. */
  #leader(): number {
    let leader = 0;
    let term = -1;
    for (const node of replicasOf(0, this.#shape)) {
      const view = this.#places[node]!.life?.node.view(0);
      if (view?.role !== "serving" || view.term <= term) continue;
      leader = node;
      term = view.term;
    }
    return leader;
  }

  #linesOf(node: number, direction: Direction): [number, number][] {
    const others = [...this.#places.keys()].filter((other) => other !== node);
    return [
      ...(direction === "in" ? [] : others.map((other): [number, number] => [node, other])),
      ...(direction === "out" ? [] : others.map((other): [number, number] => [other, node])),
    ];
  }

  #cut(links: readonly (readonly [number, number])[], cutMs: number): void {
    for (const [from, to] of links) this.#network.cut(from, to);
    this.after(cutMs, () => {
      if (!this.calm) { for (const [from, to] of links) this.#network.heal(from, to); }
    });
  }

  #meet(planned: Fault): void {
    const fault = "node" in planned && planned.node === LEADER ? { ...planned, node: this.#leader() } : planned;
    this.#note(describe(fault));
    const isMet = this.#carryOut(fault);
    if (isMet) this.#oversight.count(`fault: ${fault.kind}`);
    else this.#note("    cannot be now");
  }

  #carryOut(fault: Fault): boolean {
    switch (fault.kind) {
      case "crash":
        return this.#crash(fault.node, fault.death, fault.downMs);
      case "stop":
        return this.#stop(fault.node, fault.downMs, true);
      case "pause": {
        const { life } = this.#places[fault.node]!;
        if (life === null || life.isPaused) return false;
        life.isPaused = true;
        this.after(fault.pausedMs, () => this.#goOn(fault.node, life));
        return true;
      }
      case "cut":
        this.#cut(fault.links, fault.cutMs);
        return fault.links.length > 0;
      case "isolate":
        this.#cut(this.#linesOf(fault.node, fault.direction), fault.cutMs);
        return this.#places.length > 1;
      case "weather":
        this.#network.weather = fault;
        this.after(fault.badMs, () => {
          if (this.#network.weather === fault) {
            this.#network.weather = { lossPercent: 0, doublePercent: 0, delayMsMax: 4 };
          }
        });
        return true;
      case "slow disk": {
        const place = this.#places[fault.node]!;
        place.machine.slowDown(this.#clock(place) + fault.slowMs);
        return true;
      }
      case "failing sync":
        this.#places[fault.node]!.machine.failSync();
        return true;
      case "full disk": {
        const { machine } = this.#places[fault.node]!;
        machine.fill(fault.roomBytes);
        this.after(fault.fullMs, () => machine.fill(Infinity));
        return true;
      }
      case "power loss":
        for (const number of this.#places.keys()) this.#crash(number, "power cut", fault.downMs);
        return true;
      case "wipe":
      case "damage": {
        if (!this.#mayLose(fault.node)) return false;
        this.#crash(fault.node, "kill", fault.downMs);
        const { machine } = this.#places[fault.node]!;
        this.#oversight.lost(fault.node);
        if (fault.kind === "wipe") machine.wipe();
        else machine.damage(this.#chance);
        return true;
      }
      case "save": {
        const place = this.#places[fault.node]!;
        place.saved = place.machine.save();
        return true;
      }
      case "restore": {
        const place = this.#places[fault.node]!;
        if (place.saved === null || !this.#mayLose(fault.node)) return false;
        this.#crash(fault.node, "kill", fault.downMs);
        this.#oversight.lost(fault.node);
        place.machine.restore(place.saved);
        place.saved = null;
        return true;
      }
      case "clock": {
        const place = this.#places[fault.node]!;
        const before = this.#clock(place);
        place.steadyMs += this.nowMs * (place.rate - fault.ratePercent / 100);
        place.rate = fault.ratePercent / 100;
        place.offsetMs = before + fault.jumpMs - this.nowMs * place.rate;
        return true;
      }
      case "rolling restart": {
        this.#places.forEach((_, number) => {
          this.after(number * (fault.downMs + 2000), () => {
            if (!this.calm) this.#stop(number, fault.downMs, fault.handsOver);
          });
        });
        return true;
      }
    }
  }

  /** What a lost disk held must be on the others: they are whole, and there are enough of them. */
  #mayLose(number: number): boolean {
    if (this.#shape.replicationFactor === 1) return false;
    return this.#places.every(({ machine }) => machine.isWhole()) && number < this.#places.length;
  }

  #stop(number: number, downMs: number, handsOver: boolean): boolean {
    const { life } = this.#places[number]!;
    if (life === null) return false;
    if (handsOver) this.reach(life, () => life.node.handOver());
    this.after(handsOver ? 1000 : 0, () => {
      const ends = !this.calm || handsOver && this.asksAnybody; // Its store is closed by now.
      if (ends && this.#places[number]!.life === life) this.#crash(number, "kill", downMs);
    });
    return true;
  }

  #crash(number: number, death: Death, downMs: number): boolean {
    const place = this.#places[number]!;
    place.downUntil = Math.max(place.downUntil, this.nowMs + (this.calm ? Math.min(downMs, 500) : downMs));
    this.#queue.push(place.downUntil, () => this.#start(number));
    if (place.life === null) return false;
    this.#note(`node ${number} is gone`);
    const { life } = place;
    this.#crowd?.dies(life);
    place.life = null;
    this.#links.died(number, death === "kill");
    for (const told of life.mourners) told();
    place.machine.crash(death, this.#chance);
    this.#oversight.crashed(number);
    return true;
  }

  #heal(): void {
    this.#note("all faults are over");
    this.calm = true;
    this.#network.clearUp();
    for (const [number, place] of this.#places.entries()) {
      place.machine.mend();
      place.downUntil = Math.min(place.downUntil, this.nowMs);
      if (place.life !== null) this.#goOn(number, place.life);
      this.#start(number);
    }
  }

  // ---- Readers -------------------------------------------------------------------------------------------------------

  #readSometimes(): void {
    this.after(READ_EVERY_MS, () => {
      const number = this.#chance.below(this.#places.length);
      const partition = this.#chance.below(this.#shape.partitionCount);
      this.#read(number, partition);
      if (this.#chance.oneIn(2)) this.#readEnd(bucketOf(partition, this.#shape.bucketCount));
      if (!this.#isOver) this.#readSometimes();
    });
  }

  #read(number: number, partition: number): void {
    const { life, lives } = this.#places[number]!;
    if (life === null || life.isPaused) return;
    const events = life.node.read(partition, 0);
    if (events === null) return;
    this.#history.see({ partition, reader: `node ${number} life ${lives}`, from: 0, events, at: this.nowMs });
  }

  #readEnd(bucket: number): void {
    const ackedEnd = this.#ackedEnds[bucket]!;
    const led = replicasOf(bucket, this.#shape).filter((node) =>
      this.#places[node]!.life?.node.view(bucket)?.role === "serving"
    );
    const number = this.#chance.pick(led.length > 0 ? led : replicasOf(bucket, this.#shape));
    const { life } = this.#places[number]!;
    if (life === null || life.isPaused) return;
    life.node.readEnd(bucket, (end) => {
      if (end !== null) this.#oversight.readEnd(bucket, end, ackedEnd);
    });
  }

  // ---- The end -------------------------------------------------------------------------------------------------------

  #isHealed(): boolean {
    return this.#whatIsNotHealed() === null;
  }

  #whatIsNotHealed(): string | null {
    const lame = this.#places.findIndex(({ machine }) => !machine.isWhole());
    if (lame >= 0) return `node ${lame} has not recovered all that its disk had lost`;
    for (let bucket = 0; bucket < this.#shape.bucketCount; bucket++) {
      const views = replicasOf(bucket, this.#shape).map((node) => ({
        node,
        view: this.#places[node]!.life?.node.view(bucket),
      }));
      const told = () =>
        views.map(({ node, view }) =>
          `node ${node} ${view?.role} term ${view?.term} end ${view?.commitEnd}/${view?.logEnd}`
        ).join(", ");
      const leaders = views.filter(({ view }) => view?.role === "serving");
      if (leaders.length !== 1) return `bucket ${bucket} has ${leaders.length} that serve: ${told()}`;
      const { term, commitEnd } = leaders[0]!.view!;
      for (const { node, view } of views) {
        if (view === null || view === undefined) return `node ${node} is not there`;
        if (view.role !== "serving" && view.role !== "follower") return `node ${node} is ${view.role}: ${told()}`;
        if (view.term !== term) return `node ${node} follows another term of bucket ${bucket}: ${told()}`;
        if (this.#isOver && (view.commitEnd !== commitEnd || view.logEnd !== commitEnd)) {
          return `node ${node} does not have all of bucket ${bucket}: ${told()}`;
        }
      }
    }
    return null;
  }

  #judge(): void {
    for (let bucket = 0; bucket < this.#shape.bucketCount; bucket++) {
      for (const node of replicasOf(bucket, this.#shape)) {
        const view = this.#places[node]!.life!.node.view(bucket)!;
        this.#oversight.holdLog(node, bucket, view.commitEnd, (end) => view.chainAt(end));
        assert.equal(
          view.commitEnd,
          this.#oversight.committedEnd(bucket),
          `node ${node} has less of bucket ${bucket} than was committed`,
        );
      }
    }
    const partitions = new Map<number, readonly SeenEvent[]>();
    for (let partition = 0; partition < this.#shape.partitionCount; partition++) {
      const all = this.#replicasOf(partition).map((node) => this.#places[node]!.life!.node.read(partition, 0)!);
      for (const other of all) assert.deepEqual(other, all[0], `the replicas of partition ${partition} are not equal`);
      partitions.set(partition, all[0]!);
    }
    const problems = this.#history.judge(partitions);
    assert.equal(problems.length, 0, problems.slice(0, 5).join("; "));
  }

  #note(text: string): void {
    this.trace.push(`${String(this.nowMs).padStart(6)} ${text}`);
  }
}

/** All that promises can do now is done. */
function settled(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/** What happens when: a heap by time, and of the same time in the order in which it was put in. */
class Queue {
  readonly #heap: { at: number; order: number; action: () => unknown }[] = [];
  #order = 0;

  get nextAt(): number {
    return this.#heap[0]?.at ?? Infinity;
  }

  push(at: number, action: () => unknown): void {
    const heap = this.#heap;
    const item = { at, order: this.#order++, action };
    let i = heap.length;
    heap.push(item);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!isBefore(item, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = item;
  }

  pop(): () => unknown {
    const heap = this.#heap;
    const { action } = heap[0]!;
    const last = heap.pop()!;
    if (heap.length > 0) {
      let i = 0;
      for (;;) {
        let child = 2 * i + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
        if (!isBefore(heap[child]!, last)) break;
        heap[i] = heap[child]!;
        i = child;
      }
      heap[i] = last;
    }
    return action;
  }
}

function isBefore(a: { at: number; order: number }, b: { at: number; order: number }): boolean {
  return a.at < b.at || a.at === b.at && a.order < b.order;
}
