import assert from "node:assert/strict";
import { EXIT_CODES } from "./program/exit_codes.ts";
import {
  formatAddress,
  helpText,
  type Key,
  type NodeSettings,
  optionsOfFolder,
  type Reading,
  readOptions,
  SETTINGS,
  settingsAsText,
  variableOf,
} from "./options.ts";

const KEYS = Object.keys(SETTINGS) as Key[];

/** Reads options from arguments as one would type them, with an environment and files. */
function read(args: string, env: Record<string, string> = {}, files: Record<string, string> = {}): Reading {
  return readOptions({
    args: args.split(" ").filter((arg) => arg !== ""),
    env: (name) => env[name],
    file: (path) => files[path] ?? null,
  });
}

function value<K extends Key>(key: K, ...sources: Parameters<typeof read>) {
  const { options, problems } = read(...sources);
  assert.deepEqual(problems, []);
  return options.values[key];
}

Deno.test("options: nothing given is every default, serve, and nothing given", () => {
  const { command, options, problems, warnings } = read("");
  assert.deepEqual(command, { name: "serve", dir: "./data" });
  assert.deepEqual([problems, warnings, [...options.given]], [[], [], []]);
  for (const key of KEYS) assert.deepEqual(options.values[key], SETTINGS[key].standard);
  assert.equal(formatAddress(options.values["network.client_address"]), "127.0.0.1:9090");
  assert.equal(options.values["cache.capacity_bytes"], 32 * 1024 * 1024);
});

Deno.test("options: flags go before the environment, the environment before the file", () => {
  const file = { "./esker.toml": "[partition]\ncount = 7\n" };
  const env = { ESKER_PARTITION__COUNT: "8" };
  assert.equal(value("partition.count", ""), 32);
  assert.equal(value("partition.count", "", {}, file), 7);
  assert.equal(value("partition.count", "", env, file), 8);
  assert.equal(value("partition.count", "--partition-count 9", env, file), 9);
  assert.deepEqual([...read("", {}, file).options.given], ["partition.count"]);
});

Deno.test("options: every setting has a flag, a variable and a key in the file, and takes its own default from each", () => {
  for (const key of KEYS) {
    const text = settingsAsText(read("").options.values).find(([name]) => name === key)![1];
    const flag = `--${key.replaceAll(/[._]/g, "-")}`;
    assert.deepEqual(value(key, `${flag}=${text}`), SETTINGS[key].standard);
    assert.deepEqual(value(key, `${flag} ${text}`), SETTINGS[key].standard);
    assert.deepEqual(value(key, "", { [variableOf(key)]: text }), SETTINGS[key].standard);
    assert.deepEqual(value(key, "-c f", {}, { f: `${key} = ${JSON.stringify(text)}` }), SETTINGS[key].standard);
    assert.ok(helpText("1.2.3").includes(`${key}: `), key);
  }
});

Deno.test("options: the short flags", () => {
  const { command, options, problems } = read(
    "-d /x -l debug --client-address [::1]:1 --http-address 127.0.0.1:2 --cluster-address /ip4/127.0.0.1/tcp/3 -n 1 -i 0 --mdns",
  );
  assert.deepEqual(problems, []);
  const { values } = options;
  assert.deepEqual(command, { name: "serve", dir: "/x" });
  assert.equal(values.log, "debug");
  assert.deepEqual(values["network.client_address"], { hostname: "::1", port: 1 });
  assert.equal(formatAddress(values["network.client_address"]), "[::1]:1");
  assert.deepEqual(values["http.address"], { hostname: "127.0.0.1", port: 2 });
  assert.deepEqual(values["network.cluster_address"], { hostname: "127.0.0.1", port: 3 });
  assert.equal(values["network.mdns"], true);
  assert.equal(value("network.mdns", "--mdns false"), false);
  assert.equal(value("network.mdns", "--mdns=false"), false);
  assert.equal(value("dir", "-d/y"), "/y");
  assert.equal(value("log", "-l INFO"), "info");
});

Deno.test("options: bytes take units", () => {
  for (const text of ["134217728", "128MiB", "128 mib", "131072KiB"]) {
    assert.equal(value("segment.size_bytes", "", { ESKER_SEGMENT__SIZE_BYTES: text }), 134_217_728, text);
  }
  assert.equal(value("segment.size_bytes", "--segment-size-bytes 4294967295"), 4_294_967_295);
  assert.equal(read("--segment-size-bytes 4GiB").problems.length, 1);
  assert.equal(read("--segment-size-bytes 131071").problems.length, 1);
  assert.equal(read("--journal-size-bytes 65535").problems.length, 1);
});

Deno.test("options: all that is wrong is told at once, each with what is needed and what was found", () => {
  const { problems } = read(
    "--partition-count 0 --log loud --client-address nowhere --heelp -d",
    { ESKER_BUCKET__COUNT: "many" },
    { "./esker.toml": `[network]\nmdns = "perhaps"\n` },
  );
  assert.deepEqual(problems, [
    "There is no flag --heelp: is --help meant?",
    "-d needs a value",
    'network.mdns in ./esker.toml must be true or false: found "perhaps"',
    'ESKER_BUCKET__COUNT must be a whole number from 1 to 65535: found "many"',
    '--partition-count must be a whole number from 1 to 65535: found "0"',
    '--log must be debug, info, warn or error: found "loud"',
    '--client-address must be HOST:PORT, a port is at most 65535: found "nowhere"',
  ]);
});

Deno.test("options: a key that nobody knows is an error that names the nearest", () => {
  const toml = "[network]\nclient_adress = 'x'\n[segment]\nsize = 1\n";
  assert.deepEqual(read("--partition-cuont 3", {}, { "./esker.toml": toml }).problems, [
    "There is no flag --partition-cuont: is --partition-count meant?",
    "There is no setting network.client_adress (in ./esker.toml): is network.client_address meant?",
    "There is no setting segment.size (in ./esker.toml): is segment.size_bytes meant?",
  ]);
  assert.deepEqual(read("", { ESKER_PARTITION_COUNT: "3" }).problems, [
    "There is no variable ESKER_PARTITION_COUNT: is ESKER_PARTITION__COUNT meant?",
  ]);
  assert.deepEqual(read("srve").problems, ["There is no command srve: is serve meant?"]);
});

Deno.test("options: SierraDB's keys that mean nothing here are warnings, from each source", () => {
  const toml = "[threads]\nread = 4\n[sync]\ninterval_ms = 5\n[bucket]\nids = [1, 2]\n[segment]\ncompression = true\n";
  const { options, problems, warnings } = read("--threads-write 4 -d x", { ESKER_HEARTBEAT__INTERVAL_MS: "1" }, {
    "./esker.toml": toml,
  });
  assert.deepEqual(problems, []);
  assert.equal(options.values.dir, "x");
  assert.deepEqual(warnings.map((warning) => warning.split(" is ignored: ")[0]), [
    "--threads-write",
    "threads.read in ./esker.toml",
    "sync.interval_ms in ./esker.toml",
    "bucket.ids in ./esker.toml",
    "segment.compression in ./esker.toml",
    "ESKER_HEARTBEAT__INTERVAL_MS",
  ]);
});

Deno.test("options: what needs a cluster is refused for a store that is alone, never ignored", () => {
  const toml = "[[nodes]]\ndir = 'a'\n";
  assert.match(read("", {}, { "./esker.toml": toml }).problems[0]!, /nodes are named in cluster\.json/);
  for (const args of ["-n 3", "--replication-factor 3", "-n 3 -i 1"]) {
    const { options, problems } = read(args);
    assert.deepEqual(problems, []);
    const [problem] = optionsOfFolder(options, null).problems;
    assert.match(problem!, /^(node\.count|replication\.factor) 3: this folder is no node of a cluster; /);
  }
  assert.deepEqual(read("-n 1 -i 1").problems, ["node.index 1 must be below node.count 1"]);
  const { options, warnings } = read("--http-address 127.0.0.1:1 --cluster-address 127.0.0.1:2 --mdns");
  assert.equal(warnings.length, 2);
  assert.match(optionsOfFolder(options, null).warnings[0]!, /^network\.cluster_address: this store is alone/);
});

const NODE: NodeSettings = {
  ...{ dir: "d", node: 1, nodeCount: 3, replicationFactor: 2, partitionCount: 64, bucketCount: 8 },
  ...{ segmentBytes: 1024 * 1024, client: "127.0.0.1:9100" },
};

Deno.test("options: of a node, what nobody asked for is as its folder says", () => {
  const { options, problems, warnings } = optionsOfFolder(read("--cluster-address 0.0.0.0:7").options, NODE);
  assert.deepEqual([problems, warnings], [[], []]);
  const { values } = options;
  assert.deepEqual([values["node.index"], values["node.count"], values["replication.factor"]], [1, 3, 2]);
  assert.deepEqual([values["partition.count"], values["bucket.count"]], [64, 8]);
  assert.equal(values["segment.size_bytes"], 1024 * 1024);
  assert.equal(formatAddress(values["network.client_address"]), "127.0.0.1:9100");
  const asked = optionsOfFolder(read("--client-address [::1]:1 -i 1 -n 3").options, NODE);
  assert.deepEqual(asked.problems, []);
  assert.equal(formatAddress(asked.options.values["network.client_address"]), "[::1]:1");
});

Deno.test("options: of a node, what somebody asked for must agree with its folder", () => {
  const args = "-n 4 -i 0 --replication-factor 3 --partition-count 32 --bucket-count 4 --segment-size-bytes 2MiB";
  assert.deepEqual(optionsOfFolder(read(args).options, NODE).problems, [
    "node.count 4: the cluster.json of d says 3",
    "node.index 0: the cluster.json of d says 1",
    "replication.factor 3: the cluster.json of d says 2",
    "partition.count 32: the cluster.json of d says 64",
    "bucket.count 4: the cluster.json of d says 8",
    "segment.size_bytes 2097152: the cluster.json of d says 1048576",
  ]);
});

Deno.test("options: the client address in the folder of a node is held to what a setting is", () => {
  const problemsOf = (client: string, args = "") => optionsOfFolder(read(args).options, { ...NODE, client }).problems;
  assert.match(
    problemsOf("192.0.2.1:9090")[0]!,
    /^The client address of node 1 in cluster\.json, 192.* network\.protected_mode/,
  );
  assert.deepEqual(problemsOf("192.0.2.1:9090", "--network-protected-mode false"), []);
  assert.match(problemsOf("nowhere")[0]!, /in cluster\.json must be HOST:PORT, .*: found "nowhere"$/);
  assert.deepEqual(problemsOf("nowhere", "--client-address 127.0.0.1:1"), []);
});

Deno.test("options: an address that others can reach is refused while protected", () => {
  for (const address of ["0.0.0.0:9090", "[::]:9090", "192.168.1.7:9090", "db.example:9090"]) {
    assert.match(read(`--client-address ${address}`).problems[0]!, /can be reached from other machines/, address);
    assert.deepEqual(read(`--client-address ${address} --network-protected-mode false`).problems, []);
  }
  for (const address of ["127.0.0.1:0", "127.9.9.9:1", "[::1]:9090", "localhost:9090"]) {
    assert.deepEqual(read(`--client-address ${address}`).problems, [], address);
  }
  for (const address of ["9090", ":9090", "127.0.0.1", "127.0.0.1:65536", "256.0.0.1:1", "1.2.3:4", "[::1]", "a b:1"]) {
    assert.equal(problemsWithAddress(address), 1, address);
  }
});

function problemsWithAddress(address: string): number {
  return readOptions({ args: [`--client-address=${address}`], env: () => undefined, file: () => null }).problems.length;
}

Deno.test("options: more buckets than partitions are refused only where both were asked for", () => {
  assert.equal(read("--bucket-count 3 --partition-count 2").problems.length, 1);
  assert.deepEqual(read("--partition-count 2").problems, []);
});

Deno.test("options: a settings file that was named must be there and be TOML", () => {
  assert.deepEqual(read("-c f").problems, ["There is no settings file f"]);
  assert.deepEqual(read("", { ESKER_CONFIG: "f" }).problems, ["There is no settings file f"]);
  const [problem] = read("-c f", {}, { f: "dir = 'x'\nlog = \n" }).problems;
  assert.match(problem!, /^The settings file f cannot be read, line 2, column \d+: /);
  assert.equal(read("-c f", {}, { f: "" }).configFile, "f");
  const forbidden = readOptions({
    args: ["-c", "f"],
    env: () => undefined,
    file() {
      throw new Error("no right to");
    },
  });
  assert.deepEqual(forbidden.problems, ["The settings file f cannot be read: no right to"]);
});

Deno.test("options: commands and their own flags", () => {
  assert.deepEqual(read("check /x").command, { name: "check", dir: "/x" });
  assert.deepEqual(read("check -d /y").command, { name: "check", dir: "/y" });
  assert.deepEqual(read("dump /x --partition 3").command, { name: "dump", dir: "/x", partition: 3 });
  assert.deepEqual(read("dump --stream s --partition-key k").command, {
    ...{ name: "dump", dir: "./data", stream: "s", partitionKey: "k" },
  });
  assert.deepEqual(read("repair /x --to /y").command, { name: "repair", dir: "/x", to: "/y" });
  assert.deepEqual(read("repair /x").problems, ["repair needs --to: where to make the new folder"]);
  assert.deepEqual(read("check /x --to /y").problems, ["--to is for repair only"]);
  assert.deepEqual(read("permissions").command, { name: "permissions", dir: "./data" });
  assert.deepEqual(read("serve /x").problems, ["serve takes no word: found /x"]);
  assert.deepEqual(read("check a b").problems, ["check takes one folder: found a b"]);
  assert.deepEqual(read("--partition 3").problems, ["--partition is for dump only"]);
  assert.deepEqual(read("dump --partition x").problems, ['--partition must be a whole number: found "x"']);
  assert.deepEqual(read("dump --partition 1 --stream s").problems, ["--partition and --stream exclude each other"]);
  assert.deepEqual(read("dump --partition-key k").problems, ["--partition-key is for --stream only"]);
});

Deno.test("options: the commands of clusters", () => {
  const at = (port: number, hostname = "127.0.0.1") => ({ hostname, port });
  assert.deepEqual(read("cluster init --dir /c --nodes a:1,b:2,[::1]:3").command, {
    ...{ name: "cluster init", dir: "/c", nodes: [at(1, "a"), at(2, "b"), at(3, "::1")] },
    clients: [at(9090), at(9090), at(9090)],
  });
  assert.deepEqual(read("cluster init -d /c --nodes a:1,a:2,b:1 --adopt /old").command, {
    ...{ name: "cluster init", dir: "/c", nodes: [at(1, "a"), at(2, "a"), at(1, "b")], adopt: "/old" },
    clients: [at(9090), at(9100), at(9090)],
  });
  const { command } = read("cluster init -d /c --nodes a:1 --clients b:2");
  assert.deepEqual(command.name === "cluster init" && command.clients, [at(2, "b")]);
  // That of the environment is one which is there already.
  assert.deepEqual(read("cluster demo", { ESKER_DIR: "/d" }).command, { name: "cluster demo" });
  assert.deepEqual(read("cluster demo --dir /d").command, { name: "cluster demo", dir: "/d" });
  assert.deepEqual(read("cluster init", { ESKER_DIR: "/d" }).problems, [
    "cluster init needs --dir: the folder to make, with one for each node in it",
    "cluster init needs --nodes: HOST:PORT of each, with commas between",
  ]);
  assert.deepEqual(read("cluster init -d /c --nodes a:1,,b").problems, [
    '--nodes must be HOST:PORT, a port is at most 65535: found ""',
    '--nodes must be HOST:PORT, a port is at most 65535: found "b"',
  ]);
  assert.deepEqual(read("cluster").problems, ["There is no command cluster: cluster init or cluster demo is meant"]);
  assert.deepEqual(read("cluster innit").problems, ["There is no command cluster innit: is cluster init meant?"]);
  assert.deepEqual(read("serve --nodes a:1").problems, ["--nodes is for cluster init only"]);
  assert.deepEqual(read("cluster demo now").problems, ["cluster demo takes no word: found now"]);
});

Deno.test("options: who asks for help or the version gets it, whatever else is wrong", () => {
  for (const args of ["-h", "--help", "check --help", "--nonsense -h"]) {
    assert.deepEqual([read(args).command.name, read(args).problems], ["help", []]);
  }
  for (const args of ["-V", "--version"]) assert.equal(read(args).command.name, "version");
  for (const { code, help } of Object.values(EXIT_CODES)) {
    assert.match(helpText("1.2.3"), new RegExp(`${code} +${help}`));
  }
});
