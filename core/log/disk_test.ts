import assert from "node:assert/strict";

/** What a process does that may have 80 files open, and in which others take all they get. */
const PROGRAM = `
import assert from "node:assert/strict";
import { systemDisk } from ${JSON.stringify(import.meta.resolve("./disk.ts"))};

const dir = Deno.makeTempDirSync();
const others = [];
const takeAll = () => {
  for (;;) try {
    others.push(Deno.openSync("/dev/null"));
  } catch (error) {
    if (error.code === "EMFILE") return;
    throw error;
  }
};
const lock = await systemDisk.lock(dir + "/lock");
assert.equal(systemDisk.filesAreShort(), false);
takeAll();
for (let round = 0; round < 3; round++) {
  const files = Array.from({ length: 10 }, (_, i) => systemDisk.open(dir + "/" + i, "create"));
  assert.equal(systemDisk.filesAreShort(), true);
  takeAll();
  for (const file of files) file.write(new Uint8Array([round]), 0);
  await files[0].sync();
  await systemDisk.syncFolder(dir);
  assert.equal(systemDisk.list(dir).length, 11);
  for (const file of files) file.close();
  takeAll();
  assert.equal(systemDisk.filesAreShort(), false, "others took what was given back");
  systemDisk.remove(dir + "/9");
}
lock.release();
takeAll();
for (const other of others.splice(-5)) other.close();
await assert.rejects(systemDisk.lock(dir + "/lock"), { name: "TooFewFiles" });
for (const other of others) other.close();
(await systemDisk.lock(dir + "/lock")).release();
Deno.removeSync(dir, { recursive: true });
console.log("done");
`;

Deno.test({
  name: "the disk keeps file descriptors back, and lends them when others have taken all",
  ignore: Deno.build.os === "windows",
  async fn() {
    const args = ["-c", 'ulimit -n 80 && exec "$@"', "sh", Deno.execPath(), "eval", PROGRAM];
    const { stdout, stderr } = await new Deno.Command("sh", { args, stdin: "null" }).output();
    assert.equal(new TextDecoder().decode(stdout), "done\n", new TextDecoder().decode(stderr));
  },
});
