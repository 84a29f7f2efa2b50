/**
 * The RESP listener: `listen(store, options)` serves any EventStore to Redis clients.
 *
 * @module
 */
export type { Limits } from "./commands/command.ts";
export { listen, type Listener, type ListenOptions } from "./listener.ts";
