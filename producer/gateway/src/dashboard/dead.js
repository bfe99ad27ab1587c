// Dead letters: grouped, searched, opened, replayed and dropped, one by one or many at a rate.

import { get, queue_path, send } from "./api.js";
import { ask, count, h, num, panel, table, when, when_cell } from "./dom.js";
import { task_link } from "./queue.js";

export function dead_view(app, named, letter) {
  const queue = named ?? app.access?.default_queue;
  return letter ? letter_view(app, queue, letter) : list_view(app, named);
}

function list_view(app, named) {
  const filter = { reason: "", upstream: "", text: "" };
  let before;
  const choose = (changed) => { Object.assign(filter, changed); before = undefined; app.refresh(); };
  return async () => {
    const queue = named ?? app.access.default_queue;
    const query = new URLSearchParams({ ...filter, limit: 50, ...(before === undefined ? {} : { before }) });
    const [{ queues, now_ms: now }, groups, page, { jobs }] = await Promise.all([get("/v1/queues"), get(queue_path(queue, "dead/groups")), get(queue_path(queue, `dead?${query}`)), get(queue_path(queue, "dead-jobs"))]);
    const others = queues.filter((one) => one.dead || one.queue === queue);
    const is_chosen = (group) => group.reason === filter.reason && group.upstream === filter.upstream;
    const rows = groups.groups.map((group) => h("tr", null,
      h("th", { scope: "row" }, h("button", { type: "button", "aria-pressed": String(is_chosen(group)), onclick: () => choose(is_chosen(group) ? { reason: "", upstream: "" } : { reason: group.reason, upstream: group.upstream }) }, group.reason || "unknown")),
      h("td", { class: "wide" }, group.upstream || "no upstream"), num(group.letters), when_cell(now, group.oldest_ms), when_cell(now, group.newest_ms)));
    const letters = page.letters.map((one) => h("tr", null,
      h("th", { scope: "row" }, h("a", { class: "id", href: `#/dead/${encodeURIComponent(queue)}/${encodeURIComponent(one.letter)}` }, one.id ?? one.letter)),
      h("td", { class: "bad" }, one.reason || "unknown"), h("td", { class: "wide" }, one.upstream), when_cell(now, one.at_ms), h("td", { class: "wide" }, one.error)));
    const search = h("form", { role: "search", onsubmit: (event) => { event.preventDefault(); choose({ text: document.getElementById("dead-text").value.trim() }); } },
      h("input", { id: "dead-text", type: "search", "aria-label": "Search id, error or upstream", placeholder: "Id, error or upstream" }), " ", h("button", null, "Search"));
    const picker = h("select", { "aria-label": "Queue", onchange: (event) => { location.hash = `#/dead/${encodeURIComponent(event.target.value)}`; } }, others.map((one) => h("option", { value: one.queue, selected: one.queue === queue }, `${one.queue} (${count(one.dead)})`)));
    const seen = groups.partial ? `the newest ${count(groups.counted)} of ${count(groups.dead)}` : `${count(groups.dead)} in all`;
    return [
      h("h1", null, "Dead letters of ", queue),
      panel("By reason and upstream", [h("span", { class: "quiet" }, seen), others.length > 1 && picker], table("Dead letters by reason and upstream", ["Reason", "Upstream", ["Letters", "num"], "Oldest", "Newest"], rows, "No dead letters.")),
      panel("Letters", search, table("Dead letters", ["Id", "Reason", "Upstream", "Died", "Error"], letters, "No letter is like that."),
        (before !== undefined || page.next !== null) && h("p", null, h("button", { type: "button", disabled: before === undefined, onclick: () => { before = undefined; app.refresh(); } }, "Newest"), " ", h("button", { type: "button", disabled: page.next === null, onclick: () => { before = page.next; app.refresh(); } }, "Older")),
        app.may_operate && bulk(app, queue, filter, groups)),
      jobs.length > 0 && job_panel(app, queue, jobs),
    ];
  };
}

function bulk(app, queue, filter, groups) {
  const meant = [filter.reason && `that died of ${filter.reason}`, filter.upstream && `at ${filter.upstream}`, filter.text && `with “${filter.text}”`].filter(Boolean).join(", ") || "all of this queue";
  const start = async (action) => {
    const per_second = Number(document.getElementById("per-second").value);
    const group = groups.groups.find((one) => one.reason === filter.reason && one.upstream === filter.upstream);
    const letters = filter.text ? "the letters" : `${count(group ? group.letters : groups.dead)} letters`;
    const what = action === "replay" ? "Replay" : "Drop";
    const text = action === "replay" ? "Each goes back on the queue, as if it had just been pushed." : "They are deleted for good; their tasks are nowhere else.";
    if (!(await ask(`${what} ${letters} ${meant}?`, [], what, text))) return;
    const of = Object.fromEntries(Object.entries(filter).filter(([, value]) => value));
    app.act(`Started: ${what.toLowerCase()} at ${per_second} a second`, send("POST", queue_path(queue, "dead-jobs"), { action, per_second, ...of }));
  };
  return h("form", { class: "bulk", onsubmit: (event) => { event.preventDefault(); start("replay"); } },
    h("label", { for: "per-second" }, "Letters a second", h("input", { id: "per-second", type: "number", min: 1, max: 1000, value: 50, required: true })),
    h("button", { class: "main" }, "Replay these"), h("button", { type: "button", class: "danger", onclick: () => start("drop") }, "Drop these"), h("span", { class: "quiet" }, meant));
}

function job_panel(app, queue, jobs) {
  const rows = jobs.map((job) => h("tr", null,
    h("th", { scope: "row" }, `${job.action} at ${job.per_second}/s`),
    h("td", { class: "wide" }, [job.reason, job.upstream, job.text].filter(Boolean).join(", ") || "all"),
    num(job.done), num(job.passed_over), h("td", { class: job.state === "failed" ? "bad" : "" }, job.error ? `${job.state}: ${job.error}` : job.state),
    h("td", null, app.may_operate && job.state === "running" && h("button", { type: "button", onclick: () => app.act("Cancelled", send("DELETE", queue_path(queue, `dead-jobs/${job.job}`))) }, "Cancel"))));
  return panel("Jobs", h("span", { class: "quiet" }, "of this gateway"), table("Jobs", ["Job", "Letters", ["Done", "num"], ["Passed over", "num"], "State", "Action"], rows, ""));
}

function letter_view(app, queue, name) {
  return async () => {
    const letter = await get(queue_path(queue, `dead/${encodeURIComponent(name)}`));
    const path = queue_path(queue, `dead/${encodeURIComponent(name)}`);
    const back = () => { location.hash = `#/dead/${encodeURIComponent(queue)}`; };
    const replay = async () => {
      const to_task = () => { location.hash = letter.id ? `#/task/${encodeURIComponent(queue)}/${encodeURIComponent(letter.id)}` : `#/dead/${encodeURIComponent(queue)}`; };
      try { await send("POST", `${path}/replay`); to_task(); app.say("It is back on the queue"); } catch (error) {
        if (error.status !== 409) return app.say(error.message, true);
        if (await ask("Replay it all the same?", [], "Replay", error.message) && await app.act("It is back on the queue", send("POST", `${path}/replay?forgotten_keys=true`))) to_task();
      }
    };
    const drop = async () => { if (await ask("Drop this letter?", [], "Drop", "It is deleted for good; its task is nowhere else.")) { try { await send("DELETE", path); back(); app.say("It is deleted"); } catch (error) { app.say(error.message, true); } } };
    const attempts = letter.attempts.map((attempt, i) => h("tr", null, h("th", { scope: "row" }, i + 1), h("td", null, when(attempt.at_ms)), num(attempt.took_ms), h("td", null, attempt.http_status ?? "–"), h("td", { class: "wide" }, attempt.error ?? "")));
    return [
      h("h1", null, "Dead letter ", letter.id ?? name),
      app.may_operate && h("p", null, h("button", { type: "button", class: "main", onclick: replay }, "Replay"), " ", h("button", { type: "button", class: "danger", onclick: drop }, "Drop")),
      panel("Why", null, h("dl", null, h("dt", null, "Reason"), h("dd", { class: "bad" }, letter.reason ?? "unknown"), h("dt", null, "Error"), h("dd", null, letter.error ?? ""), h("dt", null, "Died"), h("dd", null, `${when(letter.at_ms)} UTC`), h("dt", null, "Story"), h("dd", null, task_link(queue, letter.id)))),
      panel("Attempts", null, table("Attempts", ["Attempt", "Began (UTC)", ["Took, ms", "num"], "Status", "Error"], attempts, "No attempt was made.")),
      panel("Task", h("span", { class: "quiet" }, "credentials are hidden"), h("pre", { tabindex: "0", "aria-label": "The task as JSON" }, letter.task ? JSON.stringify(letter.task, null, 2) : "It is not a JSON object: redial dead show --raw prints it.")),
    ];
  };
}
