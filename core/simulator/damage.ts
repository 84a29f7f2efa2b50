/**
 * Damage of files that nobody wrote: what a bad disk does to bytes at rest.
 *
 *     flip     one bit is another
 *     cut      the file ends earlier
 *     lose     the file is gone
 *     forge    the segment is that of another history from some frame on: each frame is whole, its checksum is right, and
 *              they follow from each other, but the first does not follow from what came before it. A write that went to
 *              the wrong place leaves that, and a file that came back from an old copy.
 *
 * Whether the store was right about it is for world.ts to judge.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import type { Chance } from "../chance.ts";
import {
  Chain,
  decodeSegmentHeader,
  encodeSegmentHeader,
  Frame,
  FRAME_PREFIX_BYTES,
  frameBytesAt,
  SEGMENT_HEADER_BYTES,
} from "../log/format.ts";
import type { MemoryDisk } from "../log/memory_disk.ts";
import { DIR, FILES } from "./faults.ts";
import type { FileClass, Operation } from "./operation.ts";

const JOURNAL_HEADER_BYTES = 4096;

/** What was done to a file. */
export interface Hit {
  path: string;
  of: FileClass;
  how: "flip" | "cut" | "lose" | "forge";
  offset: number;
  /** What the file had before. */
  fileBytes: number;
}

/** Does the damage of an operation to files that are there: to none, to one, or to two of one segment. */
export function hurt(disk: MemoryDisk, { how, of, also }: Operation & { kind: "damage" }, chance: Chance): Hit[] {
  const files = disk.files(DIR).filter((path) => FILES[of].test(path));
  if (files.length === 0) return [];
  const path = chance.pick(files);
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  const others = disk.files(DIR).filter((other) =>
    also !== null && other.startsWith(folder) && FILES[also].test(other)
  );
  const hits = [hurtFile(disk, path, of, how, chance)];
  if (also !== null && others.length > 0) hits.push(hurtFile(disk, chance.pick(others), also, "flip", chance));
  return hits.filter((hit) => hit !== null);
}

/** Null where nothing came of it. */
function hurtFile(disk: MemoryDisk, path: string, of: FileClass, how: Hit["how"], chance: Chance): Hit | null {
  const bytes = disk.contentOf(path);
  // Most of a journal and of an index file is padding: zeros that say nothing.
  const isPadded = of !== "segment" && of !== "meta";
  const telling = [...bytes.keys()].filter((i) => !isPadded || bytes[i] !== 0);
  // Of a journal the header is small, and as telling as all that comes after it.
  const header = of === "journal" ? telling.filter((i) => i < JOURNAL_HEADER_BYTES) : [];
  const choice = header.length > 0 && chance.oneIn(2) ? header : telling;
  let offset = choice.length > 0 ? chance.pick(choice) : 0;
  switch (how) {
    case "flip":
      if (bytes.length === 0) return null;
      disk.flip(path, offset, 1 << chance.below(8));
      break;
    case "cut":
      if (bytes.length === 0) return null;
      if (of === "meta" && offset === bytes.length - 1) return null; // The line feed at its end says nothing.
      disk.cut(path, offset);
      break;
    case "lose":
      disk.lose(path);
      break;
    case "forge": {
      const at = forge(bytes, chance);
      if (at === null) return null;
      disk.spoil(path, 0, bytes);
      offset = at;
    }
  }
  return { path, of, how, offset, fileBytes: bytes.length };
}

/** Makes the bytes of a segment another history from one of its frames on, or from its header on. Where; null for none. */
function forge(bytes: Uint8Array, chance: Chance): number | null {
  const header = decodeSegmentHeader(bytes);
  if (typeof header === "string") return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const frames: Frame[] = [];
  for (let at = SEGMENT_HEADER_BYTES; at + FRAME_PREFIX_BYTES <= bytes.length;) {
    const end = at + frameBytesAt(view, at);
    const frame = end > bytes.length ? "it is cut off" : Frame.decode(bytes, view, at, end);
    if (typeof frame === "string") return null; // It is damaged already.
    frames.push(frame);
    at = end;
  }
  if (frames.length === 0) return null;
  const first = chance.oneIn(2) ? 0 : chance.below(frames.length);
  const chain = new Chain(frames[first]!.prevChainLow ^ 1, frames[first]!.prevChainHigh);
  const whole = first === 0 && chance.oneIn(2);
  if (whole) bytes.set(encodeSegmentHeader({ ...header, prevChain: chain.copy() }));
  for (const { start, end, term, logIndex } of frames.slice(first)) {
    view.setUint32(start + FRAME_PREFIX_BYTES, chain.low, true);
    view.setUint32(start + FRAME_PREFIX_BYTES + 4, chain.high, true);
    const crc = crc32(bytes.subarray(start + FRAME_PREFIX_BYTES, end));
    view.setUint32(start + 4, crc, true);
    chain.step(term, logIndex, crc);
  }
  return whole ? 0 : frames[first]!.start;
}
