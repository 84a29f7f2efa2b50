/**
 * One client: its commands in, their answers out, in the order in which it asked.
 *
 * An append waits for a sync, and a client that sends many at once wants them in one batch. So appends that follow one
 * another run side by side. Everything else keeps its place: a read begins when all that was asked before it is
 * answered, and no append begins before a read that was asked first has ended. So each command sees the effects of
 * those before it and of none behind it, as if they had run one by one.
 *
 *     EAPPEND EAPPEND PING EAPPEND | ESCAN | EAPPEND EAPPEND      a bar is a wait
 *
 * A read may wait for events (EREAD), and what was asked behind it waits too. Subscriptions push between the replies, see
 * deliveries.ts.
 *
 * It knows no socket: it writes into an encoder, says so, and asks the flow before it goes on with a long reply.
 *
 * @module
 */
import { type Appended, appendedOf, type AppendReceiver, type Transaction } from "../core/event.ts";
import type { EventStore, Subscription } from "../core/store.ts";
import { Arguments, shown } from "./arguments.ts";
import type { AppendingCommand, Client, Context, Flow, ReadingCommand, Server } from "./commands/command.ts";
import { findCommand } from "./commands/mod.ts";
import { REFUSED_SINCE_MULTI } from "./commands/multi.ts";
import type { Words } from "./decoder.ts";
import type { Delivery } from "./delivery.ts";
import { Deliveries, type PushLink, type Replies } from "./deliveries.ts";
import { Encoder } from "./encoder.ts";
import { replyErrorOf } from "./replies.ts";
import { BIG_NUMBER, BULK, type Protocol, ReplyError, SIMPLE, VERBATIM } from "./value.ts";

/** Commands that may wait for their answers. More of one client in a batch would gain nothing. */
const PENDING_MAX = 1024;
/** Bytes of such commands: what one client can make the store hold beside a single large command. */
const PENDING_BYTES_MAX = 16 * 1024 * 1024;
/** Of a word of an unknown command, as much as Redis repeats. */
const REPEATED_BYTES_MAX = 128;

/** What the session asks of its link. */
export interface Link extends Flow, PushLink {
  /** There is something in the encoder to send, or fewer commands are pending, or one begins to wait. */
  changed(): void;
  /** A reply broke off in the middle: nothing that follows would be understood. */
  abort(why: unknown): void;
  /** Nobody reads replies any more. */
  readonly gone: boolean;
  /** So many replies wait to be sent that no further one should begin: see `room`. */
  readonly crowded: boolean;
  readonly readBufferBytes: number;
}

/** An append that was asked for, and is told what became of it. */
class Append implements AppendReceiver {
  readonly kind = "append";
  /** One of them is set when the store has decided. */
  appended: Appended | null = null;
  failure: ReplyError | null = null;
  started = false;
  next: Pending | null = null;

  constructor(
    readonly session: Session,
    readonly command: AppendingCommand,
    readonly transaction: Transaction,
    readonly bytes: number,
  ) {}

  stored(appended: Appended): void {
    this.appended = appended;
    this.session.decided(this);
  }

  refused(error: unknown): void {
    this.failure = this.session.failureOf(error, this.command.name);
    this.session.decided(this);
  }
}

type Read = {
  kind: "read";
  command: ReadingCommand;
  run: (reply: Encoder, flow: Flow) => Promise<void>;
  started: boolean;
  done: boolean;
};
type Answer = { kind: "answer"; run: (reply: Encoder) => void };
type Pending = Append | ((Read | Answer) & { bytes: number; next: Pending | null });

export class Session implements Client, Replies {
  readonly reply: Encoder;
  readonly deliveries: Deliveries;
  name = "";
  libraryName = "";
  libraryVersion = "";
  refusing = false;
  leaving = false;
  activeAt: number;
  readonly connectedAt: number;
  readonly #link: Link;
  readonly #context: Context;
  readonly #store: EventStore;
  readonly #server: Server;
  readonly #args = new Arguments();
  /** What is not answered yet, a list from the first to the last. */
  #first: Pending | null = null;
  #last: Pending | null = null;
  #pending = 0;
  #pendingBytes = 0;
  /** Reads among them. While there is one, no append that comes now may begin. */
  #pendingReads = 0;
  /** In `#advance`: what is decided meanwhile is seen there. */
  #advancing = false;
  /** Waiting for room before the next answer. */
  #held = false;
  /** Bytes of replies before that of the read under way, null when none is. */
  #repliedBefore: number | null = null;
  /** What a read waits for. There is one at most: the next read begins when it has ended. */
  #waitedFor: Subscription | null = null;
  /** Nothing is waited for any more. */
  #ended = false;
  #lastCommand = "NULL";

  constructor(
    store: EventStore,
    server: Server,
    link: Link,
    readonly id: number,
    readonly address: string,
    readonly localAddress: string,
  ) {
    this.#store = store;
    this.#server = server;
    this.#link = link;
    this.#context = { store, server, client: this };
    this.reply = new Encoder(server.initialProtocol);
    this.deliveries = new Deliveries(link, this, server);
    this.connectedAt = this.activeAt = server.environment.monotonic();
  }

  get protocol(): Protocol {
    return this.reply.protocol;
  }

  set protocol(protocol: Protocol) {
    this.reply.protocol = protocol;
  }

  get lastCommand(): string {
    return this.#lastCommand;
  }

  get unsentBytes(): number {
    return this.#link.unsentBytes;
  }

  get readBufferBytes(): number {
    return this.#link.readBufferBytes;
  }

  get pending(): number {
    return this.#pending;
  }

  /** Bytes of the commands that are not answered yet. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  get waiting(): boolean {
    return this.#waitedFor !== null;
  }

  get replying(): boolean {
    return this.#repliedBefore !== null && this.#replied !== this.#repliedBefore;
  }

  /** Whether nothing is left to be answered, or to be told to subscribers. */
  get idle(): boolean {
    return this.#pending === 0 && this.deliveries.told;
  }

  /** Whether no further command should be handed in until some are answered. */
  get full(): boolean {
    return this.#pending >= PENDING_MAX || this.#pendingBytes >= PENDING_BYTES_MAX;
  }

  /** Takes one command. Its words need not outlive the call. */
  take(words: Words): void {
    this.#server.counters.commands++;
    const kind = words.kinds[0]!;
    if (kind !== BULK && kind !== SIMPLE && kind !== VERBATIM && kind !== BIG_NUMBER) {
      return this.refuse(new ReplyError("INVALIDARG", "The command name must be a string"));
    }
    const entry = findCommand(words.bytes, words.base + words.starts[0]!, words.base + words.ends[0]!);
    if (entry === null) {
      return this.refuse(this.refusing ? REFUSED_SINCE_MULTI : unknownCommand(words));
    }
    const { command, usage } = entry;
    this.#lastCommand = command.name;
    if (this.refusing && command.endsMulti !== true) return this.refuse(REFUSED_SINCE_MULTI);
    this.#args.reset(words, usage);
    try {
      switch (command.does) {
        case "appends":
          this.#append(command, command.prepare(this.#args, this.#context), words.byteLength);
          break;
        case "reads":
          this.#read(command, command.prepare(this.#args, this.#context), words.byteLength);
          break;
        default:
          this.#answer(command.prepare(this.#args, this.#context), words.byteLength);
      }
    } catch (error) {
      this.refuse(this.#replyErrorOf(error, command.does, command.name));
    }
  }

  async waitFor(subscription: Subscription, ms: number): Promise<boolean> {
    if (this.#ended) return true;
    this.#waitedFor = subscription;
    this.#link.changed();
    const timer = ms === 0 ? undefined : setTimeout(() => subscription.close(), ms);
    try {
      return await subscription.ready();
    } finally {
      clearTimeout(timer);
      this.#waitedFor = null;
    }
  }

  /** Ends the wait of a read as if its time had run out. */
  endWait(): void {
    this.#waitedFor?.close();
  }

  /** Nothing can end a wait or a subscription any more: no further command comes. */
  end(): void {
    this.#ended = true;
    this.endWait();
    this.deliveries.end();
  }

  /** The server closes: waits end, and subscribers are told. */
  drain(): void {
    this.#ended = true;
    this.endWait();
    this.deliveries.drain(new ReplyError("ACTORSTOPPED", "The server closes: subscribe again when it is back"));
  }

  /** Answers with an error in place of a command that cannot be carried out. */
  refuse(error: ReplyError): void {
    this.#push({ kind: "answer", run: () => this.#fail(error), bytes: 0, next: null });
    if (this.#pending === 1) this.#advance();
  }

  #append(command: AppendingCommand, transaction: Transaction, bytes: number): void {
    const append = new Append(this, command, transaction, bytes);
    this.#push(append);
    if (this.#pendingReads === 0) this.#start(append);
  }

  #read(command: ReadingCommand, run: Read["run"], bytes: number): void {
    this.#pendingReads++;
    this.#push({ kind: "read", command, run, started: false, done: false, bytes, next: null });
    if (this.#pending === 1) this.#advance();
  }

  #answer(run: Answer["run"], bytes: number): void {
    if (this.#pending > 0) return this.#push({ kind: "answer", run, bytes, next: null });
    this.#write(run);
    this.#link.changed();
  }

  #push(pending: Pending): void {
    if (this.#last === null) this.#first = pending;
    else this.#last.next = pending;
    this.#last = pending;
    this.#pending++;
    this.#pendingBytes += pending.bytes;
  }

  #start(append: Append): void {
    append.started = true;
    const store = this.#store;
    try {
      if (store.appendFor !== undefined) return store.appendFor(append.transaction, append);
      store.append(append.transaction).then(appendedOf).then(
        (appended) => append.stored(appended),
        (error) => append.refused(error),
      );
    } catch (error) {
      append.refused(error);
    }
  }

  /** The store has decided about an append. */
  decided(append: Append): void {
    if (this.#first === append && !this.#advancing) this.#advance();
  }

  /** What the client is told of an append that was refused. */
  failureOf(error: unknown, name: string): ReplyError {
    return this.#replyErrorOf(error, "appends", name);
  }

  /** Answers from the first on, as far as the store has decided. */
  #advance(): void {
    if (this.#advancing) return; // A read without a link has ended at once: whoever began it goes on.
    this.#advancing = true;
    for (let pending = this.#first; pending !== null; pending = this.#first) {
      if (this.#link.crowded) {
        this.#hold();
        break;
      }
      if (pending.kind === "append") {
        if (!pending.started) this.#start(pending); // It may be refused at once.
        if (pending.appended !== null) this.#answerAppend(pending.command, pending.appended);
        else if (pending.failure !== null) this.#fail(pending.failure);
        else break;
      } else if (pending.kind === "read") {
        if (!pending.started) void this.#run(pending);
        if (!pending.done) break;
      } else this.#write(pending.run);
      this.#first = pending.next;
      if (this.#first === null) this.#last = null;
      this.#pending--;
      this.#pendingBytes -= pending.bytes;
    }
    this.#advancing = false;
    this.#link.changed();
  }

  /** Goes on when there is room, or when the link is gone and answers go nowhere. */
  #hold(): void {
    if (this.#held) return;
    this.#held = true;
    const goOn = () => {
      this.#held = false;
      this.#advance();
    };
    this.#link.room().then(goOn, goOn);
  }

  async #run(read: Read & Pending): Promise<void> {
    read.started = true;
    const before = this.#repliedBefore = this.#replied;
    try {
      if (!this.#link.gone) {
        // Replies that nobody takes are memory: of a thousand pipelined EGETs the next is not begun before there is room.
        await this.#link.room();
        await read.run(this.reply, this.#link);
      }
    } catch (error) {
      this.#failSince(before, error, "reads", read.command.name);
    }
    this.#repliedBefore = null;
    read.done = true;
    this.#pendingReads--;
    // The appends up to the next read may run now; they are started together to share a batch.
    for (let next = read.next; next !== null && next.kind !== "read"; next = next.next) {
      if (next.kind === "append") this.#start(next);
    }
    this.#advance();
  }

  /** Writes a reply, or the error that it failed with. For a client that has gone it would only fill the memory. */
  #write(write: (reply: Encoder) => void): void {
    if (this.#link.gone) return;
    const before = this.#replied;
    try {
      write(this.reply);
    } catch (error) {
      this.#failSince(before, error, "answers", this.#lastCommand);
    }
  }

  /** The same for an append, without a function of its own. */
  #answerAppend(command: AppendingCommand, appended: Appended): void {
    if (this.#link.gone) return;
    const before = this.#replied;
    try {
      command.answer(this.reply, appended);
    } catch (error) {
      this.#failSince(before, error, "appends", command.name);
    }
  }

  /** Bytes of replies that were written: all but the pushes between them. */
  get #replied(): number {
    return this.reply.written - this.deliveries.pushedBytes;
  }

  /** An error takes the place of a reply, unless some of that has been written: then the link cannot go on. */
  #failSince(before: number, error: unknown, doing: "appends" | "reads" | "answers", name: string): void {
    if (this.#replied === before) return this.#fail(this.#replyErrorOf(error, doing, name));
    if (this.#link.gone) return; // That is why it failed.
    this.#server.log("error", `Could not finish the reply to ${name}: closed the link`, {
      client: this.address,
      cause: error,
    });
    this.#link.abort(error);
  }

  /** What a subscriber is told of an error. */
  replyErrorOf(error: unknown, { command }: Delivery): ReplyError {
    return this.#replyErrorOf(error, "reads", command);
  }

  #fail(error: ReplyError): void {
    this.#server.counters.errors++;
    this.reply.error(error.code, error.message);
  }

  #replyErrorOf(error: unknown, doing: "appends" | "reads" | "answers", name: string): ReplyError {
    const known = replyErrorOf(error, doing);
    if (known !== null) return known;
    this.#server.log("error", `Could not carry out ${name}`, { client: this.address, cause: error });
    // An append that failed in a way nobody foresaw may be stored: "failed" could be a lie.
    return doing === "appends"
      ? new ReplyError(
        "UNKNOWN",
        "Internal error: whether this is stored is not known. Repeat it with the same event ids",
      )
      : new ReplyError("ERR", "Internal error: see the server's log");
  }
}

/** In Redis' words, which clients look for. */
function unknownCommand({ bytes, base, starts, ends, count }: Words): ReplyError {
  const word = (i: number, bytesMax: number) =>
    shown(bytes, base + starts[i]!, Math.min(base + ends[i]!, base + starts[i]! + bytesMax));
  let args = "";
  for (let i = 1; i < count && args.length < REPEATED_BYTES_MAX; i++) {
    args += word(i, REPEATED_BYTES_MAX - args.length) + " ";
  }
  return new ReplyError("ERR", `unknown command ${word(0, REPEATED_BYTES_MAX)}, with args beginning with: ${args}`);
}
