/**
 * Time that passes, handed in: the simulator has a clock of its own.
 *
 * @module
 */

export interface Timers {
  /** Calls back once, in a later turn. Returns how to call it off, which may be done at any time. */
  after(milliseconds: number, action: () => void): () => void;
}

export const systemTimers: Timers = {
  after(milliseconds, action) {
    const timer = setTimeout(action, milliseconds);
    return () => clearTimeout(timer);
  },
};

/** Calls back again and again, until it is called off. */
export function every(milliseconds: number, { after }: Timers, action: () => void): () => void {
  let cancel = after(milliseconds, again);
  function again(): void {
    cancel = after(milliseconds, again);
    action();
  }
  return () => cancel();
}
