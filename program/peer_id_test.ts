import assert from "node:assert/strict";
import { newPeerId, peerIdOf } from "./peer_id.ts";

Deno.test("peer id: 52 letters that begin as all ids of Ed25519 keys do", async () => {
  const ids = await Promise.all(Array.from({ length: 20 }, newPeerId));
  for (const id of ids) assert.match(id, /^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/);
  assert.equal(new Set(ids).size, 20);
});

Deno.test("peer id: a known key has its known id", () => {
  // From the peer id specification of libp2p: the key is the last 32 bytes of the protobuf.
  const key = Uint8Array.from(
    "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e".match(/../g)!,
    (digits) => parseInt(digits, 16),
  );
  assert.equal(peerIdOf(key), "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq");
});
