// BullMQ: jobs added in bulk, as its documentation advises, and a worker process per core with its part of the concurrency.
// Completed jobs are kept with their return value, as by default. The HTTP client is undici, the one behind Node's fetch.
const { Queue, Worker } = require('bullmq');
const { Pool } = require('undici');

const connection = { url: process.env.REDIS_URL, maxRetriesPerRequest: null };

async function enqueue(count) {
  const queue = new Queue('calls', { connection });
  const data = JSON.parse(process.env.PAYLOAD);
  for (let left = count; left > 0; left -= 1000) {
    await queue.addBulk(Array.from({ length: Math.min(left, 1000) }, () => ({ name: 'call', data })));
  }
  await queue.close();
}

function work(concurrency) {
  let pool;
  const call = async (job) => {
    const url = new URL(job.data.url);
    pool ??= new Pool(url.origin, { connections: concurrency });
    const body = JSON.stringify(job.data.body);
    const headers = { 'content-type': 'application/json' };
    const answer = await pool.request({ path: url.pathname, method: 'POST', headers, body });
    if (answer.statusCode !== 200) throw new Error(`status ${answer.statusCode}`);
    return answer.body.json();
  };
  new Worker('calls', call, { connection, concurrency });
}

const [what, number] = process.argv.slice(2);
if (what === 'enqueue') enqueue(Number(number));
else work(Number(number));
