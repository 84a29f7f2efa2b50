import assert from "node:assert/strict";
import { Cluster } from "./transport_cluster.ts";

/** libp2p leaves timers behind, and a channel that keeps a process alive: see `close`. */
function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name: `transport: ${name}`, fn, sanitizeOps: false, sanitizeResources: false });
}

test("two nodes make one link, exchange messages of all lanes, and are told when it goes", async () => {
  await using cluster = await Cluster.of(2);
  const [a, b] = cluster.nodes;
  await cluster.linked();
  for (const lane of ["replication", "forward", "bulk"] as const) {
    assert.equal(a.transport.send(1, lane, bytes(lane)), true);
  }
  b.transport.send(0, "replication", new Uint8Array(0));
  await b.until(() => b.received.length === 3);
  await a.until(() => a.received.length === 1);
  assert.deepEqual(b.received.map(({ from, lane, bytes }) => [from, lane, text(bytes)]).sort(), [
    [0, "bulk", "bulk"],
    [0, "forward", "forward"],
    [0, "replication", "replication"],
  ]);
  assert.deepEqual(a.received, [{ from: 1, lane: "replication", bytes: new Uint8Array(0) }]);
  await a.transport.close();
  await b.until(() => b.downs === 1);
  assert.equal(b.transport.isLinked(0), false);
  assert.equal(b.transport.send(0, "replication", bytes("lost")), false);
});

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
