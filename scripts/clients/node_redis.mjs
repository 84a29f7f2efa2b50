/**
 * node-redis (npm `redis`), as installed in the folder MODULE: `node node_redis.mjs MODULE default|3 NAME PORT`.
 *
 * @module
 */
import { createRequire } from "node:module";
import { answer } from "./checks.mjs";
import process from "node:process";
import { Buffer } from "node:buffer";

const [module, protocol, name, port] = process.argv.slice(2);
const { createClient, RESP_TYPES } = createRequire(import.meta.url)(module);
const client = createClient({ url: `redis://127.0.0.1:${port}`, ...(protocol === "3" ? { RESP: 3 } : {}) });
client.on("error", (error) => console.error(error));
const second = client.duplicate();
second.on("error", (error) => console.error(error));
// Version 5 takes the mapping of a single command from here only, not from withTypeMapping().
const binary = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } };

await answer({
  connect: async () => {
    await client.connect();
    await second.connect();
  },
  call: (words) => client.sendCommand(words),
  callBinary: (words) => client.sendCommand(words, binary),
  callBlocking: (words) => second.sendCommand(words),
  pipeline(commands) {
    const pipeline = client.multi();
    for (const words of commands) pipeline.addCommand(words);
    return pipeline.execAsPipeline();
  },
  multi(commands) {
    const multi = client.multi();
    for (const words of commands) multi.addCommand(words);
    return multi.exec();
  },
  noPush: "node-redis fails at the push that begins a subscription, and has nobody to give events to",
  close() {
    client.destroy();
    second.destroy();
  },
}, name);
