/**
 * The parsers of all commands against random words.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Chance } from "../core/chance.ts";
import { admit, type Transaction } from "../core/event.ts";
import { MemoryStore } from "../core/memory_store.ts";
import { SeededEnvironment } from "../core/seeded_environment.ts";
import { Arguments } from "./arguments.ts";
import type { Context, Server } from "./commands/command.ts";
import { commands } from "./commands/mod.ts";
import { COMMAND, Decoder, DECODER_LIMITS } from "./decoder.ts";
import { LargeCommands } from "./large_commands.ts";
import { replyErrorOf } from "./replies.ts";
import { type Link, Session } from "./session.ts";
import { commandOf } from "./test_client.ts";
import { Turns } from "./turns.ts";

const WORDS = [
  ..."EVENT_ID PARTITION_KEY EXPECTED_VERSION TIMESTAMP PAYLOAD METADATA COUNT REV ANY EXISTS EMPTY - +".split(" "),
  ..."AUTH SETNAME ID LIST TYPE SETINFO LIB-NAME TRACKING OFF DOCS INFO GET SAVE 2 3".split(" "),
  ..."FROM LATEST MAP DEFAULT WINDOW BLOCK PARTITIONS STREAMS user-1=5 4=2 = 1,2-5 5-1 0-99999".split(" "),
  ..."0 1 5 -1 65536 9007199254740992 1700000000123000000 1.5 user-1 Created {} [1] {x".split(" "),
  "550e8400-e29b-41d4-a716-446655440000",
  "00000000-0000-0000-0000-000000000000",
  "urn:uuid:550e8400-e29b-41d4-a716-446655440000",
  "",
  " ",
  "\r\n",
  "x".repeat(64),
  "x".repeat(300),
];

/**
 * For each round, from the seed: a command reads its words, or refuses them with an error that a client may see. What an
 * append read would pass the store's door, or be refused there as cleanly.
 */
export function fuzz(seed: number, rounds: number): void {
  const chance = new Chance(seed);
  const environment = new SeededEnvironment(seed);
  const store = new MemoryStore({ environment });
  const args = new Arguments();
  for (let round = 0; round < rounds; round++) {
    const command = chance.pick(commands);
    const words = Array.from({ length: chance.below(9) }, () => word(chance));
    const decoder = new Decoder();
    const bytes = commandOf(command.name, ...words);
    for (let at = 0; at < bytes.length;) at += decoder.feed(bytes.subarray(at));
    assert.equal(decoder.next(), COMMAND);
    args.reset(decoder.words, "");
    try {
      const prepared = command.prepare(args, contextOf(store, environment));
      if (command.does === "appends") admit(prepared as Transaction, environment);
    } catch (error) {
      const clean = replyErrorOf(error, command.does);
      assert.ok(
        clean !== null,
        `seed ${seed}, round ${round}: ${command.name} ${JSON.stringify(words)} threw ${error}`,
      );
    }
  }
}

export function word(chance: Chance): string | Uint8Array {
  if (chance.oneIn(8)) return chance.bytes(chance.below(40));
  const picked = chance.pick(WORDS);
  return chance.oneIn(4) ? picked.toLowerCase() : picked;
}

function contextOf(store: MemoryStore, environment: SeededEnvironment): Context {
  const server: Server = {
    version: "0",
    peerId: "peer",
    runId: "run",
    port: 1,
    initialProtocol: 3,
    strictVersioning: false,
    limits: { ...DECODER_LIMITS, clientsMax: 1, outputBytesMax: 1, inputBytesMax: 1 },
    commands,
    clients: new Map(),
    counters: { connections: 0, refusedConnections: 0, commands: 0, errors: 0, bytesIn: 0, bytesOut: 0 },
    startedAt: 0,
    environment,
    log: () => {},
    turns: new Turns(environment),
    largeCommands: new LargeCommands(1),
    settings: () => [],
    shutdown: () => {},
  };
  const link: Link = {
    until: () => Promise.resolve(),
    room: () => Promise.resolve(),
    changed() {},
    abort() {},
    gone: false,
    crowded: false,
    unsentBytes: 0,
    readBufferBytes: 0,
  };
  return { store, client: new Session(store, server, link, 1, "127.0.0.1:1", "127.0.0.1:2"), server };
}
