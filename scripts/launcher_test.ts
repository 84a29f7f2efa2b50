/**
 * The launcher `scripts/deno`, with a PATH, a home and a network of our own: each program that it could ask is one
 * that this test has written. That it also works with the real ones, .ci/run shows.
 *
 * @module
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

const LAUNCHER = fileURLToPath(new URL("deno", import.meta.url));
const VERSION = /^version=(.*)$/m.exec(Deno.readTextFileSync(LAUNCHER))![1]!;
/** What the launcher needs of the system, and no deno, curl, wget, unzip, python or pip. */
const TOOLS = ["sh", "uname", "dirname", "cut", "mkdir", "mktemp", "rm", "mv", "chmod", "cat", "cp", "sed", "sleep"];
const SUMS = ["sha256sum", "shasum", "openssl"];

interface World {
  /** Puts a program on PATH: lines of sh. */
  program(name: string, script: string): void;
  /** The launcher, run with these words. */
  launch(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }>;
  folder: string;
  cache: string;
}

async function inWorld(body: (world: World) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "esker-launcher-" });
  try {
    Deno.mkdirSync(`${folder}/bin`);
    const isHere = (name: string) => {
      for (const place of ["/usr/bin", "/bin", "/usr/local/bin"]) {
        try {
          if (Deno.statSync(`${place}/${name}`).isFile) return `${place}/${name}`;
        } catch { /* Not here. */ }
      }
      return null;
    };
    const sum = SUMS.find((name) => isHere(name) !== null)!;
    for (const name of [...TOOLS, sum]) Deno.symlinkSync(isHere(name)!, `${folder}/bin/${name}`);
    await body({
      folder,
      cache: `${folder}/home/.cache/esker/deno-${VERSION}`,
      program(name, script) {
        Deno.writeTextFileSync(`${folder}/bin/${name}`, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      },
      async launch(...args) {
        const { code, stdout, stderr } = await new Deno.Command(LAUNCHER, {
          args,
          clearEnv: true,
          env: { PATH: `${folder}/bin`, HOME: `${folder}/home`, ASKED: `${folder}/asked` },
        }).output();
        return { code, stdout: new TextDecoder().decode(stdout), stderr: new TextDecoder().decode(stderr) };
      },
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** A deno that says its version, and otherwise what it was given. */
function fakeDeno(version: string): string {
  return `if [ "$1" = --version ]; then echo "deno ${version} (stable, release, x)"; exit 0; fi
echo "deno ${version}: $* [$DENO_TLS_CA_STORE $DENO_NO_UPDATE_CHECK]"`;
}

const NO_NETWORK = `echo "$*" >> "$ASKED"; echo "curl: could not resolve host" >&2; exit 6`;
/** A pip that knows where Deno is: the one that runs this test, if it is the pinned one. */
const PIP = `case "$*" in
  --version) echo "pip 23" ;;
  install*) while [ "$1" != --target ]; do shift; done
    mkdir -p "$2/bin" && cp "${Deno.execPath()}" "$2/bin/deno" ;;
esac`;
const isPinned = Deno.version.deno === VERSION;

Deno.test("launcher: takes a deno of the pinned version on PATH, and hands on words and settings", () =>
  inWorld(async ({ program, launch }) => {
    program("deno", fakeDeno(VERSION));
    const { code, stdout, stderr } = await launch("task", "a b", "*");
    assert.deepEqual([code, stderr, stdout], [0, "", `deno ${VERSION}: task a b * [system,mozilla 1]\n`]);
  }));

Deno.test("launcher: prefers what it has in its cache, and asks no network", () =>
  inWorld(async ({ program, launch, cache }) => {
    program("deno", fakeDeno("1.0.0"));
    program("curl", NO_NETWORK);
    Deno.mkdirSync(cache, { recursive: true });
    Deno.writeTextFileSync(`${cache}/deno`, `#!/bin/sh\n${fakeDeno(VERSION)}\n`, { mode: 0o755 });
    assert.match((await launch("x")).stdout, new RegExp(`^deno ${VERSION}: x`));
  }));

Deno.test("launcher: a deno of another version is not taken, nor is the launcher itself", () =>
  inWorld(async ({ program, launch, folder }) => {
    program("curl", NO_NETWORK);
    for (const version of ["2.6.9", `${VERSION}1`, "2.9.6"]) {
      program("deno", fakeDeno(version));
      assert.equal((await launch("x")).code, 1, version);
    }
    Deno.removeSync(`${folder}/bin/deno`);
    Deno.symlinkSync(LAUNCHER, `${folder}/bin/deno`);
    assert.equal((await launch("x")).code, 1);
  }));

Deno.test("launcher: asks Deno's sites, then PyPI; when nobody answers it says what it tried and what to do", () =>
  inWorld(async ({ program, launch, folder, cache }) => {
    program("curl", NO_NETWORK);
    program("pip3", `echo "$*" >> "$ASKED"; [ "$1" = --version ] || { echo "no matching distribution" >&2; exit 1; }`);
    const { code, stdout, stderr } = await launch("x");
    assert.deepEqual([code, stdout], [1, ""]);
    const asked = Deno.readTextFileSync(`${folder}/asked`);
    assert.match(asked, /dl\.deno\.land[^]*github\.com\/denoland[^]*deno==/);
    assert.match(asked, /--connect-timeout \d /);
    for (const word of ["dl.deno.land", "github.com", "PyPI", "could not resolve host", "no matching distribution"]) {
      assert.ok(stderr.includes(word), word);
    }
    assert.ok(stderr.includes(`put a deno of version ${VERSION} on PATH`));
    assert.deepEqual([...Deno.readDirSync(cache)], [], "nothing is left over");
  }));

Deno.test("launcher: what is not the pinned binary is not run", () =>
  inWorld(async ({ program, launch, cache }) => {
    program("curl", `while [ "$1" != -o ]; do shift; done; echo evil > "$2"`);
    program(
      "unzip",
      `while [ "$1" != -d ]; do shift; done; mkdir -p "$2"; printf '#!/bin/sh\\necho evil\\n' > "$2/deno"`,
    );
    const { code, stdout, stderr } = await launch("x");
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(stderr, /not used: its SHA-256 is [0-9a-f]{64}, and [0-9a-f]{64} was expected/);
    assert.deepEqual([...Deno.readDirSync(cache)], []);
  }));

Deno.test({
  name: "launcher: installs from PyPI where Deno's sites are closed, also twice at once",
  ignore: !isPinned, // There is no binary at hand whose checksum is right.
  fn: () =>
    inWorld(async ({ program, launch, cache }) => {
      program("curl", NO_NETWORK);
      program("pip", PIP);
      const runs = await Promise.all([launch("--version"), launch("--version")]);
      for (const { code, stdout } of runs) {
        assert.equal(code, 0);
        assert.ok(stdout.startsWith(`deno ${VERSION} (`), stdout);
      }
      assert.deepEqual([...Deno.readDirSync(cache)].map(({ name }) => name), ["deno"]);
      // Now it is there.
      program("pip", "exit 1");
      const again = await launch("--version");
      assert.deepEqual([again.code, again.stderr], [0, ""]);
    }),
});

Deno.test({
  name: "launcher: a binary that was put there by hand may also lie in XDG_CACHE_HOME",
  fn: () =>
    inWorld(async ({ folder }) => {
      const cache = `${folder}/xdg/esker/deno-${VERSION}`;
      Deno.mkdirSync(cache, { recursive: true });
      Deno.writeTextFileSync(`${cache}/deno`, `#!/bin/sh\n${fakeDeno(VERSION)}\n`, { mode: 0o755 });
      const { stdout } = await new Deno.Command(LAUNCHER, {
        args: ["x"],
        clearEnv: true,
        env: { PATH: `${folder}/bin`, XDG_CACHE_HOME: `${folder}/xdg`, DENO_TLS_CA_STORE: "system" },
      }).output();
      assert.equal(new TextDecoder().decode(stdout), `deno ${VERSION}: x [system 1]\n`);
    }),
});
