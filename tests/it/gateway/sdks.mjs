// Unchanged programs of OpenAI's SDK and Vercel's, with a base URL as the only change: BASE=http://... node sdks.mjs
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";
import OpenAI, { BadRequestError, InternalServerError, toFile } from "openai";

const baseURL = `${process.env.BASE}/u/openai`;
const client = new OpenAI({ baseURL, apiKey: "the worker has it" });
const chat = (prompt, more = {}) => ({ model: "m", messages: [{ role: "user", content: prompt }], ...more });
const ask = (prompt) => client.chat.completions.create(chat(prompt));

assert.equal((await ask("hello")).choices[0].message.content, "You said: hello");
assert.equal((await ask("call a tool")).choices[0].message.tool_calls[0].function.arguments, '{"city": "Köln"}');
const embedded = await client.embeddings.create({ model: "m", input: "x", encoding_format: "float" });
assert.deepEqual(embedded.data[0].embedding, [0.25, -1.5]);
const bytes = Buffer.concat([Buffer.from('{"a": 1}\n'), Buffer.from([0xff])]);
const uploaded = await client.files.create({ file: await toFile(bytes, "lines.jsonl"), purpose: "batch" });
assert.equal(uploaded.filename, "lines.jsonl");
let streamed = "";
for await (const event of await client.chat.completions.create(chat("stream", { stream: true }))) {
  streamed += event.choices[0].delta.content ?? "";
}
assert.equal(streamed, "You said: stream");
await assert.rejects(ask("too long"), (error) => error instanceof BadRequestError && /This model takes less/.test(error.message));
await assert.rejects(ask("always overloaded"), (error) => error instanceof InternalServerError && error.status === 503);
await assert.rejects(ask("always broken"), (error) => error.status === 504 && error.code === "attempts_exhausted");

const model = createOpenAI({ baseURL, apiKey: "the worker has it" }).chat("m");
assert.equal((await generateText({ model, prompt: "hello" })).text, "You said: hello");
let text = "";
for await (const piece of streamText({ model, prompt: "stream" }).textStream) text += piece;
assert.equal(text, "You said: stream");
console.log("all is well");
