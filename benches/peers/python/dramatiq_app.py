"""Dramatiq: a process per core and the concurrency as threads; answers are stored by its Results middleware. Its Prometheus
middleware, a server and files of its own, is not there by default."""
import os
import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

import common

broker = RedisBroker(url=os.environ["REDIS_URL"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["REDIS_URL"]), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def call(url, body):
    return common.post(url, body)


if __name__ == "__main__":
    for _ in range(int(sys.argv[2])):
        call.send(**common.PAYLOAD)
