// Many callers of one client at once, each of whom must get its own answer: CALLERS=500 tsx callers.ts
import OpenAI from "openai";
import { Redial } from "redial-client";

const n = Number(process.env.CALLERS);
const redial = new Redial();
const client = new OpenAI({ fetch: redial.fetch(), maxRetries: 0, apiKey: "the worker has it" });

async function ask(caller: number) {
  const messages = [{ role: "user" as const, content: `caller ${caller}` }];
  const answer = await client.chat.completions.create({ model: "stand-in-1", messages });
  const said = answer.choices[0].message.content;
  if (said !== `You said: caller ${caller}`) throw new Error(`caller ${caller} was told: ${said}`);
}

await Promise.all(Array.from({ length: n }, (_, caller) => ask(caller)));
await redial.close();
console.log(`${n} answered`);
