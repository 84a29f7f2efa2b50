import assert from "node:assert/strict";
import { Chance } from "../../core/chance.ts";
import { MemoryStore } from "../../core/memory_store.ts";
import { listen, type ListenOptions } from "../mod.ts";
import { field, show, TestClient, textOf } from "../test_client.ts";
import { matches } from "./config.ts";
import { commands, findCommand } from "./mod.ts";

const ID = "01a20505-26b5-bd87-945c-2e28ce9cb943";
const KEY = "e7a265f9-46bb-55fc-945c-3571e2aaa17e"; // Of stream user-1.
const TRANSACTION_ID = "01a20505-26b5-4d87-945c-2e28ce9cb943";

async function withClient(
  act: (client: TestClient, store: MemoryStore) => Promise<void>,
  options: Partial<ListenOptions> = {},
) {
  const store = new MemoryStore();
  const listener = listen(store, { hostname: "127.0.0.1", port: 0, version: "1.2.3", peerId: "peer", ...options });
  const client = await TestClient.connect(listener.port);
  try {
    await act(client, store);
  } finally {
    client.close();
    await listener.close();
  }
}

Deno.test("events have the reference's shapes on RESP3", async () => {
  await withClient(async (client) => {
    assert.equal(
      await client.ask("EAPPEND", "user-1", "Created", "{}", "EVENT_ID", ID, "TIMESTAMP", "5", "METADATA", "m"),
      `%{+event_id: +${ID}, +partition_key: +${KEY}, +partition_id: :16, +partition_sequence: :0, ` +
        `+stream_version: :0, +timestamp: :5}`,
    );
    const record = `%{+event_id: +${ID}, +partition_key: +${KEY}, +partition_id: :16, ` +
      `+transaction_id: +${TRANSACTION_ID}, +partition_sequence: :0, +stream_version: :0, +timestamp: :5, ` +
      `+stream_id: $"user-1", +event_name: $"Created", +metadata: $"m", +payload: $"{}"}`;
    assert.equal(await client.ask("EGET", ID.toUpperCase()), record);
    assert.equal(await client.ask("ESCAN", "user-1", "-", "+"), `%{+has_more: #f, +events: *[${record}]}`);
    assert.equal(await client.ask("EPSCAN", "16", "0", "0", "COUNT", "0"), `%{+has_more: #t, +events: *[]}`);
    assert.equal(
      (await client.ask("EMAPPEND", KEY, "a", "A", "TIMESTAMP", "1", "b", "B", "TIMESTAMP", "2")).replaceAll(
        /\+event_id: \+[0-9a-f-]{36}/g,
        "+event_id: +?",
      ),
      `%{+partition_key: +${KEY}, +partition_id: :16, +first_partition_sequence: :1, +last_partition_sequence: :2, ` +
        `+events: *[%{+event_id: +?, +stream_id: $"a", +stream_version: :0, +timestamp: :1}, ` +
        `%{+event_id: +?, +stream_id: $"b", +stream_version: :0, +timestamp: :2}]}`,
    );
  }, { initialProtocol: 3 });
});

Deno.test("events have the same shapes on RESP2, flat", async () => {
  await withClient(async (client) => {
    assert.equal(
      await client.ask("EAPPEND", "user-1", "Created", "EVENT_ID", ID, "TIMESTAMP", "5"),
      `*[+event_id, +${ID}, +partition_key, +${KEY}, +partition_id, :16, +partition_sequence, :0, ` +
        `+stream_version, :0, +timestamp, :5]`,
    );
    const record = `*[+event_id, +${ID}, +partition_key, +${KEY}, +partition_id, :16, ` +
      `+transaction_id, +${TRANSACTION_ID}, +partition_sequence, :0, +stream_version, :0, +timestamp, :5, ` +
      `+stream_id, $"user-1", +event_name, $"Created", +metadata, $"", +payload, $""]`;
    assert.equal(await client.ask("ESCAN", "user-1", "-", "+"), `*[+has_more, :0, +events, *[${record}]]`);
    assert.equal(await client.ask("EGET", KEY), "$-1");
    assert.match(await client.ask("INFO", "CACHE"), /^\*\[\$"hits", :0, \$"misses", :0, \$"hit_ratio", \$"0", /);
  });
});

/** What a scan must return, by the rules of the wire: versions and whether there are more. */
function expectedScan(last: number, start: string, end: string, reverse: boolean, count: number) {
  const backwards = reverse || start === "+" || end === "-";
  const value = (bound: string) => bound === "-" ? 0 : bound === "+" ? last : Number(bound);
  const [low, high] = backwards ? [value(end), value(start)] : [value(start), value(end)];
  const inRange: number[] = [];
  for (let n = low; n <= Math.min(high, last); n++) inRange.push(n);
  if (backwards) inRange.reverse();
  return { numbers: inRange.slice(0, count), hasMore: inRange.length > count };
}

Deno.test("ESCAN and EPSCAN return what the rules of ranges say, for every range of a short stream", async () => {
  await withClient(async (client, store) => {
    await store.append({ events: Array.from({ length: 5 }, () => ({ streamId: "user-1", name: "E" })) });
    const bounds = ["-", "+", "0", "2", "4", "5", "9"];
    const chance = new Chance(7);
    for (const command of [["ESCAN", "user-1"], ["EPSCAN", "16"], ["EPSCAN", KEY]]) {
      for (const start of bounds) {
        for (const end of bounds) {
          for (const reverse of [false, true]) {
            const count = chance.oneIn(3) ? 100 : chance.below(6);
            const words = [...command, start, end, ...reverse ? ["REV"] : [], "COUNT", String(count)];
            await client.send(...words);
            const reply = await client.frame();
            const what = words.join(" ");
            if (start === end && "-+".includes(start) || reverse && (start === "-" || end === "+")) {
              assert.match(show(reply), /^-INVALIDARG /, what);
              continue;
            }
            const expected = expectedScan(4, start, end, reverse, count);
            const numbers = field(reply, "events").items.map((event) => Number(textOf(field(event, "stream_version"))));
            assert.deepEqual(numbers, expected.numbers, what);
            assert.equal(show(field(reply, "has_more")), expected.hasMore ? ":1" : ":0", what);
          }
        }
      }
    }
  });
});

Deno.test("between MULTI and its end nothing is carried out, not even pipelined", async () => {
  await withClient(async (client, store) => {
    for (const end of ["EXEC", "DISCARD"]) {
      for (const words of [["MULTI"], ["EAPPEND", "s", "E"], ["NONSENSE"], [end], ["PING"]]) {
        await client.send(...words);
      }
      for (let i = 0; i < 3; i++) assert.match(await client.reply(), /^-ERR .*EMAPPEND.*transaction=False/);
      assert.match(await client.reply(), end === "EXEC" ? /^-EXECABORT / : /^\+OK$/);
      assert.equal(await client.reply(), "+PONG");
    }
    assert.equal(store.status().events, 0);
    assert.equal(await client.ask("EXEC"), "-ERR EXEC without MULTI");
    assert.equal(await client.ask("DISCARD"), "-ERR DISCARD without MULTI");
  });
});

Deno.test("strict versioning refuses an append that does not know its version, before anything else", async () => {
  await withClient(async (client, store) => {
    for (const words of [[], ["EXPECTED_VERSION", "ANY"], ["EXPECTED_VERSION", "exists"]]) {
      assert.match(await client.ask("EAPPEND", "s", "E", ...words), /^-INVALIDARG .*strict_versioning/);
      assert.match(await client.ask("EMAPPEND", KEY, "s", "E", ...words), /^-INVALIDARG .*strict_versioning/);
    }
    assert.equal(store.status().events, 0);
    assert.match(await client.ask("EAPPEND", "s", "E", "EXPECTED_VERSION", "empty"), /stream_version, :0/);
  }, { strictVersioning: true });
});

Deno.test("HELLO chooses the protocol, or leaves everything as it is", async () => {
  await withClient(async (client) => {
    const about = (proto: number) =>
      `$"server": $"esker", $"version": $"1.2.3", $"proto": :${proto}, $"id": :1, $"mode": $"standalone", ` +
      `$"role": $"master", $"modules": *[], $"peer_id": $"peer", $"num_partitions": :32`;
    assert.equal(await client.ask("HELLO"), `*[${about(2).replaceAll(/": (?=[$:*])/g, '", ')}]`);
    assert.equal(await client.ask("HELLO", "3", "AUTH", "default", "x", "SETNAME", "me"), `%{${about(3)}}`);
    assert.equal(await client.ask("CLIENT", "GETNAME"), `$"me"`);
    assert.match(await client.ask("HELLO", "4"), /^-NOPROTO /);
    assert.match(await client.ask("HELLO", "2", "AUTH", "nobody", "x"), /^-WRONGPASS /);
    assert.match(await client.ask("HELLO", "x"), /^-INVALIDARG /);
    assert.match(await client.ask("HELLO", "2", "NONSENSE"), /^-INVALIDARG /);
    assert.equal(await client.ask("ESVER", "none"), "_");
    assert.equal(await client.ask("RESET"), "+RESET");
    assert.equal(await client.ask("ESVER", "none"), "$-1");
    assert.equal(await client.ask("CLIENT", "GETNAME"), "$-1");
  });
});

Deno.test("CONFIG GET shows settings and Redis' names by pattern", async () => {
  await withClient(async (client) => {
    assert.equal(await client.ask("CONFIG", "GET", "resp.*"), `*[$"resp.words_max", $"5"]`);
    assert.equal(await client.ask("CONFIG", "GET", "SAVE", "maxmem*"), `*[$"maxmemory", $"0", $"save", $""]`);
  }, { settings: () => [["resp.words_max", "5"], ["dir", "/x"]] });
});

Deno.test("CONFIG's globs match as Redis' do, and never take long", () => {
  const cases: [string, string, boolean][] = [
    ["*", "", true],
    ["a*c", "abbc", true],
    ["a*c", "abbd", false],
    ["a?c", "abc", true],
    ["a?c", "ac", false],
    ["[abc]x", "bx", true],
    ["[^abc]x", "bx", false],
    ["[a-c]x", "bx", true],
    ["[a-c]x", "dx", false],
    ["\\*", "*", true],
    ["\\*", "a", false],
    ["[", "[", false],
    ["*a*b*", "xxaxxbxx", true],
    ["", "a", false],
  ];
  for (const [pattern, name, expected] of cases) assert.equal(matches(pattern, name), expected, `${pattern} ${name}`);
  assert.equal(matches("*a".repeat(200) + "*b", "a".repeat(2000)), false);
});

Deno.test("COMMAND tells about every command in the structure of Redis 7", async () => {
  await withClient(async (client) => {
    assert.equal(await client.ask("COMMAND", "COUNT"), `:${commands.length}`);
    assert.equal(
      await client.ask("COMMAND", "DOCS", "esver"),
      `%{$"esver": %{$"summary": $"Returns the version of a stream's last event, or null while it has none", ` +
        `$"since": $"0.1.0", $"group": $"events", $"arguments": *[` +
        `%{$"name": $"stream_id", $"type": $"string", $"display_text": $"stream_id"}, ` +
        `%{$"name": $"uuid", $"type": $"string", $"display_text": $"uuid", $"token": $"PARTITION_KEY", ` +
        `$"flags": ~[+optional]}, ` +
        `%{$"name": $"sequence", $"type": $"integer", $"display_text": $"sequence", $"token": $"AT_LEAST", ` +
        `$"flags": ~[+optional]}, ` +
        `%{$"name": $"leader", $"type": $"pure-token", $"display_text": $"leader", $"token": $"LEADER", ` +
        `$"flags": ~[+optional]}]}}`,
    );
    assert.equal(
      await client.ask("COMMAND", "INFO", "esver", "nonsense"),
      `*[*[$"esver", :-2, ~[+readonly], :0, :0, :0, ~[+@read], *[], *[], *[]], _]`,
    );
    await client.send("COMMAND");
    assert.equal((await client.frame()).items.length, commands.length);
  }, { initialProtocol: 3 });
});

Deno.test("every command is found by its name in either case, and nothing else is", () => {
  const find = (name: string) => findCommand(new TextEncoder().encode(name), 0, name.length)?.command.name;
  for (const { name } of commands) {
    assert.equal(find(name), name);
    assert.equal(find(name.toLowerCase()), name);
    assert.equal(find(name + "x"), undefined);
    assert.equal(find(`X${name.slice(1)}`), undefined);
  }
  assert.equal(find(""), undefined);
  assert.equal(find("x".repeat(1000)), undefined);
});
