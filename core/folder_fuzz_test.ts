import { fuzz } from "./folder_fuzz.ts";

Deno.test("a damaged data folder never serves a wrong event, and loses none without a word", async () => {
  await fuzz(0, 12);
});
