import assert from "node:assert/strict";
import {
  Damaged,
  DiskFull,
  DuplicateEventId,
  InvalidArgument,
  LimitExceeded,
  NoReplica,
  NoSuchPartition,
  OutcomeUnknown,
  StoreClosed,
  TooFewReplicas,
  TryAgain,
  WrongExpectedVersion,
} from "../core/errors.ts";
import { replyErrorOf } from "./replies.ts";
import { ReplyError } from "./value.ts";

Deno.test("every error that a store may throw has its code", () => {
  const codes: [Error, string, string][] = [
    [new InvalidArgument("x"), "INVALIDARG", "INVALIDARG"],
    [new LimitExceeded("x", 2, 1), "DBOPFAILED", "DBOPFAILED"],
    [new WrongExpectedVersion("s", "k", "empty", 0), "WRONGVER", "WRONGVER"],
    [new DuplicateEventId("id", "x"), "DUPLICATEID", "DUPLICATEID"],
    [new NoSuchPartition(32, 32), "CLUSTERDOWN", "CLUSTERDOWN"],
    [new DiskFull("x"), "DISKFULL", "DISKFULL"],
    [new Damaged("file", 1, "x"), "WRITEERR", "READERR"],
    [new StoreClosed(), "ACTORSTOPPED", "ACTORSTOPPED"],
    [new TooFewReplicas("x"), "INSUFFICIENTREPLICAS", "INSUFFICIENTREPLICAS"],
    [new NoReplica("x"), "CLUSTERDOWN", "CLUSTERDOWN"],
    [new TryAgain("x"), "TRYAGAIN", "TRYAGAIN"],
    [new OutcomeUnknown("x"), "UNKNOWN", "UNKNOWN"],
    [new ReplyError("NOPROTO", "x"), "NOPROTO", "NOPROTO"],
  ];
  for (const [error, appending, reading] of codes) {
    assert.equal(replyErrorOf(error, "appends")!.code, appending);
    assert.equal(replyErrorOf(error, "reads")!.code, reading);
  }
});

Deno.test("WRONGVER says stream, partition key, expected and current version", () => {
  const { message } = replyErrorOf(new WrongExpectedVersion("s", "key", 5, null), "appends")!;
  for (const fact of [`"s"`, "key", "expected version 5", "current version empty"]) assert.ok(message.includes(fact));
});

Deno.test("an error that nobody foresaw has no reply of its own", () => {
  assert.equal(replyErrorOf(new TypeError("x is undefined"), "reads"), null);
});
