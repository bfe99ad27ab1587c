"""SAQ: async tasks, one worker process per core (`saq --workers`), hiredis and uvloop. `dequeue` of several jobs does not exist;
`concurrency` is per process."""
import asyncio
import os
import sys

import aiohttp
import saq

import common

queue = saq.Queue.from_url(os.environ["REDIS_URL"], max_concurrent_ops=1000)
CONCURRENCY = int(os.environ.get("CONCURRENCY", "1"))


async def call(ctx, *, url, body):
    async with ctx["http"].post(url, json=body) as answer:
        answer.raise_for_status()
        return await answer.json()


async def startup(ctx):
    ctx["http"] = common.session(CONCURRENCY)


settings = {"queue": queue, "functions": [call], "concurrency": CONCURRENCY, "startup": startup}


async def enqueue(count):
    # Jobs are enqueued a few hundred at a time, each by a call of its own. By default a job may take 10 s and its answer is kept
    # for 600 s.
    for start in range(0, count, 200):
        await asyncio.gather(*(queue.enqueue("call", **common.PAYLOAD) for _ in range(min(200, count - start))))


if __name__ == "__main__":
    common.run(enqueue(int(sys.argv[2])))
