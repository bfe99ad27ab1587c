import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import OpenAI from "openai";
import { CallFailed, ClientClosed, ConnectionFailed, InvalidTask, type Options, Redial, RedialError, WaitTimeout } from "../src/index.js";
import { Desk, PROGRAMS, eventually } from "./servers.js";

const FAST = { max_attempts: 5, base_ms: 20, cap_ms: 50 };

async function opened(t: TestContext, options: Options = {}) {
  const desk = await Desk.open();
  const redial = new Redial({ url: desk.redisUrl, program: join(PROGRAMS, "redial"), ...options });
  t.after(async () => {
    await redial.close();
    await desk.close();
  });
  return { desk, redial };
}

test("a call makes the round trip, is retried, and keeps every byte", async (t) => {
  const { desk, redial } = await opened(t, { task: { retry: FAST } });
  await desk.startWorker();
  const result = await redial.call({ url: desk.url("/echo"), body: { text: "grüße 😀" }, meta: { order: 17 } });
  assert.deepEqual([result.ok, result.httpStatus, result.source], [true, 200, "call"]);
  assert.deepEqual([result.json(), result.meta], [{ text: "grüße 😀" }, { order: 17 }]);
  assert.equal(result.headers["content-type"], "application/json");
  assert.deepEqual((await redial.call(desk.url("/flaky/2"))).attempts.map((attempt) => attempt.http_status), [503, 503, 200]);
  assert.deepEqual([...(await redial.call(desk.url("/bytes"))).bytes], [0xff, 0, 0xfe]);
  const digits = '{ "n": 1.10, "a": {"body": [1, "}"]}, "big": 123456789012345678901234567890 }';
  assert.equal((await redial.call(desk.url("/digits"))).text(), digits);
  assert.deepEqual([...(await redial.call({ url: desk.url("/echo"), body: Uint8Array.of(0, 65) })).bytes], [0, 65]);
});

test("a dead letter is an error", async (t) => {
  const { desk, redial } = await opened(t);
  await desk.startWorker();
  await assert.rejects(redial.call(desk.url("/status/422")), (error) => {
    assert(error instanceof CallFailed && error instanceof RedialError);
    assert.deepEqual([error.reason, error.httpStatus, error.result.json().error.message], ["rejected", 422, "as asked"]);
    return true;
  });
  await assert.rejects(redial.call("http://10.0.0.1/"), { name: "CallFailed", reason: "forbidden_target", httpStatus: null });
  const task = await redial.enqueue(desk.url("/status/404"));
  assert.equal((await redial.wait(task, { check: false })).reason, "rejected");
  assert.equal((await redial.result(task))?.ok, false);
});

test("tasks are checked before they are enqueued", async (t) => {
  const { desk, redial } = await opened(t);
  const url = "https://example.com";
  for (const [call, words] of [
    ["ftp://example.com", /url/],
    [{ url, body: 1, form: {} }, /exclude/],
    [{ url, id: "ü" }, /id/],
    [{ url, timeout_ms: 1.5 }, /timeout_ms/],
    [{ url, body: 1n }, /JSON/],
    [{ url, body: "x".repeat(2 << 20) }, /bytes/],
  ] as const) await assert.rejects(redial.enqueue(call), (error) => error instanceof InvalidTask && words.test(error.message));
  await assert.rejects(redial.enqueueMany([url, "nonsense"]), InvalidTask);
  assert.equal(await desk.waiting(), 0);
  for (const timeoutMs of [NaN, Infinity, -1]) await assert.rejects(redial.wait("a1", { timeoutMs }), /timeoutMs/);
  assert.throws(() => new Redial({ queue: "{a}" }), /queue/);
  assert.throws(() => new Redial({ url: "http://127.0.0.1" }), /url/);
});

test("many tasks are enqueued in their order and waited for", async (t) => {
  const { desk, redial } = await opened(t);
  await desk.startWorker();
  const numbers = Array.from({ length: 700 }, (_, n) => n);
  const tasks = await redial.enqueueMany(numbers.map((body) => ({ url: desk.url("/echo"), body })));
  assert.deepEqual((await redial.waitMany(tasks)).map((result) => result.json()), numbers);
  const [slow, quick] = await redial.enqueueMany([desk.url("/slow/600"), desk.url("/echo")]);
  const arrived = [];
  for await (const result of redial.asCompleted([slow!, quick!])) arrived.push(result.id);
  assert.deepEqual(arrived, [quick!.id, slow!.id]);
});

test("a wait ends in time, frees its place, and the call goes on", async (t) => {
  const { desk, redial } = await opened(t);
  let id = "";
  await assert.rejects(redial.call({ url: desk.url("/echo"), body: 1 }, { timeoutMs: 300 }), (error) => {
    assert(error instanceof WaitTimeout && /is a worker running/.test(error.message));
    [id = ""] = error.ids;
    return true;
  });
  const gone = new AbortController(), call = redial.call(desk.url("/echo"), { signal: gone.signal });
  await eventually(async () => (await desk.waiting()) === 2);
  gone.abort(new Error("gone"));
  await assert.rejects(call, /gone/);
  assert.equal(redial.waiting, 0);
  await desk.startWorker();
  assert.equal((await redial.wait(id)).json(), 1);
  const done = await redial.enqueue({ url: desk.url("/echo"), id: "again", body: 1 });
  await redial.wait(done);
  await assert.rejects(redial.waitMany([done, "never"], { timeoutMs: 500 }), (error) => {
    assert(error instanceof WaitTimeout);
    assert.deepEqual([error.ids, [...error.results.keys()]], [["never"], ["again"]]);
    return true;
  });
  assert.equal((await redial.call({ url: desk.url("/echo"), id: "again", body: 2 })).json(), 2, "not the earlier result");
});

test("two clients never get each other's answers, nor does one miss what another enqueued", async (t) => {
  const { desk, redial } = await opened(t);
  await desk.startWorker();
  const others = [1, 2, 3].map(() => new Redial({ url: desk.redisUrl }));
  const all = [redial, ...others];
  await Promise.all(Array.from({ length: 400 }, async (_, caller) => {
    assert.deepEqual((await all[caller % 4]!.call({ url: desk.url("/echo"), body: { caller } })).json(), { caller });
  }));
  for (const reply of [true, false]) {
    const task = await others[0]!.enqueue(desk.url("/slow/300"), { reply });
    assert((await redial.wait(task.id)).ok);
    assert((await others[0]!.wait(task)).ok);
  }
  assert((await redial.call({ url: desk.url("/slow/100"), reply_to: "answers:mine" })).ok);
  await Promise.all(others.map((other) => other.close()));
});

test("thousands of waiters share two connections", async (t) => {
  const { desk, redial } = await opened(t);
  const callers = Array.from({ length: 3_000 }, (_, n) => n);
  const answers = Promise.all(callers.map((body) => redial.call({ url: desk.url("/echo"), body }, { timeoutMs: 100_000 })));
  await eventually(async () => (await desk.waiting()) === callers.length);
  assert((await desk.clients()) <= 2);
  await desk.startWorker();
  assert.deepEqual((await answers).map((answer) => answer.json()), callers);
});

test("waits survive a Redis that is killed", async (t) => {
  const { desk, redial } = await opened(t);
  const callers = Array.from({ length: 20 }, (_, n) => n);
  const answers = Promise.all(callers.map((body) => redial.call({ url: desk.url("/echo"), body })));
  await eventually(async () => (await desk.waiting()) === callers.length);
  await desk.killRedis();
  await assert.rejects(redial.enqueue(desk.url("/echo")), ConnectionFailed);
  await assert.rejects(redial.wait("gone", { timeoutMs: 300 }), WaitTimeout);
  await desk.startRedis();
  await desk.startWorker();
  assert.deepEqual((await answers).map((answer) => answer.json()), callers);
  assert.equal((await redial.call({ url: desk.url("/echo"), body: "after" })).json(), "after");
});

test("a task is cancelled, and closing ends waits", async (t) => {
  const { desk, redial } = await opened(t);
  const task = await redial.enqueue(desk.url("/echo"));
  assert.equal(await redial.cancel(task), true);
  await assert.rejects(redial.wait(task), { name: "CallFailed", reason: "cancelled" });
  assert.deepEqual([await redial.cancel(task), await redial.cancel("--never")], [false, false]);
  const missing = new Redial({ url: desk.redisUrl, program: "/nowhere/redial" });
  await assert.rejects(missing.cancel("a1"), /`program`/);
  const call = redial.call(desk.url("/echo"));
  await eventually(async () => (await desk.waiting()) === 1);
  await Promise.all([assert.rejects(call, ClientClosed), redial.close()]);
  await assert.rejects(redial.enqueue(desk.url("/echo")), ClientClosed);
  await eventually(async () => (await desk.clients()) === 0);
});

test("a client whose Redis is away says so, and works once it is back", async (t) => {
  const { desk, redial } = await opened(t);
  await desk.killRedis();
  await assert.rejects(redial.call(desk.url("/echo")), ConnectionFailed);
  await desk.startRedis();
  await desk.startWorker();
  assert((await redial.call(desk.url("/echo"))).ok);
});

test("OpenAI's SDK goes through Redial, with errors of its own", async (t) => {
  const { desk, redial } = await opened(t);
  await desk.startWorker();
  const client = new OpenAI({ fetch: redial.fetch(), maxRetries: 0, apiKey: "the worker has it", baseURL: desk.url("/v1") });
  const ask = (content: string) => client.chat.completions.create({ model: "m", messages: [{ role: "user", content }] });
  const answers = await Promise.all(Array.from({ length: 20 }, () => ask("hello")));
  assert.deepEqual(new Set(answers.map((answer) => answer.choices[0]!.message.content)), new Set(["You said: hello"]));
  assert(desk.calls.every((call) => !("authorization" in call.headers)));
  await assert.rejects(ask("too long"), OpenAI.BadRequestError);
  const streamed = client.chat.completions.create({ model: "m", messages: [{ role: "user", content: "hello" }], stream: true });
  await assert.rejects(streamed, /leave out `stream`/);
});
