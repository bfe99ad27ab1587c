#!/usr/bin/env bash
# Tries docker-compose.yml for real: builds the images, starts Redis, a gateway, three workers and Prometheus, kills one worker, pushes 500 calls to the
# demo's upstream, waits for 500 answers, and looks at the dashboard and at what Prometheus reads. It leaves nothing behind but the images.
#
#   deploy/try-compose.sh
#
# Where no registry of images can be reached, deploy/make-base-images.sh makes stand-ins for what the images start from.
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
export GATEWAY_PORT=${GATEWAY_PORT:-18080} PROMETHEUS_PORT=${PROMETHEUS_PORT:-19090}
compose() { docker compose --project-name redial-try --profile demo --profile monitoring "$@"; }
trap 'compose down --volumes --timeout 5 > /dev/null 2>&1 || true' EXIT

started=$SECONDS
compose build worker gateway demo
echo "built in $((SECONDS - started)) s: $(docker image ls --format '{{.Repository}} {{.Size}}' redial)"
started=$SECONDS
# All but Grafana, which only shows what Prometheus has.
compose up --detach --wait --scale worker=3 redis worker gateway demo prometheus
echo "up, with three workers, in $((SECONDS - started)) s"

gateway=http://127.0.0.1:$GATEWAY_PORT
gateway() { curl --silent --show-error --fail --header "authorization: Bearer $REDIAL_GATEWAY_TOKEN" "$@"; }
demo=$(compose logs demo | sed -n 's/.* calls a second to \(http.*\)$/\1/p' | head -n 1)
: "${demo:?the demo does not say where its upstream is}"
for n in $(seq "$calls"); do
    printf '{"id":"try-%s","url":"%s","body":{"model":"m","messages":[{"role":"user","content":"call %s"}]}}\n' "$n" "$demo" "$n"
done | gateway --header 'content-type: application/x-ndjson' --data-binary @- "$gateway/v1/tasks" > /dev/null
docker kill "$(compose ps --quiet worker | head -n 1)" > /dev/null
echo "$calls calls pushed, and one worker killed"

started=$SECONDS
answered=0
for n in $(seq "$calls"); do
    gateway "$gateway/v1/tasks/try-$n?wait=60" | grep --quiet '"status":"ok"' && answered=$((answered + 1))
done
echo "$answered of $calls answered, in $((SECONDS - started)) s"
test "$answered" = "$calls"

# Tries a check for a minute.
eventually() {
    for _ in $(seq 30); do
        "$@" && return
        sleep 2
    done
    echo "$1: not so after a minute" >&2
    return 1
}
shows_the_dashboard() {
    gateway "$gateway/" | grep --quiet '<title>' && gateway "$gateway/v1/queues" | grep --quiet '"queue":"default"' &&
        gateway "$gateway/v1/workers" | grep --quiet '"release"'
}
# A worker that was killed by hand stays away.
reads_workers_and_gateway() {
    local up
    up=$(curl --silent --get --data-urlencode 'query=count by (job) (up == 1)' "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/query")
    grep --quiet '"redial-worker"' <<< "$up" && grep --quiet '"redial-gateway"' <<< "$up"
}
eventually shows_the_dashboard
echo "the gateway shows the dashboard, and has queues and workers as JSON"
eventually reads_workers_and_gateway
echo "Prometheus reads the workers and the gateway"
