import type { Task } from "./task.js";

export interface WaitOptions {
  /** How long to wait at most. Every wait has a limit: 60,000 by default. */
  timeoutMs?: number;
  /** Whether a call that failed for good is thrown as `CallFailed`; otherwise it is returned. */
  check?: boolean;
  /** Ends the wait, not the call, with the reason of the signal. */
  signal?: AbortSignal | null;
}

/** Every wait has an end. */
export function checkTimeout(timeoutMs: number) {
  if (!(timeoutMs >= 0 && timeoutMs < 2 ** 31)) throw new TypeError(`timeoutMs: 0 to ${2 ** 31 - 1}, not ${timeoutMs}; every wait has a limit`);
}

export function idOf(task: string | Task): string {
  return typeof task === "string" ? task : task.id;
}
