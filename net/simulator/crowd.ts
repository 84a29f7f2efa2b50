/**
 * All clients of whole nodes, beside those that append one at a time: readers, followers, and who appends many at once.
 *
 * It knows what was acknowledged to anybody, and what any replica has ever shown.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../../core/chance.ts";
import type { EventRecord } from "../../core/event.ts";
import type { ClusterStore } from "../cluster.ts";
import { type ClusterShape, replicasOfPartition } from "../consensus/topology.ts";
import type { History, SeenEvent } from "../history_checker.ts";
import type { Timers } from "../timers.ts";
import { keysOf, timersOver } from "./engine_node.ts";
import { Follower } from "./follower.ts";
import type { Answer, AppendRequest, Node } from "./node.ts";
import { Burster, collect, Reader } from "./reader.ts";
import { type Clientele, Gone, isTemporary, pause, type Visit } from "./visit.ts";

const READERS = 2;
const BURSTERS_MAX = 2;
const FOLLOWERS_MAX = 4;
const RETRY_MS = 100;
const PATIENCE_MS = 15_000;

/** One process of a node. */
export interface Life {
  readonly name: string;
  readonly node: Node;
  isPaused: boolean;
  /** Called when it has died. */
  readonly mourners: Set<() => void>;
}

/** What the world is for its clients. */
export interface Stage {
  readonly calm: boolean;
  readonly isOver: boolean;
  now(): number;
  /** An action that returns false did nothing. */
  after(milliseconds: number, action: () => unknown): void;
  lifeOf(node: number): Life | null;
  /** How many lives of a node have begun. */
  livesOf(node: number): number;
  /** Calls back within a process: when it goes on, and never, if it is dead. */
  reach(life: Life, action: () => void): void;
  append(node: number, request: AppendRequest, answer: (answer: Answer) => void): void;
  appendAll: Clientele["appendAll"];
  count(what: string): void;
  broke(reason: Error): void;
}

export class Crowd implements Clientele {
  readonly timers: Timers;
  readonly nodeCount: number;
  readonly partitionCount: number;
  readonly #keys: readonly string[];
  readonly #readers: Reader[];
  readonly #bursters: Burster[];
  readonly #followers: Follower[];
  readonly #acked: { id: string; stream: string; sequence: number }[][];
  readonly #ackedEnds: number[];
  readonly #lastIds = new Set<string>();
  readonly #shown: SeenEvent[][];
  isEnd = false;
  readonly keyOf = (partition: number): string => this.#keys[partition]!;

  constructor(readonly stage: Stage, readonly shape: ClusterShape, readonly history: History, seed: number) {
    this.nodeCount = shape.nodeCount;
    this.partitionCount = shape.partitionCount;
    this.#keys = keysOf(shape.partitionCount);
    this.#acked = this.#keys.map(() => []);
    this.#ackedEnds = this.#keys.map(() => 0);
    this.#shown = this.#keys.map(() => []);
    this.timers = timersOver((milliseconds, action) => stage.after(milliseconds, action));
    const chance = new Chance(seed);
    const list = <T>(length: number, make: (i: number) => T) => Array.from({ length }, (_, i) => make(i));
    this.#readers = list(READERS, (i) => new Reader(this, new Chance(seed + 10 + i)));
    this.#bursters = list(chance.below(BURSTERS_MAX + 1), (i) => new Burster(`b${i}`, this, new Chance(seed + 20 + i)));
    this.#followers = list(
      chance.between(1, FOLLOWERS_MAX),
      (i) => new Follower(`${i}`, this, new Chance(seed + 30 + i)),
    );
  }

  start(): void {
    for (const one of [...this.#readers, ...this.#bursters, ...this.#followers]) {
      one.run().catch((error) => this.broke(error));
    }
  }

  /** When it is over: nobody waits for an answer any more. */
  get isIdle(): boolean {
    return [...this.#readers, ...this.#bursters].every(({ isIdle }) => isIdle);
  }

  /** When it is the end: nobody follows any more. */
  get isEmpty(): boolean {
    return this.#followers.every(({ isIdle }) => isIdle);
  }

  /** Whether a follower lacks something of what there is. */
  whoLacks(): string | null {
    for (const follower of this.#followers) {
      const lacks = follower.lacks();
      if (lacks > 0) return `follower ${follower.name} lacks ${lacks} events`;
    }
    return null;
  }

  // ---- What the world tells --------------------------------------------------------------------------------------------

  asked({ events }: AppendRequest): void {
    this.#lastIds.add(events.at(-1)!.id);
  }

  acknowledged({ partition, events }: AppendRequest, firstSequence: number): void {
    this.#ackedEnds[partition] = Math.max(this.#ackedEnds[partition]!, firstSequence + events.length);
    events.forEach(({ id, stream }, i) => this.#acked[partition]!.push({ id, stream, sequence: firstSequence + i }));
  }

  /** A process is about to die: what it has shown is kept in mind. */
  dies(life: Life): void {
    for (let partition = 0; partition < this.partitionCount; partition++) this.#note(partition, life.node);
  }

  // ---- What clients know -----------------------------------------------------------------------------------------------

  get calm(): boolean {
    return this.stage.calm;
  }

  get isOver(): boolean {
    return this.stage.isOver;
  }

  now(): number {
    return this.stage.now();
  }

  visit(node: number): Visit | null {
    const { stage, timers } = this;
    const life = stage.lifeOf(node);
    if (life === null) return null;
    const isAlive = () => stage.lifeOf(node) === life;
    return {
      node,
      life: life.name,
      get isAlive() {
        return isAlive();
      },
      ask<T>(action: (store: ClusterStore) => Promise<T>, patienceMs: number): Promise<T> {
        const { promise, resolve, reject } = Promise.withResolvers<T>();
        if (!isAlive() || life.node.store === null) return Promise.reject(new Gone("the node is not there"));
        const died = () => reject(new Gone("the node is gone"));
        const cancel = timers.after(patienceMs, () => reject(new Gone("it takes too long")));
        life.mourners.add(died);
        const failed = (error: unknown) => reject(life.node.isEnding ? new Gone("the node is ending") : error);
        const act = async () => await action(life.node.store!); // What it throws at once comes as a promise as well.
        stage.reach(life, () => void act().then(resolve, failed));
        return promise.finally(() => {
          cancel();
          life.mourners.delete(died);
        });
      },
      tell(action) {
        if (isAlive()) stage.reach(life, () => action(life.node.store!));
      },
    };
  }

  holds(node: number, partition: number): boolean {
    return this.stage.lifeOf(node)?.node.headOf(partition) != null;
  }

  ackedEnd(partition: number): number {
    return this.#ackedEnds[partition]!;
  }

  ackedIds(partition: number): readonly { id: string; stream: string; sequence: number }[] {
    return this.#acked[partition]!;
  }

  isLast(id: string): boolean {
    return this.#lastIds.has(id);
  }

  replicas(partition: number): { life: string; end: number | null }[] {
    return replicasOfPartition(partition, this.shape).map((number) => {
      const life = this.stage.lifeOf(number);
      return {
        life: life?.name ?? `none after ${this.stage.livesOf(number)}`,
        end: life?.node.headOf(partition) ?? null,
      };
    });
  }

  #note(partition: number, node: Node): void {
    const shown = this.#shown[partition]!;
    if ((node.headOf(partition) ?? 0) > shown.length) shown.push(...node.read(partition, shown.length) ?? []);
  }

  #shownOf(partition: number): readonly SeenEvent[] {
    for (const number of replicasOfPartition(partition, this.shape)) {
      const life = this.stage.lifeOf(number);
      if (life !== null) this.#note(partition, life.node);
    }
    return this.#shown[partition]!;
  }

  shownEnd(partition: number): number {
    return this.#shownOf(partition).length;
  }

  shownVersions(partition: number, stream: string): number {
    return 1 + (this.#shownOf(partition).findLast((event) => event.stream === stream)?.version ?? -1);
  }

  appendAll(...args: Parameters<Clientele["appendAll"]>): void {
    this.stage.appendAll(...args);
  }

  count(what: string): void {
    this.stage.count(what);
  }

  broke(reason: Error): void {
    this.stage.broke(reason);
  }

  // ---- The end ---------------------------------------------------------------------------------------------------------

  /** Every node answers for every partition: appends, and reads of all that was acknowledged. Those that still do not. */
  probe(): Set<string> {
    const left = new Set<string>();
    for (let node = 0; node < this.nodeCount; node++) {
      for (let partition = 0; partition < this.partitionCount; partition++) {
        const name = `node ${node} for partition ${partition}`;
        left.add(name);
        this.#probe(node, partition).then(() => left.delete(name), (error) => this.broke(error));
      }
    }
    return left;
  }

  async #probe(node: number, partition: number): Promise<void> {
    const { history } = this;
    const [id, stream] = [`probe.${node}.${partition}`, `${partition}-probed`];
    const request = { partition, events: [{ id, stream }], expected: null };
    const operation = history.ask(partition, [id], stream, null, this.now());
    for (;;) {
      const answer = await new Promise<Answer>((resolve) => this.stage.append(node, request, resolve));
      if (answer.kind === "ok") {
        history.acknowledge(operation, answer.firstSequence, this.now());
        break;
      }
      assert.notEqual(answer.kind, "wrong version");
      await pause(this.timers, RETRY_MS);
    }
    const acked = this.ackedEnd(partition);
    for (;;) {
      const visit = this.visit(node);
      try {
        const options = { fromLeader: true, from: operation.firstSequence };
        const ask = (store: ClusterStore) => collect(store.readPartition(partition, options));
        const events = await visit?.ask(ask, PATIENCE_MS) ?? [];
        const end = events.length === 0 ? 0 : events.at(-1)!.sequence + 1;
        assert.ok(end >= acked, `node ${node} reads ${end} of partition ${partition}: ${acked} were acknowledged`);
        return;
      } catch (error) {
        if (!isTemporary(error)) throw error;
        await pause(this.timers, RETRY_MS);
      }
    }
  }

  /** What is still open, though nobody wants anything any more. */
  whatIsOpen(): string | null {
    for (let node = 0; node < this.nodeCount; node++) {
      const own = this.stage.lifeOf(node)?.node;
      if (own?.store == null) return `node ${node} is not there`;
      const open = { ...own.store.underWay, "subscriptions of replicas": own.subscriptions };
      for (const [what, count] of Object.entries(open)) if (count > 0) return `node ${node} has ${count} ${what}`;
    }
    return null;
  }

  /** Followers were given all that there is. */
  async judge(): Promise<void> {
    const stored: EventRecord[] = [];
    for (let partition = 0; partition < this.partitionCount; partition++) {
      const [node] = replicasOfPartition(partition, this.shape);
      stored.push(...await collect(this.stage.lifeOf(node!)!.node.store!.readPartition(partition)));
    }
    for (const follower of this.#followers) follower.holdAll(stored);
  }
}
