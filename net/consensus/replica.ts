/**
 * One replica of one bucket: picks the chapter. It is told what happened and says what is to be done; it waits for
 * nothing, asks no clock and draws no chance, so that the same inputs give the same effects.
 *
 * @module
 */
import {
  ask,
  mayBeRecovered,
  onNack,
  onRecover,
  onRecoverChallenge,
  onRecoverReply,
  onRecoverRequest,
  tickRecovering,
} from "./catch_up.ts";
import type { Effect, Input } from "./effect.ts";
import type { Message, Sender } from "./message.ts";
import { agrees, insist, ReplicaState } from "./replica_state.ts";
import {
  onAck,
  onAppend,
  onAppended,
  onHeartbeat,
  onHeartbeatReply,
  onLost,
  onReadEnd,
  onSynced,
} from "./replication.ts";
import {
  collect,
  follows,
  mayBeAdopted,
  mayHandOver,
  mayServe,
  onChunk,
  onFetch,
  onHandOver,
  onNewTerm,
  onNudge,
  onPreVote,
  onPreVoteReply,
  onPromise,
  onStale,
  onTransferTerm,
  tickChange,
  tickFollower,
  tickLeader,
} from "./term_change.ts";

/** The term in which a replica is that has no others. Nothing is sent, so nothing can be confused. */
const TERM_ALONE = 1;

/** The first step of a process. All of the log that was found is durable: the driver synced it. */
export function start(state: ReplicaState, now: number): Effect[] {
  const effects = state.effects = [] as Effect[];
  if (state.role === "recovering") {
    ask(state, false, now);
  } else if (state.replicationFactor === 1) {
    const term = Math.max(TERM_ALONE, state.term, state.lastTerm);
    state.hard = { ...state.hard, term, startedTerm: term };
    state.role = "serving";
    effects.push({ kind: "serve", term });
    state.raiseCommit(state.durableEnd);
  }
  state.finish();
  state.check();
  return effects;
}

/** One step. The effects are to be carried out in their order before the next step. */
export function step(state: ReplicaState, input: Input, now: number): Effect[] {
  const effects = state.effects = [] as Effect[];
  switch (input.kind) {
    case "message":
      onMessage(state, input.from, input.message, now);
      break;
    case "appended":
      onAppended(state, input.entries);
      break;
    case "synced":
      state.noteSynced(input.number);
      onSynced(state);
      break;
    case "tick":
      onTick(state, now);
      break;
    case "suspected":
      state.suspectedSlots = input.slots & ~(1 << state.slot);
      break;
    case "lost":
      onLost(state, input.slot, input.from);
      break;
    case "handOver":
      onHandOver(state, now);
      break;
    case "recover":
      onRecover(state, input.dataId, input.forced, now);
      break;
    case "readEnd":
      onReadEnd(state, input.token, now);
      break;
  }
  switch (state.role) {
    case "collecting":
      collect(state, now);
      break;
    case "adopting":
      mayBeAdopted(state, now);
      break;
    case "opening":
      mayServe(state);
      break;
    case "serving":
      mayHandOver(state);
      break;
    case "recovering":
      mayBeRecovered(state);
      break;
  }
  state.finish();
  state.check();
  return effects;
}

function onTick(state: ReplicaState, now: number): void {
  switch (state.role) {
    case "follower":
    case "asking":
      return tickFollower(state, now);
    case "collecting":
    case "adopting":
      return tickChange(state, now);
    case "opening":
    case "serving":
      if (state.replicationFactor > 1) tickLeader(state, now);
      return;
    case "recovering":
      return tickRecovering(state, now);
  }
}

function onMessage(state: ReplicaState, from: Sender, message: Message, now: number): void {
  insist(from.slot !== state.slot && from.slot < state.replicationFactor, "a message of no other replica");
  // These are between replicas of which one does not know the other.
  if (message.kind === "recoverRequest") return onRecoverRequest(state, from, message);
  if (message.kind === "recoverChallenge") return onRecoverChallenge(state, from.slot, message);
  if (message.kind === "quarantine") return onQuarantine(state, from, message);
  if (!state.knows(from)) {
    const why = state.hard.retired.includes(from.dataId) ? "lost" : "unknown";
    return state.send(from.slot, { kind: "quarantine", dataId: from.dataId, why });
  }
  switch (message.kind) {
    case "append":
      if (follows(state, from, message.term, now)) onAppend(state, message);
      return;
    case "ack":
      return onAck(state, from, message);
    case "nack":
      return onNack(state, from, message);
    case "heartbeat":
      if (follows(state, from, message.term, now)) onHeartbeat(state, message);
      return;
    case "heartbeatReply":
      return onHeartbeatReply(state, from, message);
    case "commitNote":
      if (agrees(state, message.end, message.chain)) state.raiseCommit(message.end);
      return;
    case "chunk":
      return onChunk(state, from, message, now);
    case "stale":
      return onStale(state, message.term, now);
    case "recoverReply":
      return onRecoverReply(state, from, message, now);
  }
  if (state.role === "recovering") return; // The others ask for what it cannot answer for.
  switch (message.kind) {
    case "preVote":
      return onPreVote(state, from, message.wantedTerm, now);
    case "preVoteReply":
      return onPreVoteReply(state, from, message, now);
    case "nudge":
      return onNudge(state, message.wantedTerm, now);
    case "newTerm":
      return onNewTerm(state, from, message, now);
    case "promise":
      return onPromise(state, from, message, now);
    case "fetch":
      return onFetch(state, from.slot, message);
    case "transferTerm":
      return onTransferTerm(state, from, message, now);
  }
}

/** Somebody does not count this replica. */
function onQuarantine(
  state: ReplicaState,
  from: Sender,
  { dataId, why }: { dataId: number; why: "unknown" | "lost" },
): void {
  if (dataId !== state.hard.dataId) return; // Of a disk that it has no more.
  if (why === "unknown" && !state.hard.founder) {
    // It recovered while that one was not there, or is about to: the new id was not heard of yet.
    if (state.role !== "recovering") state.send(from.slot, { kind: "recoverRequest", nonce: 0, challenge: 0 });
    return;
  }
  if (state.isLeader) state.effects.push({ kind: "stepDown", term: state.term });
  state.role = "recovering";
  state.recovery = null;
  state.adoption = null;
  if (state.hard.mode === "normal") state.persist({ mode: "recovering" });
  const reason = why === "lost"
    ? `slot ${from.slot} says that this replica has less than it had`
    : `slot ${from.slot} knows another disk of this replica`;
  state.effects.push({ kind: "quarantined", reason });
}
