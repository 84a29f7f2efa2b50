/** What must hold for a database wherever a fault hits it: one fault at each place of a fixed story. */
import assert from "node:assert/strict";
import { amongTheDead, Life, SMALL } from "./life.ts";
import { MemoryDisk } from "./log/memory_disk.ts";
import { Story } from "./story.ts";

/** The fixed story: some batches in small segments, a restart, some more. */
const FIXED_SEED = 4;
const BATCHES = 5;

function test(promise: string, check: () => Promise<void>): void {
  Deno.test(`database: ${promise}`, () => amongTheDead(check));
}

function fixedLife(seed = FIXED_SEED): Life {
  const story = new Story(FIXED_SEED, { partitionCount: SMALL.partitionCount, everyIdGiven: true });
  return new Life(story, new MemoryDisk({ seed }), SMALL);
}

test("a power cut at any effect loses nothing acknowledged and leaves nothing half", async () => {
  const whole = fixedLife();
  await whole.open();
  await whole.tell(BATCHES);
  await whole.close();
  await whole.open();
  await whole.tell(BATCHES);
  await whole.close();
  const effects = whole.disk.effects;
  assert.ok(effects > 100, `the story has only ${effects} effects`);
  for (let n = 1; n <= effects; n++) await survives(n, (disk) => disk.afterPowerCut(n), `power cut at effect ${n}`);
});

test("a kill at any effect loses nothing acknowledged and leaves nothing half", async () => {
  const whole = fixedLife();
  await whole.open();
  await whole.tell(BATCHES);
  await whole.close();
  for (let n = 1; n <= whole.disk.effects; n++) await survives(n, (disk) => disk.afterKill(), `kill at effect ${n}`);
});

/** Plays the fixed story with the power cut at the n-th effect; then it opens again, agrees, and goes on. */
async function survives(n: number, after: (disk: MemoryDisk) => MemoryDisk, what: string): Promise<void> {
  const life = fixedLife(n);
  try {
    life.disk.powerCutAt(n);
    if (!await life.open()) {
      await life.settle([], after(life.disk));
    } else {
      let outcomes = await life.tell(BATCHES);
      if (!life.isGone()) {
        await life.store.close().catch((error: unknown) => assert.ok(life.isGone(), String(error)));
        if (!life.isGone() && await life.open()) outcomes = await life.tell(BATCHES);
      }
      await life.settle(outcomes, after(life.disk));
    }
    assert.deepEqual(await life.tell(2), []);
    life.disk = life.disk.afterPowerCut(n);
    await life.open();
    await life.story.agree(life.store);
    await life.close();
  } catch (error) {
    throw new Error(`${what}: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

test("a power cut while the journal changes files leaves no bucket in doubt, not even one that rests", async () => {
  const [busy, resting] = ["550e8400-e29b-41d4-a716-446655440000", "550e8402-e29b-41d4-a716-c46655440000"];
  const sizes = { ...SMALL, bucketCount: 4, segmentBytes: 65_536, journalBytes: 4 * 4096 }; // Three batches a file.
  const payload = new Uint8Array(1500);
  for (let n = 1; n <= 30; n++) {
    const life = new Life(new Story(n, sizes), new MemoryDisk({ seed: n }), sizes);
    await life.open();
    let acknowledged = 0;
    const append = async (count: number) => {
      for (; count > 0; count--) {
        await life.store.append({ partitionKey: busy, events: [{ streamId: "busy", name: "Often", payload }] });
        acknowledged++;
      }
    };
    await life.store.append({ partitionKey: resting, events: [{ streamId: "resting", name: "Once" }] });
    await append(5); // Both files are full, and the next batch goes over the one that holds the resting bucket's.
    life.disk.powerCutAt(life.disk.effects + n);
    await append(3).catch((error: unknown) => assert.ok(life.isGone(), String(error)));
    const cut = life.disk;
    for (let seed = 0; seed < 40; seed++) {
      life.disk = cut.clone().afterPowerCut(seed);
      await life.open();
      assert.deepEqual(life.store.status().damage, [], `seed ${seed}, effect ${n}`);
      assert.equal(await life.store.streamVersion("resting", { partitionKey: resting }), 0);
      const version = await life.store.streamVersion("busy", { partitionKey: busy });
      assert.ok(version! >= acknowledged - 1, `seed ${seed}, effect ${n}: ${version}`);
    }
  }
});

test("any sync that fails ends the process, and what was acknowledged before holds", async () => {
  for (let n = 1; n <= 50; n++) {
    const life = fixedLife(n);
    await life.open();
    await life.failSync(n, n % 2 === 0);
    assert.deepEqual(await life.tell(2), []);
    await life.close();
  }
});

test("nothing is acknowledged once the journal could not be synced", async () => {
  const life = fixedLife();
  await life.open();
  await life.tell(3);
  let failures = 0;
  life.disk.hooks.sync = (path) => {
    if (path.includes("/journal/") && failures++ === 0) throw new Error("EIO");
  };
  const streams = ["a", "b", "c", "d", "e"];
  const append = (streamId: string) => life.store.append({ events: [{ streamId, name: "Lost" }] });
  const inFlight = await Promise.allSettled(streams.map(append));
  assert.match(String(life.environment.fatalReasons[0]), /journal/);
  const late = await Promise.allSettled(streams.map(append));
  for (const { status } of [...inFlight, ...late]) assert.equal(status, "rejected");
  // Nor is anything else answered: the process is about to end.
  await assert.rejects(life.store.streamVersion("a"), life.environment.fatalReasons[0]);
});

test("a full disk refuses appends, stores nothing of them, and takes them when there is room", async () => {
  for (let roomBytes = 0; roomBytes < 12_000; roomBytes += 400) {
    const life = fixedLife(roomBytes);
    await life.open();
    await life.tell(3);
    await life.fillDisk(roomBytes);
    life.disk = life.disk.afterPowerCut(roomBytes);
    await life.open();
    await life.story.agree(life.store);
    await life.close();
  }
});

test("every index file comes back when it is lost", async () => {
  const life = fixedLife();
  await life.open();
  await life.tell(12);
  await life.close();
  const indexes = life.disk.files("/data").filter((path) => /\.(eidx|pidx|sidx|hidx)$/.test(path));
  assert.ok(indexes.length >= 6, `only ${indexes.length} index files`);
  await life.open();
  for (const lost of indexes) await life.loseIndexes((path) => path === lost);
  await life.loseIndexes(() => true);
  await life.close();
});

/** A life whose only bucket has more than fifty sealed segments. */
async function longLife(seed: number): Promise<Life> {
  const sizes = { ...SMALL, bucketCount: 1 };
  const life = new Life(
    new Story(seed, { partitionCount: sizes.partitionCount, everyIdGiven: true }),
    new MemoryDisk({ seed }),
    sizes,
  );
  await life.open();
  for (
    let sealed = 0;
    sealed <= 50;
    sealed = life.disk.files("/data").filter((path) => /index\.eidx$/.test(path)).length
  ) {
    assert.deepEqual(await life.tell(20), []);
  }
  return life;
}

test("behind more than fifty sealed segments the same holds for every kind of fault", async () => {
  for (const n of [1, 3, 10, 30, 100]) {
    const life = await longLife(n);
    await life.cutAt(life.disk.effects + n, (disk) => disk.afterPowerCut(n));
    await life.cutAt(life.disk.effects + n, (disk) => disk.afterKill());
    await life.failSync(Math.min(n, 20), n % 2 === 0);
    await life.fillDisk(100 * n);
    await life.loseIndexes((path) => path.endsWith("heads.hidx"));
    await life.loseIndexes(() => n % 2 === 1);
    assert.deepEqual(await life.tell(5), []);
    await life.story.agree(life.store);
    await life.close();
  }
});
