/**
 * ioredis, as installed in the folder MODULE: `node ioredis.mjs MODULE PROTOCOL NAME PORT`.
 *
 * @module
 */
import { createRequire } from "node:module";
import { once } from "node:events";
import { answer } from "./checks.mjs";
import process from "node:process";

const [module, , name, port] = process.argv.slice(2);
const { Redis } = createRequire(import.meta.url)(module);
const redis = new Redis(Number(port));
redis.on("error", (error) => console.error(error));
const second = redis.duplicate({ lazyConnect: true });
second.on("error", (error) => console.error(error));

await answer({
  connect: () => once(redis, "ready"),
  call: ([command, ...words]) => redis.call(command, ...words),
  callBinary: ([command, ...words]) => redis.callBuffer(command, ...words),
  callBlocking: ([command, ...words]) => second.call(command, ...words),
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
  noPush: "of a push ioredis gives no more than the cursor, never the event",
  close() {
    redis.disconnect();
    second.disconnect();
  },
}, name);
