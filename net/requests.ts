/**
 * Questions to a peer, and their answers, over the `forward` lane.
 *
 *     message   0      1    5
 *               kind | id | body …        kind: 0 question, 1 answer, 2 refusal, 3 failure, 4 withdrawal; little-endian
 *
 * Each question ends in exactly one way, and the way says what is known of it. Answered: its answer. `NotAsked`: nobody
 * has carried it out, or will. `NoAnswer`: the link went or the time was up, and it may have been carried out or not.
 * `AnswerFailed`: the peer tried, and failed in a way that it did not foresee; what it foresees belongs in an answer.
 *
 * Questions come in the order in which they were asked; answers in any order. A question may be withdrawn by who asked,
 * which is a kindness: who works on it may stop, or not hear of it.
 *
 * @module
 */
import { systemTimers, type Timers } from "./timers.ts";
import type { Transport } from "./transport.ts";

const QUESTION = 0;
const ANSWER = 1;
const REFUSAL = 2;
const FAILURE = 3;
const WITHDRAWAL = 4;
const HEADER_BYTES = 5;

/** Questions of one peer that this node works on; more are refused. Enough for every client of a node to have one. */
const SERVED_MAX = 10_000;

/** The question has not been carried out and will not be. */
export class NotAsked extends Error {
  override readonly name = "NotAsked";
  constructor(readonly peer: number, readonly reason: "no link" | "no room" | "refused") {
    super(`Node ${peer} was not asked: ${reason}`);
  }
}

/** Nothing is known of the question: it may have been carried out. */
export class NoAnswer extends Error {
  override readonly name = "NoAnswer";
  constructor(readonly peer: number, readonly reason: "the link is gone" | "the time is up" | "it was withdrawn") {
    super(`Node ${peer} has not answered: ${reason}`);
  }
}

/** The peer could not answer, and its message says why: it may have been carried out in part. */
export class AnswerFailed extends Error {
  override readonly name = "AnswerFailed";
  constructor(readonly peer: number, message: string) {
    super(`Node ${peer} failed to answer: ${message}`);
  }
}

interface Asked {
  readonly peer: number;
  readonly cancelTimer: () => void;
  resolve(answer: Uint8Array): void;
  reject(error: Error): void;
}

/** The answers that a peer waits for. */
interface Served {
  /** Of the present link: answers to a former one have nobody who waits. */
  link: number;
  count: number;
  /** Answers for which there was no room. */
  unsent: Uint8Array[];
  /** Of the questions that are worked on, by id: to tell that nobody waits any more. */
  readonly stops: Map<number, Stop>;
}

/** Answers a question. `stop`: nobody waits for the answer any more. */
export type Answerer = (from: number, question: Uint8Array, stop: Stop) => Promise<Uint8Array>;

/** Tells who works on a question that nobody waits any more. A signal costs microseconds: it is made for who looks at it. */
export class Stop {
  #controller: AbortController | null = null;
  #stopped = false;

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#stopped) this.#controller.abort();
    return this.#controller.signal;
  }

  stop(): void {
    this.#stopped = true;
    this.#controller?.abort();
  }
}

export class Requests {
  readonly #transport: Pick<Transport, "send" | "isLinked">;
  readonly #answer: Answerer;
  readonly #timers: Timers;
  readonly #asked = new Map<number, Asked>();
  readonly #served = new Map<number, Served>();
  #lastId = 0;

  /** `answer` answers what peers ask. What it is given belongs to it. */
  constructor(transport: Pick<Transport, "send" | "isLinked">, answer: Answerer, timers = systemTimers) {
    this.#transport = transport;
    this.#answer = answer;
    this.#timers = timers;
  }

  /** Questions that have no answer yet. */
  get pending(): number {
    return this.#asked.size;
  }

  /** Questions of peers that have no answer yet, or whose answer waits for room. */
  get serving(): number {
    let count = 0;
    for (const served of this.#served.values()) count += served.stops.size + served.unsent.length;
    return count;
  }

  /**
   * Asks a peer, and waits at most so long. The question leaves within this call. `signal` withdraws it.
   *
   * @throws {NotAsked}
   * @throws {NoAnswer}
   * @throws {AnswerFailed}
   * @throws {LimitExceeded} when the question is larger than a message may be
   */
  async ask(peer: number, question: Uint8Array, msMax: number, signal?: AbortSignal): Promise<Uint8Array> {
    const answer = this.askNow(peer, question, msMax, signal);
    if (answer instanceof NotAsked) throw answer;
    return await answer;
  }

  /** As `ask`, for who has to know within the call whether the question has left. @throws {LimitExceeded} */
  askNow(peer: number, question: Uint8Array, msMax: number, signal?: AbortSignal): Promise<Uint8Array> | NotAsked {
    if (!this.#transport.isLinked(peer)) return new NotAsked(peer, "no link");
    do this.#lastId = (this.#lastId + 1) % 2 ** 32; while (this.#asked.has(this.#lastId));
    const id = this.#lastId;
    if (!this.#transport.send(peer, "forward", message(QUESTION, id, question))) return new NotAsked(peer, "no room");
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    const timeIsUp = () => this.#settle(id)?.reject(new NoAnswer(peer, "the time is up"));
    this.#asked.set(id, { peer, cancelTimer: this.#timers.after(msMax, timeIsUp), resolve, reject });
    if (signal === undefined) return promise;
    const withdraw = () => {
      if (!this.#asked.has(id)) return;
      this.#transport.send(peer, "forward", message(WITHDRAWAL, id, EMPTY));
      this.#settle(id)!.reject(new NoAnswer(peer, "it was withdrawn"));
    };
    signal.addEventListener("abort", withdraw);
    if (signal.aborted) withdraw();
    return promise.finally(() => signal.removeEventListener("abort", withdraw));
  }

  /** To be called with each message of the `forward` lane. */
  message(from: number, bytes: Uint8Array): void {
    if (bytes.length < HEADER_BYTES) throw new Error(`Node ${from} sent ${bytes.length} bytes, which are no question`);
    const kind = bytes[0]!;
    const id = new DataView(bytes.buffer, bytes.byteOffset).getUint32(1, true);
    const body = bytes.subarray(HEADER_BYTES);
    if (kind === QUESTION) return this.#serve(from, id, body);
    if (kind === WITHDRAWAL) return this.#served.get(from)?.stops.get(id)?.stop();
    if (kind > WITHDRAWAL) throw new Error(`Node ${from} sent a message of a kind that is not known here: ${kind}`);
    if (this.#asked.get(id)?.peer !== from) return; // Its time was up.
    const asked = this.#settle(id)!;
    if (kind === ANSWER) asked.resolve(body);
    else if (kind === REFUSAL) asked.reject(new NotAsked(from, "refused"));
    else asked.reject(new AnswerFailed(from, new TextDecoder().decode(body)));
  }

  /** To be called when the link to a peer is gone. */
  linkDown(peer: number): void {
    const served = this.#served.get(peer);
    if (served !== undefined) {
      served.link++;
      served.count = 0;
      served.unsent = [];
      const stops = [...served.stops.values()];
      served.stops.clear();
      for (const stop of stops) stop.stop();
    }
    for (const [id, asked] of this.#asked) {
      if (asked.peer === peer) this.#settle(id)!.reject(new NoAnswer(peer, "the link is gone"));
    }
  }

  /** To be called when the `forward` lane of a peer has room again. */
  writable(peer: number): void {
    const served = this.#served.get(peer);
    if (served === undefined) return;
    let sent = 0;
    while (sent < served.unsent.length && this.#transport.send(peer, "forward", served.unsent[sent]!)) sent++;
    served.unsent.splice(0, sent);
    served.count -= sent;
  }

  #settle(id: number): Asked | undefined {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    asked?.cancelTimer();
    return asked;
  }

  #serve(from: number, id: number, question: Uint8Array): void {
    const served = this.#served.get(from) ??
      { link: 0, count: 0, unsent: [], stops: new Map<number, Stop>() };
    this.#served.set(from, served);
    const { link } = served;
    if (served.count >= SERVED_MAX) {
      // Not kept when there is no room: whoever asks so much waits until the time is up.
      this.#transport.send(from, "forward", message(REFUSAL, id, EMPTY));
      return;
    }
    served.count++;
    const stop = new Stop();
    served.stops.set(id, stop);
    const reply = (kind: number, body: Uint8Array) => {
      if (served.link !== link) return;
      served.stops.delete(id);
      const answer = message(kind, id, body);
      // In their order, though nobody asks for it: else a large answer would be overtaken for ever.
      if (served.unsent.length === 0 && this.#transport.send(from, "forward", answer)) served.count--;
      else served.unsent.push(answer);
    };
    const fail = (error: unknown) => {
      reply(FAILURE, new TextEncoder().encode(error instanceof Error ? error.message : String(error)));
    };
    // Also what is thrown at once, and an answer that is too large for a message.
    Promise.resolve().then(() => this.#answer(from, question, stop))
      .then((answer) => reply(ANSWER, answer)).catch(fail);
  }
}

const EMPTY = new Uint8Array(0);

function message(kind: number, id: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + body.length);
  bytes[0] = kind;
  new DataView(bytes.buffer).setUint32(1, id, true);
  bytes.set(body, HEADER_BYTES);
  return bytes;
}
