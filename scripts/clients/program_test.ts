import assert from "node:assert/strict";
import { Program } from "./program.ts";

/** A program in a shell that does `body` for each check. */
function program(body: string): Program {
  return new Program("sh", "-c", `while read -r check; do ${body}; done`);
}

Deno.test("ask() gives the verdict on this check, and nothing else that is printed", async () => {
  const client = program(String.raw`printf 'hello\nother\tok\t\n%s\tfailed\ttwo\342\200\250lines\n' "$check"`);
  assert.deepEqual(await client.ask("1 MiB binary"), { verdict: "failed", text: "two\nlines" });
  assert.deepEqual(await client.ask("scan"), { verdict: "failed", text: "two\nlines" });
  await client.close();
});

Deno.test("ask() fails a check to which the program has no answer", async () => {
  const client = program(`printf '%s\tok\t\n' "$check"; echo why >&2; exit 3`);
  assert.deepEqual(await client.ask("connect"), { verdict: "ok", text: "" });
  const { verdict, text } = await client.ask("append");
  assert.equal(verdict, "failed");
  assert.match(text, /why/);
  await assert.rejects(client.close(), /code 3:\nwhy/);
});
