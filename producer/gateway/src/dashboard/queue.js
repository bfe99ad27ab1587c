// One queue; and schedules and workers of all queues.

import { get, queue_path, send } from "./api.js";
import { ago, ask, chart, count, h, num, panel, span, table, when_cell } from "./dom.js";
import { pause_button } from "./overview.js";

const PAGE = 50;
const STATES = ["waiting", "scheduled", "parked", "active"];

export const task_link = (queue, id) => (id ? h("a", { class: "id", href: `#/task/${encodeURIComponent(queue)}/${encodeURIComponent(id)}` }, id) : h("span", { class: "quiet" }, "no id yet"));

export function queue_view(app, queue, state = "waiting", cause = "", name = "") {
  let skip = 0;
  const turn = (to) => { skip = Math.max(0, to); app.refresh(); };
  return async () => {
    const listing = `tasks?state=${encodeURIComponent(state)}&skip=${skip}&limit=${PAGE}${cause && `&for=${encodeURIComponent(cause)}&name=${encodeURIComponent(name)}`}`;
    const counted = (window) => get(`/v1/statistics?queue=${encodeURIComponent(queue)}&window=${window}`);
    const [{ queues, now_ms: now }, page, lately, hourly] = await Promise.all([get("/v1/queues"), get(queue_path(queue, listing)), counted("five_minutes"), counted("hour")]);
    const drawn = (statistics, time) => h("div", { class: "body" }, chart(statistics.steps, `Attempts of the last ${time}`), h("p", { class: "quiet" }, `Attempts of the last ${time}, failed ones on top`));
    const has_hour = hourly.steps.some((step) => step.attempts > 0);
    const numbers = queues.find((one) => one.queue === queue) ?? { queue, waiting: 0, active: 0, scheduled: 0, parked: 0, dead: 0, completed: 0 };
    const path = `#/queue/${encodeURIComponent(queue)}`;
    const tile = (value, label, link, kind) => h("div", { class: "tile" }, h("b", { class: kind }, link ? h("a", { href: link, class: kind }, count(value)) : count(value)), h("span", null, label));
    const tabs = STATES.map((one) => h("button", { type: "button", "aria-pressed": String(one === state && !cause), onclick: () => { location.hash = `${path}/${one}`; } }, one));
    const rows = page.tasks.map((task) => h("tr", null,
      h("th", { scope: "row" }, task_link(queue, task.id)),
      h("td", { class: "wide" }, task.task?.url ?? "not a task"),
      h("td", null, why(task, now, numbers.paused)),
      num(task.attempts),
      h("td", { class: "wide bad" }, task.last_error ?? "")));
    return [
      h("h1", null, "Queue ", queue, numbers.paused && [" ", h("span", { class: "pill warn" }, "paused")]),
      h("section", { "aria-label": "Totals" }, h("div", { class: "tiles" }, tile(numbers.waiting, "waiting"), tile(numbers.active, "active"), tile(numbers.scheduled, "scheduled"), tile(numbers.parked, "parked"),
        tile(numbers.dead, "dead letters", `#/dead/${encodeURIComponent(queue)}`, numbers.dead ? "bad" : ""), tile(numbers.completed, "completed")),
        h("div", { class: "columns" }, drawn(lately, "five minutes"), has_hour && drawn(hourly, "hour"))),
      app.may_operate && h("p", null, pause_button(app, numbers)),
      panel(cause ? `Tasks that wait for ${name}` : "Tasks", tabs, table(`Tasks that are ${state}`, ["Id", "URL", "Waits for", ["Attempts", "num"], "Last error"], rows, `No task is ${state}.`),
        (skip > 0 || page.next) && h("p", null, h("button", { type: "button", disabled: skip === 0, onclick: () => turn(skip - PAGE) }, "Previous"), " ", h("button", { type: "button", disabled: !page.next, onclick: () => turn(page.next) }, "Next"), h("span", { class: "quiet" }, ` from ${count(skip + 1)} on`))),
    ];
  };
}

function why(task, now, is_paused) {
  if (task.waits_for?.kind === "memo") return "the answer of the same call";
  if (task.waits_for) return `${task.waits_for.kind === "limit" ? "limit" : "upstream"} ${task.waits_for.name}`;
  if (task.due_ms) return `a time: ${ago(now, task.due_ms)}`;
  if (task.worker) return `its call, in worker ${task.worker}`;
  return is_paused ? "the queue to be resumed" : "a free slot";
}

export function schedules_view(app) {
  return async () => {
    const { queues, now_ms: now } = await get("/v1/queues");
    const lists = await Promise.all(queues.map((queue) => get(queue_path(queue.queue, "schedules"))));
    const rows = lists.flatMap(({ schedules }, i) => schedules.map((schedule) => h("tr", null,
      h("th", { scope: "row" }, schedule.name), h("td", null, queues[i].queue), h("td", { class: "id" }, `${schedule.cron} ${schedule.tz}`),
      schedule.next_ms ? when_cell(now, schedule.next_ms) : h("td", null, "never again"), h("td", { class: "wide" }, schedule.task?.url ?? ""),
      app.may_operate && h("td", null, h("button", { type: "button", class: "danger", "aria-label": `remove ${schedule.name}`, onclick: () => remove(app, queues[i].queue, schedule.name) }, "Remove")))));
    const heads = ["Schedule", "Queue", "When", "Next", "URL"];
    return [h("h1", null, "Schedules"), panel("Schedules", null, table("Schedules", app.may_operate ? [...heads, "Action"] : heads, rows, "No schedules: redial schedule add makes one."))];
  };
}

async function remove(app, queue, name) {
  if (await ask(`Remove the schedule ${name}?`, [], "Remove", "It fires no more. Tasks that it has pushed already stay.")) app.act(`${name} is removed`, send("DELETE", queue_path(queue, `schedules/${encodeURIComponent(name)}`)));
}

export function workers_view() {
  return async () => {
    const { workers, now_ms: now } = await get("/v1/workers");
    const rows = workers.map((worker) => h("tr", { class: worker.gone ? "bad" : "" },
      h("th", { scope: "row", class: "id" }, worker.worker),
      h("td", { class: "id" }, worker.release ?? "unknown"),
      num(worker.queues.reduce((sum, queue) => sum + queue.tasks, 0)),
      h("td", null, worker.gone ? h("span", { class: "bad" }, "gone: another worker takes back its tasks") : `lease ends in ${span(worker.lease_until_ms - now)}`),
      h("td", { class: "wide" }, worker.queues.map((queue, i) => [i > 0 && ", ", h("a", { href: `#/queue/${encodeURIComponent(queue.queue)}/active` }, queue.queue), ` ${count(queue.tasks)}`]))));
    return [h("h1", null, "Workers"), panel("Workers", null, table("Workers", ["Worker", "Release", ["Holds", "num"], "Lease", "Tasks of each queue"], rows, "No workers are running."))];
  };
}
