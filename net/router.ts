/**
 * Any node takes any command: what this node cannot answer itself it asks of one that can, and it answers what others ask.
 *
 * - An append goes to the bucket's leader, in the order of the calls (append_route.ts).
 * - A read is answered by this node's replica if that has all that the reader wants to see, else by the leader; without a
 *   replica by the leader as well, because for it "there is none" is certain, or by any replica when it is out of reach.
 *   That nobody could be asked is an error, and never "there is none".
 * - Who is asked with no hops left answers himself, or says who leads. With hops left he may ask others: this is for nodes
 *   between which there is no link.
 *
 * Whatever it believes of leaders decides only whom it asks first (routes.ts).
 *
 * @module
 */
import type { Environment, Log } from "../core/environment.ts";
import { InvalidArgument, NoReplica, OutcomeUnknown, StoreClosed, TryAgain } from "../core/errors.ts";
import { type AppendReceiver, type EventRecord, identify, requireUuid, type Transaction } from "../core/event.ts";
import { requireReadable, requireSequence } from "../core/freshness.ts";
import { bucketOf, partitionHash, partitionOf } from "../core/placement.ts";
import type { EventStore, Freshness, Scan, Selection, Subscription } from "../core/store.ts";
import { isOfSeveral } from "../core/uuid.ts";
import { Append, AppendRoute, type AppendWays, type Outcome, type Target } from "./append_route.ts";
import type { ClusterShape } from "./consensus/topology.ts";
import { type LocalNode, NotLeader } from "./local.ts";
import {
  type Answer,
  errorOf,
  type Failure,
  failureOf,
  FOLLOW_EVENTS_MAX,
  type ForwardAppend,
  type ForwardRead,
  MessageDecoder,
  MessageEncoder,
  MessageRefused,
  type NodeMessage,
  type Positions,
  type Query,
  REMAINING_MS_MAX,
} from "./messages.ts";
import { AnswerFailed, NoAnswer, NotAsked, Requests, Stop } from "./requests.ts";
import type { Leader, Routes } from "./routes.ts";
import { every, type Timers } from "./timers.ts";
import type { Transport, TransportHandlers } from "./transport.ts";

/** From a client's node to one that has a link to the leader, and from there to the leader. */
export const HOPS = 2;

export interface RouterSettings {
  /** How long a command of a client may take, 10 s when left out. */
  commandMs: number;
  /** Before the same is asked again where it could not be done. */
  retryMs: number;
  /** How long no node that could help may be out of reach before a client is told: links come again within this. */
  unreachableMs: number;
  /** How long a replica may take to come up to what a reader wants to see before the leader is asked. */
  freshMs: number;
  /** How long a node may take for one answer to a read, before another is asked. It may be some MiB of events. */
  answerMs: number;
}

export const SETTINGS: RouterSettings = {
  commandMs: 10_000,
  retryMs: 100,
  unreachableMs: 3000,
  freshMs: 300,
  answerMs: 5000,
};

/** Of all appends that this node has taken and not answered. Beyond it, clients are told to come again. */
const APPENDS_MAX = 50_000;
const APPEND_BYTES_MAX = 256 * 1024 * 1024;
/** What an event takes in a message beside its payload and metadata, about. */
const EVENT_OVERHEAD_BYTES = 400;
/** Questions under way. A node refuses more than 10,000 of another one, and would then let later appends overtake. */
const ASKED_MAX = 8000;
/** An append that another node was asked to hand on: then it is asked again, who may know more by now. */
const RELAY_MS = 2000;
/** So long may the link to a leader be gone before another node is asked to hand on to it: mostly there is a new one. */
const RELAY_AFTER_MS = 500;
const SEEK_MS = 500;
/** A large transaction may take as long as its bytes do over a slow line, beyond what any command may. */
const SLOW_BYTES_A_MS = 4096;

export interface RouterOptions {
  shape: ClusterShape;
  local: LocalNode;
  transport: Transport;
  routes: Routes;
  environment: Environment;
  timers: Timers;
  log: Log;
  settings: RouterSettings;
  /** Follows what lies anywhere, for nodes that ask this one to, but asks no node to do so in its turn. */
  follow: Follow;
}

type Follow = (selection: Selection, freshness: Freshness) => Promise<Subscription>;

export class Router {
  readonly #shape: ClusterShape;
  readonly #local: LocalNode;
  readonly #transport: Transport;
  readonly #routes: Routes;
  readonly #environment: Environment;
  readonly #timers: Timers;
  readonly #log: Log;
  readonly #settings: RouterSettings;
  readonly #follow: Follow;
  readonly #requests: Requests;
  readonly #encoder: MessageEncoder;
  readonly #decoder: MessageDecoder;
  readonly #appends: AppendRoute[];
  /** By node and bucket: the last run of which an append was not taken. */
  readonly #brokenRuns = new Map<number, Map<number, number>>();
  /** Buckets of which it is being asked who leads. */
  readonly #sought = new Set<number>();
  readonly #stopTicks: () => void;
  /** Those that wait for something to change. */
  #waiting: (() => void)[] = [];
  #lastRequest = 0;
  #lastOrder = 0;
  #openAppends = 0;
  #openBytes = 0;
  #onEmpty: (() => void) | null = null;
  #closed = false;

  constructor(options: RouterOptions) {
    const { shape, local, transport, routes, environment, timers, log, settings, follow } = options;
    this.#shape = shape;
    this.#local = local;
    this.#transport = transport;
    this.#routes = routes;
    this.#environment = environment;
    this.#timers = timers;
    this.#log = log;
    this.#settings = settings;
    this.#follow = follow;
    this.#encoder = new MessageEncoder(shape);
    this.#decoder = new MessageDecoder(shape, transport.node);
    this.#requests = new Requests(transport, (from, question, stop) => this.#serve(from, question, stop), timers);
    this.#appends = Array.from(
      { length: shape.bucketCount },
      (_, bucket) => new AppendRoute(this.#waysOf(bucket), settings),
    );
    this.#stopTicks = every(settings.retryMs, timers, () => this.#changed(true));
  }

  /** For the `forward` lane. */
  readonly handlers: Pick<TransportHandlers, "message" | "linkUp" | "linkDown" | "writable"> = {
    message: (from, _lane, bytes) => this.#requests.message(from, bytes),
    linkUp: () => this.#changed(),
    linkDown: (peer) => {
      this.#brokenRuns.delete(peer);
      this.#requests.linkDown(peer);
      this.#changed();
    },
    writable: (peer) => {
      this.#requests.writable(peer);
      this.#changed();
    },
  };

  /** What is not answered yet: here, by others, and of others by this node. */
  get underWay(): { appends: number; questions: number; answers: number } {
    const { pending: questions, serving: answers } = this.#requests;
    return { appends: this.#openAppends, questions, answers };
  }

  /** When a command that comes now has to be answered. */
  deadline(): number {
    return this.#environment.monotonic() + this.#settings.commandMs;
  }

  isBefore(deadline: number): boolean {
    return this.#environment.monotonic() < deadline;
  }

  /** Somebody has said who leads a bucket. */
  learn(bucket: number, term: number, leader: number | null, from: number): void {
    if (!this.#routes.learn(bucket, term, leader, from)) return;
    this.#appends[bucket]!.send();
    this.#wake();
  }

  /** No new appends are taken; resolves when those that were are answered. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#openAppends > 0) await new Promise<void>((resolve) => this.#onEmpty = resolve);
    this.#stopTicks();
    this.#wake();
  }

  // ---- Appends ---------------------------------------------------------------------------------------------------------

  /** Takes an append to the leader of its bucket, wherever that is. An event id must have been given. */
  append(
    bucket: number,
    transaction: Transaction,
    receiver: AppendReceiver,
    { deadline, hops = HOPS, from = null }: { deadline?: number; hops?: number; from?: number | null } = {},
  ): void {
    if (this.#closed) return receiver.refused(new StoreClosed());
    const bytes = bytesOf(transaction);
    const until = deadline ?? this.deadline() + bytes / SLOW_BYTES_A_MS;
    if (this.#openAppends >= APPENDS_MAX || this.#openBytes > 0 && this.#openBytes + bytes > APPEND_BYTES_MAX) {
      return receiver.refused(new TryAgain(`This node has ${this.#openAppends} appends to answer already`));
    }
    this.#openAppends++;
    this.#openBytes += bytes;
    this.#appends[bucket]!.add(new Append(++this.#lastOrder, transaction, bytes, receiver, until, hops, from));
  }

  #waysOf(bucket: number): AppendWays {
    const { node } = this.#transport;
    let leaderLostAt: number | null = null;
    return {
      now: () => this.#environment.monotonic(),
      target: ({ hops, from }, run): Target => {
        const leader = this.#routes.leaderOf(bucket);
        if (this.#isReached(leader)) {
          leaderLostAt = null;
          return { kind: "leader", ...leader };
        }
        const now = this.#environment.monotonic();
        leaderLostAt ??= now;
        const relays = hops < 2 ? [] : this.#routes.relays(bucket, from);
        const isNear = this.#local.replica(bucket) !== null || this.#routes.replicas(bucket).length > 0;
        // A leader without a link, or no replica with one: another node may have it.
        const isLost = leader !== null ? now - leaderLostAt >= RELAY_AFTER_MS : !isNear;
        if (isLost && relays.length > 0) return { kind: "relay", node: relays[run % relays.length]! };
        return { kind: "none", unreachable: !isNear && relays.length === 0 };
      },
      send: (append, to, run, told) => {
        if (to.node === node) {
          this.#appendHere(bucket, append.transaction, told);
          return true;
        }
        const forwarded = this.#forwardAppend(append, to, run);
        if (forwarded === null) return false;
        void this.#outcomeOf(forwarded, to.node).then(({ outcome, leader }) => {
          told(outcome);
          if (leader !== undefined) this.learn(bucket, leader.term, leader.leader, to.node);
        });
        return true;
      },
      seek: () => void this.#seek(bucket),
      ended: ({ bytes }) => {
        this.#openBytes -= bytes;
        if (--this.#openAppends === 0) this.#onEmpty?.();
      },
    };
  }

  #isReached(leader: Leader | null): leader is Leader {
    return leader !== null && (leader.node === this.#transport.node || this.#transport.isLinked(leader.node));
  }

  #appendHere(bucket: number, transaction: Transaction, told: (outcome: Outcome) => void): void {
    this.#local.append(transaction, {
      stored: (appended) => told({ kind: "stored", appended }),
      refused: (error) => {
        if (error instanceof NotLeader) {
          told({ kind: "notTaken", why: new TryAgain(error.message, { cause: error }) });
          this.learn(bucket, error.term, error.leader, this.#transport.node);
        } else if (error instanceof TryAgain) told({ kind: "notTaken", why: error });
        else if (error instanceof OutcomeUnknown) told({ kind: "unknown", why: error });
        else told({ kind: "refused", error });
      },
    });
  }

  /** Asks another node, within this call; null when there is no room. */
  #forwardAppend(append: Append, to: Exclude<Target, { kind: "none" }>, run: number): Promise<Answer> | null {
    if (this.#requests.pending >= ASKED_MAX) return null;
    const left = Math.max(1, Math.floor(append.deadline - this.#environment.monotonic()));
    const isRelay = to.kind === "relay";
    const relayMs = RELAY_MS + append.bytes / SLOW_BYTES_A_MS;
    const message: ForwardAppend = {
      kind: "forwardAppend",
      ...this.#request(isRelay ? append.hops - 1 : 0, isRelay ? Math.min(left, relayMs) : left),
      term: isRelay ? 0 : to.term,
      run,
      transaction: append.transaction,
    };
    try {
      // A relay says itself that its time is up: only then is it known whether it has sent anything.
      const msMax = isRelay ? Math.min(left, 2 * relayMs) : left;
      const answer = this.#requests.askNow(to.node, this.#bytesOf(message), msMax);
      return answer instanceof NotAsked ? null : this.#answerIn(answer, to.node, message);
    } catch (error) {
      return Promise.reject(error); // It is too large for a message.
    }
  }

  /** Whatever goes wrong is an outcome. */
  async #outcomeOf(forwarded: Promise<Answer>, node: number): Promise<Told> {
    let answer;
    try {
      answer = await forwarded;
      if (answer.kind === "appended") return { outcome: { kind: "stored", appended: answer.appended } };
      if (answer.kind !== "failed") throw new AnswerFailed(node, `it answered an append with ${answer.kind}`);
    } catch (error) {
      if (error instanceof NotAsked) {
        return { outcome: { kind: "notTaken", why: new TryAgain(error.message, { cause: error }) } };
      }
      return { outcome: isOfPeer(error) ? { kind: "unknown", why: error } : { kind: "refused", error } };
    }
    const { failure } = answer;
    switch (failure.code) {
      case "notLeader":
        return {
          outcome: { kind: "notTaken", why: new TryAgain(`Node ${node} does not lead the bucket`) },
          leader: failure,
        };
      case "tryAgain":
      case "clusterDown":
        return { outcome: { kind: "notTaken", why: errorOf(failure) } };
      case "storeClosed": // It is the other one that closes.
        return { outcome: { kind: "notTaken", why: new TryAgain(`Node ${node} is closing`) } };
      case "unknown":
        return { outcome: { kind: "unknown", why: errorOf(failure) } };
      default:
        return { outcome: { kind: "refused", error: errorOf(failure) } };
    }
  }

  /** Asks all that have a replica who leads. */
  async #seek(bucket: number): Promise<void> {
    if (this.#sought.has(bucket)) return;
    this.#sought.add(bucket);
    await Promise.all(
      this.#routes.replicas(bucket).map(async (node) => {
        try {
          const answer = await this.#askOnce(node, { kind: "leader", bucket }, {}, SEEK_MS);
          if (answer.kind === "leader") this.learn(bucket, answer.term, answer.leader, node);
        } catch (error) {
          if (!isOfPeer(error)) throw error;
        }
      }),
    ).finally(() => this.#sought.delete(bucket));
  }

  // ---- Reads -----------------------------------------------------------------------------------------------------------

  holds(bucket: number): boolean {
    return this.#routes.holds(bucket);
  }

  /**
   * The answer to what concerns one bucket, from here or from the node that has it.
   * @throws {TryAgain} what was asked for is not readable yet, or the leader is changing
   * @throws {NoReplica} nobody can be reached who could answer
   */
  async answer(
    query: Query,
    freshness: Freshness,
    { deadline = this.deadline(), hops = HOPS, from = null, wants = () => true }: {
      deadline?: number;
      hops?: number;
      from?: number | null;
      /** Whether an answer is of use: a replica that is behind cannot tell that it is. */
      wants?: (answer: Answer) => boolean;
    } = {},
  ): Promise<Answer> {
    const bucket = this.#bucketOfQuery(query);
    if (freshness.atLeast !== undefined) requireSequence(freshness.atLeast);
    const needsLeader = freshness.fromLeader === true || freshness.atLeast !== undefined || query.kind === "readEnd";
    let unreachableSince: number | null = null;
    let damagedSince: number | null = null;
    let why: Error = new TryAgain("No leader of the bucket is known");
    for (;;) {
      let damaged: Error | null = null;
      if (this.#closed) throw new StoreClosed();
      const leader = this.#routes.leaderOf(bucket);
      const candidates = this.#candidates(bucket, needsLeader, leader, hops, from);
      if (needsLeader && leader === null) void this.#seek(bucket);
      for (const candidate of candidates) {
        const left = deadline - this.#environment.monotonic();
        if (left <= 0) break;
        const isLast = candidate === candidates.at(-1);
        const most = candidate.hops > 0 ? RELAY_MS : isLast ? left : this.#settings.answerMs;
        const msMax = Math.min(left, most);
        const found = await this.#answerOf(candidate, query, freshness, msMax);
        if (found instanceof Error) why = found;
        else if (found.kind === "failed") {
          const { failure } = found;
          switch (failure.code) {
            case "notLeader":
              this.learn(bucket, failure.term, failure.leader, candidate.node);
              why = new TryAgain("The leader of the bucket is changing");
              break;
            case "damaged":
              damaged = errorOf(failure); // Another one may have it whole.
              break;
            case "storeClosed":
            case "clusterDown":
              why = new NoReplica(`Node ${candidate.node} cannot answer`, { cause: errorOf(failure) });
              break;
            case "tryAgain":
              if (candidate.hops === 0) throw errorOf(failure);
              why = errorOf(failure); // The time was up there, but not here.
              break;
            default:
              throw errorOf(failure);
          }
        } else if (wants(found)) return found;
        else why = new TryAgain("The replicas that can be reached are behind");
      }
      const now = this.#environment.monotonic();
      if (damaged !== null) {
        // A leader that turns out to be damaged is soon one no more.
        const others = needsLeader ? this.#routes.replicas(bucket).length : 0;
        damagedSince ??= now;
        if (others === 0 || now - damagedSince >= this.#settings.unreachableMs) throw damaged;
      }
      const isReachable = candidates.length > 0 || this.#routes.replicas(bucket).length > 0;
      unreachableSince = isReachable ? null : unreachableSince ?? now;
      if (unreachableSince !== null && now - unreachableSince >= this.#settings.unreachableMs) {
        throw new NoReplica("No node that has a replica of the partition can be reached");
      }
      if (now >= deadline) throw isOfPeer(why) ? new NoReplica(why.message, { cause: why }) : why;
      await this.change();
    }
  }

  /** Who may know, in the order in which they are asked: this node, who has it, and who may reach such. */
  #candidates(
    bucket: number,
    needsLeader: boolean,
    leader: Leader | null,
    hops: number,
    from: number | null,
  ): { node: number; hops: number }[] {
    const { node: self } = this.#transport;
    const candidates: { node: number; hops: number }[] = [];
    if (this.#local.replica(bucket) !== null) candidates.push({ node: self, hops: 0 });
    const replicas = this.#routes.replicas(bucket);
    for (const node of replicas) {
      if (!needsLeader || node === leader?.node) candidates.push({ node, hops: 0 });
    }
    const isLost = needsLeader && leader !== null
      ? leader.node !== self && !replicas.includes(leader.node)
      : candidates.length === 0 && replicas.length === 0;
    if (!isLost || hops < 2) return candidates;
    return [...candidates, ...this.#routes.relays(bucket, from).map((node) => ({ node, hops: hops - 1 }))];
  }

  /** What one of those who may know says. An error is one of the way, and says nothing of what was asked for. */
  async #answerOf(
    { node, hops }: { node: number; hops: number },
    query: Query,
    freshness: Freshness,
    msMax: number,
  ): Promise<Answer | Error> {
    if (node === this.#transport.node) {
      return await this.#answerHere(query, freshness, true, new Stop());
    }
    try {
      return await this.#askOnce(node, query, freshness, msMax, { hops });
    } catch (error) {
      if (isOfPeer(error)) return error;
      throw error;
    }
  }

  /** Asks one node, who answers himself if there are no hops. @throws {NotAsked} | {NoAnswer} | {AnswerFailed} */
  async #askOnce(
    node: number,
    query: Query,
    { atLeast, fromLeader }: Freshness,
    msMax: number,
    { hops = 0, signal }: { hops?: number; signal?: AbortSignal } = {},
  ): Promise<Answer> {
    const message: ForwardRead = {
      kind: "forwardRead",
      ...this.#request(hops, msMax),
      atLeast: atLeast ?? null,
      fromLeader: fromLeader === true,
      query,
    };
    return await this.#ask(node, message, msMax, signal);
  }

  /**
   * Asks a node for positions, which may be of several buckets: only such as it holds, unless it is asked to look further.
   * @throws {NotAsked} | {NoAnswer} | {AnswerFailed} | {NoReplica} | {TryAgain} | {StoreClosed} | {Damaged}
   */
  async askFor(
    node: number,
    query: Query & { kind: "heads" | "follow" },
    options: { freshness?: Freshness; hops?: number; signal?: AbortSignal } = {},
  ): Promise<Answer> {
    const msMax = this.#settings.answerMs + (query.kind === "follow" ? query.waitMs : 0);
    const answer = await this.#askOnce(node, query, options.freshness ?? {}, msMax, options);
    if (answer.kind !== "failed") return answer;
    if (answer.failure.code === "notLeader") throw new TryAgain(`Node ${node} does not lead the bucket`);
    throw errorOf(answer.failure);
  }

  /** Whom to ask for what lies in a bucket, but not of `avoided`; one of `preferred`, if it can be. */
  nodeFor(
    bucket: number,
    avoided: ReadonlySet<number>,
    preferred: ReadonlySet<number>,
    mayRelay: boolean,
  ): { node: number; hops: number } | null {
    const replicas = this.#routes.replicas(bucket).filter((node) => !avoided.has(node));
    const node = replicas.find((node) => preferred.has(node)) ?? replicas[0];
    if (node !== undefined) return { node, hops: 0 };
    const relay = mayRelay ? this.#routes.relays(bucket, null).find((node) => !avoided.has(node)) : undefined;
    return relay === undefined ? null : { node: relay, hops: 1 };
  }

  /** Resolves when something has changed that may help, or some time has passed. @throws {StoreClosed} */
  async change(): Promise<void> {
    if (this.#closed) throw new StoreClosed();
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  // ---- What others ask -------------------------------------------------------------------------------------------------

  async #serve(from: number, question: Uint8Array, stop: Stop): Promise<Uint8Array> {
    const message = this.#decoder.decode(question);
    if (message.kind !== "forwardAppend" && message.kind !== "forwardRead") {
      throw new Error(`${message.kind} is no question`);
    }
    const answer = this.#closed
      ? failed({ code: "storeClosed" })
      : message.kind === "forwardAppend"
      ? await this.#serveAppend(from, message)
      : await this.#serveRead(from, message, stop);
    return this.#bytesOf({ kind: "answer", request: message.request, answer });
  }

  #serveAppend(from: number, { hopsLeft, remainingMs, term, run, transaction }: ForwardAppend): Promise<Answer> {
    const bucket = this.#bucketOf(transaction);
    const broken = this.#brokenRuns.get(from) ?? new Map<number, number>();
    this.#brokenRuns.set(from, broken);
    const notTaken = (failure: Failure): Answer => {
      broken.set(bucket, Math.max(run, broken.get(bucket) ?? 0));
      return failed(failure);
    };
    if (run <= (broken.get(bucket) ?? 0)) return Promise.resolve(notTaken(this.#notLeader(bucket)));
    if (hopsLeft === 0) {
      const leader = this.#local.leaderOf(bucket);
      if (leader?.node !== this.#transport.node || leader.term !== term) {
        return Promise.resolve(notTaken(this.#notLeader(bucket)));
      }
    } else {
      const leader = this.#routes.leaderOf(bucket);
      if (!this.#isReached(leader)) {
        // It does not wait here: two that ask each other would, for what each has on the way to the other.
        if (leader === null) void this.#seek(bucket); // When it is asked again, it may know.
        return Promise.resolve(notTaken(this.#notLeader(bucket)));
      }
    }
    return new Promise((resolve, reject) => {
      const receiver: AppendReceiver = {
        stored: (appended) => resolve({ kind: "appended", appended }),
        refused: (error) => {
          const failure = failureOf(error);
          if (failure === null) {
            notTaken(this.#notLeader(bucket));
            return reject(error);
          }
          const isOver = !["notLeader", "tryAgain", "clusterDown", "storeClosed", "unknown"].includes(failure.code);
          resolve(isOver ? failed(failure) : notTaken(failure));
        },
      };
      if (hopsLeft === 0) return this.#local.append(transaction, receiver);
      const deadline = this.#environment.monotonic() + remainingMs;
      this.append(bucket, transaction, receiver, { deadline, hops: hopsLeft, from });
    });
  }

  async #serveRead(from: number, message: ForwardRead, stop: Stop): Promise<Answer> {
    const { query, hopsLeft, remainingMs, atLeast, fromLeader } = message;
    const freshness: Freshness = atLeast === null ? { fromLeader } : { fromLeader, atLeast };
    const isOfMany = query.kind === "heads" || query.kind === "follow";
    if (hopsLeft === 0 || isOfMany) return await this.#answerHere(query, freshness, false, stop, hopsLeft);
    try {
      const deadline = this.#environment.monotonic() + remainingMs;
      return await this.answer(query, freshness, { deadline, hops: hopsLeft, from });
    } catch (error) {
      return failedOf(error);
    }
  }

  /**
   * What this node's replica says. `asksLeader`: to know how far one must read, the leader may be asked; else only the
   * leader itself answers who wants that.
   */
  async #answerHere(
    query: Query,
    freshness: Freshness,
    asksLeader: boolean,
    stop: Stop,
    hops = 0,
  ): Promise<Answer> {
    try {
      if (query.kind === "follow") {
        const { positions } = query;
        const follow = (selection: Selection) =>
          hops > 0 ? this.#follow(selection, freshness) : this.#followHere(positions, selection, freshness);
        return await followed(follow, query, stop.signal, this.#timers);
      }
      if (query.kind === "heads") return await this.#heads(query.positions, freshness, hops);
      const bucket = this.#bucketOfQuery(query);
      if (query.kind === "leader") {
        const leader = this.#local.leaderOf(bucket);
        return { kind: "leader", term: leader?.term ?? this.#routes.termOf(bucket), leader: leader?.node ?? null };
      }
      if (query.kind === "readEnd") {
        const end = this.#routes.leads(bucket) ? await this.#local.readEnd(bucket) : null;
        return end === null ? failed(this.#notLeader(bucket)) : { kind: "number", number: end };
      }
      if (!this.holds(bucket)) throw new NoReplica("This node has no replica of the partition");
      const late = await this.isLate(bucket, this.#partitionOfQuery(query), freshness, asksLeader);
      return late === null ? await read(this.#local.store, query) : failed(late);
    } catch (error) {
      return failedOf(error);
    }
  }

  /** Whether this node's replica lacks something that a reader wants to see: then what to tell who asks. Waits a little. */
  async isLate(
    bucket: number,
    partition: number,
    { atLeast, fromLeader }: Freshness,
    asksLeader = true,
  ): Promise<Failure | null> {
    const { freshMs } = this.#settings;
    if (atLeast !== undefined) requireSequence(atLeast);
    if (fromLeader) {
      const end = this.#routes.leads(bucket)
        ? await this.#local.readEnd(bucket)
        : asksLeader
        ? await this.#askReadEnd(bucket)
        : null;
      if (end === null || !await this.#local.committed(bucket, end, freshMs)) return this.#notLeader(bucket);
    }
    if (atLeast === undefined || await this.#local.readable(partition, atLeast, freshMs)) return null;
    if (!this.#routes.leads(bucket)) return this.#notLeader(bucket);
    try {
      requireReadable(partition, await this.#local.store.partitionSequence(partition), atLeast);
      return null; // It came just now.
    } catch (error) {
      if (!(error instanceof TryAgain)) throw error;
      return failureOf(error)!;
    }
  }

  async #askReadEnd(bucket: number): Promise<number | null> {
    const leader = this.#routes.leaderOf(bucket);
    if (leader === null || !this.#transport.isLinked(leader.node)) return null;
    const query: Query = { kind: "readEnd", bucket };
    const found = await this.#answerOf({ node: leader.node, hops: 0 }, query, {}, this.#settings.answerMs);
    if (found instanceof Error) return null;
    if (found.kind === "number") return found.number;
    if (found.kind === "failed" && found.failure.code === "notLeader") {
      this.learn(bucket, found.failure.term, found.failure.leader, leader.node);
    }
    return null;
  }

  async #heads(positions: Positions, freshness: Freshness, hops: number): Promise<Answer> {
    const { store } = this.#local;
    const head = async (partition: number, query: Query, read: () => Promise<number | null>) => {
      const bucket = bucketOf(partition, this.#shape.bucketCount);
      if (!this.holds(bucket)) {
        if (hops === 0) throw new NoReplica("This node has no replica of the partition");
        const answer = await this.answer(query, freshness, { hops });
        return answer.kind === "number" ? next(answer.number) : 0;
      }
      await this.#requireFresh(partition, freshness);
      return next(await read());
    };
    const numbers = "partitions" in positions
      ? positions.partitions.map(({ partition }) =>
        head(partition, { kind: "partitionSequence", partition }, () => store.partitionSequence(partition))
      )
      : positions.streams.map(({ streamId, partitionKey }) =>
        head(
          this.#partitionOfKey(partitionKey),
          { kind: "streamVersion", streamId, partitionKey },
          () => store.streamVersion(streamId, { partitionKey }),
        )
      );
    return { kind: "numbers", numbers: await Promise.all(numbers) };
  }

  /** Follows in this node's own store, if that holds all of these. */
  async #followHere(positions: Positions, selection: Selection, freshness: Freshness): Promise<Subscription> {
    const partitions = "partitions" in positions
      ? positions.partitions.map(({ partition }) => partition)
      : positions.streams.map(({ partitionKey }) => this.#partitionOfKey(partitionKey));
    if (!partitions.every((partition) => this.holds(bucketOf(partition, this.#shape.bucketCount)))) {
      throw new NoReplica("This node has no replica of a partition");
    }
    if (freshness.atLeast !== undefined || freshness.fromLeader) {
      await Promise.all(partitions.map((partition) => this.#requireFresh(partition, freshness)));
    }
    return await this.#local.store.subscribe(selection);
  }

  /** @throws {NotLeader} | {TryAgain} this node lacks something that a reader wants to see */
  async #requireFresh(partition: number, freshness: Freshness): Promise<void> {
    const bucket = bucketOf(partition, this.#shape.bucketCount);
    const late = await this.isLate(bucket, partition, freshness, false);
    if (late === null) return;
    throw late.code === "notLeader" ? new NotLeader(bucket, late.term, late.leader) : errorOf(late);
  }

  #notLeader(bucket: number): Failure {
    const leader = this.#routes.leaderOf(bucket);
    return { code: "notLeader", term: leader?.term ?? this.#routes.termOf(bucket), leader: leader?.node ?? null };
  }

  // ---- Bytes and places ------------------------------------------------------------------------------------------------

  /** @throws {NotAsked} | {NoAnswer} | {AnswerFailed} | {LimitExceeded} */
  async #ask(node: number, message: ForwardRead, msMax: number, signal?: AbortSignal): Promise<Answer> {
    return await this.#answerIn(this.#requests.ask(node, this.#bytesOf(message), msMax, signal), node, message);
  }

  async #answerIn(
    answer: Promise<Uint8Array>,
    node: number,
    { request }: ForwardAppend | ForwardRead,
  ): Promise<Answer> {
    const bytes = await answer;
    try {
      const message = this.#decoder.decode(bytes);
      if (message.kind === "answer" && message.request === request) return message.answer;
    } catch (error) {
      if (!(error instanceof MessageRefused)) throw error;
      this.#log("warn", "A node has answered what is no answer", { node, cause: error });
      throw new AnswerFailed(node, error.message);
    }
    throw new AnswerFailed(node, "it answered another question");
  }

  #bytesOf(message: NodeMessage): Uint8Array {
    this.#encoder.add(message);
    return this.#encoder.take().slice();
  }

  #request(hopsLeft: number, remainingMs: number): { request: number; hopsLeft: number; remainingMs: number } {
    return { request: ++this.#lastRequest, hopsLeft, remainingMs: Math.min(Math.ceil(remainingMs), REMAINING_MS_MAX) };
  }

  #bucketOf({ partitionKey, events }: Transaction): number {
    if (partitionKey === undefined && events.length === 0) throw new InvalidArgument("A transaction needs an event");
    const key = partitionKey === undefined
      ? identify(events[0]!.streamId, null).partitionKey
      : requireUuid(partitionKey, "partition key");
    return bucketOf(partitionOf(partitionHash(key), this.#shape.partitionCount), this.#shape.bucketCount);
  }

  #partitionOfKey(partitionKey: string): number {
    return partitionOf(partitionHash(requireUuid(partitionKey, "partition key")), this.#shape.partitionCount);
  }

  #bucketOfQuery(query: Query): number {
    return "bucket" in query ? query.bucket : bucketOf(this.#partitionOfQuery(query), this.#shape.bucketCount);
  }

  #partitionOfQuery(query: Query): number {
    switch (query.kind) {
      case "event":
        return this.#partitionOfKey(query.eventId); // An id carries the hash of its partition key.
      case "stream":
      case "streamVersion": {
        const given = query.partitionKey === null ? null : requireUuid(query.partitionKey, "partition key");
        return partitionOf(
          partitionHash(identify(query.streamId, given).partitionKey),
          this.#shape.partitionCount,
        );
      }
      case "partition":
      case "partitionSequence":
        return query.partition;
      default:
        throw new Error(`${query.kind} is of no partition`);
    }
  }

  #changed(isTick = false): void {
    for (const route of this.#appends) {
      if (route.isEmpty) continue;
      if (isTick) route.expire();
      // Not at once: who was asked says first that it does not lead any more, and then it is known that nothing was stored.
      if (isTick) route.leaderChanged();
      else route.send();
    }
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

/** What became of a forwarded append, and who leads, if that was said instead. */
interface Told {
  outcome: Outcome;
  leader?: { term: number; leader: number | null };
}

/** Errors of the way to a node: nothing is said of what was asked. */
export function isOfPeer(error: unknown): error is NotAsked | NoAnswer | AnswerFailed {
  return error instanceof NotAsked || error instanceof NoAnswer || error instanceof AnswerFailed;
}

function failed(failure: Failure): Answer {
  return { kind: "failed", failure };
}

function failedOf(error: unknown): Answer {
  const failure = failureOf(error);
  if (failure === null) throw error;
  return failed(failure);
}

function next(last: number | null): number {
  return last === null ? 0 : last + 1;
}

function bytesOf({ events }: Transaction): number {
  let bytes = 0;
  for (const { payload, metadata } of events) {
    bytes += EVENT_OVERHEAD_BYTES + (payload?.length ?? 0) + (metadata?.length ?? 0);
  }
  return bytes;
}

type Read = Exclude<Query, { kind: "readEnd" | "leader" | "heads" | "follow" }>;

/** Answers from a store. Of a range the first page. */
async function read(store: EventStore, query: Read): Promise<Answer> {
  switch (query.kind) {
    case "event":
      return { kind: "event", event: await store.event(query.eventId) };
    case "streamVersion":
      return { kind: "number", number: await store.streamVersion(query.streamId, keyOf(query)) };
    case "partitionSequence":
      return { kind: "number", number: await store.partitionSequence(query.partition) };
    case "stream": {
      const scan = store.readStream(query.streamId, { ...keyOf(query), ...rangeOf(query) });
      return await page(scan, query, ({ version }) => version, () => store.streamVersion(query.streamId, keyOf(query)));
    }
    case "partition": {
      const scan = store.readPartition(query.partition, rangeOf(query));
      return await page(scan, query, ({ sequence }) => sequence, () => store.partitionSequence(query.partition));
    }
  }
}

async function page(
  scan: Scan,
  query: Read & { kind: "stream" | "partition" },
  numberOf: (event: EventRecord) => number,
  head: () => Promise<number | null>,
): Promise<Answer> {
  for await (const events of scan.pages()) {
    const last = numberOf(events.at(-1)!);
    const isWhole = events.length >= query.limit ||
      (query.backward ? last <= query.from : last + 1 >= Math.min(query.end ?? Infinity, next(await head())));
    return { kind: "events", events, more: !isWhole };
  }
  return { kind: "events", events: [], more: false };
}

function keyOf({ partitionKey }: { partitionKey: string | null }): { partitionKey?: string } {
  return partitionKey === null ? {} : { partitionKey };
}

function rangeOf({ from, end, backward, limit }: Read & { kind: "partition" | "stream" }) {
  const direction = backward ? "backward" as const : "forward" as const;
  return { from, end: end ?? Infinity, direction, limit };
}

/** What comes next of some positions: as soon as there is something, none when there is nothing for so long. */
async function followed(
  subscribe: (selection: Selection) => Promise<Subscription>,
  { positions, waitMs, limit, within }: Query & { kind: "follow" },
  signal: AbortSignal,
  timers: Timers,
): Promise<Answer> {
  const subscription = await subscribe(
    "partitions" in positions
      ? {
        partitions: positions.partitions.map(({ partition }) => partition),
        starts: new Map(positions.partitions.map(({ partition, next }) => [partition, next])),
      }
      : {
        streams: positions.streams.map(({ streamId, partitionKey, next }) => ({ streamId, partitionKey, from: next })),
      },
  );
  const close = () => subscription.close();
  const cancelTimer = waitMs === 0 ? () => {} : timers.after(waitMs, close);
  signal.addEventListener("abort", close);
  if (signal.aborted) close();
  try {
    if (waitMs > 0 && !await subscription.ready()) return { kind: "events", events: [], more: false };
    cancelTimer();
    return await firstPage(subscription, Math.min(limit, FOLLOW_EVENTS_MAX), within);
  } finally {
    cancelTimer();
    signal.removeEventListener("abort", close);
    subscription.close();
  }
}

async function firstPage(subscription: Subscription, limit: number, within: string | null): Promise<Answer> {
  const events = await subscription.read(limit);
  if (within !== null) {
    const end = events.findIndex(({ transactionId }) => transactionId !== within);
    if (end >= 0) return { kind: "events", events: events.slice(0, end), more: false };
  }
  const last = events.at(-1);
  if (last === undefined || !isOfSeveral(last.transactionId)) return { kind: "events", events, more: false };
  // If there is a rest of a transaction, it comes next; if that is damaged, the next question meets it.
  const [following] = await subscription.read(1).catch((): EventRecord[] => []);
  return { kind: "events", events, more: following?.transactionId === last.transactionId };
}
