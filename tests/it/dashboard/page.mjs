// Drives the dashboard as an operator does, in a real browser before a real fleet, and keeps a screenshot of each step.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const { GATEWAY, GUARDED, UPSTREAM, CHROMIUM, SHOTS } = process.env;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SOON = 60_000;
const LETTERS = 1_000;
// A text that would run, were it taken for HTML anywhere.
const EVIL = `"><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>`;

mkdirSync(SHOTS, { recursive: true });
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] });
const context = await browser.newContext({ viewport: { width: 1280, height: 860 } });
context.setDefaultTimeout(SOON);
const page = await context.newPage();
const faults = [];
page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
page.on("console", (message) => {
  // A browser also reports each response that is not a success.
  if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) faults.push(message.text());
});

async function push(tasks, query = "") {
  const response = await fetch(`${GATEWAY}/v1/tasks${query}`, { method: "POST", body: JSON.stringify(tasks) });
  assert.ok(response.ok, `${response.status} ${await response.text()}`);
}

const api = async (path) => (await fetch(GATEWAY + path)).json();

async function until(what, check) {
  const end = Date.now() + SOON;
  while (!(await check())) {
    assert.ok(Date.now() < end, `still waiting: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function go(path) {
  await page.goto("about:blank");
  await page.goto(`${GATEWAY}/${path}`);
  await page.locator("#view h1").waitFor();
}

const MODES = [["light", 1280], ["dark", 1280], ["phone", 390]];

// A screenshot in each mode, and what axe finds in each.
async function look(step) {
  for (const [mode, width] of MODES) {
    await page.emulateMedia({ colorScheme: mode === "dark" ? "dark" : "light", reducedMotion: "reduce" });
    await page.setViewportSize({ width, height: 860 });
    await page.screenshot({ path: `${SHOTS}/${step}-${mode}.png`, fullPage: true, caret: "initial" });
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    const serious = violations.filter((one) => ["serious", "critical"].includes(one.impact));
    const found = serious.map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 160)).join(" | ")}`);
    assert.deepEqual(found, [], `${step} ${mode}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${step} ${mode}: the page is ${wide} pixels too wide`);
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1280, height: 860 });
}

async function a_failing_upstream_goes_red() {
  await push(Array.from({ length: 40 }, (_, n) => ({ id: `good-${n}`, url: `${UPSTREAM}/good` })));
  await push(Array.from({ length: LETTERS }, (_, n) => ({ id: `order-${n}`, url: `${UPSTREAM}/missing/${n}` })));
  const limit = { name: "narrow", rate: 1, per_ms: 600_000 };
  await push([...[0, 1, 2].map((n) => ({ id: `limited-${n}`, url: `${UPSTREAM}/good`, limit })), { id: "later", url: `${UPSTREAM}/good`, delay_ms: 900_000 }]);
  await until("letters", async () => (await api("/v1/queues")).queues[0].dead === LETTERS);
  await go("");
  const row = page.locator("section[aria-label=Upstreams] tbody tr");
  await row.first().waitFor();
  await until("the upstream is red", async () => /bad/.test((await row.first().getAttribute("class")) ?? ""));
  const colour = await row.locator("th").first().evaluate((cell) => getComputedStyle(cell).backgroundColor);
  assert.notEqual(colour, await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
  await page.locator("section[aria-label='Why work waits']", { hasText: "narrow" }).waitFor();
  await page.locator("section[aria-label=Limits]", { hasText: "narrow" }).waitFor();
  await look("overview");
}

async function a_dead_letter_is_opened_replayed_and_answered() {
  await page.getByRole("link", { name: "Dead letters", exact: true }).click();
  await page.locator("section[aria-label='By reason and upstream']", { hasText: "rejected" }).waitFor();
  await look("dead-letters");
  await page.getByRole("searchbox", { name: "Search id, error or upstream" }).fill("order-777");
  await page.getByRole("button", { name: "Search" }).click();
  await until("the search", async () => (await page.locator("section[aria-label=Letters] tbody tr").count()) === 1);
  await page.getByRole("link", { name: "order-777", exact: true }).click();
  await page.getByRole("heading", { name: "Dead letter order-777" }).waitFor();
  await look("dead-letter");
  await fetch(`${UPSTREAM}/heal`);
  await page.getByRole("button", { name: "Replay" }).click();
  await page.getByRole("heading", { name: "Task order-777" }).waitFor();
  await page.locator(".pill", { hasText: "complete" }).waitFor();
  await page.locator("ol.time", { hasText: "Answered" }).waitFor();
  await look("task");
}

async function a_group_is_replayed_at_a_rate() {
  await go("#/dead");
  await page.getByRole("button", { name: "rejected" }).click();
  await page.getByLabel("Letters a second").fill("50");
  const began = Date.now();
  await page.getByRole("button", { name: "Replay these" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Replay" }).click();
  await page.locator("section[aria-label=Jobs]", { hasText: "running" }).waitFor();
  await look("bulk");
  await page.locator("section[aria-label=Jobs] tbody tr", { hasText: "done" }).waitFor();
  // The first goes at once, and then one each 20 ms.
  assert.ok(Date.now() - began >= (LETTERS - 2) * 20, "it was faster than its rate");
  await until("all are answered", async () => {
    const [queue] = (await api("/v1/queues")).queues;
    return queue.dead === 0 && queue.completed >= LETTERS + 40;
  });
}

async function a_queue_is_paused_and_resumed() {
  await go("");
  await page.getByRole("button", { name: "pause default" }).click();
  await page.locator(".pill", { hasText: "paused" }).waitFor();
  await push([{ id: "while-paused", url: `${UPSTREAM}/good` }]);
  await go("#/queue/default");
  await page.getByRole("link", { name: "while-paused" }).waitFor();
  await look("queue-paused");
  await page.getByRole("button", { name: "resume default" }).click();
  await until("it goes on", async () => (await api("/v1/tasks/while-paused/story")).state === "complete");
}

async function a_stream_is_watched() {
  await push([{ id: "streamed", url: `${UPSTREAM}/stream`, stream: true }]);
  await go("#/task/default/streamed");
  await page.locator("#stream", { hasText: "one" }).waitFor();
  assert.doesNotMatch(await page.locator("#stream").textContent(), /three/);
  await page.locator("#stream", { hasText: "one two three" }).waitFor();
  await page.locator(".pill", { hasText: "complete" }).waitFor();
  await look("stream");
}

async function no_text_of_a_task_or_an_answer_becomes_a_script() {
  const id = `evil-${EVIL}`.slice(0, 200);
  const task = {
    id, url: `${UPSTREAM}/evil?${encodeURIComponent(EVIL)}`, headers: { accept: EVIL, "x-evil": EVIL }, meta: { evil: EVIL }, body: { [EVIL]: EVIL },
    tenant: EVIL.slice(0, 60), limit: { name: `limit ${EVIL}`, rate: 100 },
  };
  await push([task, { ...task, id: `${id.slice(0, 150)}-ok`, url: `${UPSTREAM}/evil-ok` }, { id: "evil-scheme", url: "http://javascript:alert(1)@[::]/" }]);
  await push([{ ...task, id: `${id.slice(0, 150)}-waits`, delay_ms: 900_000 }]);
  await until("the letter", async () => (await api("/v1/queues")).queues[0].dead >= 1);
  const { letters } = await api("/v1/queues/default/dead");
  const places = ["", "#/dead", "#/queue/default", "#/queue/default/scheduled", "#/queue/default/parked", "#/workers", "#/schedules", `#/queue/${encodeURIComponent(EVIL)}`, `#/dead/${encodeURIComponent(EVIL)}`];
  for (const one of [id, `${id.slice(0, 150)}-ok`, `${id.slice(0, 150)}-waits`]) places.push(`#/task/default/${encodeURIComponent(one)}`);
  for (const letter of letters) places.push(`#/dead/default/${encodeURIComponent(letter.letter)}`);
  let seen = 0;
  for (const place of places) {
    await go(place);
    await page.waitForTimeout(300);
    seen += (await page.locator("#view").textContent()).includes("<script>window.pwned") ? 1 : 0;
    assert.equal(await page.evaluate(() => window.pwned), undefined, place);
    assert.equal(await page.locator("#view img, #view script").count(), 0, place);
  }
  assert.ok(seen >= 5, `the text was shown in ${seen} views`);
  await go(`#/task/default/${encodeURIComponent(id)}`);
  await look("hostile-task");
}

async function the_other_views_are_there() {
  await go("#/workers");
  await page.locator("section[aria-label=Workers] tbody tr").first().waitFor();
  await look("workers");
  await go("#/schedules");
  await page.locator("section[aria-label=Schedules]", { hasText: "nightly" }).waitFor();
  await look("schedules");
  // By keyboard alone.
  await page.keyboard.press("g");
  await page.keyboard.press("d");
  await page.getByRole("heading", { name: "Dead letters of default" }).waitFor();
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement.id), "find-id");
  await page.keyboard.type("good-1");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Task good-1" }).waitFor();
}

async function whoever_has_a_token_signs_in_and_sees_what_it_allows() {
  const guarded = await context.newPage();
  await guarded.goto(`${GUARDED}/`);
  await guarded.getByLabel(/A token of this gateway/).fill("wrong");
  await guarded.getByRole("button", { name: "Sign in" }).click();
  await guarded.getByRole("alert").waitFor();
  await guarded.getByLabel(/A token of this gateway/).fill("token-of-reader");
  await guarded.getByRole("button", { name: "Sign in" }).click();
  await guarded.getByRole("heading", { name: "Overview" }).waitFor();
  assert.equal(await guarded.getByRole("button", { name: /pause/ }).count(), 0);
  assert.deepEqual(await context.cookies(), []);
  await guarded.screenshot({ path: `${SHOTS}/signed-in.png`, caret: "initial" });
  await guarded.getByRole("button", { name: "Sign out" }).click();
  await guarded.getByRole("button", { name: "Sign in" }).waitFor();
  await guarded.close();
}

try {
  for (const step of [
    a_failing_upstream_goes_red, a_dead_letter_is_opened_replayed_and_answered, a_group_is_replayed_at_a_rate, a_queue_is_paused_and_resumed,
    a_stream_is_watched, no_text_of_a_task_or_an_answer_becomes_a_script, the_other_views_are_there, whoever_has_a_token_signs_in_and_sees_what_it_allows,
  ]) {
    await step();
    console.log(`${step.name}: ok`);
  }
  assert.deepEqual(faults, []);
  console.log("the dashboard works");
} catch (error) {
  await page.screenshot({ path: `${SHOTS}/failed.png` }).catch(() => {});
  console.error(error, faults, await page.locator("#status").textContent({ timeout: 1000 }).catch(() => ""));
  process.exitCode = 1;
} finally {
  await browser.close();
}
