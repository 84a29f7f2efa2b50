/**
 * The real redis-cli, over RESP2 and with `-3`, as a person and as a shell script use it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { encodeCommand } from "../resp_client.ts";
import { lines, type Outcome, type Subject } from "./program.ts";

const KEY = "5fd81ca5-59bf-4a9e-9149-fce4ee65c033";
const PIPELINE = 1000;
const ANSWER_MS_MAX = 30_000;
const TRIES_MAX = 1000;
const PRINTED_CHARS_MAX = 2000;

class Skipped extends Error {}

export class RedisCli implements Subject {
  readonly #checks: ReadonlyMap<string, () => Promise<string | void>>;
  readonly #session: Session;

  /** `flags` is `["-3"]` for RESP3. */
  constructor(name: string, port: number, flags: string[]) {
    this.#session = new Session(port, flags);
    this.#checks = new Map(checksOf(name, port, flags, this.#session));
  }

  async ask(check: string): Promise<Outcome> {
    try {
      const body = this.#checks.get(check);
      if (body === undefined) throw new Error("there is no such check");
      return { verdict: "ok", text: await body() ?? "" };
    } catch (cause) {
      if (cause instanceof Skipped) return { verdict: "skipped", text: cause.message };
      return { verdict: "failed", text: (cause as Error).stack ?? String(cause) };
    }
  }

  async close(): Promise<void> {
    await this.#session.close();
  }
}

/** A redis-cli that stays, and is told one line after the other. */
class Session {
  readonly #process: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: AsyncGenerator<string>;
  #asked = 0;

  constructor(port: number, flags: string[]) {
    this.#process = new Deno.Command("redis-cli", {
      args: ["-p", String(port), "--no-raw", ...flags.flatMap((flag) => [flag, "--show-pushes", "yes"])],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#stdin = this.#process.stdin.getWriter();
    this.#lines = lines(this.#process.stdout);
  }

  /** What it prints for a command, pushes that came meanwhile before it. */
  async say(command: string): Promise<string> {
    const end = `end of answer ${++this.#asked}`;
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), ANSWER_MS_MAX);
    try {
      await this.#stdin.write(new TextEncoder().encode(`${command}\nECHO "${end}"\n`));
      let printed = "";
      for (;;) {
        const { value, done } = await this.#lines.next();
        if (done === true) throw new Error(`redis-cli ended, or was ended after ${ANSWER_MS_MAX} ms: ${printed}`);
        if (value.includes(end)) return printed;
        printed += value + "\n";
      }
    } finally {
      clearTimeout(timer);
    }
  }

  async close(): Promise<void> {
    await this.#stdin.close();
    while ((await this.#lines.next()).done !== true);
    const { code } = await this.#process.status;
    assert.equal(code, 0);
  }
}

function checksOf(
  name: string,
  port: number,
  flags: string[],
  session: Session,
): [string, () => Promise<string | void>][] {
  const cli = async (words: string[], stdin?: Uint8Array) => {
    const process = new Deno.Command("redis-cli", {
      args: ["-p", String(port), ...flags, ...words],
      stdin: stdin === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    }).spawn();
    if (stdin !== undefined) {
      const writer = process.stdin.getWriter();
      await writer.write(stdin);
      await writer.close();
    }
    return (await process.output()).stdout;
  };
  const text = async (words: string[], stdin?: Uint8Array) => new TextDecoder().decode(await cli(words, stdin));
  /** The values of a reply: redis-cli gives a map as lines, with key and value on one line where it knows that it is one. */
  const values = (reply: string) =>
    new Map([...reply.matchAll(/(\w+)[\n ](\S*)/g)].map((match) => [match[1], match[2]]));
  const bytes = (text: string) => new TextEncoder().encode(text);
  /** It finds its way back by itself: it reads the `count` events that were there, and appends one. */
  const again = async (count: number) => {
    let reply = "", failures = -1;
    do {
      assert(++failures < TRIES_MAX, reply);
      reply = await session.say(`ESCAN ${name} - +`);
      // That the link is lost stands on stderr; what was pushed before may stand here.
    } while (!reply.includes("has_more"));
    assert.equal(reply.match(/event_name/g)?.length, count, reply);
    assert.match(await session.say(`EAPPEND ${name} Again EXPECTED_VERSION ${count - 1}`), /stream_version/);
    return failures === 0 ? "" : `after ${failures} commands that failed`;
  };
  return [
    ["connect", async () => {
      assert.equal(await session.say("PING"), "PONG\n");
      assert.equal(await text(["PING"]), "PONG\n");
      assert.equal(await text([], bytes("PING\nECHO héllo\n")), "PONG\nhéllo\n");
    }],
    ["append", async () => {
      const reply = await text(["EAPPEND", name, "Created", '{"a": 1}', "EXPECTED_VERSION", "empty"]);
      assert.equal(values(reply).get("stream_version"), "0", reply);
      assert.equal(await text(["ESVER", name]), "0\n");
      assert.equal(await text(["ESVER", `${name}-nothing`]), "\n");
    }],
    ["WRONGVER", async () => {
      const reply = await text(["EAPPEND", name, "Created", "EXPECTED_VERSION", "empty"]);
      assert.match(reply, /^WRONGVER .*current version 0/);
    }],
    ["scan", async () => {
      await text(["EAPPEND", name, "Changed", "EXPECTED_VERSION", "0", "METADATA", "m"]);
      const reply = await text(["--no-raw", "ESCAN", name, "-", "+"]);
      assert.match(reply, /"Created".*"\{\\"a\\": 1\}".*"Changed"/s);
      assert.match(reply, flags.includes("-3") ? /has_more.*\(false\)/ : /has_more"?\n.*\(integer\) 0/);
      assert.match(await text(["--no-raw", "ESCAN", name, "+", "-", "COUNT", "1"]), /^(?!.*"Created").*"Changed"/s);
    }],
    ["EMAPPEND", async () => {
      const [a, b] = [`${name}-a`, `${name}-b`];
      const reply = await text(["EMAPPEND", KEY, a, "A1", "PAYLOAD", "1", b, "B1", a, "A2", "EXPECTED_VERSION", "0"]);
      assert.equal(values(reply).get("partition_id"), "7", reply);
      assert.equal(await text(["ESVER", a, "PARTITION_KEY", KEY]), "1\n");
    }],
    ["1 MiB binary", async () => {
      const payload = new Uint8Array(1024 * 1024);
      for (let at = 0; at < payload.length; at += 65_536) crypto.getRandomValues(payload.subarray(at, at + 65_536));
      // -x: the last word comes from stdin.
      const answer = await text(["-x", "EAPPEND", `${name}-binary`, "Blob", "PAYLOAD"], payload);
      const event = await cli(["--raw", "EGET", values(answer).get("event_id")!]);
      const tail = event.subarray(event.length - payload.length - 1);
      assert(
        tail.length > 0 && tail.subarray(0, -1).every((byte, i) => byte === payload[i]),
        "the payload is the last",
      );
      assert.equal(tail.at(-1), 10);
    }],
    ["pipeline of 1,000", async () => {
      const stream = `${name}-pipeline`;
      const commands = new Blob(
        Array.from({ length: PIPELINE }, (_, i) => encodeCommand(["EAPPEND", stream, `E${i}`, "PAYLOAD", i]).slice()),
      );
      const reply = await text(["--pipe"], await commands.bytes());
      assert.match(reply, /errors: 0, replies: 1000/);
      assert.equal(await text(["ESVER", stream]), `${PIPELINE - 1}\n`);
    }],
    ["MULTI refused", async () => {
      const stream = `${name}-multi`;
      const reply = await text([], bytes(`MULTI\nEAPPEND ${stream} E\nEXEC\nESVER ${stream}\nPING\n`));
      assert.match(reply, /^ERR .*EMAPPEND/);
      assert.match(reply, /\n\nPONG\n$/);
    }],
    ["EREAD woken", async () => {
      const reply = await text(["--no-raw", "EREAD", "BLOCK", "10000", "STREAMS", `${name}-woken`, "0"]);
      assert.match(reply, /"Woken"/);
    }],
    ["EREAD null", async () => {
      assert.equal(
        await text(["--no-raw", "EREAD", "BLOCK", "50", "STREAMS", `${name}-woken`, "1"]),
        "(nil)\n",
      );
    }],
    ["push", async () => {
      if (!flags.includes("-3")) {
        assert.match(await text(["ESUB", name, "FROM", "0"]), /^NOPROTO /);
        throw new Skipped("RESP2 has no pushes: ESUB answers NOPROTO");
      }
      const stream = `${name}-live`;
      await text(["EAPPEND", stream, "First"]);
      await text(["EAPPEND", stream, "Second"]);
      let printed = await session.say(`ESUB ${stream} FROM 0 WINDOW 2`);
      const id = printed.trim().split("\n")[0];
      // It reads pushes while it waits for a reply, and not else.
      const readUntil = async (event: string) => {
        for (let tries = 0; !printed.includes(`=> "${event}"`); tries++) {
          assert(tries < TRIES_MAX, printed.slice(0, PRINTED_CHARS_MAX));
          printed += await session.say("PING");
        }
      };
      await readUntil("Second");
      await text(["EAPPEND", stream, "Live"]);
      printed += await session.say("PING");
      assert.doesNotMatch(printed, /Live/, "the window holds it back");
      printed += await session.say(`EACK ${id} 1`);
      await readUntil("Live");
      assert.match(await session.say(`EUNSUB ${id}`), /OK/);
      await text(["EAPPEND", stream, "Late"]);
      assert.doesNotMatch(await session.say("PING"), /Late/, "nothing comes any more");
      assert.match(printed, /subscribe.*"First".*"Second".*PONG.*OK.*"Live"/s);
      return "with --show-pushes yes, when it reads the next reply";
    }],
    ["after a stop", () => again(2)],
    ["after kill -9", () => again(3)],
    ["help and hints", async () => {
      // deno-lint-ignore no-control-regex
      const help = (await text(["help", "EAPPEND"])).replace(/\x1b\[[0-9;]*m/g, "");
      assert.match(help, /EAPPEND stream_id event_name .*EXPECTED_VERSION/, help);
      await hint("EAPPEND ", "event_name", port, flags);
      await hint("epsc\\t", "EPSCAN", port, flags);
      return "completion and hints on a terminal";
    }],
  ];
}

/** Types into redis-cli on a terminal and waits until it shows what is wanted. */
async function hint(typed: string, wanted: string, port: number, flags: string[]): Promise<void> {
  const { code, stderr } = await new Deno.Command("python3", {
    args: [new URL("redis_cli_hints.py", import.meta.url).pathname, String(port), typed, wanted, ...flags],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).output();
  assert.equal(
    code,
    0,
    `redis-cli shows no ${wanted} after ${JSON.stringify(typed)}: ${new TextDecoder().decode(stderr)}`,
  );
}
