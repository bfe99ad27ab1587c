#!/bin/sh
# Installs a Redis server and redis-cli where they are missing. On Debian and Ubuntu the package redis-tools is enough and
# starts no system service: its redis-check-rdb is the server's own binary, and Redial runs it as one.
set -eu
. "$(dirname "$0")/apt.sh"

have() { command -v "$1" >/dev/null 2>&1; }

if have redis-cli && { have valkey-server || have redis-server || have redis-check-rdb; }; then
  exit 0
fi
apt_or_exit 1 "Redial needs redis-server (or valkey-server) and redis-cli on the PATH.
Install them with your system's packages: 'brew install redis', 'dnf install valkey', ..."
root_or_exit 1 "Redial needs redis-tools: run 'apt-get install redis-tools' as root."
echo "installing redis-tools (a Redis server and redis-cli, no system service)"
apt_install redis-tools
