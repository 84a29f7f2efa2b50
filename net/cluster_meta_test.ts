import assert from "node:assert/strict";
import { Damaged, FolderMismatch, InvalidArgument } from "../core/errors.ts";
import { MemoryDisk } from "../core/log/memory_disk.ts";
import { metaPath } from "../core/meta.ts";
import type { ClusterConfig } from "./cluster_config.ts";
import { clusterMetaPath, holdToFirstStart } from "./cluster_meta.ts";

const CONFIG: ClusterConfig = {
  ...{ node: 0, founding: "blank", clusterId: "c", partitionCount: 32, bucketCount: 4, replicationFactor: 2 },
  segmentBytes: 1024 * 1024,
  nodes: [0, 1, 2].map((index) => ({
    ...{ peerId: `12D3KooW${"ABC"[index]!.repeat(44)}`, addresses: [`/ip4/192.0.2.1/tcp/${index}`], client: "" },
  })),
};

function folder(): MemoryDisk {
  const disk = new MemoryDisk();
  disk.makeFolder("d");
  return disk;
}

/** The file that says that a folder holds a store. */
function putStore(disk: MemoryDisk): void {
  disk.open(metaPath("d"), "create").close();
}

Deno.test("cluster meta: the first start is written down, and holds for all others", async () => {
  const disk = folder();
  const first = await holdToFirstStart(disk, "d", CONFIG);
  assert.equal(first.founder, true);
  putStore(disk);
  // Addresses may change.
  const nodes = CONFIG.nodes.map((node) => ({ ...node, addresses: ["/dns4/x/tcp/1"], client: "x:1" }));
  assert.deepEqual(await holdToFirstStart(disk, "d", { ...CONFIG, nodes }), first);
});

Deno.test("cluster meta: a start as another node, or with another shape, is refused and says in what it differs", async () => {
  const disk = folder();
  await holdToFirstStart(disk, "d", CONFIG);
  const others: [Partial<ClusterConfig>, string, RegExp][] = [
    [{ node: 1 }, "node", /was made with node 0: it cannot be opened with node 1/],
    [{ clusterId: "other" }, "cluster", /made with cluster c: .* cluster other/],
    [{ nodes: CONFIG.nodes.slice(0, 2) }, "nodes", /nodes 3: .* nodes 2/],
    [{ replicationFactor: 3 }, "replicas", /replicas 2: .* replicas 3/],
    [{ partitionCount: 64 }, "partitions", /partitions 32: .* partitions 64/],
    [{ bucketCount: 5 }, "buckets", /buckets 4: .* buckets 5/],
    [{ segmentBytes: 2 }, "segment", /segment 1048576: .* segment 2/],
  ];
  for (const [changes, setting, message] of others) {
    await assert.rejects(holdToFirstStart(disk, "d", { ...CONFIG, ...changes }), (error) => {
      assert.ok(error instanceof FolderMismatch);
      assert.equal(error.setting, setting);
      assert.match(error.message, message);
      return true;
    });
  }
});

Deno.test("cluster meta: only node 0 of an adopted cluster may begin with a store", async () => {
  const begin = async (changes: Partial<ClusterConfig>, hasStore: boolean) => {
    const disk = folder();
    if (hasStore) putStore(disk);
    return (await holdToFirstStart(disk, "d", { ...CONFIG, ...changes })).founder;
  };
  assert.equal(await begin({}, false), true);
  assert.equal(await begin({ founding: "adopted" }, true), true);
  // Its disk was lost: it has to take over what the others have.
  assert.equal(await begin({ founding: "adopted" }, false), false);
  assert.equal(await begin({ founding: "adopted", node: 1 }, false), false);
  for (const changes of [{}, { founding: "adopted", node: 1 }] as const) {
    await assert.rejects(begin(changes, true), InvalidArgument);
  }
});

Deno.test("cluster meta: a lost node 0 is no founder at its second start either", async () => {
  const disk = folder();
  const config: ClusterConfig = { ...CONFIG, founding: "adopted" };
  await holdToFirstStart(disk, "d", config);
  putStore(disk);
  assert.equal((await holdToFirstStart(disk, "d", config)).founder, false);
});

Deno.test("cluster meta: a damaged one is told, not believed", async () => {
  const disk = folder();
  await holdToFirstStart(disk, "d", CONFIG);
  const file = disk.open(clusterMetaPath("d"), "write");
  const bytes = new Uint8Array(file.size());
  file.read(bytes, 0);
  const text = new TextDecoder().decode(bytes);
  file.write(new TextEncoder().encode(text.replace('"node":0', '"node":1')), 0);
  await assert.rejects(holdToFirstStart(disk, "d", CONFIG), (error) => {
    assert.ok(error instanceof Damaged);
    assert.match(error.message, /cluster\.meta\.json.*fails its checksum/);
    return true;
  });
  file.write(new TextEncoder().encode("{"), 0);
  file.truncate(1);
  await assert.rejects(holdToFirstStart(disk, "d", CONFIG), /it is not JSON/);
});
