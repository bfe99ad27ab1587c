export { CallFailed, ClientClosed, ConnectionFailed, InvalidTask, RedialError, WaitTimeout } from "./errors.js";
export type { FetchOptions } from "./fetch.js";
export { type EnqueueOptions, type Options, Redial, type WaitOptions } from "./redial.js";
export { type Attempt, Result } from "./result.js";
export type { Call, Task, TaskFields } from "./task.js";
