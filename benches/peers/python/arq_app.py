"""arq: async tasks. `max_jobs` is the concurrency of a process; `poll_delay` is lowered from 0.5 s, as a worker that is ahead of
its queue would wait for it. Answers are kept for an hour by default."""
import asyncio
import os
import sys

import uvloop
from arq import create_pool, run_worker
from arq.connections import RedisSettings

import common

CONCURRENCY = int(os.environ.get("CONCURRENCY", "1"))


async def call(ctx, url, body):
    async with ctx["http"].post(url, json=body) as answer:
        answer.raise_for_status()
        return await answer.json()


async def startup(ctx):
    ctx["http"] = common.session(CONCURRENCY)


class WorkerSettings:
    functions = [call]
    on_startup = startup
    redis_settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])
    max_jobs = CONCURRENCY
    poll_delay = 0.01


async def enqueue(count):
    redis = await create_pool(WorkerSettings.redis_settings)
    for start in range(0, count, 200):
        await asyncio.gather(*(redis.enqueue_job("call", **common.PAYLOAD) for _ in range(min(200, count - start))))


if __name__ == "__main__":
    if sys.argv[1] == "enqueue":
        common.run(enqueue(int(sys.argv[2])))
    else:
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.set_event_loop(asyncio.new_event_loop())
        run_worker(WorkerSettings)
