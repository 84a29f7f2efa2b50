import assert from "node:assert/strict";
import { InvalidArgument, TryAgain, WrongExpectedVersion } from "./errors.ts";
import { MemoryStore } from "./memory_store.ts";
import { NotJson, typed } from "./typed.ts";

type AccountEvent =
  | { name: "Opened"; data: { owner: string } }
  | { name: "Deposited"; data: { cents: number } }
  | { name: "Closed"; data?: undefined };

const KEY = "550e8400-e29b-41d4-a716-446655440000";

Deno.test("a typed view gives back what was appended, by stream, by partition and to subscribers", async () => {
  await using store = new MemoryStore();
  const accounts = typed<AccountEvent>(store);
  using subscription = await accounts.subscribe({ partitions: "all", from: 0 });
  await accounts.append("a", [
    { name: "Opened", data: { owner: "Zoë" }, metadata: { by: 1 }, timestamp: 5 },
    { name: "Deposited", data: { cents: 7 } },
    { name: "Closed" },
  ], { expectedVersion: "empty", partitionKey: KEY });
  const found: unknown[] = [];
  for await (const event of accounts.readStream("a", { partitionKey: KEY })) {
    if (event.name === "Deposited") found.push(event.data.cents + 1); // Compiles only if the name decides the type.
    else found.push(event.data, event.metadata, event.version, event.streamId, event.partition);
  }
  assert.deepEqual(found, [{ owner: "Zoë" }, { by: 1 }, 0, "a", 25, 8, undefined, null, 2, "a", 25]);
  const ofPartition = [];
  for await (const event of accounts.readPartition(25, { from: 1 })) ofPartition.push(event.name);
  assert.deepEqual(ofPartition, ["Deposited", "Closed"]);
  const followed: string[] = [];
  for await (const event of subscription) {
    followed.push(`${event.sequence} ${event.name}`);
    if (followed.length === 3) break;
  }
  assert.deepEqual(followed, ["0 Opened", "1 Deposited", "2 Closed"]);
  assert.equal(subscription.untyped.closed, true);
});

Deno.test("a typed view asks for what is new enough", async () => {
  await using store = new MemoryStore();
  const accounts = typed<AccountEvent>(store);
  await accounts.append("a", [{ name: "Closed" }], { partitionKey: KEY });
  const partition = 25;
  (await accounts.subscribe({ partitions: [partition] }, { atLeast: 0 })).close();
  await assert.rejects(accounts.subscribe({ partitions: [partition] }, { atLeast: 1 }), TryAgain);
  await assert.rejects(Array.fromAsync(accounts.readPartition(partition, { atLeast: 1 })), TryAgain);
  assert.equal((await Array.fromAsync(accounts.readStream("a", { partitionKey: KEY, atLeast: 0 }))).length, 1);
});

Deno.test("expectedVersion holds for the stream as it was before the append", async () => {
  await using store = new MemoryStore();
  const accounts = typed<AccountEvent>(store);
  const deposits: AccountEvent[] = [{ name: "Deposited", data: { cents: 1 } }, {
    name: "Deposited",
    data: { cents: 2 },
  }];
  await accounts.append("a", deposits, { expectedVersion: "empty" });
  assert.equal((await accounts.append("a", deposits, { expectedVersion: 1 })).events[1]!.version, 3);
  await assert.rejects(accounts.append("a", deposits, { expectedVersion: 1 }), WrongExpectedVersion);
});

Deno.test("a typed transaction appends to several streams, or to none", async () => {
  await using store = new MemoryStore();
  const accounts = typed<AccountEvent>(store);
  const deposit = (streamId: string, cents: number) => ({ streamId, name: "Deposited" as const, data: { cents } });
  await accounts.transaction(KEY, [deposit("a", -5), deposit("b", 5)]);
  const stale = accounts.transaction(KEY, [deposit("a", -5), { ...deposit("b", 5), expectedVersion: 7 }]);
  await assert.rejects(stale, WrongExpectedVersion);
  assert.equal(await store.partitionSequence(25), 1);
});

Deno.test("what is not JSON is told with its place, and what cannot be JSON is refused", async () => {
  await using store = new MemoryStore();
  const any = typed<{ name: string; data?: unknown }>(store);
  await any.append("s", [{ name: "good", data: 1 }], { partitionKey: KEY });
  await store.append({ partitionKey: KEY, events: [{ streamId: "s", name: "bad", payload: "{" }] });
  await store.append({ partitionKey: KEY, events: [{ streamId: "s", name: "bad", metadata: new Uint8Array([255]) }] });
  for (const [from, what] of [[1, "payload"], [2, "metadata"]] as const) {
    await assert.rejects(any.readStream("s", { partitionKey: KEY, from })[Symbol.asyncIterator]().next(), (error) => {
      assert.ok(error instanceof NotJson);
      assert.deepEqual([error.what, error.streamId, error.version, error.partition, error.sequence], [
        what,
        "s",
        from,
        25,
        from,
      ]);
      return true;
    });
  }
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  for (const data of [cycle, 1n, () => {}]) {
    await assert.rejects(any.append("t", [{ name: "x", data }]), InvalidArgument);
  }
  assert.equal(await store.streamVersion("t"), null);
});
