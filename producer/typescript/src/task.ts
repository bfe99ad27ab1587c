import { toBase64, toBytes } from "./bytes.js";
import { InvalidTask } from "./errors.js";
import { traceparent } from "./trace.js";

/** The largest task that a worker takes by default (`max_task_bytes`). */
export const MAX_TASK_BYTES = (1 << 20) + (64 << 10);

type Limit = string | { name: string; [option: string]: unknown };
type Condition = { status?: number[]; path?: string };

/** The fields of a task besides `url`, as `docs/protocol.md` explains them. */
export interface TaskFields {
  id?: string;
  method?: string;
  headers?: Record<string, string>;
  /** Any JSON; a `Uint8Array` is sent as these bytes. */
  body?: unknown;
  body_text?: string;
  body_base64?: string;
  form?: Record<string, unknown>;
  parts?: { name: string; text?: string; base64?: string; filename?: string; type?: string }[];
  timeout_ms?: number;
  connect_timeout_ms?: number;
  retry?: {
    max_attempts?: number;
    base_ms?: number;
    cap_ms?: number;
    jitter?: "full" | "equal" | "decorrelated" | "none";
    on?: number[];
  };
  ok_when?: Condition;
  retry_when?: Condition;
  redirects?: number;
  expires_at_ms?: number;
  ttl_ms?: number;
  run_at_ms?: number;
  delay_ms?: number;
  idempotency_key?: string;
  effect?: "idempotent" | "once";
  cache_ttl_ms?: number;
  cache_key?: string;
  cache_scope?: "private" | "public";
  tenant?: string;
  reply_to?: string;
  result_ttl_ms?: number;
  traceparent?: string;
  meta?: unknown;
  enqueued_at_ms?: number;
  limit?: Limit | Limit[];
  callback_url?: string;
  then?: object;
  stream?: boolean;
  on_break?: "fail" | "restart";
}

/** A call to make: its URL alone, or all of its task. */
export type Call = string | ({ url: string } & TaskFields);

/** A call that was enqueued. */
export interface Task {
  /** Its id. It is all that is needed to wait for the result, also in another process. */
  readonly id: string;
  /** The queue that it is on. */
  readonly queue: string;
  /** Whether its result is pushed to the client that enqueued it. */
  readonly replies: boolean;
}

/** A task that was checked, ready to be pushed. */
export interface Prepared {
  id: string;
  line: string;
  bytes: number;
  /** The caller chose the id, so that there may be the result of an earlier task with the same id. */
  replaces: boolean;
  replies: boolean;
}

const BODIES = ["body", "body_text", "body_base64", "form", "parts"] as const;

/** Checks a task and gives it what it lacks: an id, the time, and the list for its result. */
export function prepare(call: Call, defaults: TaskFields, replyTo: string | undefined, maxBytes: number): Prepared {
  const given = typeof call === "string" ? { url: call } : call;
  const values: Record<string, unknown> = Object.fromEntries(
    Object.entries({ ...defaults, ...given }).filter(([, value]) => value !== undefined && value !== null),
  );
  const { url, id = crypto.randomUUID() } = values;
  if (typeof url !== "string" || !/^https?:\/\/[^/?#]/i.test(url))
    throw new InvalidTask(`url: an absolute http or https URL, not ${url}`);
  if (typeof id !== "string" || !/^[\x20-\x7e]{1,200}$/.test(id))
    throw new InvalidTask(`id: 1 to 200 printable ASCII characters, not ${id}`);
  const [body, another] = BODIES.filter((name) => name in values);
  if (another) throw new InvalidTask(`${body} and ${another} exclude each other: a call has one body`);
  for (const [name, value] of Object.entries(values))
    if (name.endsWith("_ms") && !Number.isSafeInteger(value))
      throw new InvalidTask(`${name}: a whole number of milliseconds, not ${value}`);
  if (values.body instanceof Uint8Array) {
    values.body_base64 = toBase64(values.body);
    delete values.body;
  }
  const replies = replyTo !== undefined && (values.reply_to ??= replyTo) === replyTo;
  const context = values.traceparent ?? traceparent();
  const line = encode({ ...values, ...(context === undefined ? {} : { traceparent: context }), id, enqueued_at_ms: values.enqueued_at_ms ?? Date.now() });
  const bytes = toBytes(line).length;
  if (bytes > maxBytes) throw new InvalidTask(`the task has ${bytes} bytes, and at most ${maxBytes} are allowed (max_task_bytes)`);
  return { id, line, bytes, replaces: "id" in values, replies };
}

function encode(values: object): string {
  try {
    return JSON.stringify(values);
  } catch (cause) {
    throw new InvalidTask(`the task cannot be written as JSON: ${cause}`, { cause });
  }
}
