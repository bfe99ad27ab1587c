// The fleet at a glance: queues, upstreams, limits, and why work waits.

import { get, queue_path, send } from "./api.js";
import { ask, chart, count, h, meter, num, panel, rate, share, span, sparkline, table, when_cell } from "./dom.js";

const SAMPLES = 60;
const MAX_WAITS = 12;
const MAX_BATCHES = 20;
const LISTS = { limit: "Limit", breaker: "Upstream is down", in_flight: "Calls in flight", memo: "Answer of the same call" };
const CAUSES = { limit: "limits", breaker: "upstreams that are down", memo: "answers" };
// Below this share of good answers an upstream is shown as failing.
const FAILING = 0.9;

// How many tasks of each queue ended by when, so that rates follow from what the queues count.
const ended = new Map();

function sample(queue, now) {
  const samples = ended.get(queue.queue) ?? [];
  samples.push({ at: now, ended: queue.completed + queue.died });
  ended.set(queue.queue, samples.slice(-SAMPLES));
  const rates = samples.slice(1).map((one, i) => (1000 * Math.max(0, one.ended - samples[i].ended)) / Math.max(1, one.at - samples[i].at));
  const lately = samples.slice(-6);
  const time = Math.max(1, lately.at(-1).at - lately[0].at);
  return { rates, now: (1000 * Math.max(0, lately.at(-1).ended - lately[0].ended)) / time };
}

export function overview(app) {
  return async () => {
    const fleet = app.access.sees_fleet;
    const [{ queues, now_ms: now }, statistics, { batches }, limits, breakers] = await Promise.all([
      get("/v1/queues"), get("/v1/statistics"), get("/v1/batches"), fleet ? get("/v1/limits") : { limits: [] }, fleet ? get("/v1/breakers") : { breakers: [] },
    ]);
    const waiting = queues.filter((queue) => queue.parked + queue.scheduled + queue.waiting > 0).slice(0, MAX_WAITS);
    const waits = await Promise.all(waiting.map((queue) => get(queue_path(queue.queue, "waits"))));
    const rates = new Map(queues.map((queue) => [queue.queue, sample(queue, now)]));
    return [
      h("h1", null, "Overview"),
      tiles(queues, statistics, rates),
      queue_panel(app, queues, rates),
      upstream_panel(statistics, breakers.breakers, now),
      batches.length > 0 && batch_panel(batches, now),
      h("div", { class: "columns" }, fleet && limit_panel(app, limits.limits), wait_panel(waiting, waits, statistics)),
    ];
  };
}

function tiles(queues, statistics, rates) {
  const sum = (field) => queues.reduce((total, queue) => total + queue[field], 0);
  const attempts = statistics.upstreams.reduce((total, upstream) => total + upstream.attempts, 0);
  const good = statistics.upstreams.reduce((total, upstream) => total + upstream.good, 0);
  const tile = (value, name, kind) => h("div", { class: "tile" }, h("b", { class: kind }, value), h("span", null, name));
  const ended_now = [...rates.values()].reduce((total, one) => total + one.now, 0);
  const label = `Attempts in the last five minutes: ${statistics.steps.reduce((total, step) => total + step.attempts, 0)}`;
  return h("section", { "aria-label": "Totals" },
    h("div", { class: "tiles" },
      tile(rate(ended_now), "tasks ended"), tile(share(good, attempts), "attempts that were good, last minute", attempts && good / attempts < FAILING ? "bad" : ""),
      tile(count(sum("waiting")), "waiting"), tile(count(sum("active")), "active"), tile(count(sum("scheduled") + sum("parked")), "scheduled or parked"),
      tile(count(sum("dead")), "dead letters", sum("dead") ? "bad" : "")),
    h("div", { class: "body" }, chart(statistics.steps, label), h("p", { class: "quiet" }, "Attempts of the last five minutes, failed ones on top")));
}

function queue_panel(app, queues, rates) {
  const rows = queues.map((queue) => h("tr", { class: queue.workers === 0 && queue.waiting ? "bad" : "" },
    h("th", { scope: "row" }, h("a", { href: `#/queue/${encodeURIComponent(queue.queue)}` }, queue.queue), queue.paused && [" ", h("span", { class: "pill warn" }, "paused")]),
    h("td", { class: "num" }, rate(rates.get(queue.queue).now)),
    h("td", { class: "roomy" }, sparkline(rates.get(queue.queue).rates, `Tasks ended a second in ${queue.queue}`)),
    num(queue.waiting), num(queue.active), num(queue.scheduled), num(queue.parked),
    h("td", { class: queue.dead ? "num" : "num zero" }, queue.dead ? h("a", { class: "bad", href: `#/dead/${encodeURIComponent(queue.queue)}` }, count(queue.dead)) : "0"),
    num(queue.completed),
    h("td", { class: queue.workers ? "num" : "num bad" }, count(queue.workers)),
    app.may_operate && h("td", null, pause_button(app, queue))));
  const heads = ["Queue", ["Rate", "num"], ["Last two minutes", "roomy"], ["Waiting", "num"], ["Active", "num"], ["Scheduled", "num"], ["Parked", "num"], ["Dead", "num"], ["Completed", "num"], ["Workers", "num"]];
  return panel("Queues", null, table("Queues", app.may_operate ? [...heads, "Action"] : heads, rows, "No queue has had a worker yet."));
}

export function pause_button(app, queue) {
  const action = queue.paused ? "resume" : "pause";
  const done = queue.paused ? `${queue.queue} goes on: workers claim from it within two seconds` : `${queue.queue} is paused: workers finish what they hold`;
  const onclick = () => app.act(done, send("POST", queue_path(queue.queue, action)));
  return h("button", { type: "button", onclick, "aria-label": `${action} ${queue.queue}` }, queue.paused ? "Resume" : "Pause");
}

function upstream_panel(statistics, breakers, now) {
  const states = new Map(breakers.map((breaker) => [breaker.upstream, breaker]));
  const known = new Set(statistics.upstreams.map((upstream) => upstream.upstream));
  const silent = breakers.filter((breaker) => !known.has(breaker.upstream)).map((breaker) => ({ upstream: breaker.upstream, attempts: 0, good: 0, statuses: {}, failures: {} }));
  const rows = [...statistics.upstreams, ...silent].sort((a, b) => b.attempts - a.attempts).map((upstream) => {
    const breaker = states.get(upstream.upstream);
    const is_failing = Boolean(breaker) || (upstream.attempts > 0 && upstream.good / upstream.attempts < FAILING);
    const other = [...Object.entries(upstream.statuses), ...Object.entries(upstream.failures)].filter(([name]) => !/^2/.test(name)).sort((a, b) => b[1] - a[1]).slice(0, 3);
    return h("tr", { class: is_failing ? "bad" : "" },
      h("th", { scope: "row" }, upstream.upstream),
      h("td", { class: "num" }, rate((1000 * upstream.attempts) / statistics.window_ms)),
      h("td", null, meter(upstream.attempts ? upstream.good / upstream.attempts : 0, `${share(upstream.good, upstream.attempts)} good`, is_failing ? "full" : "ok"), " ", h("span", { class: is_failing ? "bad" : "" }, share(upstream.good, upstream.attempts))),
      h("td", { class: "num" }, span(upstream.p50_ms)), h("td", { class: "num" }, span(upstream.p95_ms)), h("td", { class: "num" }, span(upstream.p99_ms)),
      h("td", { class: upstream.rate_limited ? "num warn" : "num zero" }, count(upstream.rate_limited ?? 0)), num(upstream.retries ?? 0),
      h("td", null, breaker ? h("span", { class: "pill bad" }, `${breaker.state.replace("_", "-")} for ${span(now - breaker.since_ms)}`) : h("span", { class: "good" }, "closed")),
      h("td", { class: "wide quiet" }, other.map(([name, times]) => `${name} × ${count(times)}`).join(", ")));
  });
  const heads = ["Upstream", ["Rate", "num"], "Good answers", ["p50", "num"], ["p95", "num"], ["p99", "num"], ["429s", "num"], ["Retries", "num"], "Breaker", "Other outcomes"];
  return panel("Upstreams", h("span", { class: "quiet" }, "last minute"), table("Upstreams", heads, rows, "No attempts in the last minute."));
}

function batch_panel(batches, now) {
  const rows = batches.sort((a, b) => b.updated_at_ms - a.updated_at_ms).slice(0, MAX_BATCHES).map((batch) => {
    const done = batch.answered + batch.failed + batch.invalid;
    const failed = batch.failed + batch.invalid;
    const level = `${count(done)} of ${count(batch.lines)} lines`;
    return h("tr", { class: batch.silent ? "bad" : "" },
      h("th", { scope: "row", class: "id" }, batch.name), h("td", null, batch.queue),
      h("td", { class: batch.silent ? "bad" : "" }, batch.silent ? "silent" : batch.state),
      h("td", { class: "wide" }, meter(batch.lines ? done / batch.lines : 1, level, "ok"), h("div", { class: "quiet" }, level)),
      h("td", { class: failed ? "num bad" : "num zero" }, count(failed)), num(batch.retries), when_cell(now, batch.updated_at_ms));
  });
  return panel("Batches", null, table("Batches", ["Output", "Queue", "State", "Lines", ["Failed", "num"], ["Retries", "num"], "Updated"], rows, ""));
}

function limit_panel(app, limits) {
  const rows = limits.sort((a, b) => b.waiting - a.waiting || a.name.localeCompare(b.name)).map((limit) => {
    const [used, of] = limit.concurrency ? [limit.in_flight, limit.concurrency] : [(limit.burst ?? limit.rate) - limit.left, limit.burst ?? Math.max(1, (limit.rate * 1000) / (limit.per_ms ?? 1000))];
    const level = limit.concurrency ? `${count(limit.in_flight)} of ${count(limit.concurrency)} in flight` : `${count(Math.max(0, limit.left))} of ${count(of)} left`;
    const definition = [limit.rate && `${count(limit.rate)} ${limit.unit ?? "calls"} in ${span(limit.per_ms ?? 1000)}`, limit.concurrency && `${count(limit.concurrency)} at a time`].filter(Boolean).join(", ");
    return h("tr", { class: limit.closed_ms ? "bad" : "" },
      h("th", { scope: "row", class: "id" }, limit.name, h("div", { class: "quiet" }, definition)),
      h("td", { class: "wide" }, meter(Math.max(0, used) / of, level), h("div", { class: "quiet" }, level), limit.closed_ms > 0 && h("div", { class: "bad" }, `closed for ${span(limit.closed_ms)}: ${limit.closed_by || "as the upstream asked"}`)),
      num(limit.waiting),
      app.may_operate && h("td", null, h("button", { type: "button", "aria-label": `set ${limit.name}`, onclick: () => set_limit(app, limit) }, "Set"), " ",
        h("button", { type: "button", "aria-label": `reset ${limit.name}`, onclick: () => app.act(`${limit.name} is full again`, send("POST", `/v1/limits/${encodeURIComponent(limit.name)}/reset`)) }, "Reset")));
  });
  const heads = ["Limit", "Level", ["Wait for it", "num"]];
  return panel("Limits", null, table("Limits", app.may_operate ? [...heads, "Action"] : heads, rows, "No limit is in use."));
}

async function set_limit(app, limit) {
  const fields = [
    { name: "rate", label: "Calls, or units of their cost", type: "number", min: 0, value: limit.rate },
    { name: "per_ms", label: "in so many ms", type: "number", min: 1, value: limit.per_ms ?? 1000 },
    { name: "concurrency", label: "At most so many calls at a time", type: "number", min: 1, value: limit.concurrency },
  ];
  const text = "It overrides the configuration and tasks, at once. Without a number, they define it again.";
  const given = await ask(`Set the limit ${limit.name}`, fields, "Set", text);
  if (!given) return;
  const path = `/v1/limits/${encodeURIComponent(limit.name)}`;
  const number = (name) => (given[name] ? Number(given[name]) : undefined);
  const body = { rate: number("rate"), per_ms: given.rate ? number("per_ms") : undefined, concurrency: number("concurrency"), unit: given.rate ? (limit.unit ?? undefined) : undefined };
  if (body.rate || body.concurrency) app.act(`${limit.name} is set`, send("PUT", path, body));
  else app.act(`${limit.name} is defined by the configuration and tasks`, send("DELETE", path));
}

function wait_panel(queues, waits, statistics) {
  const rows = queues.flatMap((queue, i) => {
    const of = `#/queue/${encodeURIComponent(queue.queue)}`;
    const row = (cause, name, tasks, link) => tasks > 0 && h("tr", null, h("th", { scope: "row" }, cause), h("td", { class: "id" }, link && name ? h("a", { href: link }, name) : name), h("td", null, h("a", { href: name ? of : (link ?? of) }, queue.queue)), num(tasks));
    const { lists, answers, scheduled, waiting } = waits[i];
    return [
      ...lists.map((list) => row(LISTS[list.for] ?? list.for, list.name, list.tasks, `${of}/parked/${list.for}/${encodeURIComponent(list.name)}`)),
      row("Answer of the same call", "", answers), row("Retry or delay", "", scheduled, `${of}/scheduled`), row(queue.paused ? "Queue is paused" : "Free slot", "", waiting),
    ].filter(Boolean);
  });
  const began = Object.entries(statistics.waits).map(([cause, times]) => `${count(times)} for ${({ time: "a retry or delay", limit: CAUSES.limit, upstream: CAUSES.breaker, answer: CAUSES.memo })[cause] ?? cause}`);
  return panel("Why work waits", began.length > 0 && h("span", { class: "quiet" }, `began in the last minute: ${began.join(", ")}`), table("Why work waits", ["Cause", "Name", "Queue", ["Tasks", "num"]], rows, "Nothing waits."));
}
