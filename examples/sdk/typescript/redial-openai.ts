// Sends the official OpenAI SDK's requests through Redial. How it differs from a direct call: docs/sdk.md.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "redis";

type Options = { queue?: string; waitMs?: number; timeoutMs?: number; [field: string]: unknown };
type Result = { id: string; http_status: number | null; headers: Record<string, string>; [field: string]: any };

// Headers of a single connection, and credentials: the worker adds its own, so none enters Redis.
const LEFT_OUT = /^(host|connection|keep-alive|transfer-encoding|content-(length|encoding)|accept-encoding|authorization|api-key|cookie)$/;
const kept = (headers: Iterable<[string, string]>) => Object.fromEntries([...headers].filter(([name]) => !LEFT_OUT.test(name)));

/**
 * Any number of callers share one reply list and two connections. No attempt starts later than `waitMs` after its call; `timeoutMs` bounds
 * each attempt of a call without a `timeout` of its own; any other option goes on every task as a field.
 */
export async function openRedial(url: string, { queue = "default", waitMs = 900_000, timeoutMs = 600_000, ...fields }: Options = {}) {
  const answers = await openAnswers(url, queue);

  async function redialFetch(input: string | URL | Request, init?: RequestInit): Promise<Response> {
    const request = new Request(input, init), content = Buffer.from(await request.arrayBuffer());
    const { "idempotency-key": idempotency_key, "x-stainless-timeout": seconds, ...headers } = kept(request.headers);
    const body = content.length && headers["content-type"] === "application/json" ? JSON.parse(content.toString()) : undefined;
    const body_base64 = content.length && !body ? content.toString("base64") : undefined;
    // A response, because the SDK reduces whatever is thrown here to "Connection error.".
    if (body?.stream) return Response.json({ error: { message: "streams can't go through a queue: leave out `stream`" } }, { status: 400 });

    const id = randomUUID(), timeout_ms = 1000 * Number(seconds) || timeoutMs, expires_at_ms = Date.now() + waitMs;
    const call = { id, url: request.url, method: request.method, headers, body, body_base64, idempotency_key, timeout_ms, expires_at_ms };
    const result = await answers.call({ ...call, ...fields, id }, waitMs + timeout_ms);
    if (!result) throw new Error(`task ${id}: no answer in time: is a worker running?`);
    if (result.http_status === null) throw new Error(`task ${id}: ${result.reason}: ${result.error}`);
    const data = Buffer.from(result.body_base64 ?? result.body_text ?? JSON.stringify(result.body), result.body_base64 ? "base64" : "utf8");
    return new Response(data.length ? data : null, { status: result.http_status, headers: kept(Object.entries(result.headers)) });
  }
  return { fetch: Object.assign(redialFetch, { Response }), close: answers.close }; // With `Response` the SDK needs no trial call.
}

/** Pushes tasks, and reads the answers to all of them from one list. */
async function openAnswers(url: string, queue: string) {
  const CHECK_S = 5; // How often the reader checks for results whose reply got lost, such as when a connection broke.
  let isOpen = false; // A connection that is lost later is made again; the first attempt may fail.
  const reconnectStrategy = (retries: number, cause: Error) => (isOpen ? Math.min(50 * 2 ** retries, 1_000) : cause);
  // The longest silence on a live connection. BRPOP and the pings are more frequent.
  const socket = { reconnectStrategy, socketTimeout: 3_000 * CHECK_S };
  const pusher = createClient({ url, socket, pingInterval: 1_000 * CHECK_S }), reader = pusher.duplicate();
  for (const client of [pusher, reader]) await client.on("error", () => {}).connect(); // A command that fails reports it itself.
  isOpen = true;
  const reply_to = `answers:{${queue}}:${randomUUID()}`;
  const waiting = new Map<string, (result?: Result) => void>();

  function resolve(json: string) {
    const result: Result = JSON.parse(json);
    waiting.get(result.id)?.(result); // Otherwise nobody waits any more.
  }

  async function readAnswers() {
    for (let checkAt = 0; reader.isOpen; ) {
      try {
        const reply = await reader.brPop(reply_to, CHECK_S);
        if (reply) resolve(reply.element);
        if (Date.now() < checkAt) continue;
        const keys = [...waiting.keys()].map((id) => `redial:{${queue}}:result:${id}`);
        for (const result of keys.length ? await pusher.mGet(keys) : []) if (result) resolve(result);
        checkAt = Date.now() + 1_000 * CHECK_S;
      } catch { // Redis is away. Once it is back, check what came in the meantime.
        checkAt = 0;
        await sleep(1_000, undefined, { ref: false });
      }
    }
  }
  void readAnswers();

  /** The result of a task, or nothing if there is none in time. Fails if the task cannot be pushed. */
  async function call(task: { id: string }, waitMs: number): Promise<Result | undefined> {
    const answer = new Promise<Result | undefined>((done) => {
      const timer = setTimeout(done, waitMs);
      waiting.set(task.id, (result) => { clearTimeout(timer); done(result); });
    });
    try {
      const pushed = pusher.lPush(`redial:{${queue}}`, JSON.stringify({ ...task, reply_to }));
      return await Promise.race([answer, pushed.then(() => answer)]);
    } finally {
      waiting.get(task.id)?.();
      waiting.delete(task.id);
    }
  }

  async function close() {
    reader.destroy();
    await pusher.close();
  }
  return { call, close };
}
