import { fromBase64, toBytes } from "./bytes.js";
import { CallFailed, RedialError } from "./errors.js";

/** One call on the wire. Times are in ms. */
export interface Attempt {
  at_ms: number;
  took_ms: number;
  http_status: number | null;
  error: string | null;
  wait_ms: number | null;
}

/** What became of a call, as `docs/protocol.md` defines it. */
export class Result {
  /** The id of the task; `null` if it could not be read. */
  readonly id: string | null;
  readonly status: "ok" | "dead";
  /** The status of the last response, if there was one. */
  readonly httpStatus: number | null;
  /** The headers of the last response. Their names are in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** The body of the last response, byte for byte. */
  readonly bytes: Uint8Array;
  /** Why the task is dead: `rejected`, `attempts_exhausted`, `expired`, `cancelled`, ... */
  readonly reason: string | null;
  /** The same as a message. */
  readonly error: string | null;
  /** Every call that was made for the task; the last 32 if there were more. */
  readonly attempts: readonly Attempt[];
  /** `call`; or `cache`, `shared` or `idempotency` for an answer that needed no call of its own. */
  readonly source: string;
  /** The time that the producer gave, in ms since 1970. */
  readonly enqueuedAtMs: number | null;
  /** When the result was made, by the clock of Redis, in ms since 1970. */
  readonly finishedAtMs: number;
  /** What the task had as `meta`. */
  readonly meta: unknown;

  /** Parses a result as a worker wrote it. Throws `RedialError` if it is something else. */
  constructor(line: string) {
    let fields;
    try {
      fields = JSON.parse(line);
      if (typeof fields.status !== "string") throw new Error("it has no status");
    } catch (cause) {
      throw new RedialError(`this is not the result of a task: ${line.slice(0, 200)}`, { cause });
    }
    this.id = fields.id ?? null;
    this.status = fields.status;
    this.httpStatus = fields.http_status ?? null;
    this.headers = fields.headers ?? {};
    this.bytes =
      typeof fields.body_base64 === "string"
        ? fromBase64(fields.body_base64)
        : toBytes(fields.body_text ?? textOfField(line, "body") ?? "");
    this.reason = fields.reason ?? null;
    this.error = fields.error ?? null;
    this.attempts = fields.attempts ?? [];
    this.source = fields.source ?? "call";
    this.enqueuedAtMs = fields.enqueued_at_ms ?? null;
    this.finishedAtMs = fields.finished_at_ms;
    this.meta = fields.meta ?? null;
  }

  /** Whether the call succeeded. */
  get ok(): boolean {
    return this.status === "ok";
  }

  /** The body as text; bytes that are not UTF-8 are replaced by U+FFFD. */
  text(): string {
    return new TextDecoder().decode(this.bytes);
  }

  /** The body, parsed as JSON. Throws `SyntaxError` if it is not JSON. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  json<T = any>(): T {
    return JSON.parse(this.text());
  }

  /** Returns the result itself if the call succeeded, and throws `CallFailed` otherwise. */
  check(): this {
    if (!this.ok) throw new CallFailed(this);
    return this;
  }
}

/** The text of a field of a JSON object, which may not be encoded anew: it would lose digits and spaces. The JSON is valid. */
function textOfField(json: string, field: string): string | undefined {
  const token = /"(?:[^"\\]|\\.)*"|[{}[\]:,]/g;
  let depth = 0, name = "", start = 0, before = "", found: string | undefined;
  for (let match; (match = token.exec(json)); ) {
    const [text] = match;
    if (text === "{" || text === "[") depth++;
    else if (depth === 1 && text === ":") [name, start] = [JSON.parse(before), token.lastIndex];
    else if (depth === 1 && (text === "," || text === "}")) {
      // The last one counts, as it does for JSON.parse.
      if (name === field && start) found = json.slice(start, match.index).trim();
      [name, start] = ["", 0];
    }
    if (text === "}" || text === "]") depth--;
    before = text;
  }
  return found;
}
