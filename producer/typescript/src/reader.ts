import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { RESP_TYPES, createClient } from "redis";
import { ClientClosed, ConnectionFailed } from "./errors.js";
import { Result } from "./result.js";
import type { Prepared } from "./task.js";

/** How often the reader looks up the results that are waited for: a reply is lost if its connection breaks on the way. */
const CHECK_S = 5;
/** How many results are looked up by one command, and how many tasks are pushed by one. */
const MAX_IDS = 100;
/** How many replies the reader takes at a time. Each may have 10 MiB. */
const MAX_REPLIES = 16;

type Answer = { resolve: (result: Result) => void; reject: (error: Error) => void };

/** Two connections to Redis, those who wait, and the loop that reads replies for all of them. */
export class Reader {
  readonly waitingKey: string;
  readonly replyTo: string;
  #commands;
  #blocking;
  #waiting = new Map<string, Set<Answer>>();
  #opening: Promise<void> | undefined;
  #streams = new Set<StreamConnection>();
  #isClosed = false;
  #closing = new AbortController();

  constructor(url: string, queue: string, prefix: string) {
    this.waitingKey = `${prefix}:{${queue}}`;
    this.replyTo = `answers:{${queue}}:${randomUUID()}`;
    let wasOpen = false; // A connection that is lost later is made again; the first attempt may fail.
    const reconnectStrategy = (retries: number, cause: Error) => (wasOpen ? Math.min(50 * 2 ** retries, 1_000) : cause);
    // The longest silence on a live connection. BRPOP and the pings are more frequent.
    const socket = { reconnectStrategy, connectTimeout: 5_000, socketTimeout: 3_000 * CHECK_S };
    // Without a queue of commands for later, a push fails at once while Redis is away, and is never made behind the caller's back.
    this.#commands = createClient({ url, socket, pingInterval: 1_000 * CHECK_S, disableOfflineQueue: true });
    this.#blocking = this.#commands.duplicate();
    for (const client of [this.#commands, this.#blocking]) {
      client.on("error", () => {}); // A command that fails reports it itself.
      client.on("ready", () => (wasOpen = true));
    }
  }

  /** Connects with the first command. */
  async #open() {
    if (this.#isClosed) throw new ClientClosed();
    this.#opening ??= (async () => {
      await Promise.all([this.#commands, this.#blocking].map((client) => client.isOpen || client.connect()));
      void this.#read();
    })();
    try {
      await this.#opening;
    } catch (error) {
      this.#opening = undefined;
      throw error;
    }
  }

  async #command<T>(what: string, run: () => Promise<T>): Promise<T> {
    try {
      await this.#open();
      return await run();
    } catch (cause) {
      if (this.#isClosed) throw new ClientClosed();
      throw new ConnectionFailed(`${what}: ${(cause as Error).message}`, { cause });
    }
  }

  /** Pushes tasks, in their order; `pushed` is told how many are known to be on the queue. */
  async push(tasks: Prepared[], pushed: (count: number) => void): Promise<void> {
    for (const batch of batches(tasks)) {
      const lines = batch.map((task) => task.line);
      const replaced = batch.filter((task) => task.replaces).map((task) => this.#resultKey(task.id));
      await this.#command("the tasks could not be enqueued", async () => {
        if (!replaced.length) return this.#commands.lPush(this.waitingKey, lines);
        // Otherwise a wait could return the result of an earlier task with the same id.
        return this.#commands.multi().del(replaced).lPush(this.waitingKey, lines).exec();
      });
      pushed(batch.length);
    }
  }

  /** The results that exist. */
  async lookUp(ids: string[]): Promise<Map<string, Result>> {
    const found = new Map<string, Result>();
    for (let at = 0; at < ids.length; at += MAX_IDS) {
      const some = ids.slice(at, at + MAX_IDS);
      const lines = await this.#command("results", () => this.#commands.mGet(some.map((id) => this.#resultKey(id))));
      some.forEach((id, n) => lines[n] && found.set(id, new Result(lines[n])));
    }
    return found;
  }

  /** Someone waits for this task from now on; the function that is returned ends the wait. */
  register(id: string, answer: Answer): () => void {
    if (this.#isClosed) throw new ClientClosed();
    const answers = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, answers.add(answer));
    void this.#open().catch(() => {}); // The wait looks the result up, and so connects again.
    return () => {
      answers.delete(answer);
      if (!answers.size && this.#waiting.get(id) === answers) this.#waiting.delete(id);
    };
  }

  /** How many tasks are waited for. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** A connection that reads one stream. */
  openStream(id: string): StreamConnection {
    if (this.#isClosed) throw new ClientClosed();
    const stream = new StreamConnection(this.#blocking.duplicate(), `${this.waitingKey}:stream:${id}`, () => this.#streams.delete(stream));
    this.#streams.add(stream);
    return stream;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const stream of this.#streams) stream.end(new ClientClosed());
    this.#closing.abort();
    this.#end(new ClientClosed());
    await this.#opening?.catch(() => {});
    for (const client of [this.#commands, this.#blocking]) if (client.isOpen) client.destroy();
  }

  async #read() {
    for (let checkAt = 0, pause = 50; !this.#isClosed; ) {
      try {
        if (Date.now() >= checkAt) {
          for (const result of (await this.lookUp([...this.#waiting.keys()])).values()) this.#resolve(result);
          checkAt = Date.now() + 1_000 * CHECK_S;
        }
        const reply = await this.#blocking.brPop(this.replyTo, CHECK_S);
        if (reply) this.#receive(reply.element);
        for (const line of reply ? ((await this.#blocking.rPopCount(this.replyTo, MAX_REPLIES)) ?? []) : []) this.#receive(line);
        pause = 50;
      } catch (error) {
        const refused = (error as Error).message.match(/^(NOPERM|NOAUTH|WRONGPASS|WRONGTYPE)/);
        if (refused) this.#end(new ConnectionFailed(`Redis refuses to deliver results: ${error}`, { cause: error }));
        // Otherwise Redis is away. Once it is back, look up what came in the meantime.
        checkAt = 0;
        await sleep(pause, undefined, { ref: false, signal: this.#closing.signal }).catch(() => {});
        pause = Math.min(2 * pause, 1_000);
      }
    }
  }

  #receive(line: string) {
    try {
      this.#resolve(new Result(line));
    } catch (error) {
      process.emitWarning(`redial-client: ${(error as Error).message}`);
    }
  }

  #resolve(result: Result) {
    const answers = this.#waiting.get(result.id ?? "") ?? [];
    this.#waiting.delete(result.id ?? "");
    for (const answer of answers) answer.resolve(result);
  }

  #end(error: Error) {
    const answers = [...this.#waiting.values()].flatMap((some) => [...some]);
    this.#waiting.clear();
    for (const answer of answers) answer.reject(error);
  }

  #resultKey(id: string) {
    return `${this.waitingKey}:result:${id}`;
  }
}

/** A connection that reads one stream, and is made when it is first read. */
class StreamConnection {
  #reason: Error | undefined;

  constructor(readonly client: ReturnType<typeof createClient>, readonly key: string, readonly onClose: () => void) {
    client.on("error", () => {}); // A command that fails reports it itself.
  }

  /** The entries behind one, as soon as there are any; none if none comes in time. */
  async read(after: string, blockMs: number, count: number): Promise<{ id: string; type: string; data: Buffer }[]> {
    try {
      if (!this.client.isOpen) await this.client.connect();
      const command = ["XREAD", "COUNT", String(count), "BLOCK", String(blockMs), "STREAMS", this.key, after];
      const reply: any = await this.client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }).sendCommand(command);
      if (!reply) return [];
      const [first] = Array.isArray(reply) ? reply : [Object.entries(reply)[0]];
      return first[1].map(([id, [, type, , data]]: [Buffer, Buffer[]]) => ({ id: String(id), type: String(type), data: data! }));
    } catch (error) {
      throw this.#reason ?? error;
    }
  }

  /** Whether it is worth to try again. */
  isPassing(error: unknown): boolean {
    return !/^(NOPERM|NOAUTH|WRONGPASS|WRONGTYPE)/.test((error as Error).message);
  }

  end(reason: Error) {
    this.#reason = reason;
    this.close();
  }

  close() {
    this.onClose();
    if (this.client.isOpen) this.client.destroy();
  }
}

/** Tasks in groups that Redis takes at once without holding up others for long. */
function* batches(tasks: Prepared[]): Generator<Prepared[]> {
  let batch: Prepared[] = [], bytes = 0;
  for (const task of tasks) {
    if (batch.length === MAX_IDS || (batch.length && bytes + task.bytes > 1 << 20)) {
      yield batch;
      [batch, bytes] = [[], 0];
    }
    batch.push(task);
    bytes += task.bytes;
  }
  if (batch.length) yield batch;
}
