/**
 * A well-behaved client beside all that is done to a server: it appends and reads at a steady pace, and holds every
 * answer to what it must be. That it is answered rightly is checked; how soon is measured and only told.
 *
 * It runs in a Worker: here it would measure how busy the others keep this thread. `Witness` is its end on this side.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type Address, Client, type Plain } from "./resp_client.ts";

const STREAM = "witness";
const PACE_MS = 10;
/** After each so many appends, these are read back. */
const READ_EVERY = 10;
const PAGE = 1000;

/** Begin; tell what was seen since this was last asked; read everything, and end. */
type Question = { begin: Address } | "testify" | "verify";
type Answer = { told: string } | { failed: string };

export class Witness implements Disposable {
  readonly #worker = new Worker(new URL(import.meta.url), { type: "module", name: "witness" });

  static async begin(address: Address): Promise<Witness> {
    const witness = new Witness();
    await witness.#ask({ begin: address });
    return witness;
  }

  /** Waits for answers to what it asks from now on, and tells how long answers took since this was last asked. */
  testify(): Promise<string> {
    return this.#ask("testify");
  }

  /** Stops, reads everything that it was ever told is stored, and tells how much that was. */
  verify(): Promise<string> {
    return this.#ask("verify");
  }

  [Symbol.dispose](): void {
    this.#worker.terminate();
  }

  #ask(question: Question): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#worker.onmessage = ({ data }: MessageEvent<Answer>) => {
        if ("told" in data) resolve(data.told);
        else reject(new Error(`The well-behaved client: ${data.failed}`));
      };
      this.#worker.postMessage(question);
    });
  }
}

/** Longer than this no answer is slow any more, but missing. */
const ANSWER_MS_MAX = 60_000;

const text = new TextDecoder();

class WellBehaved {
  /** Events that it has an answer for. */
  #appended = 0;
  #latencies: number[] = [];
  #stopping = false;
  readonly #client: Client;
  /** Resolves with what went wrong, null when it was stopped. */
  readonly #over: Promise<unknown>;

  private constructor(client: Client) {
    this.#client = client;
    this.#over = this.#run().then(() => null, (cause) => cause);
  }

  static async begin(address: Address): Promise<WellBehaved> {
    return new WellBehaved(await Client.connect(address));
  }

  async testify(): Promise<string> {
    const enough = this.#appended + READ_EVERY + 1;
    const deadline = performance.now() + ANSWER_MS_MAX;
    while (this.#appended < enough) {
      const failure = await Promise.race([this.#over, pause(PACE_MS)]);
      if (failure !== undefined) throw failure;
      assert.ok(performance.now() < deadline, `no answer for ${ANSWER_MS_MAX} ms`);
    }
    const sorted = this.#latencies.toSorted((a, b) => a - b);
    this.#latencies = [];
    const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!.toFixed(1);
    return `${sorted.length} answers, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, max ${at(1)} ms`;
  }

  async verify(): Promise<string> {
    this.#stopping = true;
    const failure = await this.#over;
    if (failure !== null) throw failure;
    for (let from = 0; from < this.#appended; from += PAGE) {
      await this.#read(from, Math.min(this.#appended, from + PAGE));
    }
    assert.equal(await this.#client.call("ESVER", STREAM), this.#appended - 1, "events that nobody appended");
    this.#client[Symbol.dispose]();
    return `${this.#appended} events`;
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      const began = performance.now();
      const version = this.#appended;
      const expected = version === 0 ? "EMPTY" : version - 1;
      const words = ["EAPPEND", STREAM, "Beat", "EXPECTED_VERSION", expected, "PAYLOAD", payload(version)];
      const answer = await this.#client.call(...words) as { stream_version: number };
      this.#latencies.push(performance.now() - began);
      assert.equal(answer.stream_version, version);
      this.#appended++;
      if (this.#appended % READ_EVERY === 0) {
        const readBegan = performance.now();
        await this.#read(this.#appended - READ_EVERY, this.#appended);
        this.#latencies.push(performance.now() - readBegan);
      }
      await pause(Math.max(0, PACE_MS - (performance.now() - began)));
    }
  }

  /** Reads from a version up to, and without, another. */
  async #read(from: number, end: number): Promise<void> {
    const { events } = await this.#client.call("ESCAN", STREAM, from, end - 1, "COUNT", PAGE) as {
      events: { [field: string]: Plain }[];
    };
    const found = events.map(({ stream_version, payload }) => [stream_version, text.decode(payload as Uint8Array)]);
    assert.deepEqual(found, Array.from({ length: end - from }, (_, i) => [from + i, payload(from + i)]));
  }
}

function payload(version: number): string {
  return `${version} ${"x".repeat(version % 500)}`;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

if (import.meta.main) {
  const scope = self as unknown as {
    postMessage(answer: Answer): void;
    onmessage: (event: MessageEvent<Question>) => void;
  };
  let client: WellBehaved;
  scope.onmessage = async ({ data: question }) => {
    try {
      if (typeof question === "object") client = await WellBehaved.begin(question.begin);
      scope.postMessage({ told: typeof question === "object" ? "begun" : await client[question]() });
    } catch (cause) {
      scope.postMessage({ failed: cause instanceof Error ? cause.stack ?? cause.message : String(cause) });
    }
  };
}
