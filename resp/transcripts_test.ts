/**
 * The transcripts of testdata/ against a live listener, over RESP2 and RESP3, over each store that this process can open.
 *
 * @module
 */
import assert from "node:assert/strict";
import { openDatabase } from "../core/database.ts";
import { MemoryDisk } from "../core/log/memory_disk.ts";
import { MemoryStore } from "../core/memory_store.ts";
import type { EventStore } from "../core/store.ts";
import { describe, loadTranscripts, playTranscript, protocolsOf, type Transcript } from "../scripts/transcripts.ts";
import { type Limits, listen } from "./mod.ts";

/** What a transcript may ask of its server. */
interface Settings {
  "partition.count": number;
  "bucket.count": number;
  "segment.size_bytes": number;
  "append.strict_versioning": boolean;
  "resp.initial_protocol": 2 | 3;
  "resp.command_bytes_max": number | undefined;
  "resp.words_max": number | undefined;
  "resp.nesting_max": number | undefined;
  "resp.clients_max": number | undefined;
}

function settingsOf(given: Record<string, string>): Settings {
  const settings: Settings = {
    "partition.count": 32,
    "bucket.count": 4,
    "segment.size_bytes": 256 * 1024 * 1024,
    "append.strict_versioning": false,
    "resp.initial_protocol": 2,
    "resp.command_bytes_max": undefined,
    "resp.words_max": undefined,
    "resp.nesting_max": undefined,
    "resp.clients_max": undefined,
  };
  for (const [key, value] of Object.entries(given)) {
    // Of a setting that this test ignored nobody would notice that it does nothing.
    if (!(key in settings)) throw new Error(`This test does not know the setting ${key}`);
    Object.assign(settings, { [key]: JSON.parse(value) });
  }
  return settings;
}

function limitsOf(settings: Settings): Partial<Limits> {
  return Object.fromEntries(
    Object.entries({
      commandBytesMax: settings["resp.command_bytes_max"],
      wordsMax: settings["resp.words_max"],
      nestingMax: settings["resp.nesting_max"],
      clientsMax: settings["resp.clients_max"],
    }).filter(([, value]) => value !== undefined),
  );
}

function playAll(
  name: string,
  wanted: (transcript: Transcript) => boolean,
  open: (settings: Settings) => Promise<EventStore>,
): void {
  for (const transcript of loadTranscripts().filter(wanted)) {
    for (const protocol of protocolsOf(transcript)) {
      Deno.test(`the transcript ${transcript.name} is what a ${name} answers over RESP${protocol}`, async () => {
        const settings = settingsOf(transcript.settings);
        await using store = await open(settings);
        const listener = listen(store, {
          hostname: "127.0.0.1",
          port: 0,
          version: "0.0.0",
          peerId: "12D3KooWTranscript",
          strictVersioning: settings["append.strict_versioning"],
          initialProtocol: settings["resp.initial_protocol"],
          limits: limitsOf(settings),
        });
        try {
          const mismatches = await playTranscript(transcript, listener, protocol);
          assert.equal(mismatches.length, 0, describe(transcript, mismatches));
        } finally {
          await listener.close();
        }
      });
    }
  }
}

playAll(
  "memory store",
  (transcript) => !("segment.size_bytes" in transcript.settings), // It has no segments: the database below plays these.
  (settings) => Promise.resolve(new MemoryStore({ partitionCount: settings["partition.count"] })),
);

playAll("database", () => true, (settings) =>
  openDatabase({
    dir: "/data",
    disk: new MemoryDisk(),
    partitionCount: settings["partition.count"],
    bucketCount: settings["bucket.count"],
    segmentBytes: settings["segment.size_bytes"],
    journalBytes: 256 * 1024,
  }));
