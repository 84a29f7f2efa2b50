import assert from "node:assert/strict";
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
  const { read, write, net } = workerPermissions("repair", options(), "/old", CHECKOUT, "/new");
  assert.deepEqual([read, write, net], [["/old", "/new"], ["/new"], []]);
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
