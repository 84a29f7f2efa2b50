import assert from "node:assert/strict";
import { type Holder, LargeCommands } from "./large_commands.ts";

const ALLOWANCE = 128 * 1024;

class Client implements Holder {
  woken = 0;
  silentMs = 0;
  readonly gaveWay = Promise.withResolvers<void>();
  wake(): void {
    this.woken++;
  }
  giveWay(): void {
    this.gaveWay.resolve();
  }
}

Deno.test("who stays below the allowance is never asked to wait", () => {
  const large = new LargeCommands(0);
  const [greedy, modest] = [new Client(), new Client()];
  assert.ok(large.take(greedy, 10 * ALLOWANCE));
  assert.ok(large.take(modest, ALLOWANCE));
  assert.ok(!large.take(modest, ALLOWANCE + 1));
  large.leave(modest);
  large.leave(greedy);
});

Deno.test("what goes beyond is shared: the first may always take more, others wait for room in the order they came", () => {
  const large = new LargeCommands(1000);
  const [first, second, third, fourth] = [new Client(), new Client(), new Client(), new Client()];
  assert.ok(large.take(first, ALLOWANCE + 400));
  assert.ok(large.take(second, ALLOWANCE + 500));
  assert.ok(!large.take(third, ALLOWANCE + 200));
  assert.ok(!large.take(fourth, ALLOWANCE + 1), "nobody overtakes the third");
  assert.ok(large.take(second, ALLOWANCE + 600), "but who holds some may");
  assert.ok(large.take(first, ALLOWANCE + 5000), "the first is not held up");
  assert.deepEqual([third.woken, fourth.woken], [0, 0]);
  large.giveBack(first, ALLOWANCE);
  assert.deepEqual([third.woken, fourth.woken], [1, 1]);
  assert.ok(large.take(third, ALLOWANCE + 200));
  assert.equal(fourth.woken, 2, "the third is not in its way any more");
  assert.ok(large.take(fourth, ALLOWANCE + 1));
  assert.ok(large.take(second, ALLOWANCE + 5000), "now the second is first");
  for (const client of [first, second, third, fourth]) large.leave(client);
});

Deno.test("while others wait, those that are silent give way, and if none is, the first", async () => {
  const large = new LargeCommands(1000, 5);
  const [first, second, third] = [new Client(), new Client(), new Client()];
  second.silentMs = 5;
  large.take(first, ALLOWANCE + 500);
  large.take(second, ALLOWANCE + 500);
  assert.ok(!large.take(third, ALLOWANCE + 600));
  await second.gaveWay.promise;
  large.leave(second);
  assert.ok(!large.take(third, ALLOWANCE + 600));
  await first.gaveWay.promise;
  large.leave(first);
  assert.equal(third.woken, 2);
  assert.ok(large.take(third, ALLOWANCE + 600)); // Nobody waits: no timer is left.
});
