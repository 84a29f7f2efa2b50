/**
 * Time and chance in the hand of a test: a clock that the test sets, and random bytes from a seed.
 *
 * `fatal` ends nothing: it notes the reason, which the test reads, and throws.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { Chance } from "./chance.ts";
import type { Environment } from "./environment.ts";

const fatalReasons = new WeakSet<Error>();

export class SeededEnvironment implements Environment {
  /** What `now()` answers. */
  nowMs = 1_700_000_000_000;
  /** The reasons for which the engine asked to end the process, the first one first. */
  readonly fatalReasons: Error[] = [];
  readonly #chance: Chance;
  #monotonicMs = 0;

  readonly #lookMs: number;

  /** `lookMs`: what passes on the monotonic clock at every look, so that a loop which works until some time has passed ends. */
  constructor(seed: number, lookMs = 0.1) {
    this.#chance = new Chance(seed);
    this.#lookMs = lookMs;
  }

  /** Lets time pass on the monotonic clock. */
  pass(milliseconds: number): void {
    this.#monotonicMs += milliseconds;
  }

  /** Whether `error` was the reason for any `fatal`. */
  static wasFatal(error: Error): boolean {
    return fatalReasons.has(error);
  }

  // Functions of the object, not of the class: they are handed on alone.

  readonly now = (): number => this.nowMs;

  readonly monotonic = (): number => this.#monotonicMs += this.#lookMs;

  readonly random = (bytes: Uint8Array): void => this.#chance.fill(bytes);

  readonly pause = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

  fatal(reason: Error): never {
    this.fatalReasons.push(reason);
    fatalReasons.add(reason);
    throw reason;
  }
}
