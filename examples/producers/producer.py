"""A call through Redial from Python. Requires: pip install redis

    REDIS_URL=redis://127.0.0.1:6379 python3 producer.py https://example.com/
"""
import json
import os
import sys
import uuid

import redis

url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
r = redis.Redis.from_url(url, decode_responses=True, socket_timeout=65)  # Longer than BRPOP blocks.
# The random name keeps others from taking the answer; the braces put the list into the queue's Cluster slot.
answers = f"answers:{{default}}:{uuid.uuid4()}"
task = {"url": sys.argv[1], "reply_to": answers, "body": {"from": "python"}}

r.lpush("redial:{default}", json.dumps(task))
answer = r.brpop([answers], timeout=60)  # Blocks until the answer is there.
if answer is None:
    sys.exit("no answer within 60 s: is a worker running?")
print(json.dumps(json.loads(answer[1])))
