import assert from "node:assert/strict";
import { systemEnvironment } from "../core/environment.ts";
import { FolderMismatch, InvalidArgument } from "../core/errors.ts";
import { type ClusterConfig, keyPath, secretPath, secretText } from "./cluster_config.ts";
import { clusterMetaPath } from "./cluster_meta.ts";
import { identityIn } from "./libp2p_transport.ts";
import { startCluster } from "./mod.ts";

/** A folder with a node's key and secret in it, and its config. */
async function withNode(body: (dir: string, config: ClusterConfig) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "esker-node-" });
  try {
    const { peerId } = await identityIn(dir);
    Deno.writeTextFileSync(secretPath(dir), secretText(new Uint8Array(32).fill(7)), { mode: 0o600 });
    await body(dir, {
      ...{ node: 1, founding: "blank", clusterId: "c", partitionCount: 32, bucketCount: 4, replicationFactor: 2 },
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
  const error = await startCluster({
    ...{ dir, config, environment: systemEnvironment() },
    log: (level, message) => void logged.push(`${level}: ${message}`),
  }).then(() => assert.fail("it started"), (error) => error as Error);
  return { error, logged };
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

Deno.test("startCluster() holds the folder to its first start", () =>
  withNode(async (dir, config) => {
    await failure(dir, config);
    assert.ok(Deno.statSync(clusterMetaPath(dir)).isFile);
    const { error } = await failure(dir, { ...config, replicationFactor: 1 });
    assert.ok(error instanceof FolderMismatch);
    assert.match(error.message, /replicas 2: it cannot be opened with replicas 1/);
  }));

Deno.test("startCluster() warns of a key or secret that others may read", {
  ignore: Deno.build.os === "windows",
}, () =>
  withNode(async (dir, config) => {
    assert.deepEqual((await failure(dir, config)).logged, []);
    Deno.chmodSync(secretPath(dir), 0o640);
    assert.match((await failure(dir, config)).logged[0]!, /^warn: Other users may read/);
  }));
