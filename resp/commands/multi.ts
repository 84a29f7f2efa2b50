/**
 * `MULTI`, `EXEC`, `DISCARD`, `WATCH`, `UNWATCH`: Redis' transactions, which there are none of.
 *
 * Many clients wrap a pipeline in MULTI and EXEC unasked. To refuse only MULTI would store what follows piece by piece,
 * where the caller believes in all or none. So after a MULTI everything up to EXEC or DISCARD is refused as well.
 *
 * @module
 */
import { ReplyError } from "../value.ts";
import type { AnsweringCommand } from "./command.ts";

const INSTEAD = "append several events all or none with one EMAPPEND, and send pipelines without MULTI " +
  "(in redis-py: pipeline(transaction=False))";

/** What a command is told between a refused MULTI and its end. */
export const REFUSED_SINCE_MULTI = new ReplyError(
  "ERR",
  `Nothing is carried out until EXEC or DISCARD, as MULTI is not supported: ${INSTEAD}`,
);

export const multi: AnsweringCommand = {
  name: "MULTI",
  does: "answers",
  summary: "Is refused: use EMAPPEND",
  syntax: "",
  group: "transactions",
  since: "0.1.0",
  prepare(_args, { client }) {
    client.refusing = true;
    throw new ReplyError("ERR", `MULTI is not supported: ${INSTEAD}. Until EXEC or DISCARD everything is refused`);
  },
};

export const exec: AnsweringCommand = {
  name: "EXEC",
  does: "answers",
  summary: "Ends a refused MULTI",
  syntax: "",
  group: "transactions",
  since: "0.1.0",
  endsMulti: true,
  prepare(_args, { client }) {
    const code = client.refusing ? "EXECABORT" : "ERR";
    const text = client.refusing ? "Transaction discarded because of previous errors." : "EXEC without MULTI";
    client.refusing = false;
    throw new ReplyError(code, text);
  },
};

export const discard: AnsweringCommand = {
  name: "DISCARD",
  does: "answers",
  summary: "Ends a refused MULTI",
  syntax: "",
  group: "transactions",
  since: "0.1.0",
  endsMulti: true,
  prepare(_args, { client }) {
    if (!client.refusing) throw new ReplyError("ERR", "DISCARD without MULTI");
    client.refusing = false;
    return (reply) => reply.simple("OK");
  },
};

export const watch: AnsweringCommand = {
  name: "WATCH",
  does: "answers",
  summary: "Is refused: use EXPECTED_VERSION",
  syntax: "stream_id ...",
  group: "transactions",
  since: "0.1.0",
  prepare() {
    throw new ReplyError(
      "ERR",
      "WATCH is not supported: an append with EXPECTED_VERSION is refused if a stream has changed",
    );
  },
};

export const unwatch: AnsweringCommand = {
  name: "UNWATCH",
  does: "answers",
  summary: "Does nothing, as nothing is watched",
  syntax: "",
  group: "transactions",
  since: "0.1.0",
  prepare(args) {
    args.end();
    return (reply) => reply.simple("OK");
  },
};
