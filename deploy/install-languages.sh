#!/bin/sh
# Installs Go, PHP, and Ruby with Sinatra where they are missing: examples are written in them.
set -eu
. "$(dirname "$0")/apt.sh"

has_ruby() { ruby -e 'require "sinatra/base"; require "puma"' >/dev/null 2>&1; }
packages=""
command -v go >/dev/null 2>&1 || packages="$packages golang-go"
command -v php >/dev/null 2>&1 || packages="$packages php-cli"
has_ruby || packages="$packages ruby-sinatra puma"
if [ -z "$packages" ]; then exit 0; fi
apt_or_exit 0 "Some tests of examples are skipped: install Go, PHP, and Ruby with Sinatra and Puma with your system's packages."
root_or_exit 0 "Some tests of examples are skipped: run 'apt-get install$packages' as root."
echo "installing$packages (for the tests of examples)"
# shellcheck disable=SC2086 # A list of packages.
apt_install $packages
