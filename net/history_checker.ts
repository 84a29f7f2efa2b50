/**
 * Reads what clients saw, and says which promise was broken. It knows nothing of replicas, terms or logs.
 *
 * Sequences are visible, so that the order of writes is given and need not be searched for: all observations of a
 * partition must be pieces of one list. Against that list, which the last reads complete, each operation is held:
 *
 *     an acknowledged event is there, once, at its sequence      nothing that was refused is there
 *     a transaction is there whole, in a row, in its order       sequences and versions have no gaps
 *     an expected version was true where the event stands,       what was acknowledged before another was asked for,
 *     and so was each version that a refusal told                in the same partition, stands before it
 *     nobody ever saw what is not in the list
 *
 * Times are of one clock that all clients share.
 *
 * @module
 */

export interface SeenEvent {
  readonly id: string;
  readonly stream: string;
  readonly version: number;
  readonly sequence: number;
  /** Which event of how many of its transaction. */
  readonly part: number;
  readonly parts: number;
}

export interface Operation {
  readonly partition: number;
  readonly ids: readonly string[];
  readonly stream: string;
  /** Of the stream's last event before it; -1: none; null: any. */
  readonly expected: number | null;
  readonly askedAt: number;
  /** `unknown` as long as nothing definite was heard. */
  outcome: "unknown" | "ok" | "refused";
  answeredAt: number;
  firstSequence: number;
}

/** A reader of one partition on one node, in one life of it: what it sees only grows. */
export interface Read {
  readonly partition: number;
  readonly reader: string;
  readonly from: number;
  readonly events: readonly SeenEvent[];
  readonly at: number;
}

export class History {
  readonly operations: Operation[] = [];
  /** By partition and sequence: what anybody saw there. */
  readonly #seen = new Map<number, SeenEvent[]>();
  readonly #ends = new Map<string, number>();
  readonly #versions: { partition: number; stream: string; version: number }[] = [];
  readonly problems: string[] = [];
  reads = 0;

  ask(partition: number, ids: readonly string[], stream: string, expected: number | null, at: number): Operation {
    const operation: Operation = {
      ...{ partition, ids, stream, expected, askedAt: at },
      ...{ outcome: "unknown", answeredAt: Infinity, firstSequence: -1 },
    };
    this.operations.push(operation);
    return operation;
  }

  acknowledge(operation: Operation, firstSequence: number, at: number): void {
    if (operation.outcome === "ok" && operation.firstSequence !== firstSequence) {
      this.#tell(`duplicate: ${operation.ids} was acknowledged at ${operation.firstSequence} and at ${firstSequence}`);
    }
    operation.outcome = "ok";
    operation.firstSequence = firstSequence;
    operation.answeredAt = Math.min(operation.answeredAt, at);
  }

  /** Of all tries of the operation it is certain that nothing was stored. */
  refuse(operation: Operation, at: number): void {
    operation.outcome = "refused";
    operation.answeredAt = at;
  }

  /** A client was told that a stream is at this version: that it has such an event, for ever. */
  tellVersion(partition: number, stream: string, version: number): void {
    if (version >= 0) this.#versions.push({ partition, stream, version });
  }

  see({ partition, reader, from, events }: Read): void {
    this.reads++;
    const list = this.#seen.get(partition) ?? [];
    this.#seen.set(partition, list);
    let next = from;
    for (const event of events) {
      if (event.sequence !== next) this.#tell(`gap: partition ${partition} has ${event.sequence} after ${next - 1}`);
      next = event.sequence + 1;
      const known = list[event.sequence];
      if (known === undefined) list[event.sequence] = event;
      else if (known.id !== event.id || known.version !== event.version) {
        this.#tell(`other event: partition ${partition} has ${known.id} and ${event.id} at ${event.sequence}`);
      }
    }
    const last = events.at(-1);
    if (last !== undefined && last.part !== last.parts - 1) {
      this.#tell(
        `torn transaction: partition ${partition} ends at ${last.sequence}, part ${last.part} of ${last.parts}`,
      );
    }
    const key = `${reader} ${partition}`;
    const before = this.#ends.get(key) ?? 0;
    if (next < before) {
      this.#tell(`went back: ${reader} had ${before} events of partition ${partition}, and has ${next}`);
    } else this.#ends.set(key, next);
  }

  /** Judges all, given the whole of each partition as it is in the end. Empty when every promise was kept. */
  judge(partitions: ReadonlyMap<number, readonly SeenEvent[]>): string[] {
    for (const [partition, final] of partitions) {
      const seen = this.#seen.get(partition) ?? [];
      for (const [sequence, event] of seen.entries()) {
        if (event === undefined) continue;
        const kept = final[sequence];
        if (kept === undefined) {
          this.#tell(`lost, though it was read: ${event.id} at ${sequence} of partition ${partition}`);
        } else if (kept.id !== event.id) {
          this.#tell(
            `uncommitted read: ${event.id} was read at ${sequence} of partition ${partition}, where ${kept.id} is`,
          );
        }
      }
      this.#judgeFinal(partition, final);
    }
    this.#judgeOrder();
    return this.problems;
  }

  #judgeFinal(partition: number, final: readonly SeenEvent[]): void {
    const at = new Map<string, number>();
    const versions = new Map<string, number>();
    final.forEach((event, sequence) => {
      if (event.sequence !== sequence) this.#tell(`gap: partition ${partition} has ${event.sequence} at ${sequence}`);
      if (at.has(event.id)) {
        this.#tell(`duplicate: ${event.id} at ${at.get(event.id)} and ${sequence} of partition ${partition}`);
      }
      at.set(event.id, sequence);
      const version = (versions.get(event.stream) ?? -1) + 1;
      if (event.version !== version) {
        this.#tell(`gap: ${event.id} has version ${event.version} of ${event.stream}: ${version} is next`);
      }
      versions.set(event.stream, version);
    });
    for (const told of this.#versions) {
      if (told.partition !== partition || (versions.get(told.stream) ?? -1) >= told.version) continue;
      this.#tell(
        `uncommitted version: ${told.stream} was said to be at ${told.version}, and is at ${versions.get(told.stream)}`,
      );
    }
    for (const operation of this.operations) {
      if (operation.partition !== partition) continue;
      const { ids, outcome, firstSequence, expected } = operation;
      const sequence = at.get(ids[0]!);
      if (sequence === undefined) {
        if (outcome === "ok") this.#tell(`lost: ${ids} was acknowledged at ${firstSequence} of partition ${partition}`);
        if (ids.some((id) => at.has(id))) {
          this.#tell(`torn transaction: of ${ids} the first is not in partition ${partition}`);
        }
        continue;
      }
      if (outcome === "refused") {
        this.#tell(`phantom: ${ids} was refused, and is at ${sequence} of partition ${partition}`);
      }
      if (outcome === "ok" && sequence !== firstSequence) {
        this.#tell(
          `moved: ${ids} was acknowledged at ${firstSequence} of partition ${partition}, and is at ${sequence}`,
        );
      }
      if (ids.some((id, i) => final[sequence + i]?.id !== id)) {
        this.#tell(`torn transaction: ${ids} at ${sequence} of partition ${partition}`);
      }
      if (expected !== null && final[sequence]!.version !== expected + 1) {
        this.#tell(`expected version: ${ids} expected ${expected}, and has version ${final[sequence]!.version}`);
      }
    }
  }

  /** What was acknowledged before another was asked for stands before it. */
  #judgeOrder(): void {
    const byPartition = Map.groupBy(
      this.operations.filter(({ outcome }) => outcome === "ok"),
      ({ partition }) => partition,
    );
    for (const [partition, operations] of byPartition) {
      const answered = operations.toSorted((a, b) => a.answeredAt - b.answeredAt);
      let next = 0;
      let highest = -1;
      for (const operation of operations.toSorted((a, b) => a.askedAt - b.askedAt)) {
        for (; next < answered.length && answered[next]!.answeredAt < operation.askedAt; next++) {
          highest = Math.max(highest, answered[next]!.firstSequence);
        }
        if (operation.firstSequence <= highest) {
          this.#tell(
            `real-time order: ${operation.ids} is at ${operation.firstSequence} of partition ${partition}: ` +
              `${highest} was acknowledged before it was asked for`,
          );
        }
      }
    }
  }

  #tell(problem: string): void {
    this.problems.push(problem);
  }
}
