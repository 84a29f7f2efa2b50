/**
 * The player of transcripts must notice what is wrong: a canned server answers with bytes as given here.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Protocol } from "./resp_client.ts";
import { parseTranscript, playTranscript } from "./transcripts.ts";

/** Plays one exchange against a server that answers every packet with the next of `answers`; the mismatches' texts. */
async function play(text: string, protocol: Protocol, answers: string[]): Promise<string[]> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const asked: string[] = [];
  const served = (async () => {
    using socket = await listener.accept();
    const slice = new Uint8Array(65_536);
    for (const answer of [...answers, "+PONG\r\n"]) {
      const count = await socket.read(slice);
      if (count === null) return;
      asked.push(new TextDecoder("latin1").decode(slice.subarray(0, count)));
      await socket.write(Uint8Array.from(answer, (char) => char.charCodeAt(0)));
    }
  })();
  const transcript = parseTranscript("test.txt", `bare ${protocol}\n${text}`);
  const found = await playTranscript(transcript, listener.addr as Deno.NetAddr, protocol);
  await served;
  return found.map(({ message }) => message);
}

const RIGHT: [expected: string, protocol: Protocol, answer: string][] = [
  ["+PONG", 2, "+PONG\r\n"],
  ['$"a\\x00\\xffb"', 3, "$4\r\na\x00\xffb\r\n"],
  ['$"ab"*3', 3, "$6\r\nababab\r\n"],
  ["$/^a+$/", 2, "$3\r\naaa\r\n"],
  [":7", 2, ":7\r\n"],
  [":?", 3, ":-1\r\n"],
  ["_", 3, "_\r\n"],
  ["_", 2, "$-1\r\n"],
  ["#t", 3, "#t\r\n"],
  ["#t", 2, ":1\r\n"],
  [",?", 3, ",0.5\r\n"],
  [",?", 2, "$3\r\n0.5\r\n"],
  ["*[]", 2, "*0\r\n"],
  ["*[:1, +a]", 3, "*2\r\n:1\r\n+a\r\n"],
  ["*[:1, …]", 3, "*3\r\n:1\r\n+a\r\n_\r\n"],
  ["~[+a]", 3, "~1\r\n+a\r\n"],
  ["~[+a]", 2, "*1\r\n+a\r\n"],
  [">[+subscribe, :1]", 3, ">2\r\n+subscribe\r\n:1\r\n"],
  ["%{a: :1, b: *[%{}]}", 3, "%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n%0\r\n"],
  ["%{a: :1, b: *[%{}]}", 2, "*4\r\n+a\r\n:1\r\n+b\r\n*1\r\n*0\r\n"],
  ["%{…, b: :2}", 2, "*4\r\n+a\r\n:1\r\n+b\r\n:2\r\n"],
  ['%{$"a": ?}', 3, "%1\r\n$1\r\na\r\n:1\r\n"],
  ['-WRONGVER "current 1"', 2, "-WRONGVER it is not: current 1\r\n"],
  ["-?", 3, "-ERR something\r\n"],
  ["*[:$n, :$n]", 3, "*2\r\n:5\r\n:5\r\n"],
  ["closed", 2, ""],
];

for (const [expected, protocol, answer] of RIGHT) {
  Deno.test(`${expected} is satisfied over RESP${protocol} by ${JSON.stringify(answer)}`, async () => {
    // A server that closes is one that has no further answer: the canned one hangs up after its last.
    const answers = expected === "closed" ? [] : [answer];
    const text = expected === "closed" ? "> PING\n+PONG\n> QUIT\nclosed" : `> PING\n${expected}`;
    assert.deepEqual(await play(text, protocol, answers), []);
  });
}

const WRONG: [expected: string, protocol: Protocol, answer: string][] = [
  ["+PONG", 3, "$4\r\nPONG\r\n"],
  ['$"PONG"', 3, "+PONG\r\n"],
  [":1", 3, ":2\r\n"],
  [":1", 3, "#t\r\n"],
  ["#t", 2, ":0\r\n"],
  ["#f", 3, ":0\r\n"],
  ["_", 3, "*0\r\n"],
  ["*[:1]", 3, "*2\r\n:1\r\n:2\r\n"],
  ["*[:1, :2]", 3, "*1\r\n:1\r\n"],
  ["%{a: :1}", 3, "*2\r\n+a\r\n:1\r\n"],
  ["%{a: :1}", 3, "%1\r\n$1\r\na\r\n:1\r\n"],
  ["%{a: :1, b: :2}", 3, "%2\r\n+b\r\n:2\r\n+a\r\n:1\r\n"],
  ["%{a: :1}", 2, "*4\r\n+a\r\n:1\r\n+b\r\n:2\r\n"],
  ["%{…, c: :1}", 3, "%1\r\n+a\r\n:1\r\n"],
  ["-WRONGVER", 3, "-INVALIDARG no\r\n"],
  ['-WRONGVER "current 2"', 3, "-WRONGVER it is not: current 1\r\n"],
  ["-?", 3, "-no code at all\r\n"],
  ["-?", 3, "+OK\r\n"],
  ["+OK", 3, "-ERR no\r\n"],
  ["*[:$n, :$n]", 3, "*2\r\n:5\r\n:6\r\n"],
  ["closed", 3, "+OK\r\n"],
  ["+OK", 3, "+OK\r\n+OK\r\n"],
];

for (const [expected, protocol, answer] of WRONG) {
  Deno.test(`${expected} is not satisfied over RESP${protocol} by ${JSON.stringify(answer)}`, async () => {
    assert.equal((await play(`> PING\n${expected}`, protocol, [answer])).length, 1);
  });
}

for (
  const answer of ["%0\r\n", "_\r\n", "#t\r\n", ",1\r\n", "~0\r\n", ">0\r\n", "*1\r\n_\r\n", "*2\r\n+a\r\n%0\r\n"]
) {
  Deno.test(`a RESP2 link that carries ${JSON.stringify(answer)} is told, whatever the transcript expects`, async () => {
    const [message] = await play("> PING\n?", 2, [answer]);
    assert.match(message!, /on a RESP2 link/);
  });
}

for (
  const answer of ["$-1\r\n", "*-1\r\n", ":x\r\n", ":\r\n", "#x\r\n", "$1\r\nabc", "+a\nb\r\n", "+a\rb\r\n", "?\r\n"]
) {
  Deno.test(`${JSON.stringify(answer)} is no reply of RESP3`, async () => {
    const [message] = await play("> PING\n?", 3, [answer]);
    assert.match(message!, /could not be played to its end/);
  });
}

Deno.test("a value that was captured can be sent, and words are quoted as in redis-cli", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const asked: string[] = [];
  const served = (async () => {
    using socket = await listener.accept();
    const slice = new Uint8Array(65_536);
    for (const answer of ["+abc\r\n", "+OK\r\n+OK\r\n", "+PONG\r\n"]) {
      asked.push(new TextDecoder("latin1").decode(slice.subarray(0, await socket.read(slice) ?? 0)));
      await socket.write(new TextEncoder().encode(answer));
    }
  })();
  const transcript = parseTranscript(
    "test.txt",
    `bare\n> A\n+$id\n> B $id {$id} '$id' "x\\x00\\n\\"" ""\nraw "*1\\r\\n$1\\r\\n"  "ab"*2\n+OK\n+OK\n`,
  );
  assert.deepEqual(await playTranscript(transcript, listener.addr as Deno.NetAddr, 2), []);
  await served;
  assert.equal(
    asked[1],
    '*6\r\n$1\r\nB\r\n$3\r\nabc\r\n$5\r\n{abc}\r\n$3\r\n$id\r\n$4\r\nx\x00\n"\r\n$0\r\n\r\n*1\r\n$1\r\nabab',
  );
});

for (
  const [text, why] of [
    ["+OK", "a reply without a command"],
    ["> PING", "a command without its reply"],
    ["> PING\n+a b", "not part of a reply"],
    ["> PING\n*[:1", "no comma"],
    ["> PING\n:x", "not a number"],
    ['> PING "x\n+OK', "a quote without its end"],
    ["let X = +OK\n> PING\n+OK", "let NAME"],
    ["let X(@a) = +@a\n> PING\nX(1, 2)", "X takes 1 values"],
  ] as const
) {
  Deno.test(`parseTranscript() refuses ${JSON.stringify(text)}: ${why}`, () => {
    assert.throws(() => parseTranscript("test.txt", text), new RegExp(why));
  });
}
