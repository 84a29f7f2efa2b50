/**
 * That every subscriber of every store is given each event once, in order; and the proof that it would be noticed:
 * stores with a planted fault, each of which must be caught.
 */
import assert from "node:assert/strict";
import { Chance } from "../chance.ts";
import type { AppendResult, EventRecord, NewEvent, Transaction } from "../event.ts";
import { MemoryStore } from "../memory_store.ts";
import { SeededEnvironment } from "../seeded_environment.ts";
import type { EventStore, Selection, Subscription } from "../store.ts";
import { Ledger, partitionSource, streamSource } from "./ledger.ts";
import { type Operation, type Story, storyOf } from "./operation.ts";
import { storeOver, subscriptionOver, subscriptionsOver } from "./planted.ts";
import { Broken, play } from "./world.ts";

const PARTITIONS = 8;
const PEACEFUL: readonly Operation["kind"][] = ["append", "read", "subscribe"];

/** A story in which many follow, and nothing happens to the store. */
function gathering(seed: number): Story {
  const story = storyOf(seed);
  const followers = Array.from({ length: 5 }, (_, i): Operation => ({ kind: "subscribe", seed: seed * 10 + i }));
  const peaceful = story.operations.filter(({ kind }) => PEACEFUL.includes(kind));
  return { ...story, operations: [...followers, ...peaceful] };
}

/** Plays a story to a store in memory, in place of the database. */
async function playInMemory(seed: number, over: (memory: MemoryStore) => EventStore): Promise<void> {
  const memory = new MemoryStore({ partitionCount: PARTITIONS, environment: new SeededEnvironment(seed) });
  const store = over(memory);
  await play(gathering(seed), (database) => storeOver(store, { close: () => database.close() }));
}

Deno.test("memory store: each subscriber is given each event once, in order", async () => {
  for (let seed = 1; seed <= 15; seed++) await playInMemory(seed, (memory) => memory);
});

Deno.test("database: each subscriber is given each event once, in order, when nothing happens to the store", async () => {
  for (let seed = 1; seed <= 15; seed++) await play(gathering(seed));
});

/** What a faulty subscription makes of a page. */
type Fault = (page: EventRecord[], chance: Chance) => EventRecord[];

const faults: Record<string, { fault: Fault; caughtAs: RegExp }> = {
  "drops an event": {
    fault: (page, chance) => page.toSpliced(chance.below(page.length), 1),
    caughtAs: /comes next|nothing to read|latest is|lag\(\) says|does not answer/,
  },
  "gives an event twice": {
    fault: (page, chance) => {
      const at = chance.below(page.length);
      return page.toSpliced(at, 0, page[at]!);
    },
    caughtAs: /comes next|were wanted/,
  },
  "swaps two events of a partition": {
    fault: (page) => {
      const at = page.findIndex(({ partition }, i) => partition === page[i + 1]?.partition);
      return at < 0 ? page : page.toSpliced(at, 2, page[at + 1]!, page[at]!);
    },
    caughtAs: /comes next|latest is|comes after/,
  },
  "tears a transaction": {
    fault: (page) => {
      // The first event of another partition comes into its middle.
      const at = page.findIndex(({ transactionId }, i) => transactionId === page[i + 1]?.transactionId);
      if (at < 0) return page;
      const other = page.findIndex(({ partition }, i) => i > at && partition !== page[at]!.partition);
      if (other < 0 || page.slice(0, other).some(({ partition }) => partition === page[other]!.partition)) return page;
      return page.toSpliced(other, 1).toSpliced(at + 1, 0, page[other]!);
    },
    caughtAs: /came into its transaction/,
  },
  "gives what is not of the selection": {
    fault: (page) => [...page.slice(0, -1), { ...page.at(-1)!, partition: PARTITIONS + 1, streamId: "foreign" }],
    caughtAs: /not what was subscribed to/,
  },
  "changes a byte": {
    fault: (page) =>
      page.map((event) => ({ ...event, payload: event.payload.map((byte, i) => i === 5 ? ~byte : byte) })),
    caughtAs: /just given|given before/,
  },
  "changes a name": {
    fault: (page) => page.map((event) => ({ ...event, name: "Other" })),
    caughtAs: /just given|given before/,
  },
};

for (const [what, { fault, caughtAs }] of Object.entries(faults)) {
  Deno.test(`a subscription that ${what} is caught`, async () => {
    await isCaught(caughtAs, (memory, chance) =>
      subscriptionsOver(memory, (subscription) => {
        const read = async (limit?: number) => {
          const page = await subscription.read(limit);
          return page.length > 0 && chance.oneIn(5) ? fault(page, chance) : page;
        };
        return subscriptionOver(subscription, { read });
      }));
  });
}

Deno.test("a subscription that counts wrongly is caught", async () => {
  await isCaught(/lag\(\) says/, (memory) =>
    subscriptionsOver(memory, (subscription) => {
      const lag = async () => await subscription.lag() + 1;
      return subscriptionOver(subscription, { lag });
    }));
});

Deno.test("a subscription that misses a wake-up is caught", async () => {
  await isCaught(/does not answer/, (memory, chance) =>
    subscriptionsOver(memory, (subscription) => {
      // It asks first and listens later: what comes between is missed.
      const ready = async () => {
        if (await subscription.lag() > 0 || subscription.closed || !chance.oneIn(3)) return await subscription.ready();
        return await new Promise<boolean>(() => {});
      };
      return subscriptionOver(subscription, { ready });
    }));
});

Deno.test("a subscription that shows an event before it is stored is caught", async () => {
  await isCaught(/just given|was closed gave/, (memory) => {
    let early: EventRecord[] = [];
    const storeLate = async (transaction: Transaction): Promise<AppendResult> => {
      const { partitionKey, events: [{ streamId, name, eventId, expectedVersion }, ...others] } = transaction as {
        partitionKey?: string;
        events: [NewEvent, ...NewEvent[]];
      };
      const isPlain = others.length === 0 && expectedVersion === "any" && typeof eventId === "string";
      if (isPlain && partitionKey !== undefined && await memory.event(eventId) === null) {
        const partition = memory.partitionOfKey(partitionKey);
        const sequence = (await memory.partitionSequence(partition) ?? -1) + 1;
        const version = (await memory.streamVersion(streamId, { partitionKey }) ?? -1) + 1;
        const place = { eventId, partitionKey, partition, transactionId: eventId, sequence, streamId, version };
        const none = new Uint8Array(0);
        early = [{ ...place, name, timestamp: 0, payload: none, metadata: none }];
        for (let turns = 0; turns < 100; turns++) await null;
        early = [];
      }
      return await memory.append(transaction);
    };
    let last: Promise<unknown> = Promise.resolve();
    const append = (transaction: Transaction) => {
      const appended = last.then(() => storeLate(transaction));
      last = appended.catch(() => {}); // Who appended is told; the next one only waits for its turn.
      return appended;
    };
    const over = (subscription: Subscription, selection: Selection) => {
      if (!("partitions" in selection && selection.partitions === "all" && selection.from === 0)) return subscription;
      const read = async (limit?: number) => {
        const page = await subscription.read(limit);
        return page.length > 0 ? page : early;
      };
      return subscriptionOver(subscription, { read });
    };
    return storeOver(subscriptionsOver(memory, over), { append });
  });
});

Deno.test("a ledger that lacks the last events says so", async () => {
  const store = new MemoryStore({ partitionCount: PARTITIONS, environment: new SeededEnvironment(1) });
  const { partition } = await store.append({ events: [{ streamId: "s", name: "a" }, { streamId: "s", name: "b" }] });
  const stored: EventRecord[] = [];
  for await (const event of store.readPartition(partition)) stored.push(event);
  for (const source of [partitionSource(partition, 0), streamSource("s", undefined, 0)]) {
    const ledger = new Ledger([source]);
    ledger.saw(stored[0]!);
    assert.deepEqual(await ledger.lag(store), [1, 1]);
    assert.throws(() => ledger.holdAll(stored), /all that a subscriber was given/);
    ledger.saw(stored[1]!);
    ledger.holdAll(stored);
    assert.throws(() => ledger.saw(stored[1]!), /number 2 comes next, given was 1/);
  }
});

/** Of some stories at least one tells on the faulty store, and each that does says what is wrong. */
async function isCaught(
  caughtAs: RegExp,
  storeOf: (memory: MemoryStore, chance: Chance) => EventStore,
): Promise<void> {
  let caught = 0;
  for (let seed = 1; seed <= 20 && caught < 3; seed++) {
    try {
      await playInMemory(seed, (memory) => storeOf(memory, new Chance(seed)));
    } catch (error) {
      assert.ok(error instanceof Broken, String(error));
      assert.match(String(error.cause), caughtAs);
      caught++;
    }
  }
  assert.ok(caught > 0, "none of 20 stories caught it");
}
