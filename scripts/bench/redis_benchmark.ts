/**
 * One run of redis-benchmark, and what it measured.
 *
 * @module
 */

import type { Measured } from "./percentiles.ts";

export interface Load {
  clients: number;
  pipeline: number;
  requests: number;
  /** `__rand_int__` in a word becomes a number below this, twelve digits, anew in every request. */
  randomBelow: number;
  command: string[];
}

type Seven = [number, number, number, number, number, number, number];

export async function redisBenchmark(port: number, load: Load): Promise<Measured> {
  const { code, stdout, stderr } = await new Deno.Command("redis-benchmark", {
    args: [
      ...["-h", "127.0.0.1", "-p", String(port), "--csv", "--precision", "3"],
      ...["-c", String(load.clients), "-P", String(load.pipeline), "-n", String(load.requests)],
      ...["-r", String(load.randomBelow)],
      ...load.command,
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = new TextDecoder();
  const output = text.decode(stdout);
  // A server without CONFIG can be measured as well.
  const errors = text.decode(stderr).replace(/^.*fetch (server )?CONFIG.*$/gm, "");
  // Its header names the columns; a command's own commas stand in quotes, before the numbers.
  const row = output.split("\n").filter((line) => /"[\d.]+"\s*$/.test(line)).at(-1);
  if (code !== 0 || row === undefined || /error/i.test(errors)) {
    throw new Error(`redis-benchmark ${load.command.slice(0, 3).join(" ")} …, code ${code}: ${errors}${output}`);
  }
  const numbers = [...row.matchAll(/"([\d.]+)"(?=,|\s*$)/g)].map((match) => Number(match[1]));
  const [perSecond, , , msP50, msP95, msP99, msMax] = numbers.slice(-7) as Seven;
  return { perSecond, msP50, msP95, msP99, msMax };
}
