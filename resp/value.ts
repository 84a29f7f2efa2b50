/**
 * RESP values as TypeScript values, and the type bytes, named once.
 *
 * The hot replies never become values: they go straight into bytes (replies.ts). Values are for what is asked rarely,
 * such as HELLO and COMMAND DOCS, and for tests, which read replies back.
 *
 * @module
 */

/** The first byte of each kind of frame. */
export const SIMPLE = 0x2b; // +
export const ERROR = 0x2d; // -
export const NUMBER = 0x3a; // :
export const BULK = 0x24; // $
export const ARRAY = 0x2a; // *
export const NULL = 0x5f; // _
export const BOOLEAN = 0x23; // #
export const DOUBLE = 0x2c; // ,
export const BIG_NUMBER = 0x28; // (
export const BULK_ERROR = 0x21; // !
export const VERBATIM = 0x3d; // =
export const MAP = 0x25; // %
export const SET = 0x7e; // ~
export const PUSH = 0x3e; // >
export const ATTRIBUTE = 0x7c; // |

/** The two protocols that a link can speak. */
export type Protocol = 2 | 3;

/** A string and bytes are bulk strings, a Map is a map, a Set is a set. */
export type Value =
  | null
  | boolean
  | number
  | string
  | Uint8Array
  | Simple
  | Double
  | ReplyError
  | readonly Value[]
  | ReadonlyMap<string, Value>
  | ReadonlySet<Value>;

/** A simple string. */
export class Simple {
  constructor(readonly text: string) {}
}

/** A number that is sent as a double, which a whole number would not be. */
export class Double {
  constructor(readonly number: number) {}
}

/** An error with its code, as a client sees it. A command throws one where none of core's errors says what is wrong. */
export class ReplyError extends Error {
  constructor(readonly code: string, message: string) {
    super(message);
  }
}
