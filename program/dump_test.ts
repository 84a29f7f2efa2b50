import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { EventRecord } from "../core/event.ts";
import { dumpLine } from "./dump.ts";

const EVENT: EventRecord = {
  eventId: "01a2061b-82f2-38b7-bb95-5d257c7d27c7",
  partitionKey: "7e124fe8-fe28-5398-bb95-53973100148f",
  partition: 21,
  transactionId: "01a2061b-82f2-48b7-bb95-5d257c7d27c7",
  sequence: 4,
  streamId: "user-123",
  version: 2,
  name: "UserCreated",
  timestamp: 1_700_000_000_000,
  metadata: new Uint8Array(0),
  payload: new TextEncoder().encode('{"name": "Alice"}'),
};

Deno.test("dump: an event is one line of JSON with every field", () => {
  assert.equal(
    dumpLine(EVENT),
    '{"partition":21,"sequence":4,"stream":"user-123","version":2,"name":"UserCreated","timestamp":1700000000000,' +
      '"event_id":"01a2061b-82f2-38b7-bb95-5d257c7d27c7","transaction_id":"01a2061b-82f2-48b7-bb95-5d257c7d27c7",' +
      '"partition_key":"7e124fe8-fe28-5398-bb95-53973100148f","metadata":"","payload":"{\\"name\\": \\"Alice\\"}"}\n',
  );
});

Deno.test("dump: any bytes come back as they were, text as text", () => {
  const texts = ["", "line\nfeed\u2028 \0", "\ufeffmarked", "é漢😀", '"', "\\"];
  const cases: Uint8Array[] = texts.map((text) => new TextEncoder().encode(text));
  cases.push(new Uint8Array([0xff]), new Uint8Array([0xed, 0xa0, 0x80]), new Uint8Array([0xc3]));
  cases.push(Uint8Array.from({ length: 256 }, (_, i) => i));
  for (const bytes of cases) {
    const line = dumpLine({ ...EVENT, payload: bytes, metadata: bytes });
    assert.equal(line.indexOf("\n"), line.length - 1);
    const parsed = JSON.parse(line);
    for (const name of ["payload", "metadata"]) {
      const back = name in parsed ? Buffer.from(parsed[name], "utf8") : Buffer.from(parsed[`${name}_base64`], "base64");
      assert.deepEqual(new Uint8Array(back), bytes);
    }
  }
  assert.equal(JSON.parse(dumpLine({ ...EVENT, payload: new Uint8Array([0xff]) })).payload_base64, "/w==");
});
