import { deepEqual } from "node:assert/strict";
import { AckCounter } from "./nats.ts";

const SPOKEN = 'INFO {"a":1}\r\nMSG _INBOX.client0001 1 9\r\n{"seq":1}\r\nPING\r\n' +
  'MSG _INBOX.client0001 1 22\r\n{"error":{"code":503}}\r\n\r\n-ERR \'slow\'\r\n';

Deno.test("NATS: acknowledgements and errors are counted, in whatever slices they come", () => {
  for (let size = 1; size <= SPOKEN.length; size++) {
    const written: string[] = [];
    const connection = {
      write: (bytes: Uint8Array) => (written.push(new TextDecoder().decode(bytes)), Promise.resolve(bytes.length)),
    };
    const counter = new AckCounter(connection);
    const replies: (string | null)[] = [];
    const bytes = new TextEncoder().encode(SPOKEN);
    for (let at = 0; at < bytes.length; at += size) {
      counter.push(bytes.subarray(at, at + size), (error) => replies.push(error));
    }
    deepEqual(replies, [null, '{"error":{"code":503}}', "-ERR 'slow'"]);
    deepEqual(written, ["PONG\r\n"]);
  }
});
