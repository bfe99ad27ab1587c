"""A call through Redial from Python: pip install redis.

    REDIS_URL=redis://127.0.0.1:6379 python3 producer.py https://example.com/
"""
import json
import os
import sys
import uuid

import redis

# A call may take longer than the client's own timeout: BRPOP ends by its own.
url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
r = redis.Redis.from_url(url, decode_responses=True, socket_timeout=None)
# In the queue's slot, so that it works in a Cluster too; a name of its own, so that no one else takes the answer.
answers = f"answers:{{default}}:{uuid.uuid4()}"
task = {"url": sys.argv[1], "reply_to": answers, "body": {"from": "python"}}

r.lpush("redial:{default}", json.dumps(task))
answer = r.brpop([answers], timeout=60)  # Nothing is polled.
if answer is None:
    sys.exit("no answer in 60 s: does a worker run?")
print(json.dumps(json.loads(answer[1])))
