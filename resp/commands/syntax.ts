/**
 * The syntax of a command as one line → the arguments that COMMAND DOCS and redis-cli know.
 *
 *     stream_id event_name [payload] [EVENT_ID uuid] [EXPECTED_VERSION <ANY | EXISTS | EMPTY | version:integer>]
 *
 * `[…]` may be left out, `<a | b>` is a choice, `<a b>` a group, `…` written as `...` repeats what stands before it, a word in capitals
 * is a keyword and names the value behind it, and `name:type` gives a value one of Redis' types (string by default).
 *
 * @module
 */

export interface SyntaxArgument {
  name: string;
  type: string;
  token?: string;
  optional: boolean;
  multiple: boolean;
  /** Of a block, its parts; of a choice, what to choose from. */
  arguments: SyntaxArgument[];
}

/** @throws the line is not in this notation: a bug in the command's file */
export function parseSyntax(line: string): SyntaxArgument[] {
  const tokens = line.match(/\.\.\.|[[\]<>|]|[^\s[\]<>|]+/g) ?? [];
  const { parts, at } = parseParts(tokens, 0, line);
  if (at !== tokens.length) throw new Error(`Unexpected ${tokens[at]} in the syntax ${line}`);
  return parts;
}

/** The line as a person reads it, without types. */
export function showSyntax(line: string): string {
  return line.replace(/([a-z_]):[a-z-]+/g, "$1");
}

/** As Redis counts: the name and what must be there; negative when there may be more. */
export function arityOf(line: string): number {
  const parts = parseSyntax(line);
  const fixed = parts.every((part) => !part.optional && !part.multiple && isOneWord(part));
  const needed = parts.reduce((sum, part) => sum + wordsNeeded(part), 1);
  return fixed ? needed : -needed;
}

function isOneWord(part: SyntaxArgument): boolean {
  return part.type === "oneof"
    ? part.arguments.every((choice) => wordsNeeded(choice) === 1 && !hasMore(choice))
    : !hasMore(part);
}

function hasMore(part: SyntaxArgument): boolean {
  return part.optional || part.multiple || part.arguments.some(hasMore);
}

function wordsNeeded(part: SyntaxArgument): number {
  if (part.optional) return 0;
  const token = part.token !== undefined && part.type !== "pure-token" ? 1 : 0;
  if (part.type === "block") return token + part.arguments.reduce((sum, inner) => sum + wordsNeeded(inner), 0);
  if (part.type === "oneof") return token + Math.min(...part.arguments.map(wordsNeeded));
  return token + 1;
}

function parseParts(tokens: string[], at: number, line: string): { parts: SyntaxArgument[]; at: number } {
  const parts: SyntaxArgument[] = [];
  while (at < tokens.length && !"]>|".includes(tokens[at]!)) {
    const token = tokens[at]!;
    if (token === "...") {
      parts.at(-1)!.multiple = true;
      at++;
    } else if (token === "[") {
      const inner = parseParts(tokens, at + 1, line);
      at = expect(tokens, inner.at, "]", line);
      parts.push({ ...asOne(inner.parts), optional: true });
    } else if (token === "<") {
      const choice = parseChoice(tokens, at + 1, line);
      parts.push(choice.part);
      at = choice.at;
    } else if (token !== token.toUpperCase()) {
      const [name, type] = token.split(":");
      parts.push({ name: name!, type: type ?? "string", optional: false, multiple: false, arguments: [] });
      at++;
    } else {
      // A keyword: alone, or the token of the value or choice that follows it.
      const name = token.toLowerCase();
      const next = tokens[at + 1];
      if (next === "<") {
        const choice = parseChoice(tokens, at + 2, line);
        parts.push({ ...choice.part, name, token });
        at = choice.at;
      } else if (next !== undefined && next !== next.toUpperCase()) {
        const [valueName, type] = next.split(":");
        parts.push({
          name: valueName!,
          type: type ?? "string",
          token,
          optional: false,
          multiple: false,
          arguments: [],
        });
        at += 2;
      } else {
        parts.push({ name, type: "pure-token", token, optional: false, multiple: false, arguments: [] });
        at++;
      }
    }
  }
  return { parts, at };
}

function parseChoice(tokens: string[], at: number, line: string): { part: SyntaxArgument; at: number } {
  const choices: SyntaxArgument[] = [];
  for (;;) {
    const inner = parseParts(tokens, at, line);
    choices.push(asOne(inner.parts));
    if (tokens[inner.at] !== "|") {
      return {
        part: choices.length === 1
          ? choices[0]!
          : { name: "choice", type: "oneof", optional: false, multiple: false, arguments: choices },
        at: expect(tokens, inner.at, ">", line),
      };
    }
    at = inner.at + 1;
  }
}

function asOne(parts: SyntaxArgument[]): SyntaxArgument {
  if (parts.length === 1) return parts[0]!;
  const name = parts[0]!.name;
  return { name, type: "block", optional: false, multiple: false, arguments: parts };
}

function expect(tokens: string[], at: number, token: string, line: string): number {
  if (tokens[at] !== token) throw new Error(`Expected ${token} in the syntax ${line}`);
  return at + 1;
}
