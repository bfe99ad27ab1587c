// Bytes and base64 by what browsers have as well.

export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 1 << 15) binary += String.fromCharCode(...bytes.subarray(at, at + (1 << 15)));
  return btoa(binary);
}

export function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

export function toBytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Ends early, without an error, when the signal is aborted. */
export function sleep(ms: number, signal?: AbortSignal | null): Promise<void> {
  return new Promise((done) => {
    if (signal?.aborted) return done();
    const end = () => (clearTimeout(timer), signal?.removeEventListener("abort", end), done());
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
  });
}
