"""Redial for asyncio programs. Any number of callers share one reply list, one task that reads it, and ten connections to Redis."""
import asyncio
import json
import time
import uuid

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

CHECK_S = 5  # How often the reader checks for results whose reply got lost, such as when a connection broke.


class Redial:
    def __init__(self, redis_url, queue="default"):
        # Beyond ten commands at a time, callers wait for a connection. The timeout must exceed the time that BRPOP blocks.
        pool = BlockingConnectionPool.from_url(redis_url, max_connections=10, socket_timeout=2 * CHECK_S)
        self.redis = Redis.from_pool(pool)
        self.queue = f"redial:{{{queue}}}"
        self.reply_to = f"answers:{{{queue}}}:{uuid.uuid4()}"  # This process's own: answers to others go elsewhere.
        self.waiting = {}  # A future for each task that someone waits for, by the task's id.

    async def push(self, **task):
        """Pushes a task and returns its id."""
        id = task.setdefault("id", str(uuid.uuid4()))
        await self.redis.lpush(self.queue, json.dumps(task))
        return id

    async def result(self, id):
        """The result of a task, or None if there is none (yet)."""
        result = await self.redis.get(f"{self.queue}:result:{id}")
        return result and json.loads(result)

    async def call(self, wait_s, **task):
        """Pushes a task and waits. Returns its id and its result, or None if there is none in time: the call then goes on."""
        id, answer = str(uuid.uuid4()), asyncio.get_running_loop().create_future()
        self.waiting[id] = answer
        try:
            await self.push(id=id, reply_to=self.reply_to, **task)
            return id, await asyncio.wait_for(answer, wait_s)
        except asyncio.TimeoutError:
            return id, None
        finally:
            self.waiting.pop(id, None)

    async def read_answers(self):
        """Hands each answer to its caller. Runs as a task for as long as the program does."""
        check_at = 0
        while True:
            try:
                if reply := await self.redis.brpop([self.reply_to], timeout=CHECK_S):
                    self._resolve(reply[1])
                if time.monotonic() >= check_at:
                    keys = [f"{self.queue}:result:{id}" for id in self.waiting]
                    for result in filter(None, await self.redis.mget(keys) if keys else []):
                        self._resolve(result)
                    check_at = time.monotonic() + CHECK_S
            except RedisError:  # Redis is away. Once it is back, check what came in the meantime.
                check_at = 0
                await asyncio.sleep(1)

    def _resolve(self, result):
        result = json.loads(result)
        answer = self.waiting.pop(result["id"], None)
        if answer and not answer.done():  # Otherwise nobody waits any more.
            answer.set_result(result)

    async def close(self):
        await self.redis.aclose()
