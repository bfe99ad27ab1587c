// Requests to the gateway. The token is kept for this tab only, and goes into a header: there is no cookie that another page could use.

const KEY = "redial-token";

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const token = () => sessionStorage.getItem(KEY) ?? "";
export const sign_in = (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY));

function headers() {
  return token() ? { authorization: `Bearer ${token()}` } : {};
}

async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  return new Refused(response.status, problem.detail ?? `the gateway answered ${response.status}`);
}

export async function send(method, path, body) {
  const init = { method, headers: headers(), cache: "no-store" };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers["content-type"] = "application/json";
  }
  const response = await fetch(path, init);
  if (!response.ok) throw await refusal(response);
  return response.json();
}

export const get = (path) => send("GET", path);
export const queue_path = (queue, rest) => `/v1/queues/${encodeURIComponent(queue)}/${rest}`;
export const task_path = (queue, id, rest) => `/v1/tasks/${encodeURIComponent(id)}${rest ?? ""}?queue=${encodeURIComponent(queue)}`;

// Calls `seen` with the name and the data of each server-sent event, until the stream or `signal` ends.
export async function listen(path, signal, seen) {
  const response = await fetch(path, { headers: { ...headers(), accept: "text/event-stream" }, signal, cache: "no-store" });
  if (!response.ok) throw await refusal(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const of = (name) => event.split("\n").filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2)).join("\n");
      if (of("data") || of("event")) seen(of("event"), of("data"));
    }
  }
}
