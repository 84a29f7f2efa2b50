/**
 * Loads a server from several connections, each of which sends a number of requests at once and waits for all their
 * answers before it sends the next, as redis-benchmark does. It can do what that cannot: ids that fit their streams,
 * versions that follow from the last answer, and answers that are refusals.
 *
 * It runs in the bench's own process, on one core. A request is a template that is copied, a reply is counted and not
 * read, so that it takes about what redis-benchmark takes. It is the same for both servers of a pair.
 *
 * @module
 */
import type { Address } from "../resp_client.ts";
import { Latencies, type Measured } from "./percentiles.ts";
import { ReplyCounter } from "./reply_counter.ts";
import type { Requests } from "./requests.ts";

const READ_BYTES = 64 * 1024;

export interface LoaderOptions {
  clients: number;
  pipeline: number;
  /** Ends after so many requests, all clients together. */
  requests?: number;
  /** Ends after so long. What is then under way is waited for and counted. */
  seconds?: number;
}

export interface Loaded extends Measured {
  /** Requests that were answered and not refused. */
  requests: number;
  refused: number;
  /** How many requests of each client were accepted. */
  byClient: number[];
}

/** Of several addresses each client has one, in turns. */
export async function load(
  address: Address | readonly Address[],
  requests: Requests,
  options: LoaderOptions,
): Promise<Loaded> {
  return await new Loader(requests, options).run([address].flat());
}

class Loader {
  readonly #latencies = new Latencies();
  readonly #byClient: number[];
  #left: number;
  #accepted = 0;
  #refused = 0;
  #deadline = Infinity;

  constructor(readonly requests: Requests, readonly options: LoaderOptions) {
    this.#left = options.requests ?? Infinity;
    this.#byClient = Array(options.clients).fill(0);
  }

  async run(addresses: readonly Address[]): Promise<Loaded> {
    const connections: Deno.TcpConn[] = [];
    try {
      for (let i = 0; i < this.options.clients; i++) {
        const { hostname, port } = addresses[i % addresses.length]!;
        const connection = await Deno.connect({ hostname, port });
        connection.setNoDelay(true);
        connections.push(connection);
        await this.requests.greet?.(connection, i);
      }
      const began = performance.now();
      this.#deadline = began + 1000 * (this.options.seconds ?? Infinity);
      const over = await Promise.allSettled(connections.map((connection, client) => this.#client(connection, client)));
      for (const one of over) if (one.status === "rejected") throw one.reason;
      const seconds = (performance.now() - began) / 1000;
      return {
        ...this.#latencies.percentiles(),
        requests: this.#accepted,
        perSecond: this.#accepted / seconds,
        refused: this.#refused,
        byClient: this.#byClient,
      };
    } finally {
      for (const connection of connections) connection.close();
    }
  }

  async #client(connection: Deno.TcpConn, client: number): Promise<void> {
    try {
      await this.#sendAll(connection, client);
    } catch (cause) {
      this.#left = 0; // The others need not go on.
      throw cause;
    }
  }

  async #sendAll(connection: Deno.TcpConn, client: number): Promise<void> {
    const { requests, options: { pipeline } } = this;
    const repliesPer = requests.replies ?? 1;
    const outgoing = new Uint8Array(requests.bytesMax * pipeline);
    const slice = new Uint8Array(READ_BYTES);
    const counter = requests.counter?.(connection) ?? new ReplyCounter();
    let outstanding = 0, again = 0, began = 0, now = 0, error: string | null = null;
    const reply = (failed: string | null) => {
      error ??= failed;
      if (outstanding === 0) throw new Error("A reply that nobody asked for");
      if (--outstanding % repliesPer !== 0) return;
      if (error === null) {
        this.#latencies.add(now - began);
        this.#accepted++;
        this.#byClient[client]!++;
        requests.accepted?.(client);
        requests.took?.(now - began);
      } else {
        if (requests.refused === undefined) throw new Error(`A request was refused: ${error}`);
        requests.refused(error, client);
        this.#refused++;
        again++;
      }
      error = null;
    };
    for (;;) {
      const late = performance.now() >= this.#deadline;
      // Who was refused tries again before anything new, and its time goes on.
      const fresh = late || again > 0 ? 0 : Math.min(pipeline, this.#left);
      const count = fresh + (late ? 0 : again);
      if (count === 0) return;
      this.#left -= fresh;
      if (again === 0) began = performance.now();
      again = 0;
      let end = 0;
      for (let i = 0; i < count; i++) end = requests.write(outgoing, end, client);
      outstanding = count * repliesPer;
      for (let at = 0; at < end;) at += await connection.write(outgoing.subarray(at, end));
      while (outstanding > 0) {
        const read = await connection.read(slice);
        if (read === null) throw new Error("The server has closed the connection");
        now = performance.now();
        counter.push(slice.subarray(0, read), reply);
      }
    }
  }
}
