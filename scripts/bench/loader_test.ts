import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { load } from "./loader.ts";
import { type Requests, Template } from "./requests.ts";

const COMMAND = new Template(["PING"]);

function pings(more: Partial<Requests> = {}): Requests {
  return { bytesMax: COMMAND.bytes.length, write: (into, at) => COMMAND.write(into, at, 0), ...more };
}

/** A server that answers the n-th command that comes to it as told, or with null ends the link. */
class Server implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #links: Promise<void>[] = [];
  readonly #over: Promise<void>;
  commands = 0;

  constructor(readonly answer: (n: number) => string | null) {
    this.#over = this.#accept();
  }

  get address() {
    return { hostname: "127.0.0.1", port: this.#listener.addr.port };
  }

  async #accept(): Promise<void> {
    for await (const link of this.#listener) {
      // The other end may have left in the middle of an answer.
      this.#links.push(this.#serve(link).catch(() => {}));
    }
  }

  async #serve(link: Deno.TcpConn): Promise<void> {
    using _ = link;
    const slice = new Uint8Array(1000), encoder = new TextEncoder();
    let bytes = 0;
    for (let count = await link.read(slice); count !== null; count = await link.read(slice)) {
      let answers = "";
      for (bytes += count; bytes >= COMMAND.bytes.length; bytes -= COMMAND.bytes.length) {
        const answer = this.answer(this.commands++);
        if (answer === null) return;
        answers += answer;
      }
      const out = encoder.encode(answers);
      for (let at = 0; at < out.length;) at += await link.write(out.subarray(at));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#over;
    await Promise.all(this.#links);
  }
}

Deno.test("load() sends as many requests as it was told to, and counts each once", async () => {
  await using server = new Server(() => "*2\r\n:1\r\n$2\r\nab\r\n");
  const took: number[] = [];
  const requests = pings({ took: (ms) => void took.push(ms) });
  const loaded = await load(server.address, requests, { clients: 7, pipeline: 3, requests: 1000 });
  equal(server.commands, 1000);
  equal(loaded.requests, 1000);
  equal(loaded.refused, 0);
  equal(loaded.byClient.reduce((sum, one) => sum + one), 1000);
  equal(took.length, 1000);
  ok(loaded.msP50 > 0 && loaded.msP50 <= loaded.msP99 && loaded.msP99 <= loaded.msMax);
});

Deno.test("load() has a request that is refused tried again until it is accepted", async () => {
  await using server = new Server((n) => n % 3 === 2 ? "+OK\r\n" : "-WRONGVER current version 7\r\n");
  const refusals: string[] = [];
  const requests = pings({ refused: (error) => void refusals.push(error) });
  const loaded = await load(server.address, requests, { clients: 1, pipeline: 1, requests: 10 });
  deepEqual([loaded.requests, loaded.refused, server.commands], [10, 20, 30]);
  equal(refusals[0], "WRONGVER current version 7");
});

Deno.test("load() counts a request of several replies when the last has come", async () => {
  await using server = new Server(() => "+OK\r\n+QUEUED\r\n*1\r\n+1-1\r\n");
  const loaded = await load(server.address, pings({ replies: 3 }), { clients: 2, pipeline: 2, requests: 12 });
  equal(loaded.requests, 12);
});

Deno.test("load() ends with a refusal that nobody expects, and with a link that ends", async () => {
  const size = { clients: 3, pipeline: 1, requests: 100 };
  {
    await using server = new Server((n) => n === 50 ? "-DISKFULL no room\r\n" : "+OK\r\n");
    await rejects(load(server.address, pings(), size), /refused: DISKFULL no room/);
  }
  {
    await using server = new Server((n) => n === 50 ? null : "+OK\r\n");
    await rejects(load(server.address, pings(), size), /closed|reset/i);
  }
});

Deno.test("load() gives clients several addresses in turns, and speaks another protocol if it is told how", async () => {
  await using first = new Server(() => "+PONG\r\n");
  await using second = new Server(() => "+PONG\r\n");
  const greeted: number[] = [];
  let slices = 0;
  const requests = pings({
    greet: (_, client) => Promise.resolve(void greeted.push(client)),
    counter: () => ({ push: (slice, reply) => (slices++, slice.forEach((byte) => byte === 10 && reply(null))) }),
  });
  const { byClient } = await load([first.address, second.address], requests, { clients: 3, pipeline: 1, requests: 30 });
  deepEqual(greeted, [0, 1, 2]);
  equal(first.commands, byClient[0]! + byClient[2]!);
  equal(second.commands, byClient[1]);
  equal(slices, 30);
});
