/**
 * A whole node for the simulator, all but its sockets: the engine's node, and on it the store that answers for all nodes,
 * over links of the simulated network.
 *
 * @module
 */
import type { Chance } from "../../core/chance.ts";
import {
  Damaged,
  DiskFull,
  NoReplica,
  OutcomeUnknown,
  StoreClosed,
  TooFewReplicas,
  TryAgain,
  WrongExpectedVersion,
} from "../../core/errors.ts";
import type { Subscription } from "../../core/store.ts";
import { bucketOf } from "../../core/placement.ts";
import { ClusterStore } from "../cluster.ts";
import { dispatched } from "../dispatcher.ts";
import type { Driver } from "../driver.ts";
import { DrivenNode } from "../local_node.ts";
import type { Packet } from "../messages.ts";
import { ReplicaLinks } from "../replica_links.ts";
import type { RouterSettings } from "../router.ts";
import type { Transport, TransportHandlers } from "../transport.ts";
import { EngineMachine, EngineNode } from "./engine_node.ts";
import type { Answer, AppendRequest } from "./node.ts";

/** How the nodes of a story are set. */
export interface StoreSettings {
  readonly router: Partial<RouterSettings>;
  readonly followMs: number;
  /** What replicas say goes over the links as well, and not over the network that loses and doubles single packets. */
  readonly replicasOverLinks: boolean;
}

export function storeSettingsOf(chance: Chance): StoreSettings {
  return {
    router: {
      commandMs: chance.pick([400, 1500, 10_000]),
      answerMs: chance.pick([700, 5000]),
      freshMs: chance.pick([20, 300]),
    },
    followMs: chance.pick([400, 10_000]),
    replicasOverLinks: chance.oneIn(4),
  };
}

/** The process is killed after a second. */
const HAND_OVER_MS = 600;

export class StoreMachine extends EngineMachine {
  constructor(
    number: number,
    shape: ConstructorParameters<typeof EngineMachine>[1],
    chance: Chance,
    settings: StoreSettings,
  ) {
    super(number, shape, chance, (...args) => new StoreNode(settings, ...args));
  }
}

export class StoreNode extends EngineNode {
  /** Null until it is open. */
  #store: ClusterStore | null = null;
  readonly #settings: StoreSettings;
  #links: ReplicaLinks | null = null;
  #transport: Transport | null = null;
  readonly #subscriptions = new Set<Subscription>();

  constructor(settings: StoreSettings, ...args: ConstructorParameters<typeof EngineNode>) {
    super(...args);
    this.#settings = settings;
  }

  override get store(): ClusterStore | null {
    return this.#store;
  }

  override get subscriptions(): number {
    return [...this.#subscriptions].filter(({ closed }) => !closed).length;
  }

  protected override send(to: number, packet: Packet): void {
    if (!this.#settings.replicasOverLinks) super.send(to, packet);
    else this.#links?.send(to, packet);
  }

  protected override begin(): void {
    this.#transport = this.surroundings.transport();
    const { shape } = this;
    const receive = (packet: Packet) => this.receive(packet);
    const lost = (bucket: number, to: number, from: number) => this.lost(bucket, to, from);
    this.#links = new ReplicaLinks({ shape, transport: this.#transport, log: () => {}, receive, lost });
  }

  protected override async opened(driver: Driver): Promise<void> {
    const { shape, surroundings, environment, timers } = this;
    const transport = this.#transport!;
    this.#countSubscriptions(driver);
    const store = new ClusterStore({
      ...{ shape, transport, timers, local: new DrivenNode(driver, shape) },
      environment: { ...environment, monotonic: () => surroundings.monotonic() },
      nodes: Array.from({ length: shape.nodeCount }, (_, node) => ({ peerId: `peer ${node}`, addresses: [] })),
      settings: this.#settings.router,
      followMs: this.#settings.followMs,
    });
    const nothing: Omit<TransportHandlers, "broadcast"> = {
      message: () => {
        throw new Error("Replicas do not talk over links here");
      },
      linkUp() {},
      linkDown() {},
      writable() {},
    };
    const replicas = this.#settings.replicasOverLinks ? this.#links!.handlers : nothing;
    await transport.start(dispatched(replicas, store.handlers));
    store.start();
    this.#store = store;
  }

  #countSubscriptions({ store }: Driver): void {
    const subscribe = store.subscribe.bind(store);
    store.subscribe = async (...args) => {
      const subscription = await subscribe(...args);
      for (const one of this.#subscriptions) if (one.closed) this.#subscriptions.delete(one);
      this.#subscriptions.add(subscription);
      return subscription;
    };
  }

  /** As a program that is asked to end: it gives away what it leads, and then takes nothing more. */
  override handOver(): void {
    void this.driver?.handOver(HAND_OVER_MS).then(() => this.#store?.close());
  }

  override append(request: AppendRequest, answer: (answer: Answer, end: number) => void): void {
    const { store } = this;
    if (store === null) return answer({ kind: "refused", why: "not open" }, 0);
    const bucket = bucketOf(request.partition, this.shape.bucketCount);
    const committedEnd = () => this.driver!.replica(bucket)?.commitEnd ?? 0;
    store.appendFor(this.transactionOf(request), {
      stored: ({ firstSequence }) => answer({ kind: "ok", firstSequence }, committedEnd()),
      refused: (error) => {
        if (error instanceof WrongExpectedVersion) {
          answer({ kind: "wrong version", current: error.current ?? -1 }, committedEnd());
        } else if (error instanceof OutcomeUnknown) answer({ kind: "unknown" }, 0);
        else if (DEFINITE.some((kind) => error instanceof kind)) {
          answer({ kind: "refused", why: (error as Error).name }, 0);
        } else if (this.disk.failedSyncs > 0 || this.disk.isGone) answer({ kind: "unknown" }, 0); // The process is about to end.
        else this.surroundings.broke(new Error(`An append was refused with ${error}`, { cause: error }));
      },
    });
  }
}

const DEFINITE = [TryAgain, NoReplica, TooFewReplicas, DiskFull, StoreClosed, Damaged];
