import assert from "node:assert/strict";
import { Chance } from "../core/chance.ts";
import { InvalidArgument, LimitExceeded } from "../core/errors.ts";
import { identityIn, libp2pTransport } from "./libp2p_transport.ts";
import { parseNodeAddress } from "./node_address.ts";
import { NoAnswer, Requests } from "./requests.ts";
import { BROADCAST_BYTES_MAX, type Lane, LANES } from "./transport.ts";
import { Cluster, type ClusterNode, freePorts, NodeProcess } from "./transport_cluster.ts";

/** libp2p leaves timers behind, and a channel that keeps a process alive: see `close`. */
function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name: `transport: ${name}`, fn, sanitizeOps: false, sanitizeResources: false });
}

const encode = (text: string) => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

test("two nodes make one link, exchange messages of all lanes, and are told when it goes", async () => {
  await using cluster = await Cluster.of(2);
  const [a, b] = cluster.nodes;
  await cluster.linked();
  for (const lane of LANES) assert.equal(a.transport.send(1, lane, encode(lane)), true);
  b.transport.send(0, "replication", new Uint8Array(0));
  await b.until(() => b.received.length === 3);
  await a.until(() => a.received.length === 1);
  assert.deepEqual(b.received.map(({ from, lane, bytes }) => [from, lane, decode(bytes)]).sort(), [
    [0, "bulk", "bulk"],
    [0, "forward", "forward"],
    [0, "replication", "replication"],
  ]);
  assert.deepEqual(a.received, [{ from: 1, lane: "replication", bytes: new Uint8Array(0) }]);
  await a.transport.close();
  await b.until(() => b.downs === 1);
  assert.equal(b.transport.isLinked(0), false);
  assert.equal(b.transport.send(0, "replication", encode("lost")), false);
  assert.equal(b.transport.queuedBytes(0, "replication"), 0);
});

test("10,000 messages of any size come whole, once and in the order of their lane", async () => {
  const messageBytesMax = 300_000;
  await using cluster = await Cluster.of(2, { messageBytesMax, queueBytesMax: { bulk: 1_000_000 } });
  const [a, b] = cluster.nodes;
  await cluster.linked();
  const chance = new Chance(1);
  const counts: Record<Lane, number> = { replication: 0, forward: 0, bulk: 0 };
  const came: Record<Lane, number> = { replication: 0, forward: 0, bulk: 0 };
  /** What the n-th message of a lane is: its size and its bytes follow from the seed. */
  const messageOf = (lane: Lane, n: number): Uint8Array => {
    const one = new Chance(n * 3 + LANES.indexOf(lane));
    const kind = one.below(1000);
    const size = kind < 100 ? 0 : kind === 100 ? messageBytesMax : kind < 110 ? one.below(100_000) : one.below(800);
    return new Uint8Array(size).fill(one.below(256));
  };
  b.onMessage = (_from, lane, bytes) => {
    const expected = messageOf(lane, came[lane]++);
    assert.equal(bytes.length, expected.length);
    assert.deepEqual(bytes.subarray(0, 1000), expected.subarray(0, 1000));
    assert.ok(bytes.every((byte) => byte === expected[0]));
  };
  for (let sent = 0; sent < 10_000;) {
    const lane = chance.pick(LANES);
    if (a.transport.send(1, lane, messageOf(lane, counts[lane]))) {
      counts[lane]++;
      sent++;
    } else await a.until(() => a.transport.isWritable(1, lane, messageBytesMax));
    if (chance.oneIn(50)) await new Promise((resolve) => setTimeout(resolve, 0)); // Else it would all be one turn.
  }
  await b.until(() => came.replication + came.forward + came.bulk === 10_000);
  assert.deepEqual(came, counts);
  assert.deepEqual([a.downs, b.downs], [0, 0]);
});

test("a message that comes costs no error: Noise's decoder would throw one after each", async () => {
  await using cluster = await Cluster.of(2);
  const [a, b] = cluster.nodes;
  await cluster.linked();
  const { RangeError } = globalThis;
  let errors = 0;
  globalThis.RangeError = new Proxy(RangeError, {
    apply: (target, _self, [message]) => (errors++, target(message)),
  });
  try {
    for (let i = 0; i < 20; i++) {
      a.transport.send(1, "replication", encode(`message ${i}`));
      await b.until(() => b.received.length === i + 1);
    }
  } finally {
    globalThis.RangeError = RangeError;
  }
  assert.equal(errors, 0);
});

test("a message over the limit is refused where it is sent, and nothing of it leaves", async () => {
  await using cluster = await Cluster.of(2, { messageBytesMax: 1000 });
  const [a, b] = cluster.nodes;
  await cluster.linked();
  assert.throws(
    () => a.transport.send(1, "bulk", new Uint8Array(1001)),
    new LimitExceeded("The message to node 1", 1001, 1000),
  );
  assert.throws(() => a.transport.broadcast(new Uint8Array(BROADCAST_BYTES_MAX + 1)), LimitExceeded);
  a.transport.send(1, "bulk", new Uint8Array(1000));
  await b.until(() => b.received.length === 1);
  assert.equal(b.received[0]!.bytes.length, 1000);
  // A node that was configured with a larger one is not believed.
  await a.transport.close();
  await b.until(() => b.downs === 1);
  const other = await cluster.start(0, { messageBytesMax: 2000 });
  await other.until(() => other.ups === 1);
  other.transport.send(1, "bulk", new Uint8Array(1001));
  await b.until(() => b.downs === 2);
  assert.match(b.reasons[1]!, /A frame of 1001 bytes comes, and 1000 is the limit/);
});

test("what does not know the secret, the cluster's id or a key of the list is not linked", async () => {
  await using cluster = await Cluster.prepared(2);
  const a = await cluster.start(0);
  const secret = new Uint8Array(32).fill(8);
  for (const other of [{ secret }, { clusterId: "another" }]) {
    const b = await cluster.start(1, other);
    await b.until(() => b.logged.some((line) => line.startsWith("warn") && line.includes("handshake failed")));
    assert.deepEqual([b.ups, a.ups], [0, 0]);
    await b.transport.close();
  }
  // It knows the secret, and takes itself for node 1; its key is not the one of node 1 in the list.
  const dir = `${cluster.dir}/stranger`;
  Deno.mkdirSync(dir);
  const identity = await identityIn(dir);
  const place = parseNodeAddress(cluster.addresses[1]![0]!).place;
  const nodes = [cluster.addresses[0]!, [`${place}/p2p/${identity.peerId}`]];
  const stranger = await cluster.start(1, { identity, nodes });
  await stranger.until(() => stranger.logged.some((line) => line.startsWith("warn")));
  assert.deepEqual([stranger.ups, a.ups], [0, 0]);
  await stranger.transport.close();
  // Node 0 is none the worse.
  const b = await cluster.start(1);
  await b.until(() => b.ups === 1);
  await a.until(() => a.ups === 1);
});

test("nodes that are set up differently are told in what, once, and not linked", async () => {
  await using cluster = await Cluster.prepared(2);
  const a = await cluster.start(0, { inCommon: "nodes 2\nreplicas 2" });
  const b = await cluster.start(1, { inCommon: "nodes 2\nreplicas 1" });
  const isNoLink = (line: string) => line.startsWith("warn: There is no link");
  await b.until(() => b.logged.some(isNoLink)); // After several dials.
  const told = [...a.logged, ...b.logged].filter((line) => line.includes("is not linked"));
  assert.equal(told[0], "warn: Node 1 is not linked. It is set up otherwise: replicas 1 there, replicas 2 here {}");
  assert.ok(told.length <= 2, told.join());
  assert.deepEqual([...a.logged, ...b.logged].filter((line) => line.startsWith("error")), []);
  assert.deepEqual([a.ups, b.ups], [0, 0]);
  await b.transport.close();
  const again = await cluster.start(1, { inCommon: "nodes 2\nreplicas 2" });
  await again.until(() => again.ups === 1);
});

test("nodes that disagree about who is who are told, and not linked", async () => {
  await using cluster = await Cluster.prepared(3);
  const a = await cluster.start(0);
  const [first, second, third] = cluster.addresses;
  // Node 1 and node 2 have changed places in the configuration of this one.
  const b = await cluster.start(2, { identity: cluster.identities[1]!, nodes: [first!, third!, second!] });
  const isTold = (line: string) => line.includes("takes itself for node");
  while (!a.logged.some(isTold) && !b.logged.some(isTold)) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual([a.ups, b.ups], [0, 0]);
});

test("options that cannot be are refused before anything is opened", async () => {
  await using cluster = await Cluster.prepared(2);
  const options = cluster.optionsOf(0);
  const [first, second] = cluster.addresses;
  for (
    const [wrong, message] of [
      [{ secret: new Uint8Array(15) }, /secret.*15 bytes/],
      [{ node: 2 }, /There is no node 2/],
      [{ node: 1 }, /The key in this data folder is that of/],
      [{ nodes: [first!, ["/ip4/127.0.0.1/tcp/1"]] }, /Node 1 needs an address/],
      [{ nodes: [first!, first!] }, /same peer id/],
      [{ nodes: [first!, second!, second!] }, /same peer id/],
      [{ listen: "127.0.0.1:1" }, /is no address of a node/],
    ] as const
  ) {
    assert.throws(() => libp2pTransport({ ...options, ...wrong }), (error: Error) => {
      assert.ok(error instanceof InvalidArgument);
      assert.match(error.message, message);
      return true;
    });
  }
});

test("an address that is in use is an error, and not a wait", async () => {
  await using cluster = await Cluster.of(2);
  await assert.rejects(cluster.start(0), Deno.errors.AddrInUse);
});

test("what is urgent overtakes a bulk transfer at full speed", async () => {
  const queueBytesMax = { bulk: 8 * 1024 * 1024 };
  await using cluster = await Cluster.of(2, { queueBytesMax });
  const [a, b] = cluster.nodes;
  await cluster.linked();
  const bulk = new Uint8Array(256 * 1024);
  let taken = 0;
  let came = 0;
  let answered = 0;
  /** How much bulk that was taken before an urgent message came after it. */
  const overtaken: number[] = [];
  const waits: number[] = [];
  b.onMessage = (from, lane, bytes) => {
    if (lane === "bulk") return void (came += bytes.length);
    overtaken.push(new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0) - came);
    b.transport.send(from, "replication", bytes);
  };
  a.onMessage = () => answered++;
  const fill = () => {
    while (a.transport.send(1, "bulk", bulk)) taken += bulk.length;
  };
  a.onWritable = fill;
  fill();
  while (answered < 100) {
    const before = answered;
    const began = performance.now();
    const message = new Uint8Array(300);
    new DataView(message.buffer).setFloat64(0, taken);
    a.transport.send(1, "replication", message);
    await a.until(() => answered > before);
    waits.push(performance.now() - began);
    fill();
  }
  a.onWritable = null;
  waits.sort((x, y) => x - y);
  const median = overtaken.toSorted((x, y) => x - y)[50]!;
  console.log(
    `round trips beside bulk: median ${waits[50]!.toFixed(2)} ms, longest ${waits.at(-1)!.toFixed(2)} ms; ` +
      `bulk overtaken: median ${(median / 2 ** 20).toFixed(1)} of ${queueBytesMax.bulk / 2 ** 20} MiB; ` +
      `bulk meanwhile: ${(came / 2 ** 20).toFixed(0)} MiB`,
  );
  assert.ok(came > 0);
  // Behind the queue it would have overtaken nothing. Not overtaken is what libp2p and the sockets already hold.
  assert.ok(median > queueBytesMax.bulk / 4, `${median}`);
});

test("a lane that is full refuses, says how full it is, and says when there is room", async () => {
  await using cluster = await Cluster.of(2, { queueBytesMax: { bulk: 1_000_000 } });
  const [a, b] = cluster.nodes;
  await cluster.linked();
  b.transport.pause(0, "bulk");
  let sent = 0;
  const message = (n: number) => encode(String(n).padEnd(100_000));
  // What is on its way when the lane is paused still has room in the sockets and streams.
  do {
    while (a.transport.send(1, "bulk", message(sent))) sent++;
    await new Promise((resolve) => setTimeout(resolve, 100));
  } while (a.transport.isWritable(1, "bulk", 100_000));
  assert.equal(b.received.length, 0);
  assert.ok(a.transport.queuedBytes(1, "bulk") > 900_000);
  assert.equal(a.transport.send(1, "bulk", message(sent)), false);
  // The other lanes are not held up.
  a.transport.send(1, "replication", encode("urgent"));
  await b.until(() => b.received.length === 1);
  assert.equal(decode(b.received[0]!.bytes), "urgent");
  b.transport.resume(0, "bulk");
  await a.until(() => a.writables > 0);
  await b.until(() => b.received.length === 1 + sent);
  assert.deepEqual(b.received.slice(1).map(({ bytes }) => Number(decode(bytes))), [...Array(sent).keys()]);
});

test("a lane may be paused and resumed at any message", async () => {
  await using cluster = await Cluster.of(2);
  const [a, b] = cluster.nodes;
  await cluster.linked();
  const chance = new Chance(2);
  let paused = false;
  let came = 0;
  b.onMessage = (from, lane, bytes) => {
    assert.equal(paused, false);
    assert.equal(Number(decode(bytes)), came++);
    if (lane !== "bulk" || !chance.oneIn(20)) return;
    b.transport.pause(from, "bulk");
    paused = true;
    const resume = () => {
      paused = false;
      b.transport.resume(from, "bulk");
    };
    if (chance.oneIn(2)) queueMicrotask(resume);
    else setTimeout(resume, 0);
  };
  for (let sent = 0; sent < 3000;) {
    if (a.transport.send(1, "bulk", encode(String(sent).padEnd(chance.below(4000))))) sent++;
    else await a.until(() => a.transport.isWritable(1, "bulk", 4000));
  }
  await b.until(() => came === 3000);
});

test("a handler that throws costs the link, which comes again, and nothing else", async () => {
  await using cluster = await Cluster.of(2);
  const [a, b] = cluster.nodes;
  await cluster.linked();
  b.onMessage = () => {
    throw new Error("What is this?");
  };
  a.transport.send(1, "replication", encode("?"));
  await b.until(() => b.downs === 1);
  assert.equal(b.reasons[0], "What is this?");
  b.onMessage = null;
  await b.until(() => b.ups === 2);
  await a.until(() => a.ups === 2);
  a.transport.send(1, "replication", encode("again"));
  await b.until(() => b.received.length === 1);
});

test("questions are answered, and end with the link", async () => {
  await using cluster = await Cluster.of(2);
  const [a, b] = cluster.nodes;
  const [ofA, ofB] = [a, b].map((node) => {
    const requests = new Requests(node.transport, (_from, question) => {
      return decode(question) === "never" ? new Promise(() => {}) : Promise.resolve(question);
    });
    node.onMessage = (from, _lane, bytes) => requests.message(from, bytes);
    node.onLinkDown = (peer) => requests.linkDown(peer);
    return requests;
  }) as [Requests, Requests];
  await cluster.linked();
  const answers = await Promise.all(
    Array.from({ length: 1000 }, async (_, i) => decode(await (i % 2 ? ofA : ofB).ask(i % 2, encode(`${i}`), 20_000))),
  );
  assert.deepEqual(answers, Array.from({ length: 1000 }, (_, i) => `${i}`));
  const never = ofA.ask(1, encode("never"), 60_000);
  await b.transport.close();
  await assert.rejects(never, new NoAnswer(1, "the link is gone"));
});

test("three nodes hear each other's broadcasts, also after one of them came again", async () => {
  await using cluster = await Cluster.of(3);
  await cluster.linked();
  const { nodes } = cluster;
  for (let round = 0; round < 2; round++) {
    // A broadcast may be lost, as those before the subscriptions are known: so it is told again, like a beacon.
    for (let told = 0;; told++) {
      for (const node of nodes) node.transport.broadcast(encode(`${round} ${told}`));
      await new Promise((resolve) => setTimeout(resolve, 50));
      const heard = nodes.map(({ broadcasts }) =>
        new Set(broadcasts.filter(({ bytes }) => decode(bytes).startsWith(`${round} `)).map(({ from }) => from)).size
      );
      if (heard.every((others) => others === 2)) break;
      assert.ok(told < 200, `${round}: ${heard}`);
    }
    if (round === 1) break;
    await nodes[2]!.transport.close();
    await nodes[0]!.until(() => nodes[0]!.downs === 1);
    nodes[2] = await cluster.start(2);
    await cluster.linked();
  }
  assert.deepEqual([...new Set(nodes[0]!.broadcasts.map(({ from }) => from))].sort(), [1, 2]);
});

test("however dials cross and nodes come and go, both ends mean the same link", async () => {
  await using cluster = await Cluster.prepared(2);
  const chance = new Chance(3);
  for (let round = 0; round < 12; round++) {
    const order = chance.oneIn(2) ? [0, 1] : [1, 0];
    const started: ClusterNode[] = [];
    for (const node of order) {
      const one = await cluster.start(node);
      started[node] = one;
      if (chance.oneIn(2)) await new Promise((resolve) => setTimeout(resolve, chance.below(700)));
    }
    const [a, b] = started as [ClusterNode, ClusterNode];
    // What crosses it in both directions is the same link; one that is replaced at once is made again.
    while (a.received.length === 0 || b.received.length === 0) {
      await a.until(() => a.transport.isLinked(1));
      await b.until(() => b.transport.isLinked(0));
      a.transport.send(1, "forward", encode("to b"));
      b.transport.send(0, "forward", encode("to a"));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.deepEqual([a.ups - a.downs, b.ups - b.downs], [1, 1]);
    assert.ok(a.ups <= 2 && b.ups <= 2, `round ${round}: ${a.ups} and ${b.ups} links`);
    await started[order[0]!]!.transport.close();
    await started[order[1]!]!.transport.close();
  }
});

test("a node's key is made once, and only its user can read it", async () => {
  const dir = Deno.makeTempDirSync();
  const made = await identityIn(dir);
  assert.match(made.peerId, /^12D3KooW/);
  assert.equal((await identityIn(dir)).peerId, made.peerId);
  if (Deno.build.os !== "windows") assert.equal(Deno.statSync(`${dir}/node.key`).mode! & 0o777, 0o600);
  assert.deepEqual([...Deno.readDirSync(dir)].map(({ name }) => name), ["node.key"]);
  Deno.writeFileSync(`${dir}/node.key`, new Uint8Array(68));
  await assert.rejects(identityIn(dir), InvalidArgument);
  Deno.removeSync(dir, { recursive: true });
});

test("a node that is killed is noticed at once, and is back with the same key", async () => {
  await using cluster = await Cluster.prepared(2);
  const a = await cluster.start(0);
  for (let life = 1; life <= 3; life++) {
    const began = performance.now();
    const b = new NodeProcess(cluster, 1);
    await a.until(() => a.ups === life);
    const linked = performance.now() - began;
    a.received.length = 0;
    a.transport.send(1, "bulk", encode("echo"));
    await a.until(() => a.received.length === 1);
    const killed = performance.now();
    b.kill();
    await a.until(() => a.downs === life);
    const { permissions } = await b.line("permissions") as { permissions: Record<string, string> };
    console.log(
      `linked ${linked.toFixed(0)} ms after its start, gone ${
        (performance.now() - killed).toFixed(0)
      } ms after kill -9`,
    );
    assert.equal([permissions.env, permissions.sys, permissions.run].includes("granted"), false);
    await b.ended;
  }
  assert.equal(a.transport.isLinked(1), false);
});

test("a node may be named by DNS, and be the one that dials, though its index is the higher one", async () => {
  await using cluster = await Cluster.prepared(2);
  const [first, second] = cluster.addresses;
  // Nobody listens where node 0 looks for node 1.
  const nowhere = second!.map((text) => text.replace(/tcp\/\d+/, `tcp/${freePorts(1)[0]}`));
  const a = await cluster.start(0, { nodes: [first!, nowhere] });
  const named = first!.map((text) => text.replace("/ip4/127.0.0.1/", "/dns4/localhost/"));
  const b = new NodeProcess(cluster, 1, { nodes: [named, [...second!]] });
  await a.until(() => a.ups === 1);
  b.kill();
  await b.ended;
});

test("a node needs its own address, those of its peers and its folder, and may listen on all addresses", async () => {
  await using cluster = await Cluster.prepared(2);
  const port = parseNodeAddress(cluster.addresses[1]![0]!).port;
  const denied = new NodeProcess(cluster, 1, { listen: `/ip4/127.0.0.1/tcp/${freePorts(1)[0]}` });
  const error = await denied.line("error");
  assert.equal(error.error, "NotCapable");
  await denied.ended;
  const everywhere = new NodeProcess(cluster, 1, { listen: `/ip4/0.0.0.0/tcp/${port}` }, [`0.0.0.0:${port}`]);
  await everywhere.line("started");
  const a = await cluster.start(0);
  await a.until(() => a.ups === 1);
  for (let told = 0; a.broadcasts.length === 0; told++) {
    a.transport.broadcast(encode(`echo ${told}`));
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.ok(told < 200);
  }
  everywhere.kill();
  await everywhere.ended;
});
