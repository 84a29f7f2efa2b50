/**
 * The log of the program: one record a line, coloured text on a terminal, JSON anywhere else.
 *
 * Nothing waits for it. Who reads the other end of a pipe may stop reading, and a store that then stopped as well
 * would be a store that its log can kill: records wait up to a bound, which the two threads share, and beyond it they
 * are dropped and counted. The count is told as soon as there is room again.
 *
 * @module
 */
import {
  configureSync,
  getAnsiColorFormatter,
  getJsonLinesFormatter,
  getLogger,
  type LogLevel,
  type LogRecord,
} from "npm:@logtape/logtape@2.4.2";
import type { Log } from "../core/environment.ts";

export type Level = Parameters<Log>[0];

/** Records that may wait, from both threads: some hundred kilobytes, seconds of a busy log. */
const WAITING_MAX = 1000;

// The shared counters.
const WAITING = 0;
const DROPPED = 1;

export interface LogOutput {
  readonly log: Log;
  /** Resolves when all that was logged is written. It may never, if nobody reads. */
  flush(): Promise<void>;
}

/** Counts what waits to be written, in memory that both threads see. */
export class LogBound {
  readonly #counters: Int32Array;

  constructor(readonly shared = new SharedArrayBuffer(8)) {
    this.#counters = new Int32Array(shared);
  }

  /** Whether one more record may wait. If not, it is counted as dropped. */
  enter(): boolean {
    if (Atomics.add(this.#counters, WAITING, 1) < WAITING_MAX) return true;
    Atomics.sub(this.#counters, WAITING, 1);
    Atomics.add(this.#counters, DROPPED, 1);
    return false;
  }

  leave(): void {
    Atomics.sub(this.#counters, WAITING, 1);
  }

  /** How many were dropped since this was last asked. */
  dropped(): number {
    return Atomics.exchange(this.#counters, DROPPED, 0);
  }
}

/**
 * Opens the log. `log` takes records for which `bound.enter()` was true, here or on the other thread; they leave it
 * when they are written. `write` gets one line at a time.
 */
export function openLog(
  level: Level,
  style: "json" | "color" | "plain",
  bound: LogBound,
  write: (line: Uint8Array) => Promise<void>,
): LogOutput {
  const format = style === "json"
    ? getJsonLinesFormatter({ properties: "flatten" })
    : formatForPeople(style === "color");
  const encoder = new TextEncoder();
  let last = Promise.resolve();
  const sink = (record: LogRecord) => {
    const line = encoder.encode(format(record));
    // A terminal that was closed is no reason to end.
    last = last.then(() => write(line)).catch(() => {}).then(() => {
      bound.leave();
      const dropped = bound.dropped();
      if (dropped > 0 && bound.enter()) logger.warn("Log records were dropped: nobody reads them", { dropped });
    });
  };
  configureSync({
    reset: true,
    sinks: { stderr: sink },
    loggers: [
      { category: "esker", lowestLevel: level === "warn" ? "warning" : level, sinks: ["stderr"] },
      { category: ["logtape", "meta"], lowestLevel: "warning", sinks: [] },
    ],
  });
  const logger = getLogger("esker");
  const ORDER: Level[] = ["debug", "info", "warn", "error"];
  return {
    log(recordLevel, message, facts = {}) {
      if (ORDER.indexOf(recordLevel) < ORDER.indexOf(level)) return bound.leave();
      // Braces would be read as the name of a fact.
      logger[recordLevel](message.replaceAll("{", "{{").replaceAll("}", "}}"), facts);
    },
    async flush() {
      let seen;
      do {
        seen = last;
        await seen;
      } while (seen !== last);
    },
  };
}

const DIM = "\x1b[2m";
const PLAIN = "\x1b[0m";
const LEVEL_WORDS: Record<LogLevel, string> = {
  trace: "trace",
  debug: "debug",
  info: "info ",
  warning: "warn ",
  error: "ERROR",
  fatal: "ERROR",
};

function formatForPeople(color: boolean): (record: LogRecord) => string {
  const withColor = getAnsiColorFormatter({
    timestamp: "time",
    format: ({ timestamp, level, message, record }) =>
      `${timestamp} ${level} ${message}${DIM}${factsOf(record)}${PLAIN}`,
  });
  if (color) return withColor;
  return (record) =>
    `${new Date(record.timestamp).toISOString().slice(11, 23)} ${LEVEL_WORDS[record.level]} ` +
    `${record.message.join("")}${factsOf(record)}\n`;
}

function factsOf({ properties }: LogRecord): string {
  return Object.entries(properties).map(([name, value]) => {
    const text = value instanceof Error ? value.message : typeof value === "string" ? value : JSON.stringify(value);
    return `  ${name}=${typeof text === "string" && /[\s"=]/.test(text) ? JSON.stringify(text) : text}`;
  }).join("");
}
