/**
 * Room for large commands: what all clients together may make the server hold of commands that are not answered yet,
 * received in whole or in part.
 *
 * Each client has an allowance, and a client that stays below it is never asked to wait. What goes beyond it is shared:
 *
 *     allowance of each          shared by all, `bytesMax`
 *     ├──────┤                   │ first │ second │ third │          a fourth is not read, and waits
 *
 * Who has held room for the longest may always take more, over the bound if need be, so that one at least comes to its
 * end. When others have waited for a while, those whose clients have fallen silent have to give way; and where all still
 * send, however slowly, the first.
 *
 * @module
 */

/** Room for the read buffer of a busy link, and for as much in commands that wait for their answers. */
const ALLOWANCE_BYTES = 128 * 1024;
/** How long others wait for room before one has to give way to them. A client is silent that sent nothing for half of it. */
const PATIENCE_MS = 5000;

/** Who holds room, or waits for it. */
export interface Holder {
  /** There may be room now: try again. */
  wake(): void;
  /** For how long its client has sent nothing although it could; 0 while it could not. */
  readonly silentMs: number;
  /** Others have waited long enough: end the command, unless the server is who works on it. */
  giveWay(): void;
}

export class LargeCommands {
  readonly #bytesMax: number;
  readonly #patienceMs: number;
  /** Bytes that each holds beyond its allowance; who began first is in front. */
  readonly #held = new Map<Holder, number>();
  readonly #waiting = new Set<Holder>();
  #bytes = 0;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(bytesMax: number, patienceMs = PATIENCE_MS) {
    this.#bytesMax = bytesMax;
    this.#patienceMs = patienceMs;
  }

  /** Whether nobody holds room or waits for it, as nearly always: nothing can be given back. */
  get quiet(): boolean {
    return this.#bytes === 0 && this.#waiting.size === 0;
  }

  /** Whether `holder` may hold so many bytes; it then does. If not, it is woken when that may have changed. */
  take(holder: Holder, bytes: number): boolean {
    if (bytes <= ALLOWANCE_BYTES && this.quiet) return true;
    const beyond = Math.max(0, bytes - ALLOWANCE_BYTES);
    const held = this.#held.get(holder) ?? 0;
    const fits = beyond <= held || isFirst(holder, this.#held) ||
      // Who holds some may overtake those who wait to begin: room comes back only from those that end.
      this.#bytes + beyond - held <= this.#bytesMax && (held > 0 || isFirst(holder, this.#waiting));
    if (!fits) this.#waiting.add(holder);
    else {
      this.#set(holder, held, beyond);
      if (this.#waiting.delete(holder)) this.#wake(); // Another is first in line.
    }
    this.#watch();
    return fits;
  }

  /** Says that `holder` holds no more than so many bytes any more. */
  giveBack(holder: Holder, bytes: number): void {
    const held = this.#held.get(holder);
    if (held !== undefined) this.#set(holder, held, Math.min(held, Math.max(0, bytes - ALLOWANCE_BYTES)));
  }

  /** Gives everything back, and waits no longer. */
  leave(holder: Holder): void {
    this.take(holder, 0);
  }

  #set(holder: Holder, held: number, beyond: number): void {
    if (beyond === held) return;
    this.#bytes += beyond - held;
    if (beyond > 0) this.#held.set(holder, beyond);
    else this.#held.delete(holder);
    if (beyond < held) this.#wake();
  }

  #wake(): void {
    for (const waiting of this.#waiting) waiting.wake();
  }

  /** Runs the clock while somebody waits. */
  #watch(): void {
    if (this.#waiting.size > 0) {
      this.#timer ??= setInterval(() => this.#makeRoom(), this.#patienceMs);
    } else if (this.#timer !== undefined) { // To clear one that is not there takes 3 µs, at every command.
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }

  #makeRoom(): void {
    const holders = [...this.#held.keys()];
    const silent = holders.filter(({ silentMs }) => silentMs >= this.#patienceMs / 2);
    for (const holder of silent.length > 0 ? silent : holders.slice(0, 1)) holder.giveWay();
  }
}

/** Whether nobody comes before `holder`. */
function isFirst(holder: Holder, among: ReadonlySet<Holder> | ReadonlyMap<Holder, number>): boolean {
  for (const first of among.keys()) return first === holder;
  return true;
}
