import assert from "node:assert/strict";
import { checkFolder, Damaged, openDatabase, systemDisk } from "../core/mod.ts";
import { segmentPath } from "../core/log/layout.ts";
import { parseClusterConfig, readClusterConfig, readSecret } from "../net/cluster_config.ts";
import { identityIn } from "../net/libp2p_transport.ts";
import { type ClusterInit, readOptions } from "../options.ts";
import { describeCluster, initCluster } from "./cluster_init.ts";

const NODES = "192.0.2.1:7400,node-1.example:7400,[2001:db8::2]:7400";

async function init(args: string, identity: typeof identityIn = identityIn) {
  const words = args.split(" ").filter((word) => word !== "");
  const { command, options, problems } = readOptions({
    args: ["cluster", "init", ...words],
    env: () => undefined,
    file: () => null,
  });
  assert.deepEqual(problems, []);
  return await initCluster(command as ClusterInit, options, identity);
}

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = Deno.realPathSync(await Deno.makeTempDir({ prefix: "esker-init-" }));
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function names(folder: string): string[] {
  return Array.from(Deno.readDirSync(folder), ({ name }) => name).sort();
}

/** A store with an event in it, closed. */
async function makeStore(dir: string): Promise<void> {
  await using store = await openDatabase({
    ...{ dir, partitionCount: 6, bucketCount: 3, segmentBytes: 1024 * 1024, journalBytes: 65_536 },
  });
  await store.append({ events: [{ streamId: "s", name: "n" }] });
}

Deno.test("cluster init: a folder for each node, which differ in their index and key and share the rest", () =>
  withFolder(async (above) => {
    const dir = `${above}/deep/cluster`;
    const made = await init(`--dir ${dir} --nodes ${NODES} --bucket-count 5`);
    assert.deepEqual(names(dir), ["node-0", "node-1", "node-2"]);
    assert.deepEqual(made.folders, [0, 1, 2].map((index) => `${dir}/node-${index}`));
    const secrets = new Set<string>();
    for (const [index, folder] of made.folders.entries()) {
      assert.deepEqual(names(folder), ["cluster.founding", "cluster.json", "cluster.secret", "node.key"]);
      const config = readClusterConfig(systemDisk, folder)!;
      assert.deepEqual(config, { ...made.config, node: index });
      assert.equal((await identityIn(folder)).peerId, config.nodes[index]!.peerId);
      secrets.add(readSecret(systemDisk, folder).toHex());
      if (Deno.build.os === "windows") continue;
      const mode = (name: string) => Deno.statSync(`${folder}/${name}`).mode! & 0o777;
      assert.deepEqual([mode("cluster.secret"), mode("node.key"), mode("cluster.json") & 0o007], [0o600, 0o600, 0]);
    }
    assert.equal(secrets.size, 1);
    const { nodes, ...rest } = made.config;
    assert.deepEqual(nodes.map(({ addresses, client }) => [...addresses, client]), [
      ["/ip4/192.0.2.1/tcp/7400", "127.0.0.1:9090"],
      ["/dns4/node-1.example/tcp/7400", "127.0.0.1:9090"],
      ["/ip6/2001:db8::2/tcp/7400", "127.0.0.1:9090"],
    ]);
    assert.match(rest.clusterId, /^[\da-f-]{36}$/);
    assert.deepEqual({ ...rest, clusterId: "" }, {
      ...{ clusterId: "", node: 0, partitionCount: 32, bucketCount: 5, replicationFactor: 3 },
      segmentBytes: 256 * 1024 * 1024,
    });
  }));

Deno.test("cluster init: an empty folder is taken; nodes of one host get ports of their own; few nodes, few copies", () =>
  withFolder(async (dir) => {
    const { config } = await init(`--dir ${dir} --nodes 127.0.0.1:1,127.0.0.1:2 --partition-count 2`);
    assert.deepEqual(config.nodes.map(({ client }) => client), ["127.0.0.1:9090", "127.0.0.1:9100"]);
    assert.deepEqual([config.replicationFactor, config.partitionCount, config.bucketCount], [2, 2, 2]);
  }));

Deno.test("cluster init: what was made, and what to do with it, is told", () =>
  withFolder(async (above) => {
    const closed = await init(`--dir ${above}/a --nodes ${NODES}`);
    const text = describeCluster(closed, "1.2.3");
    assert.match(text, /a cluster of 3 nodes: 32 partitions in 4 buckets, 3 copies of each/);
    assert.match(text, /must reach 2 of its 3 copies/);
    assert.match(text, /node 2 .*a\/node-2 .*\/ip6\/2001:db8::2\/tcp\/7400 .*127\.0\.0\.1:9090/);
    assert.match(text, /^ {2}esker serve --dir FOLDER$/m);
    const open = await init(`--dir ${above}/b --nodes ${NODES} --clients 192.0.2.1:1,node-1.example:1,[::1]:1`);
    assert.match(describeCluster(open, "1.2.3"), /^ {2}esker serve --dir FOLDER --network-protected-mode false$/m);
  }));

Deno.test("cluster init: what cannot be is refused, and leaves nothing", () =>
  withFolder(async (above) => {
    Deno.mkdirSync(`${above}/full/x`, { recursive: true });
    Deno.writeTextFileSync(`${above}/file`, "");
    await makeStore(`${above}/store`);
    const before = names(above);
    const asked = (words: string) => `--dir ${above}/new ${words}`;
    const cases: [string, RegExp][] = [
      [`--dir ${above}/full --nodes ${NODES}`, /full must be missing or empty: it has x$/],
      [`--dir ${above}/file --nodes ${NODES}`, /file cannot be made/],
      [asked("--nodes 10.0.0.1:1,10.0.0.1:1"), /--nodes has 10\.0\.0\.1:1 twice/],
      [asked("--nodes 10.0.0.1:0"), /10\.0\.0\.1:0 needs a port/],
      [asked("--nodes 0.0.0.0:1"), /0\.0\.0\.0:1 is nowhere/],
      [asked("--nodes [::]:1"), /\[::\]:1 is nowhere/],
      [asked("--nodes 127.0.0.1:1,10.0.0.1:1"), /only its own machine reaches/],
      [asked(`--nodes ${NODES} --clients 127.0.0.1:1`), /--clients has 1 addresses: there are 3 nodes/],
      [asked("--nodes 127.0.0.1:1,127.0.0.1:2 --clients 127.0.0.1:3,127.0.0.1:3"), /--clients has .*:3 .* twice/],
      [asked("--nodes 127.0.0.1:1 --clients 127.0.0.1:1"), /cannot listen for nodes and for clients on 127\.0\.0\.1:1/],
      [asked(`--nodes ${NODES} --replication-factor 4`), /4 replicas need as many nodes: there are 3/],
      [asked(`--nodes ${NODES} --adopt ${above}/none`), /none: there is no data folder/],
      [asked(`--nodes ${NODES} --adopt ${above}/store --partition-count 7`), /partition count 6: .* partition count 7/],
      [`--dir ${above}/store/new --nodes ${NODES} --adopt ${above}/store`, /must not lie in .*store/],
    ];
    const store = names(`${above}/store`);
    for (const [args, message] of cases) {
      await assert.rejects(init(args), message, args);
      assert.deepEqual(names(above), before, args);
      assert.deepEqual(names(`${above}/store`), store, args);
    }
  }));

Deno.test("cluster init: a store that was alone becomes node 0, with its own sizes, and each other node has a copy", () =>
  withFolder(async (above) => {
    const store = `${above}/store`;
    await makeStore(store);
    const before = names(store);
    const made = await init(`--dir ${above}/new --nodes ${NODES} --adopt ${store}`);
    assert.deepEqual(names(`${above}/new`), ["node-1", "node-2"]);
    assert.deepEqual(made.folders, [store, `${above}/new/node-1`, `${above}/new/node-2`]);
    assert.deepEqual(
      names(store),
      [...before, "cluster.founding", "cluster.json", "cluster.secret", "node.key"].sort(),
    );
    const config = readClusterConfig(systemDisk, store)!;
    assert.equal(config.node, 0);
    assert.deepEqual([config.partitionCount, config.bucketCount, config.segmentBytes], [6, 3, 1024 * 1024]);
    assert.equal((await identityIn(store)).peerId, config.nodes[0]!.peerId);
    assert.deepEqual(readClusterConfig(systemDisk, `${above}/new/node-1`), { ...config, node: 1 });
    for (const index of [1, 2]) {
      const copy = `${above}/new/node-${index}`;
      assert.deepEqual(names(copy), names(store).filter((name) => name !== "lock"));
      const { problems, events } = await checkFolder({ dir: copy });
      assert.deepEqual([problems, events], [[], 1]);
      assert.equal(Deno.readTextFileSync(`${copy}/cluster.founding`), `${config.clusterId} adopted\n`);
    }
    assert.ok(made.adoptedBytes! > 65_536);
    assert.match(describeCluster(made, "1.2.3"), /Node 0 is the store that was alone/);
    await assert.rejects(
      init(`--dir ${above}/again --nodes ${NODES} --adopt ${store}`),
      /belongs to a cluster already/,
    );
  }));

Deno.test("cluster init: a store that is open cannot be adopted", () =>
  withFolder(async (above) => {
    await using _store = await openDatabase({ dir: `${above}/store`, journalBytes: 65_536 });
    await assert.rejects(init(`--dir ${above}/new --nodes ${NODES} --adopt ${above}/store`), /store is in use/);
    assert.deepEqual(names(above), ["store"]);
  }));

Deno.test("cluster init: a damaged store is not adopted", () =>
  withFolder(async (above) => {
    const store = `${above}/store`;
    await makeStore(store);
    const segments = [0, 1, 2].map((bucket) => segmentPath(store, bucket, 0));
    const sizes = segments.map((path) => Deno.statSync(path).size);
    {
      using file = Deno.openSync(segments[sizes.indexOf(Math.max(...sizes))]!, { write: true });
      file.seekSync(Math.max(...sizes) - 8, Deno.SeekMode.Start);
      file.writeSync(new Uint8Array(8).fill(0xee));
    }
    await assert.rejects(init(`--dir ${above}/new --nodes ${NODES} --adopt ${store}`), (error) => {
      assert.ok(error instanceof Damaged, String(error));
      assert.match(error.message, /esker repair makes/);
      return true;
    });
    assert.deepEqual(names(above), ["store"]);
  }));

Deno.test("cluster init: what fails halfway leaves no folder, and the adopted store as it was", () =>
  withFolder(async (above) => {
    const store = `${above}/store`;
    await makeStore(store);
    const before = names(store);
    let keys = 0;
    const failing = (dir: string) => {
      if (++keys === 3) throw new Error("no more keys");
      return identityIn(dir);
    };
    await assert.rejects(init(`--dir ${above}/new --nodes ${NODES} --adopt ${store}`, failing), /no more keys/);
    assert.deepEqual([names(above), names(store)], [["store"], before]);
    // A folder where the last of its files is to be: the config, without which the others are nothing.
    Deno.mkdirSync(`${store}/cluster.json.tmp/x`, { recursive: true });
    const blocked = (dir: string) => {
      Deno.mkdirSync(`${store}/cluster.json/x`, { recursive: true });
      return identityIn(dir);
    };
    await assert.rejects(init(`--dir ${above}/new --nodes ${NODES} --adopt ${store}`, blocked));
    assert.deepEqual([names(above), names(store)], [["store"], before]);
    await using again = await openDatabase({ dir: store, journalBytes: 65_536 });
    assert.equal(await again.streamVersion("s"), 0);
  }));

Deno.test("cluster init: what it writes can be read by people, and by the program", () =>
  withFolder(async (above) => {
    await init(`--dir ${above}/new --nodes ${NODES}`);
    const text = Deno.readTextFileSync(`${above}/new/node-2/cluster.json`);
    assert.ok(text.split("\n").length > 10);
    assert.equal(parseClusterConfig(text, "").node, 2);
  }));
