/**
 * A node of its own process, for tests and benches: it answers each message of a peer with the same, unless it begins
 * with the byte 1, and tells on its output what happens to it, a line of JSON each.
 *
 *     deno run … transport_process.ts '{"dir": "…", "node": 1, "nodes": [["/ip4/…"], …]}'
 *
 * @module
 */
import { identityIn, libp2pTransport } from "./libp2p_transport.ts";

export interface ProcessOptions {
  dir: string;
  node: number;
  nodes: string[][];
  listen?: string;
}

/** The same in every process and test. */
export const CLUSTER = { clusterId: "test", secret: new Uint8Array(32).fill(7) };

/** The first byte of a message that has no answer. */
export const SWALLOW = 1;

function tell(line: Record<string, unknown>): void {
  console.log(JSON.stringify(line));
}

if (import.meta.main) {
  const { dir, ...options } = JSON.parse(Deno.args[0]!) as ProcessOptions;
  try {
    const transport = libp2pTransport({ ...options, ...CLUSTER, identity: await identityIn(dir) });
    await transport.start({
      message: (from, lane, bytes) => void (bytes[0] !== SWALLOW && transport.send(from, lane, bytes)),
      linkUp: (peer) => tell({ up: peer }),
      linkDown: (peer, reason) => tell({ down: peer, reason: reason.message }),
      writable: () => {},
      broadcast: (from, bytes) => {
        tell({ heard: from });
        transport.broadcast(bytes);
      },
    });
    const permissions: Record<string, string> = {};
    for (const name of ["env", "sys", "run", "ffi", "net", "read", "write"] as const) {
      permissions[name] = Deno.permissions.querySync({ name } as Deno.PermissionDescriptor).state;
    }
    tell({ started: options.node, permissions, rss: Deno.memoryUsage().rss });
  } catch (error) {
    tell({ error: (error as Error).name, message: (error as Error).message });
    Deno.exit(1);
  }
}
