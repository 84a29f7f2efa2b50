import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { MemoryNetwork, type MemoryTransport } from "./memory_transport.ts";
import type { TransportHandlers } from "./transport.ts";

/** A node that writes down what it hears. */
async function heard(network: MemoryNetwork, node: number): Promise<{ transport: MemoryTransport; heard: string[] }> {
  const heard: string[] = [];
  const transport = network.transport(node);
  const handlers: TransportHandlers = {
    message: (from, lane, [byte]) => void heard.push(`${lane} ${byte} from ${from}`),
    linkUp: (peer) => void heard.push(`up ${peer}`),
    linkDown: (peer) => void heard.push(`down ${peer}, ${transport.isLinked(peer) ? "linked" : "gone"}`),
    writable: (peer, lane) => void heard.push(`writable ${lane} to ${peer}`),
    broadcast: (from, [byte]) => void heard.push(`broadcast ${byte} from ${from}`),
  };
  await transport.start(handlers);
  return { transport, heard };
}

const byte = (value: number) => Uint8Array.of(value);
const step = () => new Promise((resolve) => void setImmediate(resolve));

Deno.test("memory transport: messages of a lane come in their order, and what is on its way is lost with the link", async () => {
  const network = new MemoryNetwork(3);
  const a = await heard(network, 0);
  assert.equal(a.transport.send(1, "forward", byte(0)), false, "nobody is there");
  const b = await heard(network, 1);
  for (let i = 0; i < 3; i++) assert.ok(a.transport.send(1, "forward", byte(i)));
  a.transport.broadcast(byte(9));
  assert.deepEqual(b.heard, ["up 0"]);
  await step();
  const first = ["up 0", "forward 0 from 0", "forward 1 from 0", "forward 2 from 0", "broadcast 9 from 0"];
  assert.deepEqual(b.heard, first);
  a.transport.send(1, "forward", byte(7));
  network.cut(0, 1);
  assert.equal(a.transport.send(1, "forward", byte(8)), false);
  await step();
  network.heal(0, 1);
  a.transport.send(1, "replication", byte(5));
  await step();
  assert.deepEqual(b.heard.slice(first.length), ["down 0, gone", "up 0", "replication 5 from 0"]);
  assert.deepEqual(a.heard, ["up 1", "down 1, gone", "up 1"]);
  await b.transport.close();
  assert.deepEqual([a.heard.at(-1), b.heard.at(-1)], ["down 1, gone", "down 0, gone"]);
  assert.equal(a.transport.isLinked(1), false);
  await a.transport.close();
});

Deno.test("memory transport: what is held comes when it is released, and a lane that refused says when it has room", async () => {
  const network = new MemoryNetwork(2);
  network.laneBytesMax = 3;
  const [a, b] = [await heard(network, 0), await heard(network, 1)];
  network.hold(0, 1);
  for (let i = 0; i < 3; i++) assert.ok(a.transport.send(1, "bulk", byte(i)));
  assert.equal(a.transport.isWritable(1, "bulk", 1), false);
  assert.equal(a.transport.send(1, "bulk", byte(3)), false);
  assert.equal(a.transport.queuedBytes(1, "bulk"), 3);
  assert.ok(a.transport.send(1, "forward", new Uint8Array(100)), "one is always taken");
  await step();
  assert.deepEqual(b.heard, ["up 0"]);
  b.transport.pause(0, "bulk");
  network.release(0, 1);
  await step();
  assert.deepEqual(b.heard.slice(1), ["forward 0 from 0"]);
  b.transport.resume(0, "bulk");
  await step();
  assert.deepEqual(b.heard.slice(2), ["bulk 0 from 0", "bulk 1 from 0", "bulk 2 from 0"]);
  assert.deepEqual(a.heard, ["up 1", "writable bulk to 1"]);
  await a.transport.close();
  await b.transport.close();
});
