#!/usr/bin/env bash
# Tries docker-compose.yml for real: builds the images, starts Redis, a gateway and three workers, kills one of them, pushes 500 calls to the demo's
# upstream, and waits for 500 answers. It leaves nothing behind.
#
#   deploy/try-compose.sh
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v docker > /dev/null; then
    echo "SKIPPED: there is no docker command. On Debian: apt-get install docker.io docker-compose-v2, or docker-ce" >&2
    exit 75
fi
if ! docker info > /dev/null 2>&1; then
    echo "SKIPPED: no Docker engine answers ($(docker context inspect --format '{{.Endpoints.docker.Host}}' 2> /dev/null || echo unknown)):" \
        "start dockerd, or set DOCKER_HOST" >&2
    exit 75
fi
if ! docker compose version > /dev/null 2>&1; then
    echo "SKIPPED: docker has no compose command: install the plugin docker-compose (2.23.1 or later)" >&2
    exit 75
fi

calls=500
random() { od -An -tx1 -N24 /dev/urandom | tr -d ' \n'; }
REDIS_PASSWORD=$(random) REDIAL_GATEWAY_TOKEN=$(random)
export REDIS_PASSWORD REDIAL_GATEWAY_TOKEN REDIAL_ALLOW_PRIVATE=10.0.0.0/8,172.16.0.0/12,192.168.0.0/16
export GATEWAY_PORT=${GATEWAY_PORT:-18080}
compose() { docker compose --project-name redial-try --profile demo "$@"; }
trap 'compose down --volumes --timeout 5 > /dev/null 2>&1 || true' EXIT

started=$SECONDS
compose build
echo "built in $((SECONDS - started)) s: $(docker image ls --format '{{.Repository}} {{.Size}}' redial)"
started=$SECONDS
compose up --detach --wait --scale worker=3
echo "up, with three workers, in $((SECONDS - started)) s"

gateway() { curl --silent --show-error --fail --header "authorization: Bearer $REDIAL_GATEWAY_TOKEN" "$@"; }
demo=$(compose logs demo | sed -n 's/.* calls a second to \(http.*\)$/\1/p' | head -n 1)
: "${demo:?the demo does not say where its upstream is}"
for n in $(seq "$calls"); do
    printf '{"id":"try-%s","url":"%s","body":{"model":"m","messages":[{"role":"user","content":"call %s"}]}}\n' "$n" "$demo" "$n"
done | gateway --header 'content-type: application/x-ndjson' --data-binary @- "http://127.0.0.1:$GATEWAY_PORT/v1/tasks" > /dev/null
docker kill "$(compose ps --quiet worker | head -n 1)" > /dev/null
echo "$calls calls pushed, and one worker killed"

answered=0
for n in $(seq "$calls"); do
    gateway "http://127.0.0.1:$GATEWAY_PORT/v1/tasks/try-$n?wait=60" | grep --quiet '"status":"ok"' && answered=$((answered + 1))
done
echo "$answered of $calls answered"
test "$answered" = "$calls"
