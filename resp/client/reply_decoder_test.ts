import assert from "node:assert/strict";
import { Chance } from "../../core/chance.ts";
import type { EventRecord } from "../../core/event.ts";
import { formatUuid } from "../../core/uuid.ts";
import { Encoder } from "../encoder.ts";
import { writeRecord, writeScanHead } from "../replies.ts";
import { BrokenReply, ErrorReply, MORE, Push, type Reply, ReplyDecoder } from "./reply_decoder.ts";

const utf8 = new TextEncoder();

function decoded(slices: Iterable<Uint8Array>): Reply[] {
  const decoder = new ReplyDecoder();
  const replies: Reply[] = [];
  for (const slice of slices) {
    decoder.push(slice);
    for (let reply; (reply = decoder.next()) !== MORE;) replies.push(reply as Reply);
  }
  return replies;
}

/** Whatever replies there are, and the bytes of all. */
function someReplies(chance: Chance): { replies: Reply[]; bytes: Uint8Array } {
  const encoder = new Encoder(3);
  const replies = Array.from({ length: chance.between(1, 6) }, () => someReply(chance, encoder, 3));
  return { replies, bytes: encoder.take().slice() };
}

function someReply(chance: Chance, encoder: Encoder, depth: number): Reply {
  const text = chance.pick(["", "OK", "a b", "é€", "+event_id", "x".repeat(300)]);
  switch (chance.below(depth > 0 ? 12 : 8)) {
    case 0:
      encoder.simple(text);
      return text;
    case 1:
      encoder.error("CODE", text);
      return new ErrorReply(`CODE ${text}`);
    case 2: {
      const number = chance.pick([0, 7, -1, 4_000_000_000, Number.MAX_SAFE_INTEGER]);
      encoder.number(number);
      return number;
    }
    case 3: {
      const bytes = chance.bytes(chance.pick([0, 1, 2, 3, 40, 70_000]));
      encoder.bulk(bytes);
      return bytes;
    }
    case 4:
      encoder.null();
      return null;
    case 5: {
      const value = chance.oneIn(2);
      encoder.boolean(value);
      return value;
    }
    case 6:
      encoder.double(0.5);
      return 0.5;
    case 7: {
      const event = someEvent(chance);
      writeRecord(encoder, event);
      return event;
    }
    case 8: {
      // What begins as an event does, and is none.
      encoder.map(11);
      const map = new Map<string, Reply>();
      for (let i = 0; i < 11; i++) {
        const key = i === 0 ? "event_id" : `key ${i}`;
        encoder.simple(key);
        map.set(key, someReply(chance, encoder, 0));
      }
      return map;
    }
    case 9: {
      const events = Array.from({ length: chance.below(4) }, () => someEvent(chance));
      writeScanHead(encoder, true, events.length);
      for (const event of events) writeRecord(encoder, event);
      return new Map<string, Reply>([["has_more", true], ["events", events]]);
    }
    case 10: {
      const count = chance.below(4);
      encoder.raw(utf8.encode(`>${count}\r\n`));
      return new Push(Array.from({ length: count }, () => someReply(chance, encoder, depth - 1)));
    }
    default: {
      const count = chance.below(4);
      encoder.array(count);
      return Array.from({ length: count }, () => someReply(chance, encoder, depth - 1));
    }
  }
}

function someEvent(chance: Chance): EventRecord {
  return {
    eventId: formatUuid(chance.bytes(16)),
    partitionKey: formatUuid(chance.bytes(16)),
    partition: chance.below(65536),
    transactionId: formatUuid(chance.bytes(16)),
    sequence: chance.pick([0, 1, 123_456_789_012]),
    streamId: chance.pick(["s", "é\r\n=", "x".repeat(64)]),
    version: chance.below(1000),
    name: chance.pick(["", "Happened", "\r\n", "n".repeat(255)]),
    timestamp: 1_795_380_553_397,
    metadata: chance.bytes(chance.pick([0, 0, 3])),
    payload: chance.bytes(chance.pick([0, 1, 100, 5000])),
  };
}

Deno.test("replies are the same in whatever slices they come, for 300 seeds", () => {
  for (let seed = 1; seed <= 300; seed++) {
    const chance = new Chance(seed);
    const { replies, bytes } = someReplies(chance);
    const slices: Uint8Array[] = [];
    for (let at = 0; at < bytes.length;) {
      slices.push(bytes.subarray(at, at += chance.pick([1, 2, 7, 100, 5000, 40_000])));
    }
    assert.deepEqual(decoded(slices), replies, `seed ${seed}`);
    assert.deepEqual(decoded([bytes]), replies, `seed ${seed}, whole`);
  }
});

Deno.test("replies may be cut at every byte, and come byte by byte", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const { replies, bytes } = someReplies(new Chance(seed));
    if (bytes.length > 3000) continue;
    for (let at = 0; at <= bytes.length; at++) {
      assert.deepEqual(decoded([bytes.subarray(0, at), bytes.subarray(at)]), replies, `seed ${seed}, cut at ${at}`);
    }
    assert.deepEqual(decoded(Array.from(bytes, (byte) => Uint8Array.of(byte))), replies, `seed ${seed}, byte by byte`);
  }
});

Deno.test("a reply is given as soon as its last byte has come", () => {
  const encoder = new Encoder(3);
  const event = someEvent(new Chance(1));
  for (let i = 0; i < 3; i++) writeRecord(encoder, event);
  const bytes = encoder.take().slice();
  const decoder = new ReplyDecoder();
  for (let at = 0, given = 0; at < bytes.length; at++) {
    decoder.push(bytes.subarray(at, at + 1));
    const reply = decoder.next();
    if (reply !== MORE) given++;
    assert.equal(given, Math.floor((at + 1) / (bytes.length / 3)), `after ${at + 1} bytes`);
  }
});

Deno.test("an event with a field more, or in another order, is a map with all of them", () => {
  const more = "%2\r\n+event_id\r\n+x\r\n+new\r\n:1\r\n";
  assert.deepEqual(decoded([utf8.encode(more)]), [new Map<string, Reply>([["event_id", "x"], ["new", 1]])]);
  const encoder = new Encoder(3);
  writeRecord(encoder, someEvent(new Chance(2)));
  const text = new TextDecoder("latin1").decode(encoder.take());
  const other = Uint8Array.from(text.replace("+partition_id", "+partition_xx"), (char) => char.charCodeAt(0));
  const [map] = decoded([other]);
  assert.ok(map instanceof Map && map.size === 11 && typeof map.get("partition_xx") === "number");
});

Deno.test("what is no reply is told, and nothing is made of it", () => {
  const broken = [
    "?\r\n",
    ":\r\n",
    ":12x\r\n",
    ":-\r\n",
    `:${"9".repeat(17)}\r\n`,
    "$-1\r\n",
    "$3\r\nabcd\r\n",
    "$99999999999\r\n",
    "*-1\r\n",
    "+a\rb\r\n",
    "*1\r\n".repeat(20),
    "%1\r\n:1\r\n:1\r\n",
    `+${"x".repeat(70_000)}`,
  ];
  for (const text of broken) assert.throws(() => decoded([utf8.encode(text)]), BrokenReply, text.slice(0, 40));
});

Deno.test("bytes are plain arrays, whatever the socket gave", async () => {
  const { Buffer } = await import("node:buffer");
  const [bytes] = decoded([Buffer.from("$3\r\nabc\r\n")]);
  assert.equal(Object.getPrototypeOf(bytes), Uint8Array.prototype);
  assert.deepEqual(bytes, utf8.encode("abc"));
});
