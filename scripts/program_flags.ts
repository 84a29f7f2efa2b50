/**
 * The flags with which Deno runs the program, wherever it comes from: a checkout, a URL, or compiled into a file.
 * README and the task `start` name the same; a test compares them.
 *
 * The grants are broad because the data folder and the address are known only when it starts. The fence is the
 * Worker, which holds exactly what the options need.
 *
 * @module
 */
export const PROGRAM_FLAGS = [
  // Without it a denied access would ask on the terminal, and wait.
  "--no-prompt",
  // Permissions of a Worker's own.
  "--unstable-worker-options",
  "--allow-read",
  "--allow-write",
  "--allow-net",
  "--allow-env=ESKER_*",
  // How full the disk is.
  "--allow-sys=statfs",
  // In MiB. The collector's default of 16 keeps some 60 MiB more in memory and appends no faster.
  "--v8-flags=--max-semi-space-size=8",
];

/**
 * The same for the pinned Deno, by tasks and in the binary. Without its flag of V8, which later versions do not know any
 * more, the collector goes over the whole heap for every few MiB of bytes that came and went: half of the time of large
 * events.
 */
export const PINNED_PROGRAM_FLAGS = PROGRAM_FLAGS.map((flag) =>
  flag.startsWith("--v8-flags=") ? `${flag},--external-memory-accounted-in-global-limit` : flag
);

/**
 * The binary may also run itself, for `cluster demo`, and no other program: whatever stands at that path is the process
 * that asks. A Deno that runs the source gets it only where the demo is asked for: it could start itself with any flags.
 */
export const OWN_PROGRAM_FLAG = "--allow-run=/proc/self/exe";

/** The flags as one types them into a shell. */
export function typed(flags: readonly string[]): string {
  return flags.map((flag) => flag.includes("*") ? `'${flag}'` : flag).join(" ");
}
