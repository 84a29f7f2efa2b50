import assert from "node:assert/strict";
import { systemEnvironment } from "../core/environment.ts";
import { FolderMismatch, InvalidArgument } from "../core/errors.ts";
import { type ClusterConfig, keyPath, secretPath, secretText } from "./cluster_config.ts";
import { foundingPath, foundingText, restoredPath } from "./cluster_meta.ts";
import { identityIn } from "./libp2p_transport.ts";
import { type ClusterNode, startCluster } from "./mod.ts";

/** libp2p leaves a timer or two running when it is stopped. */
const LIBP2P = { sanitizeOps: false, sanitizeResources: false };

/** A folder with a node's key and secret in it, and its config. */
async function withNode(body: (dir: string, config: ClusterConfig) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "esker-node-" });
  try {
    const { peerId } = await identityIn(dir);
    Deno.writeTextFileSync(secretPath(dir), secretText(new Uint8Array(32).fill(7)), { mode: 0o600 });
    await body(dir, {
      ...{ node: 1, clusterId: "c", partitionCount: 32, bucketCount: 4, replicationFactor: 2 },
      segmentBytes: 1024 * 1024,
      nodes: [`12D3KooW${"A".repeat(44)}`, peerId].map((id, index) => ({
        ...{ peerId: id, addresses: [`/ip4/127.0.0.1/tcp/${7400 + index}`], client: "127.0.0.1:9090" },
      })),
    });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** How a start fails, and what it logs. */
async function failure(dir: string, config: ClusterConfig): Promise<{ error: Error; logged: string[] }> {
  const logged: string[] = [];
  const error = await start(dir, config, logged).then(() => assert.fail("it started"), (error) => error as Error);
  return { error, logged };
}

function start(dir: string, config: ClusterConfig, logged: string[] = []): Promise<ClusterNode> {
  return startCluster({
    ...{ dir, config, environment: systemEnvironment(), limits: { journalBytes: 65_536 } },
    log: (level, message) => void logged.push(`${level}: ${message}`),
  });
}

Deno.test("startCluster() refuses a folder without the secret or the key, and makes neither", () =>
  withNode(async (dir, config) => {
    Deno.removeSync(keyPath(dir));
    const { error } = await failure(dir, config);
    assert.ok(error instanceof InvalidArgument);
    assert.match(error.message, /There is no .*node\.key: it must be the key that .* made for node 1/);
    Deno.removeSync(secretPath(dir));
    assert.match((await failure(dir, config)).error.message, /There is no .*cluster\.secret/);
    assert.deepEqual([...Deno.readDirSync(dir)], []);
  }));

Deno.test("startCluster() refuses a key that is not the one in the list", () =>
  withNode(async (dir, config) => {
    const { error } = await failure(dir, { ...config, node: 0 });
    assert.ok(error instanceof InvalidArgument);
    assert.match(error.message, /node\.key is the key of 12D3KooW.*, and node 0 in .*cluster\.json is 12D3KooWA+$/);
    assert.deepEqual([...Deno.readDirSync(dir)].some(({ name }) => name === "cluster.meta.json"), false);
  }));

Deno.test(
  "startCluster() holds the folder to its first start, and forgets that it was the first",
  LIBP2P,
  () =>
    withNode(async (dir, config) => {
      Deno.writeTextFileSync(foundingPath(dir), foundingText(config.clusterId, "blank"));
      const node = await start(dir, config);
      assert.equal(node.created, true);
      assert.deepEqual(node.store.cluster!().buckets.map(({ own }) => own?.role), new Array(4).fill("follower"));
      await node.close();
      assert.throws(() => Deno.statSync(foundingPath(dir)), Deno.errors.NotFound);
      const { error } = await failure(dir, { ...config, replicationFactor: 1 });
      assert.ok(error instanceof FolderMismatch);
      assert.match(error.message, /replicas 2: it cannot be opened with replicas 1/);
    }),
);

Deno.test(
  "startCluster() begins to recover where there is nothing, and where a copy was put back",
  LIBP2P,
  () =>
    withNode(async (dir, config) => {
      const roles = async () => {
        const node = await start(dir, config);
        const found = new Set(node.store.cluster!().buckets.map(({ own }) => own?.role));
        await node.close();
        return [...found];
      };
      assert.deepEqual(await roles(), ["recovering"]);
      for (const name of ["journal", "buckets"]) await Deno.remove(`${dir}/${name}`, { recursive: true });
      for (const path of ["meta.json", "cluster.meta.json"]) Deno.removeSync(`${dir}/${path}`);
      Deno.writeTextFileSync(foundingPath(dir), foundingText(config.clusterId, "blank"));
      assert.deepEqual(await roles(), ["follower"]);
      Deno.writeTextFileSync(restoredPath(dir), "");
      assert.deepEqual(await roles(), ["recovering"]);
      assert.throws(() => Deno.statSync(restoredPath(dir)), Deno.errors.NotFound);
      assert.deepEqual(await roles(), ["recovering"]);
    }),
);

Deno.test(
  "startCluster() tells what its queues to other nodes may hold",
  LIBP2P,
  () =>
    withNode(async (dir, config) => {
      const node = await start(dir, config);
      const bytes = node.bounds.find(({ of }) => of === "queues to other nodes")?.bytes;
      assert.equal(bytes, 80 * 1024 * 1024);
      await node.close();
    }),
);

Deno.test("startCluster() warns of a key or secret that others may read", {
  ...LIBP2P,
  ignore: Deno.build.os === "windows",
}, () =>
  withNode(async (dir, config) => {
    const logged: string[] = [];
    await (await start(dir, config, logged)).close();
    assert.deepEqual(logged.filter((line) => line.startsWith("warn: Other users")), []);
    Deno.chmodSync(secretPath(dir), 0o640);
    const again: string[] = [];
    await (await start(dir, config, again)).close();
    assert.match(again[0]!, /^warn: Other users may read/);
  }));
