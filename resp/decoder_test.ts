import assert from "node:assert/strict";
import { COMMAND, Decoder, DECODER_LIMITS, MORE, REFUSED } from "./decoder.ts";
import { fuzz, outcomes } from "./decoder_fuzz.ts";
import { commandOf, joinBytes } from "./test_client.ts";

const encoder = new TextEncoder();

/** What is found in text that arrives at once: commands as their words, with their type bytes where they are no bulk strings. */
function found(text: string, limits = DECODER_LIMITS): string[] {
  const bytes = encoder.encode(text);
  const decoder = new Decoder(limits);
  const results: string[] = [];
  for (let at = 0; at < bytes.length;) {
    at += decoder.feed(bytes.subarray(at));
    for (let outcome = decoder.next(); outcome !== MORE; outcome = decoder.next()) {
      if (outcome !== COMMAND) {
        results.push(`${decoder.problem.code} ${decoder.problem.message}`);
        if (outcome !== REFUSED) return results;
        continue;
      }
      results.push(words(decoder).join(" "));
    }
  }
  return results;
}

function words({ words }: Decoder): string[] {
  return Array.from({ length: words.count }, (_, i) => {
    const kind = String.fromCharCode(words.kinds[i]!);
    const bytes = words.bytes.subarray(words.base + words.starts[i]!, words.base + words.ends[i]!);
    return (kind === "$" ? "" : kind) + new TextDecoder().decode(bytes);
  });
}

Deno.test("a command is its words, whatever kinds of frames they are", () => {
  assert.deepEqual(found("*2\r\n$4\r\nPING\r\n$2\r\nhi\r\n"), ["PING hi"]);
  assert.deepEqual(found("*6\r\n+PING\r\n:-5\r\n(123\r\n=7\r\ntxt:abc\r\n_\r\n#t\r\n"), ["+PING :-5 (123 =abc _ #t"]);
  assert.deepEqual(found("*1\r\n$0\r\n\r\n"), [""]);
  assert.deepEqual(found("*2\r\n$4\r\nPING\r\n*2\r\n:1\r\n%1\r\n+a\r\n+b\r\n*1\r\n$4\r\nPING\r\n"), ["PING *", "PING"]);
});

Deno.test("attributes are passed over, before a command and inside it", () => {
  assert.deepEqual(found("|1\r\n+key\r\n*1\r\n:5\r\n*1\r\n$4\r\nPING\r\n"), ["PING"]);
  assert.deepEqual(found("*2\r\n$4\r\nPING\r\n|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n"), ["PING x"]);
});

Deno.test("an inline command is split as redis-cli splits it", () => {
  assert.deepEqual(found("PING\r\n"), ["PING"]);
  assert.deepEqual(found("  EAPPEND  s\tE \n\r\n\nPING\r\n"), ["EAPPEND s E", "PING"]);
  assert.deepEqual(found(`ECHO "a b\\n\\x41\\"" 'it\\'s \\n' un"quoted"\r\n`), [`ECHO a b\nA" it's \\n unquoted`]);
  assert.deepEqual(found(`ECHO ""\r\n`), ["ECHO "]);
  assert.deepEqual(found(`ECHO "open\r\n`), ["ERR Protocol error: unbalanced quotes in request"]);
  assert.deepEqual(found(`ECHO "a"b\r\n`), ["ERR Protocol error: unbalanced quotes in request"]);
  assert.deepEqual(found("x".repeat(70_000)), ["ERR Protocol error: too big inline request"]);
});

Deno.test("what is no command is answered and passed over", () => {
  const expected = "INVALIDARG expected an array that begins with a command name: found";
  assert.deepEqual(found("+PING\r\n*1\r\n$4\r\nPING\r\n"), [`${expected} simple string`, "PING"]);
  assert.deepEqual(found("$4\r\nPING\r\n%1\r\n+a\r\n*1\r\n+b\r\n:1\r\nPING\r\n"), [
    `${expected} bulk string`,
    `${expected} map`,
    `${expected} number`,
    "PING",
  ]);
  assert.match(found("*0\r\nPING\r\n")[0]!, /^INVALIDARG empty command/);
});

Deno.test("a broken frame is a protocol error, and the last thing found", () => {
  for (
    const [text, why] of [
      ["*-1\r\n", "invalid multibulk length"],
      ["*?\r\n", "invalid multibulk length"],
      ["*x\r\n", "invalid multibulk length"],
      ["*\r\n", "invalid multibulk length"],
      ["*1000000000000000\r\n", "invalid multibulk length"],
      ["*1\r\n$-1\r\n", "invalid bulk length"],
      ["*1\r\n$4x\r\n", "invalid bulk length"],
      ["*1\r\n$4\rx", "invalid bulk length"],
      ["*1\r\n$2\r\nPING\r\n", "a bulk string that is longer than its length"],
      ["*1\r\nPING\r\n", "expected '$', got 'P'"],
      ["*1\r\n\x00", "expected '$', got '\\x00'"],
      ["*1\r\n:1x\r\n", "invalid number"],
      ["*1\r\n#x\r\n", "invalid boolean"],
      ["*1\r\n_x\r\n", "invalid null"],
      ["*1\r\n,x\r\n", "invalid double"],
      ["*1\r\n+a\n", "invalid simple string"],
      ["*1\r\n=3\r\nabc\r\n", "a verbatim string without its encoding"],
      [`*1\r\n+${"x".repeat(70_000)}`, "invalid simple string"],
    ] as const
  ) {
    assert.deepEqual(found(text + "PING\r\n"), [`ERR Protocol error: ${why}`], JSON.stringify(text.slice(0, 20)));
  }
});

Deno.test("a frame over a limit is read to its end, refused, and followed by what follows", () => {
  const limits = { commandBytesMax: 100, wordsMax: 3, nestingMax: 2 };
  const ping = "*1\r\n$4\r\nPING\r\n";
  const tooLarge = "DBOPFAILED The command is larger than 100 bytes, the limit. Nothing was stored";
  assert.deepEqual(found(`*2\r\n$4\r\nECHO\r\n$200\r\n${"x".repeat(200)}\r\n${ping}`, limits), [tooLarge, "PING"]);
  assert.deepEqual(found(`*2\r\n$90\r\n${"x".repeat(90)}\r\n:1\r\n${ping}`, limits), [tooLarge, "PING"]);
  assert.deepEqual(found(`|1\r\n+${"x".repeat(200)}\r\n+b\r\n${ping}${ping}`, limits), [tooLarge, "PING"]);
  assert.deepEqual(found(`*4\r\n+a\r\n$1\r\nb\r\n%1\r\n:1\r\n*1\r\n:2\r\n|1\r\n+a\r\n+b\r\n#t\r\n${ping}`, limits), [
    "DBOPFAILED The command has 4 words: the limit is 3. Nothing was stored",
    "PING",
  ]);
  assert.deepEqual(found(`*2\r\n+a\r\n*1\r\n*1\r\n:1\r\n${ping}`, limits), [
    "DBOPFAILED The command is nested deeper than 2, the limit. Nothing was stored",
    "PING",
  ]);
});

Deno.test("a refused frame is not kept, however long it is", () => {
  const decoder = new Decoder({ ...DECODER_LIMITS, commandBytesMax: 1024 });
  const chunk = new Uint8Array(50_000).fill(0x78);
  decoder.feed(encoder.encode("*2\r\n$4\r\nECHO\r\n$50000000\r\n"));
  for (let i = 0; i < 1000; i++) {
    for (let at = 0; at < chunk.length;) {
      assert.equal(decoder.next(), MORE);
      at += decoder.feed(chunk.subarray(at));
      assert.ok(decoder.bufferBytes <= 64 * 1024);
    }
  }
  decoder.feed(encoder.encode("\r\nPING\r\n"));
  assert.equal(decoder.next(), REFUSED);
  assert.equal(decoder.next(), COMMAND);
});

Deno.test("memory grows with what has arrived, not with what was announced", () => {
  const decoder = new Decoder();
  decoder.feed(encoder.encode("*2\r\n$4\r\nECHO\r\n$60000000\r\n0123"));
  assert.equal(decoder.next(), MORE);
  decoder.room();
  assert.ok(decoder.bufferBytes <= 8192);
  const words = new Decoder();
  words.feed(encoder.encode("*1000000\r\n$4\r\nECHO\r\n"));
  assert.equal(words.next(), MORE);
  assert.ok(words.words.kinds.length <= 64);
});

Deno.test("a large command is moved to a larger buffer a few times, not with each word or each read", () => {
  const words = commandOf(...Array(4000).fill(new Uint8Array(1000)));
  for (const bytes of [words, commandOf("ECHO", words), commandOf("ECHO", words, words)]) {
    const decoder = new Decoder();
    let buffer: ArrayBuffer | null = null;
    let buffers = 0;
    for (let at = 0; at < bytes.length;) {
      assert.equal(decoder.next(), MORE);
      const room = decoder.room();
      if (room.buffer !== buffer) buffers++;
      buffer = room.buffer;
      const part = bytes.subarray(at, at + room.length);
      room.set(part);
      decoder.filled(part.length);
      at += part.length;
    }
    assert.equal(decoder.next(), COMMAND);
    assert.ok(buffers < 40, `there were ${buffers} read buffers`);
  }
});

Deno.test("a large command takes its memory along; a small one's place is used again", () => {
  const decoder = new Decoder();
  const payload = new Uint8Array(200_000).map((_, i) => i);
  const bytes = joinBytes([commandOf("ECHO", payload), commandOf("PING")]);
  let at = 0;
  while (decoder.next() === MORE) at += decoder.feed(bytes.subarray(at));
  assert.equal(decoder.words.stable, true);
  const word = decoder.words.bytes.subarray(
    decoder.words.base + decoder.words.starts[1]!,
    decoder.words.base + decoder.words.ends[1]!,
  );
  while (at < bytes.length) at += decoder.feed(bytes.subarray(at));
  assert.equal(decoder.next(), COMMAND);
  assert.equal(decoder.words.stable, false);
  decoder.feed(new Uint8Array(4000).fill(0x20));
  assert.deepEqual(word, payload);
  assert.ok(decoder.bufferBytes <= 64 * 1024);
});

Deno.test("every split point of a stream of commands finds the same", () => {
  const stream = joinBytes([
    commandOf("EAPPEND", "user-1", "Created", "PAYLOAD", "a\r\nb"),
    encoder.encode("PING 'a b'\r\n"),
    encoder.encode("*3\r\n+PING\r\n*2\r\n:1\r\n|1\r\n+a\r\n#t\r\n_\r\n=5\r\ntxt:x\r\n"),
    encoder.encode("%1\r\n+a\r\n$3\r\nabc\r\n"),
    encoder.encode("|1\r\n+a\r\n+b\r\n*1\r\n$4\r\nPING\r\n*0\r\n"),
    commandOf("ECHO", new Uint8Array(3000)),
    commandOf("PING"),
  ]);
  const whole = outcomes(stream, () => stream.length);
  assert.equal(whole.length, 8);
  for (let split = 1; split < stream.length; split++) {
    let slice = 0;
    assert.deepEqual(outcomes(stream, () => slice++ === 0 ? split : stream.length), whole, `split at ${split}`);
  }
  assert.deepEqual(outcomes(stream, () => 1), whole);
});

Deno.test("whatever the bytes, the decoder finds the same in any slices, in bounded memory (fuzz)", () => {
  for (let seed = 1; seed <= 20; seed++) fuzz(seed, 20);
});
