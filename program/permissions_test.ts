import assert from "node:assert/strict";
import type { ClusterConfig } from "../net/cluster_config.ts";
import { readOptions } from "../options.ts";
import { flagsOf, programPermissions, workerPermissions } from "./permissions.ts";

function options(...args: string[]) {
  return readOptions({ args, env: () => undefined, file: () => null }).options;
}

const CHECKOUT = new URL("file:///home/me/esker/main.ts");

Deno.test("permissions: the Worker gets its folder, its address and statfs", () => {
  const worker = workerPermissions("serve", options("--client-address", "[::1]:9"), "/data", CHECKOUT);
  assert.deepEqual(worker, {
    ...{ read: ["/data"], write: ["/data"], net: ["[::1]:9"], sys: ["statfs"], import: [] },
    ...{ env: false, run: false, ffi: false },
  });
  assert.deepEqual(flagsOf(worker), [
    "--allow-read=/data",
    "--allow-write=/data",
    "--allow-net=[::1]:9",
    "--allow-sys=statfs",
  ]);
});

Deno.test("permissions: to check and to dump is to read, and needs no network", () => {
  for (const command of ["check", "dump"] as const) {
    const { read, write, net } = workerPermissions(command, options(), "/data", CHECKOUT);
    assert.deepEqual([read, write, net], [["/data"], [], []]);
  }
});

Deno.test("permissions: a repair reads the old folder, and writes nothing in it", () => {
  const { read, write, net } = workerPermissions("repair", options(), "/old", CHECKOUT, { to: "/new" });
  assert.deepEqual([read, write, net], [["/old", "/new"], ["/new"], []]);
});

const CLUSTER: ClusterConfig = {
  ...{ node: 1, clusterId: "c", partitionCount: 32, bucketCount: 4, replicationFactor: 3 },
  segmentBytes: 1024 * 1024,
  nodes: [
    { peerId: "A", addresses: ["/ip4/192.0.2.1/tcp/1", "/dns4/node-0.example/tcp/1"], client: "127.0.0.1:9090" },
    { peerId: "B", addresses: ["/ip4/192.0.2.2/tcp/2", "/ip4/192.0.2.2/tcp/20"], client: "127.0.0.1:9090" },
    { peerId: "C", addresses: ["/ip6/2001:db8::3/tcp/3"], client: "127.0.0.1:9090" },
  ],
};

Deno.test("permissions: a node besides listens for the others and connects to each of their places, and to no other", () => {
  const net = (cluster: ClusterConfig) => workerPermissions("serve", options(), "/d", CHECKOUT, { cluster }).net;
  const peers = ["192.0.2.1:1", "node-0.example:1", "[2001:db8::3]:3"];
  assert.deepEqual(net(CLUSTER), ["127.0.0.1:9090", "192.0.2.2:2", ...peers]);
  assert.deepEqual(net({ ...CLUSTER, listen: "/ip4/0.0.0.0/tcp/9092" }), ["127.0.0.1:9090", "0.0.0.0:9092", ...peers]);
  const { read, write, net: none } = workerPermissions("check", options(), "/d", CHECKOUT, { cluster: CLUSTER });
  assert.deepEqual([read, write, none], [["/d"], [], []]);
});

Deno.test("permissions: from a site, the Worker may import from there and the program needs no source folder", () => {
  const site = new URL("http://127.0.0.1:8000/v1/main.ts");
  const worker = workerPermissions("serve", options(), "/data", site);
  assert.deepEqual(worker.import, ["127.0.0.1:8000"]);
  assert.ok(programPermissions(worker, undefined, site).includes("--allow-read=/data"));
});

Deno.test("permissions: a checkout is read once more, and so is the settings file", () => {
  const worker = workerPermissions("serve", options(), "/data", CHECKOUT);
  assert.deepEqual(programPermissions(worker, "/etc/esker.toml", CHECKOUT), [
    "--allow-read=/data,/etc/esker.toml,/home/me/esker/",
    "--allow-write=/data",
    "--allow-net=127.0.0.1:9090",
    "--allow-sys=statfs",
    "--allow-env=ESKER_*",
  ]);
});

/** What a thread with the Worker's permissions may and may not do. */
const PROBE = `
const listen = (port) => Deno.listen({ hostname: "127.0.0.1", port }).close();
const ways = {
  "write the folder": () => Deno.writeTextFileSync(DIR + "/x", "x"),
  "read the folder": () => Deno.readTextFileSync(DIR + "/x"),
  "ask how full the disk is": async () => void (await import("node:fs")).statfsSync(DIR),
  "listen there": () => listen(PORT),
  "read another file": () => Deno.readTextFileSync("/etc/passwd"),
  "write beside the folder": () => Deno.writeTextFileSync(DIR + "x", "x"),
  "listen elsewhere": () => listen(PORT - 1),
  "connect": () => Deno.connect({ hostname: "127.0.0.1", port: PORT - 1 }),
  "read the environment": () => Deno.env.get("ESKER_DIR"),
  "run a program": () => new Deno.Command(Deno.build.os === "windows" ? "cmd" : "ls").outputSync(),
  "load a library": () => Deno.dlopen("libc.so.6", {}),
  "ask for the host name": () => Deno.hostname(),
  "import from a site": () => import("https://example.com/mod.ts"),
};
const may = {};
for (const [name, way] of Object.entries(ways)) {
  try {
    await way();
    may[name] = true;
  } catch (error) {
    may[name] = error instanceof Deno.errors.NotCapable || /Requires import access/.test(error.message) ? false : error.message;
  }
}
self.postMessage(may);
`;

Deno.test("permissions: a thread that holds them can do its work and nothing else", async () => {
  const dir = Deno.realPathSync(await Deno.makeTempDir({ prefix: "esker-fence-" }));
  let port;
  {
    using free = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    port = free.addr.port;
  }
  const code = `const DIR = ${JSON.stringify(dir)}, PORT = ${port};\n${PROBE}`;
  const permissions = workerPermissions("serve", options("--client-address", `127.0.0.1:${port}`), dir, CHECKOUT);
  const worker = new Worker(`data:application/javascript,${encodeURIComponent(code)}`, {
    type: "module",
    deno: { permissions },
  });
  try {
    const may = await new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => reject(new Error(event.message));
    });
    assert.deepEqual(may, {
      ...{ "write the folder": true, "read the folder": true, "listen there": true, "ask how full the disk is": true },
      ...{ "read another file": false, "write beside the folder": false, "listen elsewhere": false, "connect": false },
      ...{ "read the environment": false, "run a program": false, "load a library": false },
      ...{ "ask for the host name": false, "import from a site": false },
    });
  } finally {
    worker.terminate();
    await Deno.remove(dir, { recursive: true });
  }
});
