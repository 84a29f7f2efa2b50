/**
 * What the decisions cost on the way of an append: a leader and two followers, without network, disk or bytes.
 *
 *     deno bench net/consensus/replica_bench.ts
 *
 * One round is one batch: appended at the leader, sent to both, written and synced there, acknowledged, committed.
 *
 * @module
 */
import type { Effect, Input } from "./effect.ts";
import { type Chain, type Entries, type Log, TermTable } from "./entries.ts";
import { start, step } from "./replica.ts";
import { newHardState, ReplicaState } from "./replica_state.ts";

const CHAIN: Chain = { low: 1, high: 2 };
const ENTRIES_PER_BATCH = 50;
const BYTES_PER_ENTRY = 350;

/** Entries of one term that are nothing but numbers. */
class Numbers implements Entries {
  constructor(readonly from: number, readonly end: number, readonly term: number) {}
  get byteLength(): number {
    return (this.end - this.from) * BYTES_PER_ENTRY;
  }
  termAt(): number {
    return this.term;
  }
  chainAt(): Chain {
    return CHAIN;
  }
  since(logIndex: number): Entries {
    return new Numbers(logIndex, this.end, this.term);
  }
}

class NumberLog implements Log {
  end = 0;
  term = 0;
  chainAt(): Chain {
    return CHAIN;
  }
  entries(from: number): Entries {
    return new Numbers(from, this.end, this.term);
  }
}

interface Node {
  state: ReplicaState;
  log: NumberLog;
  sync: number;
}

/** Three replicas of which the first serves, and a queue of what they say. */
class Trio {
  now = 10_000;
  readonly nodes: Node[];
  readonly #mail: { to: number; input: Input }[] = [];
  readonly #senders;
  committed = 0;

  constructor() {
    this.nodes = [0, 1, 2].map((slot) => {
      const log = new NumberLog();
      const options = {
        replicationFactor: 3,
        slot,
        log,
        terms: new TermTable(),
        commitFloor: 0,
        boot: slot + 1,
        now: this.now,
      };
      return { state: new ReplicaState({ ...options, hard: newHardState(3, slot + 1, "normal") }), log, sync: 0 };
    });
    this.#senders = [0, 1, 2].map((slot) => ({ slot, dataId: slot + 1, boot: slot + 1 }));
    for (const node of this.nodes) this.#carryOut(node, start(node.state, this.now));
    while (this.nodes[0]!.state.role !== "serving") {
      this.now += 50;
      for (const node of this.nodes) this.#step(node, { kind: "tick" });
      this.settle();
    }
  }

  #step(node: Node, input: Input): void {
    this.#carryOut(node, step(node.state, input, this.now));
  }

  #carryOut(node: Node, effects: Effect[]): void {
    for (const effect of effects) {
      switch (effect.kind) {
        case "send":
          this.#mail.push({
            to: effect.to,
            input: { kind: "message", from: this.#senders[node.state.slot]!, message: effect.message },
          });
          break;
        case "append":
          node.log.end = effect.entries.end;
          break;
        case "noop":
          this.append(node, 1);
          break;
        case "sync":
          node.sync = effect.number;
          break;
        case "commit":
          if (node.state.slot === 0) this.committed = effect.end;
      }
    }
  }

  append(node: Node, count: number): void {
    const { end } = node.log;
    node.log.end = end + count;
    node.log.term = node.state.term;
    this.#step(node, { kind: "appended", entries: new Numbers(end, end + count, node.state.term) });
  }

  settle(): void {
    for (let busy = true; busy;) {
      busy = false;
      for (const node of this.nodes) {
        if (node.sync === 0) continue;
        const number = node.sync;
        node.sync = 0;
        this.#step(node, { kind: "synced", number });
        busy = true;
      }
      for (const { to, input } of this.#mail.splice(0)) {
        this.#step(this.nodes[to]!, input);
        busy = true;
      }
    }
  }
}

const trio = new Trio();

Deno.bench(`a batch of ${ENTRIES_PER_BATCH} entries, committed by three`, () => {
  trio.append(trio.nodes[0]!, ENTRIES_PER_BATCH);
  trio.settle();
});

Deno.bench("a tick of a leader and its followers, with a heartbeat", () => {
  trio.now += 200;
  for (const node of trio.nodes) node.state.effects = step(node.state, { kind: "tick" }, trio.now);
});
