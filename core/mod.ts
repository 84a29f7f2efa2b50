/**
 * The segment engine: what the outside may use.
 *
 * @module
 */
export { checkFolder, type CheckReport, type FoundProblem } from "./check.ts";
export { Database, type DatabaseOptions, makeDataFolder, openDatabase } from "./database.ts";
export { type Environment, type Log, systemEnvironment } from "./environment.ts";
export * from "./errors.ts";
export type { AppendedEvent, AppendResult, EventRecord, NewEvent, Transaction } from "./event.ts";
export { EVENT_NAME_BYTES_MAX, STREAM_ID_BYTES_MAX, TIMESTAMP_MS_MAX, TRANSACTION_BYTES_MAX } from "./event.ts";
export { type Disk, type DiskFile, systemDisk } from "./log/disk.ts";
export { OverlayDisk } from "./log/overlay_disk.ts";
export { MemoryStore } from "./memory_store.ts";
export {
  type ClusterStatus,
  type EventStore,
  type Freshness,
  type PartitionSelection,
  type ReadOptions,
  Scan,
  type Selection,
  type Start,
  type StoreStatus,
  type StreamOptions,
  type StreamSelection,
  Subscription,
} from "./store.ts";
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
} from "./typed.ts";
export { isWhole, repairFolder, type RepairOptions, type RepairReport } from "./repair.ts";
export type { ExpectedVersion } from "./version.ts";
