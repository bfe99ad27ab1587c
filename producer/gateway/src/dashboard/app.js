// Which view is shown, who is signed in, and asking again every two seconds.

import { Refused, get, sign_in, token } from "./api.js";
import { dead_view } from "./dead.js";
import { h, update } from "./dom.js";
import { overview } from "./overview.js";
import { queue_view, schedules_view, workers_view } from "./queue.js";
import { task_view } from "./task.js";

const INTERVAL = 2000;
const VIEWS = { "": overview, queue: queue_view, task: task_view, dead: dead_view, schedules: schedules_view, workers: workers_view };
const NAV = [["", "Overview"], ["dead", "Dead letters"], ["schedules", "Schedules"], ["workers", "Workers"]];

const main = document.getElementById("view");
const status = document.getElementById("status");
// What all views share. `may_operate` decides which buttons there are; the gateway decides what is allowed.
const state = { access: undefined, route: [], stop: new AbortController(), refresh: () => tick(), say, act };
let timer;
let shown;

export function say(text, is_bad) {
  status.className = is_bad ? "bad" : "";
  status.textContent = text;
}

// Does something that changes the fleet, and says what became of it.
async function act(what, promise) {
  try {
    const answer = await promise;
    say(what);
    await tick();
    return answer;
  } catch (error) {
    say(error.message, true);
    return undefined;
  }
}

function route() {
  const [view, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map((part) => {
    try { return decodeURIComponent(part); } catch { return part; }
  });
  return [view in VIEWS ? view : "", ...rest];
}

async function show() {
  state.stop.abort();
  state.stop = new AbortController();
  state.route = route();
  const [view, ...rest] = state.route;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren(h("p", { class: "quiet" }, "Loading…"));
  shown = VIEWS[view](state, ...rest);
  document.title = `${rest.at(-1) ?? NAV.find(([name]) => name === view)?.[1] ?? "Redial"} · Redial`;
  await tick();
}

async function tick() {
  clearTimeout(timer);
  const current = shown;
  try {
    if (!state.access) await identify();
    const content = await current();
    // Another view may have been opened meanwhile.
    if (current !== shown) return;
    update(main, content);
    if (status.dataset.lost) { delete status.dataset.lost; say("Connected again"); }
  } catch (error) {
    if (current !== shown || error.name === "AbortError") return;
    if (error instanceof Refused && error.status === 401) return ask_to_sign_in(error.message);
    status.dataset.lost = "yes";
    say(error instanceof Refused ? error.message : "The gateway does not answer; trying again", true);
    const titles = { 400: "No such page", 403: "Not allowed", 404: "Not found" };
    if (error instanceof Refused && error.status in titles) update(main, h("h1", null, titles[error.status]), h("p", null, error.message));
  }
  timer = setTimeout(() => (document.hidden ? undefined : tick()), INTERVAL);
}

async function identify() {
  state.access = await get("/v1/access");
  state.may_operate = state.access.access === "operate";
  state.may_cancel = state.access.access !== "read";
  const out = h("button", { type: "button", onclick: () => { sign_in(""); location.reload(); } }, "Sign out");
  update(document.getElementById("who"), state.access.name && h("span", null, `${state.access.name} (${state.access.access})`), token() && out);
}

function ask_to_sign_in(message) {
  const field = h("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const enter = (event) => {
    event.preventDefault();
    sign_in(field.value.trim());
    state.access = undefined;
    show();
  };
  main.replaceChildren(panel_for_sign_in(field, enter, token() ? message : ""));
  field.focus();
}

function panel_for_sign_in(field, enter, message) {
  return h("form", { id: "sign-in", onsubmit: enter }, h("h1", null, "Sign in"),
    h("p", null, h("label", { for: "token" }, "A token of this gateway, with access to read or to operate. It is kept for this tab only.")),
    h("p", null, field, " ", h("button", { class: "main" }, "Sign in")), message && h("p", { class: "bad", role: "alert" }, message));
}

document.getElementById("nav").append(...NAV.map(([view, name]) => {
  const link = h("a", { href: `#/${view}` }, name);
  link.dataset.view = view;
  return link;
}));
document.getElementById("find").onsubmit = (event) => {
  event.preventDefault();
  const id = document.getElementById("find-id").value.trim();
  const queue = state.route[0] === "" ? state.access?.default_queue : state.route[1];
  if (id) location.hash = `#/task/${encodeURIComponent(queue ?? "default")}/${encodeURIComponent(id)}`;
};
document.querySelector(".skip").onclick = (event) => { event.preventDefault(); main.focus(); };
addEventListener("hashchange", () => { show().then(() => main.focus({ preventScroll: true })); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) tick(); });
// Keys, as elsewhere: "/" finds, "g" and a letter goes to a view.
let last_key = "";
addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") { event.preventDefault(); document.getElementById("find-id").focus(); }
  const views = { o: "", d: "dead", s: "schedules", w: "workers" };
  if (last_key === "g" && event.key in views) location.hash = `#/${views[event.key]}`;
  last_key = event.key;
});
show();
