/**
 * Stores that do something wrong, or that are others than they seem, for the proof that the world would notice.
 *
 * @module
 */
import type { EventRecord } from "../event.ts";
import { type EventStore, Scan, type Selection, Subscription } from "../store.ts";

/** A store with other answers to some calls. */
export function storeOver(store: EventStore, other: Partial<EventStore>): EventStore {
  return {
    partitionCount: store.partitionCount,
    append: (transaction) => store.append(transaction),
    event: (id) => store.event(id),
    readStream: (streamId, options) => store.readStream(streamId, options),
    readPartition: (partition, options) => store.readPartition(partition, options),
    subscribe: (selection) => store.subscribe(selection),
    streamVersion: (streamId, options) => store.streamVersion(streamId, options),
    partitionSequence: (partition) => store.partitionSequence(partition),
    partitionOfKey: (key) => store.partitionOfKey(key),
    status: () => store.status(),
    close: () => store.close(),
    [Symbol.asyncDispose]: () => store.close(),
    ...other,
  };
}

/** A scan with other pages. */
export function scanOver(scan: Scan, change: (page: EventRecord[]) => EventRecord[]): Scan {
  return new Scan(async function* () {
    for await (const page of scan.pages()) yield change(page);
  });
}

/** A store with other subscriptions. */
export function subscriptionsOver(
  store: EventStore,
  over: (subscription: Subscription, selection: Selection) => Subscription,
): EventStore {
  return storeOver(store, { subscribe: async (selection) => over(await store.subscribe(selection), selection) });
}

export function subscriptionOver(
  subscription: Subscription,
  other: Partial<Pick<Subscription, "read" | "ready" | "lag">>,
): Subscription {
  return new class extends Subscription {
    override get closed() {
      return subscription.closed;
    }
    override read = (limit?: number) => (other.read ?? ((limit) => subscription.read(limit)))(limit);
    override ready = () => (other.ready ?? (() => subscription.ready()))();
    override lag = () => (other.lag ?? (() => subscription.lag()))();
    override close = () => subscription.close();
  }();
}
