/**
 * Accept, count, close.
 *
 * `Deno.listen`, not `node:net`, which would take its backlog for the most connections there may be.
 *
 * @module
 */
import { type Environment, type Log, systemEnvironment } from "../core/environment.ts";
import type { EventStore } from "../core/store.ts";
import type { Client, Limits, Server } from "./commands/command.ts";
import { commands } from "./commands/mod.ts";
import { Connection } from "./connection.ts";
import { DECODER_LIMITS } from "./decoder.ts";
import { LargeCommands } from "./large_commands.ts";
import { Turns } from "./turns.ts";
import type { Protocol } from "./value.ts";

export interface ListenOptions {
  hostname: string;
  /** 0 for any that is free. */
  port: number;
  /** Esker's own version, for HELLO and INFO. */
  version: string;
  /** Who this node is, for HELLO. */
  peerId: string;
  /** What a link speaks before it says HELLO. 2 when left out, as every Redis client expects. */
  initialProtocol?: Protocol;
  /** Whether each event must say at which version its stream is. */
  strictVersioning?: boolean;
  limits?: Partial<Limits>;
  /** Names and values for CONFIG GET. */
  settings?: () => [string, string][];
  /** Called when a client sends SHUTDOWN, which is refused when this is left out. */
  shutdown?: () => void;
  /** How long `close` waits for clients to take their replies. 5000 when left out. */
  drainMs?: number;
  environment?: Environment;
  log?: Log;
}

export interface Listener {
  readonly hostname: string;
  readonly port: number;
  /** How many clients are connected. */
  readonly connections: number;
  /** Stops accepting, answers what has arrived, ends waits and subscriptions, closes every link. A client that does not read its replies is cut off after `drainMs`. */
  close(): Promise<void>;
}

const LIMITS: Limits = {
  ...DECODER_LIMITS,
  clientsMax: 10_000,
  // Two pages of a scan: enough to keep a socket busy, little enough for ten thousand slow readers.
  outputBytesMax: 512 * 1024,
  // Four of the largest commands at a time.
  inputBytesMax: 256 * 1024 * 1024,
};

const DRAIN_MS = 5000;
/** How long accepting rests when the system has no more sockets to give. */
const ACCEPT_REST_MS = 100;

export function listen(store: EventStore, options: ListenOptions): Listener {
  return new RespListener(store, options);
}

class RespListener implements Listener {
  readonly hostname: string;
  readonly port: number;
  readonly #store: EventStore;
  readonly #listener: Deno.TcpListener;
  readonly #server: Server;
  readonly #clients = new Map<number, Client>();
  readonly #served = new Map<Connection, Promise<void>>();
  readonly #accepting: Promise<void>;
  readonly #drainMs: number;
  #lastId = 0;
  #closing: Promise<void> | null = null;

  constructor(store: EventStore, options: ListenOptions) {
    this.#store = store;
    this.#drainMs = options.drainMs ?? DRAIN_MS;
    this.#listener = Deno.listen({ hostname: options.hostname, port: options.port, transport: "tcp" });
    this.hostname = this.#listener.addr.hostname;
    this.port = this.#listener.addr.port;
    const environment = options.environment ?? systemEnvironment();
    const limits = { ...LIMITS, ...options.limits };
    this.#server = {
      version: options.version,
      peerId: options.peerId,
      runId: newRunId(environment),
      port: this.port,
      initialProtocol: options.initialProtocol ?? 2,
      strictVersioning: options.strictVersioning ?? false,
      limits,
      commands,
      clients: this.#clients,
      counters: { connections: 0, refusedConnections: 0, commands: 0, errors: 0, bytesIn: 0, bytesOut: 0 },
      startedAt: environment.monotonic(),
      environment,
      log: options.log ?? (() => {}),
      turns: new Turns(environment),
      largeCommands: new LargeCommands(limits.inputBytesMax),
      settings: options.settings ?? (() => []),
      shutdown: options.shutdown ?? null,
    };
    this.#accepting = this.#accept();
  }

  get connections(): number {
    return this.#clients.size;
  }

  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #accept(): Promise<void> {
    let failing = false;
    while (this.#closing === null) {
      let socket: Deno.TcpConn;
      try {
        socket = await this.#listener.accept();
        failing = false;
      } catch (error) {
        if (this.#closing !== null) return;
        // Ten times a second is too often to say that the system has no more sockets to give.
        if (!failing) this.#server.log("warn", "Could not accept a connection", { cause: error });
        failing = true;
        await new Promise((resolve) => setTimeout(resolve, ACCEPT_REST_MS));
        continue;
      }
      this.#server.counters.connections++;
      if (this.#closing !== null) socket.close();
      else this.#serve(socket);
    }
  }

  #serve(socket: Deno.TcpConn): void {
    let connection: Connection;
    try {
      socket.setNoDelay(true);
      socket.setKeepAlive(true);
      connection = new Connection(this.#store, this.#server, socket, ++this.#lastId);
    } catch {
      return socket.close(); // It has gone again already.
    }
    const { session } = connection;
    if (this.#clients.size < this.#server.limits.clientsMax) this.#clients.set(session.id, session);
    else {
      this.#server.counters.refusedConnections++;
      connection.turnAway("max number of clients reached");
    }
    const served = connection.serve().finally(() => {
      this.#clients.delete(session.id);
      this.#served.delete(connection);
    });
    this.#served.set(connection, served);
  }

  async #close(): Promise<void> {
    this.#listener.close();
    await this.#accepting;
    const served = Promise.all(this.#served.values());
    for (const connection of this.#served.keys()) connection.drain();
    const timer = setTimeout(() => {
      for (const connection of this.#served.keys()) {
        this.#server.log("warn", "Closed a link that was not drained in time", { client: connection.session.address });
        connection.abort(new Error("Not drained in time"));
      }
    }, this.#drainMs);
    await served;
    clearTimeout(timer);
  }
}

function newRunId(environment: Environment): string {
  const bytes = new Uint8Array(20);
  environment.random(bytes);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
