/**
 * What must hold for every subscriber of every store: see subscription_fuzz.ts for what is told and what is held. And
 * the proof that it would be noticed: stores with a planted fault, each of which must be caught.
 */
import assert from "node:assert/strict";
import { Chance } from "./chance.ts";
import type { AppendResult, EventRecord, NewEvent, Transaction } from "./event.ts";
import { MemoryStore } from "./memory_store.ts";
import { SeededEnvironment } from "./seeded_environment.ts";
import { type EventStore, type Selection, Subscription } from "./store.ts";
import { Story } from "./story.ts";
import { fuzz, Ledger, partitionSource, playStory, streamSource, type World } from "./subscription_fuzz.ts";

const PARTITIONS = 8;

/** A store that never ends. */
function worldOf(seed: number, storeOver: (store: MemoryStore, chance: Chance) => EventStore): World {
  const memory = new MemoryStore({ partitionCount: PARTITIONS, environment: new SeededEnvironment(seed) });
  const never = () => Promise.reject(new Error("It has no ends"));
  return {
    story: new Story(seed, { partitionCount: PARTITIONS }),
    store: storeOver(memory, new Chance(seed)),
    isGone: () => false,
    ends: [],
    restart: never,
    cutPower: never,
  };
}

Deno.test("database: each subscriber is given each event once, in order, whatever happens to the store", async () => {
  await fuzz(1, 60);
});

Deno.test("memory store: each subscriber is given each event once, in order", async () => {
  for (let seed = 1; seed <= 30; seed++) await playStory(worldOf(seed, (memory) => memory));
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
      faultyStore(memory, (subscription) => {
        const read = async (limit?: number) => {
          const page = await subscription.read(limit);
          return page.length > 0 && chance.oneIn(5) ? fault(page, chance) : page;
        };
        return subscriptionOver(subscription, { read });
      }));
  });
}

Deno.test("a subscription that counts wrongly is caught", async () => {
  await isCaught(
    /lag\(\) says/,
    (memory) =>
      faultyStore(
        memory,
        (subscription) => subscriptionOver(subscription, { lag: async () => await subscription.lag() + 1 }),
      ),
  );
});

Deno.test("a subscription that misses a wake-up is caught", async () => {
  await isCaught(/does not answer/, (memory, chance) =>
    faultyStore(memory, (subscription) => {
      // It asks first and listens later: what comes between is missed.
      const ready = async () => {
        if (await subscription.lag() > 0 || subscription.closed || !chance.oneIn(3)) return await subscription.ready();
        return await new Promise<boolean>(() => {});
      };
      return subscriptionOver(subscription, { ready });
    }));
});

Deno.test("a subscription that shows an event before it is stored is caught", async () => {
  await isCaught(/just given/, (memory) => {
    let early: EventRecord[] = [];
    const storeLate = async (transaction: Transaction): Promise<AppendResult> => {
      const { partitionKey, events: [{ streamId, name, eventId, expectedVersion }, ...others] } = transaction as {
        partitionKey?: string;
        events: [NewEvent, ...NewEvent[]];
      };
      const isPlain = others.length === 0 && expectedVersion === "any" && eventId !== undefined;
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
    return faultyStore(memory, over, append);
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
  storeOver: (memory: MemoryStore, chance: Chance) => EventStore,
): Promise<void> {
  let caught = 0;
  for (let seed = 1; seed <= 20; seed++) {
    try {
      await playStory(worldOf(seed, storeOver));
    } catch (error) {
      assert.match(String(error), caughtAs);
      caught++;
    }
  }
  assert.ok(caught > 0, `${caught} of 20 stories caught it`);
}

/** The store, with other subscriptions. */
function faultyStore(
  store: MemoryStore,
  over: (subscription: Subscription, selection: Selection) => Subscription,
  append: EventStore["append"] = (transaction) => store.append(transaction),
): EventStore {
  return {
    partitionCount: store.partitionCount,
    append,
    event: (id) => store.event(id),
    readStream: (streamId, options) => store.readStream(streamId, options),
    readPartition: (partition, options) => store.readPartition(partition, options),
    subscribe: async (selection: Selection) => over(await store.subscribe(selection), selection),
    streamVersion: (streamId, options) => store.streamVersion(streamId, options),
    partitionSequence: (partition) => store.partitionSequence(partition),
    partitionOfKey: (key) => store.partitionOfKey(key),
    status: () => store.status(),
    close: () => store.close(),
    [Symbol.asyncDispose]: () => store.close(),
  };
}

function subscriptionOver(
  subscription: Subscription,
  other: Partial<Pick<Subscription, "read" | "ready" | "lag">>,
): Subscription {
  return new class extends Subscription {
    override get closed() {
      return subscription.closed;
    }
    override read = (limit?: number) => (other.read ?? ((limit) => subscription.read(limit)))(limit);
    override ready = () => (other.ready ?? (() => subscription.ready()))();
    override lag = () => (other.lag ?? (() => subscription.lag()))();
    override close = () => subscription.close();
  }();
}
