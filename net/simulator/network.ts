/**
 * The network between the nodes: packets are late, lost, doubled, out of order; links are cut, in one direction or both.
 *
 * @module
 */
import type { Chance } from "../../core/chance.ts";

export interface Weather {
  lossPercent: number;
  doublePercent: number;
  delayMsMax: number;
}

const LATE_ONE_IN = 200;
const LATE_MS_MAX = 12_000;

const FAIR: Weather = { lossPercent: 0, doublePercent: 0, delayMsMax: 4 };

export class Network {
  weather = FAIR;
  /** Links that are cut, from and to; each may be cut more than once. */
  readonly #cuts = new Map<string, number>();
  sent = 0;
  lost = 0;

  constructor(readonly chance: Chance, readonly after: (milliseconds: number, action: () => void) => void) {}

  send(from: number, to: number, deliver: () => void): void {
    this.sent++;
    const { lossPercent, doublePercent, delayMsMax } = this.weather;
    const times = this.chance.below(100) < doublePercent ? 2 : 1;
    // Once in a while a copy turns up when everybody has forgotten about it.
    if (this.chance.oneIn(LATE_ONE_IN)) this.after(this.chance.between(500, LATE_MS_MAX), deliver); // Whatever is cut.
    for (let i = 0; i < times; i++) {
      if (this.chance.below(100) < lossPercent) {
        this.lost++;
        continue;
      }
      this.after(1 + this.chance.below(delayMsMax), () => {
        if (this.isCut(from, to)) this.lost++;
        else deliver();
      });
    }
  }

  isCut(from: number, to: number): boolean {
    return (this.#cuts.get(`${from} ${to}`) ?? 0) > 0;
  }

  cut(from: number, to: number): void {
    this.#count(from, to, 1);
  }

  heal(from: number, to: number): void {
    this.#count(from, to, -1);
  }

  #count(from: number, to: number, by: number): void {
    const key = `${from} ${to}`;
    this.#cuts.set(key, (this.#cuts.get(key) ?? 0) + by);
  }

  clearUp(): void {
    this.weather = FAIR;
    this.#cuts.clear();
  }
}
