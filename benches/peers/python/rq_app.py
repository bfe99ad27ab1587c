"""RQ: SimpleWorker, which its notes on performance name as the fastest (no fork for each job), in a worker pool. A worker makes one
call at a time, so that the concurrency is the number of processes: as many as cores, since more only take turns."""
import os
import sys

from redis import Redis
from rq import Queue

import common


def call(url, body):
    return common.post(url, body)


if __name__ == "__main__":
    queue = Queue("default", connection=Redis.from_url(os.environ["REDIS_URL"]))
    left = int(sys.argv[2])
    while left > 0:
        some = min(left, 500)
        queue.enqueue_many([Queue.prepare_data("rq_app.call", kwargs=common.PAYLOAD) for _ in range(some)])
        left -= some
