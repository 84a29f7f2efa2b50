import assert from "node:assert/strict";
import { NoReplica, OutcomeUnknown, TooFewReplicas, TryAgain } from "../../core/errors.ts";
import type { EventRecord } from "../../core/event.ts";
import { MemoryStore } from "../../core/memory_store.ts";
import type {
  ClusterStatus,
  Freshness,
  ReadOptions,
  Scan,
  Selection,
  StreamOptions,
  Subscription,
} from "../../core/store.ts";
import { listen } from "../mod.ts";
import { TestClient } from "../test_client.ts";

const ID = "01a20505-26b5-bd87-945c-2e28ce9cb943"; // Of partition 28.
const KEY = "e7a265f9-46bb-55fc-945c-3571e2aaa17e"; // Of stream user-1, in partition 16.

/** A store that keeps what it was asked for, or refuses it. */
class AskedStore extends MemoryStore {
  asked: Freshness[] = [];
  refusal: Error | null = null;

  #ask({ atLeast, fromLeader }: Freshness = {}): void {
    this.asked.push({ ...(atLeast !== undefined && { atLeast }), ...(fromLeader !== undefined && { fromLeader }) });
    if (this.refusal !== null) throw this.refusal;
  }

  // deno-lint-ignore require-await -- an error must be a rejection
  override async event(_id: string, freshness?: Freshness): Promise<EventRecord | null> {
    this.#ask(freshness);
    return null;
  }

  // deno-lint-ignore require-await -- an error must be a rejection
  override async streamVersion(streamId: string, options?: StreamOptions & Freshness): Promise<number | null> {
    this.#ask(options);
    return super.streamVersion(streamId, { partitionKey: options?.partitionKey });
  }

  // deno-lint-ignore require-await -- an error must be a rejection
  override async partitionSequence(partition: number, freshness?: Freshness): Promise<number | null> {
    this.#ask(freshness);
    return super.partitionSequence(partition);
  }

  override readStream(streamId: string, options: ReadOptions & StreamOptions = {}): Scan {
    this.#ask(options);
    return super.readStream(streamId, options);
  }

  override readPartition(partition: number, options: ReadOptions = {}): Scan {
    this.#ask(options);
    return super.readPartition(partition, options);
  }

  // deno-lint-ignore require-await -- an error must be a rejection
  override async subscribe(selection: Selection, freshness?: Freshness): Promise<Subscription> {
    this.#ask(freshness);
    return super.subscribe(selection);
  }
}

/** The same as a node of a cluster. */
class ClusterStore extends AskedStore {
  cluster(): ClusterStatus {
    return { node: 0, clusterId: "", configHash: "", replicationFactor: 1, nodes: [], buckets: [] };
  }
}

async function withClient<S extends MemoryStore>(store: S, act: (client: TestClient, store: S) => Promise<void>) {
  const listener = listen(store, { hostname: "127.0.0.1", port: 0, version: "0", peerId: "peer", initialProtocol: 3 });
  const client = await TestClient.connect(listener.port);
  try {
    await act(client, store);
  } finally {
    client.close();
    await listener.close();
  }
}

/** Each read, with room for options. */
const READS: ((...options: string[]) => string[])[] = [
  (...options) => ["EGET", ID, ...options],
  (...options) => ["ESCAN", "nobody", "-", "+", ...options],
  (...options) => ["EPSCAN", "16", "0", "5", ...options],
  (...options) => ["ESVER", "nobody", ...options],
  (...options) => ["EPSEQ", KEY, ...options],
  (...options) => ["EREAD", ...options, "PARTITIONS", "16", "0"],
  (...options) => ["EREAD", ...options, "STREAMS", "nobody", "0"],
];

Deno.test("every read passes on how new it must be", async () => {
  const cases: [string[], Freshness][] = [
    [[], {}],
    [["AT_LEAST", "0"], { atLeast: 0 }],
    [["at_least", "9007199254740991"], { atLeast: Number.MAX_SAFE_INTEGER }],
    [["LEADER"], { fromLeader: true }],
    [["leader", "AT_LEAST", "7"], { atLeast: 7, fromLeader: true }],
  ];
  await withClient(new AskedStore(), async (client, store) => {
    for (const read of READS) {
      for (const [options, freshness] of cases) {
        store.asked = [];
        assert.doesNotMatch(await client.ask(...read(...options)), /^-/);
        assert.deepEqual(store.asked, [freshness], read(...options).join(" "));
      }
    }
  });
});

Deno.test("the options stand among the others of a read, in any order", async () => {
  const commands = [
    ["ESCAN", "s", "-", "+", "COUNT", "5", "AT_LEAST", "7", "PARTITION_KEY", KEY, "LEADER"],
    ["ESCAN", "s", "9", "0", "LEADER", "REV", "AT_LEAST", "7"],
    ["EPSCAN", KEY, "+", "-", "AT_LEAST", "7", "COUNT", "5", "LEADER"],
    ["ESVER", "s", "AT_LEAST", "7", "PARTITION_KEY", KEY, "LEADER"],
    ["EREAD", "LEADER", "COUNT", "5", "AT_LEAST", "7", "BLOCK", "1", "PARTITIONS", "16", "0"],
  ];
  await withClient(new AskedStore(), async (client, store) => {
    for (const words of commands) {
      store.asked = [];
      assert.doesNotMatch(await client.ask(...words), /^-/, words.join(" "));
      assert.deepEqual(store.asked, [{ atLeast: 7, fromLeader: true }], words.join(" "));
    }
  });
});

Deno.test("what is no sequence, and what is given twice, is refused before the store is asked", async () => {
  await withClient(new AskedStore(), async (client, store) => {
    for (const read of READS) {
      for (const bad of ["-1", "x", "0.5", "", "9007199254740992", "+"]) {
        assert.match(await client.ask(...read("AT_LEAST", bad)), /^-INVALIDARG The sequence of AT_LEAST must be /);
      }
      assert.match(await client.ask(...read("LEADER", "LEADER")), /^-INVALIDARG LEADER is given twice/);
      assert.match(await client.ask(...read("AT_LEAST", "1", "AT_LEAST", "1")), /^-INVALIDARG AT_LEAST is given twice/);
      assert.match(await client.ask(...read("AT_MOST", "1")), /^-INVALIDARG Unexpected 'AT_MOST'/);
    }
    for (const words of READS.slice(0, 5).map((read) => read("AT_LEAST"))) {
      assert.match(await client.ask(...words), /^-INVALIDARG The sequence of AT_LEAST is missing/);
    }
    assert.deepEqual(store.asked, []);
  });
});

Deno.test("in a cluster the events of a scan are asked of a replica that has them all", async () => {
  await withClient(new ClusterStore(), async (client, store) => {
    await store.append({
      partitionKey: KEY,
      events: ["a", "user-1", "a"].map((streamId) => ({ streamId, name: "E" })),
    });
    const cases: [string[], Freshness[]][] = [
      [["ESCAN", "user-1", "-", "+"], [{}, { atLeast: 1 }]],
      [["ESCAN", "user-1", "-", "+", "AT_LEAST", "0", "LEADER"], [{ atLeast: 0, fromLeader: true }, { atLeast: 1 }]],
      [["ESCAN", "nobody", "-", "+", "LEADER"], [{ fromLeader: true }]],
      [["EPSCAN", "16", "0", "0"], [{}, { atLeast: 2 }]],
      [["EPSCAN", "16", "+", "-", "LEADER"], [{ fromLeader: true }, { atLeast: 2 }]],
      [["EPSCAN", "17", "-", "+"], [{}]],
    ];
    for (const [words, asked] of cases) {
      store.asked = [];
      assert.doesNotMatch(await client.ask(...words), /^-/, words.join(" "));
      assert.deepEqual(store.asked, asked, words.join(" "));
    }
  });
});

Deno.test("EREAD takes AT_LEAST for what is of one partition, and LEADER for any", async () => {
  await withClient(new MemoryStore(), async (client, store) => {
    await store.append({ partitionKey: KEY, events: [{ streamId: "a", name: "E" }, { streamId: "b", name: "E" }] });
    const streams = ["STREAMS", "a", "PARTITION_KEY", KEY, "0", "b", "PARTITION_KEY", KEY, "0"];
    assert.match(await client.ask("EREAD", "AT_LEAST", "1", ...streams), /^%.*"a".*"b"/);
    assert.match(await client.ask("EREAD", "AT_LEAST", "2", ...streams), /^-TRYAGAIN Partition 16 .* sequence 2.* 1$/);
    assert.match(await client.ask("EREAD", "BLOCK", "0", "AT_LEAST", "2", ...streams), /^-TRYAGAIN /);
    for (const several of [["PARTITIONS", "16", "0", "17", "0"], ["STREAMS", "a", "0", "user-1", "0"]]) {
      assert.match(await client.ask("EREAD", "AT_LEAST", "0", ...several), /^-INVALIDARG .*single partition/);
      assert.match(await client.ask("EREAD", "LEADER", ...several), /^%/);
    }
  });
});

Deno.test("a read that a cluster cannot answer now is told with the code that says so", async () => {
  const refusals: [Error, RegExp][] = [
    [new TryAgain("the leader is changing"), /^-TRYAGAIN the leader is changing$/],
    [new NoReplica("nobody holds it"), /^-CLUSTERDOWN nobody holds it$/],
    [new TooFewReplicas("1 of 3"), /^-INSUFFICIENTREPLICAS 1 of 3$/],
    [new OutcomeUnknown("who knows"), /^-UNKNOWN who knows$/],
  ];
  for (const store of [new AskedStore(), new ClusterStore()]) {
    await withClient(store, async (client) => {
      for (const read of [...READS, () => ["ESUB", "s"], () => ["EPSUB", "*"]]) {
        for (const [refusal, reply] of refusals) {
          store.refusal = refusal;
          assert.match(await client.ask(...read("LEADER")), reply);
        }
      }
    });
  }
});
