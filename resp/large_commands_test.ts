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

Deno.test("what goes beyond is shared: the first may always take more, others wait until there is room", () => {
  const large = new LargeCommands(1000);
  const [first, second, third] = [new Client(), new Client(), new Client()];
  assert.ok(large.take(first, ALLOWANCE + 400));
  assert.ok(large.take(second, ALLOWANCE + 600));
  assert.ok(!large.take(second, ALLOWANCE + 601));
  assert.ok(!large.take(third, ALLOWANCE + 1));
  assert.ok(large.take(first, ALLOWANCE + 5000), "the first is not held up");
  assert.equal(third.woken, 0);
  large.giveBack(first, 0);
  assert.deepEqual([second.woken, third.woken], [1, 1]);
  assert.ok(large.take(third, ALLOWANCE + 400));
  assert.ok(large.take(second, ALLOWANCE + 5000), "now the second is first");
  for (const client of [first, second, third]) large.leave(client);
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
