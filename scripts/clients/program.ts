/**
 * A client that is a program of its own, in any language, asked check by check.
 *
 * Its last arguments are NAME, for its streams, and PORT. A line on its stdin is the name of a check; it answers with a
 * line `CHECK <tab> VERDICT <tab> TEXT`, where the text is a note or the reason, with U+2028 for its line breaks. What
 * else it prints is its own affair. It keeps its client from check to check, so that a check can ask how the client
 * lived through what happened in between, and it ends when its stdin does.
 *
 * @module
 */
export type Verdict = "ok" | "skipped" | "failed";
export type Outcome = { verdict: Verdict; text: string };

/** A client under test. */
export interface Subject {
  ask(check: string): Promise<Outcome>;
  /** The client goes away. @throws {Error} it did not end as it should */
  close(): Promise<void>;
}

const CHECK_MS_MAX = 30_000;
const CLOSE_MS_MAX = 10_000;
const STDERR_CHARS_MAX = 2000;

export class Program implements Subject {
  readonly #process: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: AsyncGenerator<string>;
  readonly #stderrRead: Promise<void>;
  #stderr = "";

  constructor(command: string, ...args: string[]) {
    this.#process = new Deno.Command(command, { args, stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
    this.#stdin = this.#process.stdin.getWriter();
    this.#lines = lines(this.#process.stdout);
    this.#stderrRead = this.#collect();
  }

  async ask(check: string): Promise<Outcome> {
    // A program that hangs is ended, which ends its lines.
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), CHECK_MS_MAX);
    try {
      await this.#stdin.write(new TextEncoder().encode(check + "\n"));
      for (let line; (line = await this.#lines.next()).done !== true;) {
        const [name, verdict, text = ""] = line.value.split("\t");
        if (name !== check || !["ok", "skipped", "failed"].includes(verdict!)) continue;
        return { verdict: verdict as Verdict, text: text.replaceAll("\u2028", "\n") };
      }
    } catch (cause) {
      // Nobody reads the question any more: it has ended.
      if (!(cause instanceof Deno.errors.BrokenPipe)) throw cause;
    } finally {
      clearTimeout(timer);
    }
    await this.#stderrRead;
    return { verdict: "failed", text: `the program ended, or was ended after ${CHECK_MS_MAX} ms:\n${this.#stderr}` };
  }

  async close(): Promise<void> {
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), CLOSE_MS_MAX);
    // A program that has ended cannot be told to: its code below says so.
    await this.#stdin.close().catch(() => {});
    while ((await this.#lines.next()).done !== true);
    const { code } = await this.#process.status;
    clearTimeout(timer);
    await this.#stderrRead;
    if (code !== 0) throw new Error(`the program ended with code ${code}:\n${this.#stderr}`);
  }

  async #collect(): Promise<void> {
    for await (const text of this.#process.stderr.pipeThrough(new TextDecoderStream())) {
      this.#stderr = (this.#stderr + text).slice(-STDERR_CHARS_MAX);
    }
  }
}

/** The lines of a stream; a last one without its end is left out. */
export async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const found = (rest + text).split("\n");
    rest = found.pop()!;
    yield* found;
  }
}
