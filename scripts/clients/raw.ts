/**
 * Sockets without a client, for what clients cannot show: bytes in the worst slices, replies that nobody reads,
 * commands over the limits, connections that end in the middle of something.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type Address, Client, concat, encodeCommand, exact, Link } from "../resp_client.ts";
import { readProc, type ServerProcess } from "../server_process.ts";

export type Check = [name: string, body: () => Promise<string | void>];

const MIB = 1024 * 1024;
const UNREAD_REPLIES = 400;
/** Far less than the 400 MiB that a server holds which goes on answering a client that does not read. */
const GROWTH_BYTES_MAX = 128 * MIB;
const COMMAND_BYTES_MAX = 64 * MIB;

export function rawChecks(server: ServerProcess): Check[] {
  const { address } = server;
  return [
    ["a byte at a time", async () => {
      using link = await Link.open(address, exact);
      const command = encodeCommand(["EAPPEND", "raw-slices", "E", "PAYLOAD", new Uint8Array([13, 10, 0, 255])]);
      for (const byte of concat([command, encodeCommand(["ESVER", "raw-slices"])])) {
        await link.write(Uint8Array.of(byte));
      }
      assert.equal((await link.read(2))?.type, "array");
      assert.deepEqual(await link.read(2), { type: "integer", value: 0 });
    }],
    ["a client that does not read is not read, and memory stays bounded", async () => {
      using client = await Client.connect(address);
      const payload = new Uint8Array(MIB).fill(120);
      const { event_id } = await client.call("EAPPEND", "raw-large", "E", "PAYLOAD", payload) as { event_id: string };
      const before = server.residentBytes();
      using link = await Link.open(address, exact);
      await link.write(concat(Array(UNREAD_REPLIES).fill(encodeCommand(["EGET", event_id]))));
      let most = 0;
      // Others are served meanwhile; each PONG is a turn in which the server might have taken more memory.
      for (let i = 0; i < 2000; i++) {
        assert.equal(await client.call("PING"), "PONG");
        if (i % 20 === 0) most = Math.max(most, server.residentBytes());
      }
      assert(most - before < GROWTH_BYTES_MAX, `${mib(most - before)} more while ${UNREAD_REPLIES} MiB were not read`);
      for (let i = 0; i < UNREAD_REPLIES; i++) {
        const reply = await link.read(2);
        assert(reply?.type === "array");
        const last = reply.items.at(-1)!;
        assert(last.type === "bulk" && last.bytes.length === MIB && last.bytes[0] === 120 && last.bytes.at(-1) === 120);
      }
      return `${mib(Math.max(0, most - before))} more while ${UNREAD_REPLIES} MiB were asked for and not read`;
    }],
    ["a command over 64 MiB gets an error, stores nothing, and the connection goes on", async () => {
      using link = await Link.open(address, exact);
      const payload = new Uint8Array(COMMAND_BYTES_MAX);
      const before = server.residentBytes();
      await link.write(encodeCommand(["EAPPEND", "raw-too-large", "E", "PAYLOAD", payload]));
      const reply = await link.read(2);
      assert(reply?.type === "error", JSON.stringify(reply));
      await link.write(concat([encodeCommand(["ESVER", "raw-too-large"]), encodeCommand(["PING"])]));
      assert.deepEqual(await link.read(2), { type: "null" });
      assert.deepEqual(await link.read(2), { type: "simple", text: "PONG" });
      return `-${reply.text}; ${mib(Math.max(0, server.residentBytes() - before))} more memory`;
    }],
    ["a command of 32 MiB goes through", async () => {
      using client = await Client.connect(address);
      const payload = new Uint8Array(32 * MIB).map((_, i) => i % 251);
      const { event_id } = await client.call("EAPPEND", "raw-32", "E", "PAYLOAD", payload) as { event_id: string };
      const event = await client.call("EGET", event_id) as { payload: Uint8Array };
      assert.equal(event.payload.length, payload.length);
      assert(event.payload.every((byte, i) => byte === i % 251));
    }],
    ["a client that ends its side still gets its replies", async () => {
      using link = await Link.open(address, exact);
      await link.write(concat(Array(100).fill(encodeCommand(["EAPPEND", "raw-half", "E"]))));
      await link.connection.closeWrite();
      for (let i = 0; i < 100; i++) assert.equal((await link.read(2))?.type, "array", `reply ${i}`);
      assert.equal(await link.read(2), undefined);
    }],
    ["what was sent before a connection broke is stored as a whole or not at all", async () => {
      const command = encodeCommand(["EAPPEND", "raw-broken", "E", "PAYLOAD", "x".repeat(1000)]);
      {
        using link = await Link.open(address, exact);
        await link.write(command);
        assert.equal((await link.read(2))?.type, "array");
        await link.write(command.subarray(0, command.length - 1));
      }
      await everybodyGone(address);
      using client = await Client.connect(address);
      assert.equal(await client.call("ESVER", "raw-broken"), 0);
    }],
    ["clients that go away in mid-frame leave nothing running", async () => {
      for (let i = 0; i < 50; i++) {
        using link = await Link.open(address, exact);
        await link.write(new TextEncoder().encode("*3\r\n$7\r\nEAPPEND\r\n$100\r\nabc"));
      }
      await everybodyGone(address);
      // Only time shows that nothing runs: a task that spins takes nearly all of it.
      const from = cpuTicks(server.pid);
      await new Promise((resolve) => setTimeout(resolve, 500));
      const ticks = cpuTicks(server.pid) - from;
      assert(ticks < 25, `${ticks} of 50 ticks of CPU while nobody asks for anything`);
      return `${ticks} of 50 ticks of CPU`;
    }],
    ["500 connections at a time", async () => {
      const links = await Promise.all(Array.from({ length: 500 }, () => Link.open(address, exact)));
      try {
        await Promise.all(links.map((link) => link.write(encodeCommand(["EAPPEND", "raw-crowd", "E"]))));
        const replies = await Promise.all(links.map((link) => link.read(2)));
        assert(replies.every((reply) => reply?.type === "array"));
      } finally {
        for (const link of links) link[Symbol.dispose]();
      }
      using client = await Client.connect(address);
      assert.equal(await client.call("ESVER", "raw-crowd"), 499);
    }],
    // The last one: there is no server after it.
    ["SHUTDOWN ends the server", async () => {
      using link = await Link.open(address, exact);
      await link.write(concat([encodeCommand(["EAPPEND", "raw-last", "E"]), encodeCommand(["SHUTDOWN"])]));
      assert.equal((await link.read(2))?.type, "array");
      for (let reply; (reply = await link.read(2)) !== undefined;) assert.equal(reply.type, "simple");
      assert.equal(await server.ended(), 0, server.output);
    }],
  ];
}

/** Waits until the server counts no connection but the one that asks. */
async function everybodyGone(address: Address): Promise<void> {
  using client = await Client.connect(address);
  for (let i = 0; i < 2000; i++) {
    const info = new TextDecoder().decode(await client.call("INFO", "clients") as Uint8Array);
    if (/^connected_clients:1\r$/m.test(info)) return;
  }
  throw new Error("The server still counts connections that are closed");
}

function cpuTicks(pid: number): number {
  const fields = readProc(`/proc/${pid}/stat`).replace(/^.*\) /, "").split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

function mib(bytes: number): string {
  return `${(bytes / MIB).toFixed(0)} MiB`;
}
