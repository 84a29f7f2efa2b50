/**
 * Where a node is and who it is, in the text that libp2p uses, and what Deno has to permit for it:
 *
 *     /ip4/192.0.2.7/tcp/7400/p2p/12D3KooW…      or ip6, dns, dns4, dns6
 *
 * It is read here without libp2p, so that whoever only computes permissions need not load that.
 *
 * @module
 */
import { isIPv4, isIPv6 } from "node:net";
import { InvalidArgument } from "../core/errors.ts";

export interface NodeAddress {
  /** The whole text. */
  readonly text: string;
  /** The text without the peer id: what is listened at or dialled. */
  readonly place: string;
  readonly host: string;
  readonly port: number;
  /** Null when the text has none: of a place to listen at it need not be said. */
  readonly peerId: string | null;
}

const FORM = /^(\/(ip4|ip6|dns|dns4|dns6)\/([^/\s]+)\/tcp\/(\d{1,5}))(?:\/p2p\/([1-9A-HJ-NP-Za-km-z]{46,60}))?$/;

/** @throws {InvalidArgument} */
export function parseNodeAddress(text: string): NodeAddress {
  const [, place, family, host, port, peerId] = FORM.exec(text) ?? [];
  if (
    place === undefined || host === undefined || Number(port) > 65535 ||
    (family === "ip4" && !/^\d{1,3}(\.\d{1,3}){3}$/.test(host)) || (family === "ip6" && !/^[\da-f:.]+$/i.test(host))
  ) {
    throw new InvalidArgument(
      `${JSON.stringify(text)} is no address of a node: such are /ip4/192.0.2.7/tcp/7400/p2p/12D3KooW… and ` +
        "/dns4/node-1.example/tcp/7400/p2p/12D3KooW…",
    );
  }
  return { text, place, host, port: Number(port), peerId: peerId ?? null };
}

/** Where a host and a port are, as nodes name it: `/ip4/192.0.2.7/tcp/7400`. Of a name the IPv4 address is asked for. */
export function placeOf({ hostname, port }: { hostname: string; port: number }): string {
  const family = isIPv4(hostname) ? "ip4" : isIPv6(hostname) ? "ip6" : "dns4";
  return `/${family}/${hostname}/tcp/${port}`;
}

/** The address as Deno's permissions for the network name it. */
export function netPermission({ host, port }: NodeAddress): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
