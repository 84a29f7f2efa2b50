/**
 * `AUTH`: no users are configured, so every client is the default user, as in a Redis without a password.
 *
 * @module
 */
import { ReplyError } from "../value.ts";
import type { AnsweringCommand } from "./command.ts";

export const auth: AnsweringCommand = {
  name: "AUTH",
  does: "answers",
  summary: "Authenticates the connection",
  syntax: "[username] password",
  group: "connection",
  since: "0.1.0",
  prepare(args) {
    const user = args.bytes("user or password");
    if (args.left === 0) {
      throw new ReplyError(
        "ERR",
        "AUTH <password> called without any password configured for the default user. " +
          "Are you sure your configuration is correct?",
      );
    }
    args.bytes("password");
    args.end();
    authenticate(user);
    return (reply) => reply.simple("OK");
  },
};

/** Any password is right for the user `default`. @throws {ReplyError} there is no such user */
export function authenticate(user: Uint8Array): void {
  if (new TextDecoder().decode(user) !== "default") {
    throw new ReplyError("WRONGPASS", "invalid username-password pair or user is disabled.");
  }
}
