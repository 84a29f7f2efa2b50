/**
 * Somebody who follows a store as he pleases: he comes late, stalls, leaves, and resumes from the last number he kept.
 *
 * His ledger holds every event that he is given to the promise. Besides:
 *
 *     it can be read at that moment: it was committed
 *     lag() counts what is left, and a wait ends when there is something
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Chance } from "../chance.ts";
import type { EventRecord } from "../event.ts";
import type { EventStore, Subscription } from "../store.ts";
import { plain } from "../store_suite.ts";
import { equalEvents, unlessGone } from "../story.ts";
import { type Ledger, placeOf, type Position } from "./ledger.ts";

const PAGE_EVENTS_MAX = 256;

/** A wait for events, and whether it is over. */
interface Wait {
  promise: Promise<boolean>;
  isOver: boolean;
}

/** Somebody who follows a store as it pleases him. */
export class Subscriber {
  wait: Wait | null = null;
  #subscription: Subscription | null = null;
  /** For how many turns he does nothing. */
  #rest = 0;
  /** What he will still know when he has to resume. */
  #kept: Position;

  constructor(
    public chance: Chance,
    readonly ledger: Ledger,
    readonly witness: (event: EventRecord) => void,
  ) {
    this.#kept = ledger.position();
  }

  /** What he is without the store that is lost. What he still waits for there concerns him no more. */
  afterLoss(): Subscriber {
    const after = new Subscriber(this.chance, this.ledger.copy(), this.witness);
    after.#kept = this.#kept;
    after.#forgetSome();
    return after;
  }

  /** One turn of his. */
  async act(store: EventStore): Promise<void> {
    const { chance } = this;
    if (this.#rest > 0) return void this.#rest--;
    if (this.#subscription === null) return await this.#come(store);
    if (chance.oneIn(15)) return await this.leave();
    if (this.wait !== null) return await this.#readWhenReady(store);
    switch (chance.below(6)) {
      case 0:
        this.#rest = chance.between(1, 8);
        break;
      case 1:
      case 2:
        this.#beginWait(this.#subscription);
        break;
      case 3:
        await this.#read(store, chance.between(1, 5));
        break;
      default:
        while (await this.#read(store, chance.pick([7, 30, PAGE_EVENTS_MAX])) > 0);
    }
    if (chance.oneIn(3)) this.#kept = this.ledger.position();
  }

  /** When nobody appends, it is known what there is to read. */
  async holdLag(store: EventStore, isGone: () => boolean): Promise<void> {
    if (this.#subscription === null) return;
    const [least, most] = await this.ledger.lag(store);
    const lag = await this.#subscription.lag();
    assert.ok(least <= lag && lag <= most, `lag() says ${lag}: there are ${least} to ${most}`);
    if (least === 0) return;
    const { promise } = this.wait ?? this.#beginWait(this.#subscription);
    assert.equal(await unlessGone(promise, isGone), true, "there is something to read, and it is not ready");
  }

  /** Ends the subscription. */
  async leave(): Promise<void> {
    const subscription = this.#subscription!;
    subscription.close();
    if (this.wait !== null) await unlessGone(this.wait.promise, () => false);
    assert.equal(await subscription.ready(), false);
    assert.deepEqual(await subscription.read(), [], "a subscription that was closed gave events");
    this.#subscription = null;
    this.wait = null;
    this.#rest = this.chance.below(12);
    this.#forgetSome();
  }

  async readToEnd(store: EventStore): Promise<void> {
    if (this.#subscription === null) await this.#come(store);
    for (;;) {
      const [least] = await this.ledger.lag(store);
      if (least === 0) break;
      if (this.wait === null) this.#beginWait(this.#subscription!);
      await unlessGone(this.wait!.promise, () => false);
      await this.#readWhenReady(store);
    }
    // What may be left lies between the two ends of an unknown `latest`.
    if (this.wait === null || this.wait.isOver) { while (await this.#read(store, PAGE_EVENTS_MAX) > 0); }
    assert.equal(await this.#subscription!.lag(), 0, "everything was read");
  }

  async #come(store: EventStore): Promise<void> {
    this.ledger.begins(await this.ledger.heads(store));
    const subscription = await store.subscribe(this.ledger.selection());
    this.ledger.hasBegun(await this.ledger.heads(store));
    this.#subscription = subscription;
  }

  #beginWait(subscription: Subscription): Wait {
    const wait: Wait = { promise: subscription.ready(), isOver: false };
    const over = () => void (wait.isOver = true);
    wait.promise.then(over, over);
    return this.wait = wait;
  }

  async #readWhenReady(store: EventStore): Promise<void> {
    if (!this.wait!.isOver) return;
    assert.equal(await this.wait!.promise, true, "nobody closed it");
    this.wait = null;
    assert.ok(await this.#read(store, this.chance.between(1, 40)) > 0, "it was ready, and there was nothing to read");
  }

  async #read(store: EventStore, limit: number): Promise<number> {
    const page = await this.#subscription!.read(limit);
    assert.ok(page.length <= limit, `${page.length} events: ${limit} were wanted`);
    for (const event of page) {
      this.ledger.saw(plain(event));
      this.witness(event);
    }
    for (const event of page) {
      const found = await store.event(event.eventId);
      equalEvents(found === null ? [] : [found], [event], `${placeOf(event)}, which was just given`);
    }
    return page.length;
  }

  #forgetSome(): void {
    if (this.chance.oneIn(2)) this.ledger.goBack(this.#kept);
    this.#kept = this.ledger.position();
  }
}
