/**
 * A bank account as an aggregate: its events are loaded, a decision is made on them, and what was decided is appended
 * at the version that was seen. If somebody was faster, all of that is done again on what they did.
 *
 *     deno run scripts/examples/bank_account.ts                                        in memory
 *     deno run --allow-net scripts/examples/bank_account.ts esker://127.0.0.1:9090     at a server
 *
 * @module
 */
import { open, typed, type TypedStore, WrongExpectedVersion } from "../../mod.ts";
import { connect } from "../../resp/client/mod.ts";

type AccountEvent =
  | { name: "Opened"; data: { owner: string } }
  | { name: "Deposited"; data: { cents: number } }
  | { name: "Withdrawn"; data: { cents: number } };

/** What the events of an account amount to. */
interface Account {
  /** Null while it has no events. */
  version: number | null;
  owner: string | null;
  cents: number;
}

async function load(store: TypedStore<AccountEvent>, id: string): Promise<Account> {
  const account: Account = { version: null, owner: null, cents: 0 };
  for await (const event of store.readStream(id)) {
    if (event.name === "Opened") account.owner = event.data.owner;
    else if (event.name === "Deposited") account.cents += event.data.cents;
    else account.cents -= event.data.cents;
    account.version = event.version;
  }
  return account;
}

let conflicts = 0;

/** Appends what `decide` makes of the account. It may be asked more than once: it must do nothing but decide. */
async function change(
  store: TypedStore<AccountEvent>,
  id: string,
  decide: (account: Account) => AccountEvent[],
): Promise<void> {
  for (;;) {
    const account = await load(store, id);
    const events = decide(account); // What it throws is for the caller: the account does not allow it.
    if (events.length === 0) return;
    try {
      await store.append(id, events, { expectedVersion: account.version ?? "empty" });
      return;
    } catch (error) {
      // Each conflict means that somebody else got on, so among any number of writers the work gets done.
      if (!(error instanceof WrongExpectedVersion)) throw error;
      conflicts++;
    }
  }
}

function opening(owner: string) {
  return (account: Account): AccountEvent[] => {
    if (account.version !== null) throw new Error("The account is open already");
    return [{ name: "Opened", data: { owner } }];
  };
}

function deposit(cents: number) {
  return (): AccountEvent[] => [{ name: "Deposited", data: { cents } }];
}

function withdrawal(cents: number) {
  return (account: Account): AccountEvent[] => {
    if (account.cents < cents) throw new Error(`There are ${account.cents} cents: ${cents} are too many`);
    return [{ name: "Withdrawn", data: { cents } }];
  };
}

if (import.meta.main) {
  const [target] = Deno.args;
  // The one line that differs between a store of your own and that of a server.
  await using store = target === undefined ? await open({ memory: true }) : await connect(target);

  const accounts = typed<AccountEvent>(store);
  const id = `account-${crypto.randomUUID()}`;
  await change(accounts, id, opening("Alice"));
  await change(accounts, id, deposit(500));
  // Ten cash machines at once, 100 cents each: five find enough.
  const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => change(accounts, id, withdrawal(100))));
  const { owner, cents, version } = await load(accounts, id);
  const withdrawn = outcomes.filter(({ status }) => status === "fulfilled").length;
  console.log(
    `${owner} has ${cents} cents at version ${version}: ${withdrawn} of 10 withdrawals, ${conflicts} conflicts`,
  );
}
