/**
 * The program as a process: from this checkout, or whatever ESKER_SERVER names, such as the binary.
 *
 * @module
 */
import assert from "node:assert/strict";
import { EXIT_CODES } from "./program/exit_codes.ts";
import { Client, concat, encodeCommand, exact, Link } from "./scripts/resp_client.ts";
import { OWN_PROGRAM_FLAG } from "./scripts/program_flags.ts";
import { freePort, serverCommand, ServerProcess } from "./scripts/server_process.ts";

const COMMAND = serverCommand();
/** Whether it is this source that runs, and not something built from it. */
const FROM_SOURCE = Deno.env.get("ESKER_SERVER") === undefined;

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

async function run(...args: string[]): Promise<Ended> {
  const [program, ...words] = COMMAND;
  const { code, stdout, stderr } = await new Deno.Command(program!, { args: [...words, ...args] }).output();
  return { code, stdout: new TextDecoder().decode(stdout), stderr: new TextDecoder().decode(stderr) };
}

/** Starts a server on a new folder, stops it when it has greeted. */
async function startAndStop(
  [program, ...args]: string[],
  env: Record<string, string> = {},
  cwd = ".",
): Promise<{ code: number; greeting: string; stderr: string }> {
  const child = new Deno.Command(program!, { args, env, cwd, stdout: "piped", stderr: "piped" }).spawn();
  const stderr = new Response(child.stderr).text();
  const stdout = child.stdout.getReader();
  const { value } = await stdout.read();
  if (value !== undefined) child.kill("SIGTERM");
  await stdout.cancel();
  const { code } = await child.status;
  return { code, greeting: new TextDecoder().decode(value), stderr: await stderr };
}

/** The messages of the records in a log of JSON lines. */
function messages(log: string): string[] {
  return log.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line).message);
}

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = Deno.realPathSync(await Deno.makeTempDir({ prefix: "esker-main-" }));
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("main: makes a store, says so once, and has after kill -9 what it acknowledged", () =>
  withFolder(async (above) => {
    const folder = `${above}/not/there/yet`;
    let eventId;
    {
      await using server = await ServerProcess.start({ command: COMMAND, folder });
      using client = await Client.connect(server.address);
      const reply = await client.call("EAPPEND", "user-123", "UserCreated", '{"name": "Alice"}');
      eventId = (reply as { event_id: string }).event_id;
      assert.ok(server.output.includes(`made a new store in ${folder}: 32 partitions in 4 buckets`), server.output);
      assert.ok(server.output.includes(`redis-cli -p ${server.address.port} EAPPEND user-123`));
      await server.kill();
    }
    await using server = await ServerProcess.start({ command: COMMAND, folder });
    using client = await Client.connect(server.address);
    const { events } = await client.call("ESCAN", "user-123", "-", "+") as { events: Record<string, unknown>[] };
    assert.equal(events.length, 1);
    assert.equal(events[0]!.event_id, eventId);
    assert.deepEqual(events[0]!.payload, new TextEncoder().encode('{"name": "Alice"}'));
    assert.equal(server.output.includes("made a new store"), false);
  }));

for (const signal of ["SIGTERM", "SIGINT", "SIGQUIT"] as const) {
  Deno.test(`main: ${signal} answers what is in flight, closes and ends with 0`, () =>
    withFolder(async (folder) => {
      let answered = 0;
      {
        await using server = await ServerProcess.start({ command: COMMAND, folder });
        using link = await Link.open(server.address, exact);
        await link.write(concat(Array.from({ length: 200 }, () => encodeCommand(["EAPPEND", "s", "n", "{}"]))));
        await link.read(2);
        answered++;
        server.process.kill(signal);
        for (let reply; (reply = await link.read(2)) !== undefined; answered++) {
          assert.notEqual(reply.type, "error", JSON.stringify(reply));
        }
        assert.equal((await server.process.status).code, 0);
        await server.stop(); // It has ended: this only waits for its last words.
        assert.deepEqual(messages(server.output).slice(-2), [`${signal}: stopping`, "Stopped"]);
      }
      await using server = await ServerProcess.start({ command: COMMAND, folder });
      using client = await Client.connect(server.address);
      assert.ok(await client.call("ESVER", "s") as number >= answered - 1);
    }));
}

Deno.test("main: a second signal waits for nothing", async () => {
  await using server = await ServerProcess.start({ command: COMMAND });
  using link = await Link.open(server.address, exact);
  // More replies than the sockets hold, which nobody reads: closing would wait for them.
  await link.write(encodeCommand(["EAPPEND", "s", "n", new Uint8Array(1024 * 1024)]));
  await link.read(2);
  await link.write(concat(Array.from({ length: 50 }, () => encodeCommand(["ESCAN", "s", "-", "+"]))));
  await link.read(2); // It is at them.
  server.process.kill("SIGTERM");
  while (!messages(server.output).includes("SIGTERM: stopping")) await new Promise((resolve) => setTimeout(resolve, 5));
  server.process.kill("SIGTERM");
  assert.equal((await server.process.status).code, 143);
});

Deno.test("main: SHUTDOWN from a client is a clean end", async () => {
  await using server = await ServerProcess.start({ command: COMMAND });
  using link = await Link.open(server.address, exact);
  await link.write(encodeCommand(["SHUTDOWN"]));
  assert.equal(await link.read(2), undefined);
  assert.equal((await server.process.status).code, 0);
});

Deno.test("main: a folder in use, a port in use, other settings and a bad folder are one line and a code", () =>
  withFolder(async (folder) => {
    await using server = await ServerProcess.start({ command: COMMAND, folder: `${folder}/a` });
    const { port } = server.address;
    const free = ["--client-address", `127.0.0.1:${freePort()}`];
    Deno.writeTextFileSync(`${folder}/file`, "");
    {
      await using made = await ServerProcess.start({
        command: COMMAND,
        folder: `${folder}/b`,
        flags: ["--partition-count=8"],
      });
      assert.equal(await made.stop(), 0);
    }
    const cases: [Ended, keyof typeof EXIT_CODES, RegExp][] = [
      [await run("-d", `${folder}/a`, ...free), "inUse", /a is in use/],
      [await run("check", `${folder}/a`), "inUse", /a is in use/],
      [
        await run("-d", `${folder}/b`, "--client-address", `127.0.0.1:${port}`),
        "unavailable",
        /Cannot listen on .*:\d+/,
      ],
      [await run("-d", `${folder}/b`, "--partition-count", "16", ...free), "mismatch", /partition count 8: .* 16$/],
      [await run("-d", `${folder}/b`, "--segment-size-bytes", "1MiB", ...free), "mismatch", /268435456: .* 1048576$/],
      [await run("-d", `${folder}/file/c`, ...free), "cannotCreate", /data folder .*file\/c cannot be made/],
      [await run("-d", `${folder}/file`, ...free), "cannotCreate", /file/],
      [await run("check", `${folder}/none`), "notFound", /There is no data folder .*none/],
      [await run("dump", folder), "notFound", /There is no data folder/],
    ];
    for (const [{ code, stdout, stderr }, exit, message] of cases) {
      const records = stderr.trimEnd().split("\n").map((line) => JSON.parse(line));
      assert.deepEqual(records.map(({ level }) => level), ["ERROR"], stderr);
      assert.match(records[0].message, message);
      assert.equal(records[0].message.includes("\n"), false, "one line, no stack");
      assert.equal(code, EXIT_CODES[exit].code, stderr);
      assert.equal(stdout, "");
    }
    // The default settings of a new folder do not speak against what this one was made with.
    await using again = await ServerProcess.start({ command: COMMAND, folder: `${folder}/b` });
    using client = await Client.connect(again.address);
    assert.equal((await client.call("HELLO", 3) as { num_partitions: number }).num_partitions, 8);
  }));

Deno.test("main: wrong flags and settings are told all at once, on stderr, with 64", async () => {
  const { code, stdout, stderr } = await run("--partition-count", "0", "--nonsense", "--client-address", "0.0.0.0:1");
  assert.equal(code, 64);
  assert.equal(stdout, "");
  assert.equal(stderr.trimEnd().split("\n").length, 4);
  for (const word of ["--nonsense", "from 1 to 65535", "protected_mode", "--help"]) {
    assert.ok(stderr.includes(word), word);
  }
});

Deno.test("main: --version and --help go to stdout", async () => {
  const version = await run("--version");
  assert.match(version.stdout, /^esker \d+\.\d+\.\d+\n$/);
  const help = await run("--help");
  for (const word of ["--client-address", "ESKER_", "esker check", "65535", "Exit codes"]) {
    assert.ok(help.stdout.includes(word), word);
  }
  assert.deepEqual([version.code, version.stderr, help.code, help.stderr], [0, "", 0, ""]);
});

Deno.test("main: settings come from the environment and a file too", () =>
  withFolder(async (folder) => {
    Deno.writeTextFileSync(`${folder}/e.toml`, `[partition]\ncount = 5\n[threads]\nread = 4\n`);
    const env = { ESKER_DIR: `${folder}/data`, ESKER_BUCKET__COUNT: "2" };
    const flags = ["-c", `${folder}/e.toml`, "--client-address", `127.0.0.1:${freePort()}`];
    const { code, greeting, stderr } = await startAndStop([...COMMAND, ...flags], env);
    assert.equal(code, 0, stderr);
    assert.match(greeting, /5 partitions in 2 buckets/);
    assert.match(messages(stderr)[0]!, /^threads\.read in .*e\.toml is ignored/);
  }));

Deno.test("main: check finds nothing in a sound folder, and names file and offset of a flipped byte", () =>
  withFolder(async (folder) => {
    await fill(folder);
    const sound = await run("check", folder);
    assert.deepEqual([sound.code, sound.stderr], [0, ""]);
    assert.match(sound.stdout, /events 7, problems 0\n$/);
    const { path } = damaged(folder);
    const found = await run("check", folder);
    assert.equal(found.code, 1);
    assert.ok(found.stdout.startsWith(`${path} at offset `), found.stdout);
    assert.match(found.stdout, /\n.*versions? 0 of stream "text" .* missing/);
    assert.doesNotMatch(found.stdout, /problems 0\n$/);
  }));

/** Flips a bit of the first event's payload, wherever its partition has put it. */
function damaged(folder: string): { path: string; bytes: Uint8Array; at: number } {
  const found = [0, 1, 2, 3].map((bucket) => `${folder}/buckets/0000${bucket}/segments/0000000000/data.evts`)
    .flatMap((path) => {
      const bytes = Deno.readFileSync(path);
      const at = new TextDecoder("latin1").decode(bytes).indexOf("first of the text");
      return at < 0 ? [] : [{ path, bytes, at }];
    });
  assert.equal(found.length, 1);
  const [{ path, bytes, at }] = found as [(typeof found)[0]];
  bytes[at]! ^= 1;
  Deno.writeFileSync(path, bytes);
  return { path, bytes, at };
}

Deno.test("main: dump prints every event as a line of JSON, by partition or by stream", () =>
  withFolder(async (folder) => {
    await fill(folder);
    const lines = ({ stdout }: Ended) => stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
    const all = await run("dump", folder);
    assert.deepEqual([all.code, all.stderr], [0, ""]);
    const events = lines(all);
    assert.equal(events.length, 7);
    const order = events.map(({ partition, sequence }) => partition * 1000 + sequence);
    assert.deepEqual(order, order.toSorted((a, b) => a - b));
    const text = lines(await run("dump", folder, "--stream", "text"));
    assert.deepEqual(text.map(({ version, payload }) => [version, payload]), [
      ...[[0, "first of the text"], [1, "1"], [2, "2"], [3, "3"], [4, "4"]],
    ]);
    const bytes = lines(await run("dump", folder, "--stream", "bytes"));
    assert.deepEqual(bytes.map(({ payload_base64 }) => payload_base64), ["/wA="]);
    const { partition } = text[0];
    const byPartition = await run("dump", folder, "--partition", String(partition));
    assert.deepEqual(lines(byPartition), events.filter((event) => event.partition === partition));
    const key = "00000000-0000-4000-8000-000000000000";
    assert.equal(lines(await run("dump", folder, "--stream", "text", "--partition-key", key))[0].name, "Keyed");
    assert.equal((await run("dump", folder, "--partition", "99")).code, EXIT_CODES.usage.code);
  }));

Deno.test("main: repair makes a new folder, says what is lost, and leaves the old one as it was", () =>
  withFolder(async (above) => {
    const [folder, to] = [`${above}/old`, `${above}/deep/new`];
    await fill(folder);
    const whole = await run("repair", folder, "--to", to);
    assert.deepEqual([whole.code, whole.stderr], [0, ""]);
    assert.equal(
      whole.stdout,
      "kept: transactions 7, events 7; salvaged: transactions 0, events 0; lost: transactions 0\n",
    );
    assert.match((await run("check", to)).stdout, /events 7, problems 0\n$/);
    assert.equal((await run("dump", to)).stdout, (await run("dump", folder)).stdout);

    const meta = Deno.readTextFileSync(`${folder}/meta.json`);
    Deno.writeTextFileSync(`${folder}/meta.json`, meta.replace("32", "33"));
    assert.equal((await run("repair", folder, "--to", `${to}1`)).code, EXIT_CODES.damaged.code);
    const told = await run("repair", folder, "--to", `${to}1`, "--partition-count", "32");
    assert.deepEqual([told.code, told.stderr], [0, ""]);
    assert.match(told.stdout, /^.*meta\.json at offset 0: it fails its checksum\nkept: transactions 7, /);
    Deno.writeTextFileSync(`${folder}/meta.json`, meta);

    // The journal of so young a folder has all of it, and would mend what follows.
    for (const name of ["a", "b"]) Deno.removeSync(`${folder}/journal/${name}`);
    const { path, bytes, at } = damaged(folder);
    const before = snapshot(folder);
    const again = await run("repair", folder, "--to", `${to}2`);
    assert.deepEqual([again.code, again.stderr], [1, ""]);
    assert.deepEqual(snapshot(folder), before);
    assert.deepEqual(Deno.readFileSync(path), bytes);
    assert.ok(again.stdout.includes(`${path} at offset `) && at > 0, again.stdout);
    assert.match(again.stdout, /^stream "text" of partition key [0-9a-f-]{36}: version 0 is lost$/m);
    assert.match(
      again.stdout,
      /^kept: transactions 2, events 2; salvaged: transactions 4, events 4; lost: .* 1 or more$/m,
    );
    assert.match((await run("check", `${to}2`)).stdout, /events 2, problems 0\n$/);
    const salvaged = Deno.readTextFileSync(`${to}2/salvaged.ndjson`).trimEnd().split("\n").map((line) =>
      JSON.parse(line)
    );
    assert.deepEqual(salvaged.map(({ stream, version, payload }) => [stream, version, payload]), [
      ...[["text", 1, "1"], ["text", 2, "2"], ["text", 3, "3"], ["text", 4, "4"]],
    ]);
  }));

Deno.test("main: repair refuses a folder in use, a target that is not empty, and one in the old folder", () =>
  withFolder(async (above) => {
    const folder = `${above}/old`;
    await fill(folder);
    await Deno.mkdir(`${above}/full/x`, { recursive: true });
    const cases: [Ended, keyof typeof EXIT_CODES, RegExp][] = [
      [await run("repair", folder, "--to", `${above}/full`), "usage", /must be empty/],
      [await run("repair", folder, "--to", `${folder}/new`), "usage", /must not lie in the damaged one/],
      [await run("repair", `${above}/none`, "--to", `${above}/new`), "notFound", /There is no data folder/],
    ];
    await using _server = await ServerProcess.start({ command: COMMAND, folder });
    cases.push([await run("repair", folder, "--to", `${above}/new`), "inUse", /old is in use/]);
    for (const [{ code, stderr }, exit, message] of cases) {
      assert.match(messages(stderr).at(-1)!, message);
      assert.equal(code, EXIT_CODES[exit].code, stderr);
    }
    assert.equal([...Deno.readDirSync(folder)].some(({ name }) => name === "new"), false);
  }));

/** All bytes below a folder, by path. */
function snapshot(folder: string): [string, number[]][] {
  return [...Deno.readDirSync(folder)].sort((one, other) => one.name < other.name ? -1 : 1).flatMap((
    { name, isFile },
  ) =>
    isFile ? [[name, [...Deno.readFileSync(`${folder}/${name}`)]] as [string, number[]]] : snapshot(`${folder}/${name}`)
  );
}

Deno.test("main: a disk that is full but for its reserve refuses appends, and goes on reading", () =>
  withFolder(async (folder) => {
    await fill(folder);
    await using server = await ServerProcess.start({
      ...{ command: COMMAND, folder, flags: ["--disk-reserve-bytes", "1024GiB"] },
    });
    using client = await Client.connect(server.address);
    await assert.rejects(
      client.call("EAPPEND", "s", "n"),
      /DISKFULL The disk has \d+ bytes free, 1099511627776 of them/,
    );
    assert.equal(await client.call("ESVER", "text"), 4);
    const info = new TextDecoder().decode(await client.call("INFO") as Uint8Array);
    assert.match(info, /disk_full:1\r\n/);
    assert.match(info, /reserve_bytes:1099511627776\r\n/);
    assert.equal(await server.stop(), 0);
    assert.ok(
      messages(server.output).includes("The disk is full but for its reserve: appends are refused until there is room"),
    );
  }));

/** Seven events in three streams and one under another key. */
async function fill(folder: string): Promise<void> {
  await using server = await ServerProcess.start({ command: COMMAND, folder });
  using client = await Client.connect(server.address);
  for (const text of ["first of the text", "1", "2", "3", "4"]) await client.call("EAPPEND", "text", "n", text);
  await client.call("EAPPEND", "bytes", "n", new Uint8Array([0xff, 0]));
  await client.call(
    ...["EAPPEND", "text", "Keyed", "PARTITION_KEY", "00000000-0000-4000-8000-000000000000"],
  );
  assert.equal(await server.stop(), 0);
}

Deno.test({
  name: "main: a dump whose reader has seen enough ends in peace",
  ignore: Deno.build.os === "windows",
  fn: () =>
    withFolder(async (folder) => {
      {
        await using server = await ServerProcess.start({ command: COMMAND, folder });
        using client = await Client.connect(server.address);
        for (let i = 0; i < 20; i++) await client.call("EAPPEND", "s", "n", "x".repeat(100_000));
        assert.equal(await server.stop(), 0);
      }
      const [program, ...words] = COMMAND;
      const child = new Deno.Command(program!, { args: [...words, "dump", folder], stdout: "piped", stderr: "piped" })
        .spawn();
      const stderr = new Response(child.stderr).text();
      const reader = child.stdout.getReader();
      await reader.read();
      await reader.cancel();
      assert.deepEqual([(await child.status).code, await stderr], [0, ""]);
    }),
});

Deno.test("main: permissions names what the settings need, and what it names is enough", () =>
  withFolder(async (folder) => {
    const port = freePort();
    const settings = ["-d", folder, "--client-address", `127.0.0.1:${port}`];
    const { code, stdout, stderr } = await run("permissions", ...settings);
    assert.deepEqual([code, stderr], [0, ""]);
    const worker = ["read", "write"].map((name) => `  --allow-${name}=${folder}\n`);
    for (const line of [...worker, `  --allow-net=127.0.0.1:${port}\n`, "  --allow-sys=statfs\n"]) {
      assert.ok(stdout.includes(line), stdout);
    }
    if (!FROM_SOURCE) return;
    const flags = stdout.split("must be given:")[1]!.match(/--[\w-]+(=[^\s']+)?/g)!;
    const program = new URL("main.ts", import.meta.url).pathname;
    const started = await startAndStop([Deno.execPath(), "run", ...flags, program, ...settings]);
    assert.equal(started.code, 0, started.stderr);
    assert.match(started.greeting, /made a new store/);
  }));

/** Three nodes on one disk need not take room as three machines would. */
const SMALL = ["--journal-size-bytes", "1MiB"];

/** A client of a node that has stored an event: all buckets may be without a leader at first, so it asks again. */
async function served(server: ServerProcess, stream: string): Promise<Client> {
  const client = await Client.connect(server.address);
  const deadline = performance.now() + 30_000;
  for (;;) {
    try {
      await client.call("EAPPEND", stream, "n");
      return client;
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
  }
}

function disposing(servers: ServerProcess[]): AsyncDisposable {
  return {
    async [Symbol.asyncDispose]() {
      for (const server of servers) await server[Symbol.asyncDispose]();
    },
  };
}

/** Makes a cluster of three nodes on loopback; returns the ports of the nodes and of their clients. */
async function makeCluster(dir: string, ...flags: string[]): Promise<{ nodes: number[]; clients: number[] }> {
  const ports = Array.from({ length: 6 }, freePort);
  const [nodes, clients] = [ports.slice(0, 3), ports.slice(3)];
  const list = (some: number[]) => some.map((port) => `127.0.0.1:${port}`).join(",");
  const made = await run("cluster", "init", "--dir", dir, "--nodes", list(nodes), "--clients", list(clients), ...flags);
  assert.equal(made.code, 0, made.stderr);
  if (flags.length === 0) assert.equal(made.stderr, "");
  assert.match(made.stdout, /^Esker .* made a cluster of 3 nodes: 32 partitions in 4 buckets, 3 copies of each/);
  return { nodes, clients };
}

Deno.test("main: cluster init makes folders that serve takes for nodes, with permissions for their peers alone", () =>
  withFolder(async (above) => {
    const { nodes, clients } = await makeCluster(`${above}/c`);
    const folder = `${above}/c/node-1`;
    const { stdout } = await run("permissions", "-d", folder);
    const [own, ...peers] = [nodes[1], nodes[0], nodes[2]].map((port) => `127.0.0.1:${port}`);
    assert.ok(stdout.includes(`  --allow-net=127.0.0.1:${clients[1]},${own},${peers}\n`), stdout);
    const again = await run("cluster", "init", "--dir", `${above}/c`, "--nodes", "a:1");
    assert.deepEqual([again.code, again.stdout], [EXIT_CODES.usage.code, ""]);
    assert.match(again.stderr, /^esker: --dir .* must be missing or empty: it has node-\d\n$/);
    // Alone it answers, and says that it can store nothing: the others are not there.
    await using server = await ServerProcess.start({ command: COMMAND, folder, port: clients[1]! });
    using client = await Client.connect(server.address);
    await assert.rejects(client.call("EAPPEND", "s", "n"), /^ReplyError: (CLUSTERDOWN|TRYAGAIN|INSUFFICIENTREPLICAS) /);
    assert.equal(await server.stop(), 0, server.output);
    // What it was told of its first start holds for that one alone.
    assert.deepEqual(
      [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) => /^cluster/.test(name)).sort(),
      [
        ...["cluster.json", "cluster.meta.json", "cluster.secret"],
      ],
    );
  }));

Deno.test("main: a store that was alone becomes a cluster, of which each node has all that it had", () =>
  withFolder(async (above) => {
    const store = `${above}/store`;
    {
      await using alone = await ServerProcess.start({ command: COMMAND, folder: store, flags: SMALL });
      using client = await Client.connect(alone.address);
      for (let i = 0; i < 200; i++) await client.call("EAPPEND", `s-${i % 20}`, "n", "PAYLOAD", String(i));
      assert.equal(await alone.stop(), 0);
    }
    const { clients } = await makeCluster(`${above}/c`, "--adopt", store);
    const folders = [store, `${above}/c/node-1`, `${above}/c/node-2`];
    const start = async () => {
      const servers = folders.map((folder, i) =>
        ServerProcess.spawn({ command: COMMAND, folder, port: clients[i]!, flags: SMALL })
      );
      await Promise.all(servers.map((server) => server.answers()));
      return servers;
    };
    /** What each node has, by itself, of each partition. */
    const all = async (servers: ServerProcess[]) => {
      const read = servers.map(async ({ address }) => {
        using client = await Client.connect(address);
        const ids: string[] = [];
        for (let partition = 0; partition < 32; partition++) {
          const { events } = await client.call("EPSCAN", partition, "-", "+", "COUNT", 1000) as {
            events: { event_id: string }[];
          };
          ids.push(...events.map(({ event_id }) => event_id));
        }
        return ids;
      });
      return await Promise.all(read);
    };
    let before: string[];
    {
      const servers = await start();
      await using _stack = disposing(servers);
      const [first, ...others] = await all(servers);
      assert.equal(first!.length, 200);
      for (const other of others) assert.deepEqual(other, first);
      const client = await served(servers[1]!, "more");
      const { partition_sequence } = await client.call("EAPPEND", "s-3", "n", "EXPECTED_VERSION", 9) as {
        partition_sequence: number;
      };
      // Each has it, or hears of it.
      for (const { address } of servers) {
        using other = await Client.connect(address);
        const { events } = await other.call("ESCAN", "s-3", 10, "+", "AT_LEAST", partition_sequence) as {
          events: unknown[];
        };
        assert.equal(events.length, 1);
      }
      client[Symbol.dispose]();
      before = first!;
      await Promise.all(servers.map((server) => server.stop()));
    }
    const servers = await start();
    await using _stack = disposing(servers);
    (await served(servers[2]!, "more"))[Symbol.dispose]();
    for (const ids of await all(servers)) {
      assert.ok(ids.length > 200);
      assert.deepEqual(before.filter((id) => !ids.includes(id)), []);
    }
  }));

Deno.test("main: what is wrong in a node's folder is one line and a code", () =>
  withFolder(async (above) => {
    const { clients } = await makeCluster(`${above}/c`);
    const [folder, other] = [`${above}/c/node-1`, `${above}/c/node-2`];
    const path = `${folder}/cluster.json`;
    const text = Deno.readTextFileSync(path);
    /** How serve ends with other words in cluster.json. */
    const changed = async (from: string | RegExp, to: string, ...args: string[]) => {
      Deno.writeTextFileSync(path, text.replace(from, to));
      return await run("-d", folder, ...args);
    };
    const cases: [Ended, keyof typeof EXIT_CODES, RegExp][] = [
      [await changed("{", "", "--log", "warn"), "usage", /node-1\/cluster\.json is not JSON/],
      [await changed('"node": 1', '"node": 3'), "usage", /no node 3 in its list: the cluster has 3/],
      [await changed('"node": 1', '"node": 0'), "usage", /node\.key is the key of 12D3.*, and node 0 in .* is 12D3/],
      [await changed(/"client": "127[^"]*"/g, '"client": "0.0.0.0:1"'), "mismatch", /protected_mode/],
      [await changed("", "", "--node-index", "2", "-n", "3"), "mismatch", /node\.index 2: the cluster\.json of .* 1$/],
    ];
    Deno.writeTextFileSync(path, text);
    {
      // It has started as what it is.
      await using server = await ServerProcess.start({ command: COMMAND, folder, port: clients[1]!, flags: SMALL });
      assert.equal(await server.stop(), 0);
    }
    cases.push([
      await changed('"replicationFactor": 3', '"replicationFactor": 2'),
      "mismatch",
      /with replicas 3: .* 2$/,
    ]);
    Deno.copyFileSync(`${other}/node.key`, `${folder}/node.key`);
    cases.push([await changed('"node": 1', '"node": 2'), "mismatch", /made with node 1: .* with node 2$/]);
    for (const [{ code, stderr }, exit, message] of cases) {
      assert.match(messages(stderr).at(-1)!, message);
      assert.equal(code, EXIT_CODES[exit].code, stderr);
    }
  }));

// Elsewhere the program does not find itself at a path that is known before it is compiled.
Deno.test(
  "main: cluster demo starts nodes of this program, and ends them",
  { ignore: Deno.build.os !== "linux" },
  () =>
    withFolder(async (above) => {
      const [program, ...words] = COMMAND;
      if (FROM_SOURCE) words.splice(-1, 0, OWN_PROGRAM_FLAG);
      const demo = new Deno.Command(program!, {
        args: [...words, "cluster", "demo", "--dir", `${above}/demo`],
        stdout: "piped",
        stderr: "inherit",
      }).spawn();
      let shown = "";
      let told = 0;
      for await (const text of demo.stdout.pipeThrough(new TextDecoderStream())) {
        shown += text;
        if (told > 0 || !shown.includes("Ctrl-C stops all of them")) continue;
        told = performance.now();
        demo.kill("SIGTERM");
      }
      const { code } = await demo.status;
      assert.equal(code, 0, shown);
      assert.match(shown, /^The cluster serves:$/m);
      for (const node of [0, 1, 2]) assert.match(shown, new RegExp(`^node ${node} .* Stopped$`, "m"));
      // Nobody waits for another one to lead in its place.
      assert.ok(performance.now() - told < 1900, `It took ${performance.now() - told} ms to stop`);
      assert.deepEqual([...Deno.readDirSync(`${above}/demo`)].map(({ name }) => name).sort(), [
        ...["node-0", "node-1", "node-2"],
      ]);
    }),
);

/** Servers that do not behave, in place of server.ts. Each begins when it is told to start. */
const BAD_SERVERS: Record<string, { code: number; says: RegExp; body: string }> = {
  "whose disk fails": {
    code: EXIT_CODES.disk.code,
    says: /the sync failed/,
    body:
      `post({ type: "fatal", message: "the sync failed" }); for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);`,
  },
  "that throws": {
    code: EXIT_CODES.internal.code,
    says: /The server failed: .*thrown/,
    body: `post(READY); setTimeout(() => { throw new Error("thrown"); }, 10);`,
  },
  "that rejects": {
    code: EXIT_CODES.internal.code,
    says: /The server failed: .*rejected/,
    body: `post(READY); setTimeout(() => void Promise.reject(new Error("rejected")), 10);`,
  },
  "that throws before it is ready": {
    code: EXIT_CODES.internal.code,
    says: /The server failed: .*early/,
    body: `throw new Error("early");`,
  },
  "that falls silent": {
    code: EXIT_CODES.internal.code,
    says: /The server stopped answering/,
    body: `post(READY); setTimeout(() => { for (;;); }, 10);`,
  },
  "that does not stop when it is told to": {
    code: EXIT_CODES.internal.code,
    says: /did not stop within 50 ms/,
    body:
      `post({ type: "ready", address: "127.0.0.1:1", created: true }); setInterval(() => post({ type: "alive" }), 1000);`,
  },
  "that reads what it may not": {
    code: EXIT_CODES.internal.code,
    says: /The server failed: .*Requires read access to "\/etc\/passwd"/,
    body: `post(READY); setTimeout(() => Deno.readTextFileSync("/etc/passwd"), 10);`,
  },
};

// The parts of a built program cannot be exchanged.
if (FROM_SOURCE) {
  Deno.test("main: cluster demo is refused a Deno that may not run it", async () => {
    const { code, stderr } = await run("cluster", "demo");
    assert.equal(code, EXIT_CODES.denied.code);
    assert.match(stderr, /^esker: cluster demo starts its nodes as processes: that needs --allow-run=/);
  });

  Deno.test("main: whatever its Worker does, it says why and ends with the code for it", () =>
    withFolder(async (folder) => {
      const source = new URL("./", import.meta.url).pathname;
      copySources(source, folder, ["core", "core/log", "core/index", "net", "net/consensus"]);
      Deno.copyFileSync(`${source}deno.json`, `${folder}/deno.json`);
      await Promise.all(
        Object.entries(BAD_SERVERS).map(async ([name, { code, says, body }], i) => {
          // Each in a folder of its own beside the same core, as its neighbours run at the same time.
          const program = `${folder}/${i}`;
          Deno.mkdirSync(program);
          copySources(source, program, ["", "program"]);
          for (const name of ["core", "net"]) Deno.symlinkSync(`${folder}/${name}`, `${program}/${name}`);
          Deno.writeTextFileSync(
            `${program}/server.ts`,
            `const READY = { type: "ready", address: "127.0.0.1:1", created: false };\n` +
              `const post = (message: unknown) => self.postMessage(message);\n` +
              `self.onmessage = ({ data }: MessageEvent) => { if (data.type === "start") { ${body} } };\n`,
          );
          const args = COMMAND.slice(1, -1).filter((word) => !word.startsWith("--config"));
          const started = await startAndStop(
            [COMMAND[0]!, ...args, `${program}/main.ts`, "-d", `${program}/data`, "--shutdown-timeout-ms", "50"],
          );
          assert.equal(started.code, code, `A server ${name}: ${started.stderr}`);
          assert.match(messages(started.stderr).at(-1)!, says, name);
        }),
      );
    }));
} else {
  Deno.test("main: the binary starts in an empty folder, without home, cache, environment or network", () =>
    withFolder(async (folder) => {
      // A proxy that is not there: whoever asks the network for anything fails.
      const nobody = "http://127.0.0.1:1";
      const started = await startAndStop(
        [
          "env",
          "-i",
          `HTTPS_PROXY=${nobody}`,
          `HTTP_PROXY=${nobody}`,
          ...COMMAND,
          "--client-address",
          `127.0.0.1:${freePort()}`,
        ],
        {},
        folder,
      );
      assert.equal(started.code, 0, started.stderr);
      assert.match(started.greeting, /made a new store in .*\/data: /);
      assert.deepEqual([...Deno.readDirSync(folder)].map(({ name }) => name), ["data"]);
    }));
}

function copySources(from: string, to: string, folders: string[]): void {
  for (const folder of folders) {
    Deno.mkdirSync(`${to}/${folder}`, { recursive: true });
    for (const { name, isFile } of Deno.readDirSync(`${from}/${folder}`)) {
      if (isFile && name.endsWith(".ts") && !name.endsWith("_test.ts")) {
        Deno.copyFileSync(`${from}/${folder}/${name}`, `${to}/${folder}/${name}`);
      }
    }
  }
}
