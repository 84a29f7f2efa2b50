import assert from "node:assert/strict";
import { LogBound, openLog } from "./log.ts";

/** A log whose lines are kept, and whose reader can be stopped. */
function open(style: "json" | "color" | "plain", level: "debug" | "info" | "warn" | "error" = "info") {
  const lines: string[] = [];
  const bound = new LogBound();
  let reading = Promise.resolve();
  const output = openLog(level, style, bound, async (line) => {
    await reading;
    lines.push(new TextDecoder().decode(line));
  });
  return {
    ...{ lines, bound, output },
    log(...args: Parameters<typeof output.log>): boolean {
      if (!bound.enter()) return false;
      output.log(...args);
      return true;
    },
    stopReading() {
      const { promise, resolve } = Promise.withResolvers<void>();
      reading = promise;
      return resolve;
    },
  };
}

Deno.test("log: JSON lines hold level, message and facts", async () => {
  const { log, output, lines } = open("json");
  log("info", "Ready {braces} {{", { address: "127.0.0.1:1", partitions: 32 });
  log("error", "Bad", { cause: new Error("why") });
  await output.flush();
  const [ready, bad] = lines.map((line) => JSON.parse(line));
  assert.deepEqual([ready.level, ready.message, ready.address, ready.partitions], [
    ...["INFO", "Ready {braces} {{", "127.0.0.1:1", 32],
  ]);
  assert.equal(Number.isNaN(Date.parse(ready["@timestamp"])), false);
  assert.deepEqual([bad.level, bad.message, bad.cause.message], ["ERROR", "Bad", "why"]);
});

Deno.test("log: a person gets one line with the facts behind the message", async () => {
  for (const style of ["plain", "color"] as const) {
    const { log, output, lines } = open(style);
    log("warn", "Slow {disk}", { ms: 12, file: "a b" });
    await output.flush();
    assert.equal(lines.length, 1);
    // deno-lint-ignore no-control-regex
    const text = lines[0]!.replaceAll(/\x1b\[[\d;]*m/g, "");
    assert.match(text, /^\d\d:\d\d:\d\d\.\d{3} \S+ +Slow \{disk\} {2}ms=12 {2}file="a b"\n$/i);
    assert.equal(lines[0] === text, style === "plain");
  }
});

Deno.test("log: what is less grave than the level is left out, and takes no room", async () => {
  const { log, output, lines } = open("json", "warn");
  for (let i = 0; i < 5000; i++) assert.equal(log("info", "no"), true);
  log("warn", "yes");
  log("error", "yes");
  await output.flush();
  assert.deepEqual(lines.map((line) => JSON.parse(line).level), ["WARN", "ERROR"]);
});

Deno.test("log: what nobody reads is dropped beyond a bound, and the count is told when there is room", async () => {
  const { log, output, lines, bound, stopReading } = open("json");
  const readAgain = stopReading();
  let taken = 0;
  for (let i = 0; i < 5000; i++) if (log("info", "many", { i })) taken++;
  assert.equal(taken, 1000);
  // The other thread sees the same count.
  assert.equal(new LogBound(bound.shared).enter(), false);
  readAgain();
  await output.flush();
  const records = lines.map((line) => JSON.parse(line));
  assert.equal(records.filter(({ message }) => message === "many").length, 1000);
  const told = records.filter(({ level }) => level === "WARN").reduce((sum, { dropped }) => sum + dropped, 0);
  assert.equal(told, 4001);
  assert.equal(log("info", "again"), true);
  await output.flush();
  assert.equal(JSON.parse(lines.at(-1)!).message, "again");
});

Deno.test("log: a reader that has gone ends nothing", async () => {
  const bound = new LogBound();
  const output = openLog("info", "json", bound, () => Promise.reject(new Deno.errors.BrokenPipe("gone")));
  for (let i = 0; i < 2000; i++) {
    assert.equal(bound.enter(), true);
    output.log("info", "into nothing");
    await output.flush();
  }
});
