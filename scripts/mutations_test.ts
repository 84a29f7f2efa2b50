import assert from "node:assert/strict";
import { CLUSTER, ENGINE, judge, mutate, parseMutation, readMutations, readSource, REPLICATED } from "./mutations.ts";

const TEXT = `Forgets to sync.
core/a.ts

   write(bytes);

-  sync();
+  if (false) sync();
   publish();
`;

Deno.test("parseMutation() reads what breaks, the file, and the change as a diff", () => {
  assert.deepEqual(parseMutation("no_sync", TEXT), {
    name: "no_sync",
    breaks: "Forgets to sync.",
    file: "core/a.ts",
    before: "  write(bytes);\n\n  sync();\n  publish();",
    after: "  write(bytes);\n\n  if (false) sync();\n  publish();",
    seed: null,
  });
  const known = parseMutation("no_sync", TEXT.replace("a.ts\n", "a.ts\nseed 125\n"));
  assert.equal(known.seed, 125);
  assert.equal(known.file, "core/a.ts");
});

Deno.test("parseMutation() refuses what has another form, and says in which file", () => {
  const forms: [string, RegExp][] = [
    ["", /m\.txt: it needs a line of what it breaks/],
    ["Breaks.\n\n-a\n+b\n", /a line with its file/],
    ["Breaks.\ncore/a.ts\n-a\n+b\n", /an empty line before the change/],
    ["Breaks.\ncore/a.ts\nWhy\n\n-a\n+b\n", /an empty line before the change/],
    ["Breaks.\ncore/a.ts\n\n-a\nb\n", /begins with -, \+ or a space: b/],
    ["Breaks.\ncore/a.ts\n\n+a\n", /it needs lines that must stand there/],
    ["Breaks.\ncore/a.ts\n\n-a\n+a\n", /it changes nothing/],
  ];
  for (const [text, why] of forms) assert.throws(() => parseMutation("m", text), why);
});

Deno.test("mutate() replaces whole lines that stand there once, and nothing else", () => {
  const mutation = parseMutation("m", "Breaks.\ncore/a.ts\n\n-a\n-b\n+c\n");
  assert.equal(mutate("a\nb\nd\n", mutation), "c\nd\n");
  assert.equal(mutate("d\na\nb\n", mutation), "d\nc\n");
  assert.throws(() => mutate("d\n", mutation), /not in core\/a\.ts/);
  assert.throws(() => mutate("a\nbb\n", mutation), /not in/);
  assert.throws(() => mutate("xa\nb\n", mutation), /not in/);
  assert.throws(() => mutate("a\nb\na\nb\n", mutation), /twice/);
});

Deno.test("every mutation applies to the source as it is", async () => {
  for (const subject of [ENGINE, CLUSTER, REPLICATED]) {
    const mutations = await readMutations(subject);
    assert.ok(mutations.length >= 15);
    for (const mutation of mutations) {
      const source = await readSource(mutation);
      assert.doesNotThrow(() => mutate(source, mutation), mutation.name);
    }
  }
});

const SUMS = "120 operations, 900 calls of the store, 9 seeds, 20.0 seeds a second\n";

Deno.test("judge() calls caught what broke a promise, and tells it", () => {
  const output = `FAILED  sim 12
        at operation 3, append: seed 1, count 8, repeats [{"seed":2,"index":3}]: Expected values to be strictly equal:
        + actual - expected
        + partition: 3
        AssertionError [ERR_ASSERTION]: events in all
            at World.#checkStep (file:///core/simulator/world.ts:1:2)
        Repeat it with: scripts/deno task sim --seed 12
${SUMS}0 passed, 1 failed, 0 skipped
`;
  assert.deepEqual(judge(1, output), { kind: "caught", seed: 12, promise: "events in all" });
});

Deno.test("judge() calls missed what all stories went well with", () => {
  assert.deepEqual(judge(0, `ok      9 seeds from 1\n${SUMS}1 passed, 0 failed, 0 skipped\n`), { kind: "missed" });
});

Deno.test("judge() calls broken what fails for another reason than a promise", () => {
  const parse = "error: The module's source code could not be parsed: Expected ';' at core/a.ts:1:1\n";
  assert.deepEqual(judge(1, parse), { kind: "broken", why: parse.trim() });
  const stumbled = (what: string) =>
    judge(
      1,
      `FAILED  sim 1\n        at operation 0, append: ${what}\n        ${what}\n${SUMS}0 passed, 1 failed, 0 skipped\n`,
    );
  assert.equal(stumbled("TypeError: x is not a function").kind, "broken");
  assert.equal(stumbled("ReferenceError: x is not defined").kind, "broken");
  assert.equal(stumbled("it asked for its end, though the disk did not fail it: TypeError: x is null").kind, "broken");
  assert.equal(stumbled("Error: The store does not answer").kind, "caught");
  assert.deepEqual(judge(134, ""), { kind: "broken", why: "it ended with 134 and said nothing" });
  assert.equal(judge(0, "").kind, "broken");
});
