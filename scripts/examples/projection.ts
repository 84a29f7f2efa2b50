/**
 * A projection into SQLite: a table of balances that follows all events of a server, from the first one into live.
 *
 *     deno run --allow-net --allow-read --allow-write scripts/examples/projection.ts FILE TARGET [--until-caught-up]
 *     deno run … scripts/examples/projection.ts balances.sqlite esker://127.0.0.1:9090
 *
 * How far it has come is stored in the same transaction as its rows. So however it ends, rows and positions fit, and it
 * goes on behind the last event that is in its rows. The event that comes next in a partition must have exactly the
 * sequence that is stored: so it knows that it missed nothing and took nothing twice.
 *
 * With `--until-caught-up` it ends when there is nothing left to read, and compares its rows with the store's events.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import { parseArgs } from "node:util";
import { type Client, connect, type EventRecord, typedEvent } from "../../resp/client/mod.ts";

type AccountEvent =
  | { name: "Deposited"; data: { cents: number } }
  | { name: "Withdrawn"; data: { cents: number } };

/** What an event does to its account, in cents; null if it is none of ours. */
function centsOf(record: EventRecord): number | null {
  if (record.name !== "Deposited" && record.name !== "Withdrawn") return null;
  const event = typedEvent<AccountEvent>(record);
  return event.name === "Deposited" ? event.data.cents : -event.data.cents;
}

class Balances implements Disposable {
  readonly #db: DatabaseSync;

  constructor(file: string) {
    this.#db = new DatabaseSync(file);
    this.#db.exec("PRAGMA journal_mode = WAL");
    this.#db.exec("CREATE TABLE IF NOT EXISTS balance (account TEXT PRIMARY KEY, cents INTEGER NOT NULL)");
    this.#db.exec("CREATE TABLE IF NOT EXISTS position (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL)");
  }

  /** The next sequence of each partition. */
  positions(): Map<number, number> {
    const rows = this.#db.prepare("SELECT partition, next FROM position").all();
    return new Map(rows.map(({ partition, next }) => [Number(partition), Number(next)]));
  }

  all(): Map<string, number> {
    const rows = this.#db.prepare("SELECT account, cents FROM balance ORDER BY account").all();
    return new Map(rows.map(({ account, cents }) => [String(account), Number(cents)]));
  }

  /** Takes events in, and the positions behind them: all or nothing. */
  take(events: readonly EventRecord[]): void {
    const add = this.#db.prepare(
      "INSERT INTO balance VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET cents = cents + excluded.cents",
    );
    const positions = this.positions();
    this.#db.exec("BEGIN");
    try {
      for (const event of events) {
        const next = positions.get(event.partition) ?? 0;
        if (event.sequence !== next) {
          throw new Error(`Partition ${event.partition} should go on at ${next}: event ${event.sequence} came`);
        }
        positions.set(event.partition, next + 1);
        const cents = centsOf(event);
        if (cents !== null) add.run(event.streamId, cents);
      }
      const store = this.#db.prepare("INSERT OR REPLACE INTO position VALUES (?, ?)");
      for (const [partition, next] of positions) store.run(partition, next);
      this.#db.exec("COMMIT");
    } catch (error) {
      this.#db.exec("ROLLBACK");
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }
}

/** The balances as the events say, read again from the first one on. */
async function recounted(store: Client): Promise<Map<string, number>> {
  const balances = new Map<string, number>();
  for (let partition = 0; partition < store.partitionCount; partition++) {
    for await (const event of store.readPartition(partition)) {
      const cents = centsOf(event);
      if (cents !== null) balances.set(event.streamId, (balances.get(event.streamId) ?? 0) + cents);
    }
  }
  return new Map([...balances].sort(([a], [b]) => a < b ? -1 : 1));
}

function sum(numbers: Iterable<number>): number {
  let sum = 0;
  for (const number of numbers) sum += number;
  return sum;
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    options: { "until-caught-up": { type: "boolean", default: false } },
    allowPositionals: true,
  });
  const [file, target] = positionals;
  if (file === undefined || target === undefined) {
    throw new Error("Usage: projection.ts FILE TARGET [--until-caught-up]");
  }

  using balances = new Balances(file);
  await using store = await connect(target);
  const starts = balances.positions();
  console.log(`Goes on behind ${sum(starts.values())} events`);
  // A partition of which nothing is stored begins with its first event.
  using subscription = await store.subscribe({ partitions: "all", from: 0, starts });
  Deno.addSignalListener("SIGINT", () => subscription.close());
  const untilCaughtUp = values["until-caught-up"];
  if (untilCaughtUp && await subscription.lag() === 0) subscription.close();
  for await (const page of subscription.pages()) {
    balances.take(page);
    console.log(`Has taken ${sum(balances.positions().values())} events`);
    if (untilCaughtUp && await subscription.lag() === 0) break;
  }
  if (untilCaughtUp) {
    const [found, expected] = [balances.all(), await recounted(store)].map((all) => JSON.stringify([...all]));
    if (found !== expected) throw new Error(`The balances should be ${expected}: they are ${found}`);
    console.log(`The balances of ${balances.all().size} accounts are those of the store`);
  }
}
