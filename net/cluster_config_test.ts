import assert from "node:assert/strict";
import { InvalidArgument } from "../core/errors.ts";
import { MemoryDisk } from "../core/log/memory_disk.ts";
import {
  type ClusterConfig,
  clusterConfigText,
  configPath,
  listenAddressOf,
  parseClusterConfig,
  peerAddressesOf,
  readClusterConfig,
  readSecret,
  secretPath,
  secretText,
  shapeOf,
  transportNodesOf,
} from "./cluster_config.ts";
import { netPermission } from "./node_address.ts";

const PEERS = ["A", "B", "C"].map((letter) => `12D3KooW${letter.repeat(44)}`);

function config(changes: Partial<ClusterConfig> = {}): ClusterConfig {
  return {
    ...{ node: 1, clusterId: "c", partitionCount: 32, bucketCount: 4, replicationFactor: 3 },
    segmentBytes: 1024 * 1024,
    nodes: [
      { peerId: PEERS[0]!, addresses: ["/ip4/192.0.2.1/tcp/1"], client: "127.0.0.1:9090" },
      { peerId: PEERS[1]!, addresses: ["/dns4/node-1.example/tcp/2", "/ip6/2001:db8::1/tcp/2"], client: "[::1]:9090" },
      { peerId: PEERS[2]!, addresses: ["/ip6/2001:db8::2/tcp/3", "/ip4/192.0.2.3/tcp/3"], client: "localhost:1" },
    ],
    ...changes,
  };
}

/** The message for the text of a config with other words in it. */
function problem(from: string | RegExp, to: string): string {
  const text = clusterConfigText(config());
  const changed = text.replace(from, to);
  assert.notEqual(changed, text);
  try {
    parseClusterConfig(changed, "F");
  } catch (error) {
    assert.ok(error instanceof InvalidArgument);
    return error.message;
  }
  return "";
}

Deno.test("cluster config: what is written is read as it was", () => {
  for (const one of [config(), config({ listen: "/ip4/0.0.0.0/tcp/9092", node: 0 })]) {
    assert.deepEqual(parseClusterConfig(clusterConfigText(one), "F"), one);
  }
});

Deno.test("cluster config: a folder without one is no node", () => {
  assert.equal(readClusterConfig(new MemoryDisk(), "d"), null);
});

Deno.test("cluster config: says where a node listens, where its peers are and what Deno has to permit", () => {
  assert.equal(listenAddressOf(config()).place, "/ip4/0.0.0.0/tcp/2");
  assert.equal(listenAddressOf(config({ node: 0 })).place, "/ip4/192.0.2.1/tcp/1");
  assert.equal(listenAddressOf(config({ listen: "/dns4/localhost/tcp/2" })).place, "/ip4/127.0.0.1/tcp/2");
  assert.equal(listenAddressOf(config({ listen: "/dns6/node-1.example/tcp/2" })).place, "/ip6/::/tcp/2");
  assert.equal(listenAddressOf(config({ listen: "/ip4/0.0.0.0/tcp/9" })).place, "/ip4/0.0.0.0/tcp/9");
  assert.deepEqual(peerAddressesOf(config()).map(netPermission), ["192.0.2.1:1", "[2001:db8::2]:3", "192.0.2.3:3"]);
  assert.deepEqual(transportNodesOf(config())[2], [
    `/ip6/2001:db8::2/tcp/3/p2p/${PEERS[2]}`,
    `/ip4/192.0.2.3/tcp/3/p2p/${PEERS[2]}`,
  ]);
  assert.equal(shapeOf(config()).nodeCount, 3);
});

Deno.test("cluster config: each mistake is named, with the file", () => {
  const mistakes: [string | RegExp, string, RegExp][] = [
    ["{", "", /^F is not JSON: /],
    [/^[^]*$/, "[]", /^F describes no node of a cluster: it must be an object$/],
    ['"format": 1', '"format": 2', /its format is 2: this program reads 1$/],
    ['"node": 1', '"node": 3', /: there is no node 3 in its list: the cluster has 3$/],
    ['"node": 1', '"node": "1"', /: node must be a whole number: found "1"$/],
    ['"bucketCount"', '"bucketcount"', /: there is no key bucketcount; bucketCount must be a whole number/],
    ['"replicationFactor": 3', '"replicationFactor": 4', /4 replicas need as many nodes: there are 3$/],
    ['"bucketCount": 4', '"bucketCount": 33', /33 buckets need as many partitions: there are 32$/],
    ['"clusterId": "c"', '"clusterId": ""', /A cluster needs an id/],
    ['"clusterId": "c"', '"clusterId": 7', /clusterId must be text$/],
    [PEERS[2]!, PEERS[0]!, /: nodes 0 and 2 have the same peer id, 12D3KooWA+$/],
    [
      "/ip4/192.0.2.3/tcp/3",
      "/ip4/192.0.2.1/tcp/1",
      /: nodes 0 and 2 have the same address, \/ip4\/192.0.2.1\/tcp\/1$/,
    ],
    ["/ip4/192.0.2.3/tcp/3", "192.0.2.3:3", /nodes\[2\]\.addresses: "192.0.2.3:3" is no address of a node/],
    ["/tcp/1", `/tcp/1/p2p/${PEERS[0]}`, /nodes\[0\]\.addresses: the peer id of .* has a place of its own, peerId$/],
    [PEERS[1]!, "me", /nodes\[1\]\.peerId must be a peer id, such as 12D3KooW…: found "me"$/],
    ['"client": "localhost:1"', '"client": 1', /nodes\[2\]\.client must be HOST:PORT: found 1$/],
    [/"nodes": \[[^]*\]\n/, '"nodes": []\n', /: nodes must be a list of nodes$/],
    [/\[\s*"\/ip4\/192.0.2.1\/tcp\/1"\s*\]/, "[]", /nodes\[0\]\.addresses must be a list with an address$/],
    ['"node": 1', '"node": 1, "listen": "/ip4/0.0.0.0"', /: listen: "\/ip4\/0.0.0.0" is no address of a node/],
  ];
  for (const [from, to, message] of mistakes) assert.match(problem(from, to), message);
});

Deno.test("cluster config: the secret is 64 hex digits, and nothing else is one", () => {
  const disk = new MemoryDisk();
  disk.makeFolder("d");
  const write = (path: string, text: string) => {
    const file = disk.open(path, "create");
    file.write(new TextEncoder().encode(text), 0);
    file.close();
  };
  assert.throws(() => readSecret(disk, "d"), /There is no d\/cluster\.secret: a node needs the secret/);
  const secret = Uint8Array.from({ length: 32 }, (_, i) => 7 * i);
  write(secretPath("d"), secretText(secret));
  assert.deepEqual(readSecret(disk, "d"), secret);
  for (const text of ["", "00", "x".repeat(64), "0".repeat(63), "0".repeat(66)]) {
    write(secretPath("d"), text);
    assert.throws(() => readSecret(disk, "d"), /cluster\.secret must hold 64 hex digits/);
  }
  write(configPath("d"), "x".repeat(1024 * 1024 + 1));
  assert.throws(() => readClusterConfig(disk, "d"), /it is none of ours/);
});
