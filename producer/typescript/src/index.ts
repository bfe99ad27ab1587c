export { CallFailed, ClientClosed, ConnectionFailed, GatewayRefused, InvalidTask, RedialError, StreamFailed, WaitTimeout } from "./errors.js";
export type { FetchOptions } from "./fetch.js";
export { Gateway, type GatewayOptions } from "./gateway.js";
export { type EnqueueOptions, type Options, Redial } from "./redial.js";
export { type Attempt, Result } from "./result.js";
export type { StreamEntry, StreamOptions } from "./stream.js";
export type { Call, Task, TaskFields } from "./task.js";
export type { WaitOptions } from "./waits.js";
