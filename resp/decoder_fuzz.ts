/**
 * The decoder against frames that are valid, nearly valid, and nonsense.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../core/chance.ts";
import { BROKEN, COMMAND, Decoder, MORE, REFUSED } from "./decoder.ts";

const LIMITS = { commandBytesMax: 2000, wordsMax: 20, nestingMax: 4 };
/** A line may have 64 KiB, and the buffer that holds it twice that; commands here are far smaller. */
const BUFFER_BYTES_MAX = 2 * 64 * 1024 + 8192;
const ALPHABET = new TextEncoder().encode("*$+-:_#,(!=%~>|0123456789\r\n \"'\\xabcPING");

/**
 * For each round, from the seed: what the decoder says does not depend on how the bytes are cut; it never holds more
 * than its limits allow; of valid frames it finds each; and of broken ones it says so, at once and for good.
 */
export function fuzz(seed: number, rounds: number): void {
  const chance = new Chance(seed);
  for (let round = 0; round < rounds; round++) {
    const frames = Array.from({ length: chance.between(1, 6) }, () => frame(chance, 0));
    const valid = frames.flat();
    const whole = outcomes(valid, () => valid.length);
    assert.equal(whole.length, frames.length, `seed ${seed}: each valid frame is one outcome`);
    assert.ok(!whole.some((outcome) => outcome.startsWith("BROKEN")), `seed ${seed}: ${whole.join(" ")}`);

    const mutated = chance.oneIn(4) ? nonsense(chance) : mutate(chance, valid);
    const once = outcomes(mutated, () => mutated.length);
    const cut = outcomes(mutated, () => chance.between(1, 40));
    assert.deepEqual(cut, once, `seed ${seed}, round ${round}: the slices changed what was found`);
    const broken = once.findIndex((outcome) => outcome.startsWith("BROKEN"));
    assert.ok(broken < 0 || broken === once.length - 1, `seed ${seed}, round ${round}: went on after a broken frame`);
  }
}

/** What the decoder finds in bytes that come in slices. */
export function outcomes(data: number[] | Uint8Array, sliceBytes: () => number, limits = LIMITS): string[] {
  const bytes = Uint8Array.from(data);
  const decoder = new Decoder(limits);
  const found: string[] = [];
  for (let at = 0; at < bytes.length;) {
    at += decoder.feed(bytes.subarray(at, at + sliceBytes()));
    assert.ok(decoder.bufferBytes <= BUFFER_BYTES_MAX, `The read buffer has grown to ${decoder.bufferBytes} bytes`);
    for (;;) {
      const outcome = decoder.next();
      if (outcome === MORE) break;
      if (outcome === COMMAND) found.push(`COMMAND ${wordsOf(decoder)}`);
      else if (outcome === REFUSED) found.push(`REFUSED ${decoder.problem.message}`);
      else {
        assert.equal(outcome, BROKEN);
        found.push(`BROKEN ${decoder.problem.message}`);
        assert.equal(decoder.next(), BROKEN);
        return found;
      }
    }
  }
  return found;
}

function wordsOf({ words }: Decoder): string {
  let text = "";
  for (let i = 0; i < words.count; i++) {
    const word = words.bytes.subarray(words.base + words.starts[i]!, words.base + words.ends[i]!);
    text += String.fromCharCode(words.kinds[i]!) + Array.from(word, (byte) => byte.toString(16)).join("") + " ";
  }
  return text;
}

/** A valid frame: mostly a command, at times over a limit, at times no command. */
export function frame(chance: Chance, depth: number, inline = depth === 0): number[] {
  if (inline && chance.oneIn(20)) return bytesOf(`PING${" word".repeat(chance.below(30))}\r\n`);
  const kind = depth === 0 && !chance.oneIn(10) ? "*" : chance.pick([..."*$$$$$$$+-:_#,(!=%~>|"]);
  switch (kind) {
    case "*":
    case "~":
    case ">":
    case "%":
    case "|": {
      if (depth > 5) return bytesOf("_\r\n");
      const count = chance.oneIn(10) ? chance.between(0, 40) : chance.between(1, 4);
      const items = Array.from(
        { length: kind === "%" || kind === "|" ? 2 * count : count },
        () => frame(chance, depth + 1),
      );
      const all = [...bytesOf(`${kind}${count}\r\n`), ...items.flat()];
      return kind === "|" ? [...all, ...frame(chance, depth, false)] : all;
    }
    case "$":
    case "!": {
      const length = chance.oneIn(10) ? chance.below(3000) : chance.below(20);
      return [...bytesOf(`${kind}${length}\r\n`), ...random(chance, length), 13, 10];
    }
    case "=":
      return bytesOf(`=7\r\ntxt:${String(chance.between(100, 999))}\r\n`);
    case ":":
    case "(":
      return bytesOf(`${kind}${chance.pick(["", "-", "+"])}${chance.below(100_000)}\r\n`);
    case ",":
      return bytesOf(`,${chance.pick(["1.5", "inf", "-inf", "nan", "1e10", "-3"])}\r\n`);
    case "#":
      return bytesOf(`#${chance.pick(["t", "f"])}\r\n`);
    case "_":
      return bytesOf("_\r\n");
    default:
      return bytesOf(`${kind}${"x".repeat(chance.below(30))}\r\n`);
  }
}

export function mutate(chance: Chance, valid: number[]): number[] {
  const bytes = [...valid];
  for (let n = chance.between(1, 4); n > 0; n--) {
    const at = chance.below(bytes.length + 1);
    switch (chance.below(4)) {
      case 0:
        bytes[Math.min(at, bytes.length - 1)] = chance.oneIn(2) ? chance.below(256) : chance.pick([...ALPHABET]);
        break;
      case 1:
        bytes.splice(at, chance.between(1, 5));
        break;
      case 2:
        bytes.splice(at, 0, ...bytes.slice(at, at + chance.below(10)), chance.pick([...ALPHABET]));
        break;
      default:
        bytes.length = Math.max(1, at);
    }
    if (bytes.length === 0) bytes.push(chance.below(256));
  }
  return bytes;
}

export function nonsense(chance: Chance): number[] {
  return Array.from(
    { length: chance.between(1, 400) },
    () => chance.oneIn(4) ? chance.below(256) : chance.pick([...ALPHABET]),
  );
}

function random(chance: Chance, length: number): number[] {
  return Array.from({ length }, () => chance.below(256));
}

function bytesOf(text: string): number[] {
  return [...new TextEncoder().encode(text)];
}
