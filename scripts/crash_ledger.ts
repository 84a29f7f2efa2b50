/**
 * What those who append know, and what a store must therefore have after a crash.
 *
 *     every acknowledged event is there, where the answer said, with the bytes that were sent
 *     what was there once stays there
 *     sequences of a partition and versions of a stream have no gaps
 *     a transaction is there as a whole, once, in its order, or not at all
 *     nothing is there that nobody sent, that was refused, or that an earlier crash had taken
 *
 * A payload follows from the name of its event, `WRITER.NUMBER.PLACE/COUNT`, so a name is all that is kept of it. So
 * that a thousand crashes can be looked at, `verifyNew` reads what came since the last look and a random part of the
 * rest; `verifyAll` reads everything.
 *
 * @module
 */
import assert from "node:assert/strict";
import { crc32 } from "node:zlib";
import type { Chance } from "../core/chance.ts";
import { partitionHash, partitionOf } from "../core/placement.ts";
import { parseUuid } from "../core/uuid.ts";
import type { Client } from "./resp_client.ts";

const PARTITIONS = 32;
const PAGE = 1000;
/** Of what was read before: so much is read again at each look. */
const AGAIN_PARTITIONS = 4;
const AGAIN_EVENTS = 100;
const AGAIN_LOOKUPS = 10;

/** Where an event is, as an answer or a read says. */
export interface Placed {
  stream: string;
  key: string;
  version: number;
  sequence: number;
  eventId: string;
}

interface Known extends Placed {
  name: string;
}

/** An event as EGET and EPSCAN give it. */
interface Read {
  event_id: string;
  partition_key: string;
  transaction_id: string;
  partition_sequence: number;
  stream_version: number;
  stream_id: Uint8Array;
  payload: Uint8Array;
}

const text = new TextDecoder();

/** The payload of an event of this name: small as a rule, large now and then. */
export function payloadOf(name: string): string {
  const sum = crc32(name);
  const filler = sum.toString(16).padStart(8, "0");
  return `${name} ${filler.repeat(sum % 20 === 0 ? (sum >>> 8) % 5000 : (sum >>> 8) % 40)}`;
}

/** The names of the events of a transaction. */
export function namesOf(writer: string, number: number, count: number): string[] {
  return Array.from({ length: count }, (_, place) => `${writer}.${number}.${place}/${count}`);
}

function partitionOfKey(key: string): number {
  return partitionOf(partitionHash(parseUuid(key)!), PARTITIONS);
}

export class Ledger {
  acks = 0;
  /** What a read after a crash has shown, by partition and sequence. */
  readonly #known: Known[][] = Array.from({ length: PARTITIONS }, () => []);
  /** The last version of each stream, up to what is known. */
  readonly #versions = new Map<string, number>();
  /** Acknowledged since the last look, by partition and sequence. */
  #answered = new Map<string, Known>();
  #refused = new Set<string>();
  /** Who may have sent what came since the last look. */
  #writers = new Set<string>();

  get events(): number {
    return this.#known.reduce((sum, { length }) => sum + length, 0);
  }

  /** How many were acknowledged since the last look. */
  get acknowledgedEvents(): number {
    return this.#answered.size;
  }

  /** A writer begins. Its name is its own until the next look. */
  begins(writer: string): void {
    this.#writers.add(writer);
  }

  /** An answer: these events are durable. */
  acknowledged(names: readonly string[], placed: readonly Placed[]): void {
    placed.forEach((one, i) =>
      this.#answered.set(`${partitionOfKey(one.key)}/${one.sequence}`, { ...one, name: names[i]! })
    );
    this.acks++;
  }

  /** An answer: nothing was stored of these. */
  refused(names: readonly string[]): void {
    for (const name of names) this.#refused.add(name);
  }

  /** Reads what came since the last look and a random part of the rest. How many events had no answer. */
  async verifyNew(client: Client, chance: Chance): Promise<number> {
    for (let n = 0; n < AGAIN_PARTITIONS; n++) {
      const partition = chance.below(PARTITIONS);
      const from = chance.below(this.#known[partition]!.length + 1);
      await this.#verifyKnown(client, partition, from, Math.min(from + AGAIN_EVENTS, this.#known[partition]!.length));
    }
    for (let n = 0; n < AGAIN_LOOKUPS; n++) await this.#lookUp(client, chance.pick(chance.pick(this.#known)));
    const answered = this.#answered.size, before = this.events;
    for (let partition = 0; partition < PARTITIONS; partition++) await this.#readNew(client, partition);
    for (const { name } of this.#answered.values()) assert.fail(`${name} was acknowledged, and is not there`);
    // What was on the way at the crash and is not there now must not come back later.
    this.#writers = new Set();
    this.#refused = new Set();
    return this.events - before - answered;
  }

  /** Reads everything. How many events had no answer. */
  async verifyAll(client: Client, chance: Chance): Promise<number> {
    const unanswered = await this.verifyNew(client, chance);
    for (let partition = 0; partition < PARTITIONS; partition++) {
      await this.#verifyKnown(client, partition, 0, this.#known[partition]!.length);
    }
    return unanswered;
  }

  async #verifyKnown(client: Client, partition: number, from: number, end: number): Promise<void> {
    for (let next = from; next < end;) {
      for (const event of await scan(client, partition, next, end - 1)) {
        this.#equal(event, this.#known[partition]![next]!);
        next++;
      }
    }
  }

  async #lookUp(client: Client, known: Known | undefined): Promise<void> {
    if (known === undefined) return; // Of a partition that is empty yet.
    const { stream, key, version, eventId } = known;
    this.#equal(await client.call("EGET", eventId) as unknown as Read | null, known);
    const found = await client.call("ESCAN", stream, version, version, "PARTITION_KEY", key);
    this.#equal((found as unknown as { events: Read[] }).events[0], known);
  }

  async #readNew(client: Client, partition: number): Promise<void> {
    const known = this.#known[partition]!;
    let transaction: { id: string; rest: string[] } = { id: "", rest: [] };
    for (;;) {
      const page = await scan(client, partition, known.length, null);
      if (page.length === 0) break;
      for (const event of page) {
        const payload = text.decode(event.payload), name = payload.split(" ", 1)[0]!;
        const found = { ...placed(event), name };
        assert.equal(found.sequence, known.length, `partition ${partition} has a gap`);
        assert.equal(payload, payloadOf(name), `${name} has other bytes than were sent`);
        const [, writer, number, count] = /^(.+)\.(\d+)\.\d+\/(\d+)$/.exec(name)!;
        assert(this.#writers.has(writer!), `${name} is there: nobody sent it since the last look`);
        assert(!this.#refused.has(name), `${name} was refused, and is there`);
        const identity = `${found.key} ${found.stream}`;
        assert.equal(found.version, (this.#versions.get(identity) ?? -1) + 1, `stream ${identity} has a gap`);
        this.#versions.set(identity, found.version);
        if (transaction.rest.length === 0) {
          transaction = { id: event.transaction_id, rest: namesOf(writer!, Number(number), Number(count)) };
        }
        assert.equal(name, transaction.rest.shift(), "a transaction is there by half");
        assert.equal(event.transaction_id, transaction.id, "a transaction is there by half");
        const place = `${partition}/${found.sequence}`;
        const answered = this.#answered.get(place);
        if (answered !== undefined) assert.deepEqual(found, answered, `${answered.name} is not where the answer said`);
        this.#answered.delete(place);
        known.push(found);
      }
    }
    assert.deepEqual(transaction.rest, [], "a transaction is there by half");
  }

  #equal(event: Read | null | undefined, known: Known): void {
    assert(event !== null && event !== undefined, `${known.name} was there before, and is not any more`);
    assert.deepEqual({ ...placed(event), name: known.name }, known, `${known.name} is not where it was`);
    assert.equal(text.decode(event.payload), payloadOf(known.name), `${known.name} has other bytes than before`);
  }
}

/** At most a page of a partition. */
async function scan(client: Client, partition: number, first: number, last: number | null): Promise<Read[]> {
  const page = await client.call("EPSCAN", partition, first, last ?? "+", "COUNT", PAGE);
  return (page as unknown as { events: Read[] }).events;
}

function placed(event: Read): Placed {
  return {
    stream: text.decode(event.stream_id),
    key: event.partition_key,
    version: event.stream_version,
    sequence: event.partition_sequence,
    eventId: event.event_id,
  };
}
