import assert from "node:assert/strict";
import { systemDisk } from "../core/mod.ts";
import { peerAddressesOf, readClusterConfig } from "../net/cluster_config.ts";
import { ClusterProcesses } from "./cluster_processes.ts";

/** In place of a node: it answers everything with PONG, and leaves a file in its folder. */
const STAND_IN = `
const dir = Deno.args[Deno.args.indexOf("-d") + 1];
const [hostname, port] = Deno.args[Deno.args.indexOf("--client-address") + 1].split(":");
Deno.writeTextFileSync(dir + "/data", "");
Deno.addSignalListener("SIGTERM", () => Deno.exit(0));
for await (const connection of Deno.listen({ hostname, port: Number(port) })) {
  (async () => {
    for await (const _ of connection.readable) await connection.write(new TextEncoder().encode("+PONG\\r\\n"));
  })().catch(() => {});
}
`;

async function withStandIns(body: (cluster: ClusterProcesses) => Promise<void>): Promise<void> {
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    Deno.writeTextFileSync(file, STAND_IN);
    const command = [Deno.execPath(), "run", "--no-prompt", "--allow-net=127.0.0.1", "--allow-write", file];
    await using cluster = await ClusterProcesses.make({
      command,
      init: ["--bucket-count=8", "--replication-factor=2"],
    });
    await body(cluster);
  } finally {
    await Deno.remove(file);
  }
}

Deno.test("cluster processes: each pair has a way of its own, in each direction, and all share the rest", () =>
  withStandIns((cluster) => {
    const configs = cluster.nodes.map(({ dir }) => readClusterConfig(systemDisk, dir)!);
    const ports = configs.flatMap((config) => peerAddressesOf(config).map(({ port }) => port));
    assert.equal(new Set(ports).size, 6);
    assert.deepEqual(ports, cluster.proxies.map(({ port }) => port));
    for (const [index, config] of configs.entries()) {
      assert.deepEqual([config.node, config.bucketCount, config.replicationFactor], [index, 8, 2]);
      assert.equal(config.clusterId, configs[0]!.clusterId);
      assert.equal(config.nodes[index]!.client, `127.0.0.1:${cluster.nodes[index]!.address.port}`);
    }
    // The proxy "0 to 1" carries back what the one from 1 to 0 carries there.
    assert.equal(cluster.proxies[0]!.back, cluster.proxies[2]!.there);
    assert.equal(cluster.direction(0, 1), cluster.proxies[0]!.there);
    cluster.cutOff(1);
    const held = () =>
      [0, 1, 2].flatMap((from) => [0, 1, 2].filter((to) => cluster.directions[from]![to]?.isHeld).length);
    assert.deepEqual(held(), [1, 2, 1]);
    cluster.heal();
    assert.deepEqual(held(), [0, 0, 0]);
    assert.throws(() => cluster.direction(1, 1), /no way from node 1 to 1/);
    return Promise.resolve();
  }));

Deno.test("cluster processes: nodes start, pause, resume, stop, are killed and wiped, one by one", () =>
  withStandIns(async (cluster) => {
    const [first, second, third] = cluster.nodes;
    await cluster.start();
    const pids = cluster.nodes.map(({ process }) => process.pid);
    assert.equal(new Set(pids).size, 3);
    assert.equal(await first!.stop(), 0);
    second!.pause();
    await second!.kill();
    third!.pause();
    third!.resume();
    await third!.process.answers();
    assert.deepEqual(cluster.nodes.map(({ isRunning }) => isRunning), [false, false, true]);
    assert.throws(() => third!.wipe(), /Node 2 still runs/);
    assert.throws(() => third!.spawn(), /Node 2 runs as process/);
    second!.wipe();
    assert.deepEqual([...Deno.readDirSync(second!.dir)].map(({ name }) => name).sort(), [
      ...["cluster.json", "cluster.secret", "node.key"],
    ]);
    await cluster.start();
    assert.deepEqual(cluster.nodes.map(({ isRunning }) => isRunning), [true, true, true]);
    assert.equal(third!.process.pid, pids[2]);
  }));

Deno.test("cluster processes: a node that does not come up is told with what it said", async () => {
  await assert.rejects(
    ClusterProcesses.start({ flags: ["--partition-count=0"] }),
    /ended with code 64 .*[^]*from 1 to/,
  );
});
