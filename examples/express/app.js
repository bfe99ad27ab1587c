// A service whose slow calls Redial makes: REDIS_URL=... UPSTREAM=https://example.com/v1/extract PORT=8000 node app.js
import express from "express";
import { Redial, WaitTimeout } from "redial-client";

const redial = new Redial();
const url = process.env.UPSTREAM; // Clients of this service choose what is sent, not where it goes.
const app = express().use(express.json());

app.post("/calls", async (request, response) => {
  const task = await redial.enqueue({ url, body: request.body }, { reply: false });
  response.status(202).json({ id: task.id });
});

app.get("/calls/:id", async (request, response) => {
  const result = await redial.result(request.params.id);
  if (result) return answer(response, result);
  response.status(404).json({ detail: "no result: the call is still running, finished over an hour ago, or was never made" });
});

app.post("/ask", async (request, response) => {
  try {
    answer(response, await redial.call({ url, body: request.body }, { timeoutMs: 30_000, check: false }));
  } catch (late) {
    if (!(late instanceof WaitTimeout)) throw late;
    response.status(202).json({ id: late.ids[0] }); // The call goes on. Its result will be at /calls/{id}.
  }
});

/** Sends the upstream's answer, or why there is none. */
function answer(response, result) {
  if (!result.ok) return response.status(502).json({ detail: `task ${result.id}: ${result.reason}: ${result.error}` });
  response.type(result.headers["content-type"] ?? "application/octet-stream").send(Buffer.from(result.bytes));
}

app.listen(process.env.PORT ?? 8000, "127.0.0.1");
