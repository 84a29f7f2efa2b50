/**
 * Makes `dist/esker`: Deno, the program and its packages in one file, which starts in an empty folder without a network
 * or a cache.
 *
 * Deno fetches the stub that it puts in front of a program, `denort`, from its own site. Where that is out of reach,
 * the environment variable DENORT_BIN names a local one, of exactly the version of Deno that compiles.
 *
 * It puts all packages of the lock file into the binary, those of the tests and the bench as well. So it is given a lock
 * file with what the program itself imports: 46 MB less. And of a package it takes every file. All that is in the binary
 * is read when it starts, so what nobody runs is left out: of 27 MB of packages 22 are maps, types and sources, which cost
 * a store that is alone 24 MB of memory and 30 ms.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { importsOf } from "./layers.ts";
import { OWN_PROGRAM_FLAG, PINNED_PROGRAM_FLAGS } from "./program_flags.ts";

const ROOT = new URL("../", import.meta.url);
/** A Worker's URL is not part of the graph of main. */
const WORKERS = ["server.ts"];
const LOCK = "dist/deno.lock";

/** A lock file of Deno, version 5. */
export interface Lock {
  version: string;
  specifiers: Record<string, string>;
  npm: Record<string, { integrity: string; dependencies?: string[] }>;
}

/** What of a lock file concerns these specifiers (`npm:name@version`). @throws one is not in it */
export function lockOf(lock: Lock, specifiers: readonly string[]): Lock {
  const kept: Lock = { version: lock.version, specifiers: {}, npm: {} };
  const keep = (key: string) => {
    if (key in kept.npm) return;
    const found = lock.npm[key];
    if (found === undefined) throw new Error(`The lock file has no package ${key}`);
    kept.npm[key] = found;
    // A dependency has its version beside it only where there are several.
    for (const name of found.dependencies ?? []) {
      keep(name in lock.npm ? name : Object.keys(lock.npm).find((other) => other.startsWith(`${name}@`)) ?? name);
    }
  };
  for (const specifier of specifiers) {
    const version = lock.specifiers[specifier];
    if (version === undefined) throw new Error(`The lock file does not know ${specifier}`);
    kept.specifiers[specifier] = version;
    keep(`${/^npm:(.+)@/.exec(specifier)![1]}@${version}`);
  }
  return kept;
}

/** Whether a file of a package is for tools and browsers, and never run. */
export function isUnread(name: string): boolean {
  return /\.(map|ts|mts|cts|wat|min\.js)$/.test(name);
}

/** The files of these packages that are never run. */
async function unreadFiles(lock: Lock): Promise<string[]> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"], cwd: ROOT }).output();
  const cache: string = JSON.parse(new TextDecoder().decode(stdout)).npmCache;
  const found: string[] = [];
  const walk = (folder: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(folder)) {
      if (isDirectory) walk(`${folder}/${name}`);
      else if (isUnread(name)) found.push(`${folder}/${name}`);
    }
  };
  for (const { name: registry } of Deno.readDirSync(cache)) {
    for (const key of Object.keys(lock.npm)) {
      const [, name, version] = /^(@?[^@]+)@([^_]+)/.exec(key)!;
      const folder = `${cache}/${registry}/${name}/${version}`;
      if (existsSync(folder)) walk(folder);
    }
  }
  return found;
}

/** The specifiers of the packages that the program imports. */
async function packages(): Promise<string[]> {
  const imports = await importsOf(ROOT, ["main.ts", ...WORKERS]);
  const found = imports.map(({ to }) => /^npm:\/?(?:@[^/]+\/)?[^/]+/.exec(to)?.[0]).filter((one) => one !== undefined);
  return [...new Set(found)].sort();
}

if (import.meta.main) {
  Deno.mkdirSync(new URL("dist", ROOT), { recursive: true });
  const whole = JSON.parse(await Deno.readTextFile(new URL("deno.lock", ROOT)));
  const lock = lockOf(whole, await packages());
  await Deno.writeTextFile(new URL(LOCK, ROOT), JSON.stringify(lock));
  // They must be there to be looked at. On Windows a command cannot have so many words.
  await new Deno.Command(Deno.execPath(), { args: ["cache", "--quiet", "main.ts", ...WORKERS], cwd: ROOT }).output();
  const unread = Deno.build.os === "windows" ? [] : await unreadFiles(lock);
  const output = Deno.build.os === "windows" ? "dist/esker.exe" : "dist/esker";
  const { success, code } = await new Deno.Command(Deno.execPath(), {
    args: [
      "compile",
      ...PINNED_PROGRAM_FLAGS,
      ...(Deno.build.os === "linux" ? [OWN_PROGRAM_FLAG] : []),
      "--no-code-cache",
      ...["--lock", LOCK, "--frozen"],
      ...WORKERS.flatMap((worker) => ["--include", worker]),
      ...unread.flatMap((path) => ["--exclude", path]),
      ...["--output", output],
      "main.ts",
    ],
    cwd: ROOT,
  }).spawn().status;
  if (!success) {
    console.error("If denort could not be fetched: set DENORT_BIN to a local one of the same version.");
    Deno.exit(code);
  }
  const { size } = Deno.statSync(new URL(output, ROOT));
  console.log(`${output}: ${Math.round(size / 1e6)} MB`);
}
