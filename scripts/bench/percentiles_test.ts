import { deepEqual, equal, ok } from "node:assert/strict";
import { Latencies, median, medianBy } from "./percentiles.ts";

Deno.test("a percentile is the one that sorting finds, at most one percent higher", () => {
  const latencies = new Latencies();
  const sorted = Array.from({ length: 10_000 }, (_, i) => 0.002 * (i + 1));
  for (const ms of sorted.toReversed()) latencies.add(ms);
  for (const part of [0.01, 0.5, 0.95, 0.99, 0.999]) {
    const exact = sorted[Math.ceil(part * sorted.length) - 1]!, found = latencies.at(part);
    ok(found >= exact * 0.9999 && found <= exact * 1.0101, `${part}: ${found} for ${exact}`);
  }
  equal(latencies.percentiles().msMax, 20);
  equal(latencies.count, 10_000);
});

Deno.test("nothing, one and the extreme have percentiles too", () => {
  const latencies = new Latencies();
  deepEqual(latencies.percentiles(), { msP50: 0, msP95: 0, msP99: 0, msMax: 0 });
  latencies.add(3);
  deepEqual(latencies.percentiles(), { msP50: 3, msP95: 3, msP99: 3, msMax: 3 });
  latencies.add(0);
  latencies.add(1e9);
  equal(latencies.at(1), latencies.at(0.99));
  latencies.clear();
  equal(latencies.count, 0);
});

Deno.test("the median is the one in the middle", () => {
  equal(median([3, 1, 2]), 2);
  deepEqual(medianBy([{ n: 9 }, { n: 1 }, { n: 5 }], ({ n }) => n), { n: 5 });
});
