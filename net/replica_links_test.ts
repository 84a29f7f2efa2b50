import assert from "node:assert/strict";
import type { Message } from "./consensus/message.ts";
import type { ClusterShape } from "./consensus/topology.ts";
import { FrameEntries } from "./frame_entries.ts";
import { MemoryNetwork } from "./memory_transport.ts";
import { ReplicaLinks } from "./replica_links.ts";
import type { Lane } from "./transport.ts";

const SHAPE: ClusterShape = {
  ...{ clusterId: "test", nodeCount: 3, partitionCount: 4, bucketCount: 2, replicationFactor: 3 },
  segmentBytes: 1024 * 1024,
};

/** Links whose lanes take what the test lets them. */
function links() {
  const sent: { lane: Lane; bytes: number }[] = [];
  const lost: [bucket: number, to: number, from: number][] = [];
  const transport = new MemoryNetwork(3).transport(0);
  const port = { isOpen: true, queued: 0, sent, lost };
  transport.send = (_to, lane, { length }) => {
    if (port.isOpen) sent.push({ lane, bytes: length });
    return port.isOpen;
  };
  transport.queuedBytes = () => port.queued;
  const all = new ReplicaLinks({
    ...{ shape: SHAPE, transport, log: () => {}, receive: () => {} },
    lost: (...what) => void lost.push(what),
  });
  const from = { slot: 0, dataId: 1, boot: 2 };
  const send = (bucket: number, message: Message) => all.send(1, { bucket, from, message });
  return { port, send, ...all.handlers };
}

/** One entry, which nobody reads. */
function append(from: number, { bulk = false, bytes = 100 } = {}): Message {
  const chain = { low: 0, high: 0 };
  const entries = FrameEntries.encoded(
    new Uint8Array(bytes),
    { logIndex: from, prevChain: chain, term: 3 },
    [bytes],
    [0],
  );
  return { kind: "append", term: 3, from, prevTerm: 3, prevChain: chain, entries, commitEnd: 0, bulk };
}

Deno.test("entries that found no room are told to be lost when there is some, and what follows them is not sent before", () => {
  const { port, send, writable } = links();
  send(0, append(0));
  port.isOpen = false;
  send(0, append(1));
  port.isOpen = true;
  send(0, append(2));
  send(1, append(7));
  assert.equal(port.sent.length, 2, "of bucket 0 the first, and that of bucket 1");
  assert.deepEqual(port.lost, []);
  writable(1, "replication");
  assert.deepEqual(port.lost, [[0, 1, 1]]);
  send(0, append(1));
  assert.equal(port.sent.length, 3);
  writable(1, "replication");
  assert.equal(port.lost.length, 1, "it was told once");
});

Deno.test("over a new link comes nothing of what was sent before: that is told of all buckets", () => {
  const { port, send, linkDown, linkUp } = links();
  port.isOpen = false;
  send(1, append(3));
  linkDown(1, new Error("cut"));
  port.isOpen = true;
  linkUp(1);
  assert.deepEqual(port.lost, [[0, 1, 0], [1, 1, 0]]);
  send(1, append(3));
  assert.equal(port.sent.length, 1);
});

Deno.test("what is large goes in the lane for bulk, and what follows it in its bucket too, until all of it has left", () => {
  const { port, send } = links();
  const lanes = () => port.sent.splice(0).map(({ lane }) => lane);
  send(0, append(0, { bulk: true, bytes: 300_000 }));
  port.queued = 300_000;
  send(0, append(1));
  send(1, append(0));
  assert.deepEqual(lanes(), ["bulk", "bulk", "replication"]);
  port.queued = 0;
  send(0, append(2));
  assert.deepEqual(lanes(), ["replication"]);
});
