import assert from "node:assert/strict";
import { MemoryStore } from "../../core/memory_store.ts";
import type { ClusterStatus } from "../../core/store.ts";
import { listen } from "../mod.ts";
import { TestClient, textOf } from "../test_client.ts";
import type { Protocol } from "../value.ts";

/** Node 1 of three, two replicas a bucket: bucket 0 is elsewhere, 1 is led here, nobody leads 2. */
class OneOfThree extends MemoryStore {
  cluster(): ClusterStatus {
    const addresses = ["/ip4/10.0.0.1/tcp/9191", "/dns4/one/tcp/9191"];
    return {
      node: 1,
      clusterId: "orders",
      configHash: "cafe",
      replicationFactor: 2,
      nodes: [
        { peerId: "peer-0", addresses, linked: true, suspected: false, seenMs: 120 },
        { peerId: "peer-1", addresses: [], linked: false, suspected: false, seenMs: 0 },
        { peerId: "peer-2", addresses: [], linked: false, suspected: true, seenMs: null },
      ],
      buckets: [
        { replicas: [0, 2], term: 4, leader: 0, own: null, commitEnds: new Map([[0, 50]]) },
        {
          replicas: [1, 2],
          term: 2,
          leader: 1,
          own: { role: "serving", logEnd: 12, durableEnd: 11, commitEnd: 10, chain: "00ff" },
          commitEnds: new Map([[2, 7]]),
        },
        {
          replicas: [2, 1],
          term: 3,
          leader: null,
          own: { role: "asking", logEnd: 5, durableEnd: 5, commitEnd: 4, chain: "0011" },
          commitEnds: new Map([[2, 9], [1, 3]]),
        },
      ],
    };
  }
}

async function withClient(store: MemoryStore, protocol: Protocol, act: (client: TestClient) => Promise<void>) {
  const options = { hostname: "127.0.0.1", port: 0, version: "0", peerId: "alone", initialProtocol: protocol };
  const listener = listen(store, options);
  const client = await TestClient.connect(listener.port);
  try {
    await act(client);
  } finally {
    client.close();
    await listener.close();
  }
}

Deno.test("ECLUSTER tells of nodes, buckets, leaders and lag what the store knows", async () => {
  await withClient(new OneOfThree(), 3, async (client) => {
    const node = (node: number, linked: string, suspected: string, seen: string, led: number, addresses: string) =>
      `%{$"node": :${node}, $"peer_id": $"peer-${node}", $"self": #${node === 1 ? "t" : "f"}, $"linked": #${linked}, ` +
      `$"suspected": #${suspected}, $"seen_ms": ${seen}, $"buckets_led": :${led}, $"buckets_held": :${
        [1, 2, 3][node]
      }, ` +
      `$"addresses": *[${addresses}]}`;
    assert.equal(
      await client.ask("ECLUSTER", "NODES"),
      `*[${node(0, "t", "f", ":120", 1, `$"/ip4/10.0.0.1/tcp/9191", $"/dns4/one/tcp/9191"`)}, ` +
        `${node(1, "t", "f", ":0", 1, "")}, ${node(2, "f", "t", "_", 0, "")}]`,
    );
    const buckets = [
      `%{$"bucket": :0, $"replicas": *[:0, :2], $"term": :4, $"leader": :0, $"role": _, $"log_end": _, ` +
      `$"durable_end": _, $"commit_end": _, $"chain": _}`,
      `%{$"bucket": :1, $"replicas": *[:1, :2], $"term": :2, $"leader": :1, $"role": $"serving", $"log_end": :12, ` +
      `$"durable_end": :11, $"commit_end": :10, $"chain": $"00ff"}`,
      `%{$"bucket": :2, $"replicas": *[:2, :1], $"term": :3, $"leader": _, $"role": $"asking", $"log_end": :5, ` +
      `$"durable_end": :5, $"commit_end": :4, $"chain": $"0011"}`,
    ];
    assert.equal(await client.ask("ECLUSTER", "BUCKETS"), `*[${buckets.join(", ")}]`);
    assert.equal(await client.ask("ecluster", "buckets", "2", "0"), `*[${buckets[2]}, ${buckets[0]}]`);
    assert.equal(
      await client.ask("ECLUSTER", "LEADERS"),
      `*[%{$"leader": :0, $"buckets": *[:0]}, %{$"leader": :1, $"buckets": *[:1]}, %{$"leader": :2, $"buckets": *[]}, ` +
        `%{$"leader": _, $"buckets": *[:2]}]`,
    );
    assert.equal(
      await client.ask("ECLUSTER", "LEADERS", "1"),
      `*[%{$"leader": :0, $"buckets": *[]}, %{$"leader": :1, $"buckets": *[:1]}, %{$"leader": :2, $"buckets": *[]}]`,
    );
    const replica = (node: number, end: string, lag: string) =>
      `%{$"node": :${node}, $"commit_end": ${end}, $"lag": ${lag}}`;
    assert.equal(
      await client.ask("ECLUSTER", "LAG"),
      `*[%{$"bucket": :0, $"commit_end": :50, $"replicas": *[${replica(0, ":50", ":0")}, ${replica(2, "_", "_")}]}, ` +
        `%{$"bucket": :1, $"commit_end": :10, $"replicas": *[${replica(1, ":10", ":0")}, ${
          replica(2, ":7", ":3")
        }]}, ` +
        `%{$"bucket": :2, $"commit_end": :9, $"replicas": *[${replica(2, ":9", ":0")}, ${replica(1, ":4", ":5")}]}]`,
    );
  });
});

Deno.test("ECLUSTER is flat on RESP2", async () => {
  await withClient(new OneOfThree(), 2, async (client) => {
    assert.equal(
      await client.ask("ECLUSTER", "LEADERS", "2"),
      `*[*[$"leader", :0, $"buckets", *[]], *[$"leader", :1, $"buckets", *[]], *[$"leader", :2, $"buckets", *[]], ` +
        `*[$"leader", $-1, $"buckets", *[:2]]]`,
    );
    assert.match(
      await client.ask("ECLUSTER", "NODES"),
      /^\*\[\*\[\$"node", :0, \$"peer_id", \$"peer-0", \$"self", :0, /,
    );
  });
});

Deno.test("ECLUSTER refuses buckets that are not there, and what it does not know", async () => {
  await withClient(new OneOfThree(), 3, async (client) => {
    for (const subcommand of ["BUCKETS", "LEADERS", "LAG"]) {
      assert.match(await client.ask("ECLUSTER", subcommand, "3"), /^-INVALIDARG There is no bucket 3: .* has 3, /);
      assert.match(await client.ask("ECLUSTER", subcommand, "1", "1"), /^-INVALIDARG Bucket 1 is named twice/);
      assert.match(await client.ask("ECLUSTER", subcommand, "x"), /^-INVALIDARG The bucket must be a whole number/);
    }
    assert.match(await client.ask("ECLUSTER", "NODES", "1"), /^-INVALIDARG Unexpected '1'/);
    assert.match(await client.ask("ECLUSTER"), /^-INVALIDARG The subcommand is missing/);
    assert.match(await client.ask("ECLUSTER", "FAILOVER"), /^-ERR unknown subcommand 'FAILOVER'/);
  });
});

Deno.test("a lone node is a cluster of one that leads all", async () => {
  await withClient(new MemoryStore(), 3, async (client) => {
    assert.equal(
      await client.ask("ECLUSTER", "NODES"),
      `*[%{$"node": :0, $"peer_id": $"alone", $"self": #t, $"linked": #t, $"suspected": #f, $"seen_ms": :0, ` +
        `$"buckets_led": :1, $"buckets_held": :1, $"addresses": *[]}]`,
    );
    assert.equal(
      await client.ask("ECLUSTER", "BUCKETS"),
      `*[%{$"bucket": :0, $"replicas": *[:0], $"term": :1, $"leader": :0, $"role": $"serving", $"log_end": _, ` +
        `$"durable_end": _, $"commit_end": _, $"chain": _}]`,
    );
    assert.equal(await client.ask("ECLUSTER", "LEADERS"), `*[%{$"leader": :0, $"buckets": *[:0]}]`);
    assert.equal(
      await client.ask("ECLUSTER", "LAG", "0"),
      `*[%{$"bucket": :0, $"commit_end": _, $"replicas": *[%{$"node": :0, $"commit_end": _, $"lag": :0}]}]`,
    );
    assert.match(await client.ask("ECLUSTER", "LAG", "1"), /^-INVALIDARG There is no bucket 1/);
  });
});

Deno.test("INFO replication is that of a master to Redis clients, and of a cluster tells the rest behind it", async () => {
  const expected: [MemoryStore, string[]][] = [
    [new MemoryStore(), []],
    [new OneOfThree(), [
      "node:1",
      "nodes:3",
      "nodes_linked:2",
      "cluster_id:orders",
      "config_hash:cafe",
      "replication_factor:2",
      "buckets_held:2",
      "buckets_led:1",
      "buckets_without_leader:1",
      "lag_entries:5",
    ]],
  ];
  for (const [store, own] of expected) {
    await withClient(store, 2, async (client) => {
      await client.send("INFO", "replication");
      const lines = textOf(await client.frame()).split("\r\n");
      assert.deepEqual(lines, ["# Replication", "role:master", "connected_slaves:0", ...own, ""]);
    });
  }
});
