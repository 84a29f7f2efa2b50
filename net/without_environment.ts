/**
 * Takes the environment's variables away from the packages that are imported after this one: libp2p's logger lists all
 * of them when it is imported, which needs a permission that a node must not have.
 *
 * It is the one module whose import does something: it has to, since imports are carried out before any line of the file
 * that asks for them. It has effect in the thread of the importer. `Deno.env` is not touched.
 *
 * @module
 */
import process from "node:process";

process.env = {};
