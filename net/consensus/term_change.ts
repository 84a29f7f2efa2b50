/**
 * Chapter 2: suspect, new term, promise, adopt, serve.
 *
 *     follower ─ silence ─► asking ─ a majority lost its leader, too ─► collecting ─ promises of a majority ─►
 *     adopting ─ has what the best of them has ─► opening ─ first entry of the term committed ─► serving
 *
 * Who leads a term is arithmetic, so nobody is elected: the owner of the next term whose owner is not suspected begins
 * it, or is nudged to. It need not have the best log. It adopts it: of the promises of a majority one was given by a
 * replica that holds every committed entry, the best of them holds all of these, and the new leader takes over what the
 * best has before it appends anything.
 *
 * A term is durable before anything is said in it. A process leads only terms that it began itself: what an earlier
 * life of it lost un-synced can never come again under the same term and log index.
 *
 * @module
 */
import { agreedEnd } from "./entries.ts";
import type { Chunk, Sender, TermPromise } from "./message.ts";
import { agrees, broken, insist, quarantine, type ReplicaState } from "./replica_state.ts";
import { beat, take } from "./replication.ts";
import { leaderSlot, nextTermOf } from "./topology.ts";

/** Terms that a promise tells of. With more between two logs, the longer way is taken. */
const PROMISED_TERMS_MAX = 64;

// ---- Following ---------------------------------------------------------------------------------------------------------

/** A higher term was heard of. It is followed from now on, and nothing is said in it before it is durable. */
export function takeTerm(state: ReplicaState, term: number, leader: Sender | null, now: number): void {
  leave(state, now);
  state.verifiedEnd = state.commitEnd;
  state.leaderCommitEnd = 0;
  state.ackedEnd = 0;
  if (term === state.term) return;
  state.persist({ term, leaderDataId: leader?.dataId ?? 0, leaderBoot: leader?.boot ?? 0 });
}

/** Leads no longer, and tries no longer to. */
function leave(state: ReplicaState, now: number): void {
  if (state.isLeader) {
    state.effects.push({ kind: "stepDown", term: state.term });
    for (const { token } of state.reads) state.effects.push({ kind: "readEnd", token, end: null });
    state.reads.length = 0;
    state.uncommitted.clear();
    state.handOver = null;
    state.leaderHeardAt = now; // The others heard it until now.
  }
  if (state.role !== "recovering") state.role = "follower";
  state.hasLeader = false;
  state.adoption = null;
}

/** Whether the sender leads `term`, and this replica follows it from now on. */
export function follows(state: ReplicaState, from: Sender, term: number, now: number): boolean {
  const { hard } = state;
  if (term < hard.term) {
    state.send(from.slot, { kind: "stale", term: hard.term });
    return false;
  }
  if (from.slot !== leaderSlot(term, state.replicationFactor)) return false;
  if (term > hard.term) takeTerm(state, term, from, now);
  else if (hard.leaderBoot === 0) state.persist({ leaderDataId: from.dataId, leaderBoot: from.boot });
  else if (hard.leaderBoot !== from.boot || hard.leaderDataId !== from.dataId) return false; // Of a life that is over.
  if (state.role === "asking") state.role = "follower";
  state.hasLeader = true;
  state.leaderHeardAt = now;
  state.attempt = 0;
  state.changeUntil = now;
  return true;
}

export function onStale(state: ReplicaState, term: number, now: number): void {
  if (term > state.term) takeTerm(state, term, null, now);
}

/** Whether this replica has no leader that it knows to be alive. */
function isLeaderless(state: ReplicaState, now: number, silenceMs: number): boolean {
  if (state.role !== "follower" && state.role !== "asking") return false;
  const isHinted = (state.suspectedSlots >>> state.leaderSlot & 1) === 1;
  return now - state.leaderHeardAt >= (isHinted ? state.timing.suspectHintedMs : silenceMs);
}

// ---- Suspect -----------------------------------------------------------------------------------------------------------

export function tickFollower(state: ReplicaState, now: number): void {
  if (now < state.leaderHeardAt) state.leaderHeardAt = now; // The clock went back.
  if (!isLeaderless(state, now, state.timing.suspectMs + jitterMs(state))) return;
  if (now >= state.changeUntil || state.changeUntil > now + 2 * state.timing.changeMs) return tryNext(state, now);
  // Who lost the leader a little later has said no, and would say yes now.
  if (now >= state.askAgainAt && state.wantedTerm > state.term) ask(state, now);
}

/** Differs from replica to replica and from life to life, so that not all of them begin at once. */
function jitterMs({ boot, slot, term, timing }: ReplicaState): number {
  const mixed = Math.imul(boot >>> 0 ^ term, 0x9e3779b1) ^ Math.imul(slot + 1, 0x85ebca6b);
  return (mixed >>> 8) % (timing.suspectJitterMs + 1);
}

/** The next term whose owner is not suspected: begins it, or asks its owner to. Each try goes one owner further. */
function tryNext(state: ReplicaState, now: number): void {
  const { replicationFactor } = state;
  const suspected = state.suspectedSlots | 1 << state.leaderSlot;
  const terms = Array.from({ length: replicationFactor }, (_, i) => state.term + 1 + i);
  const likely = terms.filter((term) => (suspected >>> leaderSlot(term, replicationFactor) & 1) === 0);
  const order = [...likely, ...terms.filter((term) => !likely.includes(term))];
  tryTerm(state, order[state.attempt++ % order.length]!, now);
}

function tryTerm(state: ReplicaState, wantedTerm: number, now: number): void {
  state.role = leaderSlot(wantedTerm, state.replicationFactor) === state.slot ? "asking" : "follower";
  state.wantedTerm = wantedTerm;
  state.changeUntil = now + state.timing.changeMs;
  for (const peer of state.peers) if (peer !== null) peer.granted = false;
  ask(state, now);
}

/** For the wanted term: its owner to begin it or, who owns it, all that have not granted it. Again at every heartbeat. */
function ask(state: ReplicaState, now: number): void {
  const { wantedTerm } = state;
  state.askAgainAt = now + state.timing.heartbeatMs;
  const owner = leaderSlot(wantedTerm, state.replicationFactor);
  if (owner !== state.slot) return state.send(owner, { kind: "nudge", wantedTerm });
  for (const [slot, peer] of state.peers.entries()) {
    if (peer !== null && !peer.granted) state.send(slot, { kind: "preVote", wantedTerm });
  }
}

export function onNudge(state: ReplicaState, wantedTerm: number, now: number): void {
  if (state.role !== "follower" || leaderSlot(wantedTerm, state.replicationFactor) !== state.slot) return;
  if (wantedTerm <= state.term || !isLeaderless(state, now, state.timing.suspectMs * GRANT_SHARE)) return;
  tryTerm(state, wantedTerm, now);
}

/** Who asks waited longer than who is asked needs to have waited: clocks and ways differ. */
const GRANT_SHARE = 0.8;

export function onPreVote(state: ReplicaState, from: Sender, wantedTerm: number, now: number): void {
  const granted = wantedTerm > state.term && isLeaderless(state, now, state.timing.suspectMs * GRANT_SHARE);
  state.send(from.slot, { kind: "preVoteReply", wantedTerm, granted, term: state.term });
}

export function onPreVoteReply(
  state: ReplicaState,
  from: Sender,
  { wantedTerm, granted, term }: { wantedTerm: number; granted: boolean; term: number },
  now: number,
): void {
  if (term > state.term) return takeTerm(state, term, null, now);
  if (state.role !== "asking" || wantedTerm !== state.wantedTerm || !granted) return;
  state.peers[from.slot]!.granted = true;
  const grants = state.peers.reduce((sum, peer) => peer === null || peer.granted ? sum + 1 : sum, 0);
  if (grants >= state.majority && wantedTerm > state.term) begin(state, wantedTerm, now);
}

// ---- New term ----------------------------------------------------------------------------------------------------------

/** Begins a term of its own. Nobody is told before that is durable. */
function begin(state: ReplicaState, term: number, now: number): void {
  insist(leaderSlot(term, state.replicationFactor) === state.slot, "a term of another slot");
  insist(term > state.hard.startedTerm, "a term that was begun before");
  leave(state, now);
  state.persist({ term, startedTerm: term, leaderDataId: state.hard.dataId, leaderBoot: state.boot });
  state.verifiedEnd = state.commitEnd;
  state.role = "collecting";
  for (const peer of state.peers) if (peer !== null) peer.promise = null;
  state.changeBeganAt = now;
  state.changeUntil = now + state.timing.changeMs;
  state.askAgainAt = now + state.timing.heartbeatMs;
  state.sendToAll({ kind: "newTerm", term, end: state.logEnd });
}

/** From the leader: this term is yours. */
export function onTransferTerm(
  state: ReplicaState,
  from: Sender,
  { term, targetTerm }: { term: number; targetTerm: number },
  now: number,
): void {
  if (state.role !== "follower" || term !== state.term || from.slot !== state.leaderSlot) return;
  if (leaderSlot(targetTerm, state.replicationFactor) !== state.slot || targetTerm <= state.term) return;
  begin(state, targetTerm, now);
}

/** A promise to follow a term is given when it is durable, and the log that it speaks of. */
export function onNewTerm(
  state: ReplicaState,
  from: Sender,
  { term, end }: { term: number; end: number },
  now: number,
): void {
  // Who has less than it is known to have held would lead with a log that lacks what is committed.
  if (term > state.term && end < state.heldEnds[from.slot]!) return quarantine(state, from);
  if (!follows(state, from, term, now)) return;
  state.sendWhenDurable(from.slot, {
    kind: "promise",
    term: state.term,
    lastTerm: state.lastTerm,
    end: state.logEnd,
    chain: state.lastChain,
    commitEnd: state.commitEnd,
    terms: state.terms.newest(PROMISED_TERMS_MAX),
    dataIds: state.hard.dataIds,
  });
}

export function onPromise(state: ReplicaState, from: Sender, promise: TermPromise, now: number): void {
  if (state.role !== "collecting" || promise.term !== state.term) return;
  // What is committed it can never have less of, unless its disk did.
  if (promise.end < state.heldEnds[from.slot]!) return quarantine(state, from);
  state.peers[from.slot]!.promise = promise;
  collect(state, now);
}

/** With the promises of a majority: takes over the best of their logs, which may be its own. */
export function collect(state: ReplicaState, now: number): void {
  if (state.role !== "collecting" || !state.isHardStateDurable || !state.isLogDurable) return;
  let count = 1;
  let best: TermPromise | null = null;
  let bestSlot = state.slot;
  let { lastTerm, logEnd: end } = state;
  for (let slot = 0; slot < state.replicationFactor; slot++) {
    const promise = state.peers[slot]?.promise ?? null;
    if (promise === null || isVoid(state, slot)) continue;
    count++;
    if (promise.lastTerm < lastTerm || promise.lastTerm === lastTerm && promise.end <= end) continue;
    ({ lastTerm, end } = best = promise);
    bestSlot = slot;
  }
  if (count < state.majority) return;
  if (best === null) return open(state, now);
  const agreed = agreedEnd(state.terms, state.logEnd, best.terms, best.end) ?? 0;
  state.adoption = {
    from: bestSlot,
    end: best.end,
    chain: best.chain,
    next: Math.max(agreed, state.commitEnd), // What is committed is in the best log for certain.
    askedAt: now,
  };
  state.role = "adopting";
  state.changeUntil = now + state.timing.changeMs;
  fetch(state, now);
}

/** Whether another replica that promises knows a newer disk in that slot than this one does. */
function isVoid({ hard, peers }: ReplicaState, slot: number): boolean {
  return peers.some((peer) => {
    const known = peer?.promise?.dataIds[slot] ?? 0;
    return known !== 0 && known !== hard.dataIds[slot] && !hard.retired.includes(known);
  });
}

// ---- Adopt -------------------------------------------------------------------------------------------------------------

/** Asks for what is missing. Whoever is asked has promised this term, so that its log stands still. */
export function fetch(state: ReplicaState, now: number): void {
  const { adoption } = state;
  insist(adoption !== null, "nothing is to be fetched");
  adoption.askedAt = now;
  state.send(adoption.from, { kind: "fetch", term: state.term, from: adoption.next });
}

export function onFetch(
  state: ReplicaState,
  slot: number,
  { term, from }: { term: number; from: number },
): void {
  if (term < state.term) return state.send(slot, { kind: "stale", term: state.term });
  if (term > state.term || from >= state.logEnd) return;
  const entries = state.log.entries(from, state.limits.messageBytesMax);
  state.send(slot, { kind: "chunk", term, from, entries });
}

export function onChunk(state: ReplicaState, from: Sender, { term, from: at, entries }: Chunk, now: number): void {
  const { adoption } = state;
  if (adoption === null || term !== state.term || from.slot !== adoption.from || at !== adoption.next) return;
  if (!agrees(state, at, entries.chainAt(at))) {
    if (at <= state.commitEnd) broken(`committed entries below ${at} differ from those of slot ${from.slot}`);
    adoption.next = state.commitEnd;
    return fetch(state, now);
  }
  take(state, entries);
  adoption.next = entries.end;
  state.changeUntil = now + state.timing.changeMs;
  state.askAgainAt = now + 2 * state.timing.changeMs; // Where it is an operator's recovery.
  if (adoption.next < adoption.end) fetch(state, now);
}

/** All that was to be adopted is here and durable: only then may the term be opened on it. */
export function mayBeAdopted(state: ReplicaState, now: number): void {
  const { adoption } = state;
  if (state.role !== "adopting" || adoption === null || adoption.next < adoption.end || !state.isLogDurable) return;
  insist(
    adoption.chain !== null && agrees(state, adoption.end, adoption.chain),
    "another log was adopted than promised",
  );
  insist(state.logEnd === adoption.end, "more was adopted than was promised");
  open(state, now);
}

// ---- Open and serve ----------------------------------------------------------------------------------------------------

function open(state: ReplicaState, now: number): void {
  state.role = "opening";
  state.adoption = null;
  state.termFrom = state.logEnd;
  state.round = 0;
  state.uncommitted.clear();
  state.handOver = null;
  state.keptUpSince = Infinity;
  for (const peer of state.peers) {
    if (peer === null) continue;
    peer.reset(state.logEnd);
    peer.promise = null;
    peer.heardAt = now;
  }
  state.effects.push({ kind: "noop", term: state.term, logIndex: state.logEnd });
  state.nextHeartbeatAt = now; // The others learn at the next tick that somebody leads.
}

/** The first entry of its term is committed: with it all that was inherited. */
export function mayServe(state: ReplicaState): void {
  if (state.role !== "opening" || state.commitEnd <= state.termFrom) return;
  state.role = "serving";
  state.effects.push({ kind: "serve", term: state.term });
}

/** While a term is being begun: asks again, or gives up, and another owner tries. */
export function tickChange(state: ReplicaState, now: number): void {
  if (now >= state.changeUntil || state.changeUntil > now + 2 * state.timing.changeMs) {
    leave(state, now);
    return tryNext(state, now);
  }
  if (state.role === "collecting" && now >= state.askAgainAt) {
    state.askAgainAt = now + state.timing.heartbeatMs;
    for (const [slot, peer] of state.peers.entries()) {
      if (peer !== null && peer.promise === null) {
        state.send(slot, { kind: "newTerm", term: state.term, end: state.logEnd });
      }
    }
  }
  if (state.role === "adopting" && now - state.adoption!.askedAt >= state.timing.heartbeatMs) {
    if (state.adoption!.next < state.adoption!.end) fetch(state, now);
  }
}

export function tickLeader(state: ReplicaState, now: number): void {
  if (now >= state.nextHeartbeatAt || state.nextHeartbeatAt > now + 2 * state.timing.heartbeatMs) beat(state, now);
  if (now - state.majorityHeardAt(now) >= state.timing.quorumMs) return giveUp(state, now);
  if (state.role === "serving") tickHandOver(state, now);
}

/**
 * A leader that can be heard and hears nobody would keep the others from having another. Whom it heard last it asks to
 * lead: if that one hears it, nobody has to wait for its silence.
 */
function giveUp(state: ReplicaState, now: number): void {
  const others = [...state.peers.entries()].filter(([, peer]) => peer !== null && !peer.recovering);
  if (others.length > 0) {
    const [to] = others.reduce((one, other) => other[1]!.heardAt > one[1]!.heardAt ? other : one);
    sendTransfer(state, to);
  }
  leave(state, now);
}

// ---- Hand over ---------------------------------------------------------------------------------------------------------

/** Another one shall lead, as this node is about to stop: the one that is furthest. */
export function onHandOver(state: ReplicaState, now: number): void {
  if (state.role !== "serving") return;
  const freshMs = 3 * state.timing.heartbeatMs;
  let to = -1;
  for (const [slot, peer] of state.peers.entries()) {
    if (peer === null || peer.recovering || now - peer.heardAt > freshMs) continue;
    if (to < 0 || peer.match > state.peers[to]!.match) to = slot;
  }
  if (to < 0) return;
  state.handOver = { to, since: now, sent: false, stopping: true };
  mayHandOver(state);
}

/** Slot 0 leads again when it has kept up for a while, so that leaders stay spread over the nodes. */
function tickHandOver(state: ReplicaState, now: number): void {
  const { handOver, timing } = state;
  if (handOver !== null) {
    if (now - handOver.since < 2 * timing.changeMs && now >= handOver.since) return mayHandOver(state);
    state.handOver = null; // It did not come to it: this one goes on.
    state.keptUpSince = now + 3 * timing.failBackMs;
    if (handOver.stopping) onHandOver(state, now);
    return;
  }
  const first = state.peers[0];
  if (first === null || first === undefined) return;
  const keepsUp = !first.recovering && first.match >= state.commitEnd &&
    now - first.heardAt <= 3 * timing.heartbeatMs && (state.suspectedSlots & 1) === 0;
  if (!keepsUp) state.keptUpSince = Infinity;
  else if (state.keptUpSince === Infinity) state.keptUpSince = now;
  else if (now - state.keptUpSince >= timing.failBackMs) {
    state.handOver = { to: 0, since: now, sent: false, stopping: false };
    mayHandOver(state);
  }
}

/** No append is taken while a hand-over is under way. When all are committed, and the next leader has them, it begins. */
export function mayHandOver(state: ReplicaState): void {
  const { handOver } = state;
  if (handOver === null || handOver.sent || state.commitEnd < state.logEnd) return;
  if (state.peers[handOver.to]!.match < state.logEnd) return;
  handOver.sent = true;
  sendTransfer(state, handOver.to);
}

function sendTransfer(state: ReplicaState, to: number): void {
  const targetTerm = nextTermOf(to, state.term, state.replicationFactor);
  state.send(to, { kind: "transferTerm", term: state.term, targetTerm });
}
