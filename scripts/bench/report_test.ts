import { deepEqual, equal, match } from "node:assert/strict";
import { comparison, reportTable, type Row, short, shortMs, table } from "./report.ts";

const MS = { msP50: 1, msP95: 2, msP99: 4, msMax: 8 };

Deno.test("numbers are short: three digits that count", () => {
  const cases = { "0": 0, "0.01": 0.01, "1.23": 1.234, "12.3": 12.34, "123": 123.4, "1.23 k": 1234 };
  for (const [text, value] of Object.entries(cases)) equal(short(value), text);
  equal(short(999.6), "1.00 k");
  equal(short(123_456), "123 k");
  equal(short(999_600), "1.00 M");
  equal(short(50_000_000), "50.0 M");
});

Deno.test("milliseconds stay milliseconds, however many", () => {
  deepEqual([0.012, 1.5, 99.94, 1234.5].map(shortMs), ["0.01", "1.50", "99.9", "1235"]);
});

Deno.test("a table leaves out columns in which nothing stands", () => {
  equal(table([["", "a", "b", "c"], ["x", "1", "", "2"], ["yy", "10", "", ""]]), "     a  c\nx    1  2\nyy  10");
});

Deno.test("a row shows what was measured beside it, and its note", () => {
  const text = reportTable([
    { name: "append", value: 1000, unit: "/s", ms: MS, beside: { name: "Redis", value: 2000, ms: MS }, ratio: 0.5 },
    { name: "start", value: 12, unit: "ms", note: "from memory" },
  ]);
  match(text, /^append +1\.00 k +\/s +1\.00 +2\.00 +4\.00 +8\.00 +Redis +2\.00 k .* 0\.50$/m);
  match(text, /\nstart: from memory$/);
});

Deno.test("a comparison is by name, and tells what is new and what is gone", () => {
  const row = (name: string, value: number): Row => ({ name, value, unit: "/s", ms: MS });
  const text = comparison([row("a", 300), row("b", 5)], [row("a", 200), row("c", 7)]);
  match(text, /^a +300 +200 +\/s +1\.50 +4\.00 +4\.00 +1\.00$/m);
  match(text, /^b +5\.00 +new/m);
  match(text, /\nnot measured today: c$/);
});
