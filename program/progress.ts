/**
 * A bar on the terminal for work that takes long. Where stderr is no terminal there is none.
 *
 * @module
 */
import process from "node:process";
import { Presets, SingleBar } from "npm:cli-progress@3.12.0";

export interface Progress {
  update(doneBytes: number, totalBytes: number): void;
  end(): void;
}

export function showProgress(): Progress {
  const bar = new SingleBar({
    format: "{bar} {percentage} %  {doneMb} of {totalMb} MB  {eta_formatted} left",
    stream: process.stderr,
    noTTYOutput: false,
    clearOnComplete: true,
    hideCursor: true,
  }, Presets.rect);
  let started = false;
  return {
    update(doneBytes, totalBytes) {
      const facts = { doneMb: Math.round(doneBytes / 1e6), totalMb: Math.round(totalBytes / 1e6) };
      if (!started) bar.start(totalBytes, 0, facts);
      started = true;
      bar.setTotal(totalBytes);
      bar.update(doneBytes, facts);
    },
    end: () => bar.stop(),
  };
}
