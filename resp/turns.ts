/**
 * Turns: how all that pushes and waits for events shares the thread with what clients ask.
 *
 * A thousand subscribers that are woken by one append would keep the next append waiting until all are served. So
 * their steps stand in a line that is worked off a few milliseconds a turn of the event loop. The line begins in a later
 * turn than the one in which it forms: the answer to the append leaves first.
 *
 * A step is short: it reads what the store has at hand, and writes it. Where the store has to wait for a disk after
 * all, the line does not: the step goes on by itself, and the next ones have their turn.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { Environment } from "../core/environment.ts";

/** Of each turn of the event loop, so much for the line. What comes from sockets waits no longer than that. */
const TURN_MS = 2;

export class Turns {
  readonly #environment: Pick<Environment, "monotonic">;
  readonly #line: (() => Promise<void>)[] = [];
  #working = false;
  /** Counted, so that a step that comes back late does not go on with the line beside a later turn. */
  #turn = 0;

  constructor(environment: Pick<Environment, "monotonic">) {
    this.#environment = environment;
  }

  /** Carries out a step when all that were queued before it have had their turn; resolves, or rejects, as it does. */
  take<T>(step: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#line.push(() => step().then(resolve, reject));
      if (this.#working) return;
      this.#working = true;
      // `setImmediate` costs 5 µs; a timer of 0 ms a whole millisecond.
      setImmediate(() => this.#work());
    });
  }

  #work(): void {
    if (this.#line.length === 0) return void (this.#working = false);
    const turn = ++this.#turn;
    const end = this.#environment.monotonic() + TURN_MS;
    const goOn = () => {
      if (turn !== this.#turn || this.#environment.monotonic() >= end) return;
      this.#line.shift()?.().then(goOn);
    };
    setImmediate(() => this.#work()); // Comes when the steps of this turn are over, or while one of them waits.
    goOn();
  }
}
