/**
 * node-redis (npm `redis`), as installed in the folder of the second argument: `node node_redis.mjs NAME MODULE PORT`.
 *
 * @module
 */
import { createRequire } from "node:module";
import { runChecks } from "./checks.mjs";
import process from "node:process";
import { Buffer } from "node:buffer";

const [name, module, port] = process.argv.slice(2);
const { createClient, RESP_TYPES } = createRequire(import.meta.url)(module);
const client = createClient({ url: `redis://127.0.0.1:${port}` });
client.on("error", (error) => console.error(error));
// Version 5 takes the mapping of a single command from here only, not from withTypeMapping().
const binary = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } };

await runChecks({
  connect: () => client.connect(),
  call: (words) => client.sendCommand(words),
  callBinary: (words) => client.sendCommand(words, binary),
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
  close: () => client.destroy(),
}, name);
