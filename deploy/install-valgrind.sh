#!/bin/sh
# Installs Valgrind where it is missing: `make bench-check` counts instructions with its Callgrind.
set -eu
. "$(dirname "$0")/apt.sh"

if command -v valgrind >/dev/null 2>&1; then exit 0; fi
apt_or_exit 1 "make bench-check needs Valgrind: install it with your system's packages ('dnf install valgrind', ...)."
root_or_exit 1 "make bench-check needs Valgrind: run 'apt-get install valgrind' as root."
echo "installing Valgrind (counts the instructions that a task costs)"
apt_install valgrind
