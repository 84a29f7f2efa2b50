import assert from "node:assert/strict";
import { connect } from "../resp/client/mod.ts";
import { serverCommand } from "../scripts/server_process.ts";
import { formatAddress } from "../options.ts";
import { Demo, type DemoNode, freePorts } from "./cluster_demo.ts";

/** A state that does not come within this is a failure. */
const WAIT_MS_MAX = 30_000;

/** What a demo prints, and a wait for a line of it. */
class Lines {
  readonly all: string[] = [];
  #look = () => {};

  readonly print = (line: string) => {
    this.all.push(line);
    this.#look();
  };

  /** The first line from `from` on that has this in it. */
  async until(text: RegExp, from = 0): Promise<string> {
    const timer = setTimeout(() => this.print(`NOT WITHIN ${WAIT_MS_MAX} MS: ${text}`), WAIT_MS_MAX);
    try {
      for (;;) {
        const found = this.all.slice(from).find((line) => text.test(line) || line.startsWith("NOT WITHIN"));
        if (found !== undefined) {
          assert.match(found, text, this.all.join("\n"));
          return found;
        }
        await new Promise<void>((resolve) => this.#look = resolve);
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Stores that are alone stand in for nodes: to the demo they look the same. */
function stores(above: string, count: number): DemoNode[] {
  return freePorts(count).map((port, index) => {
    const dir = `${above}/node-${index}`;
    const client = { hostname: "127.0.0.1", port };
    const flags = ["serve", "--dir", dir, "--client-address", formatAddress(client), "--journal-size-bytes", "65536"];
    return { dir, client, command: [...serverCommand(), ...flags] };
  });
}

async function probe(client: DemoNode["client"]): Promise<void> {
  await using store = await connect(`esker://${formatAddress(client)}`, { reconnectMs: 0 });
  await store.append({ events: [{ streamId: "s", name: "n" }] });
}

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = Deno.realPathSync(await Deno.makeTempDir({ prefix: "esker-demo-test-" }));
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** The process of a node, as the demo printed it. */
function pidIn(line: string): number {
  return Number(/process (\d+)/.exec(line)![1]);
}

Deno.test("cluster demo: starts all, says when they serve, starts a killed one again, and ends all of them", () =>
  withFolder(async (above) => {
    const lines = new Lines();
    const nodes = stores(above, 2);
    const demo = new Demo({ nodes, probe, print: lines.print, advice: ["Try it"], restartMs: 10 });
    const end = demo.run();
    await lines.until(/^Try it$/);
    assert.ok(lines.all.includes("The cluster serves:"));
    assert.ok(lines.all.some((line) => /^node 1 \| \d\d:\d\d:\d\d\.\d{3} info {2}Ready {2}address=127/.test(line)));
    const first = pidIn(await lines.until(/^ {2}node 0 .*process/));
    const second = pidIn(await lines.until(/^ {2}node 1 .*process/));
    const seen = lines.all.length;
    Deno.kill(second, "SIGKILL");
    await lines.until(/^node 1 \| was ended by SIGKILL/, seen);
    const third = pidIn(await lines.until(/^node 1 \| starts again/, seen));
    await lines.until(/^node 1 \| .*Ready/, seen);
    await probe(nodes[1]!.client);
    await demo.stop();
    assert.deepEqual(await end, { stopped: true });
    for (const index of [0, 1]) assert.ok(lines.all.some((line) => new RegExp(`^node ${index} .*Stopped`).test(line)));
    for (const pid of [first, second, third]) assert.throws(() => Deno.kill(pid, "SIGCONT"), Deno.errors.NotFound);
  }));

Deno.test("cluster demo: ends with the node that ends by itself, and the others with it", () =>
  withFolder(async (above) => {
    const lines = new Lines();
    const [good, bad] = stores(above, 2);
    const nodes = [good!, { ...bad!, command: [...bad!.command, "--partition-count", "0"] }];
    const end = await new Demo({ nodes, probe, print: lines.print, advice: [] }).run();
    assert.deepEqual(end, { stopped: false, node: 1, code: 64 });
    assert.ok(lines.all.includes("node 1 | ended with code 64"));
    assert.ok(lines.all.some((line) => /^node 1 \| esker: --partition-count must be/.test(line)), lines.all.join("\n"));
  }));

Deno.test("cluster demo: a node that does not stop is ended after a while, or when it is asked for twice", {
  ignore: Deno.build.os === "windows",
}, async () => {
  const deaf = (text: string) => ["sh", "-c", `trap '' QUIT; echo ${text} >&2; exec tail -f /dev/null`];
  const client = { hostname: "127.0.0.1", port: 1 };
  for (const twice of [false, true]) {
    const lines = new Lines();
    const demo = new Demo({
      nodes: [{ dir: "", client, command: deaf("up") }],
      probe: () => Promise.resolve(),
      ...{ print: lines.print, advice: [], stopMsMax: twice ? WAIT_MS_MAX : 10 },
    });
    const end = demo.run();
    await lines.until(/^node 0 \| up$/);
    const stopped = demo.stop();
    if (twice) await demo.stop();
    await stopped;
    assert.deepEqual(await end, { stopped: true });
  }
});
