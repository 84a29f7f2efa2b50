/**
 * Transcripts: the wire as readable files, `testdata/transcripts/*.txt`, and what plays them against a live server.
 *
 *     # a comment
 *     with append.strict_versioning = true       a setting that the server must have (before the first command)
 *     bare                                       links say nothing first (without it: HELLO 3 in a run over RESP3)
 *     let OK5(@key) = %{partition_key: +@key, …} a shorthand for replies
 *     link                                       a fresh connection instead of the present one
 *     link b                                     go on with connection b, opened when it is first named
 *
 *     > EAPPEND user-1 Created PAYLOAD '{"a":1}' METADATA "\x00\xff"
 *     %{event_id: +$id, …, stream_version: :0, …}
 *     > PING
 *     > EGET $id
 *     +PONG
 *     ?
 *     raw "PING\r\n"
 *     +PONG
 *     closed
 *
 * Words are quoted as in redis-cli; `"x"*64` is the x 64 times; `$id` is what an earlier reply left in `id`.
 * Commands that follow each other go out in one packet. Then come their replies, one a line (a line that begins with
 * blanks goes on with the line before), as they are on a RESP3 link:
 *
 *     +simple  $"bulk"  :int  ,double  #t #f  _ null  *[a, b]  ~[set]  %{key: value}  >[push]  -CODE "text that it contains" …
 *     ?  anything      +? :? $? #? -?  any of its type      +$id :$id $$id  the same as before, or the first
 *     +/…/ $/…/  matches the expression      …  further items, whatever they are      closed  the server hangs up
 *
 * Keys of a map are simple strings; `$"server": …` is a bulk key. The order of keys counts, unless the map has `…`.
 *
 * Over RESP2 the same file is played: a map is then a flat array, a set an array, a boolean 1 or 0, null `$-1`, a double a
 * bulk string, and `ReplyReader` fails at any type byte that RESP2 does not have.
 *
 *     deno run -A scripts/transcripts.ts [--server "COMMAND"] [FILE …]
 *
 * @module
 */
import { type Address, concat, encodeCommand, type Exact, exact, Link, type Protocol } from "./resp_client.ts";
import { serverCommand, ServerProcess } from "./server_process.ts";
import { Tally } from "./tally.ts";

/** What a reply must be. */
type Pattern =
  | { is: "any" }
  | { is: "rest" }
  | { is: "simple" | "bulk"; text: Uint8Array | RegExp | Capture | null }
  | { is: "integer"; value: number | Capture | null }
  | { is: "double"; text: string | null }
  | { is: "boolean"; value: boolean | null }
  | { is: "null" }
  | { is: "closed" }
  | { is: "error"; code: string; contains: string[] }
  | { is: "array" | "push" | "set"; items: Pattern[] }
  | { is: "map"; pairs: { key: Pattern; value: Pattern }[]; open: boolean };

interface Capture {
  name: string;
}

/** A word of a command: bytes, and captured values, in turn. */
type Word = (Uint8Array | Capture)[];

interface Request {
  line: number;
  text: string;
  /** The words of a command, or bytes as they are. */
  words: Word[] | null;
  raw: Uint8Array | null;
}

/** Requests that go out in one packet, and their replies. */
interface Exchange {
  link: string;
  fresh: boolean;
  requests: Request[];
  replies: { line: number; text: string; pattern: Pattern }[];
}

export interface Transcript {
  name: string;
  settings: Record<string, string>;
  /** Links say nothing first, and begin in this protocol: the file speaks of protocols itself, and is played once. */
  bare: Protocol | null;
  exchanges: Exchange[];
}

const utf8 = new TextEncoder();
const FOLDER = new URL("../testdata/transcripts/", import.meta.url);

/** All transcripts of the checkout, by name. */
export function loadTranscripts(): Transcript[] {
  return [...Deno.readDirSync(FOLDER)].map((entry) => entry.name).filter((name) => name.endsWith(".txt")).sort()
    .map((name) => parseTranscript(name, Deno.readTextFileSync(new URL(name, FOLDER))));
}

export function parseTranscript(name: string, text: string): Transcript {
  const transcript: Transcript = { name, settings: {}, bare: null, exchanges: [] };
  const macros = new Map<string, { parameters: string[]; body: string }>();
  let link = "", fresh = false;
  let exchange: Exchange | null = null;
  for (const { line, text: content } of logicalLines(text)) {
    try {
      const directive = /^(with|bare|let|link|raw|>)(?:\s+|$)/.exec(content)?.[1];
      const rest = directive === undefined ? "" : content.slice(directive.length).trim();
      if (directive === "with") {
        const [key, value] = rest.split("=").map((part) => part.trim());
        if (!key || !value) throw new Error("with KEY = VALUE");
        transcript.settings[key] = value;
      } else if (directive === "bare") {
        transcript.bare = rest === "3" ? 3 : 2;
      } else if (directive === "let") {
        const match = /^(\w+)\(([^)]*)\)\s*=\s*(.*)$/.exec(rest);
        if (match === null) throw new Error("let NAME(@a, @b) = REPLY");
        const parameters = match[2]!.split(",").map((part) => part.trim()).filter((part) => part !== "");
        macros.set(match[1]!, { parameters, body: match[3]! });
      } else if (directive === "link") {
        link = rest;
        fresh = rest === "";
        exchange = null;
      } else if (directive === ">" || directive === "raw") {
        if (exchange === null || exchange.replies.length > 0) {
          exchange = { link, fresh, requests: [], replies: [] };
          fresh = false;
          transcript.exchanges.push(exchange);
        }
        // Bytes as they are: a $ in them is the length of a bulk string.
        const words = parseWords(rest, directive === ">");
        if (directive === ">") exchange.requests.push({ line, text: content, words, raw: null });
        else exchange.requests.push({ line, text: content, words: null, raw: concat(words.flat() as Uint8Array[]) });
      } else {
        if (exchange === null) throw new Error("a reply without a command before it");
        exchange.replies.push({ line, text: content, pattern: new PatternParser(expand(content, macros)).parse() });
      }
    } catch (cause) {
      throw new Error(`${name}:${line}: ${(cause as Error).message}`);
    }
  }
  const without = transcript.exchanges.find((exchange) => exchange.replies.length === 0);
  if (without !== undefined) throw new Error(`${name}:${without.requests[0]!.line}: a command without its reply`);
  return transcript;
}

function* logicalLines(text: string): Generator<{ line: number; text: string }> {
  let held: { line: number; text: string } | null = null;
  for (const [at, content] of text.split("\n").entries()) {
    if (held !== null && /^\s+\S/.test(content)) {
      held.text += " " + content.trim();
      continue;
    }
    if (held !== null) yield held;
    held = content.trim() === "" || /^#(\s|$)/.test(content) ? null : { line: at + 1, text: content.trim() };
  }
  if (held !== null) yield held;
}

function expand(text: string, macros: ReadonlyMap<string, { parameters: string[]; body: string }>): string {
  return text.replace(/\b([A-Z][A-Z0-9_]*)\(([^()]*)\)/g, (whole, name: string, given: string) => {
    const macro = macros.get(name);
    if (macro === undefined) return whole;
    const values = given.split(",").map((value) => value.trim());
    if (values.length !== macro.parameters.length) {
      throw new Error(`${name} takes ${macro.parameters.length} values: found ${values.length}`);
    }
    return macro.parameters.reduce((body, parameter, i) => body.replaceAll(parameter, () => values[i]!), macro.body);
  });
}

/** Words as redis-cli reads them, and `$name` outside of single quotes. */
function parseWords(text: string, captures: boolean): Word[] {
  const words: Word[] = [];
  let at = 0;
  while (at < text.length) {
    if (text[at] === " ") {
      at++;
      continue;
    }
    const word: Word = [];
    const quote = text[at] === '"' || text[at] === "'" ? text[at]! : null;
    if (quote !== null) at++;
    let bytes: number[] = [];
    const put = (piece: string) => bytes.push(...utf8.encode(piece));
    for (;; at++) {
      if (at >= text.length) {
        if (quote !== null) throw new Error(`a quote without its end: ${text}`);
        break;
      }
      const char = text[at]!;
      if (quote === null ? char === " " : char === quote) break;
      const name = quote === "'" || !captures ? null : /^\$([a-z_]\w*)/.exec(text.slice(at));
      if (name) {
        word.push(Uint8Array.from(bytes), { name: name[1]! });
        bytes = [];
        at += name[0].length - 1;
      } else if (char === "\\" && quote !== null) {
        const hex = /^\\x([0-9a-f]{2})/i.exec(text.slice(at));
        if (quote === '"' && hex !== null) {
          bytes.push(parseInt(hex[1]!, 16));
          at += 3;
        } else {
          const next = text[++at] ?? "";
          const special = quote === '"' ? "nrtba".indexOf(next) : -1;
          put(special < 0 ? (quote === "'" && next !== "'" ? "\\" : "") + next : "\n\r\t\b\x07"[special]!);
        }
      } else {
        // A whole code point, which may be two of JavaScript's characters.
        const point = String.fromCodePoint(text.codePointAt(at)!);
        put(point);
        at += point.length - 1;
      }
    }
    if (quote !== null) at++;
    const times = quote === null ? null : /^\*(\d+)/.exec(text.slice(at));
    if (times !== null) {
      at += times[0].length;
      word.push(concat(Array(Number(times[1])).fill(Uint8Array.from(bytes))));
    } else {
      word.push(Uint8Array.from(bytes));
    }
    words.push(word);
  }
  return words;
}

class PatternParser {
  #at = 0;

  constructor(readonly text: string) {}

  parse(): Pattern {
    if (this.text === "closed") return { is: "closed" };
    const pattern = this.#pattern();
    this.#blanks();
    if (this.#at < this.text.length) throw new Error(`not part of a reply: ${this.text.slice(this.#at)}`);
    return pattern;
  }

  #pattern(): Pattern {
    this.#blanks();
    const type = this.text[this.#at++];
    switch (type) {
      case "?":
        return { is: "any" };
      case "…":
        return { is: "rest" };
      case "_":
        return { is: "null" };
      case "#":
        return { is: "boolean", value: { t: true, f: false, "?": null }[this.#bare()]! };
      case ",":
        return { is: "double", text: this.#takes("?") ? null : this.#bare() };
      case ":": {
        if (this.#takes("?")) return { is: "integer", value: null };
        if (this.#takes("$")) return { is: "integer", value: { name: this.#bare() } };
        const value = this.#bare();
        if (!/^-?\d+$/.test(value)) throw new Error(`not a number: ${value}`);
        return { is: "integer", value: Number(value) };
      }
      case "+":
      case "$":
        return { is: type === "+" ? "simple" : "bulk", text: this.#text() };
      case "-": {
        const code = this.#bare();
        const contains: string[] = [];
        for (this.#blanks(); this.text[this.#at] === '"'; this.#blanks()) contains.push(this.#quoted());
        return { is: "error", code, contains };
      }
      case "*":
      case ">":
      case "~": {
        if (!this.#takes("[")) throw new Error(`${type}[…]`);
        const items = this.#list("]", () => this.#pattern());
        return { is: ({ "*": "array", ">": "push", "~": "set" } as const)[type], items };
      }
      case "%": {
        if (!this.#takes("{")) throw new Error("%{…}");
        const pairs = this.#list("}", () => this.#pair());
        const open = pairs.some((pair) => pair.key.is === "rest");
        return { is: "map", pairs: pairs.filter((pair) => pair.key.is !== "rest"), open };
      }
      default:
        throw new Error(`not a reply: ${this.text.slice(this.#at - 1)}`);
    }
  }

  #pair(): { key: Pattern; value: Pattern } {
    this.#blanks();
    if (this.#takes("…")) return { key: { is: "rest" }, value: { is: "any" } };
    const key: Pattern = this.text[this.#at] === "$"
      ? this.#pattern()
      : { is: "simple", text: utf8.encode(this.#bare()) };
    this.#blanks();
    if (!this.#takes(":")) throw new Error(`no colon after the key: ${this.text.slice(this.#at)}`);
    return { key, value: this.#pattern() };
  }

  #list<T>(end: string, item: () => T): T[] {
    const items: T[] = [];
    for (this.#blanks(); !this.#takes(end); this.#blanks()) {
      if (items.length > 0 && !this.#takes(",")) throw new Error(`no comma: ${this.text.slice(this.#at)}`);
      items.push(item());
    }
    return items;
  }

  #text(): Uint8Array | RegExp | Capture | null {
    if (this.#takes("?")) return null;
    if (this.#takes("$")) return { name: this.#bare() };
    if (this.text[this.#at] === "/") {
      const end = this.text.indexOf("/", this.#at + 1);
      if (end < 0) throw new Error("an expression without its end");
      const expression = new RegExp(this.text.slice(this.#at + 1, end), "su");
      this.#at = end + 1;
      return expression;
    }
    if (this.text[this.#at] !== '"') return utf8.encode(this.#bare());
    const from = this.#at;
    this.#quoted();
    const times = /^\*\d+/.exec(this.text.slice(this.#at));
    if (times !== null) this.#at += times[0].length;
    return concat(parseWords(this.text.slice(from, this.#at), false)[0] as Uint8Array[]);
  }

  #quoted(): string {
    const match = /^"((?:[^"\\]|\\.)*)"/.exec(this.text.slice(this.#at));
    if (match === null) throw new Error(`a quote without its end: ${this.text.slice(this.#at)}`);
    this.#at += match[0].length;
    return match[1]!.replace(/\\(["\\])/g, "$1");
  }

  #bare(): string {
    const match = /^[^\s,:[\]{}"]+/.exec(this.text.slice(this.#at));
    if (match === null) throw new Error(`a word is missing: ${this.text.slice(this.#at)}`);
    this.#at += match[0].length;
    return match[0];
  }

  #takes(text: string): boolean {
    if (!this.text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #blanks(): void {
    while (this.text[this.#at] === " ") this.#at++;
  }
}

type Captured = Map<string, string>;

/** Whether a reply is as the pattern wants it. Fills `captured`, also when the answer is no. */
function matches(pattern: Pattern, reply: Exact | undefined, protocol: Protocol, captured: Captured): boolean {
  if (pattern.is === "closed" || reply === undefined) return pattern.is === "closed" && reply === undefined;
  switch (pattern.is) {
    case "any":
      return true;
    case "rest":
      return false;
    case "null":
      return reply.type === "null";
    case "boolean":
      if (protocol === 2) {
        return reply.type === "integer" &&
          (pattern.value === null ? reply.value >>> 1 === 0 : reply.value === +pattern.value);
      }
      return reply.type === "boolean" && (pattern.value === null || reply.value === pattern.value);
    case "double": {
      if (protocol === 2 ? reply.type !== "bulk" : reply.type !== "double") return false;
      const text = reply.type === "bulk" ? latin1(reply.bytes) : (reply as { text: string }).text;
      return pattern.text === null ? Number.isFinite(Number(text)) && text !== "" : text === pattern.text;
    }
    case "integer":
      if (reply.type !== "integer") return false;
      if (pattern.value === null) return true;
      if (typeof pattern.value === "number") return reply.value === pattern.value;
      return sameAsCaptured(pattern.value, String(reply.value), captured);
    case "simple":
    case "bulk": {
      if (reply.type !== pattern.is) return false;
      if (pattern.text === null) return true;
      const bytes = reply.type === "bulk" ? reply.bytes : utf8.encode(reply.text);
      if (pattern.text instanceof RegExp) return pattern.text.test(new TextDecoder().decode(bytes));
      if (pattern.text instanceof Uint8Array) return latin1(bytes) === latin1(pattern.text);
      return sameAsCaptured(pattern.text, latin1(bytes), captured);
    }
    case "error":
      // Whatever the code, there is one, and no line of the client's comes back as a line.
      return reply.type === "error" && /^[A-Z]+ \S/.test(reply.text) &&
        (pattern.code === "?" || reply.text.split(" ", 1)[0] === pattern.code) &&
        pattern.contains.every((part) => reply.text.includes(part));
    case "array":
    case "push":
    case "set": {
      if (reply.type !== (pattern.is === "set" && protocol === 2 ? "array" : pattern.is)) return false;
      const open = pattern.items.at(-1)?.is === "rest";
      const wanted = open ? pattern.items.slice(0, -1) : pattern.items;
      if (open ? reply.items.length < wanted.length : reply.items.length !== wanted.length) return false;
      return wanted.every((item, i) => matches(item, reply.items[i]!, protocol, captured));
    }
    case "map": {
      if (reply.type !== (protocol === 2 ? "array" : "map") || reply.items.length % 2 !== 0) return false;
      if (!pattern.open && reply.items.length !== 2 * pattern.pairs.length) return false;
      return pattern.pairs.every(({ key, value }, i) => {
        const at = pattern.open
          ? reply.items.findIndex((item, at) => at % 2 === 0 && matches(key, item, protocol, captured))
          : 2 * i;
        return at >= 0 && matches(key, reply.items[at]!, protocol, captured) &&
          matches(value, reply.items[at + 1]!, protocol, captured);
      });
    }
  }
}

function sameAsCaptured({ name }: Capture, value: string, captured: Captured): boolean {
  const before = captured.get(name);
  if (before === undefined) captured.set(name, value);
  return before === undefined || before === value;
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

const SHOWN_CHARS_MAX = 2000;

/** A reply in the notation of the transcripts. */
function show(reply: Exact | undefined): string {
  if (reply === undefined) return "closed";
  switch (reply.type) {
    case "simple":
      return `+${reply.text}`;
    case "error":
      return `-${reply.text}`;
    case "integer":
      return `:${reply.value}`;
    case "double":
      return `,${reply.text}`;
    case "bulk":
      return `$${JSON.stringify(new TextDecoder().decode(reply.bytes))}`;
    case "boolean":
      return reply.value ? "#t" : "#f";
    case "null":
      return "_";
    case "array":
    case "push":
    case "set":
      return `${{ array: "*", push: ">", set: "~" }[reply.type]}[${reply.items.map(show).join(", ")}]`;
    case "map": {
      const pairs: string[] = [];
      for (let i = 0; i < reply.items.length; i += 2) {
        pairs.push(`${show(reply.items[i]!).replace(/^\+/, "")}: ${show(reply.items[i + 1]!)}`);
      }
      return `%{${pairs.join(", ")}}`;
    }
  }
}

export interface Mismatch {
  line: number;
  message: string;
}

const REPLY_MS_MAX = 20_000;

/** Plays a transcript against a server that holds nothing yet; what was not as it is written. */
export async function playTranscript(
  transcript: Transcript,
  address: Address,
  protocol: Protocol,
): Promise<Mismatch[]> {
  const found: Mismatch[] = [];
  const captured: Captured = new Map();
  const links = new Map<string, { link: Link<Exact>; protocol: Protocol; closed: boolean }>();
  const open = async () => {
    const link = await Link.open(address, exact);
    const state = { link, protocol: transcript.bare ?? 2 as Protocol, closed: false };
    if (transcript.bare === null && protocol === 3) {
      await link.write(encodeCommand(["HELLO", "3"]));
      const reply = await link.read(3);
      if (reply?.type !== "map") throw new Error(`HELLO 3 was answered with ${show(reply)}`);
      state.protocol = 3;
    }
    return state;
  };
  let line = 0;
  try {
    for (const exchange of transcript.exchanges) {
      line = exchange.requests[0]!.line;
      let state = links.get(exchange.link);
      if (state !== undefined && exchange.fresh) {
        state.link[Symbol.dispose]();
        state = undefined;
      }
      if (state === undefined) links.set(exchange.link, state = await open());
      const { link } = state;
      await link.write(concat(exchange.requests.map((request) => bytesOf(request, captured))));
      for (const [i, expected] of exchange.replies.entries()) {
        // HELLO and RESET decide the protocol of their own reply, if it is not an error.
        const words = exchange.requests[i]?.words?.map((word) => latin1(wordBytes(word, captured)).toUpperCase()) ?? [];
        const change = words[0] === "RESET" ? 2 : words[0] === "HELLO" ? Number(words[1]) : 0;
        const asked: Protocol = change === 2 || change === 3 ? change : state.protocol;
        const got = await withinTime(link, asked);
        if (got?.type !== "error") state.protocol = asked;
        if (got === undefined) state.closed = true;
        if (!matches(expected.pattern, got, asked, captured)) {
          const request = exchange.requests[Math.min(i, exchange.requests.length - 1)]!;
          found.push({
            line: request.line,
            message: `${request.text}\nexpected ${expected.text}\ngot      ${show(got).slice(0, SHOWN_CHARS_MAX)}`,
          });
        }
        if (got === undefined) break;
      }
    }
    for (const { link, protocol, closed } of links.values()) {
      if (closed) continue;
      await link.write(encodeCommand(["PING"]));
      const got = await withinTime(link, protocol);
      if (show(got) !== "+PONG") {
        found.push({ line: 0, message: `PING at the end\nexpected +PONG\ngot      ${show(got)}` });
      }
    }
  } catch (cause) {
    found.push({ line, message: `the transcript could not be played to its end: ${(cause as Error).message}` });
  } finally {
    for (const { link } of links.values()) link[Symbol.dispose]();
  }
  return found;
}

async function withinTime(link: Link<Exact>, protocol: Protocol): Promise<Exact | undefined> {
  let timer: ReturnType<typeof setTimeout>;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no reply within ${REPLY_MS_MAX} ms`)), REPLY_MS_MAX);
  });
  const reply = link.read(protocol);
  reply.catch(() => {}); // When it is late, the link is closed under it.
  try {
    return await Promise.race([reply, late]);
  } finally {
    clearTimeout(timer!);
  }
}

function bytesOf(request: Request, captured: Captured): Uint8Array {
  return request.raw ?? encodeCommand(request.words!.map((word) => wordBytes(word, captured)));
}

function wordBytes(word: Word, captured: Captured): Uint8Array {
  return concat(word.map((part) => {
    if (part instanceof Uint8Array) return part;
    const value = captured.get(part.name);
    if (value === undefined) throw new Error(`nothing has left a value in $${part.name}`);
    return Uint8Array.from(value, (char) => char.charCodeAt(0));
  }));
}

/** The protocols that a transcript is played in. */
export function protocolsOf(transcript: Transcript): Protocol[] {
  return transcript.bare === null ? [2, 3] : [transcript.bare];
}

/** The line of a mismatch, with the file that it is in. */
export function describe(transcript: Transcript, mismatches: readonly Mismatch[]): string {
  return mismatches.map(({ line, message }) => `testdata/transcripts/${transcript.name}:${line}: ${message}`).join(
    "\n",
  );
}

if (import.meta.main) {
  const { parseArgs } = await import("node:util");
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { server: { type: "string" } } });
  const command = serverCommand(values.server);
  const tally = new Tally();
  for (const transcript of loadTranscripts()) {
    if (positionals.length > 0 && !positionals.some((path) => path.endsWith(transcript.name))) continue;
    for (const protocol of protocolsOf(transcript)) {
      await tally.check(`${transcript.name} over RESP${protocol}`, async () => {
        const flags = Object.entries(transcript.settings)
          .flatMap(([key, value]) => [`--${key.replace(/[._]/g, "-")}`, value]);
        await using server = await ServerProcess.start({ command, flags });
        const mismatches = await playTranscript(transcript, server.address, protocol);
        if (mismatches.length > 0) throw new Error(describe(transcript, mismatches));
        return `${transcript.exchanges.reduce((sum, exchange) => sum + exchange.replies.length, 0)} replies`;
      });
    }
  }
  Deno.exit(tally.end());
}
