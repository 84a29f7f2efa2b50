import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Chance } from "../chance.ts";
import { Chain } from "./format.ts";
import { BLOCK_BYTES, decodeJournalHeader, encodeJournalHeader, type JournalHeader } from "./journal_format.ts";

const SALT = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

/** `hardBytes`: of each bucket its hard state's, 0 for none. */
function headerOf(hardBytes: readonly number[], isCommitted: boolean): JournalHeader {
  const chance = new Chance(hardBytes.length + 1);
  const ends = hardBytes.map((_, i) => ({
    ...{ segment: i, offset: 48 + 100 * i, logIndex: 2 ** 33 + i },
    ...{ chain: new Chain(0xffff_ff00 + i, 7 * i), lost: i % 2 === 1 },
  }));
  const states = hardBytes.map((bytes, i) => {
    const hard = new Uint8Array(bytes);
    chance.fill(hard);
    return { committed: ends[i]!.logIndex - (isCommitted ? 0 : i), hard: bytes === 0 ? null : hard };
  });
  return { number: 9, firstBatch: 12, redoFrom: 5, fileBytes: [65536, 32768], ends, states };
}

Deno.test("a journal header is read back with what replicas must not forget", () => {
  for (const hardBytes of [[0], [1], [0, 90, 0], [200, 0, 3, 64], new Array(120).fill(96)]) {
    for (const isCommitted of [true, false]) {
      const header = headerOf(hardBytes, isCommitted);
      const bytes = encodeJournalHeader(header, SALT);
      assert.equal(bytes.length % BLOCK_BYTES, 0);
      assert.deepEqual(decodeJournalHeader(bytes, SALT), header);
    }
  }
});

Deno.test("the header of a lone store has the bytes that it had before there were replicas", () => {
  const header = headerOf([0, 0, 0], true);
  const bytes = encodeJournalHeader(header, SALT);
  assert.equal(bytes.length, BLOCK_BYTES);
  assert.equal(new DataView(bytes.buffer).getUint32(12, true), 72 + 3 * 32);
  assert.deepEqual(bytes.subarray(72 + 3 * 32), new Uint8Array(BLOCK_BYTES - 72 - 3 * 32));
  assert.equal(
    createHash("sha256").update(bytes).digest("hex"),
    "b6753bdef58cba0499d00d01a54149c14aba69a40a2dd4a3c50835a693872bcd",
  );
});

Deno.test("a journal header that lost a byte or a bit of its states is none", () => {
  const bytes = encodeJournalHeader(headerOf([40, 0, 40], false), SALT);
  const length = new DataView(bytes.buffer).getUint32(12, true);
  for (let at = 72 + 3 * 32; at < length; at++) {
    const flipped = bytes.slice();
    flipped[at]! ^= 1 << at % 8;
    assert.equal(decodeJournalHeader(flipped, SALT), "the journal header fails its checksum");
  }
  for (let end = 72; end < length; end += 7) {
    assert.equal(decodeJournalHeader(bytes.subarray(0, end), SALT), "the journal header fails its checksum");
  }
});
