/** That stories hold, that they can be repeated, and that the world would notice if they did not hold. */
import assert from "node:assert/strict";
import { WrongExpectedVersion } from "../errors.ts";
import type { AppendResult, EventRecord, Transaction } from "../event.ts";
import { planned, storyOf } from "./operation.ts";
import { scanOver, storeOver } from "./planted.ts";
import { shrink } from "./shrink.ts";
import { Broken, type Plant, play } from "./world.ts";

Deno.test("stories of all faults hold", async () => {
  const met = new Set<string>();
  for (let seed = 1; seed <= 40; seed++) {
    const { operations, faults } = await play(storyOf(seed));
    assert.ok(operations > 0);
    for (const fault of faults.keys()) met.add(fault);
  }
  for (const fault of ["power cut", "kill", "torn write", "failing sync", "EIO on read", "slow sync", "full disk"]) {
    assert.ok(met.has(fault), `40 stories met no ${fault}, only ${[...met].join(", ")}`);
  }
});

Deno.test("the same seed gives the same run, to the last effect on the disk", async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const [one, other] = [await play(storyOf(seed)), await play(storyOf(seed))];
    assert.ok(one.trace.length > 1);
    assert.deepEqual(one, other);
  }
});

Deno.test("an operation does the same, whatever is left out around it", () => {
  const { operations } = storyOf(3);
  for (const operation of operations) {
    if (operation.kind === "append") assert.deepEqual(planned(operation), planned(structuredClone(operation)));
  }
});

const NOTHING: AppendResult = { partitionKey: "", partition: 0, firstSequence: 0, lastSequence: 0, events: [] };

/** Every fifth time, counted over all calls. */
function everyFifth(): () => boolean {
  let calls = 0;
  return () => ++calls % 5 === 0;
}

const faults: Record<string, { plant: () => Plant; caughtAs: RegExp }> = {
  "acknowledges what it does not store": {
    plant: () => {
      const now = everyFifth();
      return (store) => {
        const last = { result: NOTHING };
        const append = async (transaction: Transaction) => {
          if (now() && last.result !== NOTHING) return last.result;
          return last.result = await store.append(transaction);
        };
        return storeOver(store, { append });
      };
    },
    caughtAs: /append under|acknowledged/,
  },
  "stores what it refuses": {
    plant: () => {
      const now = everyFifth();
      return (store) =>
        storeOver(store, {
          append: async (transaction) => {
            const result = await store.append(transaction);
            if (!now()) return result;
            const { streamId } = result.events[0]!;
            throw new WrongExpectedVersion(streamId, result.partitionKey, 7, null);
          },
        });
    },
    caughtAs: /should have been stored|append under|acknowledged|events in all/,
  },
  "stores a retry again": {
    plant: () => (store) =>
      storeOver(store, {
        append: (transaction) => {
          const events = transaction.events.map((event) => ({ ...event, eventId: undefined }));
          return store.append({ ...transaction, events });
        },
      }),
    caughtAs: /append under|holds what nobody appended/,
  },
  "serves a changed byte": {
    plant: () => {
      const now = everyFifth();
      const change = (page: EventRecord[]) =>
        now() ? page.map((event) => ({ ...event, payload: event.payload.map((byte) => byte ^ 1) })) : page;
      return (store) =>
        storeOver(store, {
          readPartition: (partition, options) => scanOver(store.readPartition(partition, options), change),
        });
    },
    caughtAs: /partition \d|given|holds what nobody/,
  },
  "says that there is nothing where there is something": {
    plant: () => {
      const now = everyFifth();
      return (store) => storeOver(store, { event: async (id) => now() ? null : await store.event(id) });
    },
    caughtAs: /partition \d|just given/,
  },
  "forgets the last event of a stream": {
    plant: () => (store) =>
      storeOver(store, {
        readStream: (streamId, options) =>
          scanOver(store.readStream(streamId, options), (page) => page.length > 2 ? page.slice(0, -1) : page),
      }),
    caughtAs: /partition \d/,
  },
  "tells the sequence of a partition wrongly": {
    plant: () => (store) =>
      storeOver(store, {
        partitionSequence: async (partition) => {
          const head = await store.partitionSequence(partition);
          return head === null ? null : head + 1;
        },
      }),
    caughtAs: /head|lag\(\)|latest|does not answer|nothing to read/,
  },
  "leaves who appends without an answer": {
    plant: () => {
      const now = everyFifth();
      return (store) =>
        storeOver(store, { append: (transaction) => now() ? new Promise(() => {}) : store.append(transaction) });
    },
    caughtAs: /does not answer/,
  },
};

for (const [what, { plant, caughtAs }] of Object.entries(faults)) {
  Deno.test(`a store that ${what} is caught`, async () => {
    let caught = 0;
    for (let seed = 1; seed <= 3; seed++) {
      try {
        await play(storyOf(seed), plant());
      } catch (error) {
        assert.ok(error instanceof Broken, String(error));
        assert.match(String(error.cause), caughtAs);
        caught++;
      }
    }
    assert.ok(caught > 0, "no story of three caught it");
  });
}

Deno.test("a planted fault is shrunk to the operations that it takes", async () => {
  const plant: Plant = (store) =>
    storeOver(store, {
      readPartition: (partition, options) =>
        scanOver(store.readPartition(partition, options), (page) => page.length > 3 ? page.slice(1) : page),
    });
  const story = storyOf(2);
  const failure = async (operations: typeof story.operations) => {
    try {
      await play({ ...story, operations }, plant);
      return null;
    } catch (error) {
      assert.ok(error instanceof Broken);
      return "broken";
    }
  };
  const shortest = await shrink(story.operations, failure);
  assert.ok(shortest.length <= 3, `${shortest.length} of ${story.operations.length} operations are left`);
  assert.ok(shortest.every(({ kind }) => kind === "append"));
});
