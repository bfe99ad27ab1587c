// A call through Redial from Node: npm install redis.
//   REDIS_URL=redis://127.0.0.1:6379 node producer.js https://example.com/
const { randomUUID } = require("node:crypto");
const { createClient } = require("redis");

async function main() {
  const client = createClient({ url: process.env.REDIS_URL ?? "redis://127.0.0.1:6379" });
  await client.connect();
  // In the queue's slot, so that it works in a Cluster too; a name of its own, so that no one else takes the answer.
  const answers = `answers:{default}:${randomUUID()}`;
  const task = { url: process.argv[2], reply_to: answers, body: { from: "node" } };

  await client.lPush("redial:{default}", JSON.stringify(task));
  const answer = await client.brPop(answers, 60); // Nothing is polled. Waiting, a connection does nothing else.
  await client.quit();
  if (answer === null) throw new Error("no answer in 60 s: does a worker run?");
  console.log(JSON.stringify(JSON.parse(answer.element)));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
