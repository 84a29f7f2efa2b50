/**
 * Sees all nodes at once and holds them to what must be true of all together, at the moment at which it happens:
 *
 *     a term and the term that was begun last only rise on one disk; a term is begun by one process only
 *     entries of the same log index and term are the same entry, everywhere
 *     what is committed is one log: nobody commits another, nobody cuts a piece of it off
 *     what is committed is durable on a majority when it is committed for the first time, and so is an entry of the
 *     term in which it is
 *     nothing is said that is not durable: no term, no acknowledgement, no promise; and who says that its log is equal
 *     to the leader's is right
 *     who serves has all that was committed before its term, and in it
 *     nobody's committed end goes back while its process lives
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Chain } from "../consensus/entries.ts";
import type { HardState } from "../consensus/effect.ts";
import type { Sender } from "../consensus/message.ts";
import { majority } from "../consensus/quorum.ts";
import { type ClusterShape, slotOf } from "../consensus/topology.ts";
import type { Packet } from "../messages.ts";
import type { Witness } from "./node.ts";

function nameOf({ low, high }: Chain): string {
  return `${low.toString(16)} ${high.toString(16)}`;
}

/** What is known of one bucket. */
class BucketTruth {
  /** Chains at each end, of all that was ever committed. */
  readonly committed: string[] = [];
  /** Of each of these the term of the replica that committed it first. */
  readonly committedIn: number[] = [];
  /** By log index and term. */
  readonly entries = new Map<string, string>();
  /** By log index: which slots ever had the entry with this chain durable. */
  readonly holders: Map<string, number>[] = [];
  readonly begun = new Map<number, { node: number; dataId: number; boot: number }>();
  readonly hard = new Map<number, HardState>();
  /** By term: the chains at the ends of its leader's log, as far as it told others. */
  readonly logs = new Map<number, string[]>();
  /** By node: how much was committed when it lost its disk. */
  readonly lostAt = new Map<number, number>();
}

export class Oversight implements Witness {
  readonly #buckets: BucketTruth[];
  readonly counts = new Map<string, number>();

  constructor(readonly shape: ClusterShape) {
    this.#buckets = Array.from({ length: shape.bucketCount }, () => new BucketTruth());
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  committedEnd(bucket: number): number {
    return this.#buckets[bucket]!.committed.length;
  }

  /** Whether a log agrees with all that was committed, as far as it goes to `end`. */
  holdLog(node: number, bucket: number, end: number, chainAt: (end: number) => Chain): void {
    const { committed } = this.#buckets[bucket]!;
    assert.ok(
      end <= committed.length,
      `node ${node} shows ${end} entries of bucket ${bucket}: ${committed.length} were committed`,
    );
    if (end > 0) {
      assert.equal(nameOf(chainAt(end)), committed[end - 1], `node ${node} shows another log of bucket ${bucket}`);
    }
  }

  persisted(node: number, bucket: number, hard: HardState): void {
    const truth = this.#buckets[bucket]!;
    const before = truth.hard.get(node);
    if (before !== undefined && before.dataId === hard.dataId) {
      assert.ok(hard.term >= before.term, `the term of node ${node} went back`);
      assert.ok(hard.startedTerm >= before.startedTerm, `the term that node ${node} began last went back`);
    }
    truth.hard.set(node, hard);
  }

  /** The process is gone: the next one finds what was durable. */
  crashed(node: number): void {
    for (const { hard } of this.#buckets) hard.delete(node);
  }

  appended(node: number, bucket: number, logIndex: number, term: number, chain: Chain): void {
    if (this.shape.replicationFactor === 1) return; // Alone, what was lost un-synced may come again: nobody ever saw it.
    const { entries } = this.#buckets[bucket]!;
    const key = `${logIndex} ${term}`;
    const known = entries.get(key);
    const name = nameOf(chain);
    if (known === undefined) entries.set(key, name);
    else assert.equal(name, known, `node ${node} has another entry ${logIndex} of term ${term} in bucket ${bucket}`);
  }

  truncated(node: number, bucket: number, end: number, removed: readonly Chain[]): void {
    const { committed } = this.#buckets[bucket]!;
    for (const [i, chain] of removed.entries()) {
      assert.notEqual(
        nameOf(chain),
        committed[end + i],
        `node ${node} cut entry ${end + i} of bucket ${bucket}, which is committed`,
      );
    }
    if (removed.length > 0) this.count("truncations");
  }

  durable(node: number, bucket: number, logIndex: number, chain: Chain): void {
    const { holders } = this.#buckets[bucket]!;
    const of = holders[logIndex] ??= new Map();
    const name = nameOf(chain);
    of.set(name, (of.get(name) ?? 0) | 1 << slotOf(bucket, node, this.shape)!);
  }

  /** How many replicas ever had an entry durable. */
  #holders(bucket: number, logIndex: number, chain: Chain): number {
    const slots = this.#buckets[bucket]!.holders[logIndex]?.get(nameOf(chain)) ?? 0;
    return slots.toString(2).replaceAll("0", "").length;
  }

  /** The node loses its disk, or what is on it. */
  lost(node: number): void {
    for (const { lostAt, committed } of this.#buckets) lostAt.set(node, committed.length);
  }

  committed(
    node: number,
    bucket: number,
    from: number,
    end: number,
    chainAt: (end: number) => Chain,
    ownEnd: number | null,
  ): void {
    const { committed, committedIn, hard } = this.#buckets[bucket]!;
    if (end > committed.length && this.shape.replicationFactor > 1) {
      const holds = ownEnd === null ? 0 : this.#holders(bucket, ownEnd - 1, chainAt(ownEnd));
      assert.ok(
        holds >= majority(this.shape.replicationFactor),
        `node ${node} commits bucket ${bucket} to ${end}, and ${holds} replicas have an entry of its term durable`,
      );
    }
    assert.ok(end > from, `node ${node}: the committed end of bucket ${bucket} went from ${from} to ${end}`);
    for (let i = from; i < end; i++) {
      const name = nameOf(chainAt(i + 1));
      if (i < committed.length) {
        assert.equal(name, committed[i], `node ${node} committed another entry ${i} of bucket ${bucket}`);
        continue;
      }
      assert.equal(i, committed.length);
      const count = this.#holders(bucket, i, chainAt(i + 1));
      const needed = majority(this.shape.replicationFactor);
      assert.ok(
        count >= needed,
        `node ${node} committed entry ${i} of bucket ${bucket}, which ${count} replicas have durable`,
      );
      committed.push(name);
      committedIn.push(hard.get(node)?.term ?? 0);
    }
  }

  serves(node: number, bucket: number, term: number, logEnd: number, chainAt: (end: number) => Chain): void {
    const { committed, committedIn } = this.#buckets[bucket]!;
    this.count("terms served");
    // A leader that slept may find the acknowledgements of its first entry when it wakes, and others have gone on in a
    // later term: it can commit nothing any more.
    const all = 1 + committedIn.findLastIndex((one) => one <= term);
    assert.ok(
      logEnd >= all,
      `node ${node} serves bucket ${bucket} in term ${term} with ${logEnd} entries: ${all} were committed by then`,
    );
    if (all > 0) {
      assert.equal(nameOf(chainAt(all)), committed[all - 1], `node ${node} serves another log of bucket ${bucket}`);
    }
  }

  /** A term is begun once on one disk. One that was lost may have begun it in vain, heard by nobody. */
  #begins(node: number, { dataId, boot }: Sender, bucket: number, term: number): void {
    const { begun } = this.#buckets[bucket]!;
    const by = begun.get(term);
    if (by === undefined) this.count("terms begun");
    assert.ok(
      by === undefined || by.node === node,
      `term ${term} of bucket ${bucket} was begun by nodes ${by?.node} and ${node}`,
    );
    assert.ok(
      by === undefined || by.boot === boot || by.dataId !== dataId,
      `term ${term} of bucket ${bucket} was begun by two processes of node ${node}`,
    );
    begun.set(term, { node, dataId, boot });
  }

  sent(
    node: number,
    { bucket, from, message }: Packet,
    { hard, logEnd }: { hard: HardState; logEnd: number },
    chainAt: (end: number) => Chain,
  ): void {
    const said = `node ${node} says ${message.kind}`;
    assert.equal(from.dataId, hard.dataId, `${said} with an id that is not durable`);
    if ("term" in message) {
      assert.ok(message.term <= hard.term, `${said} of term ${message.term}: durable is term ${hard.term}`);
    }
    switch (message.kind) {
      case "newTerm":
        assert.ok(message.term <= hard.startedTerm, `${said} before it is durable that it began the term`);
        this.#begins(node, from, bucket, message.term);
        return;
      case "append":
        for (let end = message.from; end <= message.entries.end; end++) {
          this.#tells(bucket, message.term, end, message.entries.chainAt(end));
        }
        return;
      case "heartbeat":
        this.#tells(bucket, message.term, message.end, message.chain);
        return;
      case "ack":
        this.#holdEqual(said, bucket, message.term, message.end, chainAt);
        assert.ok(message.end <= logEnd, `${said} of ${message.end} entries: ${logEnd} are durable`);
        assert.ok(message.recovering || hard.mode === "normal", `${said} that counts, and it recovers`);
        return;
      case "heartbeatReply":
        this.#holdEqual(said, bucket, message.term, message.verifiedEnd, chainAt);
        assert.ok(message.durableEnd <= logEnd, `${said} of ${message.durableEnd} entries: ${logEnd} are durable`);
        return;
      case "promise":
        assert.ok(message.end <= logEnd, `${said} with ${message.end} entries: ${logEnd} are durable`);
        assert.equal(hard.mode, "normal", `${said}, and it recovers`);
        return;
      case "quarantine":
        this.count(`quarantine, ${message.why}`);
    }
  }

  #tells(bucket: number, term: number, end: number, chain: Chain): void {
    const { logs } = this.#buckets[bucket]!;
    const log = logs.get(term) ?? [];
    logs.set(term, log);
    const name = nameOf(chain);
    assert.ok(
      log[end] === undefined || log[end] === name,
      `the log of term ${term} of bucket ${bucket} changed below ${end}`,
    );
    log[end] = name;
  }

  /** Who says that its log is equal to that of the term's leader is right. */
  #holdEqual(said: string, bucket: number, term: number, end: number, chainAt: (end: number) => Chain): void {
    const told = this.#buckets[bucket]!.logs.get(term)?.[end];
    if (told !== undefined) {
      assert.equal(nameOf(chainAt(end)), told, `${said} of ${end} entries of another log than the leader's`);
    }
  }

  quarantined(node: number, bucket: number, reason: string): void {
    // Disks that are put back here get another id. So nobody ever has less than it had.
    assert.fail(`node ${node}, bucket ${bucket}: ${reason}`);
  }

  recovered(node: number, bucket: number, logEnd: number, chainAt: (end: number) => Chain): void {
    const { committed, lostAt } = this.#buckets[bucket]!;
    const end = lostAt.get(node) ?? 0;
    assert.ok(
      logEnd >= end,
      `node ${node} recovered ${logEnd} entries of bucket ${bucket}: ${end} were committed when it lost its own`,
    );
    if (end > 0) {
      assert.equal(nameOf(chainAt(end)), committed[end - 1], `node ${node} recovered another log of bucket ${bucket}`);
    }
    this.count("recovered");
  }

  readEnd(bucket: number, end: number, ackedEnd: number): void {
    assert.ok(
      end >= ackedEnd,
      `a linearizable read of bucket ${bucket} ends at ${end}: ${ackedEnd} entries were acknowledged`,
    );
    this.count("linearizable reads");
  }
}
