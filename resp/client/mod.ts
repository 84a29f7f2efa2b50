/**
 * The client of an Esker server, for Deno, Node and Bun: `connect` gives what `open` gives for an embedded store, so
 * that a program moves from one to the other by one line.
 *
 * ```ts ignore
 * import { connect, WrongExpectedVersion } from "./mod.ts";
 *
 * await using store = await connect("esker://127.0.0.1:9090");
 *
 * await store.append({ events: [{ streamId: "user-123", name: "UserCreated", expectedVersion: "empty" }] });
 *
 * // All that there is, and then all that comes.
 * for await (const event of await store.subscribe({ partitions: "all", from: 0 })) {
 *   console.log(event.partition, event.sequence, event.name);
 * }
 * ```
 *
 * It has a connection and a decoder of its own, because no Redis client of npm hands over what a server pushes outside
 * of Redis' own channels: ioredis 6 takes a `subscribe` push for a reply, and of a `message` keeps the cursor and drops
 * the event; node-redis has no public hook for them. And a link that is lost must not lose anything: an append is sent
 * again by its event id, and a subscription goes on behind the last event that was taken from it.
 *
 * It is built on `node:net` alone, and has no native parts.
 *
 * @module
 */
export * from "../../core/errors.ts";
export type { AppendedEvent, AppendResult, EventRecord, NewEvent, Transaction } from "../../core/event.ts";
export {
  type EventStore,
  type Freshness,
  type PartitionSelection,
  type ReadOptions,
  Scan,
  type Selection,
  type Start,
  type StreamOptions,
  type StreamSelection,
  Subscription,
} from "../../core/store.ts";
export {
  type EventShape,
  type NewStreamEvent,
  type NewTypedEvent,
  NotJson,
  typed,
  type TypedAppendOptions,
  type TypedEvent,
  typedEvent,
  type TypedSource,
  TypedStore,
  TypedSubscription,
} from "../../core/typed.ts";
export type { ExpectedVersion } from "../../core/version.ts";
export { Client, connect, type ConnectOptions } from "./client.ts";
export type { Address } from "./link.ts";
export { ConnectionLost } from "./reconnecting.ts";
export { BrokenReply } from "./reply_decoder.ts";
export { ServerError } from "./reply_errors.ts";
