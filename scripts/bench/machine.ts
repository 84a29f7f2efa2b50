/**
 * What the numbers of a measurement depend on: the machine, the versions, and what a sync costs here.
 *
 * @module
 */

import { readProc } from "../server_process.ts";

export interface Machine {
  cpu: string;
  cores: number;
  memoryMib: number;
  kernel: string;
  fileSystem: string;
  /** Writing 4 KiB at the end of a file and syncing it: the floor of a durable append by one client. */
  fdatasyncMsP50: number;
  fdatasyncMsP99: number;
  deno: string;
}

const SYNCS = 300;

export async function describeMachine(folder: string): Promise<Machine> {
  const cpuinfo = readProc("/proc/cpuinfo");
  const syncs = measureSyncs(`${folder}/sync-probe`);
  return {
    cpu: /^model name\s*: (.*)$/m.exec(cpuinfo)?.[1] ?? Deno.build.arch,
    cores: navigator.hardwareConcurrency,
    memoryMib: Math.round(Deno.systemMemoryInfo().total / 1024 / 1024),
    kernel: `${Deno.build.os} ${Deno.osRelease()}`,
    fileSystem: (await output("stat", ["-f", "-c", "%T", folder])).trim(),
    fdatasyncMsP50: syncs[Math.floor(SYNCS / 2)]!,
    fdatasyncMsP99: syncs[Math.floor(SYNCS * 0.99)]!,
    deno: Deno.version.deno,
  };
}

/** How long syncs took, ascending, in milliseconds. */
function measureSyncs(path: string): number[] {
  const page = new Uint8Array(4096).fill(1);
  const took: number[] = [];
  {
    using file = Deno.openSync(path, { create: true, write: true, truncate: true });
    for (let i = 0; i < SYNCS; i++) {
      const began = performance.now();
      file.writeSync(page);
      file.syncDataSync();
      took.push(performance.now() - began);
    }
  }
  Deno.removeSync(path);
  return took.sort((a, b) => a - b);
}

async function output(command: string, args: string[]): Promise<string> {
  const { stdout } = await new Deno.Command(command, { args, stdin: "null", stdout: "piped", stderr: "null" }).output();
  return new TextDecoder().decode(stdout);
}

export function machineLines(machine: Machine): string[] {
  const { cpu, cores, memoryMib, kernel, fileSystem, fdatasyncMsP50, fdatasyncMsP99, deno } = machine;
  return [
    `${cpu}, ${cores} cores, ${memoryMib} MiB, ${kernel}, ${fileSystem}, Deno ${deno}`,
    `write of 4 KiB and fdatasync: median ${fdatasyncMsP50.toFixed(2)} ms, 99 % ${fdatasyncMsP99.toFixed(2)} ms`,
  ];
}
