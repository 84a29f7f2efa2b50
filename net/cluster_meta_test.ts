import assert from "node:assert/strict";
import { Damaged, FolderMismatch, InvalidArgument } from "../core/errors.ts";
import { MemoryDisk } from "../core/log/memory_disk.ts";
import { metaPath } from "../core/meta.ts";
import type { ClusterConfig } from "./cluster_config.ts";
import {
  clusterMetaPath,
  forcedPath,
  forgetBeginning,
  forgetForced,
  foundingPath,
  foundingText,
  holdToFirstStart,
  restoredPath,
} from "./cluster_meta.ts";

const CONFIG: ClusterConfig = {
  ...{ node: 0, clusterId: "c", partitionCount: 32, bucketCount: 4, replicationFactor: 2 },
  segmentBytes: 1024 * 1024,
  nodes: [0, 1, 2].map((index) => ({
    ...{ peerId: `12D3KooW${"ABC"[index]!.repeat(44)}`, addresses: [`/ip4/192.0.2.1/tcp/${index}`], client: "" },
  })),
};

/** Neither founder nor told anything. */
const LATE = { founder: false, isRestored: false, isForced: false };

function folder(): MemoryDisk {
  const disk = new MemoryDisk();
  disk.makeFolder("d");
  return disk;
}

function put(disk: MemoryDisk, path: string, text = ""): void {
  const file = disk.open(path, "create");
  file.write(new TextEncoder().encode(text), 0);
  file.close();
}

/** The file that says that a folder holds a store. */
function putStore(disk: MemoryDisk): void {
  put(disk, metaPath("d"));
}

Deno.test("cluster meta: the first start is written down, and holds for all others", async () => {
  const disk = folder();
  await holdToFirstStart(disk, "d", CONFIG);
  putStore(disk);
  // Addresses may change.
  const nodes = CONFIG.nodes.map((node) => ({ ...node, addresses: ["/dns4/x/tcp/1"], client: "x:1" }));
  await holdToFirstStart(disk, "d", { ...CONFIG, nodes });
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

Deno.test("cluster meta: who is new together with all others counts until that is durable, and never again", async () => {
  const disk = folder();
  await disk.syncFolder("");
  put(disk, foundingPath("d"), foundingText("c", "blank"));
  const founder = { ...LATE, founder: true };
  assert.deepEqual(await holdToFirstStart(disk, "d", CONFIG), founder);
  assert.deepEqual(await holdToFirstStart(disk, "d", CONFIG), founder);
  await forgetBeginning(disk, "d");
  assert.deepEqual(await holdToFirstStart(disk, "d", CONFIG), LATE);
  await forgetBeginning(disk, "d");
  for (let seed = 0; seed < 20; seed++) {
    assert.deepEqual(await holdToFirstStart(disk.clone().afterPowerCut(seed), "d", CONFIG), LATE);
  }
});

Deno.test("cluster meta: a folder with nothing but what was made for it recovers, and does not count", async () => {
  assert.deepEqual(await holdToFirstStart(folder(), "d", CONFIG), LATE);
});

Deno.test("cluster meta: a node begins with a store only where the cluster was made from it, and only while it has it", async () => {
  const begin = async (founding: "blank" | "adopted" | null, hasStore: boolean) => {
    const disk = folder();
    if (hasStore) putStore(disk);
    if (founding !== null) put(disk, foundingPath("d"), foundingText("c", founding));
    return (await holdToFirstStart(disk, "d", CONFIG)).founder;
  };
  assert.equal(await begin("adopted", true), true);
  assert.equal(await begin("adopted", false), false);
  await assert.rejects(begin("blank", true), InvalidArgument);
  await assert.rejects(begin(null, true), InvalidArgument);
});

Deno.test("cluster meta: a folder that was put back is told so once, and is no founder", async () => {
  const disk = folder();
  await holdToFirstStart(disk, "d", CONFIG);
  putStore(disk);
  put(disk, foundingPath("d"), foundingText("c", "blank")); // The copy was that old.
  put(disk, restoredPath("d"));
  assert.deepEqual(await holdToFirstStart(disk, "d", CONFIG), { ...LATE, isRestored: true });
  await forgetBeginning(disk, "d");
  assert.deepEqual(await holdToFirstStart(disk, "d", CONFIG), LATE);
});

Deno.test("cluster meta: the word that forces a recovery holds until it is forgotten, and is refused but for two replicas", async () => {
  const disk = folder();
  await holdToFirstStart(disk, "d", CONFIG);
  put(disk, forcedPath("d"));
  for (let start = 0; start < 2; start++) {
    assert.deepEqual(await holdToFirstStart(disk, "d", CONFIG), { ...LATE, isForced: true });
    await forgetBeginning(disk, "d");
  }
  await forgetForced(disk, "d");
  assert.deepEqual(await holdToFirstStart(disk, "d", CONFIG), LATE);
  const three = folder();
  put(three, forcedPath("d"));
  await assert.rejects(
    holdToFirstStart(three, "d", { ...CONFIG, replicationFactor: 3 }),
    /cluster\.forced is for two replicas of each event: of 3 those that lost what they had recover by themselves/,
  );
});

Deno.test("cluster meta: a word on another cluster's founding is refused", async () => {
  const disk = folder();
  put(disk, foundingPath("d"), foundingText("other", "blank"));
  await assert.rejects(
    holdToFirstStart(disk, "d", CONFIG),
    /cluster\.founding does not say how cluster c was founded: found "other blank/,
  );
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
