// Only what browsers have as well: no Redis, no modules of Node.
import { sleep } from "./bytes.js";
import { ClientClosed, ConnectionFailed, GatewayRefused, RedialError, WaitTimeout } from "./errors.js";
import { Result } from "./result.js";
import { type StreamEntry, type StreamOptions, START, bytesOf, entry } from "./stream.js";
import { type Call, MAX_TASK_BYTES, type Task, type TaskFields, prepare } from "./task.js";
import { type WaitOptions, checkTimeout, idOf } from "./waits.js";

/** How long one request waits for a result. The next one goes on. */
const REQUEST_WAIT_S = 30;
/** How much longer than that a response may take. */
const REQUEST_MARGIN_MS = 15_000;
/** How many requests of one `waitMany` wait at a time. */
const MAX_REQUESTS = 64;
/** How many tasks the gateway takes in one request. */
const MAX_TASKS = 1_000;
/** How long to pause between attempts while the gateway is away: it grows from one to the other. */
const [FIRST_PAUSE_MS, LAST_PAUSE_MS] = [100, 2_000];

export interface GatewayOptions {
  /** Where the gateway is: http://127.0.0.1:8080 by default. */
  url?: string;
  /** The token, if the gateway wants one. */
  token?: string;
  /** The queue. By default that of the gateway or of the token. */
  queue?: string;
  /** Fields for every task, unless the task has them. */
  task?: TaskFields;
  /** As the workers have it: 1 MiB + 64 KiB by default. */
  maxTaskBytes?: number;
}

/**
 * Enqueues calls over HTTP, through `redial serve`, and waits for their results; also in a browser. It has the methods of `Redial`. It
 * holds nothing between requests, and a wait survives a gateway that is restarted.
 */
export class Gateway {
  readonly #url: string;
  readonly #options: GatewayOptions;
  readonly #closing = new AbortController();

  constructor(options: GatewayOptions = {}) {
    this.#url = (options.url ?? "http://127.0.0.1:8080").replace(/\/+$/, "");
    this.#options = options;
    if (!/^https?:\/\//.test(this.#url)) throw new TypeError("url: http:// or https:// of a gateway");
  }

  /**
   * Enqueues a call. Throws `InvalidTask`, `GatewayRefused`, and `ConnectionFailed` if the gateway did not confirm that it has the task,
   * which may be on the queue all the same.
   */
  async enqueue(call: Call): Promise<Task> {
    const [task] = await this.enqueueMany([call]);
    return task!; // As many as calls.
  }

  /** Enqueues calls, in their order. If one is invalid, none of its thousand is enqueued. See `enqueue`. */
  async enqueueMany(calls: Iterable<Call>): Promise<Task[]> {
    const prepared = [...calls].map((call) => this.#prepare(call)), tasks: Task[] = [];
    for (let at = 0; at < prepared.length; at += MAX_TASKS) {
      const some = prepared.slice(at, at + MAX_TASKS);
      try {
        const response = await this.#fetch("POST", "/v1/tasks", { body: `[${some.map((task) => task.line).join(",")}]` });
        if (!response.ok) throw await refusal(response);
        for (const { id, queue } of await response.json()) tasks.push({ id, queue, replies: false });
      } catch (error) {
        if (error instanceof ConnectionFailed) error.enqueued = tasks;
        throw error;
      }
    }
    return tasks;
  }

  /** Waits for a result. The task may have been enqueued by another program. Throws `CallFailed` and `WaitTimeout`. */
  async wait(task: string | Task, { check = true, timeoutMs = 60_000, signal }: WaitOptions = {}): Promise<Result> {
    checkTimeout(timeoutMs);
    const result = await this.#wait(idOf(task), Date.now() + timeoutMs, signal);
    if (!result) throw new WaitTimeout([idOf(task)], timeoutMs);
    return check ? result.check() : result;
  }

  /** Enqueues a call and waits for its result. After a `WaitTimeout` the call goes on; set `ttl_ms` if nobody wants its result then. */
  async call(call: Call, options: WaitOptions = {}): Promise<Result> {
    const started = Date.now(), { timeoutMs = 60_000 } = options;
    checkTimeout(timeoutMs);
    const task = await this.enqueue(call);
    return this.wait(task, { ...options, timeoutMs: Math.max(0, started + timeoutMs - Date.now()) });
  }

  /**
   * Waits for all results and returns them in the order of the tasks, also those of calls that failed unless `check` is true. Throws
   * `WaitTimeout`, whose `results` has what arrived in time.
   */
  async waitMany(tasks: Iterable<string | Task>, { check = false, ...options }: WaitOptions = {}): Promise<Result[]> {
    const all = [...tasks].map(idOf), results = new Map<string, Result>();
    for await (const [id, result] of this.#asCompleted(all, options)) results.set(id, check ? result.check() : result);
    return all.map((id) => results.get(id)!); // Otherwise it has thrown.
  }

  /** Yields results as they arrive, also those of calls that failed. The timeout is for all of them. Throws `WaitTimeout`. */
  async *asCompleted(tasks: Iterable<string | Task>, options: WaitOptions = {}): AsyncGenerator<Result> {
    for await (const [, result] of this.#asCompleted([...tasks].map(idOf), options)) yield result;
  }

  /** The result of a task, or `undefined` if there is none, not yet or no longer. Neither waits nor throws `CallFailed`. */
  async result(task: string | Task): Promise<Result | undefined> {
    const response = await this.#fetch("GET", this.#path(idOf(task)));
    return this.#resultOf(response);
  }

  /** Cancels a task wherever it is. Its result says `cancelled` then. Returns false if the task has ended before, or is not found. */
  async cancel(task: string | Task): Promise<boolean> {
    const response = await this.#fetch("DELETE", this.#path(idOf(task)));
    if (response.status === 404 || response.status === 409) return false;
    if (!response.ok) throw await refusal(response);
    return true;
  }

  /**
   * The answer of a task with `stream`, while it arrives. A reader that loses its connection goes on where it was. Throws `StreamFailed`
   * if the answer breaks off, and `WaitTimeout` if nothing more comes in time.
   */
  async *stream(task: string | Task, { after = START, timeoutMs = 60_000, signal }: StreamOptions = {}): AsyncGenerator<StreamEntry> {
    checkTimeout(timeoutMs);
    const id = idOf(task);
    let last = after, quietSince = Date.now(), pause = FIRST_PAUSE_MS;
    for (;;) {
      const silence = new AbortController();
      const timer = setTimeout(() => silence.abort(), Math.max(0, quietSince + timeoutMs - Date.now()));
      const stop = AbortSignal.any([silence.signal, ...(signal ? [signal] : [])]);
      try {
        const response = await this.#fetch("GET", this.#path(id, "/stream"), { headers: { "last-event-id": last }, signal: stop });
        // It may not be there yet.
        if (response.status !== 404 && !response.ok) throw await refusal(response);
        for await (const event of response.ok ? events(response) : []) {
          const next = entry(id, event.id, event.type, () => (event.type === "data" ? bytesOf(JSON.parse(event.data)) : JSON.parse(event.data)));
          if (!next) return;
          [last, quietSince, pause] = [event.id, Date.now(), FIRST_PAUSE_MS];
          yield next;
          quietSince = Date.now(); // Whoever takes long to read is not kept waiting.
        }
      } catch (error) {
        if (signal?.aborted) throw signal.reason;
        if (this.#closing.signal.aborted) throw new ClientClosed();
        if (error instanceof RedialError && !isPassing(error)) throw error;
      } finally {
        clearTimeout(timer);
        silence.abort();
      }
      if (Date.now() >= quietSince + timeoutMs) throw new WaitTimeout([id], timeoutMs);
      await sleep(pause, signal);
      pause = Math.min(2 * pause, LAST_PAUSE_MS);
    }
  }

  /** Ends all waits. */
  async close(): Promise<void> {
    this.#closing.abort();
  }

  async *#asCompleted(ids: string[], { timeoutMs = 60_000, signal }: WaitOptions): AsyncGenerator<[string, Result]> {
    checkTimeout(timeoutMs);
    const deadline = Date.now() + timeoutMs, missing = new Set(ids), queue = [...missing];
    const running = new Map<string, Promise<[string, Result | undefined]>>(), yielded = new Map<string, Result>();
    const gone = new AbortController(), stop = signal ? AbortSignal.any([signal, gone.signal]) : gone.signal;
    try {
      while (missing.size) {
        while (running.size < MAX_REQUESTS && queue.length) {
          const id = queue.shift()!;
          running.set(id, this.#wait(id, deadline, stop).then((result) => [id, result]));
        }
        const [id, result] = await Promise.race(running.values());
        running.delete(id);
        if (!result) throw new WaitTimeout([...missing], timeoutMs, yielded);
        missing.delete(id);
        yielded.set(id, result);
        yield [id, result];
      }
    } finally {
      for (const rest of running.values()) rest.catch(() => {});
      gone.abort();
    }
  }

  /** The result, or nothing at the deadline. While the gateway is away, the wait goes on. */
  async #wait(id: string, deadline: number, signal?: AbortSignal | null): Promise<Result | undefined> {
    for (let pause = FIRST_PAUSE_MS; ; ) {
      const left = Math.max(0, deadline - Date.now()), waitMs = Math.min(left, 1_000 * REQUEST_WAIT_S);
      try {
        const response = await this.#fetch("GET", this.#path(id, "", waitMs / 1_000), { signal, timeoutMs: waitMs + REQUEST_MARGIN_MS });
        const result = await this.#resultOf(response);
        if (result) return result;
      } catch (error) {
        if (!(error instanceof RedialError) || !isPassing(error)) throw error;
      }
      if (Date.now() >= deadline) return undefined;
      // A task that is known waits in the request; for others, and while the gateway is away, there is a pause.
      await sleep(Math.min(pause, Math.max(0, deadline - Date.now())), signal);
      pause = Math.min(2 * pause, LAST_PAUSE_MS);
    }
  }

  async #resultOf(response: Response): Promise<Result | undefined> {
    if (response.status === 200) return new Result(await response.text());
    if (response.status === 202 || response.status === 404) return void (await response.body?.cancel());
    throw await refusal(response);
  }

  #path(id: string, more = "", wait?: number): string {
    const query = new URLSearchParams();
    if (this.#options.queue) query.set("queue", this.#options.queue);
    if (wait !== undefined) query.set("wait", String(wait));
    return `/v1/tasks/${encodeURIComponent(id)}${more}${query.size ? `?${query}` : ""}`;
  }

  #prepare(call: Call) {
    return prepare(call, this.#options.task ?? {}, undefined, this.#options.maxTaskBytes ?? MAX_TASK_BYTES);
  }

  async #fetch(
    method: string,
    path: string,
    { body, headers, signal, timeoutMs }: { body?: string; headers?: Record<string, string>; signal?: AbortSignal | null; timeoutMs?: number } = {},
  ): Promise<Response> {
    if (this.#closing.signal.aborted) throw new ClientClosed();
    const { token, queue } = this.#options;
    const stops = [this.#closing.signal, ...(signal ? [signal] : []), ...(timeoutMs ? [AbortSignal.timeout(timeoutMs)] : [])];
    const all = { ...(body ? { "content-type": "application/json" } : {}), ...(token ? { authorization: `Bearer ${token}` } : {}), ...headers };
    const target = method === "POST" && queue ? `${path}?${new URLSearchParams({ queue })}` : path;
    try {
      return await fetch(this.#url + target, { method, body, headers: all, signal: AbortSignal.any(stops) });
    } catch (cause) {
      if (signal?.aborted) throw signal.reason;
      if (this.#closing.signal.aborted) throw new ClientClosed();
      throw new ConnectionFailed(`${method} ${path}: ${(cause as Error).message}`, { cause });
    }
  }
}

/** What the gateway says when it does not do what it was asked for (RFC 9457). */
async function refusal(response: Response): Promise<GatewayRefused> {
  const text = await response.text().catch(() => "");
  let problem: { code?: string; detail?: string } = {};
  try {
    problem = JSON.parse(text);
  } catch {
    // Something before the gateway answered.
  }
  return new GatewayRefused(response.status, problem.code ?? null, problem.detail ?? text.slice(0, 200));
}

/** Whether a later request may succeed: the gateway is away, restarts, or Redis is away. */
function isPassing(error: RedialError): boolean {
  return error instanceof ConnectionFailed || (error instanceof GatewayRefused && error.status >= 500);
}

/** Server-sent events, as the gateway writes them: each has an id, a type and one line of data. */
async function* events(response: Response): AsyncGenerator<{ id: string; type: string; data: string }> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of response.body as unknown as AsyncIterable<Uint8Array>) {
    const blocks = (rest + decoder.decode(piece, { stream: true })).split("\n\n");
    rest = blocks.pop()!;
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)]));
      if (fields.event) yield { id: fields.id ?? "", type: fields.event, data: fields.data ?? "" };
    }
  }
}
