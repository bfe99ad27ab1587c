import type * as OpenTelemetry from "@opentelemetry/api";

let api: typeof OpenTelemetry | undefined, isLookedFor = false;

/** The package, if the program has it. A browser does not look for packages while it runs. */
function openTelemetry(): typeof OpenTelemetry | undefined {
  if (isLookedFor) return api;
  isLookedFor = true;
  try {
    api = globalThis.process?.getBuiltinModule?.("node:module").createRequire(import.meta.url)("@opentelemetry/api");
  } catch {
    // It is not installed.
  }
  return api;
}

/** The context of the active span (W3C Trace Context); `undefined` without OpenTelemetry or outside of a span. */
export function traceparent(): string | undefined {
  const api = openTelemetry(), context = api?.trace.getActiveSpan()?.spanContext();
  if (!api || !context || !api.isSpanContextValid(context)) return undefined;
  return `00-${context.traceId}-${context.spanId}-0${context.traceFlags & 1}`;
}
