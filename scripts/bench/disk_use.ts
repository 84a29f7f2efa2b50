/**
 * What a data folder takes on the disk, by kind of file. The kind follows from the name.
 *
 * @module
 */

export const KINDS = ["segments", "event index", "stream index", "partition index", "journal", "other"] as const;

export type Kind = (typeof KINDS)[number];

/** What a file is, from its path below the data folder. */
export function kindOf(path: string): Kind {
  if (/^journal\//.test(path)) return "journal";
  if (/\.evts$/.test(path)) return "segments";
  if (/\.eidx$/.test(path)) return "event index";
  if (/\.sidx$/.test(path)) return "stream index";
  if (/\.pidx$/.test(path)) return "partition index";
  return "other";
}

export async function diskUse(folder: string): Promise<Record<Kind, number>> {
  const bytes = Object.fromEntries(KINDS.map((kind) => [kind, 0])) as Record<Kind, number>;
  const walk = async (below: string) => {
    for await (const { name, isDirectory } of Deno.readDir(`${folder}/${below}`)) {
      const path = below + name;
      if (isDirectory) await walk(`${path}/`);
      else bytes[kindOf(path)] += await sizeOf(`${folder}/${path}`);
    }
  };
  await walk("");
  return bytes;
}

export function total(bytes: Record<Kind, number>): number {
  return KINDS.reduce((sum, kind) => sum + bytes[kind], 0);
}

/** A file that has gone in the meantime, as those of indexes do, takes nothing. */
async function sizeOf(path: string): Promise<number> {
  try {
    return (await Deno.stat(path)).size;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return 0;
    throw cause;
  }
}
