import assert from "node:assert/strict";
import { InvalidArgument } from "../core/errors.ts";
import { netPermission, parseNodeAddress } from "./node_address.ts";

const ID = "12D3KooWNEFQt3w8ZtwSCtpaoPxAGE27Dpnereb9euMtjCmmNXuK";

Deno.test("node address: what is read, and what Deno has to permit for it", () => {
  for (
    const [text, place, permission, peerId] of [
      [`/ip4/127.0.0.1/tcp/7400/p2p/${ID}`, "/ip4/127.0.0.1/tcp/7400", "127.0.0.1:7400", ID],
      ["/ip6/::1/tcp/7400", "/ip6/::1/tcp/7400", "[::1]:7400", null],
      [`/dns4/node-1.example/tcp/1/p2p/${ID}`, "/dns4/node-1.example/tcp/1", "node-1.example:1", ID],
    ] as const
  ) {
    const address = parseNodeAddress(text);
    assert.deepEqual([address.text, address.place, address.peerId], [text, place, peerId]);
    assert.equal(netPermission(address), permission);
  }
});

Deno.test("node address: anything else is refused", () => {
  for (
    const text of [
      ...["", "127.0.0.1:7400", "/ip4/127.0.0.1", "/ip4/127.0.0.1/udp/7400", "/ip4/localhost/tcp/7400"],
      ...["/ip4/127.0.0.1/tcp/70000", `/ip4/127.0.0.1/tcp/7400/p2p/${ID}/x`, "/dns4/a b/tcp/1", "/ip6/a.b/tcp/1/ws"],
    ]
  ) assert.throws(() => parseNodeAddress(text), InvalidArgument, text);
});
