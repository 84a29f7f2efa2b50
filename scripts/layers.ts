/**
 * Finds imports that go up.
 *
 *     main.ts ─► server.ts ─► net/  ─► core/          resp ✗ net      net ✗ resp      core ✗ everything
 *                         └─► resp/ ─► core/          scripts and tests may import any; nothing imports them
 *           └───────────────► program/                which knows options.ts, and of core and net their nouns
 *
 * `net/consensus` knows of all this only where keys belong. Besides: a package from outside is imported in exactly one
 * file, by its full version, so that the program also runs from a URL, where no deno.json is read; and in core only
 * `log/disk.ts` touches files.
 *
 * The graph is Deno's own, from each file that starts a thread or a program: the URL of a Worker is not part of the
 * graph of its parent.
 *
 * @module
 */
import { fileURLToPath } from "node:url";

/** Of the cluster, what only tests use. */
const NET_ROOTS = ["net/memory_transport.ts"];

const ROOTS = ["main.ts", "server.ts", "mod.ts", "resp/client/mod.ts", ...NET_ROOTS];

/** What each folder may import. The files at the top may import all of them. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  core: ["core"],
  resp: ["resp", "core"],
  net: ["net", "core"],
  program: ["program", "core", "net", "options.ts"],
};

/** It decides by what it is told, and by nothing else. */
const CONSENSUS = "net/consensus/";

/** One import: a path below the project's folder, and another one or a bare specifier (`npm:…`, `node:…`). */
export interface Import {
  from: string;
  to: string;
}

/** The imports that must not be, each as a line that says why. */
export function layerProblems(imports: readonly Import[]): string[] {
  const problems = new Set<string>();
  const importers = new Map<string, Set<string>>();
  for (const { from, to } of imports) {
    const layer = from.includes("/") ? from.split("/")[0]! : "";
    if (/^[a-z]+:/.test(to)) {
      const name = /^npm:\/?((?:@[^/]+\/)?[^@/]+)(?:@(.*))?$/.exec(to);
      if (name !== null) {
        importers.set(name[1]!, (importers.get(name[1]!) ?? new Set()).add(from));
        if (!/^\d+\.\d+\.\d+/.test(name[2] ?? "")) problems.add(`${from} imports ${to} without its full version`);
      } else if (!to.startsWith("node:")) {
        problems.add(`${from} imports ${to}: only npm: and node: are taken from outside`);
      }
      if (layer === "core" && /^node:(fs|net|child_process)/.test(to) && from !== "core/log/disk.ts") {
        problems.add(`${from} imports ${to}: in core only core/log/disk.ts touches the system`);
      }
      continue;
    }
    const target = to.split("/")[0]!;
    if (from.startsWith(CONSENSUS) && !to.startsWith(CONSENSUS) && to !== "core/placement.ts") {
      problems.add(`${from} imports ${to}: of all the rest the consensus may know core/placement.ts`);
      continue;
    }
    if (target === "scripts" || /_(test|fuzz|bench)\.ts$/.test(to)) {
      problems.add(`${from} imports ${to}, a script or test`);
    } else if (to === "main.ts") problems.add(`${from} imports main.ts: nobody knows it`);
    else if (layer !== "" && !MAY_IMPORT[layer]?.includes(target)) {
      problems.add(`${from} imports ${to}: ${layer} must not`);
    }
  }
  for (const [name, files] of importers) {
    if (files.size > 1) {
      problems.add(`npm:${name} is imported in ${[...files].sort().join(" and ")}: one file is enough`);
    }
  }
  return [...problems].sort();
}

/** All imports below `root` that its entry files reach. */
export async function importsOf(root: URL, entries: readonly string[]): Promise<Import[]> {
  const imports: Import[] = [];
  for (const entry of entries) {
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", fileURLToPath(new URL(entry, root))],
      cwd: root,
    }).output();
    if (!success) throw new Error(`deno info ${entry}: ${new TextDecoder().decode(stderr)}`);
    const graph: Graph = JSON.parse(new TextDecoder().decode(stdout));
    for (const module of graph.modules) {
      if (module.error !== undefined) throw new Error(`${entry}: ${module.error}`);
      if (!module.specifier.startsWith(root.href)) continue;
      for (const dependency of module.dependencies ?? []) {
        const types = dependency.type?.specifier;
        const target = dependency.code?.specifier ?? types ?? dependency.specifier;
        const resolved = target.startsWith(root.href) ? target.slice(root.href.length) : dependency.specifier;
        imports.push({ from: module.specifier.slice(root.href.length), to: resolved });
      }
    }
  }
  return imports;
}

/** What `deno info --json` prints, as far as it is read here. */
interface Graph {
  modules: {
    specifier: string;
    error?: string;
    dependencies?: { specifier: string; code?: { specifier?: string }; type?: { specifier?: string } }[];
  }[];
}

if (import.meta.main) {
  const imports = await importsOf(new URL("../", import.meta.url), ROOTS);
  const problems = layerProblems(imports);
  for (const problem of problems) console.error(problem);
  console.log(`${new Set(imports.map(({ from }) => from)).size} files: ${problems.length} imports that must not be`);
  Deno.exit(problems.length === 0 ? 0 : 1);
}
