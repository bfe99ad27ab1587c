import { setTimeout as sleep } from "node:timers/promises";
import { ClientClosed, StreamFailed, WaitTimeout } from "./errors.js";
import { type Reader } from "./reader.js";
import { type StreamEntry, type StreamOptions, START, entry } from "./stream.js";

/** How long one command waits. In between, the result is looked up: a task may end without a stream. */
const BLOCK_MS = 2_000;
const MAX_ENTRIES = 100;

/** See `Redial.stream`. Each stream has a connection of its own, which blocks. */
export async function* redisStream(reader: Reader, id: string, { after = START, timeoutMs = 60_000, signal }: StreamOptions): AsyncGenerator<StreamEntry> {
  signal?.throwIfAborted();
  const stream = reader.openStream(id);
  const abort = () => stream.close();
  signal?.addEventListener("abort", abort);
  let last = after, quietSince = Date.now(), hadResult = false;
  try {
    for (;;) {
      try {
        const entries = await stream.read(last, Math.max(1, Math.min(BLOCK_MS, quietSince + timeoutMs - Date.now())), MAX_ENTRIES);
        for (const { id: at, type, data } of entries) {
          const next = entry(id, at, type, () => (type === "data" ? new Uint8Array(data) : JSON.parse(data.toString())));
          if (!next) return;
          last = at;
          yield next;
          quietSince = Date.now(); // Whoever takes long to read is not kept waiting.
        }
        if (entries.length) continue;
        const result = (await reader.lookUp([id])).get(id);
        // What came together with the result was read before the second look.
        if (result && hadResult) throw new StreamFailed(id, result.reason, "the task has ended, and no more of it is in a stream: read its result");
        hadResult = result !== undefined;
      } catch (error) {
        if (signal?.aborted) throw signal.reason;
        if (error instanceof StreamFailed || error instanceof ClientClosed || !stream.isPassing(error)) throw error;
        await sleep(100);
      }
      if (Date.now() >= quietSince + timeoutMs) throw new WaitTimeout([id], timeoutMs);
    }
  } finally {
    signal?.removeEventListener("abort", abort);
    stream.close();
  }
}
