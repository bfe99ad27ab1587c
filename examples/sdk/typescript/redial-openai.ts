// Calls of the official OpenAI SDK, made by Redial. How, and what differs from a direct call: docs/sdk.md.
import { randomUUID } from "node:crypto";
import { createClientPool } from "redis";
// What each connection makes anew; and credentials: the worker adds them, and none enters Redis.
const LEFT_OUT = /^(host|connection|keep-alive|transfer-encoding|content-(length|encoding)|accept-encoding|authorization|api-key|cookie)$/;
const kept = (headers: Iterable<[string, string]>) => Object.fromEntries([...headers].filter(([name]) => !LEFT_OUT.test(name)));
type Options = { queue?: string; waitMs?: number; timeoutMs?: number; [field: string]: unknown };

// After `waitMs` no attempt starts; `timeoutMs` is for each attempt of calls without a `timeout` of their own; `fields` are in every task.
export async function openRedial(url: string, { queue = "default", waitMs = 900_000, timeoutMs = 600_000, ...fields }: Options = {}) {
  const pool = createClientPool({ url }, { maximum: 10_000, acquireTimeout: waitMs }); // Waiting, a call holds a connection.
  await pool.on("error", () => {}).connect(); // A call whose connection breaks says so itself.
  async function redialFetch(input: string | URL | Request, init?: RequestInit): Promise<Response> {
    const request = new Request(input, init), content = Buffer.from(await request.arrayBuffer());
    const { "idempotency-key": idempotency_key, "x-stainless-timeout": seconds, ...headers } = kept(request.headers);
    const body = content.length && headers["content-type"] === "application/json" ? JSON.parse(content.toString()) : undefined;
    const body_base64 = content.length && !body ? content.toString("base64") : undefined;
    // As an answer, since of what is thrown here the SDK says no more than "Connection error.".
    if (body?.stream) return Response.json({ error: { message: "streams can't go through a queue: leave out `stream`" } }, { status: 400 });
    const id = randomUUID(), reply_to = `answers:{${queue}}:${id}`, timeout_ms = 1000 * Number(seconds) || timeoutMs;
    const call = { id, url: request.url, method: request.method, headers, body, body_base64, idempotency_key, timeout_ms, reply_to };
    await pool.lPush(`redial:{${queue}}`, JSON.stringify({ ...call, expires_at_ms: Date.now() + waitMs, ...fields }));
    const answer = await pool.brPop(reply_to, (waitMs + timeout_ms) / 1000);
    const result = answer ? JSON.parse(answer.element) : { http_status: null, reason: "no answer", error: "does a worker run?" };
    if (result.http_status === null) throw new Error(`task ${id}: ${result.reason}: ${result.error}`);
    const data = Buffer.from(result.body_base64 ?? result.body_text ?? JSON.stringify(result.body), result.body_base64 ? "base64" : "utf8");
    return new Response(data.length ? data : null, { status: result.http_status, headers: kept(Object.entries(result.headers)) });
  }
  return { fetch: Object.assign(redialFetch, { Response }), close: () => pool.close() }; // With `Response` the SDK needs no trial call.
}
