import type { Redial } from "./redial.js";
import type { TaskFields } from "./task.js";

// Headers of a single connection, and credentials: the worker adds its own, so that none enters Redis.
const LEFT_OUT =
  /^(host|connection|keep-alive|te|trailer|upgrade|transfer-encoding|content-(length|encoding)|accept-encoding|proxy-.*|authorization|(x-|x-goog-)?api-key|cookie|set-cookie)$/;
const kept = (headers: Iterable<[string, string]>) => Object.fromEntries([...headers].filter(([name]) => !LEFT_OUT.test(name)));

export interface FetchOptions {
  /** No attempt starts later than this after the request: 900,000 by default. */
  waitMs?: number;
  /** The limit of one attempt, unless the SDK states one: 600,000 by default. */
  timeoutMs?: number;
  /** Fields for every task. */
  task?: TaskFields;
}

/** See `Redial.fetch`. */
export function redialFetch(redial: Redial, { waitMs = 900_000, timeoutMs = 600_000, task = {} }: FetchOptions): typeof fetch {
  async function fetchThroughRedial(input: string | URL | Request, init?: RequestInit): Promise<Response> {
    const request = new Request(input, init), content = Buffer.from(await request.arrayBuffer());
    const { "idempotency-key": idempotency_key, "x-stainless-timeout": seconds, ...headers } = kept(request.headers);
    const body = content.length && headers["content-type"]?.startsWith("application/json") ? parsed(content) : undefined;
    // A response, because SDKs reduce whatever is thrown here to a connection error.
    if ((body as { stream?: unknown } | undefined)?.stream === true) return refusal("streams can't go through a queue: leave out `stream`");

    const attemptMs = 1_000 * Number(seconds) || timeoutMs;
    const call = {
      url: request.url, method: request.method, headers, body, idempotency_key,
      body_base64: content.length && body === undefined ? content.toString("base64") : undefined,
      timeout_ms: attemptMs, expires_at_ms: Date.now() + waitMs, ...task,
    };
    // Without `init.signal`: an SDK aborts by it when its timeout is over, which is the limit of one attempt here.
    const result = await redial.call(call, { timeoutMs: waitMs + attemptMs, check: false });
    if (result.httpStatus === null) throw new Error(`task ${result.id}: ${result.reason}: ${result.error}`);
    // Redial has retried what is to be retried: an SDK has nothing left to do.
    const added = { "x-should-retry": "false", "redial-id": String(result.id), "redial-source": result.source };
    return new Response(result.bytes.length ? Buffer.from(result.bytes) : null, {
      status: result.httpStatus,
      headers: { ...kept(Object.entries(result.headers)), ...added },
    });
  }
  return Object.assign(fetchThroughRedial, { Response }); // With `Response`, OpenAI's SDK needs no trial call.
}

function parsed(content: Buffer): unknown {
  const text = content.toString();
  if (/\d{16}/.test(text)) return undefined; // It may be a number that JSON.parse would round.
  try {
    return JSON.parse(text) ?? undefined;
  } catch {
    return undefined;
  }
}

function refusal(message: string): Response {
  const error = { message, type: "invalid_request_error", param: "stream", code: null };
  return Response.json({ error }, { status: 400, headers: { "x-should-retry": "false" } });
}
