/**
 * Chapter 1: append, acknowledge, commit.
 *
 *     leader      appended ─► append to all, at once        own sync done ┐
 *     follower                └► write, sync ─► ack  ─────────────────────┴► a majority has it durable: committed
 *
 * The leader sends before its own sync is done and counts itself only up to what it has durable. It sends on without
 * waiting for answers, up to a window. It commits by counting only entries of its own term: those before them are
 * committed with the first of these.
 *
 * A follower takes entries that follow what it has, and cuts off only what was proved to differ from the leader's log.
 *
 * @module
 */
import { type Entries, equalChains } from "./entries.ts";
import type { Ack, Append, Heartbeat, HeartbeatReply, Sender } from "./message.ts";
import {
  agrees,
  broken,
  insist,
  PATIENCE_ROUNDS,
  type Peer,
  quarantine,
  type ReplicaState,
  ROUNDS_REMEMBERED,
} from "./replica_state.ts";

// ---- The leader --------------------------------------------------------------------------------------------------------

/** Why appends cannot be taken now; null when they can. Nothing was appended then. */
export type Refusal = "not leader" | "changing" | "no majority" | "full";

export function refusal(state: ReplicaState, now: number): Refusal | null {
  if (state.role !== "serving") return state.isLeader ? "changing" : "not leader";
  if (state.handOver !== null) return "changing";
  if (state.uncommitted.bytes >= state.limits.uncommittedBytesMax) return "full";
  if (now - state.majorityHeardAt(now) >= state.timing.quorumMs) return "no majority";
  return null;
}

/** The writer of the bucket appended these. */
export function onAppended(state: ReplicaState, entries: Entries): void {
  insist(state.isLeader, "a replica that does not lead appended");
  if (entries.from !== state.logEnd) broken(`appended from ${entries.from} to a log that ends at ${state.logEnd}`);
  if (entries.termAt(entries.from) !== state.term) broken(`appended in term ${state.term}, and of another one`);
  const prevTerm = state.lastTerm;
  const prevChain = state.lastChain;
  state.noteAppended(entries);
  state.uncommitted.push(entries.end, entries.byteLength);
  let append: Append | null = null; // The same for all that have got everything before.
  for (let slot = 0; slot < state.replicationFactor; slot++) {
    const peer = state.peers[slot]!;
    if (peer === null) continue;
    if (peer.next !== entries.from || !hasRoom(state, peer) || entries.byteLength > state.limits.bulkBytes) {
      stream(state, slot, peer);
      continue;
    }
    append ??= {
      kind: "append",
      term: state.term,
      from: entries.from,
      prevTerm,
      prevChain,
      entries,
      commitEnd: state.commitEnd,
      bulk: false,
    };
    sendTo(state, slot, peer, append);
  }
}

function hasRoom({ limits }: ReplicaState, { flight, probing, hasBulk }: Peer): boolean {
  if (probing) return flight.count === 0; // A guess: one at a time.
  return !flight.isFull && flight.bytes < (hasBulk ? limits.bulkWindowBytesMax : limits.windowBytesMax);
}

function sendTo(state: ReplicaState, slot: number, peer: Peer, append: Append): void {
  const { entries: { end, byteLength }, bulk } = append;
  if (peer.flight.count === 0) peer.progressRound = state.round;
  peer.flight.push(end, byteLength);
  peer.next = end;
  if (bulk) peer.bulkEnd = end;
  state.send(slot, append);
}

/** Sends what a follower has not got yet, as far as its window goes. */
export function stream(state: ReplicaState, slot: number, peer: Peer): void {
  while (peer.next < state.logEnd && hasRoom(state, peer)) {
    const from = peer.next;
    const entries = state.log.entries(from, state.limits.messageBytesMax);
    sendTo(state, slot, peer, {
      kind: "append",
      term: state.term,
      from,
      prevTerm: state.terms.before(from),
      prevChain: entries.chainAt(from),
      entries,
      commitEnd: state.commitEnd,
      bulk: entries.end < state.commitEnd || entries.byteLength > state.limits.bulkBytes,
    });
  }
}

/** Of what a slot was sent from there on, some may be lost on the way. */
export function onLost(state: ReplicaState, slot: number, from: number): void {
  const peer = state.isLeader ? state.peers[slot]! : null;
  if (peer === null || from >= peer.next) return;
  sendAgain(peer, from, peer.probeFrom);
  stream(state, slot, peer);
}

function sendAgain(peer: Peer, from: number, probeFrom: number): void {
  if (peer.probing) return peer.probe(probeFrom);
  peer.next = Math.max(peer.match, from);
  peer.flight.clear();
}

/** Whether an answer to a leader is to this one. A follower of a higher term says so by other messages. */
export function isAnswered(state: ReplicaState, from: Sender, term: number): Peer | null {
  if (!state.isLeader || term !== state.term) return null;
  return state.peers[from.slot]!;
}

export function onAck(state: ReplicaState, from: Sender, ack: Ack): void {
  const peer = isAnswered(state, from, ack.term);
  if (peer !== null) noteMatch(state, from.slot, peer, ack.end, ack.recovering);
}

function noteMatch(state: ReplicaState, slot: number, peer: Peer, end: number, recovering: boolean): void {
  if (end > state.logEnd) broken(`slot ${slot} acknowledged ${end} entries: the leader has ${state.logEnd}`);
  peer.recovering = recovering;
  if (end > peer.match) {
    peer.match = end;
    peer.progressRound = state.round;
    peer.patience = PATIENCE_ROUNDS;
  }
  if (peer.probing && end >= peer.probeFrom) peer.probing = false;
  if (peer.next < peer.match) peer.next = peer.match;
  peer.flight.arrived(peer.match);
  stream(state, slot, peer);
  commitByCount(state);
}

/** What a majority has durable is committed, if it is of this term: and all before it. */
export function commitByCount(state: ReplicaState): void {
  const end = state.majorityEnd();
  if (end > state.termFrom) state.raiseCommit(end);
  // What is committed can never be less at whoever has it.
  for (let slot = 0; slot < state.replicationFactor; slot++) {
    const peer = state.peers[slot]!;
    if (peer === null || peer.recovering) continue;
    const held = Math.min(peer.match, state.commitEnd);
    if (held > state.heldEnds[slot]!) state.heldEnds[slot] = held;
  }
}

// ---- The follower ------------------------------------------------------------------------------------------------------

/** Whether the sender leads this replica's term. `replica.ts` has taken over a higher term before. */
export function onAppend(state: ReplicaState, append: Append): void {
  const { from, entries } = append;
  const to = state.leaderSlot;
  if (!agrees(state, from, append.prevChain)) return refuse(state, append);
  if (state.terms.before(from) !== append.prevTerm) broken(`equal chains at ${from}, and other terms`);
  take(state, entries);
  if (entries.end > state.verifiedEnd) state.verifiedEnd = entries.end;
  if (append.commitEnd > state.leaderCommitEnd) state.leaderCommitEnd = append.commitEnd;
  followCommit(state);
  // What is durable already is acknowledged at once: the leader may not have heard the first answer.
  if (Math.min(state.verifiedEnd, state.durableEnd) >= entries.end) acknowledge(state, to);
}

/** Takes entries of which all before is equal here; cuts off what differs from them. */
export function take(state: ReplicaState, entries: Entries): void {
  const { from, end } = entries;
  if (from < state.logEnd) {
    const shared = Math.min(end, state.logEnd);
    if (!equalChains(state.chainAt(shared), entries.chainAt(shared))) {
      // Equal at `low`, not equal at `high`.
      let low = from;
      let high = shared;
      while (high - low > 1) {
        const middle = Math.floor((low + high) / 2);
        if (equalChains(state.chainAt(middle), entries.chainAt(middle))) low = middle;
        else high = middle;
      }
      state.truncate(low);
    }
  }
  if (end > state.logEnd) state.append(from === state.logEnd ? entries : entries.since(state.logEnd));
}

function refuse(state: ReplicaState, { from }: Append): void {
  // The end that could be equal: its own, or what is before the entry that differs.
  const end = Math.min(from - 1, state.logEnd);
  const endTerm = state.terms.before(end);
  state.send(state.leaderSlot, {
    kind: "nack",
    term: state.term,
    from,
    end,
    endTerm,
    endTermFrom: state.terms.startOf(endTerm) ?? 0,
    commitEnd: state.commitEnd,
  });
}

/** To the leader: what is equal to its log, and durable. */
export function acknowledge(state: ReplicaState, to: number): void {
  const end = Math.min(state.verifiedEnd, state.durableEnd);
  state.ackedEnd = end;
  state.send(to, { kind: "ack", term: state.term, end, recovering: state.role === "recovering" });
}

/** A follower's commit: what the leader committed of that in which the logs are known to be equal. */
export function followCommit(state: ReplicaState): void {
  state.raiseCommit(Math.min(state.leaderCommitEnd, state.verifiedEnd));
}

/** A sync came back. */
export function onSynced(state: ReplicaState): void {
  if (state.isLeader) return commitByCount(state);
  if (!state.hasLeader) return;
  followCommit(state);
  if (Math.min(state.verifiedEnd, state.durableEnd) > state.ackedEnd) acknowledge(state, state.leaderSlot);
}

// ---- Heartbeats --------------------------------------------------------------------------------------------------------

/** To all followers: I lead, this is my log, and this is committed of it. */
export function beat(state: ReplicaState, now: number): void {
  state.nextHeartbeatAt = now + state.timing.heartbeatMs;
  const round = ++state.round;
  state.roundsSentAt[round % ROUNDS_REMEMBERED] = now;
  const heartbeat: Heartbeat = {
    kind: "heartbeat",
    term: state.term,
    round,
    end: state.logEnd,
    chain: state.lastChain,
    commitEnd: state.commitEnd,
    heldEnds: state.heldEnds.slice(),
  };
  for (let slot = 0; slot < state.replicationFactor; slot++) {
    const peer = state.peers[slot]!;
    if (peer === null) continue;
    // One question at a time is kept, so that it is answered even where the way takes longer than a round.
    if (peer.askedRound <= peer.round || round - peer.askedRound > ROUNDS_WAITED) {
      peer.askedRound = round;
      peer.askedNext = peer.next;
      peer.askedHeld = peer.recovering ? 0 : state.heldEnds[slot]!;
    }
    state.send(slot, heartbeat);
  }
}

const PATIENCE_ROUNDS_MAX = 160;
/** What a line carries at least, from one heartbeat to the next. */
const BYTES_A_ROUND = 512 * 1024;

/** Until a round that is not answered is given up as lost. */
const ROUNDS_WAITED = 10;

export function onHeartbeat(state: ReplicaState, heartbeat: Heartbeat): void {
  const { end, heldEnds } = heartbeat;
  if (end > state.verifiedEnd && agrees(state, end, heartbeat.chain)) state.verifiedEnd = end;
  if (heartbeat.commitEnd > state.leaderCommitEnd) state.leaderCommitEnd = heartbeat.commitEnd;
  for (let i = 0; i < heldEnds.length; i++) if (heldEnds[i]! > state.heldEnds[i]!) state.heldEnds[i] = heldEnds[i]!;
  followCommit(state);
  state.send(state.leaderSlot, {
    kind: "heartbeatReply",
    term: state.term,
    round: heartbeat.round,
    end: state.logEnd,
    verifiedEnd: state.verifiedEnd,
    durableEnd: state.durableEnd,
    recovering: state.role === "recovering",
  });
}

export function onHeartbeatReply(state: ReplicaState, from: Sender, reply: HeartbeatReply): void {
  const peer = isAnswered(state, from, reply.term);
  if (peer === null) return;
  const { slot } = from;
  if (reply.round > peer.round) {
    peer.round = reply.round;
    // It followed when this went out. When the answer came says nothing: it may have been under way for long.
    if (state.round - reply.round < ROUNDS_REMEMBERED) {
      peer.heardAt = state.roundsSentAt[reply.round % ROUNDS_REMEMBERED]!;
    }
  }
  let isLost = false;
  if (peer.askedRound > 0 && reply.round >= peer.askedRound) {
    // It was asked after it had acknowledged this much. If it has less now, it lost what it had.
    if (!reply.recovering && reply.durableEnd < peer.askedHeld) return quarantine(state, from);
    // What was sent before the question and is not there when it is answered was lost on the way, if it was not overtaken.
    isLost = !peer.hasBulk && reply.verifiedEnd < peer.askedNext && peer.next >= peer.askedNext;
    peer.askedRound = 0;
    peer.askedNext = 0;
  }
  const patience = peer.patience + Math.floor(peer.flight.bytes / BYTES_A_ROUND);
  if (peer.hasBulk && peer.flight.count > 0 && state.round - peer.progressRound >= patience) {
    isLost = true;
    peer.progressRound = state.round;
    peer.patience = Math.min(2 * peer.patience, PATIENCE_ROUNDS_MAX); // It may just be slow.
  }
  if (isLost) sendAgain(peer, reply.verifiedEnd, Math.min(peer.probeFrom, reply.end));
  noteMatch(state, slot, peer, Math.min(reply.verifiedEnd, reply.durableEnd), reply.recovering);
  answerReads(state);
}

// ---- Reads -------------------------------------------------------------------------------------------------------------

/** What is committed now is all that was acknowledged, if this replica still leads: a majority has to say so. */
export function onReadEnd(state: ReplicaState, token: number, now: number): void {
  if (state.role !== "serving") return void state.effects.push({ kind: "readEnd", token, end: null });
  beat(state, now);
  state.reads.push({ token, round: state.round, end: state.commitEnd });
  answerReads(state);
}

export function answerReads(state: ReplicaState): void {
  if (state.reads.length === 0) return;
  const round = state.majorityRound();
  while (state.reads.length > 0 && state.reads[0]!.round <= round) {
    const { token, end } = state.reads.shift()!;
    state.effects.push({ kind: "readEnd", token, end });
  }
}
