/**
 * A full disk as clients see it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { openDatabase } from "../core/database.ts";
import { MemoryDisk } from "../core/log/memory_disk.ts";
import { SeededEnvironment } from "../core/seeded_environment.ts";
import { listen } from "./mod.ts";
import { TestClient } from "./test_client.ts";

const RESERVE = 50_000;

Deno.test("a full disk is -DISKFULL until there is room: reads and subscriptions go on, and INFO shows it", async () => {
  const disk = new MemoryDisk();
  const environment = new SeededEnvironment(1);
  const store = await openDatabase({
    ...{ dir: "/data", disk, environment, reserveBytes: RESERVE, segmentBytes: 65_536, journalBytes: 65_536 },
  });
  const listener = listen(store, {
    ...{ hostname: "127.0.0.1", port: 0, version: "1.2.3", peerId: "peer", initialProtocol: 3 },
  });
  const client = await TestClient.connect(listener.port);
  const info = async (...fields: string[]) => {
    const text = await client.ask("INFO");
    return fields.map((field) => new RegExp(`\\b${field}:(\\w+)`).exec(text)?.[1]);
  };
  try {
    assert.deepEqual(await info("aof_last_write_status", "disk_full", "reserve_bytes"), ["ok", "0", `${RESERVE}`]);
    await client.ask("EAPPEND", "s", "First");
    disk.capacityBytes = disk.usedBytes + RESERVE - 1;
    environment.pass(1000);
    assert.equal(
      await client.ask("EAPPEND", "s", "Refused"),
      `-DISKFULL The disk has ${RESERVE - 1} bytes free, ${RESERVE} of them are kept in reserve: nothing was stored. ` +
        `Appends are taken again when ${1.25 * RESERVE} bytes are free`,
    );
    assert.deepEqual(await info("aof_last_write_status", "disk_full", "free_bytes"), ["err", "1", `${RESERVE - 1}`]);
    assert.match(await client.ask("ESCAN", "s", "-", "+"), /\$"First"/);
    assert.match(await client.ask("ESUB", "s", "FROM", "0"), /^\+[0-9a-f-]{36}$/);
    assert.match(await client.reply(), /^>\[\+subscribe/);
    assert.match(await client.reply(), /\$"First"/);

    disk.capacityBytes = Infinity;
    assert.deepEqual(await info("aof_last_write_status", "disk_full"), ["ok", "0"]);
    await client.send("EAPPEND", "s", "Second");
    const replies = [await client.reply(), await client.reply()].join("\n");
    assert.match(replies, /stream_version: :1/);
    assert.match(replies, /\$"Second"/);
  } finally {
    client.close();
    await listener.close();
    await store.close();
  }
});
