// Real servers: Redis, the worker, and an upstream that misbehaves as its URL says.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer as createListener } from "node:net";
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "redis";

export const PROGRAMS = process.env.REDIAL_PROGRAMS ?? resolve(import.meta.dirname, "../../../target/debug");

export async function eventually<T>(found: () => T | Promise<T>, ms = 20_000): Promise<NonNullable<T>> {
  for (const end = Date.now() + ms; ; await sleep(20)) {
    const value = await found();
    if (value) return value;
    if (Date.now() > end) throw new Error(`it did not happen in time: ${found}`);
  }
}

async function freePort(): Promise<number> {
  const listener = createListener().listen(0, "127.0.0.1");
  await new Promise((listens) => listener.once("listening", listens));
  const { port } = listener.address() as AddressInfo;
  await new Promise((closed) => listener.close(closed));
  return port;
}

const ended = (process: ChildProcess) => new Promise((done) => (process.exitCode ?? process.signalCode ? done(0) : process.once("exit", done)));

/** A Redis of its own that keeps what it confirmed, an upstream, and as many workers as a test starts. */
export class Desk {
  calls: { path: string; content: string; headers: Record<string, unknown> }[] = [];
  client = createClient();
  #folder = mkdtempSync(join(tmpdir(), "redial-"));
  #redis!: ChildProcess;
  #workers: ChildProcess[] = [];
  #gateway: ChildProcess | undefined;
  #gatewayPort = 0;
  #server = createServer((request, response) => void this.#answer(request, response));

  private constructor(readonly port: number) {}

  static async open(): Promise<Desk> {
    const desk = new Desk(await freePort());
    await new Promise<void>((listens) => desk.#server.listen({ port: 0, host: "127.0.0.1", backlog: 1024 }, listens));
    await desk.startRedis();
    return desk;
  }

  get redisUrl() {
    return `redis://127.0.0.1:${this.port}`;
  }

  url(path: string) {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}${path}`;
  }

  async startRedis() {
    const durable = ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--loglevel", "warning"];
    this.#redis = spawn("redis-server", ["--port", String(this.port), "--dir", this.#folder, ...durable], { stdio: "ignore" });
    await eventually(async () => {
      this.client = createClient({ url: this.redisUrl, socket: { reconnectStrategy: false } }).on("error", () => {});
      return this.client.connect().then(() => this.client.ping(), () => false);
    });
  }

  async killRedis() {
    this.#redis.kill("SIGKILL");
    await ended(this.#redis);
  }

  async startWorker(settings: Record<string, string> = {}) {
    const own = { REDIS_URL: this.redisUrl, REDIAL_ALLOW_PRIVATE: "127.0.0.0/8", REDIAL_METRICS_ADDR: `127.0.0.1:${await freePort()}` };
    const log = openSync(join(this.#folder, "worker.log"), "a");
    const env = { ...process.env, ...own, ...settings };
    this.#workers.push(spawn(join(PROGRAMS, "redial-worker"), { env, cwd: this.#folder, stdio: ["ignore", log, log] }));
  }

  get gatewayUrl() {
    return `http://127.0.0.1:${this.#gatewayPort}`;
  }

  /** Starts `redial serve`, again at the same address after a kill. */
  async startGateway(settings = "") {
    this.#gatewayPort ||= await freePort();
    const file = join(this.#folder, "gateway.toml"), log = openSync(join(this.#folder, "gateway.log"), "a");
    writeFileSync(file, settings);
    const parameters = ["serve", "--listen", `127.0.0.1:${this.#gatewayPort}`, "--config", file];
    const env = { ...process.env, REDIS_URL: this.redisUrl };
    this.#gateway = spawn(join(PROGRAMS, "redial"), parameters, { env, cwd: this.#folder, stdio: ["ignore", log, log] });
    await eventually(() => fetch(`${this.gatewayUrl}/readyz`).then((response) => response.ok, () => false));
  }

  async killGateway() {
    this.#gateway!.kill("SIGKILL");
    await ended(this.#gateway!);
  }

  async waiting() {
    return this.client.lLen("redial:{default}");
  }

  /** How many connections there are, this one left out. */
  async clients() {
    return (await this.client.clientList()).length - 1;
  }

  async close() {
    for (const process of [...this.#workers, ...(this.#gateway ? [this.#gateway] : []), this.#redis]) {
      process.kill("SIGKILL");
      await ended(process);
    }
    if (this.client.isOpen) this.client.destroy();
    this.#server.closeAllConnections();
    this.#server.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #answer(request: IncomingMessage, response: ServerResponse) {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece);
    const content = Buffer.concat(pieces), path = request.url!;
    const earlier = this.calls.filter((call) => call.path === path).length;
    this.calls.push({ path, content: content.toString(), headers: request.headers });
    const [, kind, argument] = path.split("/");
    const send = (status: number, answer: string | Buffer, type = "application/json") =>
      response.writeHead(status, { "content-type": type }).end(answer);
    if (kind === "status") return send(Number(argument), '{"error":{"message":"as asked"}}');
    if (kind === "flaky" && earlier < Number(argument)) return send(503, "{}");
    if (kind === "slow") await sleep(Number(argument));
    if (kind === "bytes") return send(200, Buffer.from([0xff, 0, 0xfe]), "application/octet-stream");
    if (kind === "digits") return send(200, '{ "n": 1.10, "a": {"body": [1, "}"]}, "big": 123456789012345678901234567890 }');
    if (kind === "tokens") {
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (let n = 0; n < Number(argument); n++) await sleep(10).then(() => response.write(`data: ${n}\n\n`));
      if (path.endsWith("/broken")) return void response.destroy();
      return response.end();
    }
    if (kind !== "v1") return send(200, content.length ? content : "null");
    const prompt = JSON.parse(content.toString()).messages[0].content;
    if (prompt === "too long") return send(400, '{"error":{"message":"This model takes less."}}');
    const message = { role: "assistant", content: `You said: ${prompt}` };
    const choices = [{ index: 0, finish_reason: "stop", message }];
    return send(200, JSON.stringify({ id: "1", object: "chat.completion", created: 1, model: "m", choices }));
  }
}
