/**
 * A disk of a bounded size, in memory, that only those see who are started through it.
 *
 * It is mounted in a mount namespace of its own, which a `cat` holds open on a pipe of ours: however this process ends,
 * the pipe ends, the `cat` ends, and the disk goes with the last process in it. Where we are not root, a user namespace
 * makes us so for this. Where neither is allowed, `make` says why.
 *
 * @module
 */

/** How to make a namespace, and how to enter that of process `pid`. Tried in this order. */
const WAYS = [
  { make: ["--mount"], enter: ["--mount"] },
  { make: ["--user", "--map-root-user", "--mount"], enter: ["--user", "--preserve-credentials", "--mount"] },
];

const MOUNTED = "mounted\n";

export class SmallDisk implements AsyncDisposable {
  private constructor(
    readonly folder: string,
    readonly bytes: number,
    readonly keeper: Deno.ChildProcess,
    readonly stderr: Promise<string>,
    readonly enter: string[],
  ) {}

  /** The disk, or why there can be none. */
  static async make(bytes: number): Promise<SmallDisk | string> {
    const folder = await Deno.makeTempDir({ prefix: "esker-disk-" });
    const why: string[] = [];
    for (const { make, enter } of WAYS) {
      const mount = `mount -t tmpfs -o size=${bytes},mode=755 esker '${folder}' && echo mounted && exec cat`;
      let keeper;
      try {
        keeper = new Deno.Command("unshare", {
          args: [...make, "sh", "-c", mount],
          stdin: "piped",
          stdout: "piped",
          stderr: "piped",
        }).spawn();
      } catch (cause) {
        if (!(cause instanceof Deno.errors.NotFound)) throw cause;
        return "there is no program unshare";
      }
      const stderr = new Response(keeper.stderr).text();
      const stdout = keeper.stdout.getReader();
      const { value } = await stdout.read();
      stdout.releaseLock();
      if (new TextDecoder().decode(value) === MOUNTED) return new SmallDisk(folder, bytes, keeper, stderr, enter);
      await keeper.stdin.close();
      await keeper.stdout.cancel();
      await keeper.status;
      why.push((await stderr).trim());
    }
    await Deno.remove(folder);
    return `no disk can be mounted: ${why.join("; ")}`;
  }

  /** A command that sees the disk. Its process is the command's own. */
  command(words: string[]): string[] {
    return ["nsenter", ...this.enter, "--wd", "--target", String(this.keeper.pid), "--", ...words];
  }

  /** What a command that sees the disk says. It must end well. */
  async run(...words: string[]): Promise<string> {
    const [program, ...args] = this.command(words);
    const { code, stdout, stderr } = await new Deno.Command(program!, { args, stdin: "null" }).output();
    if (code !== 0) throw new Error(`${words.join(" ")} ended with ${code}: ${new TextDecoder().decode(stderr)}`);
    return new TextDecoder().decode(stdout);
  }

  async freeBytes(): Promise<number> {
    return Number((await this.run("df", "--output=avail", "-B1", this.folder)).split("\n")[1]);
  }

  /** Gives all but so many bytes to a file of this name, in place of the one that is there. */
  async fill(name: string, butBytes: number): Promise<void> {
    const path = `${this.folder}/${name}`;
    await this.run("rm", "-f", path);
    const bytes = await this.freeBytes() - butBytes;
    if (bytes > 0) await this.run("fallocate", "-l", String(bytes), path);
  }

  /** Who may write: nobody, or all again. */
  async setReadOnly(readOnly: boolean): Promise<void> {
    await this.run("mount", "-o", `remount,${readOnly ? "ro" : "rw"}`, this.folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.keeper.stdin.close();
    await this.keeper.stdout.cancel();
    await this.stderr;
    await this.keeper.status;
    await Deno.remove(this.folder);
  }
}
