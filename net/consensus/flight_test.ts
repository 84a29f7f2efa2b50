import assert from "node:assert/strict";
import { Flight } from "./flight.ts";

Deno.test("Flight forgets what arrived, in the order in which it went", () => {
  const flight = new Flight(3);
  for (let turn = 0; turn < 5; turn++) {
    const base = 10 * turn;
    flight.push(base + 1, 100);
    flight.push(base + 4, 50);
    assert.deepEqual([flight.count, flight.bytes, flight.isFull], [2, 150, false]);
    flight.arrived(base + 3);
    assert.deepEqual([flight.count, flight.bytes], [1, 50]);
    flight.arrived(base + 9);
    assert.deepEqual([flight.count, flight.bytes], [0, 0]);
  }
});

Deno.test("a full Flight counts what goes after it with the last", () => {
  const flight = new Flight(2);
  flight.push(1, 10);
  flight.push(2, 20);
  assert.ok(flight.isFull);
  flight.push(3, 30);
  assert.deepEqual([flight.count, flight.bytes], [2, 60]);
  flight.arrived(2);
  assert.deepEqual([flight.count, flight.bytes], [1, 50]);
  flight.arrived(3);
  assert.deepEqual([flight.count, flight.bytes], [0, 0]);
});
