import { deepEqual, equal, throws } from "node:assert/strict";
import { ReplyCounter } from "./reply_counter.ts";

const REPLIES = [
  ["+PONG\r\n", null],
  ["-WRONGVER Cannot append: current version is 6\r\n", "WRONGVER Cannot append: current version is 6"],
  [":17\r\n", null],
  ["$5\r\nab\r\n-\r\n", null],
  ["$-1\r\n", null],
  ["$0\r\n\r\n", null],
  ["*-1\r\n", null],
  ["*0\r\n", null],
  ["*3\r\n:1\r\n*2\r\n+a\r\n$1\r\nb\r\n-inside\r\n", null],
  ["%2\r\n+has_more\r\n#t\r\n+events\r\n*1\r\n%1\r\n+a\r\n,1.5\r\n", null],
  ["_\r\n", null],
] as const;

function read(bytes: Uint8Array, sliceBytes: number): (string | null)[] {
  const counter = new ReplyCounter();
  const found: (string | null)[] = [];
  for (let at = 0; at < bytes.length; at += sliceBytes) {
    counter.push(bytes.subarray(at, at + sliceBytes), (error) => found.push(error));
  }
  equal(counter.empty, true);
  return found;
}

Deno.test("every reply is counted once and errors are told, however the bytes are cut", () => {
  const bytes = new TextEncoder().encode(REPLIES.map(([text]) => text).join(""));
  const expected = REPLIES.map(([, error]) => error);
  for (const sliceBytes of [1, 2, 3, 7, 64, bytes.length]) deepEqual(read(bytes, sliceBytes), expected);
});

Deno.test("what is no reply is refused", () => {
  const push = (text: string) => () => new ReplyCounter().push(new TextEncoder().encode(text), () => {});
  throws(push("HTTP/1.1 400 Bad Request\r\n"));
  throws(push("+PONG\n"));
  throws(push("$x\r\n"));
});
