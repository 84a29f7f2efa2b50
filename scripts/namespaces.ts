/**
 * Network namespaces, one for each node of a cluster: a machine's network of its own, with one address. What one node
 * sends to another can be dropped on the way, packet by packet, and nobody is told; TCP tries again later and later, as
 * over a real line. What this process sends to the nodes passes.
 *
 *     node 0   10.77.0.1 ── 10.77.0.254 ┐
 *     node 1   10.77.1.1 ── 10.77.1.254 ├ this process, which passes on what nodes send each other
 *     node 2   10.77.2.1 ── 10.77.2.254 ┘
 *
 * The process itself must have been started in a new one, so that nothing of this is the machine's: `unshare --net`.
 *
 * @module
 */

/** What goes in one direction, and can be stopped. */
export interface Way {
  readonly isHeld: boolean;
  hold(): void;
  letGo(): void;
}

export class Namespaces implements Disposable {
  readonly #names: string[] = [];

  /** @throws this process is not in a namespace of its own, or may not make any */
  constructor(count: number) {
    const links = run("ip", "-o", "link", "show").trim().split("\n").map((line) => line.split(":")[1]!.trim());
    const foreign = links.filter((name) => name !== "lo" && !/^esker\d+@/.test(name));
    if (foreign.length > 0) {
      throw new Error(`This is a machine's own network, with ${foreign}: start it by \`unshare --net\``);
    }
    try {
      run("ip", "link", "set", "lo", "up");
      run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward");
      for (let node = 0; node < count; node++) this.#make(node);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  #make(node: number): void {
    const name = `esker-${Deno.pid}-${node}`;
    const [here, there] = [`esker${node}`, `peer${node}`];
    run("ip", "netns", "add", name);
    try {
      run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name);
    } catch (error) {
      run("ip", "netns", "delete", name);
      throw error;
    }
    this.#names.push(name);
    run("ip", "address", "add", `${gateway(node)}/24`, "dev", here);
    run("ip", "link", "set", here, "up");
    run("ip", "-n", name, "address", "add", `${hostOf(node)}/24`, "dev", there);
    for (const device of ["lo", there]) run("ip", "-n", name, "link", "set", device, "up");
    run("ip", "-n", name, "route", "add", "default", "via", gateway(node));
  }

  /** The words before a command that is to run at a node. The process has the same id. */
  commandAt(node: number): string[] {
    return ["ip", "netns", "exec", this.#names[node]!];
  }

  way(from: number, to: number): Way {
    return new DroppedWay(hostOf(from), hostOf(to));
  }

  /** The cable of a node: out, it is cut off from all, from this process as well. */
  plug(node: number, isIn: boolean): void {
    run("ip", "link", "set", `esker${node}`, isIn ? "up" : "down");
  }

  [Symbol.dispose](): void {
    for (const [node, name] of this.#names.splice(0).entries()) {
      run("ip", "link", "delete", `esker${node}`); // With the namespace it would go as well, a while later.
      run("ip", "netns", "delete", name);
    }
  }
}

export function hostOf(node: number): string {
  return `10.77.${node}.1`;
}

function gateway(node: number): string {
  return `10.77.${node}.254`;
}

class DroppedWay implements Way {
  isHeld = false;

  constructor(private readonly from: string, private readonly to: string) {}

  hold(): void {
    if (!this.isHeld) this.#rule("add");
    this.isHeld = true;
  }

  letGo(): void {
    if (this.isHeld) this.#rule("delete");
    this.isHeld = false;
  }

  #rule(what: "add" | "delete"): void {
    run("ip", "rule", what, "from", this.from, "to", this.to, "blackhole");
  }
}

function run(program: string, ...args: string[]): string {
  const { success, stdout, stderr } = new Deno.Command(program, { args, stdin: "null" }).outputSync();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`${program} ${args.join(" ")}: ${decoder.decode(stderr).trim()}`);
  return decoder.decode(stdout);
}
