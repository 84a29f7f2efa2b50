/**
 * Chapter 3: a replica is behind, diverged, or lost what it had.
 *
 * Behind or diverged is one thing: the leader finds the end up to which both logs are equal, and sends from there on.
 * It goes back by whole terms, at the word of the follower, and never below what that has committed.
 *
 * A replica that lost what it had (another disk, a damaged log, a copy of last week) may have promised and acknowledged
 * what it knows nothing of any more. It says so with a new data id, and counts for nothing until
 *
 * 1  a majority of the configured replicas, itself not among them, has written down the new id, so that nothing that
 *    the lost disk ever said can be counted any more,
 * 2  one of them leads and serves in the highest term that any of them knows, and
 * 3  the log of that one, as it was when it answered, is durable here.
 *
 * Two replicas are too few for that. There an operator may force it: then all others must answer, and the best of their
 * logs is taken; what was committed is in each.
 *
 * @module
 */
import type { Nack, RecoverReply, Sender } from "./message.ts";
import { insistOnId, type ReplicaState, retire } from "./replica_state.ts";
import { acknowledge, isAnswered, stream } from "./replication.ts";
import { fetch, takeTerm } from "./term_change.ts";

// ---- Behind or diverged ------------------------------------------------------------------------------------------------

export function onNack(state: ReplicaState, from: Sender, nack: Nack): void {
  const peer = isAnswered(state, from, nack.term);
  if (peer === null || nack.from <= peer.match) return;
  // Of many that were under way the first says it for all.
  if (peer.probing ? nack.from !== peer.probeFrom : nack.from > peer.next) return;
  peer.probe(Math.max(endToTry(state, nack), nack.commitEnd, peer.match));
  stream(state, from.slot, peer);
}

/** The largest end up to which the logs can be equal, by what the follower says of its own. */
function endToTry({ terms, logEnd }: ReplicaState, nack: Nack): number {
  const end = Math.min(nack.end, logEnd);
  if (end === 0) return 0;
  if (end === nack.end && terms.before(end) === nack.endTerm) return end;
  return Math.min(end, terms.endOf(nack.endTerm, logEnd) ?? nack.endTermFrom);
}

// ---- Lost --------------------------------------------------------------------------------------------------------------

/** What is left goes on under a new id. */
export function onRecover(state: ReplicaState, dataId: number, forced: boolean, now: number): void {
  insistOnId("data id", dataId);
  takeTerm(state, state.term, null, now); // Whatever it was about to do, it does no more.
  state.role = "recovering";
  state.persist({ dataId, mode: "recovering", founder: false });
  ask(state, forced, now);
}

/** Asks all others, from the beginning. */
export function ask(state: ReplicaState, forced: boolean, now: number): void {
  const nonce = (state.recovery?.nonce ?? 0) + 1;
  state.recovery = { nonce, term: 0, end: 0, known: false, forced };
  state.adoption = null;
  for (const peer of state.peers) if (peer !== null) peer.recovery = null;
  state.sendToAll({ kind: "recoverRequest", nonce: nonce + state.boot, challenge: 0 });
  state.askAgainAt = now + state.timing.changeMs;
}

export function tickRecovering(state: ReplicaState, now: number): void {
  const { recovery } = state;
  if (recovery === null) return; // A new id is waited for.
  if (state.askAgainAt > now + 2 * state.timing.changeMs) state.askAgainAt = now; // The clock went back.
  if (!recovery.known) {
    if (now >= state.askAgainAt) ask(state, recovery.forced, now);
    return;
  }
  if (recovery.term !== state.term) return ask(state, recovery.forced, now); // What is known is of a term that is over.
  if (state.adoption !== null && now >= state.askAgainAt) ask(state, recovery.forced, now);
}

/**
 * Another disk in that slot: it is written down before it is answered. But a request that is late must not bring back a
 * disk that came and went in the meantime, so whoever asks has to show that it is there.
 */
export function onRecoverRequest(
  state: ReplicaState,
  from: Sender,
  { nonce, challenge }: { nonce: number; challenge: number },
): void {
  const { slot, dataId } = from;
  if (state.hard.retired.includes(dataId)) {
    return state.send(slot, { kind: "quarantine", dataId, why: "lost" });
  }
  if (state.hard.dataIds[slot] !== dataId) {
    const peer = state.peers[slot]!;
    if (peer.challengedId !== dataId || peer.challenge !== challenge) {
      if (peer.challengedId !== dataId) peer.challenge = state.boot + ++state.challenges;
      peer.challengedId = dataId;
      return state.send(slot, { kind: "recoverChallenge", dataId, nonce, challenge: peer.challenge });
    }
    peer.challengedId = 0;
    retire(state, slot, dataId);
  }
  if (state.role === "recovering") return;
  const serving = state.role === "serving";
  const end = state.isLeader ? state.logEnd : state.durableEnd;
  state.send(slot, {
    kind: "recoverReply",
    nonce,
    term: state.term,
    serving,
    end,
    lastTerm: state.terms.before(end),
  });
}

export function onRecoverChallenge(
  state: ReplicaState,
  slot: number,
  { dataId, nonce, challenge }: { dataId: number; nonce: number; challenge: number },
): void {
  if (dataId === state.hard.dataId) state.send(slot, { kind: "recoverRequest", nonce, challenge });
}

export function onRecoverReply(state: ReplicaState, from: Sender, reply: RecoverReply, now: number): void {
  const { recovery } = state;
  if (state.role !== "recovering" || recovery === null || recovery.known) return;
  if (reply.nonce !== recovery.nonce + state.boot) return;
  state.peers[from.slot]!.recovery = reply;
  const replies = state.peers.flatMap((peer, slot) => peer?.recovery ? [{ slot, ...peer.recovery }] : []);
  const term = Math.max(...replies.map((reply) => reply.term));
  const leader = replies.find((reply) => reply.serving && reply.term === term);
  if (leader !== undefined && replies.length >= state.majority) {
    Object.assign(recovery, { term, end: leader.end, known: true });
    if (term > state.term) takeTerm(state, term, null, now);
    return;
  }
  if (!recovery.forced || replies.length < state.replicationFactor - 1) return;
  // They cannot come to this replica's term without its vote, which it cannot give: it tells them.
  if (term < state.term) return state.sendToAll({ kind: "stale", term: state.term });
  const best = replies.reduce((a, b) => b.lastTerm > a.lastTerm || b.lastTerm === a.lastTerm && b.end > a.end ? b : a);
  if (best.term !== term) return;
  Object.assign(recovery, { term, end: best.end, known: true });
  if (term > state.term) takeTerm(state, term, null, now);
  state.adoption = { from: best.slot, end: best.end, next: state.commitEnd, chain: null, askedAt: now };
  state.askAgainAt = now + 2 * state.timing.changeMs;
  fetch(state, now);
}

/** Counts again once it has what it has to have. */
export function mayBeRecovered(state: ReplicaState): void {
  const { recovery, adoption } = state;
  if (state.role !== "recovering" || recovery === null || !recovery.known || recovery.term !== state.term) return;
  const end = Math.min(adoption === null ? state.verifiedEnd : adoption.next, state.durableEnd);
  if (end < recovery.end || adoption === null && !state.hasLeader) return;
  state.recovery = null;
  state.adoption = null;
  state.role = "follower";
  state.persist({ mode: "normal" });
  state.effects.push({ kind: "recovered" });
  if (state.hasLeader) acknowledge(state, state.leaderSlot);
}
