/**
 * This node as its router sees it: the store with its replicas on the engine.
 *
 * @module
 */
import type { AppendReceiver, Transaction } from "../core/event.ts";
import { Damaged } from "../core/errors.ts";
import { bucketOf } from "../core/placement.ts";
import type { EventStore } from "../core/store.ts";
import type { Chain } from "./consensus/entries.ts";
import type { ClusterShape } from "./consensus/topology.ts";
import type { Driver } from "./driver.ts";
import type { LocalNode, LocalReplica } from "./local.ts";

/** In the place of a chain that cannot be read. No log has it but by chance, and it is a hint only. */
const NO_CHAIN: Chain = { low: 0, high: 0 };

export class DrivenNode implements LocalNode {
  constructor(readonly driver: Driver, readonly shape: ClusterShape) {}

  get store(): EventStore {
    return this.driver.store;
  }

  get boot(): number {
    return this.driver.boot;
  }

  replica(bucket: number): LocalReplica | null {
    const { driver } = this;
    const view = driver.replica(bucket);
    if (view === null) return null;
    return {
      ...view,
      dataId: driver.dataId(bucket),
      get commitChain() {
        try {
          return driver.chainAt(bucket, view.commitEnd);
        } catch (error) {
          if (!(error instanceof Damaged)) throw error;
          return NO_CHAIN;
        }
      },
    };
  }

  leaderOf(bucket: number): { node: number; term: number } | null {
    return this.driver.leaderOf(bucket);
  }

  append(transaction: Transaction, receiver: AppendReceiver): void {
    this.driver.store.appendFor(transaction, receiver);
  }

  readEnd(bucket: number): Promise<number | null> {
    return this.driver.readEnd(bucket);
  }

  committed(bucket: number, end: number, msMax: number): Promise<boolean> {
    return this.driver.committed(bucket, end, msMax);
  }

  readable(partition: number, sequence: number, msMax: number): Promise<boolean> {
    const number = bucketOf(partition, this.shape.bucketCount);
    const bucket = this.driver.store.replicated(number);
    return this.driver.whenCommitted(number, () => bucket.nextSequence(partition) > sequence, msMax);
  }

  commitNote(bucket: number, end: number, chain: Chain): void {
    this.driver.commitNote(bucket, end, chain);
  }

  suspected(bucket: number, slots: number): void {
    this.driver.suspected(bucket, slots);
  }
}
