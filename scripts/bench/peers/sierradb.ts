/**
 * SierraDB, where its binary is given: it takes the same commands as we do. Its syncs are its own defaults (every 5 ms,
 * 50 events or 4 KiB); only the check that refuses appends without an expected version is off.
 *
 * @module
 */
import { ServerProcess } from "../../server_process.ts";
import { eappend, transactions } from "../requests.ts";
import { firstLine, type RespPeer } from "./peer.ts";

export async function openSierradb(binary: string): Promise<RespPeer | string> {
  const version = await firstLine(binary, "--version");
  if (version === null) return `${binary} is not there`;
  return {
    kind: "resp",
    name: "SierraDB",
    about: `${version}: its own settings, append.strict_versioning = false`,
    async start(folder) {
      const config = `${folder}/settings.toml`;
      await Deno.writeTextFile(config, "[append]\nstrict_versioning = false\n");
      return await ServerProcess.start({
        command: [binary],
        folder,
        arguments: (folder, { hostname, port }) => [
          ...["--config", config, "--dir", `${folder}/data`, "--client-address", `${hostname}:${port}`],
        ],
      });
    },
    append: eappend,
    transaction: transactions,
  };
}
