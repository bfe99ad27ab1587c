import type { Result } from "./result.js";
import type { Task } from "./task.js";

/** The base of every error that this package throws. */
export class RedialError extends Error {
  override name = "RedialError";
}

/** The task breaks a rule of the protocol. It was not enqueued; the message names the field. */
export class InvalidTask extends RedialError {
  override name = "InvalidTask";
}

/** The call failed for good. It is kept as a dead letter: `redial dead show ID`. */
export class CallFailed extends RedialError {
  override name = "CallFailed";
  /** The id of the task; `null` if it could not be read. */
  readonly id: string | null;
  /** Why, as in the protocol: `rejected`, `attempts_exhausted`, `expired`, `cancelled`, ... */
  readonly reason: string | null;
  /** The status of the last response, if there was one. */
  readonly httpStatus: number | null;

  /** @param result All that is known about the call, such as the body of its last response. */
  constructor(readonly result: Result) {
    const status = result.httpStatus === null ? "" : ` (HTTP ${result.httpStatus})`;
    super(`task ${result.id}: ${result.reason}${status}: ${result.error}`);
    [this.id, this.reason, this.httpStatus] = [result.id, result.reason, result.httpStatus];
  }
}

/** There was no result in time. The call goes on, and its result can still be waited for by its id. */
export class WaitTimeout extends RedialError {
  override name = "WaitTimeout";

  /**
   * @param ids The tasks that have no result yet.
   * @param timeoutMs How long the wait was.
   * @param results The results that arrived in time, by id, where several were waited for.
   */
  constructor(readonly ids: string[], readonly timeoutMs: number, readonly results: ReadonlyMap<string, Result> = new Map()) {
    const listed = ids.slice(0, 3).join(", ") + (ids.length > 3 ? ` and ${ids.length - 3} more` : "");
    super(`no result of ${listed} within ${timeoutMs} ms: is a worker running?`);
  }
}

/**
 * Redis could not be reached, or it refused the command; the `cause` is its client's error. If this happened while a task was being
 * enqueued, the task may have been enqueued all the same.
 */
export class ConnectionFailed extends RedialError {
  override name = "ConnectionFailed";
  /** The tasks of `enqueueMany` that are known to have been enqueued. */
  enqueued: Task[] = [];
}

/** The gateway does not do what it was asked for. */
export class GatewayRefused extends RedialError {
  override name = "GatewayRefused";

  /**
   * @param status The HTTP status.
   * @param code What is wrong, as in `docs/gateway.md`: `unauthorized`, `forbidden`, `invalid_task`, ...
   */
  constructor(readonly status: number, readonly code: string | null, detail: string) {
    super(`the gateway answered ${status}${code ? ` (${code})` : ""}: ${detail}`);
  }
}

/** An answer broke off while it arrived, or the task has ended without a stream. Its result says what became of it. */
export class StreamFailed extends RedialError {
  override name = "StreamFailed";

  /**
   * @param id The task.
   * @param reason Why the task is dead; `null` if its result has the answer all the same.
   */
  constructor(readonly id: string, readonly reason: string | null, error: string) {
    super(`task ${id}: ${error}`);
  }
}

/** The client was closed. */
export class ClientClosed extends RedialError {
  override name = "ClientClosed";
  constructor() {
    super("this client was closed");
  }
}
