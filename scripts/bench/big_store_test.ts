import { deepEqual, equal } from "node:assert/strict";
import { partitionHash } from "../../core/placement.ts";
import { fillingOf, idOf, streamOf } from "./big_store.ts";
import { streamHash } from "./requests.ts";

Deno.test("fifty million events lie in segments of 64 MiB, fewer in as many smaller ones", () => {
  const MIB = 1024 * 1024;
  const full = { events: 50_000_000, streams: 5_000_000, payloadBytes: 100, segmentBytes: 64 * MIB };
  deepEqual(fillingOf(50_000_000), full);
  equal(fillingOf(25_000_000).segmentBytes, 32 * MIB);
  deepEqual(fillingOf(5), { events: 5, streams: 1, payloadBytes: 100, segmentBytes: 128 * 1024 });
});

Deno.test("an event's id follows from its number, carries its stream's hash, and is nobody else's", () => {
  const filling = fillingOf(20_000);
  const seen = new Set<string>();
  for (let event = 0; event < filling.events; event++) {
    const id = idOf(filling, event);
    seen.add(id.join());
    if (event % 1000 === 0) {
      equal(partitionHash(id), streamHash(streamOf(filling, event)));
      equal(idOf(filling, event).join(), id.slice().join());
    }
  }
  equal(seen.size, filling.events);
});
