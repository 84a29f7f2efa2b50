/**
 * A client that appends one transaction after the other, tries again with the same ids until it knows, and reads.
 *
 * @module
 */
import type { Chance } from "../../core/chance.ts";
import type { History, Operation } from "../history_checker.ts";
import type { Answer, AppendRequest } from "./node.ts";
import type { Sizes } from "./story.ts";

const STREAMS_PER_PARTITION = 3;
const TRIES_MAX = 12;
const CHANGES_ONE_IN = 8;
/** Those with little leave many appends behind of which they never hear. */
const PATIENCES_MS = [100, 3000];

/** What a client can do to the cluster. */
export interface Cluster {
  now(): number;
  after(milliseconds: number, action: () => void): void;
  /** The answer may never come, and the request may be carried out though none does. */
  append(node: number, request: AppendRequest, answer: (answer: Answer) => void): void;
  /** Whom to ask, who leads most likely first. */
  nodesFor(partition: number): readonly number[];
  /** All nodes answer for all, so a client may change between them as it pleases. */
  readonly asksAnybody: boolean;
  readonly calm: boolean;
}

export class Client {
  #node = 0;
  #count = 0;
  /** Versions that it believes in. */
  readonly #versions = new Map<string, number>();
  acknowledged = 0;
  isIdle = true;

  constructor(
    readonly number: number,
    readonly sizes: Sizes,
    readonly history: History,
    readonly cluster: Cluster,
    readonly chance: Chance,
  ) {}

  /** Goes on until `until` says that it is enough. */
  begin(until: () => boolean): void {
    if (until()) return;
    this.isIdle = false;
    const { chance, cluster } = this;
    const partition = chance.below(this.sizes.partitionCount);
    const stream = `${partition}-${chance.below(STREAMS_PER_PARTITION)}`;
    const count = chance.oneIn(4) ? chance.between(2, 4) : 1;
    const name = `${this.number}.${this.#count++}`;
    const events = Array.from({ length: count }, (_, i) => ({ id: `${name}.${i}`, stream }));
    const expected = chance.oneIn(3) ? this.#versions.get(stream) ?? -1 : null;
    const operation = this.history.ask(partition, events.map(({ id }) => id), stream, expected, cluster.now());
    this.#try({ partition, events, expected }, operation, 0, false, () => {
      this.isIdle = true;
      cluster.after(chance.pick([1, 5, 50, 300]), () => this.begin(until));
    });
  }

  #try(request: AppendRequest, operation: Operation, tries: number, isOpen: boolean, done: () => void): void {
    const { chance, cluster, history } = this;
    const nodes = cluster.nodesFor(request.partition);
    if (cluster.asksAnybody && chance.oneIn(CHANGES_ONE_IN)) this.#node = chance.pick(nodes);
    if (!nodes.includes(this.#node)) this.#node = nodes[0]!;
    const patienceMs = PATIENCES_MS[this.number % PATIENCES_MS.length]!;
    let isAnswered = false;
    const again = (isOpen: boolean) => {
      this.#node = chance.pick(nodes);
      if (tries >= TRIES_MAX && !cluster.calm) {
        if (!isOpen) history.refuse(operation, cluster.now());
        return done();
      }
      cluster.after(chance.between(1, 200), () => this.#try(request, operation, tries + 1, isOpen, done));
    };
    cluster.append(this.#node, request, (answer) => {
      if (isAnswered) {
        // Given up before, and yet it is known now.
        if (answer.kind === "ok") history.acknowledge(operation, answer.firstSequence, cluster.now());
        return;
      }
      isAnswered = true;
      const stream = request.events[0]!.stream;
      switch (answer.kind) {
        case "ok":
          this.acknowledged++;
          history.acknowledge(operation, answer.firstSequence, cluster.now());
          if (request.expected !== null) this.#versions.set(stream, request.expected + request.events.length);
          return done();
        case "wrong version":
          this.#versions.set(stream, answer.current);
          history.tellVersion(request.partition, stream, answer.current);
          // An earlier try may be stored, if one is open: then this refusal is of its own making.
          if (!isOpen) history.refuse(operation, cluster.now());
          return done();
        case "refused":
          return again(isOpen);
        case "unknown":
          return again(true);
      }
    });
    cluster.after(cluster.calm ? Math.max(...PATIENCES_MS) : patienceMs, () => {
      if (isAnswered) return;
      isAnswered = true;
      if (patienceMs < PATIENCES_MS[1]! && !cluster.calm && chance.oneIn(2)) done();
      else again(true);
    });
  }
}
