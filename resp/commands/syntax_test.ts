import assert from "node:assert/strict";
import { commands } from "./mod.ts";
import { arityOf, parseSyntax, showSyntax, type SyntaxArgument } from "./syntax.ts";

/** An argument in one line: name:type, its token before it, ? optional, + multiple, its parts in brackets. */
function brief(part: SyntaxArgument): string {
  return (part.token === undefined ? "" : `${part.token} `) + `${part.name}:${part.type}` + (part.optional ? "?" : "") +
    (part.multiple ? "+" : "") + (part.arguments.length === 0 ? "" : `(${part.arguments.map(brief).join(" ")})`);
}

Deno.test("a line of syntax becomes the arguments that it says", () => {
  const cases: [string, string][] = [
    ["", ""],
    ["stream_id [message]", "stream_id:string message:string?"],
    ["[COUNT count:integer]", "COUNT count:integer?"],
    ["[REV]", "REV rev:pure-token?"],
    ["name ...", "name:string+"],
    ["[name ...]", "name:string?+"],
    ["<- | + | start:integer>", "choice:oneof(- -:pure-token + +:pure-token start:integer)"],
    ["[V <ANY | version:integer>]", "V v:oneof?(ANY any:pure-token version:integer)"],
    ["<a [B b]> ...", "a:block+(a:string B b:string?)"],
    ["[p [AUTH u w]]", "p:block?(p:string u:block?(AUTH u:string w:string))"],
  ];
  for (const [line, expected] of cases) assert.equal(parseSyntax(line).map(brief).join(" "), expected, line);
  assert.throws(() => parseSyntax("[a"), /Expected \]/);
  assert.throws(() => parseSyntax("a]"), /Unexpected \]/);
});

Deno.test("arity counts as Redis does", () => {
  const cases: [string, number][] = [["", 1], ["a", 2], ["a [b]", -2], ["a ...", -2], ["<a | B b>", -2], ["A b", 3]];
  for (const [line, arity] of cases) assert.equal(arityOf(line), arity, line);
});

Deno.test("every command has a syntax that can be read and shown, and a summary of one line", () => {
  for (const { name, syntax, summary } of commands) {
    parseSyntax(syntax);
    assert.doesNotMatch(showSyntax(syntax), /:/, name);
    assert.match(summary, /^[A-Z][^\n]*[^.]$/, name);
  }
});
