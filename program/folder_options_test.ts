import assert from "node:assert/strict";
import { InvalidArgument } from "../core/errors.ts";
import { clusterConfigText, configPath, listenAddressOf } from "../net/cluster_config.ts";
import { clusterMetaPath } from "../net/cluster_meta.ts";
import { formatAddress, readOptions } from "../options.ts";
import { readFolderOptions } from "./folder_options.ts";

function options(...args: string[]) {
  return readOptions({ args, env: () => undefined, file: () => null }).options;
}

async function withFolder(body: (dir: string) => void): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "esker-options-" });
  try {
    body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const CONFIG = clusterConfigText({
  ...{ node: 0, clusterId: "c", partitionCount: 8, bucketCount: 2, replicationFactor: 1 },
  segmentBytes: 1024 * 1024,
  nodes: [{ peerId: `12D3KooW${"A".repeat(44)}`, addresses: ["/ip4/192.0.2.1/tcp/1"], client: "127.0.0.1:9100" }],
});

Deno.test("folder options: a folder without cluster.json is alone, and everything is as it was asked for", () =>
  withFolder((dir) => {
    const asked = options("--partition-count", "5");
    const found = readFolderOptions(dir, asked);
    assert.deepEqual(found, { cluster: null, options: asked, problems: [], warnings: [] });
  }));

Deno.test("folder options: of a node its cluster.json has a word on settings, and settings on where it listens", () =>
  withFolder((dir) => {
    Deno.writeTextFileSync(configPath(dir), CONFIG);
    const { cluster, ...found } = readFolderOptions(dir, options());
    assert.equal(listenAddressOf(cluster!).place, "/ip4/192.0.2.1/tcp/1");
    assert.equal(formatAddress(found.options.values["network.client_address"]), "127.0.0.1:9100");
    assert.equal(found.options.values["partition.count"], 8);
    for (
      const [address, place] of [
        ["0.0.0.0:7", "/ip4/0.0.0.0/tcp/7"],
        ["[::1]:7", "/ip6/::1/tcp/7"],
        ["node-0.example:7", "/ip4/0.0.0.0/tcp/7"],
      ]
    ) {
      const elsewhere = readFolderOptions(dir, options("--cluster-address", address!));
      assert.equal(listenAddressOf(elsewhere.cluster!).place, place);
    }
    assert.equal(readFolderOptions(dir, options("--bucket-count", "3")).problems.length, 1);
  }));

Deno.test("folder options: what was a node must not serve alone", () =>
  withFolder((dir) => {
    Deno.writeTextFileSync(clusterMetaPath(dir), "");
    assert.throws(() => readFolderOptions(dir, options()), (error) => {
      assert.ok(error instanceof InvalidArgument);
      assert.match(error.message, /was a node of a cluster, and its cluster\.json is gone: it cannot serve alone/);
      return true;
    });
  }));
