/**
 * Clients of whole nodes that read, and such that append many at once.
 *
 * What a reader is promised, at whatever node:
 *
 *     what it is given is committed, of each partition without a gap, and transactions are whole
 *     `fromLeader`: all is there that was acknowledged to anybody before the call
 *     `atLeast`: the sequence is there
 *     a plain read at a node that has a replica, while that counts: no less than the plain read before it, in this life
 *     an answer comes from a replica: when all are gone there is none, and never "there is nothing"
 *
 * Not promised: that a plain read is new, nor that one at a node without a replica, or whose replica recovers, does not see
 * less than the one before it: another replica may have answered that one. Nor does a plain read see what one `fromLeader`
 * or `atLeast` has seen at the same node: the leader may have answered it.
 *
 * And a writer, of what he calls at one node without waiting: what is stored is stored in the order of the calls.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Chance } from "../../core/chance.ts";
import type { EventRecord } from "../../core/event.ts";
import type { Freshness, Scan } from "../../core/store.ts";
import { eventIdOf, seen } from "./engine_node.ts";
import { type Clientele, isTemporary, pause, type Visit } from "./visit.ts";

const READ_EVERY_MS = 80;
/** Of a long partition mostly the end is read. */
const TAIL = 30;
const PATIENCE_MS = 15_000;
const BURST_EVERY_MS = 500;
const BURST_MAX = 20;
const SPREAD_MS = [0, 0, 3, 30];

export class Reader {
  isIdle = false;

  constructor(readonly clientele: Clientele, readonly chance: Chance) {}

  async run(): Promise<void> {
    const { clientele, chance } = this;
    while (!clientele.isOver) {
      await pause(clientele.timers, chance.between(1, 2 * READ_EVERY_MS));
      const visit = clientele.visit(chance.below(clientele.nodeCount));
      if (visit !== null) await this.#read(visit, chance.below(clientele.partitionCount));
    }
    this.isIdle = true;
  }

  async #read(visit: Visit, partition: number): Promise<void> {
    const { chance, clientele } = this;
    const acked = clientele.ackedEnd(partition);
    const freshness: Freshness = chance.pick([
      {},
      {},
      { fromLeader: true },
      ...acked > 0 ? [{ atLeast: chance.oneIn(3) ? chance.below(acked) : acked - 1 }] : [],
    ]);
    /** One past the last sequence that must be there. */
    const least = freshness.fromLeader ? acked : (freshness.atLeast ?? -1) + 1;
    const kind = chance.pick(["partition", "partition", "partition", "stream", "event", "sequence"] as const);
    const what = `${kind} ${partition} ${JSON.stringify(freshness)}`;
    try {
      await this.readAt(visit, partition, freshness, least, kind, what);
    } catch (error) {
      if (error instanceof assert.AssertionError) error.message = `read of ${what} at ${visit.life}: ${error.message}`;
      if (isTemporary(error)) clientele.count(`reads: ${(error as Error).name}`);
      else clientele.broke(error as Error);
    }
  }

  async readAt(
    visit: Visit,
    partition: number,
    freshness: Freshness,
    least: number,
    kind: "partition" | "stream" | "event" | "sequence",
    what: string,
  ): Promise<void> {
    const { clientele, chance } = this;
    const isHere = clientele.holds(visit.node, partition);
    const before = clientele.replicas(partition);
    let found = 0;
    switch (kind) {
      case "partition": {
        const from = chance.oneIn(4) ? 0 : Math.max(0, clientele.ackedEnd(partition) - chance.below(TAIL));
        const direction = chance.oneIn(4) ? "backward" as const : "forward" as const;
        const events = await visit.ask(
          (store) => collect(store.readPartition(partition, { ...freshness, from, direction })),
          PATIENCE_MS,
        );
        if (direction === "backward") events.reverse();
        const isPlain = Object.keys(freshness).length === 0; // Else it may be the leader's answer.
        this.#see(visit, partition, from, events, isPlain && isHere && clientele.holds(visit.node, partition));
        const last = events.at(-1);
        assert.ok(last === undefined || clientele.isLast(last.name), `ends within a transaction, with ${last?.name}`);
        // Of nothing from there on it is not known how much there is.
        found = events.length > 0 || from === 0 ? from + events.length : least > from ? from : least;
        break;
      }
      case "stream": {
        const acked = clientele.ackedIds(partition).slice(-TAIL);
        if (acked.length === 0) return;
        const { stream } = chance.pick(acked);
        const partitionKey = clientele.keyOf(partition);
        const options = { ...freshness, partitionKey };
        const events = await visit.ask((store) => collect(store.readStream(stream, options)), PATIENCE_MS);
        events.forEach(({ version }, i) => assert.equal(version, i, "a version is missing"));
        const ids = new Set(events.map(({ name }) => name));
        for (const one of acked) {
          if (one.stream === stream && one.sequence < least) assert.ok(ids.has(one.id), `lacks ${one.id}`);
        }
        found = least;
        break;
      }
      case "event": {
        const acked = clientele.ackedIds(partition).slice(-TAIL);
        if (acked.length === 0) return;
        const { id, sequence } = chance.pick(acked);
        const eventId = eventIdOf(id, clientele.keyOf(partition));
        const event = await visit.ask((store) => store.event(eventId, freshness), PATIENCE_MS);
        if (event === null) assert.ok(sequence >= least, `${id} is not there`);
        else assert.deepEqual([event.name, event.sequence], [id, sequence]);
        found = least;
        break;
      }
      case "sequence":
        found = 1 + (await visit.ask((store) => store.partitionSequence(partition, freshness), PATIENCE_MS) ?? -1);
    }
    assert.ok(found >= least, `${found} events, and ${least} must be there`);
    clientele.count(
      `reads: ${"atLeast" in freshness ? "at least" : freshness.fromLeader ? "from the leader" : "plain"}`,
    );
    if (isHere || found > 0 && kind === "sequence") return;
    const after = clientele.replicas(partition);
    const wereGone = before.every(({ life, end }, i) =>
      end === null && after[i]!.end === null && life === after[i]!.life
    );
    assert.ok(!wereGone, `answered, and no replica was there (${what})`);
  }

  #see(visit: Visit, partition: number, from: number, records: EventRecord[], isHere: boolean): void {
    const { history } = this.clientele;
    // Who is asked elsewhere may be behind who was asked before.
    const reader = isHere && records.length > 0 ? visit.life : `${visit.life}, elsewhere, read ${history.reads}`;
    if (records.length > 0 || from === 0) {
      history.see({ partition, reader, from, events: seen(records), at: this.clientele.now() });
    }
  }
}

export async function collect(scan: Scan): Promise<EventRecord[]> {
  const events: EventRecord[] = [];
  for await (const page of scan.pages()) events.push(...page);
  return events;
}

/** Appends many without waiting, and does not try again. */
export class Burster {
  isIdle = true;
  #count = 0;

  constructor(readonly name: string, readonly clientele: Clientele, readonly chance: Chance) {}

  async run(): Promise<void> {
    const { clientele, chance } = this;
    while (!clientele.isOver) {
      await pause(clientele.timers, chance.between(1, 2 * BURST_EVERY_MS));
      if (!clientele.isOver) await this.#burst();
    }
  }

  async #burst(): Promise<void> {
    const { clientele, chance, clientele: { history } } = this;
    const node = chance.below(clientele.nodeCount);
    const partition = chance.below(clientele.partitionCount);
    const stream = `${partition}-${this.name}.${this.#count++}`;
    const isChain = chance.oneIn(2);
    const operations = Array.from({ length: chance.between(2, BURST_MAX) }, (_, i) => {
      const id = `${stream}.${i}`;
      const expected = isChain ? i - 1 : null;
      return {
        request: { partition, events: [{ id, stream }], expected },
        operation: history.ask(partition, [id], stream, expected, clientele.now()),
        isWrong: false,
      };
    });
    this.isIdle = false;
    let left = operations.length;
    const { promise, resolve } = Promise.withResolvers<void>();
    clientele.appendAll(node, operations.map(({ request }) => request), chance.pick(SPREAD_MS), (i, answer) => {
      const one = operations[i]!;
      const { operation } = one;
      if (answer.kind === "ok") history.acknowledge(operation, answer.firstSequence, clientele.now());
      else if (answer.kind === "refused") history.refuse(operation, clientele.now());
      else if (answer.kind === "wrong version") {
        one.isWrong = true;
        history.refuse(operation, clientele.now());
        history.tellVersion(partition, stream, answer.current);
      }
      if (--left === 0) resolve();
    });
    await Promise.race([promise, pause(clientele.timers, 2 * PATIENCE_MS)]);
    this.isIdle = true;
    let last = -1;
    let areStored = true;
    for (const { operation: { outcome, ids, firstSequence }, isWrong } of operations) {
      if (outcome === "ok") {
        clientele.count("bursts: stored");
        if (firstSequence <= last) {
          return clientele.broke(
            new Error(`${ids} at ${firstSequence} has overtaken what was called before, at ${last}`),
          );
        }
        last = firstSequence;
      } else if (isWrong && areStored) {
        return clientele.broke(new Error(`${ids} expected what was called before it, and that is stored`));
      }
      areStored &&= outcome === "ok";
    }
  }
}
