/**
 * What the listener does for an append beside the disk: bytes → words → a transaction that was admitted → a reply; and
 * for an event of a scan: from where it lies, or from a record, to the reply.
 *
 * @module
 */
import { encodeFrame, Frame, frameBytesBound } from "../core/log/format.ts";
import { systemEnvironment } from "../core/environment.ts";
import { admit } from "../core/event.ts";
import { Chain } from "../core/log/format.ts";
import { Arguments } from "./arguments.ts";
import type { Context } from "./commands/command.ts";
import { eappend } from "./commands/eappend.ts";
import { COMMAND, Decoder } from "./decoder.ts";
import { Encoder, reuse } from "./encoder.ts";
import { writeAppended, writeRecord, writeStored } from "./replies.ts";

const COMMANDS = 100;
const environment = systemEnvironment();
const context = { server: { strictVersioning: false } } as Context;

function commandBytes(words: string[]): string {
  return `*${words.length}\r\n` + words.map((word) => `$${word.length}\r\n${word}\r\n`).join("");
}

const input = new TextEncoder().encode(
  Array.from({ length: COMMANDS }, (_, i) => {
    const stream = `stream:${String(i * 7919 % 10_000).padStart(12, "0")}`;
    return commandBytes(["EAPPEND", stream, "Happened", "PAYLOAD", "x".repeat(250)]);
  }).join(""),
);
const decoder = new Decoder();
const args = new Arguments();
const reply = new Encoder(2);

Deno.bench("100 EAPPEND: bytes to admitted transactions", () => {
  for (let at = 0; at < input.length;) {
    at += decoder.feed(input.subarray(at));
    while (decoder.next() === COMMAND) {
      args.reset(decoder.words, "");
      admit(eappend.prepare(args, context), environment);
    }
  }
});

const transaction = admit(
  { events: [{ streamId: "order-7", name: "Happened", payload: "x".repeat(100) }] },
  environment,
);
const appended = { ...transaction, partition: 7, firstSequence: 123_456, versions: [12] };

Deno.bench("100 EAPPEND: their replies", () => {
  for (let i = 0; i < COMMANDS; i++) writeAppended(reply, appended);
  reuse(reply.take());
});

const bytes = new Uint8Array(frameBytesBound(transaction));
const view = new DataView(bytes.buffer);
const { end } = encodeFrame(bytes, view, 0, transaction, {
  logIndex: 123_456,
  term: 1,
  partition: 7,
  firstSequence: 123_456,
  prevChain: Chain.ofBucket(0),
  versions: [12],
  prevs: [3],
});

function frame(): Frame {
  const frame = Frame.decode(bytes, view, 0, end);
  if (typeof frame === "string") throw new Error(frame);
  frame.next();
  return frame;
}

Deno.bench("100 events of a scan, from where they lie", () => {
  for (let i = 0; i < COMMANDS; i++) writeStored(reply, frame());
  reuse(reply.take());
});

Deno.bench("100 events of a scan, from records", () => {
  for (let i = 0; i < COMMANDS; i++) writeRecord(reply, frame().record());
  reuse(reply.take());
});
