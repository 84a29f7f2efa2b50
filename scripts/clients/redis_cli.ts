/**
 * The real redis-cli, over RESP2 and with `-3`, as a person and as a shell script use it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { encodeCommand } from "../resp_client.ts";

export type Check = [name: string, body: () => Promise<string | void>];

const KEY = "5fd81ca5-59bf-4a9e-9149-fce4ee65c033";
const PIPELINE = 1000;

/** The checks of redis-cli, in their order. `flags` is `["-3"]` for RESP3. */
export function redisCliChecks(port: number, name: string, flags: string[]): Check[] {
  const cli = async (words: string[], stdin?: Uint8Array) => {
    const process = new Deno.Command("redis-cli", {
      args: ["-p", String(port), ...flags, ...words],
      stdin: stdin === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
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
  return [
    ["connect", async () => {
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
