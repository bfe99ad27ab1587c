"""Celery: gevent, its pool for calls that wait, and a high prefetch, as its guide to optimizing says for many short tasks. Answers
go to the Redis backend. Without gossip, mingle and heartbeats, events between workers that one queue does not need."""
import os
import sys

from celery import Celery

import common

URL = os.environ["REDIS_URL"]
app = Celery("calls", broker=URL, backend=URL)
app.conf.update(worker_prefetch_multiplier=64, task_acks_late=False, broker_pool_limit=64, redis_max_connections=1000,
                worker_send_task_events=False, broker_connection_retry_on_startup=True)


@app.task(name="call")
def call(url, body):
    return common.post(url, body)


if __name__ == "__main__":
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(int(sys.argv[2])):
            call.apply_async(kwargs=common.PAYLOAD, producer=producer)
