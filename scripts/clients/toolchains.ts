/**
 * What has to be there before a client can run: packages as pinned here or in the files beside the programs, and the
 * programs built. All of it goes to `.cache/clients` of the checkout, and is done once.
 *
 * @module
 */
const HERE = new URL(".", import.meta.url);
const CACHE = new URL("../../.cache/clients/", import.meta.url);

const MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

export const NPM_PINS = {
  "ioredis5": "npm:ioredis@5.11.1",
  "ioredis6": "npm:ioredis@6.0.0",
  "redis5": "npm:redis@5.12.1",
  "redis6": "npm:redis@6.3.1",
};
export const PYPI_PIN = "redis==8.1.0";

/** The version of a client that is pinned in a file of its language. */
export function pinned(path: string, pattern: RegExp): string {
  return pattern.exec(Deno.readTextFileSync(here(path)))![1]!;
}

/** A language's tools. `prepare` is called once, before the first of its clients. */
export interface Toolchain {
  /** Each must be there, at least of the version: what a program prints when asked for its version, and the least. */
  needs: { command: string; version: string; least: string }[];
  prepare(): Promise<void>;
}

/** A file of this folder. */
export function here(path: string): string {
  return new URL(path, HERE).pathname;
}

/** A file that was installed or built. */
export function cached(path: string): string {
  return new URL(path, CACHE).pathname;
}

export const TOOLCHAINS = {
  redisCli: { needs: [{ command: "redis-cli", version: "--version", least: "6.0" }], prepare: async () => {} },
  node: {
    needs: [{ command: "node", version: "--version", least: "20.0" }, {
      command: "npm",
      version: "--version",
      least: "7.0",
    }],
    async prepare() {
      const packages = Object.entries(NPM_PINS).map(([alias, pin]) => `${alias}@${pin}`);
      await once("npm", packages.join(" "), async () => {
        const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--save-exact"];
        await run("npm", "install", "--prefix", cached("."), ...flags, ...packages);
      });
    },
  },
  python: {
    needs: [{ command: "python3", version: "--version", least: "3.10" }],
    async prepare() {
      // What is installed depends on who installs it.
      const { text } = await output("python3", "--version");
      await once("python3", `${PYPI_PIN} ${text}`, async () => {
        const flags = ["--quiet", "--upgrade", "--disable-pip-version-check", "--root-user-action=ignore"];
        await run("python3", "-m", "pip", "install", ...flags, "--target", cached("python"), PYPI_PIN);
      });
    },
  },
  go: {
    needs: [{ command: "go", version: "version", least: "1.24" }],
    async prepare() {
      await run("go", "-C", here("go"), "build", "-mod=readonly", "-o", cached("go/go_redis"), ".");
    },
  },
  rust: {
    needs: [{ command: "cargo", version: "--version", least: "1.89" }],
    async prepare() {
      const flags = ["--quiet", "--locked", "--manifest-path", here("rust/Cargo.toml"), "--target-dir", cached("rust")];
      await run("cargo", "build", ...flags);
    },
  },
  java: {
    needs: [{ command: "javac", version: "-version", least: "17.0" }, {
      command: "mvn",
      version: "--version",
      least: "3.6",
    }],
    async prepare() {
      const pom = here("java/pom.xml");
      const sources = ["Checks.java", "Lettuce.java", "JedisProgram.java"].map((name) => here(`java/${name}`));
      const texts = await Promise.all([pom, ...sources].map((file) => Deno.readTextFile(file)));
      await once("java", texts.join("\n"), async () => {
        // What an older pom.xml named would still be found.
        await Deno.remove(cached("java"), { recursive: true }).catch(ignoreAbsent);
        await run("mvn", "-B", "-q", "-f", pom, MAVEN_COPY, `-DoutputDirectory=${cached("java/jars")}`);
        await run(
          "javac",
          "-Xlint:-deprecation",
          "-cp",
          cached("java/jars/*"),
          "-d",
          cached("java/classes"),
          ...sources,
        );
      });
    },
  },
} satisfies Record<string, Toolchain>;

/** Why a toolchain cannot be used here, undefined if it can. */
export async function missing({ needs }: Toolchain): Promise<string | undefined> {
  for (const { command, version, least } of needs) {
    const printed = await output(command, version).catch(ignoreAbsent);
    if (printed === undefined) return `there is no ${command} here`;
    const found = /\d+\.\d+/.exec(printed.text)?.[0];
    if (found === undefined) throw new Error(`${command} ${version} tells no version: ${printed.text}`);
    if (isBelow(found, least)) return `${command} is ${found} here, and ${least} is needed`;
  }
}

function isBelow(found: string, least: string): boolean {
  const [a, b] = [found, least].map((version) => version.split(".").map(Number)) as [number[], number[]];
  return a[0]! !== b[0]! ? a[0]! < b[0]! : a[1]! < b[1]!;
}

function ignoreAbsent(cause: unknown): undefined {
  if (!(cause instanceof Deno.errors.NotFound)) throw cause;
}

/** Does it, unless it was done to its end with the same pins before. */
async function once(name: string, pins: string, body: () => Promise<void>): Promise<void> {
  await Deno.mkdir(CACHE, { recursive: true });
  const mark = cached(`${name}.installed`);
  if (await Deno.readTextFile(mark).catch(ignoreAbsent) === pins) return;
  await body();
  await Deno.writeTextFile(mark, pins);
}

async function run(command: string, ...args: string[]): Promise<void> {
  const { code, text } = await output(command, ...args);
  if (code !== 0) throw new Error(`${command} ${args.join(" ")}: ${text}`);
}

async function output(command: string, ...args: string[]): Promise<{ code: number; text: string }> {
  const { code, stdout, stderr } = await new Deno.Command(command, { args, stdin: "null" }).output();
  const decoder = new TextDecoder();
  return { code, text: decoder.decode(stdout) + decoder.decode(stderr) };
}
