import assert from "node:assert/strict";
import { MemoryStore } from "../../core/memory_store.ts";
import type { PartitionSelection, Selection, StreamSelection, Subscription } from "../../core/store.ts";
import { listen } from "../mod.ts";
import { TestClient } from "../test_client.ts";

const KEY = "5fd81ca5-59bf-4a9e-9149-fce4ee65c033"; // Of partition 7.

/** Asks for a subscription; what the store was asked for, or the error. */
async function withAsker(act: (ask: (...words: string[]) => Promise<Selection | string>) => Promise<void>) {
  let asked: Selection | null = null;
  class AskedStore extends MemoryStore {
    override subscribe(selection: Selection): Promise<Subscription> {
      asked = selection;
      return super.subscribe(selection);
    }
  }
  const listener = listen(new AskedStore(), {
    hostname: "127.0.0.1",
    port: 0,
    version: "0",
    peerId: "peer",
    initialProtocol: 3,
  });
  const client = await TestClient.connect(listener.port);
  try {
    await act(async (...words) => {
      asked = null;
      const reply = await client.ask(...words);
      if (asked === null || reply.startsWith("-")) return reply;
      assert.match(await client.reply(), /^>\[\+subscribe, /);
      return asked;
    });
  } finally {
    client.close();
    await listener.close();
  }
}

Deno.test("ESUB asks for the streams of its list, each from its start", async () => {
  await withAsker(async (ask) => {
    const cases: [string[], StreamSelection["streams"]][] = [
      [["a"], [{ streamId: "a", from: "latest" }]],
      [["a", "FROM", "LATEST"], [{ streamId: "a", from: "latest" }]],
      [["a", "from", "50", "window", "100"], [{ streamId: "a", from: 50 }]],
      [["a", "WINDOW", "1"], [{ streamId: "a", from: "latest" }]],
      [["FROM", "FROM", "5"], [{ streamId: "FROM", from: 5 }]],
      [["WINDOW", "WINDOW", "5"], [{ streamId: "WINDOW", from: "latest" }]],
      [["a", "PARTITION_KEY", KEY, "b"], [{ streamId: "a", partitionKey: KEY, from: "latest" }, {
        streamId: "b",
        from: "latest",
      }]],
      [["a", "b", "c", "FROM", "MAP", "a=1", "c=2", "nobody=3", "WINDOW", "9"], [
        { streamId: "a", from: 1 },
        { streamId: "b", from: "latest" },
        { streamId: "c", from: 2 },
      ]],
      [["a", "PARTITION_KEY", KEY, "a", "FROM", "MAP", "a=1", "a=7"], [
        { streamId: "a", partitionKey: KEY, from: 7 },
        { streamId: "a", from: 7 },
      ]],
    ];
    for (const [words, streams] of cases) {
      const found = await ask("ESUB", ...words) as StreamSelection;
      assert.deepEqual(
        found.streams,
        streams.map((stream) => ({ partitionKey: undefined, ...stream })),
        words.join(" "),
      );
    }
    const many = Array.from({ length: 5000 }, (_, i) => `stream-${i}`);
    assert.equal((await ask("ESUB", ...many, "FROM", "0") as StreamSelection).streams.length, 5000);
  });
});

Deno.test("EPSUB asks for the partitions that its selector names, each from its start", async () => {
  await withAsker(async (ask) => {
    const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
    const cases: [string[], PartitionSelection["partitions"], PartitionSelection["from"], [number, number][]?][] = [
      [["*"], "all", "latest"],
      [["4"], [4], "latest"],
      [["99", "FROM", "0"], [99], 0],
      [["65535"], [65535], "latest"],
      [[KEY], [7], "latest"],
      [["0-3"], numbers(0, 3), "latest"],
      [["0-65535"], numbers(0, 65535), "latest"],
      [["3-3"], [3], "latest"],
      [[` 5 , ${KEY},1 - 2,2-4 `], [1, 2, 3, 4, 5, 7], "latest"],
      [["2,1,2"], [1, 2], "latest"],
      [["4", "FROM", "MAP", "4=3"], [4], "latest", [[4, 3]]],
      [["4", "FROM", "MAP", "99=3", "DEFAULT", "4"], [4], 4, [[99, 3]]],
      [["4", "FROM", "map", "4=99", "default", "3", "window", "10"], [4], 3, [[4, 99]]],
      [["*", "FROM", "MAP", "4=1", "4=2", "5=0"], "all", "latest", [[4, 2], [5, 0]]],
    ];
    for (const [words, partitions, from, starts = []] of cases) {
      assert.deepEqual(
        await ask("EPSUB", ...words),
        { partitions, from, starts: new Map(starts) },
        words.join(" "),
      );
    }
    const list = Array.from({ length: 60_000 }, () => "0-65535").join(",");
    assert.deepEqual((await ask("EPSUB", list) as PartitionSelection).partitions, numbers(0, 65535));
    assert.match(await ask("EPSUB", `${list},${list}`) as string, /^-INVALIDARG /);
  });
});
