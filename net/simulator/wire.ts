/**
 * The way of a packet through bytes, as it goes between real nodes: what comes out must be what went in.
 *
 * @module
 */
import assert from "node:assert/strict";
import { equalBytes } from "../../core/bytes.ts";
import type { ClusterShape } from "../consensus/topology.ts";
import { FrameEntries } from "../frame_entries.ts";
import { MessageDecoder, MessageEncoder, type NodeMessage, type Packet } from "../messages.ts";
import { framesOf, type ModelEntries, modelEntriesOf } from "./model_log.ts";

export class Wire {
  readonly #shape: ClusterShape;
  readonly #encoder: MessageEncoder;
  /** Of each node. */
  readonly #decoders: readonly MessageDecoder[];
  packets = 0;

  /** What a model sends must become bytes first; the engine has them. */
  constructor(shape: ClusterShape, private readonly cast: "model" | "engine" | "node") {
    this.#shape = shape;
    this.#encoder = new MessageEncoder(shape);
    this.#decoders = Array.from({ length: shape.nodeCount }, (_, node) => new MessageDecoder(shape, node));
  }

  /** The packet as the node gets it. @throws what was sent is refused, or comes as something else */
  carry(to: number, packet: Packet): Packet {
    this.#encoder.add(this.#nodeMessage(packet));
    const bytes = this.#encoder.take().slice(); // What is decoded looks into them.
    this.packets++;
    const found = this.#packetOf(this.#decoders[to]!.decode(bytes));
    const difference = firstDifference(plain(found), plain(packet));
    assert.equal(difference, null, `${packet.message.kind} came as another to node ${to}: its ${difference} differs`);
    return found;
  }

  #nodeMessage({ bucket, from, message }: Packet): NodeMessage {
    if (message.kind === "heartbeat" || message.kind === "heartbeatReply") {
      return { kind: "heartbeats", beats: [{ bucket, from, message }] };
    }
    if (!("entries" in message) || this.cast !== "model") return { kind: "replica", bucket, from, message };
    const entries = framesOf(message.entries as ModelEntries, bucket, this.#shape.bucketCount);
    return { kind: "replica", bucket, from, message: { ...message, entries } };
  }

  #packetOf(message: NodeMessage): Packet {
    if (message.kind === "heartbeats") {
      const [beat, ...others] = message.beats;
      assert.equal(others.length, 0);
      return beat!;
    }
    assert.equal(message.kind, "replica");
    const { bucket, from, message: said } = message as Packet;
    if (!("entries" in said) || this.cast !== "model") return { bucket, from, message: said };
    return { bucket, from, message: { ...said, entries: modelEntriesOf(said.entries as FrameEntries) } };
  }
}

/** Of the engine's entries what they hold: the table beside them may be of more. */
function plain(packet: Packet): unknown {
  const { message } = packet;
  if (!("entries" in message) || !(message.entries instanceof FrameEntries)) return packet;
  const { from, end, frames } = message.entries;
  return { ...packet, message: { ...message, entries: { from, end, frames } } };
}

/** Where two values differ in what they hold; null where they do not. Of which class they are does not count. */
function firstDifference(one: unknown, other: unknown): string | null {
  if (Object.is(one, other)) return null;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return "value";
  if (one instanceof Uint8Array) return other instanceof Uint8Array && equalBytes(one, other) ? null : "bytes";
  const keys = Object.keys(one);
  if (keys.length !== Object.keys(other).length) return "count of fields";
  for (const key of keys) {
    const found = firstDifference((one as Record<string, unknown>)[key], (other as Record<string, unknown>)[key]);
    if (found !== null) return `${key}: ${found}`;
  }
  return null;
}
