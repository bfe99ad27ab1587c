#!/bin/sh
# A call through Redial from a shell: needs redis-cli.
#   REDIS_URL=redis://127.0.0.1:6379 sh producer.sh https://example.com/
set -eu
redis="redis-cli -u ${REDIS_URL:-redis://127.0.0.1:6379}"
# In the queue's slot, so that it works in a Cluster too; a name of its own, so that no one else takes the answer.
answers="answers:{default}:$$-$(date +%s)"

$redis LPUSH 'redial:{default}' "{\"url\":\"$1\",\"reply_to\":\"$answers\",\"body\":{\"from\":\"shell\"}}" > /dev/null
# The list's name, and the result: JSON on one line. At most 60 s; nothing is polled.
$redis BRPOP "$answers" 60 | tail -n 1
