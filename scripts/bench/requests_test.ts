import { equal, notEqual, ok } from "node:assert/strict";
import { partitionHash } from "../../core/placement.ts";
import { parseUuid, PARTITION_KEY_NAMESPACE, uuidV5 } from "../../core/uuid.ts";
import { encodeCommand } from "../resp_client.ts";
import { eappend, type Ids, newId, streamHash, streamName, Template, VERSION } from "./requests.ts";

const text = new TextDecoder();

Deno.test("a template writes what encoding the words would", () => {
  const words = [...eappend("x".repeat(100), "random"), "EXPECTED_VERSION", VERSION];
  const template = new Template(words);
  const into = new Uint8Array(3 + template.bytes.length);
  const id = newId("random", 77).slice();
  const end = template.write(into, 3, 77, id, 5);
  const word = text.decode(into).match(/[0-9a-f]{8}-[0-9a-f-]{27}/)![0];
  const plain = words.map((w) => w.startsWith("stream:") ? streamName(77) : w.startsWith("@") ? word : w)
    .map((w) => w === VERSION ? "000000000005" : w);
  equal(text.decode(into.subarray(3, end)), text.decode(encodeCommand(plain)));
  equal(parseUuid(word)!.join(), id.join());
});

Deno.test("an id carries the partition hash of its stream's key, and no two are equal", () => {
  for (const ids of ["time-ordered", "random"] as Ids[]) {
    const seen = new Set<string>();
    for (let stream = 0; stream < 1000; stream++) {
      const key = uuidV5(PARTITION_KEY_NAMESPACE, new TextEncoder().encode(streamName(stream)));
      equal(streamHash(stream), partitionHash(key));
      const id = newId(ids, stream);
      equal(partitionHash(id), partitionHash(key));
      seen.add(id.join());
    }
    equal(seen.size, 1000);
  }
});

Deno.test("time-ordered ids begin with the time, random ones do not", () => {
  const begin = (id: Uint8Array) => id.subarray(0, 6).reduce((sum, byte) => 256 * sum + byte, 0);
  const before = Date.now(), made = begin(newId("time-ordered", 1));
  ok(made >= before && made <= Date.now());
  notEqual(begin(newId("random", 1)), begin(newId("random", 1)));
});
