/**
 * A RESP client for what our scripts show from outside: strict, small, and on purpose not built on `resp/`.
 * A reply that the listener writes wrongly and its own decoder reads back wrongly would look right.
 *
 * `ReplyReader` takes bytes in any slices and gives values. On a RESP2 link it refuses every type byte that RESP2 does
 * not have, at the byte, so that a test that runs on such a link proves what the link carried.
 * `Link` is a socket that can be fed anything, also what is not RESP. `Client` is for those who only want answers:
 * it pipelines, and gives plain values (text for simple strings, bytes for bulk strings, objects for maps).
 *
 * @module
 */

export type Protocol = 2 | 3;

/** How values are made: `exact` keeps what was on the wire, `plain` is quick to work with. */
export interface Maker<T> {
  simple(text: string): T;
  error(text: string): T;
  integer(value: number): T;
  bulk(bytes: Uint8Array): T;
  null(): T;
  boolean(value: boolean): T;
  double(text: string): T;
  array(items: T[]): T;
  push(items: T[]): T;
  set(items: T[]): T;
  /** Keys and values in turn. */
  map(items: T[]): T;
}

/** A value as it was on the wire. */
export type Exact =
  | { type: "simple" | "error" | "double"; text: string }
  | { type: "integer"; value: number }
  | { type: "bulk"; bytes: Uint8Array }
  | { type: "boolean"; value: boolean }
  | { type: "null" }
  | { type: "array" | "push" | "set" | "map"; items: Exact[] };

export const exact: Maker<Exact> = {
  simple: (text) => ({ type: "simple", text }),
  error: (text) => ({ type: "error", text }),
  integer: (value) => ({ type: "integer", value }),
  bulk: (bytes) => ({ type: "bulk", bytes }),
  null: () => ({ type: "null" }),
  boolean: (value) => ({ type: "boolean", value }),
  double: (text) => ({ type: "double", text }),
  array: (items) => ({ type: "array", items }),
  push: (items) => ({ type: "push", items }),
  set: (items) => ({ type: "set", items }),
  map: (items) => ({ type: "map", items }),
};

/** An error that the server answered. */
export class ReplyError extends Error {
  override readonly name = "ReplyError";
  /** The first word. */
  readonly code: string;
  constructor(text: string) {
    super(text);
    this.code = text.split(" ", 1)[0]!;
  }
}

/** What the server sent without being asked. */
export class Push {
  constructor(readonly items: Plain[]) {}
}

export type Plain = string | number | boolean | null | Uint8Array | ReplyError | Push | Plain[] | {
  [key: string]: Plain;
};

const text = new TextDecoder();

export const plain: Maker<Plain> = {
  simple: (text) => text,
  error: (text) => new ReplyError(text),
  integer: (value) => value,
  bulk: (bytes) => bytes,
  null: () => null,
  boolean: (value) => value,
  double: (text) => Number(text),
  array: (items) => items,
  push: (items) => new Push(items),
  set: (items) => items,
  map(items) {
    const map: { [key: string]: Plain } = {};
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i]!;
      map[typeof key === "string" ? key : text.decode(key as Uint8Array)] = items[i + 1]!;
    }
    return map;
  },
};

/** The bytes were not a reply of the protocol. */
export class NotRespError extends Error {
  override readonly name = "NotRespError";
}

interface Aggregate<T> {
  kind: "array" | "push" | "set" | "map";
  wanted: number;
  items: T[];
}

const CR = 13, LF = 10, MINUS = 45, ZERO = 48;
const KNOWN_CHARS_MAX = 24;
const RESP3_ONLY = "%_#,>=(~|!";

/** Bytes in any slices to values. */
export class ReplyReader<T> {
  #buffer = new Uint8Array(64 * 1024);
  #start = 0;
  #end = 0;
  /** What has been opened and not filled yet. Kept between slices, so that a large reply is read once. */
  readonly #open: Aggregate<T>[] = [];

  readonly #known: string[] = [];

  constructor(readonly make: Maker<T>) {}

  /** Whether the reader stands between two replies, with nothing unread. */
  get empty(): boolean {
    return this.#start === this.#end && this.#open.length === 0;
  }

  push(slice: Uint8Array): void {
    if (this.#end + slice.length > this.#buffer.length) {
      const kept = this.#end - this.#start;
      const target = kept + slice.length > this.#buffer.length
        ? new Uint8Array(2 * (kept + slice.length))
        : this.#buffer;
      target.set(this.#buffer.subarray(this.#start, this.#end), 0);
      this.#buffer = target;
      this.#start = 0;
      this.#end = kept;
    }
    this.#buffer.set(slice, this.#end);
    this.#end += slice.length;
  }

  /** The next whole reply, undefined when more bytes are needed. */
  next(protocol: Protocol): T | undefined {
    for (;;) {
      let value = this.#atom(protocol);
      if (value === undefined) return undefined;
      if (value === OPENED) continue;
      for (;;) {
        const top = this.#open.at(-1);
        if (top === undefined) return value as T;
        top.items.push(value as T);
        if (top.items.length < top.wanted) break;
        this.#open.pop();
        value = this.make[top.kind](top.items);
      }
    }
  }

  #atom(protocol: Protocol): T | typeof OPENED | undefined {
    const line = this.#line();
    if (line === undefined) return undefined;
    const type = String.fromCharCode(this.#buffer[this.#start]!);
    if (protocol === 2 && RESP3_ONLY.includes(type)) throw new NotRespError(`${type} on a RESP2 link`);
    const from = this.#start + 1, next = line + 2;
    let value: T | typeof OPENED;
    switch (type) {
      case "+":
        value = this.make.simple(this.#text(from, line));
        break;
      case "-":
        value = this.make.error(this.#text(from, line));
        break;
      case ":":
        value = this.make.integer(this.#integer(from, line));
        break;
      case ",":
        value = this.make.double(this.#text(from, line));
        break;
      case "_":
        if (line !== from) throw new NotRespError(`not a null: _${this.#text(from, line)}`);
        value = this.make.null();
        break;
      case "#":
        if (line !== from + 1 || !"tf".includes(this.#text(from, line))) {
          throw new NotRespError(`not a boolean: #${this.#text(from, line)}`);
        }
        value = this.make.boolean(this.#text(from, line) === "t");
        break;
      case "$": {
        const length = this.#integer(from, line);
        if (length === -1) {
          if (protocol === 3) throw new NotRespError("$-1 on a RESP3 link");
          value = this.make.null();
          break;
        }
        if (length < 0) throw new NotRespError(`a bulk of ${length} bytes`);
        if (this.#end < next + length + 2) {
          // Room for all of it at once, or a large payload would be copied again for every slice.
          if (this.#buffer.length < next + length + 2) this.#reserve(length + 64);
          return undefined;
        }
        if (this.#buffer[next + length] !== CR || this.#buffer[next + length + 1] !== LF) {
          throw new NotRespError("a bulk without its end");
        }
        value = this.make.bulk(this.#buffer.slice(next, next + length));
        this.#start = next + length + 2;
        return value;
      }
      case "*":
      case ">":
      case "~":
      case "%": {
        const length = this.#integer(from, line);
        if (length === -1 && type === "*" && protocol === 2) {
          value = this.make.null();
          break;
        }
        if (length < 0) throw new NotRespError(`${type} of ${length}`);
        const kind = ({ "*": "array", ">": "push", "~": "set", "%": "map" } as const)[type];
        if (length === 0) {
          value = this.make[kind]([]);
          break;
        }
        this.#open.push({ kind, wanted: kind === "map" ? 2 * length : length, items: [] });
        value = OPENED;
        break;
      }
      default:
        throw new NotRespError(`no type of RESP: ${JSON.stringify(type + this.#text(from, line).slice(0, 40))}`);
    }
    this.#start = next;
    return value;
  }

  #reserve(more: number): void {
    const target = new Uint8Array(this.#end - this.#start + more);
    target.set(this.#buffer.subarray(this.#start, this.#end), 0);
    this.#end -= this.#start;
    this.#start = 0;
    this.#buffer = target;
  }

  /** Where the line that begins at the start ends, undefined while its end is not there. */
  #line(): number | undefined {
    const buffer = this.#buffer;
    for (let i = this.#start + 1; i + 1 < this.#end; i++) {
      if (buffer[i] === CR) {
        if (buffer[i + 1] !== LF) throw new NotRespError("CR without LF");
        return i;
      }
      if (buffer[i] === LF) throw new NotRespError("LF without CR");
    }
    return undefined;
  }

  #integer(from: number, end: number): number {
    const buffer = this.#buffer;
    const negative = buffer[from] === MINUS;
    let value = 0;
    for (let i = negative ? from + 1 : from; i < end; i++) {
      const digit = buffer[i]! - ZERO;
      value = digit < 0 || digit > 9 ? NaN : 10 * value + digit;
    }
    if (from + (negative ? 1 : 0) >= end || !Number.isSafeInteger(value)) {
      throw new NotRespError(`not a number: ${this.#text(from, end)}`);
    }
    return negative ? -value : value;
  }

  /** Keys of maps come again and again: a string that is known is not made anew. */
  #text(from: number, end: number): string {
    const buffer = this.#buffer;
    const length = end - from;
    if (length === 0 || length > KNOWN_CHARS_MAX) return text.decode(buffer.subarray(from, end));
    const slot = 31 * length + 7 * buffer[from]! + buffer[end - 1]! + buffer[from + (length >> 1)]! & 255;
    const known = this.#known[slot];
    if (known !== undefined && known.length === length) {
      let i = 0;
      while (i < length && known.charCodeAt(i) === buffer[from + i]) i++;
      if (i === length) return known;
    }
    const made = text.decode(buffer.subarray(from, end));
    if (made.length === length) this.#known[slot] = made; // So it is ASCII, and its characters are its bytes.
    return made;
  }
}

const OPENED = Symbol("opened");

const encoder = new TextEncoder();

/** Words to the bytes of a command. */
export function encodeCommand(words: readonly (string | number | Uint8Array)[]): Uint8Array {
  const parts: Uint8Array[] = [];
  let header = `*${words.length}\r\n`;
  for (const word of words) {
    if (word instanceof Uint8Array) {
      parts.push(encoder.encode(`${header}$${word.length}\r\n`), word);
      header = "\r\n";
    } else {
      const text = String(word);
      header += `$${byteLength(text)}\r\n${text}\r\n`;
    }
  }
  parts.push(encoder.encode(header));
  return concat(parts);
}

function byteLength(text: string): number {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return encoder.encode(text).length;
  return text.length;
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  let length = 0;
  for (const part of parts) length += part.length;
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export interface Address {
  hostname: string;
  port: number;
}

const READ_BYTES = 256 * 1024;

/** A socket to a server: any bytes out, replies in. */
export class Link<T> implements Disposable {
  readonly #reader: ReplyReader<T>;
  readonly #slice = new Uint8Array(READ_BYTES);

  private constructor(readonly connection: Deno.TcpConn, make: Maker<T>) {
    this.#reader = new ReplyReader(make);
  }

  static async open<T>(address: Address, make: Maker<T>): Promise<Link<T>> {
    const connection = await Deno.connect({ hostname: address.hostname, port: address.port });
    connection.setNoDelay(true);
    return new Link(connection, make);
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) at += await this.connection.write(bytes.subarray(at));
  }

  /** The next reply; undefined when the server has closed the connection between two replies. */
  async read(protocol: Protocol): Promise<T | undefined> {
    for (;;) {
      const value = this.#reader.next(protocol);
      if (value !== undefined) return value;
      if (!await this.#fill()) {
        if (this.#reader.empty) return undefined;
        throw new NotRespError("the connection was closed in the middle of a reply");
      }
    }
  }

  async #fill(): Promise<boolean> {
    let count;
    try {
      count = await this.connection.read(this.#slice);
    } catch (cause) {
      if (cause instanceof Deno.errors.ConnectionReset || cause instanceof Deno.errors.BadResource) return false;
      if (cause instanceof Deno.errors.Interrupted || cause instanceof Deno.errors.BrokenPipe) return false;
      throw cause;
    }
    if (count === null) return false;
    this.#reader.push(this.#slice.subarray(0, count));
    return true;
  }

  [Symbol.dispose](): void {
    try {
      this.connection.close();
    } catch (cause) {
      if (!(cause instanceof Deno.errors.BadResource)) throw cause;
    }
  }
}

/** The connection ended before the answer came: whether the command was carried out is not known. */
export class ConnectionLost extends Error {
  override readonly name = "ConnectionLost";
}

export interface ClientOptions {
  /** RESP3 when left out. */
  protocol?: Protocol;
  /** Takes what the server pushes. While it waits, nothing more is read from the socket. Left out, a push is an error. */
  onPush?: (items: Plain[]) => void | Promise<void>;
}

/** A connection that pipelines: `call` as often as you like, answers come in order. */
export class Client implements Disposable {
  /** Resolves when the connection has ended, with the reason. */
  readonly over: Promise<ConnectionLost>;
  readonly #waiting: { resolve(value: Plain): void; reject(reason: Error): void }[] = [];
  readonly #protocol: Protocol;
  readonly #onPush: ClientOptions["onPush"];
  #outgoing: Uint8Array[] = [];
  #writing = false;
  #lost: ConnectionLost | null = null;

  private constructor(readonly link: Link<Plain>, { protocol = 3, onPush }: ClientOptions) {
    this.#protocol = protocol;
    this.#onPush = onPush;
    this.over = this.#readAll();
  }

  static async connect(address: Address, options: ClientOptions = {}): Promise<Client> {
    const client = new Client(await Link.open(address, plain), options);
    if (options.protocol === 2) return client;
    try {
      await client.call("HELLO", 3);
    } catch (cause) {
      client[Symbol.dispose]();
      throw cause;
    }
    return client;
  }

  /** The answer; a `ReplyError` is thrown. */
  call(...words: (string | number | Uint8Array)[]): Promise<Plain> {
    return this.callEncoded(encodeCommand(words));
  }

  /** The same, for a command that is bytes already. */
  callEncoded(command: Uint8Array): Promise<Plain> {
    if (this.#lost !== null) return Promise.reject(this.#lost);
    this.#outgoing.push(command);
    const answer = new Promise<Plain>((resolve, reject) => this.#waiting.push({ resolve, reject }));
    if (!this.#writing) this.#writeAll();
    return answer;
  }

  async #writeAll(): Promise<void> {
    this.#writing = true;
    try {
      await null; // All calls of this turn go out in one write.
      while (this.#outgoing.length > 0) {
        const bytes = concat(this.#outgoing);
        this.#outgoing = [];
        await this.link.write(bytes);
      }
    } catch (cause) {
      this.#lose(cause);
    }
    this.#writing = false;
  }

  async #readAll(): Promise<ConnectionLost> {
    try {
      for (;;) {
        const reply = await this.link.read(this.#protocol);
        if (reply === undefined || this.#lost !== null) break;
        if (reply instanceof Push) {
          if (this.#onPush === undefined) throw new NotRespError("a push that nobody asked for");
          await this.#onPush(reply.items);
          continue;
        }
        const waiter = this.#waiting.shift();
        if (waiter === undefined) throw new NotRespError("a reply that nobody asked for");
        if (reply instanceof ReplyError) waiter.reject(reply);
        else waiter.resolve(reply);
      }
      return this.#lose(undefined);
    } catch (cause) {
      return this.#lose(cause);
    }
  }

  #lose(cause: unknown): ConnectionLost {
    this.#lost ??= new ConnectionLost("The connection is closed", { cause });
    for (const waiter of this.#waiting.splice(0)) waiter.reject(this.#lost);
    this[Symbol.dispose]();
    return this.#lost;
  }

  [Symbol.dispose](): void {
    this.#lost ??= new ConnectionLost("The connection was closed by us");
    this.link[Symbol.dispose]();
  }
}

/** Calls `each` for every item, with at most `limit` answers outstanding; ends with the first failure. */
export async function pipelined<T>(
  items: Iterable<T>,
  limit: number,
  each: (item: T) => Promise<void>,
): Promise<void> {
  let outstanding = 0;
  let failure: { cause: unknown } | null = null;
  let wake = () => {};
  const end = () => {
    outstanding--;
    wake();
  };
  // A race over all that is outstanding would cost as much again for every item.
  const below = async (bound: number) => {
    while (outstanding >= bound) await new Promise<void>((resolve) => wake = resolve);
  };
  for (const item of items) {
    if (failure !== null) break;
    outstanding++;
    each(item).then(end, (cause) => {
      failure ??= { cause };
      end();
    });
    await below(limit);
  }
  await below(1);
  if (failure !== null) throw (failure as { cause: unknown }).cause;
}
