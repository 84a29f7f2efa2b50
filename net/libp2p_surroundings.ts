/**
 * The `node:` modules as libp2p is to find them. To be imported before it.
 *
 * Taken away is what a node has no permission to look at: the variables of the environment, all of which libp2p's
 * logger lists when it is imported; and the machine's network interfaces, which libp2p lists when it listens on all
 * addresses, to tell peers of them. Peers know each other's addresses from the configuration.
 *
 * Mended are two things of Deno 2.6. It has no `resetAndDestroy`, by which libp2p ends a connection at once: libp2p
 * would swallow the error and keep the socket, so that a peer that was refused would stay connected. And a server that
 * counts its connections gets below zero, and would never say that it is closed, for which libp2p waits.
 *
 * This is the one module whose import does something: it has to, since imports are carried out before any line of the
 * file that asks for them. It has effect in the thread of the importer, on what is imported from `node:`. `Deno.env`
 * and `Deno.networkInterfaces` are not touched.
 *
 * @module
 */
import net from "node:net";
import os from "node:os";
import process from "node:process";

process.env = {};
os.networkInterfaces = () => ({});
net.Socket.prototype.resetAndDestroy ??= function (this: net.Socket) {
  return this.destroy();
};

interface CountingServer {
  _connections: number;
  _emitCloseIfDrained?(): void;
}

const server = net.Server.prototype as unknown as CountingServer;
const emitCloseIfDrained = server._emitCloseIfDrained;
if (emitCloseIfDrained !== undefined) {
  server._emitCloseIfDrained = function (this: CountingServer) {
    this._connections = Math.max(this._connections, 0);
    emitCloseIfDrained.call(this);
  };
}
