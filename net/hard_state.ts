/**
 * The bytes of a replica's hard state, as a record of the journal carries them.
 *
 *     0         1       2           3               4 … in words of 8 bytes                                    at the end
 *     version   flags   slot count  retired count   term, started term, leader's data id, leader's boot,       crc32 4
 *                                                   data id | of each slot its data id + 1 | retired …
 *
 *     flags     1 recovering, 2 founder
 *
 * Numbers are little-endian and have at most 53 bits, ids at most `ID_MAX`; a disk that does not count is -1, so that the data ids by slot are
 * stored one higher. The checksum covers all before it. Equal states are equal bytes, and what was not written by
 * `encodeHardState` is not read.
 *
 * Nothing here knows of which bucket a state is: the record does. And nothing here decides which of two states counts.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { getUint53, setUint53 } from "../core/log/format.ts";
import type { HardState } from "./consensus/effect.ts";
import { isId } from "./consensus/message.ts";
import { NO_DISK } from "./consensus/replica_state.ts";

export const HARD_STATE_VERSION = 1;

const HEADER_BYTES = 4;
const NUMBERS = 5;
const CRC_BYTES = 4;
const FLAG_RECOVERING = 1;
const FLAG_FOUNDER = 2;
const FLAGS_KNOWN = FLAG_RECOVERING | FLAG_FOUNDER;
/** Each count is a byte. */
const COUNT_MAX = 255;

/** @throws {RangeError} a bug: no replica has this state */
export function encodeHardState(hard: HardState): Uint8Array {
  const why = problemOf(hard);
  if (why !== null) throw new RangeError(`Cannot encode a hard state: ${why}`);
  const { dataIds, retired } = hard;
  const bytes = new Uint8Array(bytesFor(dataIds.length, retired.length));
  const view = new DataView(bytes.buffer);
  bytes[0] = HARD_STATE_VERSION;
  bytes[1] = (hard.mode === "recovering" ? FLAG_RECOVERING : 0) | (hard.founder ? FLAG_FOUNDER : 0);
  bytes[2] = dataIds.length;
  bytes[3] = retired.length;
  let at = HEADER_BYTES;
  const put = (value: number) => {
    setUint53(view, at, value);
    at += 8;
  };
  put(hard.term);
  put(hard.startedTerm);
  put(hard.leaderDataId);
  put(hard.leaderBoot);
  put(hard.dataId);
  for (const dataId of dataIds) put(dataId + 1);
  for (const dataId of retired) put(dataId);
  view.setUint32(at, crc32(bytes.subarray(0, at)), true);
  return bytes;
}

/** The hard state that `bytes` are, or what is wrong with them. */
export function decodeHardState(bytes: Uint8Array): HardState | string {
  if (bytes.length < HEADER_BYTES + CRC_BYTES) return "the hard state is cut off";
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const end = bytes.length - CRC_BYTES;
  if (view.getUint32(end, true) !== crc32(bytes.subarray(0, end))) return "the hard state fails its checksum";
  const version = bytes[0]!;
  if (version !== HARD_STATE_VERSION) {
    return `the hard state has version ${version}: this program reads ${HARD_STATE_VERSION}`;
  }
  const flags = bytes[1]!;
  const slots = bytes[2]!;
  const retiredCount = bytes[3]!;
  if (flags & ~FLAGS_KNOWN) return `the hard state has unknown flags ${flags}`;
  if (bytes.length !== bytesFor(slots, retiredCount)) return "the hard state has another layout";
  let at = HEADER_BYTES;
  const next = () => {
    const value = getUint53(view, at);
    at += 8;
    return value;
  };
  const hard: HardState = {
    term: next(),
    startedTerm: next(),
    leaderDataId: next(),
    leaderBoot: next(),
    dataId: next(),
    mode: flags & FLAG_RECOVERING ? "recovering" : "normal",
    founder: (flags & FLAG_FOUNDER) !== 0,
    dataIds: Array.from({ length: slots }, () => next() - 1),
    retired: Array.from({ length: retiredCount }, next),
  };
  const why = problemOf(hard);
  return why === null ? hard : `the hard state is none: ${why}`;
}

/** What must hold of every hard state, when it is written and when it is read. */
function problemOf(hard: HardState): string | null {
  const { term, startedTerm, leaderDataId, leaderBoot, dataId, dataIds, retired } = hard;
  for (const [name, value] of Object.entries({ term, startedTerm })) {
    if (!Number.isSafeInteger(value) || value < 0) return `${name} is ${value}`;
  }
  for (const [name, id] of Object.entries({ leaderDataId, leaderBoot })) {
    if (id !== 0 && !isId(id)) return `${name} is ${id}`;
  }
  if (!isId(dataId)) return `dataId is ${dataId}`;
  for (const id of dataIds) if (id !== NO_DISK && id !== 0 && !isId(id)) return `the data id of a slot is ${id}`;
  for (const id of retired) if (!isId(id)) return `a retired data id is ${id}`;
  if (startedTerm > term) return `term ${startedTerm} was started in term ${term}`;
  if (leaderDataId === 0 !== (leaderBoot === 0)) return "half a leader is known";
  if (dataIds.length === 0 || dataIds.length > COUNT_MAX) return `it has ${dataIds.length} slots`;
  return retired.length > COUNT_MAX ? `${retired.length} disks are retired` : null;
}

function bytesFor(slots: number, retired: number): number {
  return HEADER_BYTES + 8 * (NUMBERS + slots + retired) + CRC_BYTES;
}
