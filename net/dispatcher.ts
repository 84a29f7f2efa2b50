/**
 * One transport for two: what the replicas say to each other, and what is forwarded of clients' commands. A transport
 * tells one only; this passes each what is its own. Links are for both, beacons for the router.
 *
 * @module
 */
import type { TransportHandlers } from "./transport.ts";

export function dispatched(
  replicas: Omit<TransportHandlers, "broadcast">,
  router: TransportHandlers,
): TransportHandlers {
  return {
    message: (from, lane, bytes) => (lane === "forward" ? router : replicas).message(from, lane, bytes),
    writable: (peer, lane) => (lane === "forward" ? router : replicas).writable(peer, lane),
    linkUp(peer) {
      replicas.linkUp(peer);
      router.linkUp(peer);
    },
    linkDown(peer, reason) {
      replicas.linkDown(peer, reason);
      router.linkDown(peer, reason);
    },
    broadcast: (from, bytes) => router.broadcast(from, bytes),
  };
}
