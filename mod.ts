/**
 * Esker embedded: open a store in your own Deno program, without a server.
 *
 * ```ts
 * import { open, WrongExpectedVersion } from "./mod.ts";
 *
 * await using store = await open({ memory: true });
 *
 * const { events } = await store.append({
 *   events: [{ streamId: "user-123", name: "UserCreated", payload: JSON.stringify({ name: "Alice" }) }],
 * });
 * console.log(events[0]!.version); // 0
 *
 * for await (const event of store.readStream("user-123")) {
 *   console.log(event.version, event.name, new TextDecoder().decode(event.payload));
 * }
 *
 * try {
 *   await store.append({ events: [{ streamId: "user-123", name: "UserCreated", expectedVersion: "empty" }] });
 * } catch (error) {
 *   if (!(error instanceof WrongExpectedVersion)) throw error;
 *   console.log(`somebody was faster: the stream is at ${error.current}`);
 * }
 * ```
 *
 * Several streams in one transaction share a partition key:
 *
 * ```ts
 * import { open } from "./mod.ts";
 *
 * await using store = await open({ memory: true });
 * const partitionKey = crypto.randomUUID();
 * await store.append({
 *   partitionKey,
 *   events: [
 *     { streamId: "account-1", name: "Withdrawn", payload: "100", expectedVersion: "empty" },
 *     { streamId: "account-2", name: "Deposited", payload: "100", expectedVersion: "empty" },
 *   ],
 * });
 * console.log(await store.streamVersion("account-2", { partitionKey })); // 0
 * ```
 *
 * On a disk, a store is a folder that one process has open at a time:
 *
 * ```ts
 * import { open } from "./mod.ts";
 *
 * const dir = await Deno.makeTempDir();
 * {
 *   await using store = await open({ dir: `${dir}/data`, journalBytes: 1024 * 1024 });
 *   await store.append({ events: [{ streamId: "order-7", name: "OrderPlaced" }] });
 * }
 * await using store = await open({ dir: `${dir}/data`, journalBytes: 1024 * 1024 });
 * console.log(await store.streamVersion("order-7")); // 0
 * ```
 *
 * @module
 */
import { type DatabaseOptions, type EventStore, MemoryStore, openDatabase } from "./core/mod.ts";

export * from "./core/mod.ts";

/** A store that forgets all when it is closed: for tests. */
export interface MemoryOptions {
  memory: true;
  /** 32 when left out. */
  partitionCount?: number;
}

/**
 * Opens the store in a data folder, which is made if it is missing, or one in memory.
 *
 * A program that opens a folder needs permission to read and write it, and to read the folder above it if it is to be
 * made. Should a sync fail, nobody can say any more what is stored: the program is ended by an error that nothing catches.
 *
 * @throws {FolderInUse} another process has the folder open
 * @throws {FolderMismatch} the folder was made with other settings
 * @throws {Damaged} the folder is not what was written
 */
export function open(options: DatabaseOptions | MemoryOptions): Promise<EventStore> {
  if (!("memory" in options)) return openDatabase(options);
  const { partitionCount } = options;
  return Promise.resolve(new MemoryStore(partitionCount === undefined ? {} : { partitionCount }));
}
