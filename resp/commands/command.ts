/**
 * What a command is: its description, what it does to the store, and two steps.
 *
 * 1. `prepare` reads the words, in the moment in which they arrive and in the order in which they were sent. Whatever
 *    it throws is the reply. It may change the client's state for the commands that follow, and nothing else.
 * 2. What it returns is carried out at the command's turn (session.ts), and its reply written then.
 *
 * - `answers`: says what it knows at once;
 * - `reads`: asks the store, may wait for it, and may send a reply that is longer than memory, with the flow's consent;
 * - `appends`: prepares a transaction. Appends of one client run side by side, so that they share a sync.
 *
 * @module
 */
import type { Environment, Log } from "../../core/environment.ts";
import type { Appended, Transaction } from "../../core/event.ts";
import type { EventStore, Subscription } from "../../core/store.ts";
import type { Arguments } from "../arguments.ts";
import type { Deliveries } from "../deliveries.ts";
import type { Encoder } from "../encoder.ts";
import type { LargeCommands } from "../large_commands.ts";
import type { Turns } from "../turns.ts";
import type { Protocol } from "../value.ts";

interface Description {
  /** In capitals. */
  readonly name: string;
  /** One line, without a full stop, as COMMAND DOCS shows it. */
  readonly summary: string;
  /** What follows the name, in the notation of syntax.ts: the documentation is made of it. */
  readonly syntax: string;
  readonly group: "events" | "subscriptions" | "connection" | "server" | "transactions";
  /** The version of Esker that had it first. */
  readonly since: string;
  /** Whether it is carried out although a MULTI was refused. */
  readonly endsMulti?: true;
}

export interface AnsweringCommand extends Description {
  readonly does: "answers";
  prepare(args: Arguments, context: Context): (reply: Encoder) => void;
}

export interface ReadingCommand extends Description {
  readonly does: "reads";
  prepare(args: Arguments, context: Context): (reply: Encoder, flow: Flow) => Promise<void>;
}

export interface AppendingCommand extends Description {
  readonly does: "appends";
  prepare(args: Arguments, context: Context): Transaction;
  answer(reply: Encoder, appended: Appended): void;
}

export type Command = AnsweringCommand | ReadingCommand | AppendingCommand;

/** What keeps a long reply from outrunning its reader. */
export interface Flow {
  /** Resolves when more may be written. Rejects when the link is gone, and nobody will read it. */
  room(): Promise<void>;
}

/** What a command may know. */
export interface Context {
  readonly store: EventStore;
  readonly client: Client;
  readonly server: Server;
}

/** One client, as commands see it and change it. */
export interface Client {
  readonly id: number;
  readonly address: string;
  readonly localAddress: string;
  /** `monotonic()` when it came, and when it last sent something. */
  readonly connectedAt: number;
  readonly activeAt: number;
  readonly lastCommand: string;
  /** Commands that wait for their answer, and bytes of replies that wait to be sent. */
  readonly pending: number;
  readonly unsentBytes: number;
  readonly readBufferBytes: number;
  /** Its subscriptions. */
  readonly deliveries: Deliveries;
  /** In `waitFor`. */
  readonly waiting: boolean;
  /**
   * Waits for something to read, `ms` at most, 0 for as long as it takes. False when that did not come in time, or nobody
   * waits for it any more: the subscription is closed then. True, without a wait, when no client waits any more.
   */
  waitFor(subscription: Subscription, ms: number): Promise<boolean>;
  protocol: Protocol;
  name: string;
  libraryName: string;
  libraryVersion: string;
  /** A MULTI was refused: until EXEC or DISCARD all else is refused too. */
  refusing: boolean;
  /** Nothing more that it sends is read; the link closes when all is answered. */
  leaving: boolean;
}

export interface Limits {
  /** Bytes of one command, and so of one transaction. */
  commandBytesMax: number;
  /** Words of one command. */
  wordsMax: number;
  /** Arrays in arrays in one command. */
  nestingMax: number;
  clientsMax: number;
  /** Bytes of replies that may wait for one client. While more wait, its commands are not read. */
  outputBytesMax: number;
  /** Bytes of commands that are not answered yet, received in whole or in part, of all clients together. */
  inputBytesMax: number;
}

/** What the listener knows, whoever asks. */
export interface Server {
  readonly version: string;
  readonly peerId: string;
  readonly runId: string;
  readonly port: number;
  readonly initialProtocol: Protocol;
  readonly strictVersioning: boolean;
  readonly limits: Limits;
  readonly commands: readonly Command[];
  readonly clients: ReadonlyMap<number, Client>;
  readonly counters: Counters;
  /** `monotonic()` when it began to listen. */
  readonly startedAt: number;
  readonly environment: Environment;
  readonly log: Log;
  /** Where pushing and waiting readers take turns. */
  readonly turns: Turns;
  /** Where clients find room for what is larger than usual. */
  readonly largeCommands: LargeCommands;
  settings(): [string, string][];
  /** Asks the program to end; null where nobody would hear it. */
  readonly shutdown: (() => void) | null;
}

/** Since the listener began. */
export interface Counters {
  connections: number;
  refusedConnections: number;
  commands: number;
  errors: number;
  bytesIn: number;
  bytesOut: number;
}
