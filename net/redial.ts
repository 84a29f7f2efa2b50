/**
 * When to dial a peer: a decision about numbers, without a clock or a socket of its own.
 *
 * Both ends of a lost link want a new one, and one is enough: the node with the lower index dials at once, the other
 * only after a while, for the case that it cannot be reached itself. A peer that does not answer is asked again after a
 * time that doubles and never grows beyond what a restarted node may have to wait. All times are drawn between a half
 * and the whole, so that nodes that were cut off together do not come back in step.
 *
 * @module
 */
import type { Environment } from "../core/environment.ts";

/** The first pause after a dial that failed, and the longest. */
const PAUSE_MS = 200;
const PAUSE_MS_MAX = 1000;
/** How long the node with the higher index leaves the first step to the other. */
const COURTESY_MS = 600;

export class Redial {
  #dueMs: number;
  #pauseMs = PAUSE_MS;

  /** `first`: whether this node is the one that dials at once. */
  constructor(
    private readonly first: boolean,
    private readonly environment: Pick<Environment, "monotonic" | "random">,
  ) {
    this.#dueMs = this.#after(first ? 0 : COURTESY_MS);
  }

  get isDue(): boolean {
    return this.environment.monotonic() >= this.#dueMs;
  }

  /** A dial led to nothing. */
  failed(): void {
    this.#dueMs = this.#after(this.#pauseMs);
    this.#pauseMs = Math.min(2 * this.#pauseMs, PAUSE_MS_MAX);
  }

  /** There was a link, and it is gone. */
  lost(): void {
    this.#pauseMs = PAUSE_MS;
    // Not at once: a peer that ends a link as soon as it is there would be dialled without a pause.
    this.#dueMs = this.#after(this.first ? PAUSE_MS : COURTESY_MS);
  }

  #after(milliseconds: number): number {
    const drawn = new Uint8Array(1);
    this.environment.random(drawn);
    return this.environment.monotonic() + milliseconds * (0.5 + drawn[0]! / 510);
  }
}
