// The story of one task: what happened to it and why it waited, its answer while it arrives, and what belongs to it.

import { get, listen, send, task_path } from "./api.js";
import { ago, ask, h, panel, span, when } from "./dom.js";
import { task_link } from "./queue.js";

const CAUSES = { time: "a time", limit: "the limit", upstream: "the upstream, which is down:", answer: "the answer of the same call", other: "a limit, an upstream or an answer" };
const STREAM_KEPT = 20_000;

export function task_view(app, queue, id) {
  let answer = "";
  let stream_state = "";
  let follows = false;
  return async () => {
    const story = await get(task_path(queue, id, "/story"));
    const has_stream = Boolean(story.task?.stream);
    if (has_stream && !follows) {
      follows = true;
      follow(app, queue, id, (text, state) => { answer = state === "reset" ? "" : (answer + text).slice(-STREAM_KEPT); stream_state = state ?? stream_state; draw(answer, stream_state); });
    }
    const is_over = story.state === "complete" || story.state === "dead";
    const cancel = async () => { if (await ask("Cancel this task?", [], "Cancel the task", "It ends as dead, wherever it is.")) app.act("It is cancelled", send("DELETE", task_path(queue, id))); };
    const result = story.result;
    return [
      h("h1", null, "Task ", id),
      h("p", null, h("span", { class: `pill ${({ complete: "good", dead: "bad" })[story.state] ?? "warn"}` }, story.state),
        app.may_cancel && !is_over && [" ", h("button", { type: "button", class: "danger", onclick: cancel }, "Cancel")],
        story.letter && [" ", h("a", { href: `#/dead/${encodeURIComponent(queue)}/${encodeURIComponent(story.letter.letter)}` }, "Open its dead letter")]),
      h("div", { class: "columns" },
        h("div", null, panel("What happened", h("span", { class: "quiet" }, "UTC"), timeline(story)), has_stream && panel("Stream", h("span", { id: "stream-state", class: "quiet" }, stream_state), h("pre", { id: "stream", tabindex: "0", "aria-label": "The answer while it arrives" }, answer))),
        h("div", null, panel("Facts", null, facts(story, queue)), result && panel("Answer", result.http_status && h("span", { class: "quiet" }, `HTTP ${result.http_status}`), h("pre", { tabindex: "0", "aria-label": "The answer" }, body(result))),
          story.task && panel("Task", h("span", { class: "quiet" }, "credentials are hidden"), h("pre", { tabindex: "0", "aria-label": "The task as JSON" }, JSON.stringify(story.task, null, 2))))),
    ];
  };
}

// What arrives is shown at once, and not at the next look.
function draw(answer, state) {
  const shown = document.getElementById("stream");
  if (shown) shown.textContent = answer;
  const line = document.getElementById("stream-state");
  if (line) line.textContent = state;
}

async function follow(app, queue, id, seen) {
  const { signal } = app.stop;
  try {
    await listen(task_path(queue, id, "/stream"), signal, (event, data) => {
      if (event === "data" || event === "") seen(decoded(data), "arriving");
      else if (event === "restart") seen("", "reset");
      else seen("", event === "head" ? "arriving" : event);
    });
  } catch (error) {
    if (!signal.aborted) seen("", error.message);
  }
}

function decoded(data) {
  try {
    const json = JSON.parse(data);
    if (typeof json.text === "string") return json.text;
    if (typeof json.base64 === "string") return new TextDecoder().decode(Uint8Array.from(atob(json.base64), (c) => c.charCodeAt(0)));
  } catch { /* It is text. */ }
  return data;
}

function body(result) {
  if (result.body_is_too_large) return "The answer is too large to show: redial result prints it.";
  if (result.body !== undefined) return JSON.stringify(result.body, null, 2);
  return result.body_text ?? result.body_base64 ?? result.error ?? "";
}

function facts(story, queue) {
  const { links, task, result } = story;
  const fact = (name, value) => value !== undefined && value !== null && value !== "" && [h("dt", null, name), h("dd", null, value)];
  const link = (id) => id && task_link(queue, id);
  return h("dl", null,
    fact("Queue", h("a", { href: `#/queue/${encodeURIComponent(queue)}` }, queue)), fact("Call", task && `${task.method ?? ""} ${task.url ?? ""}`.trim()), fact("Tenant", task?.tenant),
    fact("Limit", task?.limit && [task.limit].flat().map((limit) => limit?.name ?? limit).join(", ")),
    fact("Due", story.due_ms && `${when(story.due_ms)} UTC`), fact("Before it", story.before), fact("Worker", story.worker),
    fact("Reason", result?.reason), fact("Error", result?.error), fact("Source", result?.source),
    fact("Belongs to", link(links.parent)), fact("Followed by", link(links.next)), fact("Callback", link(links.delivery)));
}

function timeline(story) {
  const first = story.events[0]?.at_ms;
  const items = story.events.map((event) => {
    const [kind, title, detail] = describe(event);
    return h("li", null, h("time", { datetime: new Date(event.at_ms).toISOString(), title: `${when(event.at_ms)} UTC` }, event.at_ms === first ? when(first).slice(11) : `+${span(event.at_ms - first)}`),
      h("span", { class: `dot ${kind}` }), h("div", null, h("p", null, title), detail && h("p", { class: "quiet" }, detail)));
  });
  return h("ol", { class: "time" }, items);
}

function describe(event) {
  switch (event.event) {
    case "queued": return ["", "Pushed"];
    case "started": return ["try", `Attempt ${event.attempt} began`, event.host && `at ${event.host}`];
    case "attempt_failed": return ["bad", `Attempt ${event.attempt} failed after ${span(event.took_ms)}`, event.error];
    case "waiting": return ["warn", `Waits for ${CAUSES[event.for] ?? event.for} ${event.name ?? ""}`.trim(), event.until_ms && `until ${when(event.until_ms)}, ${ago(event.at_ms, event.until_ms)}`];
    case "done": return event.status === "ok" ? ["good", "Answered", event.source && event.source !== "call" ? `from: ${event.source}` : undefined] : ["bad", `Dead: ${event.reason ?? ""}`, event.error];
    default: return ["", event.event];
  }
}

