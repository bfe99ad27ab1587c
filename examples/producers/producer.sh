#!/bin/sh
# A call through Redial from a shell. Requires redis-cli.
#   REDIS_URL=redis://127.0.0.1:6379 sh producer.sh https://example.com/
set -eu
redis="redis-cli -u ${REDIS_URL:-redis://127.0.0.1:6379}"
# The random name keeps others from taking the answer; the braces put the list into the queue's Cluster slot.
answers="answers:{default}:$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"

$redis LPUSH 'redial:{default}' "{\"url\":\"$1\",\"reply_to\":\"$answers\",\"body\":{\"from\":\"shell\"}}" > /dev/null
# Blocks until the answer is there, up to 60 s. The reply is the list's name and the result, which is JSON on one line.
result=$($redis BRPOP "$answers" 60 | tail -n 1)
[ -n "$result" ] || { echo "no answer within 60 s: is a worker running?" >&2; exit 1; }
printf '%s\n' "$result"
