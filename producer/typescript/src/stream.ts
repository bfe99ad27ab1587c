import { fromBase64, toBytes } from "./bytes.js";
import { RedialError, StreamFailed } from "./errors.js";

/** A part of an answer. Each has an id, from behind which a reader can go on. */
export type StreamEntry =
  /** The answer begins. Whatever came before belongs to an attempt that broke off. */
  | { id: string; type: "head"; status: number; headers: Record<string, string> }
  /** Bytes of the body. */
  | { id: string; type: "data"; bytes: Uint8Array }
  /** Forget what came: the attempt broke off, and there will be another one. */
  | { id: string; type: "restart"; why: string };

export interface StreamOptions {
  /** Go on behind the entry of this id. */
  after?: string;
  /** How long to wait for the next entry at most: 60,000 by default. */
  timeoutMs?: number;
  /** Ends the stream, not the call, with the reason of the signal. */
  signal?: AbortSignal | null;
}

/** Before the first entry of any stream. */
export const START = "0-0";

/** An entry as it is in Redis or, with its data as JSON, in an event of the gateway. `undefined`: it was the last one. */
export function entry(task: string, id: string, type: string, data: () => any): StreamEntry | undefined {
  switch (type) {
    case "head": {
      const { status, headers } = data();
      return { id, type, status, headers };
    }
    case "restart":
      return { id, type, why: data().why };
    case "end":
      return undefined;
    case "error": {
      const { reason, error } = data();
      throw new StreamFailed(task, reason ?? null, error);
    }
    case "data":
      return { id, type, bytes: data() };
    default:
      throw new RedialError(`task ${task}: its stream has an entry of the type ${type}, which this version does not know`);
  }
}

/** The bytes of a `data` event of the gateway. */
export function bytesOf({ text, base64 }: { text?: string; base64?: string }): Uint8Array {
  return base64 === undefined ? toBytes(text ?? "") : fromBase64(base64);
}
