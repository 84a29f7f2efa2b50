/**
 * Counts checks and prints them: a line for each that failed or was skipped, and a last line that a machine can read.
 *
 * @module
 */
export class Tally {
  passed = 0;
  failed = 0;
  skipped = 0;

  pass(name: string): void {
    this.passed++;
    console.log(`ok      ${name}`);
  }

  fail(name: string, why: unknown): void {
    this.failed++;
    console.log(`FAILED  ${name}\n${indent(why instanceof Error ? why.message : String(why))}`);
  }

  /** Something that cannot be checked here, and the reason. */
  skip(name: string, why: string): void {
    this.skipped++;
    console.log(`skipped ${name}: ${why}`);
  }

  /** Runs one check; what it returns is added to its line. */
  async check(name: string, body: () => Promise<string | void>): Promise<boolean> {
    try {
      const note = await body();
      this.pass(note ? `${name}: ${note}` : name);
      return true;
    } catch (cause) {
      this.fail(name, cause instanceof Error && !(cause.name === "AssertionError") ? cause.stack : cause);
      return false;
    }
  }

  /** The last line. The exit code is for `Deno.exit`. */
  end(): number {
    console.log(`${this.passed} passed, ${this.failed} failed, ${this.skipped} skipped`);
    return this.failed === 0 ? 0 : 1;
  }
}

function indent(text: string): string {
  return text.split("\n").map((line) => `        ${line}`).join("\n");
}
