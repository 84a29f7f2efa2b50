/**
 * The transcripts of testdata/ against a live listener, over RESP2 and RESP3, over each store that this process can open.
 *
 * @module
 */
import assert from "node:assert/strict";
import { MemoryStore } from "../core/memory_store.ts";
import type { EventStore } from "../core/store.ts";
import { describe, loadTranscripts, playTranscript, protocolsOf } from "../scripts/transcripts.ts";
import { listen } from "./mod.ts";

/** What a transcript may ask of its server. Of a setting that is not here nobody would notice that it does nothing. */
interface Settings {
  partitionCount: number;
  strictVersioning: boolean;
  initialProtocol: 2 | 3;
}

function settingsOf(given: Record<string, string>): Settings {
  const settings: Settings = { partitionCount: 32, strictVersioning: false, initialProtocol: 2 };
  for (const [key, value] of Object.entries(given)) {
    switch (key) {
      case "partition.count":
        settings.partitionCount = Number(value);
        break;
      case "append.strict_versioning":
        settings.strictVersioning = value === "true";
        break;
      case "resp.initial_protocol":
        settings.initialProtocol = Number(value) as 2 | 3;
        break;
      case "segment.size_bytes":
      case "bucket.count":
        break; // A store in memory has neither: the program's own run of the transcripts shows them.
      default:
        throw new Error(`This test does not know the setting ${key}`);
    }
  }
  return settings;
}

function playAll(name: string, open: (settings: Settings) => Promise<EventStore>): void {
  for (const transcript of loadTranscripts()) {
    for (const protocol of protocolsOf(transcript)) {
      Deno.test(`the transcript ${transcript.name} is what a ${name} answers over RESP${protocol}`, async () => {
        const settings = settingsOf(transcript.settings);
        await using store = await open(settings);
        const listener = listen(store, {
          hostname: "127.0.0.1",
          port: 0,
          version: "0.0.0",
          peerId: "12D3KooWTranscript",
          strictVersioning: settings.strictVersioning,
          initialProtocol: settings.initialProtocol,
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

playAll("memory store", ({ partitionCount }) => Promise.resolve(new MemoryStore({ partitionCount })));
