// Asks a model through Redial: REDIS_URL=redis://127.0.0.1:6379 npx tsx ask.ts 'Why is the sky blue?'
import OpenAI from "openai";
import { Redial } from "redial-client";

const redial = new Redial();
const client = new OpenAI({ fetch: redial.fetch(), maxRetries: 0, apiKey: "the worker has it" });

const messages = [{ role: "user" as const, content: process.argv[2] }];
const answer = await client.chat.completions.create({ model: "gpt-5-mini", messages });
console.log(answer.choices[0].message.content);
await redial.close();
