// Asks a model through the gateway: OPENAI_BASE_URL=http://127.0.0.1:8080/u/openai node ask.js 'Why is the sky blue?'
import OpenAI from "openai";

const client = new OpenAI({ apiKey: "the worker has it" });
const messages = [{ role: "user", content: process.argv[2] }];
const answer = await client.chat.completions.create({ model: "gpt-5-mini", messages });
console.log(answer.choices[0].message.content);
