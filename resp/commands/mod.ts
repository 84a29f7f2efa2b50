/**
 * The table of commands. A new one is a file beside this and a line here.
 *
 * @module
 */
import { auth } from "./auth.ts";
import { client } from "./client.ts";
import type { Command } from "./command.ts";
import { config } from "./config.ts";
import { dbsize } from "./dbsize.ts";
import { documentation } from "./documentation.ts";
import { eack } from "./eack.ts";
import { eappend } from "./eappend.ts";
import { echo } from "./echo.ts";
import { ecluster } from "./ecluster.ts";
import { eget } from "./eget.ts";
import { emappend } from "./emappend.ts";
import { epscan } from "./epscan.ts";
import { epseq } from "./epseq.ts";
import { epsub } from "./epsub.ts";
import { eread } from "./eread.ts";
import { escan } from "./escan.ts";
import { esub } from "./esub.ts";
import { esver } from "./esver.ts";
import { eunsub } from "./eunsub.ts";
import { foreignCommands } from "./foreign.ts";
import { hello } from "./hello.ts";
import { info } from "./info.ts";
import { discard, exec, multi, unwatch, watch } from "./multi.ts";
import { ping } from "./ping.ts";
import { quit } from "./quit.ts";
import { reset } from "./reset.ts";
import { select } from "./select.ts";
import { shutdown } from "./shutdown.ts";
import { showSyntax } from "./syntax.ts";
import { time } from "./time.ts";

/** What COMMAND LIST tells, in this order. */
export const commands: readonly Command[] = [
  eappend,
  emappend,
  eget,
  escan,
  epscan,
  esver,
  epseq,
  eread,
  esub,
  epsub,
  eack,
  eunsub,
  hello,
  ping,
  echo,
  auth,
  select,
  client,
  reset,
  quit,
  documentation,
  info,
  ecluster,
  config,
  dbsize,
  time,
  shutdown,
  multi,
  exec,
  discard,
  watch,
  unwatch,
];

interface Entry {
  command: Command;
  usage: string;
}

/** By a number from the name's bytes, so that to find a command makes no string of them. */
const entries = new Map<number, Entry[]>();

for (const command of [...commands, ...foreignCommands]) {
  const name = new TextEncoder().encode(command.name);
  const key = keyOf(name, 0, name.length);
  const usage = `${command.name} ${showSyntax(command.syntax)}`.trim();
  entries.set(key, [...entries.get(key) ?? [], { command, usage }]);
}

/** The command whose name stands in `bytes`, in either case, with its usage; null if there is none. */
export function findCommand(bytes: Uint8Array, from: number, to: number): Entry | null {
  const candidates = entries.get(keyOf(bytes, from, to));
  if (candidates === undefined) return null;
  for (const entry of candidates) if (isName(entry.command.name, bytes, from, to)) return entry;
  return null;
}

function keyOf(bytes: Uint8Array, from: number, to: number): number {
  let key = to - from;
  if (key > 32) return -1; // Longer than any name.
  for (let i = from; i < to; i++) key = Math.imul(key, 31) + upper(bytes[i]!) | 0;
  return key;
}

function isName(name: string, bytes: Uint8Array, from: number, to: number): boolean {
  if (to - from !== name.length) return false;
  for (let i = 0; i < name.length; i++) if (upper(bytes[from + i]!) !== name.charCodeAt(i)) return false;
  return true;
}

function upper(byte: number): number {
  return byte >= 0x61 && byte <= 0x7a ? byte - 0x20 : byte;
}
