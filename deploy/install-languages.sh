#!/bin/sh
# Installs Go, PHP, and Ruby with Sinatra where they are missing: examples are written in them.
set -eu

has_ruby() { ruby -e 'require "sinatra/base"; require "puma"' >/dev/null 2>&1; }
packages=""
command -v go >/dev/null 2>&1 || packages="$packages golang-go"
command -v php >/dev/null 2>&1 || packages="$packages php-cli"
has_ruby || packages="$packages ruby-sinatra puma"
if [ -z "$packages" ]; then exit 0; fi
if ! command -v apt-get >/dev/null 2>&1; then
  echo "Some tests of examples are skipped: install Go, PHP, and Ruby with Sinatra and Puma with your system's packages." >&2
  exit 0
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null 2>&1 || { echo "Some tests of examples are skipped: run 'apt-get install$packages' as root." >&2; exit 0; }
  as_root=sudo
fi
echo "installing$packages (for the tests of examples)"
$as_root apt-get update -qq
# shellcheck disable=SC2086 # A list of packages.
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $packages >/dev/null
