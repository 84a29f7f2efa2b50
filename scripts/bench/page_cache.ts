/**
 * What the kernel keeps in memory of the files of a folder: dropped, filled, and counted.
 *
 * Dropped by `dd iflag=nocache count=0`, which is posix_fadvise(DONTNEED) on a whole file. It needs no rights, and takes
 * nothing from other programs. A cache below the kernel, of a disk or of the host of a virtual machine, is not touched.
 *
 * @module
 */

/** Drops the pages of all files below a folder. Returns why not, if it cannot. */
export async function dropPages(folder: string): Promise<string | null> {
  const { code, stderr } = await shell(
    // What is not written yet is not dropped.
    'sync -f "$1"; find "$1" -type f -exec sh -c \'for f; do dd if="$f" iflag=nocache count=0 status=none || exit 1; done\' sh {} +',
    folder,
  );
  return code === 0 ? null : `pages cannot be dropped by dd iflag=nocache: ${stderr.trim()}`;
}

/** Reads all files below a folder, so that they are in memory as far as it reaches. */
export async function fillPages(folder: string): Promise<void> {
  await shell('find "$1" -type f -exec cat {} + >/dev/null', folder);
}

/** How many bytes of the folder's files are in memory, null where nothing counts them. */
export async function pagesHeld(folder: string): Promise<number | null> {
  const { code, stdout } = await shell('find "$1" -type f -exec fincore -b -n -r -o RES {} +', folder);
  if (code !== 0) return null;
  return stdout.split("\n").reduce((sum, line) => sum + Number(line), 0);
}

async function shell(script: string, ...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", script, "sh", ...args],
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}
