/**
 * Time and chance, handed in, so that a test can own both.
 *
 * Nothing else in core reads a clock or draws a random number. `fatal` is here as well, because it is the one thing
 * that the engine can ask of the world around it: to end the process when a promise about durability cannot be kept.
 *
 * @module
 */

export interface Environment {
  /** Wall clock, milliseconds since 1970. May jump either way. */
  now(): number;
  /** A clock that only rises, milliseconds from an arbitrary start. For measuring, never for deciding what is true. */
  monotonic(): number;
  /** Fills `bytes` with random bytes. */
  random(bytes: Uint8Array): void;
  /** Resolves in a later turn of the event loop, so that sockets and timers are served in between. */
  pause(): Promise<void>;
  /** Ends the process (or, embedded, the program) for `reason`. Does not return. */
  fatal(reason: Error): never;
}

/** Where the engine and the listener tell what happened. `facts` are plain values. */
export type Log = (
  level: "debug" | "info" | "warn" | "error",
  message: string,
  facts?: Record<string, unknown>,
) => void;

const POOL_BYTES = 8192;

/** The real clock and the real chance. `fatal` throws outside of every caller, where nothing can catch it. */
export function systemEnvironment(fatal: (reason: Error) => never = throwOutside): Environment {
  // Drawing a few bytes at a time from the system costs about a microsecond a call: draw a pool and hand it out.
  const pool = new Uint8Array(POOL_BYTES);
  let used = POOL_BYTES;
  return {
    now: () => Date.now(),
    monotonic: () => performance.now(),
    random(bytes) {
      if (bytes.length > POOL_BYTES) return void crypto.getRandomValues(bytes);
      if (used + bytes.length > POOL_BYTES) {
        crypto.getRandomValues(pool);
        used = 0;
      }
      for (let i = 0; i < bytes.length; i++) bytes[i] = pool[used++]!;
    },
    pause: () => new Promise((resolve) => setTimeout(resolve, 0)),
    fatal,
  };
}

/** Calls `fatal` where nobody stands who could take what it throws: it throws only so that its caller does not go on. */
export function endProcess(environment: Environment, reason: Error): void {
  try {
    environment.fatal(reason);
  } catch (thrown) {
    if (thrown !== reason) throw thrown;
  }
}

/** The same environment; `told` hears first when the engine asks for the end of the process. */
export function withEnding(environment: Environment, told: (reason: Error) => void): Environment {
  return {
    now: () => environment.now(),
    monotonic: () => environment.monotonic(),
    random: (bytes) => environment.random(bytes),
    pause: () => environment.pause(),
    fatal(reason) {
      told(reason);
      return environment.fatal(reason);
    },
  };
}

function throwOutside(reason: Error): never {
  queueMicrotask(() => {
    throw reason;
  });
  throw reason;
}
