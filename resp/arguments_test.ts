import assert from "node:assert/strict";
import { InvalidArgument } from "../core/errors.ts";
import { Arguments } from "./arguments.ts";
import { fuzz } from "./arguments_fuzz.ts";
import { COMMAND, Decoder } from "./decoder.ts";
import { commandOf } from "./test_client.ts";

/** The arguments of a command with these words behind its name. */
function args(...words: (string | Uint8Array)[]): Arguments {
  return raw(commandOf("NAME", ...words));
}

function raw(bytes: Uint8Array | string): Arguments {
  const decoder = decoded(typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes);
  const made = new Arguments();
  made.reset(decoder.words, "NAME usage");
  return made;
}

function decoded(bytes: Uint8Array): Decoder {
  const decoder = new Decoder();
  for (let at = 0; decoder.next() !== COMMAND;) {
    assert.ok(at < bytes.length);
    at += decoder.feed(bytes.subarray(at));
  }
  return decoder;
}

function refused(act: () => unknown, message: RegExp | string): void {
  assert.throws(act, (error) => {
    assert.ok(error instanceof InvalidArgument);
    if (typeof message === "string") assert.equal(error.message, message);
    else assert.match(error.message, message);
    return true;
  });
}

Deno.test("text is UTF-8, whatever its length", () => {
  for (const text of ["", "a", "user-12345", "€é", "x".repeat(63) + "é", "\ufeffx", "x".repeat(500) + "😀"]) {
    assert.equal(args(text).text("stream id"), text);
  }
  refused(() => args(Uint8Array.of(0xff, 0xfe)).text("stream id"), "The stream id must be UTF-8");
  refused(() => args(Uint8Array.of(0x61, 0xc3)).text("stream id"), "The stream id must be UTF-8");
  refused(() => args().text("stream id"), "The stream id is missing. Usage: NAME usage");
  refused(() => raw("*2\r\n+N\r\n:5\r\n").text("name"), "The name must be a string: found '5'");
  refused(() => raw("*2\r\n+N\r\n*1\r\n:5\r\n").text("name"), "The name must be a string: found a value of type array");
});

Deno.test("bytes are the caller's own, small ones and large ones", () => {
  for (const length of [0, 1, 100, 1024, 1025, 60_000, 200_000]) {
    const payload = new Uint8Array(length).map((_, i) => i * 7);
    const decoder = decoded(commandOf("NAME", payload));
    const made = new Arguments();
    made.reset(decoder.words, "");
    const taken = made.bytes("payload");
    decoder.room().fill(0xee);
    assert.deepEqual(taken, payload);
  }
});

Deno.test("many small payloads share memory and not their bytes", () => {
  const taken = Array.from({ length: 500 }, (_, i) => args(`payload ${i} ${"x".repeat(i)}`).bytes("payload"));
  taken.forEach((bytes, i) => assert.equal(new TextDecoder().decode(bytes), `payload ${i} ${"x".repeat(i)}`));
});

Deno.test("a number is exact or refused", () => {
  const numbers: [string, number][] = [["0", 0], ["007", 7], ["+5", 5], ["9007199254740991", Number.MAX_SAFE_INTEGER]];
  for (const [text, number] of numbers) assert.equal(args(text).number("count"), number);
  assert.equal(raw("*2\r\n+N\r\n:42\r\n").number("count"), 42);
  assert.equal(raw("*2\r\n+N\r\n(42\r\n").number("count"), 42);
  for (const text of ["", "-1", "1.5", "x", " 1", "1 ", "+", "++1", "1e3"]) {
    refused(() => args(text).number("count"), `The count must be a whole number from 0: found '${text}'`);
  }
  for (const text of ["9007199254740992", "18446744073709551615", "9".repeat(60)]) {
    refused(() => args(text).number("count"), `The count must be at most 2^53 - 1: found '${text}'`);
  }
  refused(() => raw("*2\r\n+N\r\n,1.5\r\n").number("count"), /type double/);
  assert.equal(args("-3").integer("index"), -3);
  refused(() => args("-").integer("index"), /whole number/);
});

Deno.test("a UUID has many forms and one meaning", () => {
  const uuid = "550e8400-e29b-41d4-a716-446655440000";
  for (
    const form of [uuid, uuid.toUpperCase(), uuid.replaceAll("-", ""), `{${uuid}}`, `urn:uuid:${uuid}`, `  ${uuid}\t`]
  ) {
    assert.equal(args(form).uuid("event id"), uuid);
  }
  for (const text of ["", "x", uuid.slice(1), uuid + "0", "x".repeat(36)]) {
    refused(() => args(text).uuid("event id"), `The event id must be a UUID: found '${text}'`);
  }
});

Deno.test("versions, bounds and partitions are words or numbers", () => {
  assert.equal(args("aNy").version("version"), "any");
  assert.equal(args("EXISTS").version("version"), "exists");
  assert.equal(args("empty").version("version"), "empty");
  assert.equal(args("01").version("version"), 1);
  refused(() => args("bogus").version("version"), /'bogus'/);
  assert.deepEqual(["-", "+", "5", "+5"].map((text) => args(text).bound("start")), ["-", "+", 5, 5]);
  refused(() => args("-5").bound("start"), /'-5'/);
  assert.equal(args("004").partition("partition"), 4);
  assert.equal(args("65535").partition("partition"), 65_535);
  assert.equal(args("550E8400E29B41D4A716446655440000").partition("p"), "550e8400-e29b-41d4-a716-446655440000");
  for (const text of ["65536", "-1", "abc", "*", "0,1"]) {
    refused(() => args(text).partition("partition"), /a UUID, or a number from 0 to 65535/);
  }
});

Deno.test("keywords are found in either case, options once, and nothing may be left", () => {
  const made = args("Count", "5", "COUNT", "6");
  assert.equal(made.keyword("REV"), false);
  assert.equal(made.option("COUNT", undefined), true);
  assert.equal(made.number("count"), 5);
  refused(() => made.option("COUNT", 5), "COUNT is given twice");
  const rest = args("a", "b\r\nc");
  assert.equal(rest.text("name"), "a");
  refused(() => rest.end(), /^Unexpected 'b\r\nc'\. Usage: NAME usage$/);
  assert.equal(rest.text("name"), "b\r\nc");
  rest.end();
});

Deno.test("an error repeats no more than the beginning of a word", () => {
  refused(() => args("x".repeat(100_000)).number("count"), /^.{0,200}…'$/);
});

Deno.test("random words bring every command only clean errors (fuzz)", () => {
  for (let seed = 1; seed <= 5; seed++) fuzz(seed, 400);
});
