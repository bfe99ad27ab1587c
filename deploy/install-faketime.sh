#!/bin/sh
# Installs libfaketime where it is missing: tests use it to set the clock of a Redis server of their own.
set -eu
. "$(dirname "$0")/apt.sh"

for library in /usr/lib/*/faketime/libfaketimeMT.so.1 /usr/lib*/faketime/libfaketimeMT.so.1 /usr/local/lib/faketime/libfaketimeMT.so.1; do
  if [ -e "$library" ]; then exit 0; fi
done
apt_or_exit 1 "Some tests need libfaketime: install it with your system's packages ('dnf install libfaketime', ...)."
root_or_exit 1 "Some tests need libfaketime: run 'apt-get install libfaketime' as root."
echo "installing libfaketime (sets the clock of the tests' own Redis servers)"
apt_install libfaketime
