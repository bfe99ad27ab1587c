// A call through Redial from Node. Requires: npm install redis
//   REDIS_URL=redis://127.0.0.1:6379 node producer.js https://example.com/
const { randomUUID } = require("node:crypto");
const { createClient } = require("redis");

async function main() {
  const url = process.env.REDIS_URL ?? "redis://127.0.0.1:6379";
  const client = createClient({ url, socket: { socketTimeout: 65_000 } }); // Longer than BRPOP blocks.
  await client.connect();
  // The random name keeps others from taking the answer; the braces put the list into the queue's Cluster slot.
  const answers = `answers:{default}:${randomUUID()}`;
  const task = { url: process.argv[2], reply_to: answers, body: { from: "node" } };

  await client.lPush("redial:{default}", JSON.stringify(task));
  const answer = await client.brPop(answers, 60); // Blocks this connection until the answer is there.
  await client.quit();
  if (answer === null) throw new Error("no answer within 60 s: is a worker running?");
  console.log(JSON.stringify(JSON.parse(answer.element)));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
