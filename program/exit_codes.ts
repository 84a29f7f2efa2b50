/**
 * How the program ends, as a number: sysexits.h where it has a word for it, so that a supervisor can tell what a
 * restart may mend (74, 75) from what it cannot (64, 78).
 *
 * @module
 */

export const EXIT_CODES = {
  done: { code: 0, help: "all is well" },
  damaged: { code: 1, help: "the data folder is damaged" },
  usage: { code: 64, help: "flags or settings are wrong" },
  notFound: { code: 66, help: "there is no such data folder" },
  unavailable: { code: 69, help: "the address is in use" },
  internal: { code: 70, help: "a bug, or the store stopped answering" },
  tooFewFiles: { code: 71, help: "the system lets the process open too few files" },
  cannotCreate: { code: 73, help: "the data folder cannot be made or written" },
  disk: { code: 74, help: "the disk failed" },
  inUse: { code: 75, help: "another process has the data folder open" },
  denied: { code: 77, help: "a permission is missing" },
  mismatch: { code: 78, help: "the data folder was made with other settings" },
} as const satisfies Record<string, { code: number; help: string }>;

export type Exit = keyof typeof EXIT_CODES;
