/**
 * ioredis, as installed in the folder of the second argument: `node ioredis.mjs NAME MODULE PORT`.
 *
 * @module
 */
import { createRequire } from "node:module";
import { once } from "node:events";
import { runChecks } from "./checks.mjs";
import process from "node:process";

const [name, module, port] = process.argv.slice(2);
const { Redis } = createRequire(import.meta.url)(module);
const redis = new Redis(Number(port));

await runChecks({
  connect: () => once(redis, "ready"),
  call: ([command, ...words]) => redis.call(command, ...words),
  callBinary: ([command, ...words]) => redis.callBuffer(command, ...words),
  async pipeline(commands) {
    const pipeline = redis.pipeline();
    for (const [command, ...words] of commands) pipeline.call(command, ...words);
    return (await pipeline.exec()).map(([error, answer]) => {
      if (error !== null) throw error;
      return answer;
    });
  },
  async multi(commands) {
    const multi = redis.multi();
    for (const [command, ...words] of commands) multi.call(command, ...words);
    for (const [error] of await multi.exec()) if (error !== null) throw error;
  },
  close: () => redis.disconnect(),
}, name);
