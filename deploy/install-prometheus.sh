#!/bin/sh
# Installs prometheus and promtool where they are missing: tests check the alerts and the dashboard with them. Debian's package would start
# a system service, so only its programs are taken.
set -eu
. "$(dirname "$0")/apt.sh"

have() { command -v "$1" >/dev/null 2>&1; }

if have prometheus && have promtool; then
  exit 0
fi
apt_or_exit 1 "Some tests need prometheus and promtool on the PATH: install them with your system's packages ('brew install prometheus', ...)."
root_or_exit 1 "Some tests need prometheus and promtool: put them on the PATH."
echo "installing prometheus and promtool (the programs only, no system service)"
$as_root apt-get update -qq
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
cd "$unpacked"
apt-get download -qq prometheus >/dev/null
dpkg-deb --extract prometheus_*.deb .
$as_root install -m 755 usr/bin/prometheus usr/bin/promtool /usr/local/bin/
