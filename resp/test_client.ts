/**
 * A RESP client for tests, which hides nothing: replies come in the notation of our design pages, so that a test says
 * exactly what must be on the wire.
 *
 *     +simple  $"bulk"  :1  #t  _  $-1  ,0.5  %{key: value}  *[a, b]  ~[a, b]  -CODE text
 *
 * @module
 */

/** A reply, taken apart. */
export interface Frame {
  /** The type byte as a character. */
  kind: string;
  /** Of a line or a bulk string; null for a RESP2 null. */
  bytes: Uint8Array | null;
  /** Of an aggregate. Of a map, keys and values in turn. */
  items: Frame[];
}

export class TestClient {
  readonly #socket: Deno.TcpConn;
  #buffer = new Uint8Array(0);
  #start = 0;
  #end = 0;
  #ended = false;

  private constructor(socket: Deno.TcpConn) {
    this.#socket = socket;
  }

  static async connect(port: number): Promise<TestClient> {
    return new TestClient(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  /** Sends bytes as they are. */
  async raw(data: string | Uint8Array): Promise<void> {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    for (let at = 0; at < bytes.length;) at += await this.#socket.write(bytes.subarray(at));
  }

  async send(...words: (string | Uint8Array)[]): Promise<void> {
    await this.raw(commandOf(...words));
  }

  /** Sends a command and returns its reply in our notation. */
  async ask(...words: (string | Uint8Array)[]): Promise<string> {
    await this.send(...words);
    return show(await this.frame());
  }

  /** The next reply in our notation. */
  async reply(): Promise<string> {
    return show(await this.frame());
  }

  async frame(): Promise<Frame> {
    const line = await this.#line();
    const kind = line[0]!;
    const rest = line.slice(1);
    const items: Frame[] = [];
    if ("$=!".includes(kind)) {
      if (rest === "-1") return { kind, bytes: null, items };
      const bytes = await this.#bytes(Number(rest) + 2);
      return { kind, bytes: bytes.subarray(0, -2), items };
    }
    if ("*~>%".includes(kind)) {
      const count = Number(rest) * (kind === "%" ? 2 : 1);
      for (let i = 0; i < count; i++) items.push(await this.frame());
      return { kind, bytes: null, items };
    }
    return { kind, bytes: new TextEncoder().encode(rest), items };
  }

  /** Resolves when the server has closed, with what came before in bytes. */
  async untilClosed(): Promise<number> {
    while (await this.#more());
    return this.#end - this.#start;
  }

  /** Says that no more will be sent. */
  async endSending(): Promise<void> {
    await this.#socket.closeWrite();
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    try {
      this.#socket.close();
    } catch {
      // Closed already.
    }
  }

  async #line(): Promise<string> {
    let end: number;
    while ((end = this.#buffer.subarray(this.#start, this.#end).indexOf(0x0a)) < 0) await this.#need();
    const line = await this.#bytes(end + 1);
    return new TextDecoder().decode(line.subarray(0, -2));
  }

  async #bytes(count: number): Promise<Uint8Array> {
    while (this.#end - this.#start < count) await this.#need();
    return this.#buffer.slice(this.#start, this.#start += count);
  }

  async #need(): Promise<void> {
    if (!await this.#more()) throw new Error("The server has closed");
  }

  async #more(): Promise<boolean> {
    if (this.#ended) return false;
    if (this.#buffer.length - this.#end < 16 * 1024) {
      const held = this.#buffer.subarray(this.#start, this.#end);
      const larger = new Uint8Array(Math.max(64 * 1024, 2 * held.length));
      larger.set(held);
      this.#buffer = larger;
      this.#start = 0;
      this.#end = held.length;
    }
    let count: number | null;
    try {
      count = await this.#socket.read(this.#buffer.subarray(this.#end));
    } catch (error) {
      if (!(error instanceof Deno.errors.ConnectionReset)) throw error;
      count = null;
    }
    this.#ended = count === null;
    this.#end += count ?? 0;
    return !this.#ended;
  }
}

/** A command as an array of bulk strings. */
export function commandOf(...words: (string | Uint8Array)[]): Uint8Array {
  const encoder = new TextEncoder();
  const parts: Uint8Array[] = [encoder.encode(`*${words.length}\r\n`)];
  for (const word of words) {
    const bytes = typeof word === "string" ? encoder.encode(word) : word;
    parts.push(encoder.encode(`$${bytes.length}\r\n`), bytes, encoder.encode("\r\n"));
  }
  return joinBytes(parts);
}

export function joinBytes(parts: Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

export function show({ kind, bytes, items }: Frame): string {
  if (kind === "%") {
    const pairs: string[] = [];
    for (let i = 0; i < items.length; i += 2) pairs.push(`${show(items[i]!)}: ${show(items[i + 1]!)}`);
    return `%{${pairs.join(", ")}}`;
  }
  if ("*~>".includes(kind)) return `${kind}[${items.map(show).join(", ")}]`;
  if (bytes === null) return `${kind}-1`;
  const text = new TextDecoder().decode(bytes);
  return "$=!".includes(kind) ? `${kind}"${text}"` : kind + text;
}

/** A map's value, on either protocol. */
export function field({ items }: Frame, name: string): Frame {
  for (let i = 0; i < items.length; i += 2) {
    if (new TextDecoder().decode(items[i]!.bytes!) === name) return items[i + 1]!;
  }
  throw new Error(`The reply has no field ${name}`);
}

export function textOf({ bytes }: Frame): string {
  return new TextDecoder().decode(bytes!);
}
