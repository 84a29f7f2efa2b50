/**
 * What the programs for Node share: the checks by their names, and how `mod.ts` asks for them.
 *
 * A client is handed in as a few functions; a reply is looked at through `entries`, because clients give a RESP3 map as
 * an object, a `Map` or a flat array.
 *
 * @module
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Buffer } from "node:buffer";
import { createInterface } from "node:readline";
import process from "node:process";

const KEY = "5fd81ca5-59bf-4a9e-9149-fce4ee65c033";
const PIPELINE = 1000;
const RECONNECT_MS_MAX = 10_000;

class Skipped extends Error {}

/**
 * @typedef {object} Subject
 * @property {() => Promise<void>} connect with the client's default settings
 * @property {(words: (string | Buffer)[]) => Promise<unknown>} call
 * @property {(words: (string | Buffer)[]) => Promise<unknown>} callBinary bulk strings come as Buffers
 * @property {(words: string[]) => Promise<unknown>} callBlocking on a second connection
 * @property {(commands: string[][]) => Promise<unknown[]>} pipeline
 * @property {(commands: string[][]) => Promise<unknown>} multi the client's MULTI … EXEC
 * @property {string} noPush why it takes no pushes on a link that speaks RESP3
 * @property {() => Promise<void> | void} close
 */

/** @param {Subject} subject @param {string} name unique for each client, so that all may use one server */
export async function answer(subject, name) {
  const checks = checksOf(subject, name);
  for await (const check of createInterface({ input: process.stdin })) {
    const [verdict, text] = await run(checks[check]);
    process.stdout.write(`${check}\t${verdict}\t${text.replaceAll("\n", "\u2028")}\n`);
  }
  await subject.close();
}

async function run(body) {
  try {
    if (body === undefined) return ["failed", "there is no such check"];
    return ["ok", await body() ?? ""];
  } catch (error) {
    return error instanceof Skipped ? ["skipped", error.message] : ["failed", error?.stack ?? String(error)];
  }
}

/** @param {Subject} subject @param {string} name @returns {Record<string, () => Promise<string | void>>} */
function checksOf(subject, name) {
  return {
    async "connect"() {
      await subject.connect();
      assert.equal(await subject.call(["PING"]), "PONG");
      assert.equal(String(await subject.call(["ECHO", "héllo"])), "héllo");
    },
    async "append"() {
      const answer = entries(await subject.call(["EAPPEND", name, "Created", '{"a": 1}', "EXPECTED_VERSION", "empty"]));
      assert.equal(Number(answer.stream_version), 0);
      assert.match(String(answer.event_id), /^[0-9a-f-]{36}$/);
      assert.equal(Number(await subject.call(["ESVER", name])), 0);
      assert.equal(await subject.call(["ESVER", `${name}-nothing`]), null);
    },
    async "WRONGVER"() {
      await assert.rejects(
        subject.call(["EAPPEND", name, "Created", "EXPECTED_VERSION", "empty"]),
        (error) =>
          /^(ReplyError: |Error: )?WRONGVER /.test(error.message) && error.message.includes("current version 0"),
      );
    },
    async "scan"() {
      await subject.call(["EAPPEND", name, "Changed", "EXPECTED_VERSION", "0", "METADATA", "m"]);
      const reply = entries(await subject.call(["ESCAN", name, "-", "+"]));
      assert.equal(Number(reply.has_more), 0);
      const events = reply.events.map(entries);
      assert.deepEqual(events.map((event) => [Number(event.stream_version), event.event_name, event.payload]), [
        [0, "Created", '{"a": 1}'],
        [1, "Changed", ""],
      ]);
      assert.equal(events[1].metadata, "m");
      const newest = entries(await subject.call(["ESCAN", name, "+", "-", "COUNT", "1"]));
      assert.equal(Number(newest.has_more), 1);
      assert.equal(entries(newest.events[0]).event_name, "Changed");
    },
    async "EMAPPEND"() {
      const [a, b] = [`${name}-a`, `${name}-b`];
      const words = ["EMAPPEND", KEY, a, "A1", "PAYLOAD", "1", b, "B1", a, "A2", "EXPECTED_VERSION", "0"];
      const answer = entries(await subject.call(words));
      assert.equal(Number(answer.last_partition_sequence) - Number(answer.first_partition_sequence), 2);
      assert.deepEqual(answer.events.map(entries).map((event) => [event.stream_id, Number(event.stream_version)]), [
        [a, 0],
        [b, 0],
        [a, 1],
      ]);
      assert.equal(Number(await subject.call(["ESVER", a, "PARTITION_KEY", KEY])), 1);
    },
    async "1 MiB binary"() {
      const payload = randomBytes(1024 * 1024), metadata = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
      const words = ["EAPPEND", `${name}-binary`, "Blob", "PAYLOAD", payload, "METADATA", metadata];
      const answer = entries(await subject.call(words));
      const event = entries(await subject.callBinary(["EGET", String(answer.event_id)]));
      assert(Buffer.isBuffer(event.payload), "the payload comes as a Buffer");
      assert(payload.equals(event.payload), "the payload comes back as it was");
      assert(metadata.equals(event.metadata), "the metadata comes back as it was");
    },
    async "pipeline of 1,000"() {
      const stream = `${name}-pipeline`;
      const answers = await subject.pipeline(
        Array.from({ length: PIPELINE }, (_, i) => ["EAPPEND", stream, `E${i}`, "PAYLOAD", String(i)]),
      );
      assert.deepEqual(
        answers.map((answer) => Number(entries(answer).stream_version)),
        Array.from({ length: PIPELINE }, (_, i) => i),
      );
      assert.equal(Number(await subject.call(["ESVER", stream])), PIPELINE - 1);
    },
    async "MULTI refused"() {
      const stream = `${name}-multi`;
      await assert.rejects(subject.multi([["EAPPEND", stream, "E"], ["EAPPEND", stream, "E"]]));
      assert.equal(await subject.call(["ESVER", stream]), null, "nothing was stored");
      assert.equal(await subject.call(["PING"]), "PONG", "the connection goes on");
    },
    async "EREAD woken"() {
      const reply = entries(await subject.callBlocking(["EREAD", "BLOCK", "10000", "STREAMS", `${name}-woken`, "0"]));
      assert.deepEqual(reply.events.map((event) => entries(event).event_name), ["Woken"]);
    },
    async "EREAD null"() {
      assert.equal(await subject.callBlocking(["EREAD", "BLOCK", "50", "STREAMS", `${name}-woken`, "1"]), null);
    },
    async "push"() {
      if (!/ resp=2 /.test(await subject.call(["CLIENT", "INFO"]))) throw new Skipped(subject.noPush);
      await assert.rejects(subject.call(["ESUB", name, "FROM", "0"]), /^(ReplyError: |Error: )?NOPROTO /);
      assert.equal(await subject.call(["PING"]), "PONG", "the connection goes on");
      throw new Skipped("RESP2 has no pushes: ESUB answers NOPROTO");
    },
    "after a stop": () => again(2),
    "after kill -9": () => again(3),
  };

  /** The client finds its way back by itself: it reads the `count` events that were there, and appends one. */
  async function again(count) {
    const deadline = Date.now() + RECONNECT_MS_MAX;
    let failures = 0;
    let reply;
    for (;;) {
      try {
        reply = entries(await subject.call(["ESCAN", name, "-", "+"]));
        break;
      } catch (error) {
        failures++;
        if (Date.now() > deadline) throw error;
      }
    }
    assert.equal(reply.events.length, count);
    await subject.call(["EAPPEND", name, "Again", "EXPECTED_VERSION", String(count - 1)]);
    return failures === 0 ? "" : `after ${failures} commands that failed`;
  }
}

/** A RESP map, however the client gives it, as an object. */
function entries(reply) {
  if (reply instanceof Map) return Object.fromEntries([...reply].map(([key, value]) => [String(key), value]));
  if (Array.isArray(reply)) {
    const object = {};
    for (let i = 0; i < reply.length; i += 2) object[String(reply[i])] = reply[i + 1];
    return object;
  }
  assert(reply !== null && typeof reply === "object", `a map: found ${JSON.stringify(reply)}`);
  return reply;
}
