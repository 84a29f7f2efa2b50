/**
 * NATS JetStream as three servers on this machine: streams with three replicas in files, each message synced by every
 * replica that acknowledges it (`sync_interval: always`).
 *
 * Its protocol is a few lines of text, so our own loader speaks it, and no library stands between: a client has a
 * connection and an inbox, publishes one message, and waits for the acknowledgement of JetStream before the next. So the
 * load costs what it costs for Esker.
 *
 * The server comes through Go's module proxy, into a folder of this checkout, once.
 *
 * @module
 */
import type { Address } from "../../resp_client.ts";
import { freePorts } from "../../cluster_processes.ts";
import { type Counter, type Requests, STREAM_DIGITS, Template } from "../requests.ts";
import { firstLine } from "./peer.ts";

const VERSION = "v2.15.2";
const HOST = "127.0.0.1";
const FOLDER = new URL(`../../../.cache/nats-server-${VERSION}`, import.meta.url).pathname;
const READY_MS_MAX = 30_000;
const ANSWER_MS_MAX = 5000;
const CONNECT = 'CONNECT {"verbose":false,"pedantic":false,"lang":"esker-bench","version":"1","protocol":1}\r\n';
const NUMBER = "#".repeat(STREAM_DIGITS);

export const ABOUT = `NATS JetStream ${VERSION}: 3 servers, streams with 3 replicas in files, sync_interval: always; ` +
  "a client publishes one message and waits for its acknowledgement, by our own loader";

/** The path of the server, or why there is none. `mayInstall`: it takes half a minute. */
export async function natsServer(mayInstall: boolean): Promise<{ path: string } | { why: string }> {
  const path = `${FOLDER}/nats-server`;
  if (await firstLine(path, "--version") !== null) return { path };
  if (!mayInstall) return { why: "nats-server is not there yet, and is built only for a run of full size" };
  const asked = `github.com/nats-io/nats-server/v2@${VERSION}`;
  try {
    const { success, stderr } = await new Deno.Command("go", {
      args: ["install", asked],
      env: { GOBIN: FOLDER },
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).output();
    if (success) return { path };
    return { why: `go install ${asked} failed: ${new TextDecoder().decode(stderr).trim().split("\n").at(-1)}` };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return { why: "Go is not installed, which builds nats-server" };
    throw error;
  }
}

export class NatsCluster implements AsyncDisposable {
  #asked = 0;

  private constructor(readonly addresses: Address[], readonly processes: Deno.ChildProcess[]) {}

  static async start(path: string, folder: string): Promise<NatsCluster> {
    const ports = freePorts(3), routes = freePorts(3);
    const processes = await Promise.all(ports.map(async (port, i) => {
      const own = `${folder}/${i}`;
      await Deno.mkdir(own, { recursive: true });
      await Deno.writeTextFile(
        `${own}/server.conf`,
        `server_name: "n${i}"\nlisten: "${HOST}:${port}"\n` +
          `jetstream { store_dir: "${own}/data", sync_interval: always }\n` +
          `cluster { name: "bench", listen: "${HOST}:${routes[i]}", ` +
          `routes: [${routes.map((to) => `"nats://${HOST}:${to}"`).join(", ")}] }\n`,
      );
      return new Deno.Command(path, {
        args: ["-c", `${own}/server.conf`, "-l", `${own}/log`],
        stdin: "null",
        stdout: "null",
        stderr: "null",
      }).spawn();
    }));
    return new NatsCluster(ports.map((port) => ({ hostname: HOST, port })), processes);
  }

  /** Makes a stream of the subjects below its name; returns the server that leads it. */
  async addStream(name: string): Promise<Address> {
    const config = { name, subjects: [`${name}.>`], storage: "file", num_replicas: this.addresses.length };
    const until = performance.now() + READY_MS_MAX;
    for (;;) {
      // Until the servers have found each other, it cannot be made; it is led a little later.
      const made = await this.#ask(`STREAM.CREATE.${name}`, JSON.stringify(config)).catch((error) => ({ error }));
      const leader = made.error === undefined ? (await this.#info(name)).cluster?.leader : undefined;
      if (leader !== undefined) return this.addresses[Number(leader.slice(1))]!;
      if (performance.now() > until) throw new Error(`NATS does not make a stream: ${JSON.stringify(made)}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** How many messages a stream has. */
  async messages(name: string): Promise<number> {
    return (await this.#info(name)).state.messages;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const process of this.processes) {
      process.kill("SIGKILL");
      await process.status;
    }
  }

  async #info(name: string) {
    return await this.#ask(`STREAM.INFO.${name}`, "");
  }

  async #ask(what: string, body: string) {
    const { hostname, port } = this.addresses[0]!;
    const inbox = `_INBOX.asked${++this.#asked}`;
    using connection = await Deno.connect({ hostname, port });
    const timer = setTimeout(() => connection.close(), ANSWER_MS_MAX);
    try {
      const counter = new AckCounter(connection);
      await writeAll(connection, CONNECT + `SUB ${inbox} 1\r\n` + publish(`$JS.API.${what}`, inbox, body));
      for (const slice = new Uint8Array(64 * 1024);;) {
        const read = await connection.read(slice);
        if (read === null) throw new Error("NATS has closed the connection");
        let answer: string | null = null;
        counter.push(slice.subarray(0, read), () => answer = counter.last);
        if (answer !== null) return JSON.parse(answer);
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Publishes to subjects of these streams, one by chance, each client with an inbox of its own. */
export function publishes(streams: readonly string[], subjects: number, payload: string): Requests {
  const ofClient: Template[][] = [];
  const template = (stream: string, client: number) =>
    new Template(new TextEncoder().encode(publish(`${stream}.${NUMBER}`, inboxOf(client), payload)));
  return {
    bytesMax: Math.max(...streams.map((stream) => template(stream, 0).bytes.length)),
    async greet(connection, client) {
      ofClient[client] = streams.map((stream) => template(stream, client));
      await writeAll(connection, `${CONNECT}SUB ${inboxOf(client)} 1\r\n`);
    },
    write(into, at, client) {
      const subject = Math.floor(Math.random() * subjects);
      const templates = ofClient[client]!;
      return templates[subject % templates.length]!.write(into, at, subject);
    },
    counter: (connection) => new AckCounter(connection),
  };
}

function inboxOf(client: number): string {
  return `_INBOX.client${String(client).padStart(4, "0")}`;
}

function publish(subject: string, reply: string, body: string): string {
  return `PUB ${subject} ${reply} ${new TextEncoder().encode(body).length}\r\n${body}\r\n`;
}

async function writeAll(connection: Pick<Deno.TcpConn, "write">, text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

/** Counts the messages that come to an inbox. They are short, so they are read as text. */
export class AckCounter implements Counter {
  /** The body of the message that came last. */
  last = "";
  #text = "";

  constructor(readonly connection: Pick<Deno.TcpConn, "write">) {}

  push(slice: Uint8Array, reply: (error: string | null) => void): void {
    this.#text += new TextDecoder("latin1").decode(slice);
    for (;;) {
      const end = this.#text.indexOf("\r\n");
      if (end < 0) return;
      const line = this.#text.slice(0, end);
      if (!line.startsWith("MSG ")) {
        this.#text = this.#text.slice(end + 2);
        if (line === "PING") void writeAll(this.connection, "PONG\r\n");
        if (line.startsWith("-ERR")) reply(line);
        continue;
      }
      const from = end + 2, to = from + Number(line.slice(line.lastIndexOf(" ") + 1));
      if (this.#text.length < to + 2) return;
      this.last = this.#text.slice(from, to);
      this.#text = this.#text.slice(to + 2);
      reply(this.last.includes('"error":') ? this.last : null);
    }
  }
}
