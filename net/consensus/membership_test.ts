import assert from "node:assert/strict";
import { Membership } from "./membership.ts";

Deno.test("a node is suspected when it is silent, and not when it was never heard of", () => {
  const membership = new Membership(0, 3);
  assert.equal(membership.isSuspected(1, 1e9), false);
  membership.heard({ node: 1, boot: 7, number: 1 }, 0);
  assert.equal(membership.isSuspected(1, 2999), false);
  assert.equal(membership.isSuspected(1, 3000), true);
  membership.heard({ node: 1, boot: 7, number: 2 }, 3000);
  assert.equal(membership.isSuspected(1, 3001), false);
  membership.cut(1);
  assert.equal(membership.isSuspected(1, 3001), true);
});

Deno.test("a node to which a connection is lost is suspected, also when it was never heard, until there is one or it is heard", () => {
  const membership = new Membership(0, 3);
  membership.cut(1);
  assert.equal(membership.isSuspected(1, 10), true);
  membership.linked(1, 20);
  assert.equal(membership.isSuspected(1, 20), false);
  membership.heard({ node: 1, boot: 7, number: 1 }, 100);
  membership.cut(1);
  membership.heard({ node: 1, boot: 7, number: 1 }, 200);
  assert.equal(membership.isSuspected(1, 200), true);
  membership.heard({ node: 1, boot: 7, number: 2 }, 300);
  assert.equal(membership.isSuspected(1, 300), false);
  membership.cut(1);
  membership.linked(1, 5000);
  assert.equal(membership.isSuspected(1, 5000), false);
});

Deno.test("H18: a beacon that is late, doubled, or of an earlier life brings nobody back", () => {
  const membership = new Membership(0, 3);
  membership.heard({ node: 1, boot: 7, number: 5 }, 0);
  assert.equal(membership.heard({ node: 1, boot: 7, number: 5 }, 2000), false);
  assert.equal(membership.heard({ node: 1, boot: 7, number: 4 }, 2000), false);
  assert.equal(membership.heard({ node: 1, boot: 8, number: 1 }, 2500), true);
  assert.equal(membership.heard({ node: 1, boot: 7, number: 9 }, 5000), false);
  assert.equal(membership.isSuspected(1, 5500), true);
});

Deno.test("suspectedSlots() tells nodes by the slots that they have in a bucket, and never itself", () => {
  const membership = new Membership(0, 3);
  membership.heard({ node: 1, boot: 7, number: 1 }, 0);
  membership.heard({ node: 0, boot: 9, number: 1 }, 0);
  assert.equal(membership.suspectedSlots(0, 3, 5000), 0b010);
  assert.equal(membership.suspectedSlots(1, 3, 5000), 0b001);
  assert.equal(membership.suspectedSlots(2, 2, 5000), 0);
});

Deno.test("membership: a node whose folder somebody else had is heard again when that one has fallen silent", () => {
  const membership = new Membership(0, 3);
  assert.equal(membership.heard({ node: 1, boot: 7, number: 20 }, 0), true);
  assert.equal(membership.heard({ node: 1, boot: 8, number: 1 }, 100), true);
  assert.equal(membership.heard({ node: 1, boot: 7, number: 21 }, 200), false);
  assert.equal(membership.isSuspected(1, 3100), true);
  assert.equal(membership.heard({ node: 1, boot: 7, number: 20 }, 3100), false);
  assert.equal(membership.heard({ node: 1, boot: 7, number: 24 }, 3100), true);
  assert.equal(membership.isSuspected(1, 3200), false);
  assert.equal(membership.heard({ node: 1, boot: 8, number: 1 }, 9000), false);
});
