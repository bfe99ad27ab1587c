#!/bin/sh
# Installs a Redis server and redis-cli where they are missing. On Debian and Ubuntu the package redis-tools is enough and
# starts no system service: its redis-check-rdb is the server's own binary, and Redial runs it as one.
set -eu

have() { command -v "$1" >/dev/null 2>&1; }

if have redis-cli && { have valkey-server || have redis-server || have redis-check-rdb; }; then
  exit 0
fi
if ! have apt-get; then
  echo "Redial needs redis-server (or valkey-server) and redis-cli on the PATH." >&2
  echo "Install them with your system's packages: 'brew install redis', 'dnf install valkey', ..." >&2
  exit 1
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  have sudo || { echo "Redial needs redis-tools: run 'apt-get install redis-tools' as root." >&2; exit 1; }
  as_root=sudo
fi
echo "installing redis-tools (a Redis server and redis-cli, no system service)"
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends redis-tools >/dev/null
