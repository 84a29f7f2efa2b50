/**
 * The suite of every store, once more through a socket: our client, our listener, and a database behind them.
 *
 * @module
 */
import { openDatabase } from "../core/database.ts";
import type { AppendResult, EventRecord, Transaction } from "../core/event.ts";
import { MemoryDisk } from "../core/log/memory_disk.ts";
import { SeededEnvironment } from "../core/seeded_environment.ts";
import type {
  EventStore,
  Freshness,
  ReadOptions,
  Scan,
  Selection,
  StoreStatus,
  StreamOptions,
  Subscription,
} from "../core/store.ts";
import { storeSuite } from "../core/store_suite.ts";
import { type Client, connect } from "./client/mod.ts";
import { listen, type Listener } from "./mod.ts";

const SEGMENT_BYTES = 1.5 * 1024 * 1024;

/** The client as the port. What no client is told, the status, is that of the store behind. */
class SocketStore implements EventStore {
  private constructor(readonly behind: EventStore, readonly listener: Listener, readonly client: Client) {}

  static async over(behind: EventStore): Promise<SocketStore> {
    const listener = listen(behind, { hostname: "127.0.0.1", port: 0, version: "0", peerId: "test" });
    return new SocketStore(behind, listener, await connect(listener));
  }

  get partitionCount(): number {
    return this.client.partitionCount;
  }

  append(transaction: Transaction): Promise<AppendResult> {
    return this.client.append(transaction);
  }

  event(eventId: string, freshness?: Freshness): Promise<EventRecord | null> {
    return this.client.event(eventId, freshness);
  }

  readStream(streamId: string, options?: ReadOptions & StreamOptions): Scan {
    return this.client.readStream(streamId, options);
  }

  readPartition(partition: number, options?: ReadOptions): Scan {
    return this.client.readPartition(partition, options);
  }

  subscribe(selection: Selection, freshness?: Freshness): Promise<Subscription> {
    return this.client.subscribe(selection, freshness);
  }

  streamVersion(streamId: string, options?: StreamOptions & Freshness): Promise<number | null> {
    return this.client.streamVersion(streamId, options);
  }

  partitionSequence(partition: number, freshness?: Freshness): Promise<number | null> {
    return this.client.partitionSequence(partition, freshness);
  }

  partitionOfKey(partitionKey: string): number {
    return this.client.partitionOfKey(partitionKey);
  }

  status(): StoreStatus {
    return this.behind.status();
  }

  async close(): Promise<void> {
    await this.client.close();
    await this.listener.close();
    await this.behind.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

storeSuite("database through a socket", async () => {
  const options = {
    dir: "/data",
    segmentBytes: SEGMENT_BYTES,
    journalBytes: 256 * 1024,
    disk: new MemoryDisk(),
    environment: new SeededEnvironment(1),
  };
  const open = async () => await SocketStore.over(await openDatabase(options));
  return { store: await open(), reopen: open, now: () => options.environment.nowMs };
});
