import assert from "node:assert/strict";
import { crc32 } from "node:zlib";
import { Chance } from "../core/chance.ts";
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
import { Chain as ChainSum } from "../core/log/format.ts";
import { ID_MAX, type Message } from "./consensus/message.ts";
import { FrameEntries } from "./frame_entries.ts";
import { NotLeader } from "./local.ts";
import {
  errorOf,
  failureOf,
  MESSAGE_BYTES_MAX,
  MESSAGE_HEADER_BYTES,
  MessageDecoder,
  MessageEncoder,
  messageEnd,
  MessageRefused,
  type NodeMessage,
} from "./messages.ts";
import {
  emptyFrame,
  encoded,
  fuzz,
  golden,
  NODE,
  plain,
  refusalOf,
  SHAPE,
  someFailure,
  someMessage,
  varint,
  withLength,
} from "./messages_fuzz.ts";

const encoder = new MessageEncoder(SHAPE);
const decoder = new MessageDecoder(SHAPE, NODE);

const CHAIN = { low: 1, high: 2 };

function whyRefused(bytes: Uint8Array, by = decoder): string {
  const found = refusalOf(by, bytes);
  assert.ok(found instanceof MessageRefused, "it is accepted");
  return found.why;
}

/** Messages whose bytes are in testdata/messages. */
function goldenMessages(): Record<string, NodeMessage> {
  const frame = golden("segments/single_event.hex"); // Entry 300 of bucket 1, in term 1.
  const prevChain = ChainSum.ofBucket(1);
  const chain = prevChain.copy();
  chain.step(1, 300, crc32(frame.subarray(8)));
  const frames = Uint8Array.of(...frame, ...emptyFrame(1, 301, 3, chain));
  const must = { bucket: 1, bucketCount: SHAPE.bucketCount, from: 300, prevChain, prevTerm: 1, term: 3 };
  const entries = FrameEntries.verify(frames, must);
  assert.ok(typeof entries !== "string", String(entries));
  const from = { slot: 2, dataId: 0x0102_0304, boot: 300 };
  const low = { low: 0x04030201, high: 0x08070605 };
  return {
    append: {
      kind: "replica",
      bucket: 1,
      from,
      message: {
        kind: "append",
        term: 5,
        from: 300,
        prevTerm: 1,
        prevChain: { low: prevChain.low, high: prevChain.high },
        entries,
        commitEnd: 299,
        bulk: true,
      },
    },
    heartbeats: {
      kind: "heartbeats",
      beats: [
        {
          bucket: 0,
          from: { slot: 0, dataId: 7, boot: 300 },
          message: {
            kind: "heartbeat",
            term: 3,
            round: 200,
            end: 302,
            chain: low,
            commitEnd: 301,
            heldEnds: [301, 0, 299],
          },
        },
        {
          bucket: 1,
          from: { slot: 2, dataId: 8, boot: 300 },
          message: {
            kind: "heartbeatReply",
            term: 4,
            round: 1,
            end: 20,
            verifiedEnd: 19,
            durableEnd: 18,
            recovering: false,
          },
        },
      ],
    },
    beacon: {
      kind: "beacon",
      node: 4,
      boot: 300,
      number: 5,
      addresses: ["/ip4/10.0.0.4/tcp/9000"],
      buckets: [
        { bucket: 2, dataId: 7, term: 3, leader: 2, commitEnd: 300, chain: low },
        { bucket: 3, dataId: 8, term: 4, leader: null, commitEnd: 0, chain: low },
      ],
    },
    forward_append: {
      kind: "forwardAppend",
      request: 1000,
      hopsLeft: 3,
      remainingMs: 10_000,
      term: 3,
      run: 2,
      transaction: {
        partitionKey: "550e8400-e29b-41d4-a716-446655440000",
        events: [
          {
            streamId: "a",
            name: "A",
            eventId: "01a20505-26b5-bd87-a716-442e9cb94301",
            expectedVersion: 7,
            timestamp: 1_700_000_000_123,
            metadata: new Uint8Array(),
            payload: Uint8Array.of(0x70),
          },
          {
            streamId: "b",
            name: "",
            expectedVersion: "empty",
            metadata: Uint8Array.of(0x6d),
            payload: new Uint8Array(),
          },
        ],
      },
    },
    follow: {
      kind: "forwardRead",
      request: 1000,
      hopsLeft: 0,
      remainingMs: 12_000,
      atLeast: null,
      fromLeader: false,
      query: {
        kind: "follow",
        positions: { partitions: [{ partition: 7, next: 300 }, { partition: 2, next: 0 }] },
        waitMs: 10_000,
        limit: 256,
        within: "01a20505-26b5-bd87-216e-442e9cb94301",
      },
    },
    heads: {
      kind: "forwardRead",
      request: 1001,
      hopsLeft: 0,
      remainingMs: 2000,
      atLeast: null,
      fromLeader: true,
      query: {
        kind: "heads",
        positions: { streams: [{ streamId: "a", partitionKey: "550e8400-e29b-41d4-a716-446655440000", next: 300 }] },
      },
    },
    answer_wrong_version: {
      kind: "answer",
      request: 1000,
      answer: {
        kind: "failed",
        failure: {
          code: "wrongExpectedVersion",
          streamId: "a",
          partitionKey: "550e8400-e29b-41d4-a716-446655440000",
          expected: 7,
          current: null,
        },
      },
    },
  };
}

Deno.test("messages have the bytes of the golden files, and read as what was written", () => {
  for (const [name, message] of Object.entries(goldenMessages())) {
    const bytes = golden(`messages/${name}.hex`);
    assert.deepEqual(encoded(encoder, message), bytes, name);
    assert.deepEqual(plain(decoder.decode(bytes)), plain(message), name);
  }
});

Deno.test("any message reads as it was written; mutated, it is refused or is a message that would be written so", () => {
  fuzz(0, 600);
});

Deno.test("the fuzzer makes every kind of message, and mutations of which some are accepted", () => {
  const kinds = new Set<string>();
  for (let seed = 0; seed < 600; seed++) {
    const message = someMessage(new Chance(seed));
    kinds.add(message.kind === "replica" ? message.message.kind : message.kind);
    if (message.kind === "forwardRead") kinds.add(`read ${message.query.kind}`);
    if (message.kind === "answer") kinds.add(`answer ${message.answer.kind}`);
    kinds.add(`failure ${someFailure(new Chance(seed)).code}`);
  }
  assert.equal(kinds.size, 6 + 19 + 9 + 7 + 13);
});

Deno.test("a message that is torn at any byte is refused, and one with a flipped bit is refused or as valid", () => {
  for (const name of Object.keys(goldenMessages())) {
    const bytes = golden(`messages/${name}.hex`);
    for (let end = 0; end < bytes.length; end++) {
      whyRefused(bytes.slice(0, end));
      whyRefused(withLength(bytes.slice(0, end)));
    }
    whyRefused(withLength(Uint8Array.of(...bytes, 0)));
    let accepted = 0;
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      const flipped = bytes.slice();
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      const found = refusalOf(decoder, flipped);
      if (found instanceof MessageRefused) continue;
      accepted++;
      assert.ok(bit >= 8 * 5, `${name}: bit ${bit} of length or version`);
      assert.deepEqual(encoded(encoder, found), flipped, `${name}, bit ${bit}`);
    }
    assert.ok(accepted > 0, name); // A term is as good as another: the transport's seal is against that.
  }
});

Deno.test("every flipped bit of an entry is found", () => {
  const bytes = golden("messages/append.hex");
  const frames = golden("segments/single_event.hex").length + 29;
  for (let bit = 8 * (bytes.length - frames); bit < 8 * bytes.length; bit++) {
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    assert.match(whyRefused(bytes), /entr/, `bit ${bit}`);
    bytes[bit >> 3]! ^= 1 << (bit & 7);
  }
});

// ---- The decoder -------------------------------------------------------------------------------------------------------

/** A message whose body is these bytes, behind the header of one of its kind. */
function withBody(like: NodeMessage, ...body: number[]): Uint8Array {
  return withLength(Uint8Array.of(...encoded(encoder, like).subarray(0, MESSAGE_HEADER_BYTES), ...body));
}

function ofReplica(message: Message): NodeMessage {
  return { kind: "replica", bucket: 1, from: { slot: 2, dataId: 1, boot: 1 }, message };
}

const ACK = ofReplica({ kind: "ack", term: 1, end: 2, recovering: false });

Deno.test("what is not as it must be is refused, with what it is and where", () => {
  const ack = (...body: number[]) => whyRefused(withBody(ACK, ...body));
  assert.equal(encoded(encoder, ACK).subarray(MESSAGE_HEADER_BYTES).join(" "), "1 2 1 1 1 2 0");
  assert.equal(ack(1, 2, 1, 1, 1, 2, 0, 9), "1 bytes are left after it");
  assert.equal(ack(1, 2, 1, 1, 1, 2), "it ends too early");
  assert.equal(ack(1, 2, 1, 1, 1, 2, 2), "2 is neither yes nor no");
  assert.equal(ack(8), "the bucket is 8: the limit is 7");
  assert.equal(ack(1, 3), "the slot is 3: the limit is 2");
  assert.equal(ack(1, 0), "it is from slot 0 of bucket 1, which is this node itself");
  assert.equal(ack(2, 0), "it is for a replica of bucket 2, which is not here");
  assert.equal(ack(1, 2, 0), "the data id is 0");
  assert.equal(ack(1, 2, ...varint(ID_MAX + 1)), `the data id is ${ID_MAX + 1}: the limit is ${ID_MAX}`);
  assert.equal(ack(1, 2, 1, ...varint(ID_MAX + 1)), `the boot is ${ID_MAX + 1}: the limit is ${ID_MAX}`);
  assert.equal(ack(1, 2, 1, 1, 0x81, 0), "the term is not in its shortest form");
  assert.equal(ack(1, 2, 1, 1, ...varint(2 ** 53)), "the term has more than 53 bits");
  assert.equal(ack(1, 2, 1, 1, ...new Array(20).fill(0xff)), "the term has more than 53 bits");
  assert.throws(() => decoder.decode(withBody(ACK, 1, 2, 1, 1, 0x81, 0)), {
    message: "A message is refused at byte 20: the term is not in its shortest form",
  });

  assert.equal(whyRefused(withLength(encoded(encoder, ACK).with(5, 0))), "there is no kind 0");
  assert.equal(whyRefused(withLength(encoded(encoder, ACK).with(5, 99))), "there is no kind 99");
  const nonsense = ofReplica({ kind: "commitNote", end: 1, chain: CHAIN });
  assert.equal(whyRefused(withBody(nonsense, 1, 2, 1, 1, 1, 0, 0)), "a chain is cut off");
  const beacon = { kind: "beacon", node: 4, boot: 1, number: 1, addresses: [] } as const;
  const state = { dataId: 1, term: 1, leader: null, commitEnd: 0, chain: CHAIN };
  const buckets = (...buckets: number[]) => buckets.map((bucket) => ({ ...state, bucket }));
  assert.equal(whyRefused(encoded(encoder, { ...beacon, buckets: buckets(3, 2) })), "bucket 2 after bucket 3");
  assert.equal(whyRefused(encoded(encoder, { ...beacon, buckets: buckets(0) })), "node 4 has no replica of bucket 0");
  const promise = (...terms: { term: number; from: number }[]) =>
    whyRefused(encoded(
      encoder,
      ofReplica({
        kind: "promise",
        term: 1,
        lastTerm: 1,
        end: 9,
        chain: CHAIN,
        commitEnd: 0,
        terms,
        dataIds: [1, 2, 3],
      }),
    ));
  const { kind, ...rest } = { kind: "promise", term: 1, lastTerm: 1, end: 9, chain: CHAIN, commitEnd: 0 } as const;
  const knows = (dataId: number) => ofReplica({ kind, ...rest, terms: [], dataIds: [-1, dataId, 0] });
  assert.deepEqual(decoder.decode(encoded(encoder, knows(ID_MAX))), knows(ID_MAX));
  assert.match(whyRefused(encoded(encoder, knows(ID_MAX + 1))), /^the data id plus 1 is 281474976710658: /);
  assert.equal(promise({ term: 2, from: 5 }, { term: 2, from: 6 }), "term 2 from 6 after term 2 from 5");
  assert.equal(promise({ term: 2, from: 5 }, { term: 3, from: 5 }), "term 3 from 5 after term 2 from 5");
  const { append, answer_wrong_version, heartbeats } = goldenMessages();
  assert.match(whyRefused(withBody(heartbeats!, ...varint(ID_MAX + 1))), /^the boot is /);
  assert.equal(whyRefused(withBody(append!, 1, 2, 1, 1, 5, 0, 1)), "an entry of term 1 before the first");
  const text = (length: number) => [...varint(length), ...new Array(length).fill(0x61)];
  assert.equal(whyRefused(withBody(answer_wrong_version!, 0, 5, 6, ...text(1025))), "the message has 1025 characters");
  assert.match(
    whyRefused(withBody(answer_wrong_version!, 0, 5, 6, ...text(4097))),
    /message is 4097: the limit is 4096/,
  );
  assert.equal(whyRefused(withBody(answer_wrong_version!, 0, 5, 6, 1, 0xff)), "the message is no UTF-8");
});

Deno.test("a count that its message cannot hold is refused before anything is made for it", () => {
  const many = varint(2 ** 40);
  const { append, heartbeats, beacon, forward_append, follow, heads } = goldenMessages();
  const answer: NodeMessage = { kind: "answer", request: 0, answer: { kind: "events", events: [], more: false } };
  assert.match(whyRefused(withBody(heartbeats!, 1, ...many)), /said to be 1099511627776 heartbeats in 0 bytes/);
  assert.match(whyRefused(withBody(beacon!, 0, 1, 1, ...many)), /count of addresses is 1099511627776: the limit is 32/);
  assert.match(whyRefused(withBody(beacon!, 0, 1, 1, 0, 8, 0)), /said to be 8 buckets in 1 bytes/);
  assert.match(whyRefused(withBody(forward_append!, 0, 0, 0, 0, 0, 0, ...many)), /1099511627776 events in 0 bytes/);
  assert.match(whyRefused(withBody(answer, 0, 3, 0, ...many)), /1099511627776 events in 0 bytes/);
  assert.match(whyRefused(withBody(answer, 0, 1, ...new Array(18).fill(0), ...many)), /1099511627776 events/);
  assert.match(whyRefused(withBody(heads!, 0, 0, 0, 0, 0, 8, 2, ...many)), /1099511627776 streams in 0 bytes/);
  assert.match(whyRefused(withBody(follow!, 0, 0, 0, 0, 0, 9, 1, ...many)), /count of partitions is 1099511627776/);
  assert.match(whyRefused(withBody(answer, 0, 6, ...many)), /1099511627776 numbers in 0 bytes/);
  assert.match(whyRefused(withBody(forward_append!, 0, 16, 0)), /hops left is 16: the limit is 15/);
  const toEntries = [1, 2, 1, 1, 5, 0, 0, ...new Array(8).fill(0), 0, 0];
  assert.match(
    whyRefused(withBody(append!, ...toEntries, ...varint(2 ** 27))),
    /entries should have 134217728 bytes: 0 are left/,
  );
});

Deno.test("nodes of another version, cluster or shape are told apart", () => {
  assert.equal(
    whyRefused(encoded(encoder, ACK).with(4, 2)),
    "the node speaks version 2 of this protocol: here it is 1",
  );
  const others = new MessageDecoder({ ...SHAPE, clusterId: "another", partitionCount: 64 }, NODE);
  assert.equal(whyRefused(encoded(encoder, ACK), others), "it is of another cluster, or of other settings");
  assert.equal(
    whyRefused(encoded(encoder, { kind: "hello", node: 0, boot: 1 }), others),
    "the node has other settings: cluster fuzzed, partitions 32; here it is cluster another, partitions 64",
  );
});

Deno.test("of what comes over a stream, it is known where the first message ends", () => {
  const stream = Uint8Array.of(...encoded(encoder, ACK), ...encoded(encoder, ACK).subarray(0, 10));
  const first = encoded(encoder, ACK).length;
  assert.equal(messageEnd(stream, 0, stream.length), first);
  assert.equal(messageEnd(stream, first, stream.length), null);
  assert.equal(messageEnd(stream, first, first + 3), null);
  assert.deepEqual(decoder.decode(stream, 0, first), ACK);
  assert.equal(refusalOf(decoder, stream) instanceof MessageRefused, true);
  const lengthOf = (length: number) => new Uint8Array(Uint32Array.of(length).buffer);
  assert.throws(() => messageEnd(lengthOf(9), 0, 4), MessageRefused);
  assert.throws(() => messageEnd(lengthOf(MESSAGE_BYTES_MAX), 0, 4), MessageRefused);
  assert.equal(messageEnd(lengthOf(MESSAGE_BYTES_MAX - 4), 0, 4), null);
});

// ---- The encoder -------------------------------------------------------------------------------------------------------

Deno.test("messages that were added one after the other are one piece, whose memory is used again", () => {
  const batch = new MessageEncoder(SHAPE);
  const messages = Array.from({ length: 200 }, (_, seed) => someMessage(new Chance(seed)));
  const memory = new Set<ArrayBufferLike>();
  for (let i = 0; i < 3; i++) {
    for (const message of messages) batch.add(message);
    const length = batch.byteLength;
    const bytes = batch.take();
    memory.add(bytes.buffer);
    assert.equal(bytes.length, length);
    let at = 0;
    for (const message of messages) {
      const end = messageEnd(bytes, at, bytes.length)!;
      assert.deepEqual(plain(decoder.decode(bytes, at, end)), plain(message));
      at = end;
    }
    assert.equal(at, bytes.length);
  }
  assert.equal(memory.size, 1);
});

Deno.test("a message that cannot be encoded leaves those before it as they were", () => {
  const batch = new MessageEncoder(SHAPE);
  batch.add(ACK);
  for (const term of [NaN, -1, 0.5, Infinity, 2 ** 53]) {
    assert.throws(() => batch.add(ofReplica({ kind: "ack", term: 1, end: term, recovering: false })), RangeError);
  }
  const request = { kind: "forwardAppend", request: 1, hopsLeft: 1, remainingMs: 1, term: 1, run: 1 } as const;
  const payload = new Uint8Array(MESSAGE_BYTES_MAX);
  const event = { streamId: "a", name: "" };
  assert.throws(() => batch.add({ ...request, transaction: { events: [{ ...event, payload }] } }), LimitExceeded);
  assert.throws(() => batch.add({ ...request, transaction: { partitionKey: "x", events: [event] } }), InvalidArgument);
  const heldEnds = [1, 2];
  const heartbeat = {
    kind: "heartbeat",
    term: 1,
    round: 1,
    end: 1,
    chain: CHAIN,
    commitEnd: 1,
    heldEnds,
  } as const;
  assert.throws(() => batch.add(ofReplica(heartbeat)), /2 numbers for 3 slots/);
  assert.deepEqual(batch.take(), encoded(encoder, ACK));
});

Deno.test("text as content, and what was left out, come as bytes and as any", () => {
  const request = { kind: "forwardAppend", request: 1, hopsLeft: 1, remainingMs: 1, term: 1, run: 1 } as const;
  const events = [{ streamId: "a", name: "A", payload: "größer" }];
  const metadata = new Uint8Array();
  const payload = new TextEncoder().encode("größer");
  assert.deepEqual(decoder.decode(encoded(encoder, { ...request, transaction: { events } })), {
    ...request,
    transaction: { events: [{ streamId: "a", name: "A", expectedVersion: "any", metadata, payload }] },
  });
});

// ---- Errors ------------------------------------------------------------------------------------------------------------

Deno.test("an error is the same at the node that forwarded", () => {
  const key = "550e8400-e29b-41d4-a716-446655440000";
  const errors = [
    new InvalidArgument("A transaction needs at least one event"),
    new LimitExceeded("The timestamp", 7, 5, "milliseconds"),
    new WrongExpectedVersion("order-7", key, 4, 6),
    new WrongExpectedVersion("order-7", key, "exists", null),
    new DuplicateEventId(key, "with another payload"),
    new NoSuchPartition(40, 32),
    new DiskFull("The disk has no room"),
    new Damaged("buckets/0", 77, "a frame fails its checksum"),
    new StoreClosed(),
    new TooFewReplicas("One of three"),
    new NoReplica("None of bucket 3"),
    new TryAgain("The leader is changing"),
    new OutcomeUnknown("The link went"),
  ];
  for (const error of errors) {
    const failure = failureOf(error)!;
    const message: NodeMessage = { kind: "answer", request: 1, answer: { kind: "failed", failure } };
    const found = decoder.decode(encoded(encoder, message));
    assert.ok(found.kind === "answer" && found.answer.kind === "failed");
    assert.ok(found.answer.failure.code !== "notLeader");
    const again = errorOf(found.answer.failure);
    assert.equal(again.constructor, error.constructor);
    assert.equal(again.message, error.message);
    assert.deepEqual({ ...again }, { ...error });
  }
  assert.deepEqual(failureOf(new NotLeader(1, 5, 2)), { code: "notLeader", term: 5, leader: 2 });
  assert.equal(failureOf(new TypeError("a bug")), null);
});

Deno.test("the text of an error is cut where it is longer than a message may say", () => {
  const failure = failureOf(new InvalidArgument("€".repeat(100_000)))!;
  const message: NodeMessage = { kind: "answer", request: 1, answer: { kind: "failed", failure } };
  const found = decoder.decode(encoded(encoder, message));
  assert.ok(
    found.kind === "answer" && found.answer.kind === "failed" && found.answer.failure.code === "invalidArgument",
  );
  assert.equal(found.answer.failure.message, `${"€".repeat(1023)}…`);
});
