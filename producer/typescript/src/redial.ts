import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { ConnectionFailed, RedialError, WaitTimeout } from "./errors.js";
import { type FetchOptions, redialFetch } from "./fetch.js";
import { Reader } from "./reader.js";
import { redisStream } from "./redis_stream.js";
import type { Result } from "./result.js";
import type { StreamEntry, StreamOptions } from "./stream.js";
import { type Call, MAX_TASK_BYTES, type Prepared, type Task, type TaskFields, prepare } from "./task.js";
import { type WaitOptions, checkTimeout, idOf } from "./waits.js";

/** How long a wait sleeps between two looks for a result that is not pushed to this client: it grows from one to the other. */
const [FIRST_POLL_MS, LAST_POLL_MS] = [50, 1_000];

export interface Options {
  /** Where Redis is: `REDIS_URL` by default, or 127.0.0.1:6379. */
  url?: string;
  /** As the workers have it: `default` by default. */
  queue?: string;
  /** As the workers have it: `redial` by default. */
  prefix?: string;
  /** Fields for every task, unless the task has them. */
  task?: TaskFields;
  /** As the workers have it: 1 MiB + 64 KiB by default. */
  maxTaskBytes?: number;
  /** The command that `cancel` runs: `redial` by default. */
  program?: string;
}

export interface EnqueueOptions {
  /** `false`: the result is not pushed to this client, which saves traffic if nobody waits for it here. */
  reply?: boolean;
}

/**
 * Enqueues calls on one queue and waits for their results. Create one per process, share it, and close it at the end: all waits share
 * two connections to Redis, which are made with the first command.
 */
export class Redial {
  readonly #url: string;
  readonly #queue: string;
  readonly #prefix: string;
  readonly #options: Options;
  readonly #reader: Reader;

  constructor(options: Options = {}) {
    this.#url = options.url ?? (process.env.REDIS_URL || "redis://127.0.0.1:6379");
    this.#queue = options.queue ?? "default";
    this.#prefix = options.prefix ?? "redial";
    this.#options = options;
    if (!/^rediss?:\/\//.test(this.#url)) throw new TypeError("url: redis:// or rediss:// of one Redis node");
    if (!/^[A-Za-z0-9._/-]{1,100}$/.test(this.#queue))
      throw new TypeError(`queue: 1 to 100 letters, digits, ".", "_", "-" or "/", not ${this.#queue}`);
    this.#reader = new Reader(this.#url, this.#queue, this.#prefix);
  }

  /** Enqueues a call. Throws `InvalidTask`, and `ConnectionFailed` if Redis did not confirm that it has the task. */
  async enqueue(call: Call, options: EnqueueOptions = {}): Promise<Task> {
    const [task] = await this.enqueueMany([call], options);
    return task!; // As many as calls.
  }

  /**
   * Enqueues calls, in their order. If one is invalid, none is enqueued. Throws `InvalidTask`, and `ConnectionFailed`, whose
   * `enqueued` has the tasks that are known to have been enqueued.
   */
  async enqueueMany(calls: Iterable<Call>, { reply = true }: EnqueueOptions = {}): Promise<Task[]> {
    const prepared = [...calls].map((call) => this.#prepare(call, reply));
    const tasks = prepared.map(({ id, replies }) => ({ id, replies, queue: this.#queue }));
    let pushed = 0;
    try {
      await this.#reader.push(prepared, (count) => (pushed += count));
    } catch (error) {
      if (error instanceof ConnectionFailed) error.enqueued = tasks.slice(0, pushed);
      throw error;
    }
    return tasks;
  }

  /** Waits for a result. The task may have been enqueued by another program. Throws `CallFailed` and `WaitTimeout`. */
  async wait(task: string | Task, { check = true, ...options }: WaitOptions = {}): Promise<Result> {
    for await (const result of this.asCompleted([task], options)) return check ? result.check() : result;
    throw new RedialError("a wait ended without a result"); // It throws or yields.
  }

  /** Enqueues a call and waits for its result. After a `WaitTimeout` the call goes on; set `ttl_ms` if nobody wants its result then. */
  async call(call: Call, { timeoutMs = 60_000, check = true, signal }: WaitOptions = {}): Promise<Result> {
    const prepared = this.#prepare(call, true), { id, replies } = prepared;
    checkTimeout(timeoutMs);
    const arrivals = new Arrivals(this.#reader, [id], timeoutMs, signal);
    try {
      this.#reader.push([prepared], () => {}).catch((error) => arrivals.fail(error));
      let result: Result | undefined;
      for (let pause = FIRST_POLL_MS; !result; pause = Math.min(2 * pause, LAST_POLL_MS)) {
        result = replies ? await arrivals.next() : await arrivals.nextWithin(pause);
        if (!replies) result ??= (await this.#lookUp([id]))[0];
      }
      return check ? result.check() : result;
    } catch (error) {
      throw error === TIMED_OUT ? new WaitTimeout([id], timeoutMs) : error;
    } finally {
      arrivals.end();
    }
  }

  /**
   * Waits for all results and returns them in the order of the tasks, also those of calls that failed unless `check` is true. Throws
   * `WaitTimeout`, whose `results` has what arrived in time.
   */
  async waitMany(tasks: Iterable<string | Task>, { check = false, ...options }: WaitOptions = {}): Promise<Result[]> {
    const all = [...tasks], results = new Map<string | null, Result>();
    for await (const result of this.asCompleted(all, options)) results.set(result.id, check ? result.check() : result);
    return all.map((task) => results.get(idOf(task))!); // Otherwise it has thrown.
  }

  /** Yields results as they arrive, also those of calls that failed. The timeout is for all of them. Throws `WaitTimeout`. */
  async *asCompleted(tasks: Iterable<string | Task>, { timeoutMs = 60_000, signal }: WaitOptions = {}): AsyncGenerator<Result> {
    checkTimeout(timeoutMs);
    const missing = new Map([...tasks].map((task) => [idOf(task), this.#looks(task)]));
    const yielded = new Map<string, Result>(), arrivals = new Arrivals(this.#reader, [...missing.keys()], timeoutMs, signal);
    try {
      let found = await this.#lookUp([...missing.keys()]);
      for (let pause = FIRST_POLL_MS; missing.size; ) {
        for (const result of found) {
          if (result.id === null || !missing.delete(result.id)) continue;
          yielded.set(result.id, result);
          yield result;
        }
        if (!missing.size) return;
        const looked = [...missing].filter(([, looks]) => looks).map(([id]) => id);
        const arrived = looked.length ? await arrivals.nextWithin(pause) : await arrivals.next();
        found = arrived ? [arrived] : await this.#lookUp(looked);
        if (!arrived) pause = Math.min(2 * pause, LAST_POLL_MS);
      }
    } catch (error) {
      if (error === TIMED_OUT) throw new WaitTimeout([...missing.keys()], timeoutMs, yielded);
      throw error;
    } finally {
      arrivals.end();
    }
  }

  /** The result of a task, or `undefined` if there is none, not yet or no longer. Neither waits nor throws `CallFailed`. */
  async result(task: string | Task): Promise<Result | undefined> {
    return (await this.#reader.lookUp([idOf(task)])).get(idOf(task));
  }

  /**
   * Cancels a task wherever it is, by running the command `redial cancel`. Its result says `cancelled` then. Returns false if the task
   * has ended before, or is not found.
   */
  async cancel(task: string | Task, { timeoutMs = 60_000 }: { timeoutMs?: number } = {}): Promise<boolean> {
    checkTimeout(timeoutMs);
    const program = this.#options.program ?? "redial", id = idOf(task);
    // A password has no place on a command line.
    const env = { ...process.env, REDIS_URL: this.#url, REDIAL_PREFIX: this.#prefix };
    const parameters = ["cancel", "--json", "--queue", this.#queue, "--", id];
    return new Promise((done, fail) => {
      execFile(program, parameters, { env, timeout: timeoutMs }, (error, _, stderr) => {
        if (!error) done(true);
        else if (error.killed) fail(new WaitTimeout([id], timeoutMs));
        else if (error.code === 3) done(false);
        else if (typeof error.code === "number") fail(new RedialError(`${program} cancel ${id}: exit code ${error.code}: ${stderr.trim()}`));
        else fail(new RedialError(`cancelling runs the command ${program}, which cannot be started: put it on the PATH, or give its path as \`program\``, { cause: error }));
      });
    });
  }

  /**
   * The answer of a task with `stream`, while it arrives. A reader that loses its connection goes on where it was. Throws `StreamFailed`
   * if the answer breaks off, and `WaitTimeout` if nothing more comes in time. Each stream has a connection to Redis.
   */
  stream(task: string | Task, options: StreamOptions = {}): AsyncGenerator<StreamEntry> {
    checkTimeout(options.timeoutMs ?? 60_000);
    return redisStream(this.#reader, idOf(task), options);
  }

  /** `fetch` through Redial, for SDKs: `new OpenAI({ fetch: redial.fetch(), maxRetries: 0, apiKey: "the worker has it" })`. */
  fetch(options: FetchOptions = {}): typeof fetch {
    return redialFetch(this, options);
  }

  /** How many tasks are waited for. */
  get waiting(): number {
    return this.#reader.waiting;
  }

  /** Ends all waits and the connections. */
  async close(): Promise<void> {
    await this.#reader.close();
  }

  #prepare(call: Call, reply: boolean): Prepared {
    const { task = {}, maxTaskBytes = MAX_TASK_BYTES } = this.#options;
    return prepare(call, task, reply ? this.#reader.replyTo : undefined, maxTaskBytes);
  }

  /** What can be found now. While Redis is away, a wait goes on. */
  async #lookUp(ids: string[]): Promise<Result[]> {
    try {
      return [...(await this.#reader.lookUp(ids)).values()];
    } catch (error) {
      if (error instanceof ConnectionFailed) return [];
      throw error;
    }
  }

  /** Whether the result may have to be looked up, since it is not known to be pushed to this client. */
  #looks(task: string | Task): boolean {
    if (typeof task === "string") return true;
    if (task.queue !== this.#queue) throw new TypeError(`task ${task.id} is on the queue ${task.queue}, and this client's queue is ${this.#queue}`);
    return !task.replies;
  }
}

const TIMED_OUT = Symbol("timed out");

/** The results that one wait is for, as they arrive. */
class Arrivals {
  #arrived: Result[] = [];
  #failure: unknown;
  #wake: (() => void) | undefined;
  #ends: (() => void)[] = [];
  #timer;

  constructor(reader: Reader, ids: string[], timeoutMs: number, signal?: AbortSignal | null) {
    signal?.throwIfAborted();
    const resolve = (result: Result) => (this.#arrived.push(result), this.#wake?.());
    const reject = (error: unknown) => this.fail(error);
    for (const id of ids) this.#ends.push(reader.register(id, { resolve, reject }));
    this.#timer = setTimeout(() => this.fail(TIMED_OUT), timeoutMs);
    const abort = () => this.fail(signal?.reason);
    signal?.addEventListener("abort", abort);
    this.#ends.push(() => signal?.removeEventListener("abort", abort));
  }

  /** Ends the wait. */
  fail(error: unknown) {
    this.#failure ??= error;
    this.#wake?.();
  }

  /** The next result. Throws what ends the wait. */
  async next(): Promise<Result> {
    for (;;) {
      const result = await this.nextWithin(undefined);
      if (result) return result;
    }
  }

  /** The next result, or nothing if none arrives within a time in ms. */
  async nextWithin(ms: number | undefined): Promise<Result | undefined> {
    if (!this.#arrived.length && !this.#failure) {
      const stop = new AbortController();
      const woken = new Promise<void>((wake) => (this.#wake = wake));
      await (ms === undefined ? woken : Promise.race([woken, sleep(ms, undefined, { signal: stop.signal }).catch(() => {})]));
      stop.abort();
    }
    const result = this.#arrived.shift();
    if (!result && this.#failure) throw this.#failure;
    return result;
  }

  end() {
    clearTimeout(this.#timer);
    for (const end of this.#ends) end();
  }
}
