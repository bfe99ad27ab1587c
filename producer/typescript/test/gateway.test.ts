import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ClientClosed, ConnectionFailed, Gateway, type GatewayOptions, GatewayRefused, InvalidTask, Redial, type StreamEntry, StreamFailed, WaitTimeout } from "../src/index.js";
import { Desk, PROGRAMS } from "./servers.js";

const FAST = { max_attempts: 5, base_ms: 20, cap_ms: 50 };

async function opened(t: TestContext, options: GatewayOptions = {}) {
  const desk = await Desk.open();
  await desk.startGateway();
  const gateway = new Gateway({ url: desk.gatewayUrl, ...options });
  t.after(async () => {
    await gateway.close();
    await desk.close();
  });
  return { desk, gateway };
}

const events = (count: number) => Array.from({ length: count }, (_, n) => `data: ${n}\n\n`).join("");

test("calls go over the gateway: retried, byte for byte, and failures are errors", async (t) => {
  const { desk, gateway } = await opened(t, { task: { retry: FAST } });
  await desk.startWorker();
  const result = await gateway.call({ url: desk.url("/flaky/2"), body: { text: "grüße 😀" }, meta: 17 });
  assert.deepEqual([result.ok, result.json(), result.meta, result.attempts.length], [true, { text: "grüße 😀" }, 17, 3]);
  assert.deepEqual([...(await gateway.call(desk.url("/bytes"))).bytes], [0xff, 0, 0xfe]);
  assert.deepEqual([...(await gateway.call({ url: desk.url("/echo"), body: Uint8Array.of(0, 65) })).bytes], [0, 65]);
  await assert.rejects(gateway.call(desk.url("/status/422")), { name: "CallFailed", reason: "rejected", httpStatus: 422 });
  await assert.rejects(gateway.enqueue("ftp://example.com"), InvalidTask);
  await assert.rejects(gateway.enqueue({ url: desk.url("/echo"), method: "FETCH" }), { name: "GatewayRefused", code: "invalid_task", status: 400 });
  const task = await gateway.enqueue({ url: desk.url("/echo"), delay_ms: 60_000 });
  assert.equal(await gateway.result(task), undefined);
  assert.deepEqual([await gateway.cancel(task), await gateway.cancel(task), await gateway.cancel("never")], [true, false, false]);
  await assert.rejects(gateway.wait(task), { name: "CallFailed", reason: "cancelled" });
});

test("many are waited for over the gateway, and each wait ends in time", async (t) => {
  const { desk, gateway } = await opened(t);
  const numbers = Array.from({ length: 300 }, (_, n) => n);
  const tasks = await gateway.enqueueMany(numbers.map((body) => ({ url: desk.url("/echo"), body })));
  await assert.rejects(gateway.wait(tasks[0]!, { timeoutMs: 300 }), WaitTimeout);
  await desk.startWorker();
  assert.deepEqual((await gateway.waitMany(tasks)).map((result) => result.json()), numbers);
  await assert.rejects(gateway.waitMany([tasks[0]!, "never"], { timeoutMs: 500 }), (error) => {
    assert(error instanceof WaitTimeout);
    assert.deepEqual([error.ids, [...error.results.keys()]], [["never"], [tasks[0]!.id]]);
    return true;
  });
  const gone = new AbortController(), wait = gateway.wait("never", { signal: gone.signal });
  gone.abort(new Error("gone"));
  await assert.rejects(wait, /gone/);
  const endless = gateway.wait("never");
  await Promise.all([assert.rejects(endless, ClientClosed), gateway.close()]);
});

test("a wait and a stream survive a gateway that is killed", async (t) => {
  const { desk, gateway } = await opened(t);
  await desk.startWorker();
  const [slow, streamed] = await gateway.enqueueMany([desk.url("/slow/3000"), { url: desk.url("/tokens/300"), stream: true }]);
  const wait = gateway.wait(slow!);
  let body = "", killed: Promise<void> | undefined;
  for await (const entry of gateway.stream(streamed!)) {
    if (entry.type === "data") body += Buffer.from(entry.bytes);
    killed ??= desk.killGateway().then(async () => {
      await assert.rejects(gateway.enqueue(desk.url("/echo")), ConnectionFailed);
      await desk.startGateway();
    });
  }
  assert.equal(body, events(300));
  assert((await wait).ok);
  await killed;
});

test("a stream is the same over Redis, goes on behind an entry, and says when it breaks off", async (t) => {
  const { desk, gateway } = await opened(t);
  await desk.startWorker();
  const redial = new Redial({ url: desk.redisUrl, program: join(PROGRAMS, "redial") });
  t.after(() => redial.close());
  const task = await redial.enqueue({ url: desk.url("/tokens/50"), stream: true });
  for (const client of [gateway, redial]) {
    const entries: StreamEntry[] = [];
    for await (const entry of client.stream(task)) entries.push(entry);
    const [head] = entries;
    assert(head?.type === "head" && head.status === 200 && head.headers["content-type"] === "text/event-stream");
    const text = (from: StreamEntry[]) => from.map((entry) => (entry.type === "data" ? Buffer.from(entry.bytes).toString() : "")).join("");
    assert.equal(text(entries), events(50));
    const rest: StreamEntry[] = [];
    for await (const entry of client.stream(task, { after: entries[2]!.id })) rest.push(entry);
    assert.deepEqual(rest.map((entry) => entry.id), entries.slice(3).map((entry) => entry.id));
    const broken = await redial.enqueue({ url: desk.url("/tokens/5/broken"), stream: true });
    let seen = "";
    await assert.rejects(async () => {
      for await (const entry of client.stream(broken)) seen += entry.type === "data" ? Buffer.from(entry.bytes) : "";
    }, (error) => error instanceof StreamFailed && error.reason === "outcome_unknown");
    assert(events(5).startsWith(seen) && seen.length > 0, seen);
    await assert.rejects(client.stream("never", { timeoutMs: 300 }).next(), WaitTimeout);
    const plain = await redial.enqueue(desk.url("/echo"));
    await assert.rejects(client.stream(plain).next(), StreamFailed);
  }
});

test("a gateway with tokens refuses others in words", async (t) => {
  const { desk } = await opened(t);
  await desk.killGateway();
  const hash = createHash("sha256").update("s3cret").digest("hex");
  await desk.startGateway(`[[token]]\nname = "app"\nhash = "sha256:${hash}"\nqueues = ["default"]\n`);
  await desk.startWorker();
  const own = new Gateway({ url: desk.gatewayUrl, token: "s3cret" });
  assert((await own.call(desk.url("/echo"))).ok);
  for (const [options, code] of [[{}, "unauthorized"], [{ token: "wrong" }, "unauthorized"], [{ token: "s3cret", queue: "other" }, "forbidden"]] as const) {
    const other = new Gateway({ url: desk.gatewayUrl, ...options });
    await assert.rejects(other.call(desk.url("/echo")), (error) => error instanceof GatewayRefused && error.code === code);
    await assert.rejects(other.wait("a1"), GatewayRefused);
  }
});

test("what a browser loads imports neither Redis nor modules of Node", () => {
  const loaded = new Set<string>(), foreign: string[] = [];
  const load = (file: string) => {
    if (loaded.has(file)) return;
    loaded.add(file);
    for (const [, name] of readFileSync(new URL(`../src/${file}`, import.meta.url), "utf8").matchAll(/^(?:import|export) (?!type ).*from "(.*)";$/gm))
      if (name!.startsWith("./")) load(name!.slice(2).replace(/\.js$/, ".ts"));
      else foreign.push(`${file}: ${name}`);
  };
  load("browser.ts");
  assert.deepEqual([foreign, loaded.has("gateway.ts")], [[], true]);
});
