#!/bin/sh
# Installs libfaketime where it is missing: tests use it to set the clock of a Redis server of their own.
set -eu

for library in /usr/lib/*/faketime/libfaketimeMT.so.1 /usr/lib*/faketime/libfaketimeMT.so.1 /usr/local/lib/faketime/libfaketimeMT.so.1; do
  if [ -e "$library" ]; then exit 0; fi
done
if ! command -v apt-get >/dev/null 2>&1; then
  echo "Some tests need libfaketime: install it with your system's packages ('dnf install libfaketime', ...)." >&2
  exit 1
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null 2>&1 || { echo "Some tests need libfaketime: run 'apt-get install libfaketime' as root." >&2; exit 1; }
  as_root=sudo
fi
echo "installing libfaketime (sets the clock of the tests' own Redis servers)"
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends libfaketime >/dev/null
