import { MemoryStore } from "./memory_store.ts";
import { storeSuite } from "./store_suite.ts";

storeSuite("memory store", () => Promise.resolve({ store: new MemoryStore() }));
