/**
 * What a bench found: rows of a table, as text, as JSON, and beside an earlier run.
 *
 * @module
 */
import type { Machine } from "./machine.ts";
import type { Percentiles } from "./percentiles.ts";

/** One line of the table. Its name is how a later run finds it. */
export interface Row {
  name: string;
  value: number;
  unit: string;
  ms?: Percentiles;
  /** What was measured in turns with it. */
  beside?: { name: string; value: number; ms?: Percentiles };
  /** Ours to the other's: the median of those of the pairs. */
  ratio?: number;
  ratios?: number[];
  note?: string;
}

/** A line that could not be measured, and the reason. */
export interface Skipped {
  name: string;
  why: string;
}

export interface Report {
  machine: Machine;
  server: string;
  peer: string;
  scale: number;
  events: number;
  rows: Row[];
  skipped: Skipped[];
}

/** Three digits that count, and thousands and millions by letter. */
export function short(value: number): string {
  const [divided, letter] = value >= 999_500 ? [value / 1e6, " M"] : value >= 999.5 ? [value / 1e3, " k"] : [value, ""];
  const digits = divided >= 99.95 ? 0 : divided >= 9.995 ? 1 : 2;
  return divided.toFixed(divided === 0 ? 0 : digits) + letter;
}

/** Milliseconds stay milliseconds, however many. */
export function shortMs(ms: number): string {
  return ms < 99.95 ? short(ms) : ms.toFixed(0);
}

function valueText({ unit }: Row, value: number): string {
  return /^ms\b/.test(unit) ? shortMs(value) : short(value);
}

/** Columns of text: the first to the left, all others to the right, and none that is empty in every row. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const used = rows[0]!.map((_, column) => column === 0 || rows.slice(1).some((row) => row[column] !== ""));
  return rows.map((row) =>
    row.map((cell, i) => i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))
      .filter((_, i) => used[i]).join("  ").trimEnd()
  ).join("\n");
}

export function reportTable(rows: readonly Row[]): string {
  const ms = (one: Percentiles | undefined) =>
    one === undefined ? ["", "", "", ""] : [one.msP50, one.msP95, one.msP99, one.msMax].map(shortMs);
  return table([
    [
      "",
      "",
      "",
      "ms 50 %",
      "95 %",
      "99 %",
      "most",
      "beside",
      "",
      "ms 50 %",
      "95 %",
      "99 %",
      "most",
      "ratio",
      "of each",
    ],
    ...rows.map((row) => [
      row.name,
      valueText(row, row.value),
      row.unit,
      ...ms(row.ms),
      row.beside?.name ?? "",
      row.beside === undefined ? "" : valueText(row, row.beside.value),
      ...ms(row.beside?.ms),
      row.ratio?.toFixed(2) ?? "",
      row.ratios?.map((one) => one.toFixed(2)).join(" ") ?? "",
    ]),
  ]) + rows.filter((row) => row.note !== undefined).map(({ name, note }) => `\n${name}: ${note}`).join("");
}

/** One row as a line of its own, for who watches. */
export function rowLine(row: Row): string {
  const { name, value, unit, ms, beside, ratio } = row;
  return `${name}: ${valueText(row, value)} ${unit}` +
    (ms === undefined ? "" : `, ${shortMs(ms.msP50)} ms 50 %, ${shortMs(ms.msP99)} ms 99 %`) +
    (beside === undefined ? "" : `; ${beside.name} ${short(beside.value)}, ratio ${ratio!.toFixed(2)}`);
}

/** Today's rows beside those of an earlier run, by name. */
export function comparison(today: readonly Row[], earlier: readonly Row[]): string {
  const before = new Map(earlier.map((row) => [row.name, row]));
  const ratio = (now: number | undefined, then: number | undefined) =>
    now === undefined || then === undefined || then === 0 ? "" : (now / then).toFixed(2);
  const rows = today.map((row) => {
    const then = before.get(row.name);
    before.delete(row.name);
    return [
      row.name,
      valueText(row, row.value),
      then === undefined ? "new" : valueText(then, then.value),
      row.unit,
      ratio(row.value, then?.value),
      row.ms === undefined ? "" : shortMs(row.ms.msP99),
      then?.ms === undefined ? "" : shortMs(then.ms.msP99),
      ratio(row.ms?.msP99, then?.ms?.msP99),
    ];
  });
  const gone = before.size === 0 ? "" : `\nnot measured today: ${[...before.keys()].join("; ")}`;
  return table([["", "today", "earlier", "", "ratio", "ms 99 %", "earlier", "ratio"], ...rows]) + gone;
}
