import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { test } from "node:test";
import { type Context, ROOT_CONTEXT, context, trace } from "@opentelemetry/api";
import { prepare } from "../src/task.js";

const URL = "https://example.com";
const SPAN = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", traceFlags: 1 };

const prepared = (call: { traceparent?: string } = {}) => JSON.parse(prepare({ url: URL, ...call }, {}, undefined, 1 << 20).line);

/** What an SDK registers. */
function register() {
  const storage = new AsyncLocalStorage<Context>();
  context.setGlobalContextManager({
    active: () => storage.getStore() ?? ROOT_CONTEXT,
    with: (active, run, self, ...args) => storage.run(active, () => run.call(self as ThisParameterType<typeof run>, ...args)),
    bind: (_, target) => target,
    enable() { return this; },
    disable() { return this; },
  });
}

test("a task belongs to the span that is active, unless it names another", () => {
  register();
  assert.equal(prepared().traceparent, undefined);
  const inSpan = (span: typeof SPAN, run: () => void) => context.with(trace.setSpan(ROOT_CONTEXT, trace.wrapSpanContext(span)), run);
  inSpan(SPAN, () => {
    assert.equal(prepared().traceparent, `00-${SPAN.traceId}-${SPAN.spanId}-01`);
    const other = `00-${"1".repeat(32)}-${"2".repeat(16)}-00`;
    assert.equal(prepared({ traceparent: other }).traceparent, other);
  });
  inSpan({ ...SPAN, traceFlags: 0 }, () => assert.match(prepared().traceparent, /-00$/));
  inSpan({ ...SPAN, traceId: "0".repeat(32) }, () => assert.equal(prepared().traceparent, undefined));
});
