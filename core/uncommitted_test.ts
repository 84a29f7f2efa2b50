import assert from "node:assert/strict";
import { Chance } from "./chance.ts";
import { type OwnEntry, Uncommitted } from "./uncommitted.ts";

const PARTITIONS = 3;
const STREAMS = 4;

/** Streams, partitions and ids by small numbers. */
function bytesOf(number: number): Uint8Array {
  const bytes = new Uint8Array(16);
  new DataView(bytes.buffer).setUint32(12, number);
  return bytes;
}

/** Entries in the order of the log, and what the newest of them say: in plain lines. */
class Model {
  entries: { own: OwnEntry | null; logIndex: number; stream: number; id: number }[] = [];

  newest(matches: (entry: Model["entries"][number]) => boolean): OwnEntry | undefined {
    return this.entries.findLast((entry) => entry.own !== null && matches(entry))?.own ?? undefined;
  }
}

function entryOf(logIndex: number, stream: number, id: number, idGiven: boolean): OwnEntry {
  return {
    ...{ logIndex, segment: 0, offset: 100 * logIndex, partition: stream % PARTITIONS },
    ...{ firstSequence: 10 * logIndex, versions: [logIndex] },
    events: [{ streamKey: bytesOf(stream), eventId: bytesOf(id), eventIdGiven: idGiven }],
  };
}

Deno.test("uncommitted: what an entry gave out is known until it is committed, and never told wrongly after", () => {
  for (let seed = 1; seed <= 50; seed++) {
    const chance = new Chance(seed);
    const uncommitted = new Uncommitted(seed);
    const model = new Model();
    let end = 0;
    let ids = 0;
    for (let step = 0; step < 200; step++) {
      const what = chance.below(10);
      const first = end - model.entries.length;
      if (what < 5) {
        const stream = chance.below(STREAMS);
        const own = entryOf(end, stream, ids, true);
        uncommitted.pushOwn(own);
        model.entries.push({ own, logIndex: end++, stream, id: ids++ });
      } else if (what === 5) {
        uncommitted.push({ logIndex: end, segment: 0, offset: 100 * end });
        model.entries.push({ own: null, logIndex: end++, stream: -1, id: -1 });
      } else if (what < 9) {
        const to = chance.between(first, end);
        const expected = model.entries.splice(0, to - first).map(({ logIndex }) => logIndex);
        assert.deepEqual(uncommitted.commitTo(to).map(({ logIndex }) => logIndex), expected);
      } else {
        end = chance.between(first, end);
        const expected = model.entries.splice(end - first).map(({ logIndex }) => logIndex);
        assert.deepEqual(uncommitted.cut(end).map(({ logIndex }) => logIndex), expected);
      }
      assert.deepEqual(
        uncommitted.entries.map(({ logIndex }) => logIndex),
        model.entries.map(({ logIndex }) => logIndex),
      );
      // What is committed may be remembered for a while: it is as true as what the store says of it. What is not must be.
      for (let stream = 0; stream < STREAMS; stream++) {
        const own = model.newest((entry) => entry.stream === stream);
        const head = uncommitted.head(bytesOf(stream));
        if (own !== undefined) assert.deepEqual(head, { version: own.logIndex, sequence: own.firstSequence });
        else if (head !== null) assert.ok(head.version < end - model.entries.length, `a head of what was cut`);
      }
      for (let partition = 0; partition < PARTITIONS; partition++) {
        const own = model.newest((entry) => entry.own!.partition === partition);
        const next = uncommitted.nextSequence(partition);
        if (own !== undefined) assert.equal(next, own.firstSequence + 1);
        else if (next !== undefined) assert.ok(next <= 10 * (end - model.entries.length), `a sequence of what was cut`);
      }
      for (const { own, id } of model.entries) if (own !== null) assert.equal(uncommitted.given(bytesOf(id)), own);
    }
    uncommitted.commitTo(end);
    assert.ok(uncommitted.isEmpty);
    for (let stream = 0; stream < STREAMS; stream++) assert.equal(uncommitted.head(bytesOf(stream)), null);
    for (let partition = 0; partition < PARTITIONS; partition++) {
      assert.equal(uncommitted.nextSequence(partition), undefined);
    }
    for (let id = 0; id < ids; id++) assert.equal(uncommitted.given(bytesOf(id)), undefined);
  }
});

Deno.test("uncommitted: under steady load what is committed is forgotten", () => {
  const uncommitted = new Uncommitted(1);
  const BEHIND = 5;
  for (let end = 0; end < 1000; end++) {
    uncommitted.pushOwn(entryOf(end, end, end, true));
    uncommitted.commitTo(Math.max(0, end - BEHIND));
    // Two generations, neither of which holds more than what was appended while the other went.
    let known = 0;
    for (let id = 0; id <= end; id++) if (uncommitted.given(bytesOf(id)) !== undefined) known++;
    assert.ok(known >= Math.min(end + 1, BEHIND) && known <= 4 * BEHIND, `${known} of ${end + 1} ids are known`);
  }
});

Deno.test("uncommitted: an id that was drawn is known to nobody", () => {
  const uncommitted = new Uncommitted(1);
  uncommitted.pushOwn(entryOf(0, 1, 7, false));
  assert.equal(uncommitted.given(bytesOf(7)), undefined);
  assert.deepEqual(uncommitted.head(bytesOf(1)), { version: 0, sequence: 0 });
});

Deno.test("uncommitted: of a transaction each stream's last event is its head", () => {
  const uncommitted = new Uncommitted(1);
  const event = (stream: number, id: number) => ({
    streamKey: bytesOf(stream),
    eventId: bytesOf(id),
    eventIdGiven: true,
  });
  const own: OwnEntry = {
    ...{ logIndex: 4, segment: 0, offset: 48, partition: 0, firstSequence: 20, versions: [3, 0, 4] },
    events: [event(1, 1), event(2, 2), event(1, 3)],
  };
  uncommitted.pushOwn(own);
  assert.deepEqual(uncommitted.head(bytesOf(1)), { version: 4, sequence: 22 });
  assert.deepEqual(uncommitted.head(bytesOf(2)), { version: 0, sequence: 21 });
  assert.equal(uncommitted.nextSequence(0), 23);
  for (const id of [1, 2, 3]) assert.equal(uncommitted.given(bytesOf(id)), own);
});

Deno.test("uncommitted: who decides no more forgets what it gave out, and keeps the entries", () => {
  const uncommitted = new Uncommitted(1);
  for (let i = 0; i < 3; i++) uncommitted.pushOwn(entryOf(i, i, i, true));
  uncommitted.commitTo(1);
  uncommitted.forget();
  assert.deepEqual(uncommitted.entries.map(({ logIndex }) => logIndex), [1, 2]);
  for (let i = 0; i < 3; i++) {
    assert.equal(uncommitted.head(bytesOf(i)), null);
    assert.equal(uncommitted.nextSequence(i), undefined);
    assert.equal(uncommitted.given(bytesOf(i)), undefined);
  }
  assert.deepEqual(uncommitted.commitTo(3).map(({ logIndex }) => logIndex), [1, 2]);
  assert.ok(uncommitted.isEmpty);
});

Deno.test("uncommitted: after a cut the log goes on where it ends", () => {
  const uncommitted = new Uncommitted(1);
  for (let i = 0; i < 4; i++) uncommitted.pushOwn(entryOf(i, 1, i, true));
  uncommitted.cut(2);
  assert.deepEqual(uncommitted.head(bytesOf(1)), { version: 1, sequence: 10 });
  assert.equal(uncommitted.given(bytesOf(3)), undefined);
  const own = entryOf(2, 1, 9, true);
  uncommitted.pushOwn(own);
  assert.equal(uncommitted.given(bytesOf(9)), own);
  assert.deepEqual(uncommitted.cut(7), []);
});
